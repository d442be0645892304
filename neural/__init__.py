"""Networks behind one protocol: ``denoise(x, t, condition) -> E[x_0 | x_t, condition]``."""

from neural.checkpoints import Checkpoint, CheckpointError, read_torch_pickle
from neural.denoiser import Denoiser, MixtureDenoiser, from_function, mixture_denoiser
from neural.edm2 import EDM2, load_edm2
from neural.estimators import (
    PAPER,
    Calibration,
    PosteriorPaths,
    Preset,
    calibration,
    evaluations,
    gap_entropy,
    online_entropy,
    posterior_paths,
)

__all__ = [
    "EDM2",
    "PAPER",
    "Calibration",
    "Checkpoint",
    "CheckpointError",
    "Denoiser",
    "MixtureDenoiser",
    "PosteriorPaths",
    "Preset",
    "calibration",
    "evaluations",
    "from_function",
    "gap_entropy",
    "load_edm2",
    "mixture_denoiser",
    "online_entropy",
    "posterior_paths",
    "read_torch_pickle",
]
