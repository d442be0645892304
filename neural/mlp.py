"""A small class-conditional denoiser of vectors: a residual network under EDM preconditioning.

With s = sigma_data and the angle θ = arctan(σ/s) the preconditioning of Karras et al. 2022 (table 1) reads

    D(x, σ, c) = cos²θ x + s sinθ F(x/√(σ²+s²), σ, c) cosθ

and F is an affine head, which alone is exact for one Gaussian per class, plus a residual network that learns
what is not affine, above all the mixture of the classes.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from neural import checkpoints
from neural.arguments import NO_CLASS, ClassLabels, label_of_each, labels_of_all, noise_level_of_each
from neural.arithmetic import wide
from neural.checkpoints import Checkpoint, CheckpointError
from neural.checkpoints.shapes import check_shapes
from neural.families import MEANS

Weights = Mapping[str, Array]
COSINES = 8  # cos(πjv), v the place of log σ in the trained range: the noise level as the network sees it
AFFINE = 3  # 1, cosθ, sinθ: features of a class's shift; with these one Gaussian per class is exact
KIND = "mlp"
LARGEST = 1e30
"""Of the constants: their squares must be float32 numbers or nearly so."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and constants of a network.

    Attributes:
        dim: dimension d of a state.
        label_dim: number of classes; 0 for an unconditional network.
        width: units of a layer.
        depth: residual blocks; 0 leaves the affine head alone.
        emb_channels: width of the embedding of noise level and class.
        sigma_data: s of the preconditioning.
        sigma_min, sigma_max: noise levels that the network was trained on; outside, the nearer one is used.
    """

    dim: int
    label_dim: int
    width: int = 192
    depth: int = 3
    emb_channels: int = 64
    sigma_data: float = 1.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        for name, least in (("dim", 1), ("label_dim", 0), ("width", 1), ("depth", 0), ("emb_channels", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
        for name in ("sigma_data", "sigma_min", "sigma_max"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LARGEST:
                raise ValueError(f"{name} must be a positive number, got {value!r:.60}")
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"sigma_min must be below sigma_max, got {self.sigma_min:g} and {self.sigma_max:g}"
            )


def tensor_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Shape of every weight, by name."""
    d, rows, width, emb = config.dim, config.label_dim + 1, config.width, config.emb_channels
    features = AFFINE + COSINES - 1
    shapes: dict[str, tuple[int, ...]] = {
        "affine.gate": (features,),
        "affine.shift": (rows, AFFINE, d),
    }
    if not config.depth:
        return shapes
    shapes |= {
        "emb.noise": (features, emb),
        "emb.label": (rows, emb),
        "in": (d, width),
        "out": (width, d),
    }
    for block in range(config.depth):
        shapes |= {
            f"block{block}.modulate": (emb, 2 * width),
            f"block{block}.first": (width, width),
            f"block{block}.second": (width, width),
        }
    return shapes


def initial(key: PRNGKeyArray, config: Config) -> dict[str, Array]:
    """Random weights under which F starts at zero and every block as the identity."""
    shapes = tensor_shapes(config)
    zero = ("affine.gate", "affine.shift", "out")
    return {
        name: jnp.zeros(shape)
        if name in zero or name.endswith((".second", ".modulate"))
        else jax.random.normal(part, shape) / shape[0] ** (0 if name == "emb.label" else 0.5)
        for part, (name, shape) in zip(jax.random.split(key, len(shapes)), shapes.items(), strict=True)
    }


def predict(
    weights: Weights,
    config: Config,
    x: Float[Array, "n d"],
    sigma: Float[Array, " n"],
    label: Int[Array, " n"],
) -> Float[Array, "n d"]:
    """F of the preconditioning.

    Args:
        weights: by the names of `tensor_shapes`.
        config: sizes.
        x: (n, d) noisy states over √(σ²+s²).
        sigma: (n,) noise levels.
        label: (n,) class indices, -1 for none.
    """
    features, row = _features(config, sigma), jnp.where(label == NO_CLASS, config.label_dim, label)
    f = (features @ weights["affine.gate"])[:, None] * x
    f += jnp.einsum("nf,nfd->nd", features[:, :AFFINE], weights["affine.shift"][row])
    if not config.depth:
        return f
    emb = jax.nn.silu(features @ weights["emb.noise"] + weights["emb.label"][row])
    h = x @ weights["in"]
    for block in range(config.depth):
        scale, shift = jnp.split(emb @ weights[f"block{block}.modulate"], 2, axis=-1)
        u = _normalised(h) * (1 + scale) + shift
        h += jax.nn.silu(u @ weights[f"block{block}.first"]) @ weights[f"block{block}.second"]
    return f + _normalised(h) @ weights["out"]


def _features(config: Config, sigma: Float[Array, " n"]) -> Float[Array, "n f"]:
    """1, cosθ, sinθ, cos(πv), cos(2πv), ...: (n, AFFINE + COSINES - 1)."""
    angle = jnp.arctan2(sigma, jnp.full_like(sigma, config.sigma_data))
    low, high = math.log(config.sigma_min), math.log(config.sigma_max)
    place = jnp.clip((jnp.log(sigma) - low) / (high - low), 0, 1)
    waves = jnp.cos(jnp.pi * place[:, None] * jnp.arange(1, COSINES, dtype=sigma.dtype)[None])
    return jnp.concatenate(
        [jnp.ones_like(angle)[:, None], jnp.cos(angle)[:, None], jnp.sin(angle)[:, None], waves], 1
    )


def _normalised(h: Float[Array, "n width"]) -> Float[Array, "n width"]:
    return h * jax.lax.rsqrt(jnp.mean(h**2, axis=-1, keepdims=True) + 1e-6)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["config"])
