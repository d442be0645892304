"""The program that reads one untrusted NetCDF file in a separate process; run by `gmm.netcdf`, never imported.

HDF5 is a large library: a file can make it open other files, allocate any amount of memory or loop without end, and a
few changed bytes can end the process. Therefore a separate process with limits on time and memory checks the file,
reads it, and writes plain arrays to its standard output: a line of JSON (attributes; name, dimensions, type and shape
of every variable), then the values of the variables in that order. An error is a line with the single entry
``error``.

It imports neither JAX nor this project, and starts in a fraction of a second.
"""

import json
import math
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any

MAX_VARIABLES = 1_000
MAX_ATTRIBUTES = 200
"""Of one variable."""
MAX_TEXTS = 100_000
MAX_TEXT_BYTES = 1 << 26
"""Of all texts, attributes included."""
FREE_MEMORY, MEMORY = 1 << 28, 100
"""Bytes of values that any file may hold, and how many more for each byte of the file: compressed files are smaller
than their values, but not without bound."""
FREE_SECONDS, SECONDS = 10, 5e-8
"""Seconds of computing that any file may take, and how many more for each byte."""
OVERHEAD = 1 << 30
"""Address space of the interpreter and its libraries."""


class RefusedError(Exception):
    """What is wrong with the file, in one line."""


def main(path: str, limit: int) -> None:
    """Read the file and write it to standard output.

    Args:
        path: the file.
        limit: bytes that its values may take.
    """
    size = _size(path)
    allowed = min(limit, FREE_MEMORY + MEMORY * size)
    _confine(FREE_SECONDS + math.ceil(SECONDS * size), OVERHEAD + 2 * allowed)
    import h5netcdf
    import h5py

    try:
        with h5py.File(path, "r") as file:
            _check(h5py, file, allowed)
        with h5netcdf.File(path, "r", phony_dims="access") as file:
            _write(*_contents(file))
    except RefusedError:
        raise
    except MemoryError as error:
        raise RefusedError("it would take more memory than its size allows") from error
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise RefusedError(
            f"it is no NetCDF file, or damaged: {' '.join(str(error).split())}"[:300]
        ) from error


def _size(path: str) -> int:
    # Checked again, as in the parent: the name may refer to something else by now.
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("it is a folder, a pipe or a device, not a regular file")
    return status.st_size


