"""Networks behind one protocol: ``denoise(x, t, condition) -> E[x_0 | x_t, condition]``."""

from neural.adapters.diffusers_pipelines import from_diffusers
from neural.adapters.guided_pipelines import guide_pipeline
from neural.adapters.torch_networks import from_torch
from neural.check import CheckRow, DenoiserCheck, NetworkWarning, check_denoiser
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
    precise_entropy,
)
from neural.models import Model, load_model
from neural.quality import SampleQuality, judge_of, sample_quality
from neural.stable_diffusion import SD15, VAE, load_sd15, load_vae
from neural.uturn import u_turn
from neural.vision.distances import frechet_distance
from neural.vision.judge import VisionJudge
from neural.vision.loading import load_judge
from neural.vision.quality import ImageQuality, image_quality

__all__ = [
    "EDM2",
    "PAPER",
    "SD15",
    "VAE",
    "Calibration",
    "CheckRow",
    "Checkpoint",
    "CheckpointError",
    "Denoiser",
    "DenoiserCheck",
    "ImageQuality",
    "MixtureDenoiser",
    "Model",
    "NetworkWarning",
    "PosteriorPaths",
    "Preset",
    "SampleQuality",
    "VisionJudge",
    "calibration",
    "check_denoiser",
    "evaluations",
    "frechet_distance",
    "from_diffusers",
    "from_function",
    "from_torch",
    "gap_entropy",
    "guide_pipeline",
    "image_quality",
    "judge_of",
    "load_edm2",
    "load_judge",
    "load_model",
    "load_sd15",
    "load_vae",
    "mixture_denoiser",
    "online_entropy",
    "posterior_paths",
    "precise_entropy",
    "read_torch_pickle",
    "sample_quality",
    "u_turn",
]
