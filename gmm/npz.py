"""Arrays of .npz archives from outside: nothing is executed, and declared sizes are checked before memory is taken."""

import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

MAX_RANK = 8  # points with more axes than that are no data set
NUMBERS, _TEXTS = "biuf", "SU"  # NumPy's kinds of dtype
_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# Exceptions of the standard library for damaged files.
UNREADABLE = (OSError, EOFError, struct.error, zlib.error, zipfile.BadZipFile, RuntimeError)


def npz_member(archive: zipfile.ZipFile, path: Path, key: str, limit: int) -> np.ndarray:
    """The array of a name in an .npz archive; its declared size is compared with the file's before it is read.

    Raises:
        ValueError: when there is none, or it is not what NumPy writes or larger than `limit` bytes.
    """
    try:
        info = archive.getinfo(f"{key}.npy")
    except KeyError:
        members = ", ".join(sorted(archive.namelist())[:10]) or "nothing"
        raise ValueError(f"{path} must hold an array {key}, got {members}") from None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{key} of {path} must be stored or deflated, as NumPy writes it")
    with archive.open(info) as stream:
        shape, fortran, dtype = _npy_header(stream, f"{key} of {path}")  # type: ignore[arg-type]
        size = check_size(f"{key} of {path}", shape, dtype, limit)
        if size + stream.tell() != info.file_size:
            raise ValueError(f"{key} of {path} declares {shape} {dtype}, which is not the size of its file")
        content = stream.read(size)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _npy_header(stream: BinaryIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran, dtype = _NPY_HEADERS[version](stream)
    except UNREADABLE:
        raise
    # The header is text that NumPy parses: what its parsers trip over has no common kind.
    except Exception as error:
        raise ValueError(f"{name} has no readable .npy header: {one_line(error)}") from error
    if dtype.kind not in NUMBERS + _TEXTS or not dtype.itemsize:
        raise ValueError(f"{name} must be numbers or strings, got {dtype}")
    if len(shape) > MAX_RANK or min(shape, default=0) < 0:
        raise ValueError(f"{name} declares the impossible shape {shape}")
    return shape, fortran, dtype


def one_line(error: Exception) -> str:
    """The message of an error of a library, on one line; its kind where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def check_size(name: str, shape: tuple[int, ...], dtype: np.dtype, limit: int) -> int:
    """Bytes of an array, after a check that the array and its float32 copy fit."""
    count = math.prod(shape)
    needed = count * (dtype.itemsize + (4 if dtype.kind in NUMBERS else 0))
    if needed > limit:
        raise ValueError(
            f"{name} would take {needed / 2**30:.3g} GiB, above the limit of {limit / 2**30:.3g} GiB; "
            "raise the limit or take a subset"
        )
    return count * dtype.itemsize
