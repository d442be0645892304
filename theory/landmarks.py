"""Half entropy and the fastest decision of a curve that quadrature gives at any time: log(σ/α), to rounding.

The definitions are those of `gmm.landmarks`, which reads the same places off a curve's points alone.
"""

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


def half_entropy_of(exact: CurveAt, process: Process, noise: np.ndarray) -> float:
    """log(σ/α) where H = ½ H[Z]; NaN where the points do not enclose it.

    Args:
        exact: the curve at any times.
        process: its process, whose clock is smooth between the points.
        noise: (n,) rising log(σ/α) to look between.
    """
    curve = exact(times_at(process, noise))
    half = 0.5 * curve.prior_entropy
    above = np.flatnonzero(curve.entropy > half)
    if not len(above) or above[0] == 0:
        return math.nan
    low, high = noise[above[0] - 1 : above[0] + 1]
    return _root(_between(exact, process, low, high, "entropy") - half, low, high)


def fastest_of(exact: CurveAt, process: Process, noise: np.ndarray) -> float:
    """log(σ/α) where dH/dt is largest; NaN where that is at an end of the points. Arguments as above."""
    rate = exact(times_at(process, noise)).rate
    best = int(np.argmax(rate))
    if best in (0, len(noise) - 1):
        return math.nan
    low, high = noise[best - 1], noise[best + 1]
    # A root of the derivative is found to rounding, a maximum of the value only to its square root.
    return _root(_between(exact, process, low, high, "rate").deriv(), low, high)


def _between(exact: CurveAt, process: Process, low: float, high: float, field: str) -> Chebyshev:
    """A field of the curve between two noise levels, as its interpolant in log(σ/α)."""
    at = lambda noise: getattr(exact(times_at(process, noise)), field)
    return Chebyshev.interpolate(at, _NODES, domain=[low, high])


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-13))  # type: ignore[arg-type]
