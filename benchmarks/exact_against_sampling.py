"""What does a curve cost by line integrals and by sampling, and how large is its error?

Random classes with covariances of their own, at noise levels from open to nearly decided. The error of the exact
routes is the bound that they state, relative to the entropy; the error of sampling is its standard error in nats at the
number of points that is given. The time to reach 1e-3 follows from two sizes, since the error falls as 1/√n: it is
extrapolated, in many dimensions from few points. Both run in turn, in one process.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

import gmm
import theory
from benchmarks.harness import CLOCKS, Clock, in_turn, show

PROCESS = gmm.vp()
TIMES = np.array([0.3, 0.8, 1.6])
WANTED = 1e-3
REPEATS = 3
FEW = (2**3, 2**5)  # points of 10^6 coordinates


class Case(NamedTuple):
    """A row: its name, the classes, the tolerance of the cluster expansion, and two numbers of points to sample."""

    name: str
    mixture: gmm.Mixture
    tolerance: float = 1e-9
    sizes: tuple[int, int] = (2**10, 2**12)


def run(clock: str = "wall") -> None:
    """Print the table, by wall or by processor time."""
    with jax.enable_x64(True):
        show(
            f"random classes, three noise levels, {clock} time; exact: bound of the error relative to the entropy",
            (
                "classes",
                "route",
                "exact: error",
                "exact: ms a time",
                "points",
                "sampled: error",
                "sampled: ms a time",
                f"sampled to {WANTED:g}: ms a time",
                "sampled / exact",
            ),
            [_row(case, CLOCKS[clock]) for case in cases()],
        )


def cases() -> list[Case]:
    """The rows of the table, from cheap to expensive."""
    return [
        Case("2, isotropic, d = 10^6", random_classes(2, 10**6, "isotropic"), sizes=FEW),
        Case("2, diagonal, d = 64", random_classes(2, 64, "diagonal")),
        Case("2, diagonal, d = 10^6", random_classes(2, 10**6, "diagonal"), sizes=FEW),
        Case("2, rank 8 + isotropic, d = 10^4", random_classes(2, 10**4, "low rank")),
        Case("2, full, d = 784", random_classes(2, 784, "full")),
        Case("3, diagonal, d = 64", random_classes(3, 64, "diagonal")),
        Case("3, full, d = 8", random_classes(3, 8, "full")),
        Case("4, diagonal, d = 64", random_classes(4, 64, "diagonal"), 1e-6),
        Case("4, diagonal, d = 64", random_classes(4, 64, "diagonal"), 1e-9),
    ]


def random_classes(classes: int, dim: int, kind: str) -> gmm.Mixture:
    """Classes that are half decided at times of order one: means and covariances differ by as much as that takes."""
    rng = np.random.default_rng(dim + classes)
    means = rng.normal(size=(classes, dim)) * 2 / np.sqrt(dim)
    spread = 1 + np.minimum(0.5, 4 / np.sqrt(dim)) * rng.uniform(-1, 1, size=(classes, dim))
    covariance: Callable[[], gmm.Covariance] = {
        "isotropic": lambda: gmm.Isotropic(1 + 2 / np.sqrt(dim) * np.arange(classes)),
        "diagonal": lambda: gmm.Diagonal(spread),
        "low rank": lambda: gmm.LowRank(
            rng.normal(size=(classes, dim, 8)) / np.sqrt(dim), np.full(classes, 1.0)
        ),
        "full": lambda: gmm.Full(_full(rng, spread)),
    }[kind]
    return gmm.Mixture(np.full(classes, 1 / classes), means, covariance())


def _full(rng: np.random.Generator, spread: np.ndarray) -> np.ndarray:
    """(K, d, d) covariances with the given variances along axes of their own."""
    turns = [np.linalg.qr(rng.normal(size=(spread.shape[1],) * 2))[0] for _ in spread]
    return np.stack([(turn * var) @ turn.T for turn, var in zip(turns, spread, strict=True)])


def _seconds_of_sampling(sizes: tuple[int, int], seconds: tuple[float, float], stderr: float) -> float:
    """Seconds to the wanted error, from two sizes and the standard error at the larger one."""
    needed = sizes[1] * (stderr / WANTED) ** 2
    return max(
        seconds[0] + (seconds[1] - seconds[0]) / (sizes[1] - sizes[0]) * (needed - sizes[0]), seconds[0]
    )


def _row(case: Case, clock: Clock) -> tuple[str, ...]:
    def exact() -> gmm.EntropyCurve:
        return theory.exact_curve(case.mixture, PROCESS, TIMES, tolerance=case.tolerance)

    def sampled(samples: int) -> gmm.EntropyCurve:
        options = {"key": jax.random.key(0), "samples": samples, "exact": False}
        return gmm.class_entropy(case.mixture, PROCESS, TIMES, **options)

    calls: dict[str, Callable[[], object]] = {"exact": exact}
    calls |= {str(size): lambda size=size: sampled(size) for size in case.sizes}
    spent = {name: float(np.median(values)) for name, values in in_turn(calls, REPEATS, clock).items()}
    curve, stderr = exact(), float(np.nanmax(sampled(case.sizes[1]).entropy_stderr))
    few, many = (spent[str(size)] for size in case.sizes)
    needed = _seconds_of_sampling(case.sizes, (few, many), stderr)
    per_time = 1e3 / len(TIMES)
    return (
        case.name,
        str(curve.metadata["route"]),
        f"{curve.metadata['relative_error']:.0e}",
        f"{per_time * spent['exact']:.3g}",
        str(case.sizes[1]),
        f"{stderr:.1g}",
        f"{per_time * many:.3g}",
        f"{per_time * needed:.3g}",
        f"{needed / spent['exact']:.3g}",
    )


def main(arguments: list[str]) -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks exact_against_sampling", description=__doc__)
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="cpu: on a busy machine")
    run(parser.parse_args(arguments).clock)
