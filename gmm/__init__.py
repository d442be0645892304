"""The exact simulator: Gaussian mixtures under forward diffusion, their scores, posteriors and entropies."""

from gmm.process import PROCESSES, Process, ddpm, edm, flow, scaled_linear_betas, ve, vp, vp_linear

__all__ = ["PROCESSES", "Process", "ddpm", "edm", "flow", "scaled_linear_betas", "ve", "vp", "vp_linear"]
