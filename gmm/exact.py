"""Class entropies without sampling, at one noise level after the other: two to four Gaussians of any covariances.

Two classes are one line integral (`gmm.chernoff`), three and four the cluster expansion (`gmm.cluster`).
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import entr
from threadpoolctl import threadpool_limits

from gmm.chernoff import pair_values
from gmm.clock import Schedule
from gmm.cluster import Term, cluster_term, subsets_across, total_of
from gmm.curve import EntropyCurve, versions
from gmm.mixture import Mixture
from gmm.pair_basis import PairBasis, pair_basis
from gmm.partition import OUTSIDE, Partition
from gmm.process import Process
from gmm.subset_basis import ClusterBasis, cluster_basis

Array = np.ndarray
# Subsets of more components take too many nodes.
LARGEST_CLUSTER = 4
# Default bound of the error of a cluster expansion, relative to its entropy.
TOLERANCE = 1e-9


class ExactValues(NamedTuple):
    """Expectations at T noise levels, or bounds of their numerical errors.

    Attributes:
        entropy: (T,) H[cell|X_t] in nats.
        disagreement: (T,) 1 - E Σ p(cell|X_t)².
        second_moment: (T,) E Σ p log² p; NaN for three and more components.
        rate: (T,) dH/d log(σ²/α²).
        per_cell: (T, C) E[-log p(cell|X_t) | cell]; NaN for a cell of probability zero.
    """

    entropy: Float[Array, " T"]
    disagreement: Float[Array, " T"]
    second_moment: Float[Array, " T"]
    rate: Float[Array, " T"]
    per_cell: Float[Array, "T C"]


class Members(NamedTuple):
    """The components that take part in a decision.

    Attributes:
        mixture: they alone, each of positive weight.
        log_weights: (K,) float64, normalised.
        cells: (K,) the cell of each.
        cell_count: number of cells, those of probability zero included.
    """

    mixture: Mixture
    log_weights: Float[Array, " K"]
    cells: Int[Array, " K"]
    cell_count: int

    @property
    def prior(self) -> Float[Array, " C"]:
        """(C,) probability of each cell."""
        return np.bincount(self.cells, np.exp(self.log_weights), self.cell_count)


def members(mixture: Mixture, partition: Partition) -> Members:
    """The components inside `partition` that have a positive weight."""
    log_weights = np.asarray(mixture.log_weights, np.float64)
    index = np.flatnonzero((partition.labels != OUTSIDE) & np.isfinite(log_weights))
    chosen = log_weights[index]
    chosen = chosen - np.logaddexp.reduce(chosen)
    return Members(mixture.take(index), chosen, partition.labels[index], partition.cells)


def exact_values(
    decision: Members,
    alpha: Float[Array, " T"],
    sigma: Float[Array, " T"],
    *,
    tolerance: float = TOLERANCE,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ExactValues, ExactValues]:
    """`ExactValues` of a decision between at most four components, and bounds of their errors.

    Args:
        decision: the components.
        alpha: (T,) signal scale.
        sigma: (T,) noise standard deviation, > 0.
        tolerance: error beside the entropy that a cluster expansion may have; two components reach 1e-13 always.
        progress: called with (noise levels done, in all).

    Raises:
        ValueError: when there are more than four components, or a tolerance takes more nodes than memory holds.
    """
    count = decision.mixture.components
    if count > LARGEST_CLUSTER:
        raise ValueError(
            f"mixture must have at most {LARGEST_CLUSTER} components in the decision for an exact curve, got "
            f"{count}; sample it with gmm.class_entropy"
        )
    level = _level(decision, tolerance)
    rows = over_levels(level, alpha, sigma, progress)
    values, errors = (
        ExactValues(*map(np.array, zip(*part, strict=True))) for part in zip(*rows, strict=True)
    )
    return values, errors


def line_integral_curve(
    decision: Members,
    process: Process,
    grid: Schedule,
    *,
    tolerance: float = TOLERANCE,
    progress: Callable[[int, int], None] | None = None,
) -> EntropyCurve:
    """The curve of a decision between at most four components; standard errors are zero.

    Its metadata holds the route, "pair" or "cluster", and the largest bound of the numerical error of an entropy
    beside the entropy itself. Arguments and errors as in `exact_values`.
    """
    values, errors = exact_values(decision, grid.alpha, grid.sigma, tolerance=tolerance, progress=progress)
    zero = np.zeros_like(grid.t)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(values.entropy > 0, errors.entropy / values.entropy, 0.0)
    # H grows with the noise: d log(σ²/α²)/dt = -d log_snr/dt.
    return EntropyCurve(
        t=grid.t,
        log_snr=grid.log_snr,
        log_snr_slope=grid.log_snr_slope,
        entropy=values.entropy,
        entropy_stderr=zero,
        rate=-values.rate * grid.log_snr_slope,
        rate_stderr=zero,
        prior_entropy=float(entr(decision.prior).sum()),
        per_cell=values.per_cell,
        per_cell_stderr=np.where(np.isnan(values.per_cell), np.nan, 0.0),
        surprise_variance=values.second_moment - values.entropy**2,
        clone_agreement=1 - values.disagreement,
        clone_agreement_stderr=zero,
        metadata={
            "source": "line integrals",
            "route": "pair" if decision.mixture.components == 2 else "cluster",
            "process": process.describe(),
            "components": decision.mixture.components,
            "cells": decision.cell_count,
            "dim": decision.mixture.dim,
            "covariance": type(decision.mixture.covariance).__name__,
            "relative_error": float(relative.max(initial=0.0)),
            **versions(),
        },
    )


def over_levels(
    level: Callable[[float, float], tuple],
    alpha: Float[Array, " T"],
    sigma: Float[Array, " T"],
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple]:
    """The results of a function of (alpha, sigma) at T noise levels, computed on one thread for each processor.

    Linear algebra uses one thread in each of them, because several would wait for each other.
    """
    rows = []
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for row in pool.map(level, alpha.tolist(), sigma.tolist()):
            rows.append(row)
            if progress is not None:
                progress(len(rows), len(alpha))
    return rows


def _level(decision: Members, tolerance: float) -> Callable[[float, float], tuple]:
    """The function of one noise level: values and errors, each in the order of `ExactValues`."""
    prior = decision.prior
    if (prior > 0).sum() < 2:
        decided = (0.0, 0.0, 0.0, 0.0, np.where(prior > 0, 0.0, np.nan))
        return lambda _alpha, _sigma: (decided, decided)
    pairs = PairTerms(decision)
    if decision.mixture.components == 2:
        return pairs.alone
    basis = cluster_basis(decision.mixture)
    return lambda alpha, sigma: _expansion(decision, pairs, basis, alpha, sigma, tolerance)


class PairTerms:
    """The two-component terms of a decision's cluster expansion."""

    def __init__(self, decision: Members) -> None:
        self.decision = decision
        self.subsets = list(subsets_across(decision.cells, 2))
        self.bases: list[PairBasis] = [
            pair_basis(decision.mixture.take(np.array(subset))) for subset in self.subsets
        ]

    def alone(self, alpha: float, sigma: float) -> tuple:
        """Values and errors of a decision that is one pair, in the order of `ExactValues`."""
        cells = self.decision.cells
        results = []
        for part in pair_values(self.bases[0], alpha, sigma, self.decision.log_weights):
            per_cell = np.full(self.decision.cell_count, np.nan)
            per_cell[cells] = part.per_class
            results.append((part.entropy, part.disagreement, part.second_moment, part.rate, per_cell))
        return tuple(results)

    def terms(self, alpha: float, sigma: float) -> list[tuple[Term, Term]]:
        """T_A of every pair, and bounds of their errors."""
        return [
            self._term(subset, basis, alpha, sigma)
            for subset, basis in zip(self.subsets, self.bases, strict=True)
        ]

    def _term(
        self, subset: tuple[int, ...], basis: PairBasis, alpha: float, sigma: float
    ) -> tuple[Term, Term]:
        log_weights = self.decision.log_weights[list(subset)]
        mass = np.logaddexp.reduce(log_weights)
        weight = np.exp(mass)
        results = []
        for part in pair_values(basis, alpha, sigma, log_weights - mass):
            per_cell = np.zeros(self.decision.cell_count)
            per_cell[self.decision.cells[list(subset)]] = np.exp(log_weights) * part.per_class
            results.append(
                Term(weight * part.entropy, weight * part.disagreement, weight * part.rate, per_cell)
            )
        return results[0], results[1]


