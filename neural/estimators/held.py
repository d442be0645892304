r"""The expected posterior at noise levels that no evaluation reaches, by denoisers that are held still.

At a state x_k of a path with posterior p_k, suppose that the denoisers D_k stayed as they are. Log-weights at any
smaller noise would then follow without another evaluation, as sums of Gaussian steps do::

    log w_c = log w_c(k) + √τ ε·(D_c - D_z) - ½ τ ‖D_c - D_z‖²        τ = γ - γ_k,   z ~ p_k,   ε ~ N(0, I)

Let g(p_k, D_k, τ) be the mean of a statistic f(p) over ε and z. Because classes, states and posteriors of a path have
the joint law of the chain, the mean of g(p_k, D_{k-1}, γ-γ_k) given step k-1 is g(p_{k-1}, D_{k-1}, γ-γ_{k-1}), so that
at γ beyond γ_k::

    E f(p) = E[ g(p_0, D_0, γ-γ_0) + Σ_k ( g(p_k, D_k, γ-γ_k) - g(p_k, D_{k-1}, γ-γ_k) ) ]

is exact for the chain: g is a control variate with a known mean. Each term is the effect of a change of the denoisers
along the path, and is zero where the distances between the denoisers stay the same. For isotropic classes these
distances are the same on every path, and the sum has no variance.

Finite steps. The chain holds D_{k-1} still up to γ_k, and so gains too much information where the distances shrink.
When D_k is known, the squared distances between γ_{k-1} and γ_k are taken to follow (γ/γ_{k-1})^-p, with the p of the
path's own sum of squared distances; T(γ) is the integral of this power from γ_{k-1}. Log-weights of the step become
those of a step of length T(γ_k) = f²(γ_k-γ_{k-1}) with f times the same noise, and each step has one more term::

    g(p_{k-1}, D_{k-1}, T(γ)) - g(p_{k-1}, D_{k-1}, γ-γ_{k-1})        T(γ) = T(γ_k) + γ - γ_k beyond γ_k

For isotropic classes p_k then has the law of the true posterior, up to the error of the power law. The column `shift`
is how much the result changes where squared distances follow a straight line in γ instead of a power.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from gmm.mixture import log_normalise
from gmm.partition import cell_log_posterior
from neural.estimators.chain import Carry, Chain, PartitionArrays, Paths, Rows
from neural.estimators.trackers import log_drawn, path_weight
from neural.estimators.tracking import draw_noise, first_carry, gain_parts, next_carry, table, with_start

COLUMNS = ("entropy", "disagreement", "second_moment", "shift")
# Draws of (ε, z) at each state where there are more than two classes; antithetic, hence even.
DRAWS = 64
# Of two classes only ε along the difference of their denoisers matters: the trapezoidal rule on -7..7, whose error
# falls exponentially with the number of nodes.
_NODES = np.linspace(-7, 7, 97)
# Numbers of random draws that belong to no step of the path; a path has fewer steps than this.
_NOISE, _CLASSES = 2**28, 2**29
# Between two evaluations squared distances follow γ^-p with p in this range; at little noise p = 2.
_POWERS = (-2, 4)


class Draws(NamedTuple):
    """Draws of ε and z at the n states of a chunk; they do not depend on the denoisers.

    Attributes:
        noise: (n, M, d), or None for two classes.
        z: (n, M) classes.
        weight: (n, M) weights, with sum one in expectation.
    """

    noise: Any
    z: Int[Array, "n M"]
    weight: Float[Array, "n M"]


class Past(NamedTuple):
    """What a step needs of the evaluation before it.

    Attributes:
        log_w: (n, K) log-weights that are corrected for the lengths of the steps.
        denoised: (n, K, d).
        linear, square: (n, K) parts of the step's log-weights that grow with f and f².
        snr: () γ.
        number: () of its random draws.
        exists: () whether there is one.
    """

    log_w: Float[Array, "n K"]
    denoised: Float[Array, "n K d"]
    linear: Float[Array, "n K"]
    square: Float[Array, "n K"]
    snr: Array
    number: Array
    exists: Array


def held_statistics(chain: Chain, paths: Paths) -> tuple[tuple[Float[Array, "S n F"], ...], Array]:
    """For each partition the statistics `COLUMNS` of n paths at the S points, then one for each cell; all finite?

    Means over paths are those of the posterior at the points `chain.points`; statistics of one path may be negative.
    """
    rows, start = table(chain), first_carry(chain, paths)
    n, points, dim = paths.z.shape[0], chain.points.shape[0], start.x.shape[1]
    blank = tuple(
        jnp.zeros((points, n, len(COLUMNS) + partition.cells), chain.dtype) for partition in chain.partitions
    )
    none = jnp.zeros((n, chain.classes), chain.dtype)
    past = Past(
        start.log_w, jnp.zeros((n, chain.classes, dim), chain.dtype), none, none,
        rows.half_snr[0], rows.number[0], jnp.zeros((), bool),
    )  # fmt: skip
    (_, _, statistics), finite = lax.scan(functools.partial(_step, chain, paths), (start, past, blank), rows)
    return statistics, finite


def _step(
    chain: Chain, paths: Paths, state: tuple[Carry, Past, Any], row: Rows
) -> tuple[tuple[Carry, Past, Any], Array]:
    carry, past, total = state
    predicted = chain.predict(carry.x, row.t, paths.z)
    log_w = with_start(chain, paths.z, row, predicted, carry)
    counted = row.setup == 0
    added, present = lax.cond(
        counted,
        lambda: _added(chain, paths, row, log_w, predicted, past),
        lambda: (jax.tree.map(jnp.zeros_like, total), past),
    )
    after = next_carry(chain, paths, row, predicted, Carry(carry.x, log_w, carry.ratio))
    total = jax.tree.map(jnp.add, total, added)
    return (after, present, total), jnp.isfinite(predicted).all()


def _added(
    chain: Chain, paths: Paths, row: Rows, log_w: Float[Array, "n K"], now: Float[Array, "n K d"], past: Past
) -> tuple[tuple[Float[Array, "S n F"], ...], Past]:
    """The terms of one evaluation in the sums for all points, and what the next one needs of it."""
    snr, points = 2 * row.half_snr, jnp.asarray(chain.points, chain.dtype)
    steps = _Held.of(points, past, now, snr)
    corrected = log_normalise(past.log_w + steps.factor * past.linear - steps.factor**2 * past.square)
    corrected = jnp.where(past.exists, corrected, log_w)
    beyond = jnp.broadcast_to(jnp.maximum(points - snr, 0)[:, None], (len(points), len(log_w)))
    here = _draws(chain, paths, row.number, corrected)
    terms = _means(chain, here, corrected, beyond, now)

    def change() -> tuple[Array, ...]:
        there = _draws(chain, paths, past.number, past.log_w)
        spans = jnp.concatenate([steps.power, steps.line, steps.still])
        of_step = _means(chain, there, past.log_w, spans, past.denoised)
        before = _means(chain, here, corrected, beyond, past.denoised)
        return tuple(
            _with_step(new - old, step) for new, old, step in zip(terms, before, of_step, strict=True)
        )

    added = lax.cond(past.exists, change, lambda: terms)
    weight = path_weight(chain, log_w)[None, :, None]
    parts = gain_parts(chain, paths, row, now)
    present = Past(corrected, now, *parts, snr, row.number, jnp.ones((), bool))
    return tuple(weight * values for values in added), present


def _with_step(change: Float[Array, "S n F"], step: Float[Array, "S3 n F"]) -> Float[Array, "S n F"]:
    """The change of the denoisers together with that within the step, and in `shift` what a straight line adds."""
    power, line, still = jnp.split(step, 3)
    shift = COLUMNS.index("shift")
    return (change + power - still).at[:, :, shift].set(line[:, :, 0] - power[:, :, 0])


class _Held(NamedTuple):
    """Lengths of γ, in units of the squared distances at the evaluation before, up to each point (S, n); f (n, 1).

    `power`: where squared distances follow a power of γ; `line`: a straight line; `still`: where they stay.
    """

    power: Float[Array, "S n"]
    line: Float[Array, "S n"]
    still: Float[Array, "S n"]
    factor: Float[Array, "n 1"]

    @classmethod
    def of(cls, points: Float[Array, " S"], past: Past, now: Float[Array, "n K d"], snr: Array) -> "_Held":
        first = jnp.where(past.exists, past.snr, 0.5 * snr)
        ratio = _spread(now) / _spread(past.denoised)
        whole = jnp.log(snr / first)
        power = jnp.clip(-jnp.log(ratio) / whole, *_POWERS)[None, :]
        inside = jnp.clip(points, first, snr)[:, None]
        beyond = jnp.maximum(points - snr, 0)[:, None]
        step = jnp.log(inside / first)
        by_power = first * step * _growth((1 - power) * step)
        fall = 1 - jnp.exp(-power * whole)
        gone = inside - first
        by_line = gone * (1 - 0.5 * fall * gone / (snr - first))
        end = first * whole * _growth((1 - power[0]) * whole)
        factor = jnp.sqrt(end / (snr - first))[:, None]
        still = jnp.broadcast_to(gone + beyond, by_power.shape)
        return cls(by_power + beyond, by_line + beyond, still, factor)


def _spread(denoised: Float[Array, "n K d"]) -> Float[Array, " n"]:
    """The sum of squared distances of a state's denoisers from their mean."""
    differences = denoised - denoised.mean(axis=1, keepdims=True)
    return jnp.sum(differences**2, axis=(1, 2)) + jnp.finfo(denoised.dtype).tiny


