"""Where x_0 comes from when data drive: labelled data, or the model's own samples."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from neural.denoiser import from_pytree
from neural.estimators.runs import Source
from neural.estimators.tracking import Chain, draw_classes
from neural.samplers import heun

_SHUFFLE, _SAMPLER = 2**31 - 1, 2**31 - 2  # numbers of no trajectory


def data_source(
    chain: Chain,
    key: PRNGKeyArray,
    x: Float[np.ndarray, "m d"],
    labels: Int[np.ndarray, " m"],
    samples: int | None,
) -> tuple[Source, int, dict[str, Any]]:
    """Each path draws its class from the prior, then the next point of that class, in an order of the key's.

    Args:
        chain: for its prior.
        key: random key.
        x: points.
        labels: class of each, -1 for points to leave out.
        samples: paths; None for as many as leave each point to one path.

    Returns:
        The source, the number of paths, and facts: size and hash of the data, and how often a point may serve.

    Raises:
        ValueError: when a class has no points.
    """
    order = np.random.default_rng(_seed(jax.random.fold_in(key, _SHUFFLE))).permutation(len(labels))
    points = [order[labels[order] == c] for c in range(chain.classes)]
    held = np.array([len(found) for found in points])
    if not held.all():
        raise ValueError(f"data must hold every condition, got none labelled {int(np.argmin(held > 0))}")
    wanted = int(held.sum()) if samples is None else samples
    z = np.asarray(draw_classes(key, jnp.arange(wanted), chain.log_prior))
    rank = np.zeros(wanted, int)
    for c in range(chain.classes):
        rank[z == c] = np.arange(np.sum(z == c))
    if samples is None:
        used_up = np.flatnonzero(rank >= held[z])
        wanted = int(used_up[0]) if used_up.size else wanted
    chosen = np.array([points[c][r % held[c]] for c, r in zip(z[:wanted], rank[:wanted], strict=True)])

    def source(index: np.ndarray, _z: np.ndarray) -> Float[np.ndarray, "n d"]:
        return x[chosen[np.minimum(index, wanted - 1)]]

    digest = hashlib.sha256(x.tobytes() + labels.tobytes()).hexdigest()[:16]
    passes = int(np.max(rank[:wanted] // held[z[:wanted]])) + 1
    return source, wanted, {"data_points": int(held.sum()), "paths_a_point": passes, "hash": digest}


def _seed(key: PRNGKeyArray) -> np.ndarray:
    return np.asarray(jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key)


def own_samples(chain: Chain, key: PRNGKeyArray, times: Float[np.ndarray, " T"]) -> Source:
    """x_0 of a class by Heun's sampler, of second order in the steps, started where the chain starts.

    Args:
        chain: denoiser and conditions.
        key: random key; the start of a path depends on it and on the path's number alone.
        times: the sampler's grid.
    """
    denoiser = from_pytree(chain.denoiser)
    dim, rows = int(np.prod(chain.shape)), chain.rows
    carried = float(rows.alpha[0] / rows.sigma[0]) if rows.start_square[0] > 0 else 0.0

    def source(index: np.ndarray, z: np.ndarray) -> Float[np.ndarray, "n d"]:
        base = jax.random.fold_in(key, _SAMPLER)
        one = lambda i: jax.random.normal(jax.random.fold_in(base, i), chain.shape, chain.dtype)
        noise, number = jax.vmap(one)(jnp.asarray(index)), jnp.asarray(z)
        condition = jax.tree.map(lambda leaf: leaf[number], chain.conditions)
        if carried:  # the first state moves to its class, as a chain's does
            first = denoiser.denoise(noise * rows.sigma[0], jnp.asarray(times[0], chain.dtype), condition)
            noise = noise + carried * first
        return np.asarray(heun(denoiser, noise, condition, times=times)).reshape(len(index), dim)

    return source
