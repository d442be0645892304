"""When enough paths were computed for a stated precision: they are added in groups that double.

There are few groups, so that stopping at the first whose error is small enough hardly favours errors that are small by
chance; `python -m benchmarks evaluations_to_answer` measures the coverage.
"""

import math

import numpy as np

from gmm.curve import EntropyCurve
from gmm.landmarks import half_entropy
from gmm.windows import window


def landmark_errors(curve: EntropyCurve, share: float) -> float:
    """The largest standard error in log(σ/α) of half entropy and the window's ends; infinite where unknown."""
    found = window(curve, share, allow_partial=True)
    return _largest(float(half_entropy(curve).stderr), found.low_stderr, found.high_stderr)


def has_landmarks(curve: EntropyCurve, share: float) -> bool:
    """Whether the curve passes half entropy and both ends of the window."""
    found = window(curve, share, allow_partial=True)
    return bool(np.isfinite([float(half_entropy(curve).value), found.low, found.high]).all())


def half_error(curve: EntropyCurve) -> float:
    """The standard error in log(σ/α) of half entropy; infinite where unknown."""
    return _largest(float(half_entropy(curve).stderr))


def _largest(*errors: float) -> float:
    return max(error if math.isfinite(error) else math.inf for error in errors)


def next_total(total: int, first: int, most: int, precision: float | None) -> int:
    """How many paths there are after the next group: `first`, then twice as many; all of `most` without a precision."""
    return most if precision is None else min(most, max(first, 2 * total))


def expected_total(total: int, most: int, error: float, precision: float | None) -> int:
    """How many paths the precision takes if errors fall with the root of their number; `most` where that is unknown."""
    if precision is None or not math.isfinite(error):
        return most
    wanted = total * (error / precision) ** 2
    return int(min(most, max(2 * total, math.ceil(min(wanted, most)))))