def _growth(y: Array) -> Array:
    """(e^y - 1)/y."""
    small = jnp.abs(y) < 1e-3
    return jnp.where(small, 1 + y / 2 + y**2 / 6, jnp.expm1(y) / jnp.where(small, 1, y))


def _draws(chain: Chain, paths: Paths, number: Array, log_w: Float[Array, "n K"]) -> Draws:
    n = log_w.shape[0]
    if chain.classes == 2:
        density = jnp.asarray(np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum(), chain.dtype)
        z = jnp.broadcast_to(jnp.repeat(jnp.arange(2), len(_NODES)), (n, 2 * len(_NODES)))
        weight = (jnp.exp(log_w)[:, :, None] * density[None, None, :]).reshape(n, -1)
        return Draws(None, z, weight)
    dim, half = paths.first.shape[1], DRAWS // 2
    noise = draw_noise(paths.key, paths.index, _NOISE + number, dim=half * dim, dtype=chain.dtype)
    noise = noise.reshape(n, half, dim)
    offset = draw_noise(paths.key, paths.index, _CLASSES + number, dim=1, dtype=chain.dtype)
    # One class for each of M equal parts of the drawn law: a uniform offset, the same in every part.
    places = (jnp.arange(DRAWS)[None, :] + jax.scipy.stats.norm.cdf(offset)) / DRAWS
    drawn = log_normalise(log_w + (log_drawn(chain.log_prior) - chain.log_prior)[None, :])
    edges = jnp.cumsum(jnp.exp(drawn), axis=1)
    z = jnp.minimum(
        jax.vmap(functools.partial(jnp.searchsorted, side="right"))(edges, places), chain.classes - 1
    )
    # Parts are taken in turn by ε and -ε, so that both see all classes.
    order = np.concatenate([np.arange(0, DRAWS, 2), np.arange(1, DRAWS, 2)])
    z = z[:, order]
    ratio = jnp.take_along_axis(log_w - drawn, z, axis=1)
    return Draws(jnp.concatenate([noise, -noise], axis=1), z, jnp.exp(ratio) / DRAWS)


