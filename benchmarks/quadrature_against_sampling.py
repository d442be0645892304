"""What does an equal error cost by quadrature and by sampling?

Ten orthogonal classes at the noise level of half entropy. Sampling's error is its own standard error, measured at
two sizes and extrapolated as 1/√n to the target error; its cost grows with n. Quadrature has one cost, and an
error estimate near rounding.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np

import gmm
import theory
from benchmarks.harness import in_turn, show

CLASSES, ENERGY = 10, 100.0
SIZES = (2**12, 2**16)
ERRORS = (1e-2, 1e-3, 1e-4, 1e-12)


def run() -> None:
    """Print the table."""
    process = gmm.edm()
    t = theory.speciation_time(
        process, ENERGY, classes=CLASSES, family="orthogonal", criterion="half-entropy"
    )
    mixture = gmm.reduce(gmm.families.from_gram(ENERGY * np.eye(CLASSES)))
    rho = ENERGY / (1 + t**2)

    def sampled(samples: int) -> gmm.EntropyCurve:
        return gmm.class_entropy(mixture, process, np.array([t]), key=jax.random.key(0), samples=samples)

    calls: dict[str, Callable[[], object]] = {str(size): functools.partial(sampled, size) for size in SIZES}
    calls["quadrature"] = functools.partial(theory.orthogonal_entropy, CLASSES, rho)
    times = {name: float(np.median(values)) for name, values in in_turn(calls).items()}
    error = float(theory.quadrature_error(theory.orthogonal_entropy, CLASSES, rho))
    stderr = float(sampled(SIZES[-1]).entropy_stderr[0])
    per_sample = (times[str(SIZES[1])] - times[str(SIZES[0])]) / (SIZES[1] - SIZES[0])
    rows = []
    for wanted in ERRORS:
        needed = SIZES[-1] * (stderr / wanted) ** 2
        seconds = times[str(SIZES[0])] + per_sample * max(needed - SIZES[0], 0)
        rows.append(
            (f"{wanted:.0e}", f"{needed:.1e}", f"{seconds:.3g}", f"{seconds / times['quadrature']:.3g}")
        )
    columns = ("error, nat", "samples needed", "seconds by sampling", "times quadrature")
    show(f"one noise level; quadrature {times['quadrature']:.2g} s, error {error:.0e} nat", columns, rows)
