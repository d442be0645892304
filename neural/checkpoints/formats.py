"""One door for every format that weights come in."""

import os

from neural.checkpoints.checkpoint import Checkpoint, CheckpointError, read_mapped
from neural.checkpoints.other_files import other_kind
from neural.checkpoints.safetensors_files import is_safetensors, read_safetensors_bytes
from neural.checkpoints.torch_files import read_torch_bytes


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint; its contents, not its name, say in which format.

    Raises:
        CheckpointError: as `read_safetensors` and `read_torch_pickle`.
    """
    return read_mapped(path, _read_bytes)


def _read_bytes(buffer: memoryview) -> Checkpoint:
    if is_safetensors(bytes(buffer[:9])):
        return read_safetensors_bytes(buffer)
    if other := other_kind(bytes(buffer[:512])):
        raise CheckpointError(f"this is {other}")
    return read_torch_bytes(buffer)
