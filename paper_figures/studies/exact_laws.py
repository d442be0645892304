"""Laws that stand for data: which of their curves need no sampling, and what is read off these curves."""

import math
from collections.abc import Callable, Sequence

import numpy as np

import gmm
import theory
from gmm.clock import times_at
from gmm.curve import EntropyCurve
from gmm.process import Process
from paper_figures.studies.sampled_times import Time
from theory.landmarks import CurveAt, remembered

# Bound of a cluster expansion's error relative to the entropy; the error itself is far below it.
TOLERANCE = 1e-4
# Places on a curve of so many times this tolerance are off by more: how far they lie is the stated error.
COARSER = 10.0


def is_exact(mixture: gmm.Mixture, partition: gmm.Partition) -> bool:
    """Whether `exact_law_curve` takes seconds: there is a route, without an eigendecomposition at every node."""
    route = theory.exact_route(mixture, partition)
    return route is not None and (route != "cluster" or mixture.covariance.shared)


def exact_law_curve(
    mixture: gmm.Mixture, process: gmm.Process, times: np.ndarray, partition: gmm.Partition
) -> EntropyCurve:
    """The curve of a decision without sampling; metadata["route"] says how."""
    return theory.exact_curve(mixture, process, times, partition=partition, tolerance=TOLERANCE)


def exact_law(
    mixture: gmm.Mixture, process: Process, partition: gmm.Partition | None = None
) -> tuple[CurveAt, CurveAt | None]:
    """The exact curve at any times, and a coarser one of it where the route is computed to a tolerance, else None."""

    def curve_to(tolerance: float) -> CurveAt:
        options = {"partition": partition, "tolerance": tolerance}
        return remembered(lambda times: theory.exact_curve(mixture, process, times, **options))

    is_approximate = theory.exact_route(mixture, partition) == "cluster"
    return curve_to(TOLERANCE), curve_to(COARSER * TOLERANCE) if is_approximate else None


def exact_times(
    places: Sequence[Callable[[CurveAt], float]],
    process: Process,
    exact: CurveAt,
    coarse: CurveAt | None = None,
) -> list[Time]:
    """Times of places on an exact curve, with their numerical errors.

    Args:
        places: each returns log(σ/α) of a place on a curve, NaN where there is none.
        process: the curve's process.
        exact: the curve at any times.
        coarse: the same to a larger tolerance: the error is the distance of the two. None for errors of zero.
    """
    curves = [exact] if coarse is None else [exact, coarse]
    found = np.array([times_at(process, np.array([place(curve) for place in places])) for curve in curves])
    errors = np.abs(found[-1] - found[0])
    return [
        Time(float(time), float(error) if math.isfinite(time) else math.nan)
        for time, error in zip(found[0], errors, strict=True)
    ]
