r"""Distances of many points from many means, by one matrix product where its rounding does no harm.

‖x - y‖² = ‖x‖² - 2x·y + ‖y‖² has a rounding error of about eps·‖x‖·‖y‖, which hides classes that are near to one
another and far from all others. Distances here are in units of the noise, so that an error far below one changes no
posterior. Where the error is larger, and only there, distances that it could confuse are summed from differences. This
is decided while a program runs: the usual case keeps its one product.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, ArrayLike, Bool, Float

# Below this dimension a matrix product gains nothing, and plain differences lose no digits.
DIRECT_DIM = 16
# By default accelerators multiply float32 in 10-bit pieces, which is too coarse for log densities.
matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
# Differences x_n - μ_k are computed again in the backward pass: stored, they would be an array of size n·K·d.
recomputed = functools.partial(jax.checkpoint, prevent_cse=False)
# A bound on rounding errors of log densities, in nats, that needs no care.
HARMLESS = 0.01
# Beside a larger error, distances that exceed the least one by this many bounds keep two digits of their excess.
# Nearer ones are summed one by one where each point has only a few, else all are.
CLEAR, FEW = 100, 8


@recomputed
def weighted_differences(
    x: Float[Array, "n d"], y: Float[Array, "K d"], weights: Float[Array, "#K d"]
) -> Float[Array, "n K"]:
    """Σ_d weights_kd (x_nd - y_kd)², summed directly, for small d."""
    return jnp.sum(weights[None] * (x[:, None, :] - y[None, :, :]) ** 2, axis=-1)


def one_by_one(
    x: Float[Array, "n d"], y: Float[Array, "K d"], weights: Float[Array, "#K #d"]
) -> Float[Array, "n K"]:
    """Σ_d weights_kd (x_nd - y_kd)², summed directly, one y at a time."""

    @recomputed
    def one(row: tuple[Float[Array, " d"], Float[Array, " #d"]]) -> Float[Array, " n"]:
        mean, weight = row
        return jnp.sum(weight[None, :] * (x - mean[None, :]) ** 2, axis=-1)

    return lax.map(one, (y, jnp.broadcast_to(weights, (y.shape[0], weights.shape[1])))).T


def squared_distances(
    x: Float[Array, "n d"], y: Float[Array, "K d"], scale: Float[ArrayLike, "..."] = 1.0
) -> Float[Array, "n K"]:
    """scale_k ‖x_n - y_k‖² for every pair; scale () or (K,)."""
    scale = jnp.atleast_1d(scale)[None, :]
    if x.shape[-1] <= DIRECT_DIM:
        return scale * weighted_differences(x, y, jnp.ones_like(y[:1]))
    centre = jnp.mean(y, axis=0, keepdims=True)
    x, y = x - centre, y - centre
    norms = jnp.sum(y * y, axis=-1)
    distances = _from_nearest(x, y, norms[None, :] - 2 * matmul(x, y.T))

    def careful() -> Float[Array, "n K"]:
        if scale.shape[1] > 1:  # the nearest mean need not be that of the likeliest class
            return one_by_one(x, y, scale.T)
        return scale * _resolved(x, y, distances, rounding(jnp.sum(x * x, axis=-1), norms))

    return if_harmful(_scaled_rounding(x, norms, jnp.max(scale)), careful, lambda: scale * distances)


def alignments(
    x: Float[Array, "n d"],
    y: Float[Array, "K d"],
    scale: Float[Array, ""],
    longest: Float[Array, ""] | None = None,
) -> Float[Array, "n K"]:
    """-½ scale ‖x_n - y_k‖² up to a term in x alone: scale (x_n·y_k - ½‖y_k‖²) where that is exact enough.

    Args:
        x: (n, d) points.
        y: (K, d) means, both measured from an origin amid the means.
        scale: () precision.
        longest: () largest ‖y‖² of all blocks where y is one of many, so that the term is the same for each.
    """
    norms = jnp.sum(y * y, axis=-1)
    return if_harmful(
        _scaled_rounding(x, norms if longest is None else longest, scale),
        lambda: -0.5 * scale * resolved_distances(x, y),
        lambda: scale * (matmul(x, y.T) - 0.5 * norms[None, :]),
    )


def resolved_distances(x: Float[Array, "n d"], y: Float[Array, "K d"]) -> Float[Array, "n K"]:
    """‖x_n - y_k‖² for every pair, both measured from an origin amid the y; right for near ones beside far ones."""
    norms = jnp.sum(y * y, axis=-1)
    distances = _from_nearest(x, y, norms[None, :] - 2 * matmul(x, y.T))
    return _resolved(x, y, distances, rounding(jnp.sum(x * x, axis=-1), norms))


def rounding(x: Float[Array, " n"], y: Float[Array, "..."]) -> Float[Array, ""]:
    """Rounding error of products of x and y of these squared lengths, or of y alone: eps times the longest."""
    x, longest = lax.stop_gradient((jnp.max(x, initial=0), jnp.max(y)))
    return jnp.finfo(longest.dtype).eps * jnp.maximum(jnp.sqrt(x) * jnp.sqrt(longest), longest)


def _scaled_rounding(
    x: Float[Array, "n d"], norms: Float[Array, "..."], scale: Float[Array, ""]
) -> Float[Array, ""]:
    """`rounding` in units of the noise, where squares of states do not overflow."""
    scaled = lax.stop_gradient(jnp.sqrt(scale) * x)
    return rounding(jnp.sum(scaled * scaled, axis=-1), scale * norms)


def if_harmful(error: Float[Array, ""], careful: Callable[[], Array], quick: Callable[[], Array]) -> Array:
    """`careful()` where a rounding error is too large, else `quick()`."""
    return if_anywhere(~(error <= HARMLESS), careful, quick)


def if_anywhere(flag: Bool[Array, "..."], yes: Callable[[], Array], no: Callable[[], Array]) -> Array:
    """`yes()` where any flag is set, else `no()`; only one of the two is computed, also inside `jax.vmap`."""
    return lax.cond(_anywhere(jnp.any(flag)), yes, no)


@custom_vmap
def _anywhere(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """Whether `flag` is set in any problem of a batch: a condition of its own for each would compute both branches."""
    return flag


@_anywhere.def_vmap
def _(_size: int, _batched: list[bool], flag: Bool[Array, " b"]) -> tuple[Bool[Array, ""], bool]:
    return _anywhere(jnp.any(flag)), False


def _from_nearest(
    x: Float[Array, "n d"], y: Float[Array, "K d"], relative: Float[Array, "n K"]
) -> Float[Array, "n K"]:
    """‖x_n - y_k‖² from ‖y_k‖² - 2x·y_k: measured from the nearest y, whose own distance is summed directly."""
    nearest = jnp.argmin(relative, axis=-1)
    exact = jnp.sum((x - y[nearest]) ** 2, axis=-1)
    reference = jnp.take_along_axis(relative, nearest[:, None], axis=-1)
    return jnp.maximum(relative - reference + exact[:, None], 0)


def _resolved(
    x: Float[Array, "n d"], y: Float[Array, "K d"], distances: Float[Array, "n K"], error: Float[Array, ""]
) -> Float[Array, "n K"]:
    """‖x_n - y_k‖² = `distances`, with every y that is nearly as near as the nearest summed from differences."""
    few = min(FEW, y.shape[0] - 1)
    # Without the barrier XLA sorts whole rows on a CPU.
    near, index = map(lax.optimization_barrier, lax.top_k(lax.stop_gradient(-distances), few + 1))
    crowded = ~(near[:, 0] - near[:, few] >= CLEAR * error)

    def corrected() -> Float[Array, "n K"]:
        exact = lax.map(recomputed(lambda k: jnp.sum((x - y[k]) ** 2, axis=-1)), index.T)
        place, result = jnp.arange(y.shape[0], dtype=index.dtype)[None, :], distances
        for k in range(few + 1):  # a scatter costs a hundred times as much as this one pass
            result = jnp.where(place == index[:, k, None], exact[k][:, None], result)
        return result

    return if_anywhere(crowded, lambda: one_by_one(x, y, jnp.ones_like(y[:1, :1])), corrected)