def _expansion(
    decision: Members,
    pairs: PairTerms,
    basis: ClusterBasis,
    alpha: float,
    sigma: float,
    tolerance: float,
) -> tuple:
    """Pairs, triples and quadruples, from the largest to the smallest subset size's sum."""
    results = pairs.terms(alpha, sigma)
    largest = max(term.entropy for term, _ in results)
    noisy = basis.at(alpha, sigma)
    floor = np.log(largest) if largest > 0 else np.inf
    for size in range(3, decision.mixture.components + 1):
        for subset in subsets_across(decision.cells, size):
            index = list(subset)
            results.append(
                cluster_term(
                    noisy.take(subset),
                    decision.log_weights[index],
                    decision.cells[index],
                    decision.cell_count,
                    tolerance=tolerance,
                    floor=floor,
                )
            )
    terms, bounds = zip(*results, strict=True)
    cells = decision.cell_count
    return averaged(decision, total_of(terms, cells)), averaged(decision, total_of(bounds, cells))


def averaged(decision: Members, total: Term) -> tuple:
    """A sum of terms in the order of `ExactValues`: cells' surprises become conditional means."""
    prior = decision.prior
    per_cell = np.where(prior > 0, total.per_cell / np.where(prior > 0, prior, 1), np.nan)
    return total.entropy, total.disagreement, np.nan, total.rate, per_cell
