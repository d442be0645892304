"""Numbers without sampling: channel entropies, speciation times and scaling laws, in float64."""

from theory.channel import (
    binary_clone_agreement,
    binary_entropy,
    binary_entropy_rate,
    binary_mmse,
    orthogonal_clone_agreement,
    orthogonal_entropy,
    orthogonal_entropy_rate,
    quadrature_error,
    simplex_clone_agreement,
    simplex_entropy,
    simplex_entropy_rate,
    tree_entropy,
    tree_entropy_rate,
    unequal_entropy,
)
from theory.many_classes import collapse_time, condensation_time, entropy_density
from theory.scaling import Peak, Slope, collapse_coordinate, fit_slope, peak
from theory.speciation import (
    CRITERIA,
    Criterion,
    Problem,
    entropy_curve,
    speciation_time,
    tree_curves,
    why_none,
)
from theory.windows import Window, window

__all__ = [
    "CRITERIA",
    "Criterion",
    "Peak",
    "Problem",
    "Slope",
    "Window",
    "binary_clone_agreement",
    "binary_entropy",
    "binary_entropy_rate",
    "binary_mmse",
    "collapse_coordinate",
    "collapse_time",
    "condensation_time",
    "entropy_curve",
    "entropy_density",
    "fit_slope",
    "orthogonal_clone_agreement",
    "orthogonal_entropy",
    "orthogonal_entropy_rate",
    "peak",
    "quadrature_error",
    "simplex_clone_agreement",
    "simplex_entropy",
    "simplex_entropy_rate",
    "speciation_time",
    "tree_curves",
    "tree_entropy",
    "tree_entropy_rate",
    "unequal_entropy",
    "why_none",
    "window",
]
