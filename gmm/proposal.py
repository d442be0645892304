r"""The law from which points are drawn, so that undecided states are among them, and weights that correct for it.

An expectation under the marginal p of x_t is estimated from points of another law q, weighted by w = p/q. Half of the
points are drawn around means, half around midpoints of two means (boundary points; shared covariance only)::

    q = ½ Σ_z a_z N_z + ½ Σ_z b_z q_z        q_z = Σ_j √π_j e^{-δ²/8} N((μ_z+μ_j)/2) / S_z,   j outside the cell of z

with N_z the density of component z, δ the distance of two means in units of the noise, S_z the sum of the weights
√π_j e^{-δ²/8}. Once a decision is nearly made, all that is left of H comes from states between the classes, which p
visits with probability e^{-δ²/8}: plain sampling would draw none of them, and return zero with a standard error of
zero.

A rare class can carry half of the integrand, and two near classes among many can carry all of it. Classes are therefore
not drawn from the prior π but from the defensive mixtures a = ½ π + ½ b, b = ½ u + ½ c. Here u gives every cell the
same share, and c is proportional to a bound on what each class contributes to H, from exact overlaps with the others::

    c_z ∝ π_z log(1 + Σ_j κ_zj / π_z),    κ_zj = min_s π_z^s π_j^{1-s} e^{-s(1-s) δ²/2}     (Chernoff)

All of q follows from the posterior at x, since √(N_z N_j) = e^{-δ²/8} N((μ_z+μ_j)/2)::

    q/p = ½ Σ_z (a_z/π_z) p_z + ½ Σ_{z,j} b_z/(S_z √π_z) √p_z √p_j         z, j in different cells

so that a weight costs K operations, is at most 4, and does not depend on which class its point was drawn for.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gmm.decision import MixtureDecision
from gmm.distances import DIRECT_DIM, matmul
from gmm.mixture import Mixture, component_at
from gmm.posterior_statistics import Posterior, without_top

# Above this many components the K x K table of class distances is not built.
MAX_BOUNDARY_COMPONENTS = 4096


class Boundaries(NamedTuple):
    """The law of boundary points.

    Attributes:
        log_class: (K,) log b, the probability that a point is drawn between class z and another.
        log_partner: (K, K) log √π_j e^{-δ²/8}; -inf for j in the cell of z.
        log_normaliser: (K,) log S_z.
        log_bound: (C,) log of a bound on E[-p_c log p_c] for each cell.
    """

    log_class: Float[Array, " K"]
    log_partner: Float[Array, "K K"]
    log_normaliser: Float[Array, " K"]
    log_bound: Float[Array, " C"]


class Proposal(NamedTuple):
    """The law q of the points.

    Attributes:
        log_class: (K,) log a, the probability that a point is drawn around the mean of class z.
        log_prior: (K,) log π.
        boundaries: None where there are no boundary points; q is then its first sum alone.
    """

    log_class: Float[Array, " K"]
    log_prior: Float[Array, " K"]
    boundaries: Boundaries | None


class Coverage(NamedTuple):
    """Properties of the points that are known before they are drawn.

    Attributes:
        share: (C,) share of the points that are drawn for each cell, of means or of boundaries, whichever is less.
        log_bound: (C,) log of a bound on E[-p_c log p_c]; 0 where none is known.
    """

    share: Float[Array, " C"]
    log_bound: Float[Array, " C"]


def has_boundaries(decision: MixtureDecision) -> bool:
    """Whether boundary points can be drawn for a decision of known weights."""
    mixture = decision.mixture
    possible = np.isfinite(np.asarray(mixture.log_weights)).reshape(decision.cells, -1)
    alive = np.count_nonzero(possible.any(axis=-1))
    return mixture.covariance.shared and mixture.components <= MAX_BOUNDARY_COMPONENTS and int(alive) > 1


def propose(decision: MixtureDecision, noisy: Mixture, boundary: bool) -> Proposal:
    """The law of points for a decision at one noise level; `noisy` is the law of x_t/α there."""
    log_prior = noisy.log_weights
    boundaries = _boundaries(decision, noisy) if boundary else None
    share = _equal_shares(decision, log_prior) if boundaries is None else boundaries.log_class
    return Proposal(_mean_of(log_prior, share), log_prior, boundaries)


def _boundaries(decision: MixtureDecision, noisy: Mixture) -> Boundaries:
    log_prior = noisy.log_weights
    labels = jnp.asarray(decision.labels)
    apart = (labels[:, None] != labels[None, :]) & jnp.isfinite(log_prior)[None, :]
    distance = _squared_distances(noisy)
    log_partner = jnp.where(apart, 0.5 * log_prior[None, :] - distance / 8, -jnp.inf)
    log_bound = _log_contribution(log_prior, distance, apart)
    return Boundaries(
        log_class=_mean_of(_equal_shares(decision, log_prior), _restricted(log_bound, log_prior)),
        log_partner=log_partner,
        log_normaliser=jax.nn.logsumexp(log_partner, axis=1),
        log_bound=jax.nn.logsumexp(decision.by_cell(log_bound), axis=-1),
    )


def _log_contribution(
    log_prior: Float[Array, " K"], distance: Float[Array, "K K"], apart: Bool[Array, "K K"]
) -> Float[Array, " K"]:
    """log of π_z log(1 + Σ_j κ_zj/π_z): E[-log p_z | z] = E log(1 + Σ_j r_j), and E min(1, r_j) <= κ_zj/π_z."""
    limits = jnp.finfo(log_prior.dtype)
    log_prior = jnp.maximum(log_prior, math.log(limits.tiny))  # absent classes are left out below
    odds = log_prior[:, None] - log_prior[None, :]
    sure = 2 * jnp.abs(odds) >= distance  # the likelier of the two is so even at the other's mean
    at_crossing = -((0.5 * distance + odds) ** 2) / jnp.where(sure, 1, 2 * distance)
    log_ratio = jnp.where(sure, jnp.minimum(-odds, 0), at_crossing)
    total = jax.nn.logsumexp(jnp.where(apart, log_ratio, -jnp.inf), axis=1)
    small = 0.5 * math.log(limits.eps)  # below it log(1 + e^total) is e^total
    return log_prior + jnp.where(total < small, total, jnp.log(jnp.log1p(jnp.exp(jnp.maximum(total, small)))))


def _equal_shares(decision: MixtureDecision, log_prior: Float[Array, " K"]) -> Float[Array, " K"]:
    """Log probabilities that give every cell the same share, and its components shares by their prior."""
    cell = jax.nn.logsumexp(decision.by_cell(log_prior), axis=-1, keepdims=True)
    inside = decision.by_cell(log_prior) - jnp.where(jnp.isfinite(cell), cell, 0)
    return _restricted(inside.reshape(-1), log_prior)


def _restricted(log_share: Float[Array, " K"], log_prior: Float[Array, " K"]) -> Float[Array, " K"]:
    """Shares of classes that are not so rare that share/prior would overflow, normalised."""
    able = log_prior > 0.75 * math.log(jnp.finfo(log_prior.dtype).tiny)
    return jax.nn.log_softmax(jnp.where(able, log_share, -jnp.inf))


def _mean_of(a: Float[Array, " K"], b: Float[Array, " K"]) -> Float[Array, " K"]:
    """log(½ e^a + ½ e^b)."""
    return jnp.logaddexp(a, b) - math.log(2)


def _squared_distances(noisy: Mixture) -> Float[Array, "K K"]:
    """Between the means, in units of the noise; they are centred, so that no copies are needed."""
    precision = noisy.covariance.map(jnp.reciprocal)
    if noisy.dim <= DIRECT_DIM:
        return precision.quadratic(noisy.means, noisy.means)
    aligned = precision.alignment(noisy.means, noisy.means)
    return jnp.maximum(2 * (jnp.diagonal(aligned)[:, None] - aligned), 0)


def coverage(decision: MixtureDecision, proposal: Proposal) -> Coverage:
    """How a proposal covers each cell."""
    share = decision.by_cell(jnp.exp(proposal.log_class)).sum(axis=-1)
    if proposal.boundaries is None:
        alone = jnp.sum(share > 0) == 1
        return Coverage(share, jnp.where(alone, -jnp.inf, jnp.zeros_like(share)))
    between = decision.by_cell(jnp.exp(proposal.boundaries.log_class)).sum(axis=-1)
    return Coverage(jnp.minimum(share, between), proposal.boundaries.log_bound)


def centres(
    proposal: Proposal, noisy: Mixture, place: Float[Array, "..."], pick: Float[Array, "..."]
) -> tuple[Float[Array, "... branches d"], Int[Array, "..."]]:
    """Means and midpoints that points are drawn around, and the class of the former.

    Args:
        proposal: the law of the points.
        noisy: the law of x_t/α.
        place: (...) places in (0, 1) of the class.
        pick: (...) places in (0, 1) of its partner.
    """
    component = component_at(noisy.reweighted(proposal.log_class), place)
    around = noisy.means[component]
    if proposal.boundaries is None:
        return around[..., None, :], component
    boundaries = proposal.boundaries
    first = component_at(noisy.reweighted(boundaries.log_class), place)
    log_rows = boundaries.log_partner[first] - boundaries.log_normaliser[first][..., None]
    cumulative = jnp.cumsum(jnp.exp(log_rows), axis=-1)
    second = jnp.argmax(cumulative >= pick[..., None] * cumulative[..., -1:], axis=-1)
    between = 0.5 * (noisy.means[first] + noisy.means[second])
    return jnp.stack([around, between], axis=-2), component


def weights(decision: MixtureDecision, proposal: Proposal, at: Posterior) -> Float[Array, " n"]:
    """p/q at points with posteriors `at`."""
    log_prior = jnp.where(jnp.isfinite(proposal.log_prior), proposal.log_prior, 0)
    around = matmul(jnp.exp(at.log_component), jnp.exp(proposal.log_class - log_prior))
    if proposal.boundaries is None:
        return 1 / around
    return 2 / (around + _between(decision, proposal.boundaries, log_prior, at.log_component))


def _between(
    decision: MixtureDecision,
    boundaries: Boundaries,
    log_prior: Float[Array, " K"],
    log_p: Float[Array, "n K"],
) -> Float[Array, " n"]:
    """Σ b_z/(S_z √π_z) √p_z √p_j over z, j in different cells.

    The difference of all pairs and pairs in one cell would cancel: the cell of the largest Σ √p_j is kept apart.
    """
    # Classes that are never drawn may have no normaliser.
    drawn = jnp.isfinite(boundaries.log_class)
    log_factor = jnp.where(
        drawn, boundaries.log_class - boundaries.log_normaliser - 0.5 * log_prior, -jnp.inf
    )
    log_first = log_factor[None, :] + 0.5 * log_p
    scale = jnp.max(log_first, axis=1, keepdims=True)
    scale = jnp.where(jnp.isfinite(scale), scale, 0)
    first = decision.by_cell(jnp.exp(log_first - scale)).sum(axis=-1)
    second = decision.by_cell(jnp.exp(0.5 * log_p)).sum(axis=-1)
    rest, top = without_top(second)
    others = rest.sum(axis=-1, keepdims=True)
    is_top = jnp.arange(decision.cells)[None, :] == top[:, None]
    outside = jnp.where(is_top, others, second.max(axis=-1, keepdims=True) + others - rest)
    total = jnp.sum(first * outside, axis=-1)
    return jnp.where(total > 0, jnp.exp(jnp.log(jnp.where(total > 0, total, 1)) + scale[:, 0]), 0)
