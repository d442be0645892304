"""Entropies of any two, three or four Gaussian classes, and the exact curve of a mixture by the best route.

Two classes with any covariances and priors are one line integral (`gmm.chernoff`), three and four the cluster
expansion (`gmm.cluster`). Isotropic classes with structured means need neither, and may be many: `theory.families`
recognises them. Derivations are in ``docs/explanation/theory.md``; the cost of each route is in
``docs/explanation/accuracy.md``.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import ArrayLike, Float

from gmm.chernoff import bayes_error
from gmm.clock import Schedule, schedule
from gmm.curve import EntropyCurve
from gmm.estimate import Bounded
from gmm.exact import (
    LARGEST_CLUSTER,
    TOLERANCE,
    ExactValues,
    Members,
    exact_values,
    line_integral_curve,
    members,
    over_levels,
)
from gmm.mixture import Mixture
from gmm.pair_basis import pair_basis
from gmm.partition import Partition, partition_of, trivial_partition
from gmm.process import Process
from theory.structured import Structure, structure_of

Times = Float[ArrayLike, " T"]


def pair_entropy(mixture: Mixture, process: Process, times: Times) -> Bounded:
    """H[Z|X_t] of two Gaussian classes of any covariances, in nats, without sampling.

    Relative error below 1e-12 where the covariances are well conditioned, down to 1e-300; the bound that comes
    with it includes the rounding of ill-conditioned ones. O(d) a time for isotropic, diagonal and shared
    covariances, O(r³) for rank r plus isotropic after O(d r²) once, O(d³) for full ones.

    Args:
        mixture: two components; a component of weight zero makes every entropy zero.
        process: forward process.
        times: (T,) times where log_snr is finite.

    Returns:
        value and error, (T,) each.

    Raises:
        ValueError: when there are not two components, or a time is outside the process's range.
    """
    values, errors, _ = _pair(mixture, process, times)
    return Bounded(values.entropy, errors.entropy)


def pair_entropy_rate(mixture: Mixture, process: Process, times: Times) -> Bounded:
    """dH/dt of `pair_entropy`, by the derivative under the integral; arguments and errors as there."""
    values, errors, grid = _pair(mixture, process, times)
    return Bounded(-values.rate * grid.log_snr_slope, -errors.rate * grid.log_snr_slope)


def pair_clone_agreement(mixture: Mixture, process: Process, times: Times) -> Bounded:
    """E Σ_z p(z|X_t)² of two classes, the probability that two posterior draws agree; arguments as `pair_entropy`."""
    values, errors, _ = _pair(mixture, process, times)
    return Bounded(1 - values.disagreement, errors.disagreement)


def pair_class_entropies(mixture: Mixture, process: Process, times: Times) -> Bounded:
    """(T, 2) E[-log p(z|X_t) | Z = z] of each of two classes; arguments as `pair_entropy`."""
    values, errors, _ = _pair(mixture, process, times)
    return Bounded(values.per_cell, errors.per_cell)


def pair_bayes_error(mixture: Mixture, process: Process, times: Times) -> Bounded:
    """(T,) probability that the likelier of two classes is the wrong one; arguments as `pair_entropy`.

    The integrand falls only as 1/u² times the Chernoff coefficient: where two classes in few dimensions nearly
    coincide, the error is up to 1e-5, and stated.
    """
    _check_pair(mixture)
    basis, log_prior = pair_basis(mixture), np.asarray(mixture.log_weights, np.float64)
    grid = schedule(process, times)
    rows = over_levels(
        lambda alpha, sigma: bayes_error(basis, alpha, sigma, log_prior), grid.alpha, grid.sigma
    )
    return Bounded(*np.array(rows).T)


def _pair(mixture: Mixture, process: Process, times: Times) -> tuple[ExactValues, ExactValues, Schedule]:
    _check_pair(mixture)
    grid = schedule(process, times)
    decision = members(mixture, trivial_partition(2))
    return *exact_values(decision, grid.alpha, grid.sigma), grid


def _check_pair(mixture: Mixture) -> None:
    if mixture.components != 2:
        raise ValueError(
            f"mixture must have two components, got {mixture.components}; theory.exact_curve takes up to "
            f"{LARGEST_CLUSTER}, and a partition"
        )


def cluster_entropy(
    mixture: Mixture,
    process: Process,
    times: Times,
    partition: Partition | None = None,
    *,
    tolerance: float = TOLERANCE,
    progress: Callable[[int, int], None] | None = None,
) -> Bounded:
    """H[cell|X_t] of a decision between at most four Gaussian components of any covariances, in nats.

    Args:
        mixture: the law of x_0; at most four components of positive weight inside the partition.
        process: forward process.
        times: (T,) times where log_snr is finite.
        partition: the decision; None makes every component a class.
        tolerance: error beside the entropy; four components cost about ten times as much at 1e-9 as at 1e-6.
        progress: called with (times done, times in all).

    Returns:
        value and error, (T,) each.

    Raises:
        ValueError: when more than four components take part, naming `gmm.class_entropy`; when the partition does
            not fit the mixture; or when a time is outside the process's range.
    """
    _check_tolerance(tolerance)
    decision = members(mixture, partition_of(mixture.components, partition, least=2))
    grid = schedule(process, times)
    values, errors = exact_values(decision, grid.alpha, grid.sigma, tolerance=tolerance, progress=progress)
    return Bounded(values.entropy, errors.entropy)


def exact_curve(
    mixture: Mixture,
    process: Process,
    times: Times,
    *,
    partition: Partition | None = None,
    tolerance: float = TOLERANCE,
    progress: Callable[[int, int], None] | None = None,
) -> EntropyCurve:
    """The curve of a decision without sampling, by the best route; its metadata["route"] says which.

    - "pair": two components of any covariances and priors
    - "orthogonal": any number of classes with one isotropic variance and orthogonal means, any priors and energies
    - "simplex": the same with equidistant means
    - "tree": equally likely classes with one isotropic variance, means in a regular tree; one of its levels
    - "cluster": three or four components of any covariances and priors, any partition

    Args:
        mixture: the law of x_0.
        process: forward process.
        times: (T,) times in any order, where log_snr is finite.
        partition: the decision; None makes every component a class. Components outside a restricted partition
            are left out.
        tolerance: error beside the entropy of the route "cluster".
        progress: called with (times done, times in all) where it takes long.

    Returns:
        The curve; its standard errors are zero. What a route does not give is NaN (see `EntropyCurve`).

    Raises:
        ValueError: when there is no exact route, naming `gmm.class_entropy`; or as `gmm.class_entropy`.
    """
    _check_tolerance(tolerance)
    decision, structure = _structured(mixture, partition)
    if structure is not None:
        curve = structure.curve(process, times)
        return dataclasses.replace(curve, metadata=dict(curve.metadata) | {"route": structure.route})
    return line_integral_curve(
        decision, process, schedule(process, times), tolerance=tolerance, progress=progress
    )


def exact_route(mixture: Mixture, partition: Partition | None = None) -> str | None:
    """The route of `exact_curve` for a decision, named as there, or None where there is none.

    A route may take minutes: three and four components with full covariances need an eigendecomposition at every node.

    Raises:
        ValueError: when the partition does not fit the mixture.
    """
    decision, structure = _structured(mixture, partition)
    if structure is not None:
        return structure.route
    if decision.mixture.components > LARGEST_CLUSTER:
        return None
    return "pair" if decision.mixture.components == 2 else "cluster"


def _structured(mixture: Mixture, partition: Partition | None) -> tuple[Members, Structure | None]:
    decision = members(mixture, partition_of(mixture.components, partition, least=2))
    return decision, structure_of(decision) if decision.mixture.components > 2 else None


def _check_tolerance(tolerance: float) -> None:
    if not 1e-13 <= tolerance < 1:
        raise ValueError(f"tolerance must be in [1e-13, 1), got {tolerance}")
