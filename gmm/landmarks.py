"""Where a curve decides: places in log(σ/α), the axis that no clock changes."""

import numpy as np
from jaxtyping import Float

from gmm.curve import EntropyCurve
from gmm.windows import crossing, window

LANDMARKS = ("half", "peak", "low", "median", "high")
"""Half the prior entropy; the fastest decision in log noise; the window's ends and the middle of its information."""

# The top of a rate is read off the parabola through the points around it whose rate is above this share of it:
# the maximum of sampled points would follow their noise.
_TOP_SHARE = 0.8


def landmarks(curve: EntropyCurve, share: float = 0.8) -> Float[np.ndarray, " 5"]:
    """log(σ/α) at the `LANDMARKS` of a curve; NaN at those that its noise range does not hold."""
    try:
        found = window(curve, share)
        ends = [found.low, found.median, found.high]
    except ValueError:
        ends = [np.nan, np.nan, np.nan]
    return np.array([half_entropy(curve), fastest(curve), *ends])


def half_entropy(curve: EntropyCurve) -> float:
    """log(σ/α) where H = ½ H[Z], or NaN."""
    return crossing(curve, 0.5 * curve.prior_entropy)


def fastest(curve: EntropyCurve) -> float:
    """log(σ/α) of the largest dH/d log(σ/α), or NaN where that is at an end of the curve."""
    order = np.argsort(-curve.log_snr)
    noise = -0.5 * curve.log_snr[order]
    rate = curve.rate_per_log_noise()[0][order]
    if not np.isfinite(rate).all():
        return float("nan")
    top = int(np.argmax(rate))
    high = rate >= _TOP_SHARE * rate[top]
    left, right = top, top
    while left > 0 and high[left - 1]:
        left -= 1
    while right < len(rate) - 1 and high[right + 1]:
        right += 1
    if left == 0 or right == len(rate) - 1:
        return float("nan")
    left, right = min(left, top - 1), max(right, top + 1)
    near = slice(left, right + 1)
    bend, slope, _ = np.polyfit(noise[near] - noise[top], rate[near], 2)
    place = noise[top] - 0.5 * slope / bend if bend < 0 else noise[top]
    return float(np.clip(place, noise[left], noise[right]))
