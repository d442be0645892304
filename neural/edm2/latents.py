"""Between the latents of the Stable Diffusion autoencoder and those that the ImageNet-512 networks see.

The networks work on latents of sd-vae-ft-mse, normalised channel by channel to mean 0 and standard deviation
0.5. This differs from the autoencoder's usual use in two ways: its input is pixels in [0, 1], not [-1, 1], and its
factor 0.18215 is not applied.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from gmm.checks import as_float


@dataclasses.dataclass(frozen=True)
class Latents:
    """The affine map z ↦ scale·z + bias, with one scale and one bias per channel.

    Attributes:
        raw_mean, raw_std: (C,) statistics of the autoencoder's latents over the training images.
        final_std: standard deviation of the network's latents; their mean is 0.
    """

    raw_mean: tuple[float, ...]
    raw_std: tuple[float, ...]
    final_std: float = 0.5

    @property
    def scale(self) -> Float[Array, " c"]:
        """Factor of each channel."""
        return self.final_std / jnp.asarray(self.raw_std)

    @property
    def bias(self) -> Float[Array, " c"]:
        """Offset of each channel."""
        return -jnp.asarray(self.raw_mean) * self.scale

    def from_raw(self, raw: Float[ArrayLike, "n h w c"]) -> Float[Array, "n h w c"]:
        """The network's latents of the autoencoder's (means, or samples)."""
        z = as_float(raw)
        return z * _row(self.scale, z) + _row(self.bias, z)

    def to_raw(self, x: Float[ArrayLike, "n h w c"]) -> Float[Array, "n h w c"]:
        """The input of the autoencoder's decoder, from the network's latents."""
        z = as_float(x)
        return (z - _row(self.bias, z)) / _row(self.scale, z)


def _row(values: Float[Array, " c"], like: Float[Array, "n h w c"]) -> Float[Array, "1 1 1 c"]:
    """The values of each channel, in the precision of the latents."""
    return values.astype(like.dtype)[None, None, None]


IMG512 = Latents(raw_mean=(5.81, 3.25, 0.12, -2.15), raw_std=(4.17, 4.62, 3.71, 3.28))
"""The published ImageNet-512 networks' latents."""
