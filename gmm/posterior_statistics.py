"""Functions of the posterior at given points: entropy, disagreement, and the spread of the scores of the cells."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gmm.covariance import Covariance, Diagonal, Isotropic
from gmm.decision import MixtureDecision
from gmm.distances import CLEAR, if_anywhere, matmul, resolved_distances, rounding
from gmm.mixture import Mixture, log_normalise


class Statistics(NamedTuple):
    """Functions of the posterior at one point, or their means or standard errors.

    Attributes:
        entropy: -Σ p_c log p_c.
        disagreement: Σ p_c (1 - p_c), one minus the clone agreement.
        second_moment: Σ p_c log² p_c.
        spread: Σ p_c ‖s_c - s‖².
        per_cell: (..., C) -p_c log p_c / π_c; 0 for a cell of probability zero.
    """

    entropy: Float[Array, "..."]
    disagreement: Float[Array, "..."]
    second_moment: Float[Array, "..."]
    spread: Float[Array, "..."]
    per_cell: Float[Array, "... C"]


class Posterior(NamedTuple):
    """Posterior probabilities at n points.

    Attributes:
        log_cell: (n, C) log p_c of each cell.
        log_component: (n, K) log p_k of each component.
        inside: (n, C, m) probability of each component given its cell.
    """

    log_cell: Float[Array, "n C"]
    log_component: Float[Array, "n K"]
    inside: Float[Array, "n C m"]


def posterior(decision: MixtureDecision, joint: Float[Array, "n K"]) -> Posterior:
    """Posteriors from log joint probabilities (n, K), which may lack a term that all components share."""
    if decision.trivial:
        log_p = log_normalise(joint)
        return Posterior(log_p, log_p, jnp.ones((*joint.shape, 1), joint.dtype))
    by_cell = decision.by_cell(joint)
    top = by_cell.max(axis=-1)
    shifted = by_cell - jnp.where(jnp.isfinite(top), top, 0)[..., None]
    inside = jnp.exp(shifted)
    total = inside.sum(axis=-1)
    log_total = jnp.log(total)
    log_cell = log_normalise(log_total + jnp.where(jnp.isfinite(top), top, 0))
    rest = jnp.where(total > 0, log_cell - log_total, 0)
    log_component = (shifted + rest[..., None]).reshape(joint.shape)
    return Posterior(log_cell, log_component, inside / jnp.where(total > 0, total, 1)[..., None])


def per_point(
    decision: MixtureDecision,
    noisy: Mixture,
    x: Float[Array, "n d"],
    at: Posterior,
    pull: Covariance | None = None,
) -> Statistics:
    """`Statistics` of each of n points.

    Args:
        decision: the decision.
        noisy: the law of the points.
        x: (n, d) points.
        at: their posteriors.
        pull: (α Σ)⁻¹ where points are states divided by α and means are centred; None for states themselves.
    """
    means = noisy.means
    if pull is None:
        means = means - jnp.mean(means, axis=0, keepdims=True)
        pull = noisy.covariance.map(jnp.reciprocal)
    p = jnp.exp(at.log_cell)
    # 0 log 0 = 0: a posterior that underflows contributes nothing.
    log_p = jnp.where(p > 0, at.log_cell, 0)
    surprise = -p * log_p
    if not noisy.covariance.shared:
        spread = _spread_one_by_one(decision, noisy, pull, x, at.inside, p)
    elif decision.trivial:
        spread = _component_spread(means, pull, p)
    else:
        spread = _cell_spread(decision, means, pull, at.inside, p)
    return Statistics(
        entropy=surprise.sum(axis=-1),
        disagreement=_disagreement(p),
        second_moment=(surprise * -log_p).sum(axis=-1),
        spread=spread,
        per_cell=surprise / jnp.where(decision.prior > 0, decision.prior, 1)[None, :],
    )


def _disagreement(p: Float[Array, "n C"]) -> Float[Array, " n"]:
    """Σ p_c (1 - p_c), exact where one posterior is nearly one."""
    rest, _ = without_top(p)
    mass = rest.sum(axis=-1)
    return mass * jnp.max(p, axis=-1) + jnp.sum(rest * (1 - rest), axis=-1)


def _before_and_after(means: Float[Array, "K d"], pull: Covariance) -> tuple[Array, Callable[[Array], Array]]:
    """The means to average, and the operator to apply then: s_k - s_j = pull(μ_k - μ_j) under a shared covariance.

    An elementwise operator waits for the averages, which are few; a matrix goes over the means, once.
    """
    if isinstance(pull, Isotropic | Diagonal):
        return means, pull.apply
    return pull.apply(means), lambda averages: averages


def without_top(p: Float[Array, "n C"]) -> tuple[Float[Array, "n C"], Int[Array, " n"]]:
    """Posteriors with the largest set to zero, and where it was.

    What is measured from the likeliest cell does not cancel when its posterior is nearly one.
    """
    top = jnp.argmax(p, axis=-1)
    return jnp.where(jnp.arange(p.shape[1])[None, :] == top[:, None], 0, p), top


def _component_spread(
    means: Float[Array, "K d"], pull: Covariance, p: Float[Array, "n K"]
) -> Float[Array, " n"]:
    """Σ_k p_k ‖s_k - s‖², every component a cell, shared covariance: one matrix product."""
    vectors, after = _before_and_after(means, pull)
    rest, top = without_top(p)
    mass = rest.sum(axis=-1)
    total, best = after(matmul(rest, vectors)), after(vectors[top])
    pulled = after(vectors)
    norms = jnp.sum(pulled**2, axis=-1)
    second = matmul(rest, norms) + mass * norms[top] - 2 * jnp.sum(total * best, axis=-1)
    second = if_anywhere(
        second < CLEAR * rounding(norms, norms) * mass,
        lambda: jnp.sum(rest * resolved_distances(pulled[top], pulled), axis=-1),
        lambda: second,
    )
    shift = total - mass[:, None] * best
    return jnp.maximum(second - jnp.sum(shift**2, axis=-1), 0)


def _cell_spread(
    decision: MixtureDecision,
    means: Float[Array, "K d"],
    pull: Covariance,
    inside: Float[Array, "n C m"],
    p: Float[Array, "n C"],
) -> Float[Array, " n"]:
    """Σ_c p_c ‖s_c - s‖² under a shared covariance: one matrix product, one cell at a time.

    The likeliest cell's own term follows from Σ_c p_c (s_c - s) = 0.
    """
    vectors, after = _before_and_after(means, pull)
    of_cell = matmul(inside.transpose(1, 0, 2), vectors.reshape(decision.cells, -1, means.shape[1]))
    gap = of_cell - jnp.sum(p.T[:, :, None] * of_cell, axis=0, keepdims=True)
    gap = after(gap.reshape(-1, means.shape[1])).reshape(gap.shape)
    weight = without_top(p)[0].T
    remainder = jnp.sum(weight[:, :, None] * gap, axis=0)
    squares = jnp.sum(weight * jnp.sum(gap**2, axis=-1), axis=0)
    return squares + jnp.sum(remainder**2, axis=-1) / jnp.max(p, axis=-1)


def _spread_one_by_one(
    decision: MixtureDecision,
    noisy: Mixture,
    pull: Covariance,
    x: Float[Array, "n d"],
    inside: Float[Array, "n C m"],
    p: Float[Array, "n C"],
) -> Float[Array, " n"]:
    """Σ_c p_c ‖s_c - s‖² with one covariance for each component: two passes over the components."""
    everything = (inside * p[..., None]).reshape(len(x), -1)
    score = pull.weighted_apply(everything, x, noisy.means)

    def add(carry: tuple[Array, Array], cell: tuple) -> tuple[tuple[Array, Array], None]:
        squares, remainder = carry
        operator, means, within, weight = cell
        gap = operator.weighted_apply(within, x, means) - score
        return (squares + weight * jnp.sum(gap**2, axis=-1), remainder + weight[:, None] * gap), None

    def split(leaf: Array) -> Array:
        return leaf.reshape(decision.cells, -1, *leaf.shape[1:])

    parts = (*jax.tree.map(split, (pull, noisy.means)), inside.transpose(1, 0, 2), without_top(p)[0].T)
    start = (jnp.zeros(len(x), x.dtype), jnp.zeros_like(score))
    squares, remainder = lax.scan(add, start, parts)[0]
    return squares + jnp.sum(remainder**2, axis=-1) / jnp.max(p, axis=-1)
