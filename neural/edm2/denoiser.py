"""EDM2 as a denoiser: preconditioning and class labels.

Preconditioning (Karras et al. 2022, table 1), s = sigma_data::

    D(x, σ) = c_skip x + c_out F(c_in x, c_noise)      c_skip = s²/(σ²+s²)      c_out = σ s/√(σ²+s²)
                                                       c_in = 1/√(σ²+s²)        c_noise = ¼ log σ

It is computed in at least float32, whatever the type of the network: at small σ, D differs from x by a correction
that half precision would round away.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Int

from gmm.checks import check_detached, choose
from neural.arguments import ClassLabels, label_of_each, labels_of_all, noise_level_of_each, noise_levels
from neural.arithmetic import wide
from neural.edm2 import network
from neural.edm2.architecture import Config, read_config
from neural.edm2.network import Weights
from neural.edm2.weights import fold

State = Float[Array, "n height width channels"] | Float[np.ndarray, "n height width channels"]
Times = Float[ArrayLike, ""] | Float[ArrayLike, " n"]
Labels = Int[ArrayLike, ""] | Int[ArrayLike, " n"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["weights", "unconditional"],
    meta_fields=["config", "dtype"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class EDM2(ClassLabels):
    """A class-conditional (or unconditional) EDM2 network as a denoiser; a pytree of its weights.

    Images are NHWC. Times are σ, the standard deviation of the noise, in units of the network's own input.
    Functions are jitted once per shape and may be called inside other transformations.

    Attributes:
        weights: folded weights by the checkpoint's names.
        unconditional: the network that guidance and gaps use in place of the untrained zero label, or None.
        config: sizes and constants.
        dtype: type of the convolutions.
    """

    weights: Weights
    unconditional: "EDM2 | None"
    config: Config
    dtype: np.dtype

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        return self.config.image_shape

    def __repr__(self) -> str:
        c = self.config
        shape = "x".join(map(str, c.image_shape))
        return f"EDM2({shape}, classes={c.label_dim}, channels={c.channels}, {self.dtype})"

    def denoise(self, x: State, t: Times, condition: Labels | None = None) -> Float[Array, "n h w c"]:
        """E[x_0 | x_t, condition].

        Args:
            x: (n, H, W, C) noisy images, not scaled.
            t: () or (n,) noise standard deviations, positive.
            condition: () or (n,) class indices; -1, or None for the whole batch, is the zero label. It is
                untrained in the published conditional networks: for an unconditional prediction use
                `unconditional`.

        Returns:
            (n, H, W, C), in the type of x, but at least float32.

        Raises:
            ValueError: when a shape does not fit, a time is not positive, or a class does not exist.
        """
        t = self._check(x, t)
        label = label_of_each(condition, self.config.label_dim, len(t))
        return _denoise(self.weights, x, t, label, config=self.config, dtype=self.dtype)

    def denoise_classes(
        self, x: State, t: Times, conditions: Int[ArrayLike, " k"]
    ) -> Float[Array, "n k h w c"]:
        """E[x_0 | x_t, condition] of every state under each of K classes.

        Equal to K calls of `denoise` up to rounding; the part that does not depend on the class is computed once
        per state.

        Args:
            x: (n, H, W, C) noisy images.
            t: () or (n,) noise standard deviations.
            conditions: (K,) class indices, -1 for the zero label.

        Returns:
            (n, K, H, W, C).

        Raises:
            ValueError: as `denoise`.
        """
        t = self._check(x, t)
        labels = labels_of_all(conditions, self.config.label_dim)
        n, rows = x.shape[0], jnp.tile(labels, x.shape[0])
        d = _denoise(self.weights, jnp.asarray(x), t, rows, config=self.config, dtype=self.dtype)
        return d.reshape(n, labels.size, *x.shape[1:])

    def uncertainty(self, t: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
        """The network's own log variance u(σ): it predicts E(x_0 - D)² = c_out² e^u for every coordinate.

        Args:
            t: noise standard deviations of any shape, positive.
        """
        t = noise_levels(t)
        dtype = wide(self.dtype)
        return network.uncertainty(self.weights, (jnp.log(t.ravel()) / 4).astype(dtype)).reshape(t.shape)

    def with_unconditional(self, other: "EDM2") -> "EDM2":
        """This network with `other` as its unconditional one.

        Raises:
            ValueError: when `other` works on images of another shape.
        """
        if other.config.image_shape != self.config.image_shape:
            raise ValueError(
                f"unconditional must work on images of shape {self.config.image_shape}, "
                f"got a network for {other.config.image_shape}"
            )
        return dataclasses.replace(self, unconditional=other)

    def _check(self, x: State, t: Times) -> Float[Array, " n"]:
        check_detached("x", x)
        shape = np.shape(x)
        if len(shape) != 4 or shape[1:] != self.config.image_shape:
            height, width, channels = self.config.image_shape
            swapped = shape[1:] == (channels, height, width)
            hint = "; transpose (n, C, H, W) with (0, 2, 3, 1)" if swapped else ""
            raise ValueError(f"x must have shape (n, {height}, {width}, {channels}), got {shape}{hint}")
        return noise_level_of_each(t, shape[0])


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def _denoise(
    weights: Weights,
    x: Float[Array, "n height width channels"],
    t: Float[Array, " n"],
    label: Int[Array, " rows"],
    *,
    config: Config,
    dtype: np.dtype,
) -> Float[Array, "rows height width channels"]:
    """D for every row of `label`; each row of `x` serves rows / n consecutive labels."""
    classes = label.shape[0] // x.shape[0]
    x = x.astype(wide(x.dtype))
    sigma = t.astype(x.dtype)[:, None, None, None]
    spread = jnp.sqrt(sigma**2 + config.sigma_data**2)
    c_noise = jnp.repeat(jnp.log(t) / 4, classes).astype(wide(dtype))
    emb = network.embed(weights, config, c_noise, label)
    f = network.unet(weights, config, (x / spread).astype(dtype), emb).astype(x.dtype)
    skip, scale = x * (config.sigma_data / spread) ** 2, sigma * config.sigma_data / spread
    return jnp.repeat(skip, classes, axis=0) + jnp.repeat(scale, classes, axis=0) * f


def from_tensors(
    tensors: Mapping[str, np.ndarray],
    options: Mapping[str, Any] | None = None,
    *,
    dtype: DTypeLike = jnp.float32,
    as_published: bool = False,
) -> EDM2:
    """A network from the tensors of a checkpoint.

    Args:
        tensors: by `state_dict` name, in the checkpoint's layout (out, in, height, width).
        options: the keyword arguments that the network was built with, where known.
        dtype: float32, bfloat16 or float16 for the convolutions; float64 too where JAX is set to 64 bit.
        as_published: as in `load_edm2`.

    Raises:
        ValueError: as `read_config`, or on another dtype.
    """
    names = ("float32", "bfloat16", "float16") + (("float64",) if _in_64_bit() else ())
    dtype = np.dtype(choose("dtype", jnp.dtype(dtype).name, names))
    config = read_config({name: np.shape(tensor) for name, tensor in tensors.items()}, options)
    return EDM2(fold(tensors, config, dtype, as_published=as_published), None, config, dtype)


def _in_64_bit() -> bool:
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64
