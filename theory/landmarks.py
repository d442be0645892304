"""Places on a curve that is exact at any time, such as its half entropy: log(σ/α), to rounding.

The definitions are those of `gmm.landmarks`, which reads the same places off a curve's points alone.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.polynomial import Chebyshev
from scipy.optimize import brentq

from gmm.clock import times_at
from gmm.curve import EntropyCurve
from gmm.process import Process

CurveAt = Callable[[np.ndarray], EntropyCurve]
"""Times (n,) -> the exact curve there."""

# Nodes of the interpolant between neighbouring points: exact to rounding.
_NODES = 24


def remembered(exact: CurveAt) -> CurveAt:
    """The same curve, computed once for the same times: several places are looked for on one grid."""
    kept = functools.lru_cache(maxsize=2)(lambda times: exact(np.array(times)))
    return lambda times: kept(tuple(np.asarray(times).tolist()))


def half_entropy_of(exact: CurveAt, process: Process, noise: np.ndarray) -> float:
    """log(σ/α) where H = ½ H[Z]; NaN where the points do not enclose it.

    Args:
        exact: the curve at any times.
        process: its process, whose clock is smooth between the points.
        noise: (n,) rising log(σ/α) to look between.
    """
    curve = exact(times_at(process, noise))
    return _crossing(exact, process, noise, "entropy", curve.entropy, 0.5 * curve.prior_entropy)


def half_agreement_of(exact: CurveAt, process: Process, noise: np.ndarray, chance: float) -> float:
    """log(σ/α) where clones agree midway between the first noise level and chance; NaN where they do not.

    The criterion is that of Biroli et al. 2024; chance is Σ_c π_c². Other arguments as above.
    """
    agreement = exact(times_at(process, noise)).clone_agreement
    return _crossing(exact, process, noise, "clone_agreement", agreement, 0.5 * (chance + agreement[0]))


def fastest_of(exact: CurveAt, process: Process, noise: np.ndarray) -> float:
    """log(σ/α) where dH/dt is largest; NaN where that is at an end of the points. Arguments as above."""
    rate = exact(times_at(process, noise)).rate
    best = int(np.argmax(rate))
    if best in (0, len(noise) - 1):
        return math.nan
    low, high = noise[best - 1], noise[best + 1]
    # A root of the derivative is found to rounding, a maximum of the value only to its square root.
    return _root(_between(exact, process, low, high, "rate").deriv(), low, high)


def _crossing(
    exact: CurveAt, process: Process, noise: np.ndarray, field: str, values: np.ndarray, level: float
) -> float:
    """Where a field with the given values at `noise` first passes a level; NaN where it does not."""
    beyond = np.flatnonzero((values - level) * (values[0] - level) < 0)
    if not len(beyond):
        return math.nan
    low, high = noise[beyond[0] - 1 : beyond[0] + 1]
    return _root(_between(exact, process, low, high, field) - level, low, high)


def _between(exact: CurveAt, process: Process, low: float, high: float, field: str) -> Chebyshev:
    """A field of the curve between two noise levels, as its interpolant in log(σ/α)."""
    at = lambda noise: getattr(exact(times_at(process, noise)), field)
    return Chebyshev.interpolate(at, _NODES, domain=[low, high])


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-13))  # type: ignore[arg-type]
