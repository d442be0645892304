"""What does a whole exact curve cost: two classes of 10^6 dimensions or with full covariances, and four classes?

Every curve is computed once: seconds on the clock, seconds of all processors together, which a busy machine changes
less, and how much the peak memory grew. The curve of 10^6 dimensions comes first, so that this is its own.
"""

import time
from typing import NamedTuple

import jax
import numpy as np

import gmm
import theory
from benchmarks.exact_against_sampling import random_classes
from benchmarks.harness import peak_memory, seconds, show


class Case(NamedTuple):
    """A row: its name, the classes, the number of times, and the tolerance of the cluster expansion."""

    name: str
    mixture: gmm.Mixture
    times: int
    tolerance: float = 1e-9


def run() -> None:
    """Print the table."""
    with jax.enable_x64(True):
        columns = ("classes", "times", "bound of the error", "seconds", "processor seconds", "MiB")
        show("whole exact curves", columns, [_row(case) for case in cases()])


def cases() -> list[Case]:
    """The rows of the table."""
    four = random_classes(4, 64, "diagonal")
    return [
        Case("2, diagonal, d = 10^6", random_classes(2, 10**6, "diagonal"), 200),
        Case("2, full, d = 784", random_classes(2, 784, "full"), 200),
        Case("4, diagonal, d = 64", four, 100, 1e-6),
        Case("4, diagonal, d = 64", four, 100, 1e-9),
    ]


def _row(case: Case) -> tuple[str, ...]:
    times, curves = np.geomspace(0.05, 3.0, case.times), []

    def call() -> None:
        curves.append(theory.exact_curve(case.mixture, gmm.vp(), times, tolerance=case.tolerance))

    before, processor = peak_memory(), time.process_time()
    spent = seconds(call)
    processor = time.process_time() - processor
    grown = (peak_memory() - before) / 2**20
    error = curves[0].metadata["relative_error"]
    return (case.name, f"{case.times}", f"{error:.0e}", f"{spent:.3g}", f"{processor:.3g}", f"{grown:.3g}")
