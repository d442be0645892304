"""The window of a decision: the noise interval in which the model commits.

It contains the central share (80% by default) of the information that the noisy state gains about the class, on
the axis log(σ/α), which does not depend on the clock of a process.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicHermiteSpline

from gmm.curve import EntropyCurve

# At the ends of a curve this share of its information may be missing beyond what the window leaves out.
_COVERAGE = 0.5
# A window of a curve along which less than this share of H[Z] is decided would be taken for a decision.
LEAST_DECIDED = 0.5
# Standard errors, and a share of H[Z] for rounding, by which entropies may leave [0, H[Z]]. Where the error is
# unknown, too few samples alone may cost a larger share.
_STDERRS, _ROUNDING, _UNKNOWN = 4.0, 1e-3, 0.25


@dataclasses.dataclass(frozen=True)
class Window:
    """Where the central share of a curve's information lies.

    Attributes:
        share: the share.
        low, median, high: log(σ/α), low < median < high; stderr of each in the same units.
        t_low, t_median, t_high: the process's own times there.
        decided: share of H[Z] that is gained from the most to the least noise of the curve, with its standard error.
        entropy_low, entropy_high: entropy at the least and at the most noise of the curve, each with its standard
            error. NaN where a window was computed from no curve.
    """

    share: float
    low: float
    median: float
    high: float
    low_stderr: float
    median_stderr: float
    high_stderr: float
    t_low: float
    t_median: float
    t_high: float
    decided: float = math.nan
    decided_stderr: float = math.nan
    entropy_low: float = math.nan
    entropy_low_stderr: float = math.nan
    entropy_high: float = math.nan
    entropy_high_stderr: float = math.nan

    @property
    def width(self) -> float:
        """Width in log(σ/α)."""
        return self.high - self.low

    @property
    def sigma(self) -> tuple[float, float, float]:
        """σ/α at low, median and high."""
        return tuple(float(np.exp(level)) for level in (self.low, self.median, self.high))  # type: ignore


def window(curve: EntropyCurve, share: float = 0.8, *, allow_partial: bool = False) -> Window:
    """The interval of log-noise that holds the central `share` of the information in a curve.

    Between its points the curve is the cubic through its entropies and rates. Standard errors combine the change of
    the result when the curve is shifted by its own errors, and the effect of the distance between its points; NaN
    where they cannot be estimated from the curve.

    Args:
        curve: an entropy curve, points in any order.
        share: in (0, 1).
        allow_partial: whether to compute a window although the curve is not that of a whole decision.

    Raises:
        ValueError: when share is out of range or the curve has fewer than 4 points; and, unless `allow_partial`, when
            an entropy is outside [0, H[Z]] by more than its error, less than half of H[Z] is decided along the curve
            (`LEAST_DECIDED`), or the curve does not reach far enough towards noise or data to hold the window's ends.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), got {share}")
    if len(curve.t) < 4:
        raise ValueError(f"curve must have at least 4 points for a window, got {len(curve.t)}")
    noise, entropy, slope = _rising(curve)
    order = np.argsort(-curve.log_snr)
    decided = _decided_share(curve, order)
    if not allow_partial:
        _check_range(curve)
        check_coverage(curve, share)
        _check_decided(curve, decided["decided"])
    places = _places(noise, entropy, slope, curve.prior_entropy, share)
    errors = _errors(noise, entropy, slope, curve.entropy_stderr[order], curve.prior_entropy, share)
    times = np.interp(places, noise, curve.t[order])
    return Window(share, *map(float, (*places, *errors, *times)), **decided)


def check_ends(interval: Window, curve: EntropyCurve) -> None:
    """Raise ValueError where an end or the middle of a window lies beyond the curve, as a partial curve's may."""
    beyond = [name for name in ("low", "median", "high") if not np.isfinite(getattr(interval, name))]
    if beyond:
        raise ValueError(
            f"curve must hold the window's {' and '.join(beyond)} to write it to a file, also of a partial decision; "
            f"its noise levels sigma/alpha end at {curve.sigma.min():.3g} and {curve.sigma.max():.3g}, and "
            f"{interval.decided:.2%} of H[Z] is decided between them"
        )