@dataclasses.dataclass(frozen=True, eq=False)
class MLP(ClassLabels):
    """The network as a denoiser of vectors; a pytree of its weights.

    Times are σ, the standard deviation of the noise, in units of the states.

    Attributes:
        weights: by name.
        config: sizes and constants.
    """

    weights: Weights
    config: Config

    @property
    def state_shape(self) -> tuple[int]:
        """(d,)."""
        return (self.config.dim,)

    @property
    def dtype(self) -> jnp.dtype:
        """Floating type of the weights."""
        return self.weights["affine.gate"].dtype

    @property
    def unconditional(self) -> "MLP":
        """The network under the null condition, which training has seen: itself."""
        return self

    def __repr__(self) -> str:
        c = self.config
        return f"MLP(dim={c.dim}, classes={c.label_dim}, width={c.width}, depth={c.depth})"

    def denoise(
        self,
        x: Float[ArrayLike, "n d"],
        t: Float[ArrayLike, ""] | Float[ArrayLike, " n"],
        condition: Int[ArrayLike, ""] | Int[ArrayLike, " n"] | None = None,
    ) -> Float[Array, "n d"]:
        """E[x_0 | x_t, condition].

        Args:
            x: (n, d) noisy states, not scaled.
            t: () or (n,) noise standard deviations, positive.
            condition: () or (n,) class indices; -1, or None for the whole batch, is the null condition.

        Returns:
            (n, d), in the type of x, but at least float32.

        Raises:
            ValueError: when a shape does not fit, a time is not positive, or a class does not exist.
        """
        x, t = self._check(x, t)
        label = label_of_each(condition, self.config.label_dim, len(t))
        return _denoise(self.weights, x, t, label, config=self.config)

    def denoise_classes(
        self, x: Float[ArrayLike, "n d"], t: Float[ArrayLike, "..."], conditions: Int[ArrayLike, " k"]
    ) -> Float[Array, "n k d"]:
        """E[x_0 | x_t, condition] of every state under each of K classes, (n, K, d); errors as `denoise`."""
        x, t = self._check(x, t)
        labels = labels_of_all(conditions, self.config.label_dim)
        k = labels.size
        rows, times, label = jnp.repeat(x, k, 0), jnp.repeat(t, k), jnp.tile(labels, len(x))
        return _denoise(self.weights, rows, times, label, config=self.config).reshape(len(x), k, -1)

    def _check(self, x: Any, t: Any) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        x = jnp.asarray(x)
        x = x.astype(wide(x.dtype))
        if x.ndim != 2 or x.shape[1] != self.config.dim:
            raise ValueError(f"x must have shape (n, {self.config.dim}), got {x.shape}")
        return x, noise_level_of_each(t, len(x)).astype(x.dtype)


@functools.partial(jax.jit, static_argnames=("config",))
def _denoise(
    weights: Weights,
    x: Float[Array, "n d"],
    t: Float[Array, " n"],
    label: Int[Array, " n"],
    *,
    config: Config,
) -> Float[Array, "n d"]:
    weights = {name: weight.astype(x.dtype) for name, weight in weights.items()}
    return denoised(weights, config, x, t, label)


def denoised(
    weights: Weights, config: Config, x: Float[Array, "n d"], t: Float[Array, " n"], label: Int[Array, " n"]
) -> Float[Array, "n d"]:
    """D of weights in the type of x, traceable."""
    s, sigma = config.sigma_data, t[:, None]
    spread = jnp.sqrt(sigma**2 + s**2)
    f = predict(weights, config, x / spread, t, label)
    return x * (s / spread) ** 2 + sigma * s / spread * f


def load_mlp(source: str | os.PathLike[str]) -> MLP:
    """A network from a file that training wrote.

    Raises:
        CheckpointError: when the file cannot be read, holds no such network, or a tensor is missing, superfluous, or
            of the wrong shape (named, with both shapes).
    """
    checkpoint = checkpoints.read(source)
    try:
        return from_checkpoint(checkpoint)
    except ValueError as error:
        raise CheckpointError(f"{os.fspath(source)}: {error}") from error


def from_checkpoint(checkpoint: Checkpoint) -> MLP:
    """The network that a checkpoint holds.

    Raises:
        ValueError: when it holds none.
    """
    options = checkpoint.attributes.get("init_kwargs")
    if checkpoint.attributes.get("architecture") != KIND or not isinstance(options, dict):
        raise ValueError(f"not a network of this kind: its architecture must be {KIND!r}, with its options")
    known = {field.name for field in dataclasses.fields(Config)}
    if options.keys() != known:
        raise ValueError(
            f"the options of the network must be {', '.join(sorted(known))}; got {sorted(options)}"
        )
    config = Config(**options)
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name != MEANS}
    _check_tensors(config, tensors)
    weights = {name: jnp.asarray(np.asarray(tensor, np.float32)) for name, tensor in tensors.items()}
    return MLP(weights, config)


def _check_tensors(config: Config, tensors: Mapping[str, np.ndarray]) -> None:
    # Before the names of the tensors are listed, of which a large depth has more than any memory holds.
    if config.depth > len(tensors):
        raise ValueError(f"depth is {config.depth}, but there are only {len(tensors)} tensors")
    check_shapes({name: tensor.shape for name, tensor in tensors.items()}, tensor_shapes(config))
    for name, tensor in tensors.items():
        if not np.issubdtype(tensor.dtype, np.floating) or not np.isfinite(tensor).all():
            raise ValueError(f"tensor {name} must hold finite floating-point numbers")
