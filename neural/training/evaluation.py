"""Held-out loss of a trained denoiser by noise level, and its distance from the optimum where that is known."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

import gmm
from neural.denoiser import Denoiser, as_pytree, from_pytree

Optimum = Callable[[Array, Array, Array | None], Array]
"""(x (n, d), sigma (), label (n,) or None) -> E[x_0 | x_t, label] (n, d)."""

PREDICTIONS = ("class", "null")
NEAREST_NOISE = 1e-2  # beside points whose distances are of order one


class Losses(NamedTuple):
    """Mean square error of a coordinate, by prediction (given the class, or without) and noise level.

    Attributes:
        sigma: (L,) noise levels.
        loss, stderr: (2, L) of `PREDICTIONS`.
        optimum, excess, excess_stderr: (2, L) the least loss there is, and how far above it the network is: the mean
            square distance to the optimal denoiser, whose sampling error is that of the distance itself. NaN where the
            optimum is not known.
    """

    sigma: np.ndarray
    loss: np.ndarray
    stderr: np.ndarray
    optimum: np.ndarray
    excess: np.ndarray
    excess_stderr: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """(2, L) excess over optimum: the figure of merit."""
        return self.excess / self.optimum


def level_losses(
    denoiser: Denoiser,
    x0: Float[ArrayLike, "n ..."],
    labels: Int[ArrayLike, " n"],
    sigmas: Sequence[float] | Float[np.ndarray, " L"],
    *,
    key: PRNGKeyArray,
    optimum: Optimum | None = None,
) -> Losses:
    """Losses on noised points, the same points and noise at every level.

    Args:
        denoiser: an EDM denoiser (α = 1, σ = t) that takes the null condition, -1.
        x0: (n, ...) points that training has not seen.
        labels: (n,) condition of each.
        sigmas: (L,) noise levels.
        key: of the noise.
        optimum: the exact denoiser, where there is one.
    """
    x0, labels = jnp.asarray(x0), jnp.asarray(labels)
    noise = jax.random.normal(key, x0.shape, x0.dtype)
    asked = as_pytree(denoiser)
    rows = [_at_level(asked, optimum, x0, labels, noise, jnp.asarray(s, x0.dtype)) for s in sigmas]
    columns = np.moveaxis(np.array([[np.asarray(part) for part in row] for row in rows]), 0, -1)
    return Losses(np.asarray(sigmas, float), *columns)


@functools.partial(jax.jit, static_argnames=("optimum",))
def _at_level(
    asked: Any,
    optimum: Optimum | None,
    x0: Float[Array, "n ..."],
    labels: Int[Array, " n"],
    noise: Float[Array, "n ..."],
    sigma: Float[Array, ""],
) -> tuple[Array, ...]:
    """The five rows of `Losses`, (2,) each."""
    denoiser, x = from_pytree(asked), x0 + sigma * noise
    times = jnp.full(x.shape[:1], sigma)
    rows = []
    for label in (labels, None):
        denoised = denoiser.denoise(x, times, jnp.full_like(labels, -1) if label is None else label)
        rows.append((*_mean_square(x0 - denoised), *_against(optimum, denoised, x0, x, sigma, label)))
    return tuple(jnp.stack(parts) for parts in zip(*rows, strict=True))


def _against(
    optimum: Optimum | None, denoised: Array, x0: Array, x: Array, sigma: Array, label: Array | None
) -> tuple[Array, Array, Array]:
    if optimum is None:
        unknown = jnp.full((), jnp.nan, x.dtype)
        return unknown, unknown, unknown
    best = optimum(x, sigma, label)
    return _mean_square(x0 - best)[0], *_mean_square(denoised - best)


def _mean_square(difference: Float[Array, "n ..."]) -> tuple[Array, Array]:
    squares = jnp.mean(difference.reshape(len(difference), -1) ** 2, axis=1)
    return squares.mean(), squares.std(ddof=1) / len(squares) ** 0.5


def mixture_optimum(mixture: gmm.Mixture) -> Optimum:
    """The exact denoiser of a mixture whose components are the classes."""

    def optimum(x: Array, sigma: Array, label: Array | None) -> Array:
        return gmm.denoise(mixture, gmm.edm(), x, sigma, label)

    return optimum


def nearest_class(
    samples: Float[np.ndarray, "n d"], points: Float[np.ndarray, "m d"], labels: Int[np.ndarray, " m"]
) -> Int[np.ndarray, " n"]:
    """Class of the nearest data point: what the exact empirical posterior becomes as its noise goes to zero."""
    mixture = gmm.diffuse(gmm.families.empirical(points)[0], 1.0, NEAREST_NOISE)
    blocks = np.array_split(samples, -(-len(samples) // 100))
    nearest = [np.asarray(_likeliest(mixture, jnp.asarray(block))) for block in blocks]
    return np.asarray(labels)[np.concatenate(nearest)]


@jax.jit
def _likeliest(mixture: gmm.Mixture, x: Float[Array, "n d"]) -> Int[Array, " n"]:
    return jnp.argmax(gmm.log_posterior(mixture, x), axis=-1)
