"""The autoencoder with its weights: pictures to latents and back."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm.checks import check_detached
from neural.arithmetic import wide
from neural.stable_diffusion import vae
from neural.stable_diffusion.architecture import VAEConfig
from neural.stable_diffusion.layers import Weights

Images = Float[Array, "n height width channels"] | Float[np.ndarray, "n height width channels"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["config", "dtype"])
@dataclasses.dataclass(frozen=True, eq=False)
class VAE:
    """An autoencoder; a pytree of its weights.

    Latents and pictures are neither scaled nor clamped. The range of the pixels depends on the training of the
    weights: [-1, 1] for Stable Diffusion, [0, 1] for the ImageNet-512 networks of EDM2.

    Attributes:
        weights: by the checkpoint's names.
        config: sizes.
        dtype: to compute in.
    """

    weights: Weights
    config: VAEConfig
    dtype: np.dtype

    def __repr__(self) -> str:
        return f"VAE(latents={self.config.latent_channels}, widths={self.config.widths}, {self.dtype})"

    def encode(self, images: Images) -> Float[Array, "n h w c"]:
        """The posterior mean of the latents.

        Args:
            images: (n, H, W, 3), H and W multiples of 8.

        Returns:
            (n, H/8, W/8, 4), in at least float32.

        Raises:
            ValueError: when the shape does not fit.
        """
        check_images("images", images, self.config.image_channels, self.config.shrinks)
        return _encode(self.weights, jnp.asarray(images), config=self.config, dtype=self.dtype)

    def decode(self, latents: Images) -> Float[Array, "n H W 3"]:
        """The picture of latents.

        Args:
            latents: (n, h, w, 4).

        Returns:
            (n, 8h, 8w, 3), in at least float32.

        Raises:
            ValueError: when the shape does not fit, or float16 overflows.
        """
        check_images("latents", latents, self.config.latent_channels, 1)
        return _decode(self.weights, jnp.asarray(latents), config=self.config, dtype=self.dtype)


def check_images(name: str, images: object, channels: int, multiple: int) -> None:
    """Raise ValueError unless `images` are (n, H, W, channels) with H and W positive multiples of `multiple`."""
    check_detached(name, images)
    shape = np.shape(images)  # type: ignore[arg-type]
    if len(shape) == 4 and shape[3] == channels and all(side and side % multiple == 0 for side in shape[1:3]):
        return
    swapped = len(shape) == 4 and shape[1] == channels != shape[3]
    hint = "; transpose (n, C, H, W) with (0, 2, 3, 1)" if swapped else ""
    sides = f", H and W multiples of {multiple}" if multiple > 1 else ""
    raise ValueError(f"{name} must have shape (n, H, W, {channels}){sides}, got {shape}{hint}")


# One image at a time: the decoder's activations of one alone are a gigabyte, and more at once is not faster.


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def _encode(weights: Weights, images: Images, *, config: VAEConfig, dtype: np.dtype) -> Array:
    def one(image: Array) -> Array:
        return vae.means(vae.encode(weights, config, image[None].astype(dtype)))[0]

    return jax.lax.map(one, images).astype(wide(dtype))


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def _decode(weights: Weights, latents: Images, *, config: VAEConfig, dtype: np.dtype) -> Array:
    def one(latent: Array) -> Array:
        return vae.decode(weights, config, latent[None].astype(dtype))[0]

    return jax.lax.map(one, latents).astype(wide(dtype))
