"""Networks behind one protocol: ``denoise(x, t, condition) -> E[x_0 | x_t, condition]``."""

from neural.checkpoints import Checkpoint, CheckpointError, read_torch_pickle
from neural.edm2 import EDM2, load_edm2

__all__ = ["EDM2", "Checkpoint", "CheckpointError", "load_edm2", "read_torch_pickle"]
