r"""Trajectories of noisy states, and the posterior of the class along them.

All estimators use the same step. With γ = (α/σ)², it goes from t to an earlier time s (`gmm.reverse_kernel`:
r = γ_t/γ_s, v = σ_s²(1-r)); the vector `drive` stands where x_0 stands in the kernel::

    x_s = a x_t + b drive + √v ε                  b = α_s (1-r)
    log w_c += log N(x_s; a x_t + b D_c, v) + const = κ ε·Δ_c - ½ κ² ‖Δ_c‖²     Δ_c = D_c - drive,  κ² = γ_s - γ_t

since class, x_s and x_t form a Markov chain. In the second form no large numbers cancel. The choice of `drive`
determines which law is sampled::

    D_z        the model's own chain (η = 1) of a class z drawn from the prior: the marginal, exactly
    D_w        the guided chain; the posterior stays that of the unguided one
    x_0        noised data: bridges to x_0, exact for steps of any length
    D_mix, D_∅ the posterior's mean, or the unconditional network: correct to first order in the step

Only η = 1 is supported: with reverse noise λg the increments are those of a process whose information rate is
((1+λ²)/2λ)² times as large, and on deterministic paths the posterior is certain after the first step.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from gmm.guidance import gap_of, steer
from gmm.mixture import log_normalise
from neural.estimators.chain import Carry, Chain, Kept, Paths, Record, Rows
from neural.estimators.trackers import Tracked, columns, select

# Numbers of a trajectory's random draws that belong to no step.
_CLASS, _FIRST = 2**30, 2**30 + 1


@jax.jit
def draw_classes(
    key: PRNGKeyArray, index: Int[Array, " n"], log_prior: Float[Array, " K"]
) -> Int[Array, " n"]:
    """Classes of the trajectories `index`, drawn from the prior."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), _CLASS))(index)
    return jax.vmap(lambda k: jax.random.categorical(k, log_prior))(keys)


@functools.partial(jax.jit, static_argnames=("dim", "dtype"))
def draw_noise(
    key: PRNGKeyArray, index: Int[Array, " n"], number: ArrayLike = _FIRST, *, dim: int, dtype: Any
) -> Float[Array, "n d"]:
    """Standard normal noise of the trajectories `index`; it does not depend on which others are drawn with them."""

    def noise_of(i: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, i), number), (dim,), dtype)

    return jax.vmap(noise_of)(index)


def trajectories(chain: Chain, paths: Paths, keep: Kept) -> tuple[Carry, Record]:
    """The last states of a chunk, and the records of all rows, stacked.

    Args:
        chain: what to compute.
        paths: the trajectories.
        keep: flags: which of log-weights and states the records hold.
    """
    return lax.scan(functools.partial(_step, chain, paths, keep), first_carry(chain, paths), table(chain))


def table(chain: Chain) -> Rows:
    """The chain's table of steps in its own floating type."""
    rows = jax.tree.map(lambda column: jnp.asarray(column, chain.dtype), chain.rows)
    # Times keep their own precision; a network converts them to its own.
    return rows._replace(t=jnp.asarray(chain.rows.t), number=jnp.asarray(chain.rows.number, int))


def first_carry(chain: Chain, paths: Paths) -> Carry:
    """States and log-weights before the first row."""
    rows = table(chain)
    x = paths.first if chain.given else rows.sigma[0] * paths.first
    if paths.x0 is not None:
        x = rows.alpha[0] * paths.x0 + x
    prior = jnp.concatenate([chain.log_prior, jnp.zeros(int(chain.reference is not None), chain.dtype)])
    n = paths.z.shape[0]
    return Carry(x, jnp.broadcast_to(prior, (n, prior.size)), jnp.zeros(n, chain.dtype))


def _step(chain: Chain, paths: Paths, keep: Kept, carry: Carry, row: Rows) -> tuple[Carry, Record]:
    predicted = chain.predict(carry.x, row.t, paths.z)
    carry = carry._replace(log_w=with_start(chain, paths.z, row, predicted, carry))
    drive = _drive(chain, paths, row, predicted, carry)
    statistics = tuple(
        columns(chain, partition, paths, row.half_snr, Tracked(carry.log_w, predicted), drive)
        for partition in chain.partitions
    )
    kept = Kept(carry.log_w if keep.log_w else None, carry.x if keep.x else None)
    record = Record(statistics, jnp.isfinite(predicted).all(), kept)
    return next_carry(chain, paths, row, predicted, carry, drive), record


def with_start(
    chain: Chain, z: Int[Array, " n"], row: Rows, predicted: Float[Array, "n J d"], carry: Carry
) -> Float[Array, "n J"]:
    """Log-weights with the information in the first state, at the row that adds it."""
    return lax.cond(
        row.start_square > 0, functools.partial(_from_state, chain, z, row), lambda *args: args[-1],
        predicted, carry.x, carry.log_w,
    )  # fmt: skip


