"""The exact simulator: Gaussian mixtures under forward diffusion, their scores, posteriors and entropies."""

from gmm.covariance import Covariance, Diagonal, Full, Isotropic, LowRank
from gmm.curve import EntropyCurve
from gmm.entropy import class_entropy, clone_agreement
from gmm.estimate import Estimate
from gmm.mixture import Mixture, denoise, diffuse, log_posterior, log_prob, sample, score
from gmm.partition import Partition
from gmm.process import PROCESSES, Process, ddpm, edm, flow, scaled_linear_betas, ve, vp, vp_linear

__all__ = [
    "PROCESSES",
    "Covariance",
    "Diagonal",
    "EntropyCurve",
    "Estimate",
    "Full",
    "Isotropic",
    "LowRank",
    "Mixture",
    "Partition",
    "Process",
    "class_entropy",
    "clone_agreement",
    "ddpm",
    "denoise",
    "diffuse",
    "edm",
    "flow",
    "log_posterior",
    "log_prob",
    "sample",
    "scaled_linear_betas",
    "score",
    "ve",
    "vp",
    "vp_linear",
]
