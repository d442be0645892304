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

from gmm.checks import check_count, check_text
from gmm.npz import MAX_RANK, NUMBERS, UNREADABLE, check_size, npz_member, one_line

MEMORY_LIMIT = 8 * 2**30
# Rounding of a coordinate beside its standard deviation that is still negligible.
MOST_ROUNDED = 1e-4
COLUMNS = 64
BUILT_IN = "digits"  # the data set of that name, even where a file or folder is called so
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_PREFIX = {"train": "train", "test": "t10k"}


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledData:
    """Points and their classes.

    Attributes:
        name: where they came from.
        x: (n, d) points, float32; float64 as long as float32 would round them noticeably (see `standardised`).
        y: (n,) class of each point, 0..C-1.
        classes: C names, in the order of y.
        shape: shape of one point before flattening, e.g. (28, 28).
        offset, scale: x = (source - offset)/scale; offset () or (d,). Zero and one unless standardised.
    """

    name: str
    x: Float[np.ndarray, "n d"]
    y: Int[np.ndarray, " n"]
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    offset: Float[np.ndarray, " ..."] = dataclasses.field(default_factory=lambda: np.zeros((), np.float32))
    scale: float = 1.0

    def standardised(self) -> "LabelledData":
        """Centred, and divided by one number so that the mean variance of a coordinate is one; float32.

        The clock of the OU process and published speciation times assume data of that scale.

        Raises:
            ValueError: when all points are the same.
        """
        mean = self.x.mean(axis=0, dtype=np.float64).astype(self.x.dtype)
        centred = self.x - mean  # in the type of the points: rounded before, a large offset would hide them
        scale = math.sqrt(float(np.einsum("nd,nd->", centred, centred, dtype=np.float64)) / centred.size)
        if scale == 0:
            raise ValueError(f"{self.name} must hold points that differ, got {len(self.x)} times the same")
        centred /= centred.dtype.type(scale)
        place = {"offset": self.offset + mean.dtype.type(self.scale) * mean, "scale": self.scale * scale}
        return dataclasses.replace(self, x=centred.astype(np.float32, copy=False), **place)

    def in_source_units(self, x: Float[np.ndarray, "... d"]) -> Float[np.ndarray, "..."]:
        """Points (..., d) on the scale of `x`, as (..., *shape) on the scale of the source: images to look at."""
        return (np.asarray(x) * self.scale + self.offset).reshape(*np.shape(x)[:-1], *self.shape)

    def take(self, index: Int[np.ndarray, " m"]) -> "LabelledData":
        """The points `index`; the classes stay as they are."""
        return dataclasses.replace(self, x=self.x[index], y=self.y[index])

    def subset(self, n: int, seed: int = 0) -> "LabelledData":
        """The first n points of a fixed shuffle, in their order; all of them when n is not smaller.

        A class that has none of them is left out.
        """
        check_count("n", n)
        if n >= len(self.x):
            return self
        part = self.take(np.sort(np.random.default_rng(seed).permutation(len(self.x))[:n]))
        present, y = np.unique(part.y, return_inverse=True)
        names = tuple(self.classes[c] for c in present)
        return dataclasses.replace(part, y=y.astype(np.int32), classes=names)

    def split(self, held_out: float, seed: int = 0) -> "tuple[LabelledData, LabelledData]":
        """A part to learn from and a part held out, the latter the same share of every class.

        Raises:
            ValueError: when a class has too few points for that.
        """
        # Here rather than at the top: importing scikit-learn takes longer than most commands.
        from sklearn.model_selection import train_test_split

        points = np.arange(len(self.x))
        state = seed % 2**32  # all that scikit-learn takes
        parts = train_test_split(points, test_size=held_out, random_state=state, stratify=self.y)
        learn, rest = (self.take(np.sort(part)) for part in parts)
        return learn, rest


def load_data(
    source: str | os.PathLike[str], *, split: str = "train", limit: int = MEMORY_LIMIT
) -> LabelledData:
    """Read a labelled data set.

    Args:
        source: "digits" (scikit-learn's 1,797 images of 8x8); a .npz archive with arrays x (n, ...), y (n,)
            and, if integers 0..C-1 have names, classes (C,); or a folder of IDX files named as MNIST's, plain
            or gzipped. A folder with "fashion" in its name gets the names of Fashion-MNIST's classes.
        split: "train" or "test"; the latter exists in IDX folders only.
        limit: bytes that the data may take in memory.

    Raises:
        ValueError: when the source is unknown, unreadable, malformed or larger than `limit`.
    """
    if split not in _IDX_PREFIX:
        raise ValueError(f"split must be train or test, got {split!r}")
    path = Path(source)
    if source != BUILT_IN and path.is_dir():
        return _idx_folder(path, split, limit)
    if split == "test":
        raise ValueError(f"split test exists in folders of IDX files only, not in {os.fspath(source)}")
    if source == BUILT_IN:
        return _digits()
    if path.suffix == ".npz" and path.is_file():
        return _npz(path, limit)
    missing = "" if path.exists() else ", which does not exist"
    raise ValueError(
        f"data must be 'digits', a .npz file or a folder of IDX files; got {os.fspath(source)!r}{missing}"
    )


