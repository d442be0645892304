"""Speciation times of a sampled curve, with standard errors that cover the interpolation between its points."""

import math
from typing import NamedTuple

import numpy as np
from numpy.polynomial import Polynomial
from scipy.interpolate import CubicHermiteSpline, PchipInterpolator
from scipy.optimize import brentq

from gmm.curve import EntropyCurve
from gmm.process import Process
from paper_figures.formats.curves import times_at

# A maximum is that of a polynomial in log(σ/α) through the points whose rate is at least this share of the
# largest; degree 9 where there are points enough. On exact curves of 200 points its bias is 2e-5 of the time at
# most, of 40 points up to 1e-3.
TOP_SHARE = 0.5
DEGREES, SPARE_POINTS = (9, 7, 5), 3


class Time(NamedTuple):
    """A time and its standard error; both NaN where the curve does not hold it."""

    value: float
    stderr: float


NONE = Time(math.nan, math.nan)


class _Top(NamedTuple):
    """The maximum of a fitted polynomial, in log(σ/α), and the variance of its place."""

    place: float
    variance: float


def peak_time(curve: EntropyCurve, process: Process) -> Time:
    """Where dH/dt is largest.

    The points share their random numbers: an error that they have in common moves no maximum, so that
    treating their errors as independent does not understate its error. What a lower or a higher degree changes
    beyond chance counts as error too.
    """
    order = np.argsort(curve.sigma)
    noise, rate, error = np.log(curve.sigma[order]), curve.rate[order], curve.rate_stderr[order]
    chosen = _top(rate)
    if chosen is None:
        return NONE
    degrees = [degree for degree in DEGREES if degree + SPARE_POINTS <= len(rate[chosen])]
    error = np.maximum(error[chosen], 1e-12 * rate.max())
    fits = (_maximum(noise[chosen], rate[chosen], error, degrees[0] + more) for more in (0, -2, 2))
    best, *others = fits
    bias2 = max(0.0, *((o.place - best.place) ** 2 - abs(o.variance - best.variance) for o in others))
    spread = math.sqrt(best.variance + bias2)
    # One step to either side carries the error to the process's own clock.
    low, peak, high = times_at(process, best.place + spread * np.array([-1, 0, 1]))
    return Time(float(peak), float(0.5 * abs(high - low)))


def _top(rate: np.ndarray) -> slice | None:
    """The points around the largest rate that a polynomial goes through; None at the end of a curve."""
    best, fewest = int(np.argmax(rate)), DEGREES[-1] + SPARE_POINTS
    if best in (0, len(rate) - 1) or len(rate) < fewest:
        return None
    left, right = _run(rate >= TOP_SHARE * rate[best], best)
    while right - left < fewest:  # coarse points: a wider top rather than none
        left, right = max(left - 1, 0), min(right + 1, len(rate))
    return slice(left, right)


def _run(inside: np.ndarray, place: int) -> tuple[int, int]:
    """The unbroken run of True around `place`, as a slice's ends."""
    outside = np.flatnonzero(~inside)
    left = outside[outside < place].max(initial=-1) + 1
    right = outside[outside > place].min(initial=len(inside))
    return int(left), int(right)


def _maximum(noise: np.ndarray, rate: np.ndarray, error: np.ndarray, degree: int) -> _Top:
    centre, scale = noise.mean(), np.ptp(noise) / 2
    u = (noise - centre) / scale
    powers = np.vander(u, degree + 1, increasing=True)
    coefficients, *_ = np.linalg.lstsq(powers / error[:, None], rate / error, rcond=None)
    triangle = np.asarray(np.linalg.qr(powers / error[:, None], mode="r"))
    line = Polynomial(coefficients)
    roots = line.deriv().roots()
    tops = roots.real[(np.abs(roots.imag) < 1e-9) & (np.abs(roots.real) <= 1)]
    at = float(tops[np.argmax(line(tops))]) if len(tops) else float(u[np.argmax(line(u))])
    slope = np.array([k * at ** max(k - 1, 0) for k in range(degree + 1)])
    deviation = np.linalg.norm(np.linalg.solve(triangle.T, slope)) / abs(float(line.deriv(2)(at))) * scale
    return _Top(centre + scale * at, float(deviation**2))


def half_time(curve: EntropyCurve) -> Time:
    """Where the entropy is half the prior's, and the shift that the curve's own error there makes.

    What every second point alone would change counts as error too.
    """
    order = np.argsort(curve.t)
    t, entropy, rate = curve.t[order], curve.entropy[order], np.maximum(curve.rate[order], 0)
    level = 0.5 * curve.prior_entropy
    half, coarse = _crossing(t, entropy, rate, level), _crossing(t[::2], entropy[::2], rate[::2], level)
    if math.isnan(half):
        return NONE
    bias = abs(half - coarse) if math.isfinite(coarse) else 0.0
    error = float(np.interp(half, t, curve.entropy_stderr[order]))
    return Time(half, math.hypot(error / max(float(np.interp(half, t, rate)), 1e-300), bias))


def _crossing(t: np.ndarray, entropy: np.ndarray, rate: np.ndarray, level: float) -> float:
    """Where the cubic through entropies and rates first rises to `level`; NaN where the curve does not."""
    above = np.flatnonzero(entropy > level)
    if not len(above) or above[0] == 0:
        return math.nan
    spline = CubicHermiteSpline(t, entropy, rate)
    low, high = float(t[above[0] - 1]), float(t[above[0]])
    return float(brentq(lambda x: float(spline(x)) - level, low, high, xtol=1e-13))  # type: ignore[arg-type]


def agreement_time(curve: EntropyCurve, chance: float) -> Time:
    """Where clones agree midway between chance and clean data (Biroli et al. 2024), with its error as above.

    Args:
        curve: a curve that reaches clean data.
        chance: Σ_c π_c², the agreement where nothing is known.
    """
    order = np.argsort(curve.t)
    t, agreement, error = curve.t[order], curve.clone_agreement[order], curve.clone_agreement_stderr[order]
    level = 0.5 * (chance + agreement[0])
    below = np.flatnonzero(agreement < level)
    if not len(below) or below[0] == 0 or not np.isfinite(agreement).all():
        return NONE
    ends = t[below[0] - 1], t[below[0]]
    fine, coarse = (PchipInterpolator(t[::step], agreement[::step]) for step in (1, 2))
    half = float(brentq(lambda x: float(fine(x)) - level, *ends, xtol=1e-13))  # type: ignore[arg-type]
    slope = max(abs(float(fine.derivative()(half))), 1e-300)
    shift = math.hypot(float(np.interp(half, t, error)), float(fine(half) - coarse(half)))
    return Time(half, shift / slope)
