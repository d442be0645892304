"""Networks behind one protocol: ``denoise(x, t, condition) -> E[x_0 | x_t, condition]``."""

from neural.checkpoints import Checkpoint, CheckpointError, read_torch_pickle
from neural.denoiser import Denoiser, MixtureDenoiser, from_function, mixture_denoiser
from neural.edm2 import EDM2, load_edm2

__all__ = [
    "EDM2",
    "Checkpoint",
    "CheckpointError",
    "Denoiser",
    "MixtureDenoiser",
    "from_function",
    "load_edm2",
    "mixture_denoiser",
    "read_torch_pickle",
]
