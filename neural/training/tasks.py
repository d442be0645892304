"""What is learned: an MLP on samples of a mixture or on vectors, an EDM2 network on images.

Every loss is EDM's (Karras et al. 2022, eq. 8): the error of F, which weights a noise level by 1/c_out². The noise
levels of a batch are one from each of as many equally likely strata, so that every batch covers the range. A share
of the labels is dropped: under the null condition the network learns the mixture of the classes.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, Int, PRNGKeyArray

import gmm
from neural import edm2, mlp
from neural.arguments import NO_CLASS
from neural.edm2 import network
from neural.edm2.weights import fold_traced, forced
from neural.training.trainer import Params


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["mixture", "labels"], meta_fields=["config", "dropout"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class VectorTask:
    """An MLP on fresh samples of a mixture; points of a data set are a mixture too.

    Noise levels are uniform in log σ between the ends that the network is made for.

    Attributes:
        mixture: what is sampled.
        labels: (components,) class of each component.
        config: sizes of the network.
        dropout: share of the labels that is dropped. A half, since the null condition is the harder one to learn.
    """

    scans: ClassVar[bool] = True
    mixture: gmm.Mixture
    labels: Int[Array, " K"]
    config: mlp.Config
    dropout: float = 0.5

    def initial(self, key: PRNGKeyArray) -> Params:
        """Weights to start from."""
        return mlp.initial(key, self.config)

    def project(self, params: Params) -> Params:
        """The same weights: there is no constraint."""
        return params

    def loss(self, params: Params, key: PRNGKeyArray, batch: int) -> Float[Array, ""]:
        """Mean square error of F on a batch."""
        c, (points, dropped, levels, noise) = self.config, jax.random.split(key, 4)
        x0, component = gmm.sample(self.mixture, points, batch)
        label = _drop(dropped, self.labels[component], self.dropout)
        low, high = jnp.log(c.sigma_min), jnp.log(c.sigma_max)
        sigma = jnp.exp(low + (high - low) * _strata(levels, batch))
        x, target, spread = _noised(noise, x0, sigma, c.sigma_data)
        return jnp.mean((mlp.predict(params, c, x / spread, sigma, label) - target) ** 2)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["x0", "labels"],
    meta_fields=["config", "dropout", "noise_mean", "noise_std"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class ImageTask:
    """An EDM2 network on labelled images, its weights' rows kept at magnitude one after every step.

    Parameters are the tensors of an EDM2 checkpoint; its Fourier features are not trained. The loss is weighted
    by the network's own uncertainty (Karras et al. 2024, eq. 21).

    Attributes:
        x0: (n, H, W, C) images as the network sees them.
        labels: (n,) class of each.
        config: sizes of the network.
        dropout: share of the labels that is dropped.
        noise_mean, noise_std: of log(σ/sigma_data), which is normal.
    """

    scans: ClassVar[bool] = False
    x0: Float[Array, "n height width channels"]
    labels: Int[Array, " n"]
    config: edm2.Config
    dropout: float = 0.15
    noise_mean: float = 0.3
    noise_std: float = 1.3

    def initial(self, key: PRNGKeyArray) -> Params:
        """Weights and Fourier features to start from; gains at zero, so that F starts at zero."""
        shapes = edm2.tensor_shapes(self.config)
        keys = jax.random.split(key, len(shapes))
        return {
            name: _initial(part, name, shape)
            for part, (name, shape) in zip(keys, shapes.items(), strict=True)
        }

    def project(self, params: Params) -> Params:
        """Rows of magnitude one."""
        return forced(params)

    def loss(self, params: Params, key: PRNGKeyArray, batch: int) -> Float[Array, ""]:
        """Uncertainty-weighted square error of F on a batch."""
        points, dropped, levels, noise = jax.random.split(key, 4)
        index = jax.random.randint(points, (batch,), 0, self.x0.shape[0])
        label = _drop(dropped, self.labels[index], self.dropout)
        c, normal = self.config, ndtri(_strata(levels, batch))
        sigma = c.sigma_data * jnp.exp(self.noise_mean + self.noise_std * normal)
        x, target, spread = _noised(noise, self.x0[index], sigma, c.sigma_data)
        constant = {name: jax.lax.stop_gradient(v) if "fourier" in name else v for name, v in params.items()}
        weights, c_noise = fold_traced(constant, c), jnp.log(sigma) / 4
        f = network.unet(weights, c, x / spread, network.embed(weights, c, c_noise, label))
        u = network.uncertainty(weights, c_noise)
        return jnp.mean(jnp.mean((f - target) ** 2, axis=(1, 2, 3)) / jnp.exp(u) + u)


def _initial(key: PRNGKeyArray, name: str, shape: tuple[int, ...]) -> Array:
    if not shape:
        return jnp.zeros(())
    if name.endswith(".phases"):
        return 2 * jnp.pi * jax.random.uniform(key, shape)
    normal = jax.random.normal(key, shape)
    return 2 * jnp.pi * normal if name.endswith(".freqs") else normal


def _drop(key: PRNGKeyArray, label: Int[Array, " n"], share: float) -> Int[Array, " n"]:
    return jnp.where(jax.random.uniform(key, label.shape) < share, NO_CLASS, label)


def _strata(key: PRNGKeyArray, n: int) -> Float[Array, " n"]:
    """One uniform number in each n-th part of (0, 1), the ends left out."""
    places = (jnp.arange(n) + jax.random.uniform(key, (n,))) / n
    return jnp.clip(places, 1e-4, 1 - 1e-4)


def _noised(
    key: PRNGKeyArray, x0: Float[Array, "n ..."], sigma: Float[Array, " n"], s: float
) -> tuple[Array, Array, Array]:
    """Noisy states, what F should be of them, and √(σ²+s²) in their rank."""
    sigma = sigma.reshape(-1, *[1] * (x0.ndim - 1))
    spread = jnp.sqrt(sigma**2 + s**2)
    x = x0 + sigma * jax.random.normal(key, x0.shape)
    return x, (x0 - x * (s / spread) ** 2) / (sigma * s / spread), spread
