"""Landmarks of a curve: half of the entropy, the fastest decision, the window; places in log(σ/α).

Both `half_entropy` and `fastest` use the curve's entropies and its rates together and return a standard error, which
covers sampling noise and the distance between the points.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.polynomial import chebyshev
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq

from gmm.checks import choose
from gmm.curve import EntropyCurve
from gmm.estimate import Estimate
from gmm.process import DDPM
from gmm.windows import check_coverage, crossing, window

LANDMARKS = ("half", "peak", "low", "median", "high")
"""Half the prior entropy; the fastest decision in log noise; the window's ends and the middle of its information."""
RATES = ("log-noise", "t")

# A maximum is that of a polynomial through the points whose rate is at least half of the largest, and one more to
# either side. On exact curves of 60 points over nine units of log(σ/α) it is off by 2e-4 at most.
_TOP_SHARE, _DEGREE, _SPARE, _FEWEST = 0.5, 9, 2, 5
# The top must lie inside the curve: its rate falls below this share of the largest before either end.
_INSIDE_SHARE = 0.95
# Exact values count as known to this part of the largest rate: errors of zero would be weights of infinity.
_EXACT = 1e-10
# Points of one curve share their random numbers, so that their errors vary smoothly along it: correlations
# exp(-½ (distance/length)²) whose length is this part of half the fitted range, the shortest that was seen.
_CORRELATION = 0.4
# Points between which a maximum is bracketed.
_SEARCH = 201

_NOWHERE = Estimate(np.asarray(np.nan), np.asarray(np.nan))


def landmarks(curve: EntropyCurve, share: float = 0.8) -> Float[np.ndarray, " 5"]:
    """log(σ/α) at the `LANDMARKS` of a curve; NaN at those outside its noise range."""
    return known_landmarks(curve, share).value


def known_landmarks(curve: EntropyCurve, share: float = 0.8) -> Estimate:
    """`landmarks` with the standard errors that the curve's own give them (5,)."""
    ends = np.full((2, 3), np.nan)
    try:
        check_coverage(curve, share)
        found = window(curve, share, allow_partial=True)
        ends[0] = found.low, found.median, found.high
        ends[1] = found.low_stderr, found.median_stderr, found.high_stderr
    except ValueError:
        pass
    half, peak = half_entropy(curve), fastest(curve)
    return Estimate(
        np.array([half.value, peak.value, *ends[0]]), np.array([half.stderr, peak.stderr, *ends[1]])
    )


def half_entropy(curve: EntropyCurve) -> Estimate:
    """log(σ/α) where H = ½ H[Z], with its standard error; NaN where the curve does not pass it.

    Between its points the curve is the cubic through its entropies and rates. The error is that of the entropy there
    over the slope, and what leaving out every second point changes.
    """
    level = 0.5 * curve.prior_entropy
    place = crossing(curve, level)
    if math.isnan(place):
        return _NOWHERE
    order, ends = np.argsort(curve.sigma), (0, len(curve.t) - 1)
    noise, slope = np.log(curve.sigma[order]), curve.rate_per_log_noise()[0][order]
    halves = (order[np.union1d(ends, np.arange(first, len(order), 2))] for first in (0, 1))
    bias = max(abs(crossing(curve.take(half), level) - place) for half in halves)
    spread = np.interp(place, noise, curve.entropy_stderr[order])
    error = math.hypot(spread / max(np.interp(place, noise, slope), 1e-300), bias)
    return Estimate(np.asarray(place), np.asarray(error))


def fastest(curve: EntropyCurve, per: str = "log-noise") -> Estimate:
    """log(σ/α) where the class is decided fastest, with its standard error; NaN where that is at an end of the curve.

    The maximum of a polynomial fitted to the rates and, integrated, to the entropies around the top. The error covers
    errors of the points that are independent as well as smooth ones, and what a lower degree changes. Points of unknown
    error carry no weight; where hardly any other is left, the error of the place is unknown (NaN). On a discrete chain
    dH/dt jumps at every index, and its maximum is known to one step: the error covers that as well.

    Args:
        curve: an entropy curve, points in any order.
        per: "log-noise" for the largest dH/d log(σ/α), which no clock changes; "t" for the largest dH/dt.
    """
    choose("per", per, RATES)
    top = _top_of(curve, per)
    if top is None:
        return _NOWHERE
    known = np.isfinite(top.rate_error).sum() + np.isfinite(top.entropy_error).sum()
    if known < 2 * _FEWEST:
        blank = np.zeros_like(top.noise)
        place = _maximum(top._replace(rate_error=blank + _EXACT, entropy_error=blank + _EXACT), _FEWEST)
        return Estimate(place.value, np.asarray(np.nan))
    degree = min(_DEGREE, int(known) - 1 - _SPARE)
    # Few points: neighbouring degrees may agree by chance.
    compared = 3 if len(top.noise) > _DEGREE else 4
    best, *lower = (_maximum(top, degree - less) for less in range(compared))
    moved2 = [(o.value - best.value) ** 2 - abs(o.stderr**2 - best.stderr**2) for o in lower]
    bias2 = np.nan_to_num(max(0.0, *moved2), nan=0.25 * np.ptp(top.noise) ** 2)
    step = _chain_step(curve, float(best.value)) if per == "t" else 0.0
    return Estimate(best.value, np.sqrt(best.stderr**2 + bias2 + step**2))


