"""Speciation times of a sampled curve, with standard errors that cover the interpolation between its points."""

import math
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from gmm.curve import EntropyCurve
from gmm.estimate import Estimate
from gmm.landmarks import fastest, half_entropy


class Time(NamedTuple):
    """A time and its standard error; both NaN where the curve does not hold it."""

    value: float
    stderr: float


NONE = Time(math.nan, math.nan)


def peak_time(curve: EntropyCurve) -> Time:
    """Where dH/dt is largest; see `gmm.landmarks.fastest`."""
    return _time(curve, fastest(curve, per="t"))


def half_time(curve: EntropyCurve) -> Time:
    """Where the entropy is half the prior's; see `gmm.landmarks.half_entropy`."""
    return _time(curve, half_entropy(curve))


def _time(curve: EntropyCurve, place: Estimate) -> Time:
    """The curve's own time at a place in log(σ/α): the error is half the distance of one error to either side."""
    if not math.isfinite(place.value):
        return NONE
    noise = place.value + place.stderr * np.array([-1, 0, 1])
    low, time, high = curve.times_at(np.clip(noise, *np.log([curve.sigma.min(), curve.sigma.max()])))
    return Time(float(time), float(0.5 * abs(high - low)))


def agreement_time(curve: EntropyCurve, chance: float) -> Time:
    """Where clones agree midway between chance and clean data (Biroli et al. 2024), with its error.

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
