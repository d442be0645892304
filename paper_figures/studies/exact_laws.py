"""Laws that stand for data: which of their curves need no sampling."""

import numpy as np

import gmm
import theory
from gmm.curve import EntropyCurve

# Bound of a cluster expansion's error relative to the entropy. Errors are about 1e-7 then, and places move by as much.
TOLERANCE = 1e-4


def is_exact(mixture: gmm.Mixture, partition: gmm.Partition) -> bool:
    """Whether `exact_law_curve` takes seconds: there is a route, without an eigendecomposition at every node."""
    route = theory.exact_route(mixture, partition)
    return route is not None and (route != "cluster" or mixture.covariance.shared)


def exact_law_curve(
    mixture: gmm.Mixture, process: gmm.Process, times: np.ndarray, partition: gmm.Partition
) -> EntropyCurve:
    """The curve of a decision without sampling; metadata["route"] says how."""
    return theory.exact_curve(mixture, process, times, partition=partition, tolerance=TOLERANCE)
