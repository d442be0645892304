"""From the states of networks to pictures in bytes."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, UInt8

from neural.edm2.latents import IMG512, Latents
from neural.stable_diffusion.autoencoder import VAE

Pictures = UInt8[np.ndarray, "n height width channels"]
ToPictures = Callable[[Any], Pictures]

LATENT_CHANNELS = 4


def decoded(x: Float[ArrayLike, "n h w 4"], vae: VAE, latents: Latents = IMG512) -> Pictures:
    """Pictures of the latents that EDM2's ImageNet-512 networks work on.

    Their autoencoder takes pixels in [0, 1]. Values are cut to that range and rounded down, as in the official
    code.

    Args:
        x: (n, h, w, 4) states.
        vae: with the weights of sd-vae-ft-mse.
        latents: the map between the autoencoder's latents and the network's.

    Returns:
        (n, 8h, 8w, 3).
    """
    raw = np.asarray(vae.decode(latents.to_raw(jnp.asarray(x))), np.float64)
    return (np.clip(raw, 0, 1) * 255).astype(np.uint8)


def from_unit(pictures: Float[ArrayLike, "n height width channels"]) -> Pictures:
    """Bytes of pictures in [0, 1], rounded to the nearest."""
    return np.round(np.clip(np.asarray(pictures, np.float64), 0, 1) * 255).astype(np.uint8)


def from_rgb(x: Float[ArrayLike, "n height width 3"]) -> Pictures:
    """Bytes of the states of EDM2's networks for pixels, x = pixel/127.5 - 1, rounded down as in the official code."""
    return np.clip(np.asarray(x, np.float64) * 127.5 + 128, 0, 255).astype(np.uint8)