def _confine(seconds: int, memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the time limit of the parent is the only one
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _check(h5py: Any, file: Any, allowed: int) -> None:
    """Raise RefusedError for anything that could reach beyond the file, before it is followed."""
    if len(file) > MAX_VARIABLES:
        raise RefusedError(f"it has {len(file)} variables; at most {MAX_VARIABLES} are read")
    _check_attributes(h5py, "the file", file)
    taken = 0
    for name in file:
        kind = type(file.get(name, getlink=True))
        if kind is not h5py.HardLink:
            raise RefusedError(
                f"{name!a} is a {kind.__name__}, which may lead to another file; only hard links are read"
            )
        type_of_entry = file.get(name, getclass=True)
        if type_of_entry is h5py.Dataset:
            taken += _check_variable(h5py, name, file[name])
            if taken > allowed:
                raise RefusedError(
                    f"its values would take {taken / 2**20:.0f} MiB, above the {allowed / 2**20:.0f} MiB that its size "
                    "and the limit allow"
                )
        elif type_of_entry is not h5py.Group:  # groups are never entered
            raise RefusedError(f"{name!a} is a {type_of_entry.__name__}, which NetCDF does not have")


def _check_variable(h5py: Any, name: str, variable: Any) -> int:
    """Bytes that the values of a variable take."""
    properties = variable.id.get_create_plist()
    if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise RefusedError(f"the values of {name!a} lie in other files")
    _check_attributes(h5py, repr(name), variable)
    if variable.shape is None:
        return 0
    is_text = h5py.check_string_dtype(variable.dtype) is not None
    if not is_text and (variable.dtype.kind not in "iufb" or variable.dtype.itemsize > 8):
        raise RefusedError(f"{name!a} holds values of type {variable.dtype}; numbers and texts are read")
    count = math.prod(variable.shape)
    if is_text and count > MAX_TEXTS:
        raise RefusedError(f"{name!a} holds {count} texts; at most {MAX_TEXTS} are read")
    return count * variable.dtype.itemsize


# Attributes in which HDF5 stores the dimensions of NetCDF: references, which h5netcdf resolves.
_DIMENSIONS = ("DIMENSION_LIST", "REFERENCE_LIST")


def _check_attributes(h5py: Any, place: str, owner: Any) -> None:
    if len(owner.attrs) > MAX_ATTRIBUTES:
        raise RefusedError(f"{place} has {len(owner.attrs)} attributes; at most {MAX_ATTRIBUTES} are read")
    for name in owner.attrs:
        attribute = owner.attrs.get_id(name)
        is_text = h5py.check_string_dtype(attribute.dtype) is not None
        if name in _DIMENSIONS or is_text:
            continue
        if attribute.dtype.kind not in "iufb" or attribute.dtype.itemsize > 8:
            raise RefusedError(
                f"attribute {name!a} of {place} has type {attribute.dtype}; numbers and texts are read"
            )
        if math.prod(attribute.shape or ()) > MAX_TEXTS:
            raise RefusedError(f"attribute {name!a} of {place} is too large")


class _Texts:
    """Counts the bytes of texts: a few bytes of a file can name one long text a million times."""

    left = MAX_TEXT_BYTES

    def take(self, text: Any) -> str:
        text = text.decode("utf-8") if isinstance(text, bytes) else str(text)
        self.left -= len(text) + 50
        if self.left < 0:
            raise RefusedError(f"its texts take more than {MAX_TEXT_BYTES >> 20} MiB")
        return text


def _contents(file: Any) -> tuple[dict, list]:
    """The description of the file, and the arrays of its variables of numbers."""
    texts, arrays, variables = _Texts(), [], []
    for name, variable in file.variables.items():
        about = {
            "name": texts.take(name),
            "dims": [texts.take(dim) for dim in variable.dimensions],
            "shape": list(variable.shape),
            "attrs": _attributes(variable, texts),
        }
        if variable.dtype is str or variable.dtype.kind == "O":
            about["texts"] = [texts.take(text) for text in _one_by_one(variable)]
        else:
            about["dtype"] = variable.dtype.str
            arrays.append(variable)
        variables.append(about)
    return {"attrs": _attributes(file, texts), "variables": variables}, arrays


def _one_by_one(variable: Any) -> Iterator[Any]:
    """The texts of a variable, no more than one in memory at once."""
    import numpy as np

    # Without axes h5netcdf returns the text itself.
    for index in np.ndindex(*variable.shape):
        text = variable[index] if index else variable[...]
        yield text.item() if hasattr(text, "item") else text


def _attributes(owner: Any, texts: _Texts) -> dict:
    return {texts.take(name): _plain(owner.attrs[name], texts) for name in owner.attrs}


def _plain(value: Any, texts: _Texts) -> Any:
    """An attribute in JSON's types, with the type of numbers: what is rebuilt is what was written."""
    if isinstance(value, (str, bytes)):
        return texts.take(value)
    if hasattr(value, "dtype") and value.dtype.kind in "iufb":
        return {"dtype": value.dtype.str, "values": value.tolist()}
    if hasattr(value, "tolist") and not isinstance(value.tolist(), list):
        return texts.take(value.tolist())
    if hasattr(value, "__iter__"):
        return [texts.take(text) for text in value]
    return ""  # h5py.Empty


def _write(about: dict, arrays: list) -> None:
    import numpy as np

    out = sys.stdout.buffer
    out.write(json.dumps(about).encode("ascii") + b"\n")
    for variable in arrays:
        out.write(np.ascontiguousarray(variable[...]).data if variable.shape else variable[...].tobytes())


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[3])
    try:
        main(sys.argv[1], int(sys.argv[2]))
        sys.stdout.flush()
    except RefusedError as refused:
        sys.stdout.write(json.dumps({"error": str(refused)}) + "\n")
    except OSError as error:
        sys.stdout.write(json.dumps({"error": error.strerror or str(error)}) + "\n")