def _labelled(
    name: str, x: np.ndarray, y: np.ndarray, names: np.ndarray | tuple[str, ...] | None = None
) -> LabelledData:
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or x.size == 0:
        raise ValueError(f"{name} must hold x (n, ...) and y (n,), got {x.shape} and {y.shape}")
    if x.dtype.kind not in NUMBERS:
        raise ValueError(f"{name} must hold numbers in x, got {x.dtype}")
    points = _as_precise_as_needed(x.reshape(len(x), -1))
    if not np.isfinite(points).all():
        raise ValueError(f"{name} must hold points that are finite in float32; x has NaN or infinite entries")
    distinct, labels = np.unique(y, return_inverse=True)
    classes = _class_names(name, distinct, names)
    return LabelledData(name, points, labels.astype(np.int32), classes, x.shape[1:])


def _as_precise_as_needed(x: np.ndarray) -> np.ndarray:
    """The points (n, d) in float32, or in float64 where float32 would move them noticeably within their spread."""
    with np.errstate(over="ignore"):
        points = x.astype(np.float32)
    if np.can_cast(x.dtype, np.float32) or not np.isfinite(points).all():
        return points
    for start in range(0, x.shape[1], COLUMNS):  # a few columns at a time: the deviations take another copy
        part = slice(start, start + COLUMNS)
        spread = x[:, part].std(axis=0, dtype=np.float64)
        rounding = np.finfo(np.float32).eps * np.abs(points[:, part]).max(axis=0)
        if (rounding > MOST_ROUNDED * spread)[spread > 0].any():
            return x.astype(np.float64)
    return points


def _class_names(
    name: str, distinct: np.ndarray, names: np.ndarray | tuple[str, ...] | None
) -> tuple[str, ...]:
    """Names of the distinct labels of y: the numbers or words themselves, unless `names` are given."""
    if distinct.dtype.kind == "f":
        if not np.isfinite(distinct).all():
            raise ValueError(f"{name} must hold finite labels; y has NaN or infinite entries")
        distinct = distinct.astype(np.int64) if np.array_equal(distinct, np.round(distinct)) else distinct
    if names is not None:
        numbers = distinct.dtype.kind in "iu" and distinct[0] >= 0 and distinct[-1] < len(names)
        if np.ndim(names) != 1 or not numbers:
            raise ValueError(
                f"{name} must hold y in 0..C-1 beside classes (C,), got {np.shape(names)} and labels "
                f"{distinct[0]}..{distinct[-1]}"
            )
        distinct = np.asarray(names)[distinct]
    class_names = tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in distinct)
    for class_name in class_names:
        check_text(f"{name}: names of classes", class_name)
    return class_names


def _digits() -> LabelledData:
    # Here rather than at the top: importing scikit-learn takes longer than most commands.
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return _labelled("digits", np.asarray(x).reshape(-1, 8, 8), np.asarray(y))


def _npz(path: Path, limit: int) -> LabelledData:
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            x, y = (npz_member(archive, path, key, limit) for key in ("x", "y"))
            names = npz_member(archive, path, "classes", limit) if "classes.npy" in members else None
    except UNREADABLE as error:
        raise ValueError(f"cannot read {path}: {one_line(error)}") from error
    return _labelled(path.name, x, y, names)


def _idx_folder(folder: Path, split: str, limit: int) -> LabelledData:
    kinds = ("images-idx3", "labels-idx1")
    images, labels = (_idx_file(folder, f"{_IDX_PREFIX[split]}-{kind}", limit) for kind in kinds)
    name = folder.resolve().name
    fashion = "fashion" in name.lower() and not set(np.unique(labels)) - set(range(len(FASHION_CLASSES)))
    return _labelled(f"{name}/{split}", images, labels, FASHION_CLASSES if fashion else None)


def _idx_file(folder: Path, stem: str, limit: int) -> np.ndarray:
    spellings = (stem, stem.replace("-idx", ".idx"))
    names = [f"{spelling}-ubyte{end}" for spelling in spellings for end in ("", ".gz")]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"{folder} must hold {names[0]} or {names[1]}, as MNIST's folders do")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            return _read_idx(stream, path, limit)  # type: ignore[arg-type]
    except UNREADABLE as error:
        raise ValueError(f"cannot read {path}: {one_line(error)}") from error


def _read_idx(stream: BinaryIO, path: Path, limit: int) -> np.ndarray:
    """One array of Yann LeCun's IDX format: 0 0 type rank, big-endian sizes, then the numbers."""
    zeros, kind, rank = struct.unpack(">HBB", stream.read(4))
    if zeros != 0 or kind not in _IDX_TYPES or not 1 <= rank <= MAX_RANK:
        raise ValueError(f"{path} is not an IDX file")
    shape = struct.unpack(f">{rank}I", stream.read(4 * rank))
    dtype = np.dtype(_IDX_TYPES[kind])
    size = check_size(str(path), shape, dtype, limit)
    # One byte more than declared: a longer file is as wrong as a shorter one.
    content = stream.read(size + 1)
    if len(content) != size:
        raise ValueError(f"{path} declares {shape} {dtype} but holds another number of bytes")
    return np.frombuffer(content, dtype).reshape(shape)
