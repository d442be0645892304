"""Numbers with their uncertainty: estimates with a standard error, and computed numbers with a bound."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# At least this many of the draws must carry an estimate for its standard error to be known. Of plain averages over
# mixtures that pass, |z| > 5 was not seen in 4000; of those carried by 4 to 8 draws, it was in a third.
CARRYING = 30
# For a class that fewer than this many draws were made for, the number is larger: most of what carries it was drawn for
# other classes, and what is only seen from its own side is missing.
FEWEST, UNAIMED = 16, 80
# Draws that agree to this relative error know their mean, however few they are.
AGREEMENT = 1e-3


class Estimate(NamedTuple):
    """A Monte-Carlo estimate.

    Attributes:
        value: the estimate, of any shape.
        stderr: its standard error, same shape; NaN where it cannot be estimated from the sample.
    """

    value: np.ndarray
    stderr: np.ndarray


class Bounded(NamedTuple):
    """A number computed without sampling.

    Attributes:
        value: the number, of any shape.
        error: a bound of its numerical error, same shape.
    """

    value: np.ndarray
    error: np.ndarray


def carrying(total: Float[np.ndarray, "..."], norm: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """How many draws y >= 0 carry their mean: (Σ y)²/Σ y² (Kish 1965), from total = Σ y and norm = √Σ y².

    The variance of a sample does not contain values that were not drawn. Where a few large values carry the mean, the
    largest are usually missing, and both the value and its standard error are too small; this number is then small.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, (total / norm) ** 2, 0.0)


def mean_of(values: Float[np.ndarray, "... n"], least: float = 0.0) -> Estimate:
    """Mean over the last axis of independent values >= 0; the error is NaN where few of them carry the mean.

    It is also NaN where their sum is below `least`: many small values do not rule out a few large ones.
    """
    mean, stderr = values.mean(axis=-1), values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])
    scale = np.abs(values).max(axis=-1, keepdims=True)
    unit = values / np.where(scale > 0, scale, 1.0)
    known = carrying(unit.sum(axis=-1), np.sqrt(np.sum(unit**2, axis=-1))) >= CARRYING
    known &= values.sum(axis=-1) >= least
    return Estimate(mean, np.where(known, stderr, np.nan))
