"""Where x_0 comes from when data drive the trajectories: labelled data, or the model's own samples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from gmm.fingerprint import tree_fingerprint
from gmm.keys import key_numbers
from neural.denoiser import from_pytree
from neural.estimators.chain import Chain
from neural.estimators.runs import Source
from neural.estimators.tracking import draw_classes
from neural.samplers import heun

_SHUFFLE, _SAMPLER = 2**31 - 1, 2**31 - 2  # indices that no trajectory has


def data_source(
    chain: Chain,
    key: PRNGKeyArray,
    x: Float[np.ndarray, "m d"],
    labels: Int[np.ndarray, " m"],
    samples: int | None,
) -> tuple[Source, int, dict[str, Any]]:
    """A source that gives each path a class from the prior, then the next point of that class in a random order.

    Args:
        chain: the chain, which holds the prior.
        key: random key.
        x: points.
        labels: class of each point, -1 for points to leave out.
        samples: number of paths; None for as many as use each point at most once.

    Returns:
        The source, the number of paths, and facts: size and hash of the data, and how often a point is used at most.

    Raises:
        ValueError: when a class has no points.
    """
    order = np.random.default_rng(key_numbers(jax.random.fold_in(key, _SHUFFLE))).permutation(len(labels))
    points = [order[labels[order] == c] for c in range(chain.classes)]
    available = np.array([len(of_class) for of_class in points])
    if not available.all():
        raise ValueError(f"data must hold every condition, got none labelled {int(np.argmin(available > 0))}")
    wanted = int(available.sum()) if samples is None else samples
    z = np.asarray(draw_classes(key, jnp.arange(wanted), chain.log_prior))
    rank = np.zeros(wanted, int)
    for c in range(chain.classes):
        rank[z == c] = np.arange(np.sum(z == c))
    if samples is None:
        used_up = np.flatnonzero(rank >= available[z])
        wanted = int(used_up[0]) if used_up.size else wanted
    chosen = np.array([points[c][r % available[c]] for c, r in zip(z[:wanted], rank[:wanted], strict=True)])

    def source(index: np.ndarray, _z: np.ndarray) -> Float[np.ndarray, "n d"]:
        return x[chosen[np.minimum(index, wanted - 1)]]

    digest = tree_fingerprint(x, labels)[:20]
    passes = int(np.max(rank[:wanted] // available[z[:wanted]])) + 1
    return source, wanted, {"data_points": int(available.sum()), "paths_a_point": passes, "hash": digest}


def own_samples(chain: Chain, key: PRNGKeyArray, times: Float[np.ndarray, " T"]) -> Source:
    """A source of x_0 from Heun's sampler, of second order in the steps, started where the chain starts.

    Args:
        chain: denoiser and conditions.
        key: random key; the start of a path depends on it and on the path's index alone.
        times: the sampler's grid.
    """
    denoiser = from_pytree(chain.denoiser)
    dim, rows = int(np.prod(chain.shape)), chain.rows
    carried = float(rows.alpha[0] / rows.sigma[0]) if rows.start_square[0] > 0 else 0.0

    def source(index: np.ndarray, z: np.ndarray) -> Float[np.ndarray, "n d"]:
        base = jax.random.fold_in(key, _SAMPLER)

        def noise_of(i: Array) -> Array:
            return jax.random.normal(jax.random.fold_in(base, i), chain.shape, chain.dtype)

        noise, number = jax.vmap(noise_of)(jnp.asarray(index)), jnp.asarray(z)
        condition = jax.tree.map(lambda leaf: leaf[number], chain.conditions)
        if carried:  # move the first state to its class, as the chain does
            first = denoiser.denoise(noise * rows.sigma[0], jnp.asarray(times[0], chain.dtype), condition)
            noise = noise + carried * first
        return np.asarray(heun(denoiser, noise, condition, times=times)).reshape(len(index), dim)

    return source
