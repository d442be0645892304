"""Sampler grids from a measured entropy curve: equal class information in every step.

Entropic time (Stancevic et al. 2025, arXiv 2504.13612) steps evenly in the entropy of x_0 given x_t. Here the entropy
is that of the class alone, which does not contain anything else that a sampler has to resolve; therefore the grid is
mixed with one that has steps at all noise levels.
"""

import numpy as np
from jaxtyping import Float

from gmm.checks import check_count, check_values
from gmm.clock import noise_at, times_at
from gmm.curve import EntropyCurve
from gmm.dynamics import EDM_RHO
from gmm.process import Process
from gmm.windows import cumulative

# Points in log(σ/α) of the table that is inverted.
RESOLUTION = 20_000


def entropic_times(
    curve: EntropyCurve,
    process: Process,
    steps: int,
    *,
    share: float = 0.5,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
) -> Float[np.ndarray, " steps"]:
    """Times of a sampler whose steps take equal parts of class information, mixed with EDM's grid.

    Between neighbouring times the sum share · (part of the curve's information) + (1 - share) · (part of EDM's
    grid, equal in (σ/α)^{1/7}) is the same.

    Args:
        curve: measured entropy curve of the decision, of any process.
        process: the process whose times are returned.
        steps: number of times, >= 2; the step to zero noise that ends a sampler is not among them.
        share: of the class information, in [0, 1]: 0 is EDM's grid, 1 is class-entropic time alone, which leaves
            everything before and after the decision to one step each.
        sigma_min: smallest level σ/α.
        sigma_max: largest level σ/α.

    Returns:
        (steps,) falling times in float64.

    Raises:
        ValueError: on a value outside its range, or a curve that gains no information between the two levels.
    """
    check_count("steps", steps, 2)
    check_values("share", share, "in [0, 1]", lambda a: (a >= 0) & (a <= 1))
    if not 0 < sigma_min < sigma_max < np.inf:
        raise ValueError(f"levels must satisfy 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    ends = np.clip(times_at(process, np.log([sigma_max, sigma_min])), process.t_min, process.t_max)
    last, first = noise_at(process, ends)
    noise = np.linspace(first, last, RESOLUTION)
    information, roots = cumulative(curve, noise), np.exp(noise / EDM_RHO)
    gained = information[-1] - information[0]
    if share > 0 and gained <= 0:
        raise ValueError(
            f"curve must gain information between σ/α = {sigma_min:g} and {sigma_max:g}; it gains {gained:g}"
        )
    mixed = (1 - share) * (roots - roots[0]) / (roots[-1] - roots[0])
    if share > 0:
        mixed = mixed + share * (information - information[0]) / gained
    # Where no information is gained the inverse jumps, and any level there is equivalent.
    rising = np.concatenate([[True], np.diff(mixed) > 0])
    levels = np.interp(np.linspace(1, 0, steps)[1:-1], mixed[rising], noise[rising])
    return np.concatenate([ends[:1], times_at(process, levels), ends[1:]])
