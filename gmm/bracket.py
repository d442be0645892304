"""Certified brackets of a class entropy between many components, for states that samples do not find.

Sums over pairs of components, and over pairs and triples, lie on either side of H, of 1 - E Σ p² and of each cell's
surprise (`gmm.cluster`). Where decisions are nearly made the triples are a vanishing share of the pairs, and the
bracket is tight however small H is. In the same region, sampling without boundary points draws no undecided state.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from gmm.cluster import Term, cluster_term, subsets_across, total_of
from gmm.curve import EntropyCurve
from gmm.exact import ExactValues, Members, PairTerms, averaged, members, over_levels
from gmm.mixture import Mixture
from gmm.partition import Partition
from gmm.subset_basis import ClusterBasis, cluster_basis

# More pairs or triples, or full covariances of more dimensions, take minutes for each noise level.
MOST_PAIRS, MOST_TRIPLES = 2000, 1500
MOST_DIMENSIONS_OF_PAIRS, MOST_DIMENSIONS_OF_TRIPLES = 2048, 64
# Error of a triple beside the sum of all pairs.
_TRIPLE_ERROR = 1e-3


def affordable(decision: Members) -> bool:
    """Whether `bracketed_values` takes seconds rather than minutes for each noise level."""
    count, dims = decision.mixture.components, _dense_dimensions(decision.mixture)
    if count < 3:
        return dims <= MOST_DIMENSIONS_OF_PAIRS
    few = math.comb(count, 2) <= MOST_PAIRS and math.comb(count, 3) <= MOST_TRIPLES
    return few and dims <= MOST_DIMENSIONS_OF_TRIPLES


def _dense_dimensions(mixture: Mixture) -> int:
    """Size of the eigendecompositions at each noise level; zero where covariances commute."""
    covariance = mixture.covariance
    if covariance.shared or not hasattr(covariance, "basis"):
        return 0
    return min(mixture.dim, mixture.components * covariance.basis.shape[-1] + mixture.components)  # type: ignore


def bracketed_values(
    decision: Members, alpha: Float[np.ndarray, " T"], sigma: Float[np.ndarray, " T"]
) -> tuple[ExactValues, ExactValues]:
    """The middles of the brackets at T noise levels, and half their widths with the numerical errors.

    For two and three components the width is zero. The rate has no bracket; the change of the rate by the triples is
    used in its place. The second moment is NaN.

    Args:
        decision: the components, see `affordable`.
        alpha: (T,) signal scale.
        sigma: (T,) noise standard deviation, > 0.
    """
    pairs = PairTerms(decision)
    basis = cluster_basis(decision.mixture)
    rows = over_levels(lambda a, s: _middle(decision, pairs, basis, a, s), alpha, sigma)
    values, errors = (
        ExactValues(*map(np.array, zip(*part, strict=True))) for part in zip(*rows, strict=True)
    )
    return values, errors


def _middle(decision: Members, pairs: PairTerms, basis: ClusterBasis, alpha: float, sigma: float) -> tuple:
    """Values and errors of one noise level, in the order of `ExactValues`."""
    cells = decision.cell_count
    pair_terms = pairs.terms(alpha, sigma)
    high = total_of([term for term, _ in pair_terms], cells)
    triples = _triples(decision, basis, alpha, sigma, high)
    step = total_of([term for term, _ in triples], cells)
    # For three components the triple is the last term: it is part of the value, not a side of the bracket.
    share = 1.0 if decision.mixture.components <= 3 else 0.5
    errors = [bound for _, bound in (*pair_terms, *triples)] + [_scaled(step, 1 - share, size=True)]
    value = total_of([high, _scaled(step, share)], cells)
    return averaged(decision, value), averaged(decision, total_of(errors, cells))


def _scaled(term: Term, factor: float, *, size: bool = False) -> Term:
    """A share of a term, or of its size."""
    entropy, disagreement, rate = (
        factor * (abs(part) if size else part) for part in (term.entropy, term.disagreement, term.rate)
    )
    return Term(entropy, disagreement, rate, factor * (np.abs(term.per_cell) if size else term.per_cell))


def _triples(
    decision: Members, basis: ClusterBasis, alpha: float, sigma: float, pairs: Term
) -> list[tuple[Term, Term]]:
    if decision.mixture.components < 3 or not pairs.entropy > 0:
        return []
    noisy, floor = basis.at(alpha, sigma), math.log(pairs.entropy)
    return [
        cluster_term(
            noisy.take(subset),
            decision.log_weights[list(subset)],
            decision.cells[list(subset)],
            decision.cell_count,
            tolerance=_TRIPLE_ERROR,
            floor=floor,
        )
        for subset in subsets_across(decision.cells, 3)
    ]


def completed(
    curve: EntropyCurve,
    mixture: Mixture,
    partition: Partition,
    alpha: Float[np.ndarray, " T"],
    sigma: Float[np.ndarray, " T"],
) -> EntropyCurve:
    """A sampled curve with points of unknown error replaced by brackets, where these are affordable.

    The metadata has their number ("bracketed_points").

    Args:
        curve: the sampled curve, with NaN where an error is unknown.
        mixture: the law of x_0.
        partition: the decision.
        alpha: (T,) signal scale.
        sigma: (T,) noise standard deviation.
    """
    unknown = np.isnan(curve.entropy_stderr) | np.isnan(curve.rate_stderr)
    index = np.flatnonzero(unknown & (sigma > 0))
    if not len(index) or mixture.covariance.shared:
        return curve
    decision = members(mixture, partition)
    if not affordable(decision):
        return curve
    values, errors = bracketed_values(decision, alpha[index], sigma[index])
    clock = -curve.log_snr_slope[index]
    new = {
        "entropy": (values.entropy, errors.entropy),
        "rate": (values.rate * clock, errors.rate * clock),
        "clone_agreement": (1 - values.disagreement, errors.disagreement),
        "per_cell": (values.per_cell, errors.per_cell),
    }
    fields = {}
    for name, (value, error) in new.items():
        for field, part in ((name, value), (f"{name}_stderr", error)):
            fields[field] = getattr(curve, field).copy()
            fields[field][index] = part
    metadata = dict(curve.metadata) | {"bracketed_points": len(index)}
    return dataclasses.replace(curve, metadata=metadata, **fields)
