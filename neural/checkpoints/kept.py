"""Kept parts of unfinished work: named arrays with a checksum of the whole file, so that none is used damaged."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gmm.files import damaged, write_whole
from gmm.outside_files import read_outside
from neural.checkpoints.checkpoint import Checkpoint, CheckpointError
from neural.checkpoints.safetensors_files import read_safetensors_bytes, to_bytes

SEAL = "sha256"
_BLANK = "0" * 64
_MARK = f'"{SEAL}":"\\"'.encode()
_MOST_BYTES = 1 << 36


def write_kept(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], attributes: Mapping[str, Any]
) -> None:
    """Write arrays and attributes as `write_safetensors` does, with the SHA-256 of the file inside it."""
    contents = bytearray(to_bytes(tensors, {**attributes, SEAL: _BLANK}))
    at = _place(contents)
    contents[at : at + len(_BLANK)] = hashlib.sha256(contents).hexdigest().encode()
    write_whole(path, bytes(contents))


def read_kept(path: str | os.PathLike[str]) -> Checkpoint | None:
    """What `write_kept` wrote; None when no file is there or it is not whole, with a warning in the second case."""
    if not os.path.lexists(path):
        return None
    try:
        contents = bytearray(read_outside(path, _MOST_BYTES))
        at = _place(contents)
        recorded, contents[at : at + len(_BLANK)] = bytes(contents[at : at + len(_BLANK)]), _BLANK.encode()
        if hashlib.sha256(contents).hexdigest().encode() == recorded:
            return read_safetensors_bytes(memoryview(bytes(contents)))
    except ValueError:  # CheckpointError too
        pass
    damaged(path)
    return None


def _place(contents: bytearray) -> int:
    """Where the checksum stands."""
    at = contents.find(_MARK, 0, 8 + int.from_bytes(contents[:8], "little"))
    if at < 0 or at + len(_MARK) + len(_BLANK) > len(contents):
        raise CheckpointError("a kept part without its checksum")
    return at + len(_MARK)
