"""Estimate: a sampled number with its uncertainty; Bounded: a computed one with a bound of its error."""

from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A Monte-Carlo estimate.

    Attributes:
        value: the estimate, of any shape.
        stderr: its standard error, same shape.
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
