"""Grids of noise levels of samplers, and the step at which a noise level is reached.

Index 0 is the first evaluation, at the most noise. An index between two whole numbers stands for a level between two
evaluations, by interpolation in log(σ/α).
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import ArrayLike, Float

from gmm.checks import check_count, choose
from gmm.clock import noise_at, times_at
from gmm.dynamics import time_grid
from gmm.process import Process

SPACINGS = ("edm", "log-snr", "time")
Spacing = Literal["edm", "log-snr", "time"]


@dataclasses.dataclass(frozen=True)
class Grid:
    """How a sampler places its noise levels, for any number of steps.

    Attributes:
        spacing: "edm" (equal steps in (σ/α)^{1/7}; Karras et al. 2022, eq. 5), "log-snr" (equal steps in log
            SNR) or "time" (equal steps in the process's own time).
        steps: default number of evaluations.
        sigma_min, sigma_max: range of levels σ/α, cut to the range of the process.
    """

    spacing: Spacing = "edm"
    steps: int = 32
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def times(self, process: Process, steps: int | None = None) -> Float[np.ndarray, " steps"]:
        """Falling times of the evaluations, without the last step to zero noise.

        Raises:
            ValueError: on fewer than two steps or an unknown spacing.
        """
        choose("spacing", self.spacing, SPACINGS)
        steps = self.steps if steps is None else steps
        check_count("steps", steps, 2)
        ends = times_at(process, np.log([self.sigma_max, self.sigma_min]))
        start, stop = np.clip(ends, process.t_min, process.t_max)
        if self.spacing == "time":
            return np.linspace(start, stop, steps)
        return time_grid(process, float(start), float(stop), steps - 1, self.spacing)

    def index(
        self, process: Process, log_snr: Float[ArrayLike, "..."], steps: int | None = None
    ) -> Float[np.ndarray, "..."]:
        """The fractional step index at which a sampler reaches a noise level; NaN outside the grid."""
        times = self.times(process, steps)
        levels = noise_at(process, times)
        wanted = -0.5 * np.asarray(log_snr, np.float64)
        places = np.interp(wanted, levels[::-1], np.arange(len(times), dtype=float)[::-1])
        outside = (wanted > levels[0]) | (wanted < levels[-1])
        return np.where(outside, np.nan, places)