def _decided_share(curve: EntropyCurve, order: np.ndarray) -> dict[str, float]:
    """The fields of `Window` about the share that the curve covers; `order` sorts its points by rising noise."""
    ends, errors = curve.entropy[order[[0, -1]]], curve.entropy_stderr[order[[0, -1]]]
    return {
        "decided": float((ends[1] - ends[0]) / curve.prior_entropy),
        "decided_stderr": float(np.hypot(*errors) / curve.prior_entropy),
        "entropy_low": float(ends[0]),
        "entropy_low_stderr": float(errors[0]),
        "entropy_high": float(ends[1]),
        "entropy_high_stderr": float(errors[1]),
    }


_WAY_OUT = "pass `allow_partial` to compute a window all the same"


def contradicts_itself(curve: EntropyCurve) -> bool:
    """Whether an entropy is outside [0, H[Z]] by more than its error, as the estimate of a poor network may be."""
    return bool(_outside(curve).max() > 0)


def _outside(curve: EntropyCurve) -> Float[np.ndarray, " T"]:
    """By how much entropies are outside [0, H[Z]] beyond their errors; negative inside."""
    prior = curve.prior_entropy
    errors = np.nan_to_num(curve.entropy_stderr, nan=_UNKNOWN * prior / _STDERRS)
    allowed = _STDERRS * errors + _ROUNDING * prior
    return np.maximum(-curve.entropy, curve.entropy - prior) - allowed


def _check_range(curve: EntropyCurve) -> None:
    """Raise ValueError where an entropy is outside [0, H[Z]] by more than its error."""
    prior, outside = curve.prior_entropy, _outside(curve)
    worst = int(np.argmax(outside))
    if outside[worst] > 0:
        raise ValueError(
            f"curve must lie in 0..H[Z] = {prior:.4g} {curve.units}, got {curve.entropy[worst]:.4g} ± "
            f"{_shown(curve.entropy_stderr[worst])} at sigma/alpha = {curve.sigma[worst]:.3g}: the estimate "
            "contradicts itself, which a poor or wrongly wrapped network (neural.check_denoiser) or too few samples "
            f"cause; {_WAY_OUT}"
        )


def _shown(error: float) -> str:
    return f"{error:.2g}" if np.isfinite(error) else "?"


def _check_decided(curve: EntropyCurve, decided: float) -> None:
    """Raise ValueError where too small a share of H[Z] is decided along the curve."""
    if decided < LEAST_DECIDED:
        raise ValueError(
            f"curve must decide at least {LEAST_DECIDED:.0%} of H[Z] = {curve.prior_entropy:.4g} {curve.units}, got "
            f"{decided:.2%}: its smallest entropy is {curve.entropy.min():.4g}; the classes overlap, the network does "
            f"not separate them, or the curve ends too early; {_WAY_OUT}"
        )


def _places(
    noise: np.ndarray, entropy: np.ndarray, slope: np.ndarray, prior: float, share: float
) -> Float[np.ndarray, " 3"]:
    """log(σ/α) at which the low, middle and high part of the information is gained; NaN beyond the points."""
    tail = 0.5 * (1 - share)
    levels = entropy[0] + np.array([tail, 0.5, 1 - tail]) * (prior - entropy[0])
    spline = CubicHermiteSpline(noise, entropy, np.maximum(slope, 0))
    return np.array([_crossing(spline, noise, entropy, level) for level in levels])


