"""The window of a decision known in closed form; that of a measured curve is `gmm.window`."""

import math

import numpy as np
from scipy.optimize import brentq

from gmm.windows import Window
from theory.speciation import Problem


def window_of(problem: Problem, share: float = 0.8) -> Window:
    """The window of a family, from the closed form alone: standard errors are zero.

    Args:
        problem: the decision. The process gives the times, NaN where it does not visit a noise level; the
        noise
            levels are those of every process.
        share: in (0, 1).

    Raises:
        ValueError: when share is out of range.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), got {share}")
    largest = 4 * (750 + math.log(problem.classes))  # everything is decided in float64
    clean = min(problem.energy / problem.variance, largest) if problem.variance > 0 else largest
    floor = float(problem.entropy(clean))
    tail = 0.5 * (1 - share)

    def place(information: float) -> float:
        level = floor + information * (math.log(problem.classes) - floor)
        excess = lambda x: float(problem.entropy(math.exp(x))) - level
        log_rho = float(brentq(excess, math.log(clean) - 40, math.log(clean), xtol=1e-13))  # type: ignore[arg-type]
        return -0.5 * problem.log_snr_at(math.exp(log_rho))

    places = np.array([place(information) for information in (tail, 0.5, 1 - tail)])
    exact = (0.0, 0.0, 0.0)
    times = problem.times(-2 * places)
    return Window(share, *places, *exact, *times)  # type: ignore[arg-type, call-arg]
