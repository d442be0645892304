"""The exact simulator: Gaussian mixtures under forward diffusion, their scores, posteriors and entropies."""

from gmm import families
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
from gmm.entropy import class_entropy, clone_agreement
from gmm.estimate import Estimate
from gmm.mixture import Mixture, denoise, diffuse, log_posterior, log_prob, sample, score
from gmm.partition import Partition, restrict
from gmm.process import PROCESSES, Process, ddpm, edm, flow, scaled_linear_betas, ve, vp, vp_linear
from gmm.reduction import Reduction, reduce

__all__ = [
    "PROCESSES",
    "Covariance",
    "Diagonal",
    "EntropyCurve",
    "Estimate",
    "Full",
    "Isotropic",
    "Kernel",
    "LowRank",
    "Mixture",
    "Partition",
    "Process",
    "Reduction",
    "class_entropy",
    "clone_agreement",
    "ddpm",
    "denoise",
    "diffuse",
    "edm",
    "families",
    "flow",
    "forward_sde",
    "log_posterior",
    "log_prob",
    "probability_flow",
    "reduce",
    "restrict",
    "reverse_kernel",
    "reverse_sde",
    "sample",
    "scaled_linear_betas",
    "score",
    "time_grid",
    "u_turn",
    "ve",
    "vp",
    "vp_linear",
]
