r"""H[Z|X_t] of a mixture and its rate, by sampling, with standard errors.

The estimator itself is in `gmm.posterior_sampling`; this module applies it along a process.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from scipy.special import entr

from gmm.bracket import affordable, completed
from gmm.checks import check_count
from gmm.clock import Schedule, Times, schedule
from gmm.curve import EntropyCurve, versions
from gmm.decision import MixtureDecision, decide
from gmm.estimate import Estimate
from gmm.exact import line_integral_curve, members
from gmm.keys import check_key, key_numbers
from gmm.mixture import Mixture
from gmm.partition import Partition, partition_of
from gmm.posterior_sampling import statistics, strata_of
from gmm.process import Process
from gmm.proposal import has_boundaries


def class_entropy(
    mixture: Mixture,
    process: Process,
    times: Times,
    *,
    partition: Partition | None = None,
    key: PRNGKeyArray,
    samples: int,
    boundary: bool = True,
    exact: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> EntropyCurve:
    """The curve of the posterior entropy H[Z|X_t] in nats and its rate dH/dt, with what else the same samples give.

    The mixture is sampled in its own coordinates; `reduce` it first where the covariance is shared, for the same law
    at the cost of K-1 dimensions. Squared standard errors are unbiased. A value that is carried by too few of the
    points may be too small, and its error is then NaN, for unknown. This happens for single cells of very many, and,
    without boundary points (one covariance for each component, very many components, or `boundary=False`), where the
    class is undecided with a probability below about thirty in `samples`. If each class has its own covariance, such
    points are computed instead, as the middles of certified brackets (`gmm.bracket`) with half the width as the
    error, which for three components is zero up to rounding. Two components with a covariance each are one line
    integral (`gmm.chernoff`), and are not sampled at all: standard errors are zero, and metadata["route"] is "pair".

    Args:
        mixture: law of x_0.
        process: forward process.
        times: (T,) times in any order, where log_snr is finite; the curve keeps their order.
        partition: the decision; None makes every component a class. Components outside a restricted
            partition are left out: sampling and posterior are conditioned on the rest.
        key: JAX random key; the same noise is used at all times.
        samples: points for each time, rounded up to whole strata (of 8 points, or 4 without boundary points).
        boundary: whether to place half of the points between the classes.
        exact: whether to compute instead of sampling where that takes seconds: pairs of components with a
            covariance each, and values of unknown error by brackets.
        progress: called with (times done, times in all).

    Returns:
        A curve with every field but cross_entropy; see `EntropyCurve`. The per_cell of a cell of probability
        zero is NaN.

    Raises:
        ValueError: on fewer than two cells, a partition of another size, times outside the range or
            samples < 1.
    """
    chosen = partition_of(mixture.components, partition, least=2)
    decision = decide(mixture, chosen).centred()
    check_key(key)
    check_count("samples", samples)
    grid = schedule(process, times)
    inside = members(mixture, chosen)
    if exact and inside.mixture.components == 2 and not mixture.covariance.shared and affordable(inside):
        return line_integral_curve(inside, process, grid, progress=progress)
    results = []
    for done, (alpha, sigma) in enumerate(zip(grid.alpha, grid.sigma, strict=True)):
        if progress is not None:
            progress(done, len(grid.t))
        results.append(statistics(decision, alpha, sigma, key, samples=samples, boundary=boundary))
    if progress is not None:
        progress(len(grid.t), len(grid.t))
    facts = _facts(decision, process, key, samples, boundary)
    curve = _sampled_curve(decision, grid, results, facts)
    return completed(curve, mixture, chosen, grid.alpha, grid.sigma) if exact else curve


def _sampled_curve(
    decision: MixtureDecision, grid: Schedule, results: Sequence[tuple], facts: dict[str, object]
) -> EntropyCurve:
    """The curve of means and standard errors at each noise level."""
    mean, stderr = (
        jax.tree.map(lambda *leaves: np.stack(leaves), *parts) for parts in zip(*results, strict=True)
    )
    half_g2 = 0.5 * grid.diffusion**2
    log_weights = np.asarray(decision.mixture.log_weights, np.float64)
    prior = np.exp(log_weights).reshape(decision.cells, -1).sum(axis=-1)  # on the host, in float64
    return EntropyCurve(
        t=grid.t,
        log_snr=grid.log_snr,
        log_snr_slope=grid.log_snr_slope,
        entropy=mean.entropy,
        entropy_stderr=stderr.entropy,
        rate=half_g2 * mean.spread,
        rate_stderr=half_g2 * stderr.spread,
        prior_entropy=float(entr(prior).sum()),
        per_cell=np.where(prior > 0, mean.per_cell, np.nan),
        per_cell_stderr=np.where(prior > 0, stderr.per_cell, np.nan),
        surprise_variance=mean.second_moment - mean.entropy**2,
        clone_agreement=1 - mean.disagreement,
        clone_agreement_stderr=stderr.disagreement,
        metadata=facts,
    )


def _facts(
    decision: MixtureDecision, process: Process, key: PRNGKeyArray, samples: int, boundary: bool
) -> dict[str, object]:
    """What is needed to compute the curve again."""
    return {
        "source": "sampling",
        "route": "sampled",
        "process": process.describe(),
        "components": int(np.isfinite(np.asarray(decision.mixture.log_weights)).sum()),
        "cells": decision.cells,
        "dim": decision.mixture.dim,
        "covariance": type(decision.mixture.covariance).__name__,
        "dtype": str(decision.mixture.dtype),
        "samples": strata_of(decision, samples, boundary).points,
        "boundary_points": boundary and has_boundaries(decision),
        "key": key_numbers(key).tolist(),
        **versions(),
    }


def clone_agreement(
    mixture: Mixture,
    process: Process,
    times: Times,
    *,
    partition: Partition | None = None,
    key: PRNGKeyArray,
    samples: int,
) -> Estimate:
    """E Σ_c p(c|X_t)²: the probability that two reverse paths cloned at time t end in the same cell.

    Biroli, Bonnaire, de Bortoli, Mezard 2024. Arguments and errors as in `class_entropy`, whose curve
    carries the same numbers; returns an `Estimate` with value and stderr of shape (T,).
    """
    curve = class_entropy(mixture, process, times, partition=partition, key=key, samples=samples)
    return Estimate(curve.clone_agreement, curve.clone_agreement_stderr)
