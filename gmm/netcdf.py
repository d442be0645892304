"""NetCDF files from outside, read in a separate process (`gmm.netcdf_reader`) with limits on time and memory.

The process returns plain arrays. A file cannot reach other files, end or block this process, or fill its memory.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import xarray as xr

from gmm.files import damaged, write_whole
from gmm.outside_files import open_outside

MEMORY_LIMIT = 8 * 2**30
"""Bytes of values that a file may hold, whatever its size."""
PATIENCE = 60
"""Seconds that the reader may take on a busy machine; its limit of processor time is far below that."""
SLOWEST = 1e6
"""Bytes per second; a disk that is slower is treated as a failure."""
CHECKSUM = "checksum"
_MOST_TEXT = 1 << 28
_READER = Path(__file__).with_name("netcdf_reader.py")
# HDF5 loads filters that a file names from a folder; no file from outside needs one.
_ENVIRONMENT = {"HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1", "HDF5_USE_FILE_LOCKING": "FALSE"}


def load_dataset(path: str | os.PathLike[str], limit: int = MEMORY_LIMIT) -> xr.Dataset:
    """The contents of a NetCDF file, in memory.

    Variables of numbers and of text are read, with their dimensions and attributes. Groups are left out. For a file
    that `save_dataset` wrote and that has changed since then, a warning is issued.

    Args:
        path: the file.
        limit: bytes that its values may take; those of a small file may take less.

    Raises:
        ValueError: when it is no regular file, is damaged, refers to anything outside itself, holds other types
            than numbers and text, or would take more time or memory than its size allows.
    """
    dataset, is_whole = _read(path, limit)
    if is_whole is False:
        warnings.warn(
            f"{os.fspath(path)} has changed since it was written: its checksum differs", stacklevel=2
        )
    return dataset


def _read(path: str | os.PathLike[str], limit: int = MEMORY_LIMIT) -> tuple[xr.Dataset, bool | None]:
    """The contents of a file, and whether they agree with its checksum; None where it has none."""
    name = os.fspath(path)
    with open_outside(path) as file:
        size = os.fstat(file.fileno()).st_size
    with _reader(name, limit, PATIENCE + size / SLOWEST) as out:
        try:
            dataset = xr.decode_cf(_dataset(out, limit), decode_times=False, decode_timedelta=False)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"cannot read {name} as NetCDF: {error}") from error
    checksum = dataset.attrs.pop(CHECKSUM, None)
    return dataset, None if checksum is None else checksum == _checksum(dataset)


def save_dataset(path: str | os.PathLike[str], dataset: xr.Dataset) -> None:
    """Write NetCDF with a checksum of its contents, under a temporary name that is then renamed.

    The file is put together in memory: HDF5 ends the process when a disk is full.

    Raises:
        ValueError: when `path` cannot be written.
    """
    buffer = _Memory()
    dataset.assign_attrs({CHECKSUM: _checksum(dataset)}).to_netcdf(buffer, engine="h5netcdf")
    write_whole(path, buffer.getbuffer())


def load_whole(path: str | os.PathLike[str]) -> xr.Dataset | None:
    """The dataset that `save_dataset` wrote, without its checksum; None when there is no file or it is damaged.

    A warning is issued for a damaged file, because its contents will be computed again.
    """
    if not os.path.lexists(path):
        return None
    try:
        dataset, is_whole = _read(path)
    except ValueError:
        is_whole = False
    else:
        if is_whole:
            return dataset
    damaged(path)
    return None


class _Memory(io.BytesIO):
    """Bytes that outlive the writer, which older releases of xarray let close them."""

    def close(self) -> None:
        pass


def _checksum(dataset: xr.Dataset) -> str:
    """SHA-256 of names, dimensions, values and attributes, as they are read back."""
    digest = hashlib.sha256()

    def add(*parts: Any) -> None:
        digest.update(
            json.dumps(parts, default=lambda value: np.asarray(value).tolist(), sort_keys=True).encode()
        )

    add({name: value for name, value in dataset.attrs.items() if name != CHECKSUM})
    for name in sorted(map(str, dataset.variables)):
        variable = dataset.variables[name]
        values = np.ascontiguousarray(variable.values)
        add(name, variable.dims, values.shape, variable.attrs)
        if values.dtype.kind in "OU":
            add(values.tolist())
        else:
            add(values.dtype.str)
            digest.update(values.tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _reader(name: str, limit: int, seconds: float) -> Iterator[IO[bytes]]:
    """The output of the process that reads the file; the process is ended afterwards in any case."""
    # Without the empty entry, which stands for the current folder.
    paths = json.dumps([entry for entry in sys.path if entry])
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", os.fspath(_READER), os.path.abspath(name), str(limit), paths],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT},
    )
    late = threading.Timer(seconds, process.kill)
    late.start()
    try:
        assert process.stdout is not None
        yield process.stdout
    except _CutShortError as error:
        process.kill()
        process.wait()
        reason = (
            "reading it takes longer or more memory than its size allows"
            if late.finished.is_set() or process.returncode < 0
            else "the process that reads it has ended"
        )
        raise ValueError(f"cannot read {name} as NetCDF: {reason}; the file is damaged or hostile") from error
    finally:
        late.cancel()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class _CutShortError(Exception):
    """The output of the reader ended too early."""


def _dataset(out: IO[bytes], limit: int) -> xr.Dataset:
    line = out.readline(_MOST_TEXT)
    if not line.endswith(b"\n"):
        raise _CutShortError
    announced = json.loads(line)
    if "error" in announced:
        raise ValueError(announced["error"])
    variables = {}
    for variable in announced["variables"]:
        shape = tuple(map(int, variable["shape"]))
        if "texts" in variable:
            values = _texts(variable["texts"]).reshape(shape)
        else:
            values = _numbers(out, np.dtype(variable["dtype"]), shape, limit)
            limit -= values.nbytes
        variables[variable["name"]] = (tuple(variable["dims"]), values, _attributes(variable["attrs"]))
    return xr.Dataset(variables, attrs=_attributes(announced["attrs"]))


def _texts(texts: list[str]) -> np.ndarray:
    # In an array of NumPy's text type every text takes the memory of the longest.
    fits = len(texts) * max(map(len, texts), default=0) < _MOST_TEXT // 4
    return np.array(texts, str if fits else object)


def _numbers(out: IO[bytes], dtype: np.dtype, shape: tuple[int, ...], limit: int) -> np.ndarray:
    # The reader has checked this, but a hostile file may control the reader by now.
    if dtype.kind not in "iufb" or math.prod(shape) * dtype.itemsize > limit:
        raise ValueError("it contains more values than it declares")
    values = np.empty(shape, dtype)
    remaining = memoryview(values.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    while remaining:
        count = out.readinto(remaining)  # type: ignore[attr-defined]
        if not count:
            raise _CutShortError
        remaining = remaining[count:]
    return values


def _attributes(encoded: dict[str, Any]) -> dict[str, Any]:
    def value(entry: Any) -> Any:
        if not isinstance(entry, dict):
            return entry
        dtype = np.dtype(entry["dtype"])
        array = np.asarray(entry["values"], dtype)
        return array if array.ndim else array[()]

    return {name: value(entry) for name, entry in encoded.items()}
