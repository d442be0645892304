"""The autoencoder of latent diffusion: pictures to latents and back (Rombach et al. 2022, appendix E.1).

Stable Diffusion 1.5 and the ImageNet-512 networks of EDM2 share its architecture, with other weights and
other ranges of pixels and latents. The networks here neither scale nor clamp.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neural.stable_diffusion import layers
from neural.stable_diffusion.architecture import VAEConfig
from neural.stable_diffusion.layers import Images, Record, Weights

EPSILON = 1e-6
AFTER: layers.Padding = ((0, 1), (0, 1))
"""Where the encoder halves the resolution, it pads only below and to the right."""


def encode(
    weights: Weights, config: VAEConfig, images: Images, record: Record = None
) -> Float[Array, "n rows columns out"]:
    """Mean and log variance of the latents of pictures, along the last axis.

    Args:
        weights: by the checkpoint's names.
        config: the network's sizes.
        images: (n, H, W, 3).
        record: if given, the output of every block is stored here by its name.

    Returns:
        (n, H/8, W/8, 8): four means, then four log variances.
    """
    note = layers.recorder(record)
    x = note("encoder.conv_in", layers.conv(images, weights, "encoder.conv_in"))
    for stage in config.encoder():
        x = note(stage.resnet, layers.resnet(x, weights, stage.resnet, config.groups, EPSILON))
        if stage.resample:
            x = note(stage.resample, layers.conv(x, weights, stage.resample, stride=2, padding=AFTER))
    x = _middle(x, weights, config, "encoder", record)
    x = _out(x, weights, config, "encoder")
    return note("quant_conv", layers.pointwise(note("encoder.conv_out", x), weights, "quant_conv"))


def decode(
    weights: Weights, config: VAEConfig, latents: Images, record: Record = None
) -> Float[Array, "n rows columns out"]:
    """Pictures of latents; arguments as `encode`.

    Returns:
        (n, 8H, 8W, 3) for latents (n, H, W, 4).
    """
    note = layers.recorder(record)
    x = note("post_quant_conv", layers.pointwise(latents, weights, "post_quant_conv"))
    x = note("decoder.conv_in", layers.conv(x, weights, "decoder.conv_in"))
    x = _middle(x, weights, config, "decoder", record)
    for stage in config.decoder():
        x = note(stage.resnet, layers.resnet(x, weights, stage.resnet, config.groups, EPSILON))
        if stage.resample:
            x = note(stage.resample, layers.conv(layers.double(x), weights, stage.resample))
    return note("decoder.conv_out", _out(x, weights, config, "decoder"))


def _middle(x: Images, weights: Weights, config: VAEConfig, side: str, record: Record) -> Images:
    note, block = layers.recorder(record), f"{side}.mid_block"
    first, attention, second = (f"{block}.{part}" for part in ("resnets.0", "attentions.0", "resnets.1"))
    x = note(first, layers.resnet(x, weights, first, config.groups, EPSILON))
    x = note(attention, _attention(x, weights, config, attention))
    return note(second, layers.resnet(x, weights, second, config.groups, EPSILON))


def _attention(x: Images, weights: Weights, config: VAEConfig, name: str) -> Images:
    """Attention of pixels to each other with one head, added to the main path."""
    rows = layers.group_norm(x, weights, f"{name}.group_norm", config.groups, EPSILON)
    rows = rows.reshape(x.shape[0], -1, x.shape[-1])
    q, k, v = (
        layers.split_heads(layers.linear(rows, weights, f"{name}.{part}"), 1)
        for part in ("to_q", "to_k", "to_v")
    )
    return x + layers.linear(layers.attend(q, k, v), weights, f"{name}.to_out.0").reshape(x.shape)


def _out(x: Images, weights: Weights, config: VAEConfig, side: str) -> Float[Array, "n height width out"]:
    x = layers.group_norm(x, weights, f"{side}.conv_norm_out", config.groups, EPSILON)
    return layers.conv(jax.nn.silu(x), weights, f"{side}.conv_out")


def means(moments: Images) -> Float[Array, "n height width out"]:
    """The posterior mean, from the moments that `encode` returns."""
    return jnp.split(moments, 2, axis=-1)[0]
