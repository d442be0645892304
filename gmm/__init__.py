"""The exact simulator: Gaussian mixtures under forward diffusion, their scores, posteriors and entropies."""

from gmm import families
from gmm.contrast import contrast_entropy
from gmm.covariance import Covariance, Diagonal, Full, Isotropic, LowRank
from gmm.curve import EntropyCurve
from gmm.dynamics import (
    Kernel,
    forward_sde,
    probability_flow,
    reverse_kernel,
    reverse_sde,
    time_grid,
    u_turn,
)
from gmm.entropic_time import entropic_times
from gmm.entropy import class_entropy, clone_agreement
from gmm.estimate import Estimate
from gmm.guidance import (
    Guidance,
    autoguidance,
    cfg,
    dynamic_negative,
    entropy_timed,
    feedback,
    gap_of,
    limited_interval,
    negative,
    power_law,
    steer,
    unguided,
    weight_profile,
)
from gmm.guidance_specs import load_guidance, parse_guidance, save_guidance
from gmm.guided import guided_entropy, guided_paths, guided_samples
from gmm.guided_quality import Quality, kernel_distance, quality, sliced_distance
from gmm.mixture import Mixture, denoise, diffuse, log_posterior, log_prob, sample, score
from gmm.partition import Partition, restrict
from gmm.process import PROCESSES, Process, ddpm, edm, flow, scaled_linear_betas, ve, vp, vp_linear
from gmm.reduction import Reduction, reduce
from gmm.whitened import Whitened, guided_whitened
from gmm.window_file import MeasuredWindow, load_window, save_window
from gmm.windows import Window, window

__all__ = [
    "PROCESSES",
    "Covariance",
    "Diagonal",
    "EntropyCurve",
    "Estimate",
    "Full",
    "Guidance",
    "Isotropic",
    "Kernel",
    "LowRank",
    "MeasuredWindow",
    "Mixture",
    "Partition",
    "Process",
    "Quality",
    "Reduction",
    "Whitened",
    "Window",
    "autoguidance",
    "cfg",
    "class_entropy",
    "clone_agreement",
    "contrast_entropy",
    "ddpm",
    "denoise",
    "diffuse",
    "dynamic_negative",
    "edm",
    "entropic_times",
    "entropy_timed",
    "families",
    "feedback",
    "flow",
    "forward_sde",
    "gap_of",
    "guided_entropy",
    "guided_paths",
    "guided_samples",
    "guided_whitened",
    "kernel_distance",
    "limited_interval",
    "load_guidance",
    "load_window",
    "log_posterior",
    "log_prob",
    "negative",
    "parse_guidance",
    "power_law",
    "probability_flow",
    "quality",
    "reduce",
    "restrict",
    "reverse_kernel",
    "reverse_sde",
    "sample",
    "save_guidance",
    "save_window",
    "scaled_linear_betas",
    "score",
    "sliced_distance",
    "steer",
    "time_grid",
    "u_turn",
    "unguided",
    "ve",
    "vp",
    "vp_linear",
    "weight_profile",
    "window",
]
