"""Estimate: a sampled number with its uncertainty."""

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