def next_carry(
    chain: Chain,
    paths: Paths,
    row: Rows,
    predicted: Float[Array, "n J d"],
    carry: Carry,
    drive: Float[Array, "n d"] | None = None,
) -> Carry:
    """States and log-weights after a row, from those at it; `drive` where it is known already."""
    drive = _drive(chain, paths, row, predicted, carry) if drive is None else drive
    noise = draw_noise(paths.key, paths.index, row.number, dim=carry.x.shape[1], dtype=chain.dtype)
    linear, quadratic = _gain(predicted - drive[:, None, :], noise, row.along, row.square)
    gain = linear - quadratic
    x = row.state * carry.x + row.clean * drive + row.deviation * noise
    ratio = jnp.where(row.setup > 0, carry.ratio, _tracked(chain, paths.z, carry.ratio, gain))
    return Carry(x, _normalised(chain, carry.log_w + gain), ratio)


def gain_parts(
    chain: Chain, paths: Paths, row: Rows, predicted: Float[Array, "n J d"]
) -> tuple[Float[Array, "n J"], Float[Array, "n J"]]:
    """The two parts of a step's log-weights along a class's own chain: along ε·Δ_j and ½ square ‖Δ_j‖²."""
    noise = draw_noise(paths.key, paths.index, row.number, dim=predicted.shape[2], dtype=chain.dtype)
    return _gain(predicted - select(predicted, paths.z)[:, None, :], noise, row.along, row.square)


def _gain(
    delta: Float[Array, "n J d"], noise: Float[Array, "n d"], along: Any, square: Any
) -> tuple[Float[Array, "n J"], Float[Array, "n J"]]:
    """along ε·Δ_j and ½ square ‖Δ_j‖²."""
    return along * jnp.einsum("njd,nd->nj", delta, noise), 0.5 * square * jnp.sum(delta**2, axis=-1)


def _normalised(chain: Chain, log_w: Float[Array, "n J"]) -> Float[Array, "n J"]:
    """Log-weights shifted so that the posteriors of the classes add up to one; the reference is shifted alike."""
    classes, rest = log_w[:, : chain.classes], log_w[:, chain.classes :]
    return jnp.concatenate(
        [log_normalise(classes), rest - jax.nn.logsumexp(classes, axis=1, keepdims=True)], axis=1
    )


def _from_state(
    chain: Chain,
    z: Int[Array, " n"],
    row: Rows,
    predicted: Float[Array, "n J d"],
    x: Float[Array, "n d"],
    log_w: Float[Array, "n J"],
) -> Float[Array, "n J"]:
    """Log-weights given the first state x_T: log π_c - ‖x_T - α D_c‖²/2σ², computed relative to D_z."""
    of_class = select(predicted, z)
    residual = (x - row.alpha * of_class) / row.sigma
    delta = predicted - of_class[:, None, :]
    linear, quadratic = _gain(delta, residual, row.start_along, row.start_square)
    log_w = log_w + linear - quadratic
    if chain.reference is not None and chain.exhaustive:
        # The law without condition is the sum over classes, which one Gaussian around D_∅ is not.
        whole = jax.nn.logsumexp(log_w[:, : chain.classes], axis=1, keepdims=True)
        log_w = jnp.concatenate([log_w[:, : chain.classes], whole], axis=1)
    return _normalised(chain, log_w)


def _drive(
    chain: Chain, paths: Paths, row: Rows, predicted: Float[Array, "n J d"], carry: Carry
) -> Float[Array, "n d"]:
    if paths.x0 is not None:
        return paths.x0
    of_class = select(predicted, paths.z)
    if chain.guidance is not None:
        reference, ratio = predicted[:, -1], carry.ratio
        gap = gap_of(of_class, reference, row.level) if chain.guidance.needs_gap else jnp.zeros_like(ratio)
        drive = steer(of_class, reference, chain.guidance.weight(row.level, ratio, gap))
    elif chain.drive == "class":
        return of_class
    elif chain.drive == "unconditional":
        drive = predicted[:, -1]
    else:
        p = jnp.exp(carry.log_w[:, : chain.classes])
        drive = jnp.einsum("nk,nkd->nd", p, predicted[:, : chain.classes])
    return jnp.where(row.setup > 0, of_class, drive)


def _tracked(
    chain: Chain, z: Int[Array, " n"], ratio: Float[Array, " n"], gain: Float[Array, "n J"]
) -> Array:
    if chain.guidance is None or not chain.guidance.needs_ratio:
        return ratio
    return chain.guidance.tracked(ratio, select(gain, z) - gain[:, -1])