def _means(
    chain: Chain, draws: Draws, log_w: Float[Array, "n K"], spans: Float[Array, "S n"], denoised: Any
) -> tuple[Float[Array, "S n F"], ...]:
    """Means of the statistics over the draws, after each of the spans of γ of every state."""
    along, squares = _projected(denoised - denoised.mean(axis=1, keepdims=True), draws)
    n, _, classes = along.shape

    def after(spans: Array) -> tuple[Array, ...]:
        span = spans[:, None, None]
        moved = log_w[:, None, :] + jnp.sqrt(span) * along - 0.5 * span * squares
        log_p = log_normalise(moved.reshape(-1, classes))
        return tuple(
            jnp.einsum("nm,nmf->nf", draws.weight, _statistics(chain, partition, log_p).reshape(n, -1, width))
            for partition in chain.partitions
            for width in (len(COLUMNS) + partition.cells,)
        )

    return lax.map(after, spans)


def _projected(
    centred: Float[Array, "n K d"], draws: Draws
) -> tuple[Float[Array, "n M K"], Float[Array, "n M K"]]:
    """ε·(D_c - D_z) and ‖D_c - D_z‖² of every draw."""
    norm = jnp.sum(centred**2, axis=2)
    if centred.shape[1] > draws.z.shape[1]:  # fewer draws than classes
        own = jnp.take_along_axis(centred, draws.z[:, :, None], axis=1)
        gram = jnp.einsum("nmd,nkd->nmk", own, centred)
    else:
        every = jnp.einsum("nkd,njd->nkj", centred, centred)
        gram = jnp.take_along_axis(every, draws.z[:, :, None], axis=1)
    norm_of_z = jnp.take_along_axis(norm, draws.z, axis=1)
    of_z = jnp.maximum(norm_of_z[:, :, None] + norm[:, None, :] - 2 * gram, 0)
    if draws.noise is None:
        step = jnp.tile(jnp.asarray(_NODES, centred.dtype), 2)[None, :, None]
        return jnp.sqrt(of_z) * step, of_z
    along = jnp.einsum("nmd,nkd->nmk", draws.noise, centred)
    return along - jnp.take_along_axis(along, draws.z[:, :, None], axis=2), of_z


def _statistics(chain: Chain, partition: PartitionArrays, log_p: Float[Array, "N K"]) -> Float[Array, "N F"]:
    """f(p): entropy, disagreement, second moment of the surprise, a blank, and -p_C log p_C / π_C of each cell."""
    labels = jnp.asarray(partition.labels)
    if partition.cells < chain.classes:
        log_p = cell_log_posterior(log_p, labels, partition.cells)
    else:
        log_p = log_p[:, jnp.argsort(labels)]
    p = jnp.exp(log_p)
    log_p = jnp.where(p > 0, log_p, 0)
    prior = jax.ops.segment_sum(jnp.exp(chain.log_prior), labels, num_segments=partition.cells)
    entropy = -jnp.sum(p * log_p, axis=1)
    scalars = (entropy, -jnp.sum(p * jnp.expm1(log_p), axis=1), jnp.sum(p * log_p**2, axis=1), 0 * entropy)
    return jnp.concatenate([jnp.stack(scalars, axis=1), -p * log_p / prior[None, :]], axis=1)