def _errors(
    noise: np.ndarray, entropy: np.ndarray, slope: np.ndarray, stderr: np.ndarray, prior: float, share: float
) -> Float[np.ndarray, " 3"]:
    """Standard errors of `_places`: their changes when the curve is moved up or down by its own errors.

    Where the curve is bent the two changes differ, and the larger is used. An error is NaN where a moved curve does
    not reach the place, or where the errors of the points beside it are unknown. Leaving out every second point
    changes a place by about fifteen times the error of a cubic through all points.
    """
    places = _places(noise, entropy, slope, prior, share)
    shift = np.nan_to_num(stderr)
    moved = [
        _places(noise, np.maximum.accumulate(entropy + sign * shift), slope, prior, share) - places
        for sign in (-1, 1)
    ]
    halves = (np.union1d([0, len(noise) - 1], np.arange(first, len(noise), 2)) for first in (0, 1))
    thinned = [_places(noise[half], entropy[half], slope[half], prior, share) - places for half in halves]
    known = np.where(np.isfinite(np.interp(places, noise, stderr)), 1.0, np.nan)
    return known * np.hypot(np.abs(moved).max(axis=0), np.abs(thinned).max(axis=0) / 15)


def crossing(curve: EntropyCurve, level: float) -> float:
    """log(σ/α) at which a curve's entropy is `level`; NaN where it is beyond the curve's points.

    Args:
        curve: an entropy curve of two points or more, in any order.
        level: entropy in the curve's units.
    """
    noise, entropy, slope = _rising(curve)
    right = int(np.clip(np.searchsorted(entropy, level), 1, len(noise) - 1))
    noise, entropy, slope = (values[right - 1 : right + 1] for values in (noise, entropy, slope))
    return _crossing(CubicHermiteSpline(noise, entropy, np.maximum(slope, 0)), noise, entropy, level)


def cumulative(curve: EntropyCurve, noise: np.ndarray) -> np.ndarray:
    """Entropy at log(σ/α), by the cubic through the curve's entropies and rates, rising; flat beyond its points."""
    at, entropy, slope = _rising(curve)
    spline = CubicHermiteSpline(at, entropy, np.maximum(slope, 0))
    return np.maximum.accumulate(spline(np.clip(noise, at[0], at[-1])))


def _rising(curve: EntropyCurve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log(σ/α) from little to much noise, the entropy there, and its slope.

    Sampling noise may let a flat end sink a little; the information gained never shrinks.
    """
    order = np.argsort(-curve.log_snr)
    rate = curve.rate_per_log_noise()[0][order]
    return -0.5 * curve.log_snr[order], np.maximum.accumulate(curve.entropy[order]), rate


def check_coverage(curve: EntropyCurve, share: float) -> None:
    """Raise ValueError where the curve does not reach far enough to hold the ends of the window of `share`."""
    noise, entropy, slope = _rising(curve)
    tail = 0.5 * (1 - share) * (curve.prior_entropy - entropy[0])
    missing_high = curve.prior_entropy - entropy[-1]
    # Towards data the remaining information is unknown; a falling curve bounds it by its last slope
    # (information decays at least as fast as e^{-log-noise}).
    missing_low = slope[0]
    largest = np.nan_to_num(curve.entropy_stderr).max()
    at_most_noise = np.nan_to_num(curve.entropy_stderr[np.argmin(curve.log_snr)], nan=largest)
    for missing, error, end, direction in (
        (missing_high, at_most_noise, noise[-1], "more noise"),
        (missing_low, largest, noise[0], "less noise"),
    ):
        if missing > _COVERAGE * tail + 3 * error:
            raise ValueError(
                f"curve must cover the decision: beyond log(sigma/alpha) = {end:.3g} it still gains about "
                f"{missing:.2g} {curve.units}; add times with {direction}, or pass `allow_partial`"
            )


def _crossing(spline: CubicHermiteSpline, noise: np.ndarray, entropy: np.ndarray, level: float) -> float:
    """Where the curve crosses `level`, on the cubic of the one interval that holds it; NaN beyond the points."""
    if not entropy[0] <= level <= entropy[-1]:
        return float("nan")
    right = int(np.clip(np.searchsorted(entropy, level), 1, len(noise) - 1))
    roots = spline.solve(level, extrapolate=False)
    inside = roots[(roots >= noise[right - 1]) & (roots <= noise[right])]
    if len(inside):
        return float(inside[0])
    return float(np.interp(level, entropy[right - 1 : right + 1], noise[right - 1 : right + 1]))
