"""How does the cost of a curve grow with d and K?

One noise level, 1,024 samples, float32: the reduced problem against the full one, in turn. The reduced cost must
not depend on d; the full cost grows with d. Both grow with K.
"""

import jax
import numpy as np

import gmm
from benchmarks.harness import in_turn, show

SIZES = ((2, 10**3), (2, 10**4), (2, 10**9), (100, 10**3), (100, 10**4), (100, 10**9), (1000, 10**4))
LARGEST_FULL = 10**4


def run() -> None:
    """Print the table."""
    process, rows = gmm.vp(), []
    for classes, dim in SIZES:
        time = np.array([0.5 * np.log(dim) - 0.5 * np.log(2 * np.log(classes))])

        def cost(mixture: gmm.Mixture, time: np.ndarray = time) -> float:
            call = lambda: gmm.class_entropy(mixture, process, time, key=jax.random.key(0), samples=1024)
            return float(np.median(in_turn({"": call}, repeats=5)[""]))

        reduced = cost(gmm.families.simplex(classes, dim, reduced=True))
        full = cost(gmm.families.simplex(classes, dim)) if dim <= LARGEST_FULL else float("nan")
        rows.append((f"{classes}", f"{dim:.0e}", f"{reduced:.3f}", f"{full:.3f}", f"{full / reduced:.1f}"))
    columns = ("K", "d", "reduced, seconds", "full, seconds", "full / reduced")
    show("class_entropy at one noise level", columns, rows)
