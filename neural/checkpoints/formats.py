"""One door for every format that weights come in."""

import os

from neural.checkpoints.checkpoint import Checkpoint, map_file, naming
from neural.checkpoints.safetensors_files import is_safetensors, read_safetensors_bytes
from neural.checkpoints.torch_files import read_torch_bytes


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint; its contents, not its name, say in which format.

    Raises:
        CheckpointError: as `read_safetensors` and `read_torch_pickle`.
    """
    buffer = map_file(path)
    with naming(path):
        if is_safetensors(bytes(buffer[:9])):
            return read_safetensors_bytes(buffer)
        return read_torch_bytes(buffer)
