"""Labelled data sets as arrays: built-in digits, .npz archives, IDX folders (MNIST, Fashion-MNIST).

Files are untrusted: nothing in them is executed (no pickles), and every declared size is checked against the
file, and against a limit, before memory is taken.
"""

import dataclasses
import gzip
import math
import os
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Int

MEMORY_LIMIT = 8 * 2**30
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledData:
    """Points and their classes.

    Attributes:
        name: where they came from.
        x: (n, d) float32 points.
        y: (n,) class of each point, 0..C-1.
        classes: C names, in the order of y.
        shape: shape of one point before flattening, e.g. (28, 28).
    """

    name: str
    x: Float[np.ndarray, "n d"]
    y: Int[np.ndarray, " n"]
    classes: tuple[str, ...]
    shape: tuple[int, ...]

    def standardised(self) -> "LabelledData":
        """Centred, and divided by one number so that the mean variance of a coordinate is one.

        The clock of the OU process and published speciation times assume data of that scale.
        """
        centred = self.x - self.x.mean(axis=0, keepdims=True)
        scale = math.sqrt(float(np.mean(np.square(centred, dtype=np.float64))))
        return dataclasses.replace(self, x=(centred / scale).astype(np.float32))

    def subset(self, n: int, seed: int = 0) -> "LabelledData":
        """The first n points of a fixed shuffle; all of them when n is not smaller."""
        if n >= len(self.x):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self.x))[:n])
        return _labelled(self.name, self.x[chosen], np.asarray(self.classes)[self.y[chosen]], self.shape)


def load_data(
    source: str | os.PathLike[str], *, split: str = "train", limit: int = MEMORY_LIMIT
) -> LabelledData:
    """Read a labelled data set.

    Args:
        source: "digits" (scikit-learn's 1,797 images of 8x8), a .npz archive with arrays x (n, ...) and
            y (n,), or a folder of IDX files named as MNIST's (gzipped or not).
        split: "train" or "test"; of IDX folders only.
        limit: bytes that the data may take in memory.

    Raises:
        ValueError: when the source is unknown, unreadable, malformed or larger than `limit`.
    """
    if source == "digits":
        return _digits()
    path = Path(source)
    if path.is_dir():
        return _idx_folder(path, split, limit)
    if path.suffix == ".npz" and path.is_file():
        return _npz(path, limit)
    raise ValueError(
        f"data must be 'digits', a .npz file or a folder of IDX files; got {os.fspath(source)!r}"
    )


def _labelled(name: str, x: np.ndarray, y: np.ndarray, shape: tuple[int, ...]) -> LabelledData:
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or len(x) == 0:
        raise ValueError(f"{name} must hold x (n, ...) and y (n,), got {x.shape} and {y.shape}")
    points = x.reshape(len(x), -1).astype(np.float32)
    if not np.isfinite(points).all():
        raise ValueError(f"{name} must hold finite points; x has NaN or infinite entries")
    names, labels = np.unique(y, return_inverse=True)
    return LabelledData(name, points, labels.astype(np.int32), tuple(str(n) for n in names), shape)


def _digits() -> LabelledData:
    # Here rather than at the top: importing scikit-learn takes longer than most commands.
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return _labelled("digits", np.asarray(x), np.asarray(y), (8, 8))


def _check_size(name: str, wanted: int, limit: int) -> None:
    if wanted > limit:
        raise ValueError(
            f"{name} would take {wanted / 2**30:.1f} GiB, above the limit of {limit / 2**30:.1f} GiB; "
            "raise the limit or take a subset"
        )


def _npz(path: Path, limit: int) -> LabelledData:
    try:
        with zipfile.ZipFile(path) as archive:
            x, y = (_npz_member(archive, path, key, limit) for key in ("x", "y"))
    except (zipfile.BadZipFile, OSError, EOFError, KeyError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return _labelled(path.name, x, y, x.shape[1:])


def _npz_member(archive: zipfile.ZipFile, path: Path, key: str, limit: int) -> np.ndarray:
    try:
        info = archive.getinfo(f"{key}.npy")
    except KeyError:
        held = ", ".join(sorted(archive.namelist())) or "nothing"
        raise ValueError(f"{path} must hold arrays x and y, got {held}") from None
    _check_size(f"{key} of {path}", info.file_size, limit)
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"{key} of {path} has an unknown .npy version {version}")
        shape, _, dtype = read_header(stream)
        if dtype.hasobject or dtype.kind not in "biufSU":
            raise ValueError(f"{key} of {path} must be numbers or strings, got {dtype}")
        if math.prod(shape) * dtype.itemsize + stream.tell() != info.file_size:
            raise ValueError(f"{key} of {path} declares {shape} {dtype}, which is not the size of its file")
    with archive.open(info) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _idx_folder(folder: Path, split: str, limit: int) -> LabelledData:
    prefix = {"train": "train", "test": "t10k"}.get(split)
    if prefix is None:
        raise ValueError(f"split must be train or test, got {split!r}")
    images, labels = (_idx_file(folder, f"{prefix}-{kind}", limit) for kind in ("images-idx3", "labels-idx1"))
    return _labelled(f"{folder.name}/{split}", images, labels, images.shape[1:])


def _idx_file(folder: Path, stem: str, limit: int) -> np.ndarray:
    names = [f"{stem}-ubyte{end}" for end in ("", ".gz")] + [f"{stem.replace('-idx', '.idx')}-ubyte"]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise ValueError(f"{folder} must hold {names[0]} or {names[1]}, as MNIST's folders do")
    opener = gzip.open if found.suffix == ".gz" else open
    try:
        with opener(found, "rb") as stream:
            return _read_idx(stream, found, limit)  # type: ignore[arg-type]
    except (OSError, EOFError, struct.error) as error:
        raise ValueError(f"cannot read {found}: {error}") from error


def _read_idx(stream: BinaryIO, path: Path, limit: int) -> np.ndarray:
    """One array of Yann LeCun's IDX format: 0 0 type rank, big-endian sizes, then the numbers."""
    zeros, kind, rank = struct.unpack(">HBB", stream.read(4))
    if zeros != 0 or kind not in _IDX_TYPES:
        raise ValueError(f"{path} is not an IDX file")
    shape = struct.unpack(f">{rank}I", stream.read(4 * rank))
    dtype = np.dtype(_IDX_TYPES[kind])
    size = math.prod(shape) * dtype.itemsize
    _check_size(str(path), size, limit)
    # One byte more than declared: a longer file is as wrong as a shorter one.
    content = stream.read(size + 1)
    if len(content) != size:
        raise ValueError(f"{path} declares {shape} {dtype} but holds another number of bytes")
    return np.frombuffer(content, dtype).reshape(shape)
