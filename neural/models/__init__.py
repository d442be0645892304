"""Models by name or path: a denoiser with the names of its conditions, its data and its grid."""

from neural.models.grids import Grid
from neural.models.model import Model
from neural.models.registry import KINDS, Candidate, Kind, load_model, model_names, register

__all__ = ["KINDS", "Candidate", "Grid", "Kind", "Model", "load_model", "model_names", "register"]