def _chain_step(curve: EntropyCurve, place: float) -> float:
    """Width in log(σ/α) of one step around a place of a discrete chain; zero for a process with a smooth clock."""
    if not str(curve.metadata.get("process", "")).startswith(f"{DDPM.name}("):
        return 0.0
    order = np.argsort(curve.sigma)
    return float(np.interp(place, np.log(curve.sigma[order]), -0.5 * curve.log_snr_slope[order]))


class _Top(NamedTuple):
    """The points around a maximum, (n,) each: log(σ/α), dH/d log(σ/α), H, their errors, and log of d log(σ/α)/dt.

    The last is zero where the rate per log noise is wanted.
    """

    noise: np.ndarray
    rate: np.ndarray
    entropy: np.ndarray
    rate_error: np.ndarray
    entropy_error: np.ndarray
    log_clock: np.ndarray


def _top_of(curve: EntropyCurve, per: str) -> _Top | None:
    """The points around the largest rate; None where that is at an end of the curve, or a rate is not finite."""
    order = np.argsort(curve.sigma)
    rate, error = (values[order] for values in curve.rate_per_log_noise())
    log_clock = np.zeros(len(order)) if per == "log-noise" else np.log(-0.5 * curve.log_snr_slope[order])
    height = rate * np.exp(log_clock)
    if not np.isfinite(height).all() or len(order) < _FEWEST:
        return None
    best = int(np.argmax(height))
    first, last = _run(height >= _INSIDE_SHARE * height[best], best)
    if height[best] <= 0 or first == 0 or last == len(order):
        return None
    first, last = _run(height >= _TOP_SHARE * height[best], best)
    first, last = max(first - 1, 0), last + 1
    while len(order[first:last]) < _FEWEST:
        first, last = max(first - 1, 0), last + 1
    around, least = slice(first, last), _EXACT * rate[best]
    errors = (_least_error(values, least) for values in (error, curve.entropy_stderr[order]))
    columns = np.log(curve.sigma[order]), rate, curve.entropy[order], *errors, log_clock
    return _Top(*(values[around] for values in columns))


def _least_error(stderr: np.ndarray, least: float) -> np.ndarray:
    """Errors for weights: at least `least`; infinite, which is no weight, where the error is unknown."""
    return np.where(np.isnan(stderr), np.inf, np.maximum(stderr, least))


def _run(inside: np.ndarray, place: int) -> tuple[int, int]:
    """The unbroken run of True around `place`, as a slice's ends."""
    outside = np.flatnonzero(~inside)
    first = outside[outside < place].max(initial=-1) + 1
    return int(first), int(outside[outside > place].min(initial=len(inside)))


def _maximum(top: _Top, degree: int) -> Estimate:
    """Place of the largest fitted rate, and the standard error that the points' own errors give it."""
    centre, scale = top.noise.mean(), np.ptp(top.noise) / 2
    u, errors = (top.noise - centre) / scale, np.concatenate([top.rate_error, top.entropy_error])
    basis = lambda at, order=0: chebyshev.chebval(at, chebyshev.chebder(np.eye(degree + 1), order))
    # The rate is p, the entropy its integral and a constant.
    rates, entropies = basis(u).T, scale * chebyshev.chebval(u, chebyshev.chebint(np.eye(degree + 1))).T
    design = np.block([[rates, np.zeros((len(u), 1))], [entropies, np.ones((len(u), 1))]]) / errors[:, None]
    values = np.concatenate([top.rate, top.entropy]) / errors
    fit = np.linalg.pinv(design, rcond=1e-13)
    line, clock = (fit @ values)[:-1], CubicSpline(u, top.log_clock)
    # dH/dt is p · dx/dt, x = log(σ/α); its slope is dx/dt times p' + p (log dx/dt)'.
    slope = lambda at: basis(at, 1) + clock(at, 1) * basis(at)
    grid = np.linspace(-1, 1, _SEARCH)
    rising = line @ slope(grid) > 0
    tops = np.flatnonzero(rising[:-1] & ~rising[1:])
    if not len(tops):
        return _NOWHERE
    best = tops[np.argmax((line @ basis(grid) * np.exp(clock(grid)))[tops])]
    place = brentq(lambda at: line @ slope(at), grid[best], grid[best + 1], xtol=1e-12)
    bend = line @ (basis(place, 2) + clock(place, 1) * basis(place, 1) + clock(place, 2) * basis(place))
    moved = slope(place) @ fit[:-1] * (scale / abs(bend))
    misfit = np.sum((values - design @ (fit @ values)) ** 2) / (np.isfinite(errors).sum() - degree - 2)
    return Estimate(np.asarray(centre + scale * place), np.asarray(_spread(u, moved, misfit)))


def _spread(u: np.ndarray, moved: np.ndarray, misfit: float) -> float:
    """Standard deviation of a sum of the points' errors, in units of their own, with factors `moved` (2n,).

    The larger of two: errors independent from point to point, as far as the misfit (mean square) shows any, and
    smooth ones.
    """
    smooth = np.exp(-0.5 * ((u[:, None] - u) / _CORRELATION) ** 2)
    of_rate, of_entropy = np.split(moved, 2)
    shared = of_rate @ smooth @ of_rate + of_entropy @ smooth @ of_entropy
    return math.sqrt(max(min(misfit, 1.0) * (moved @ moved), shared))
