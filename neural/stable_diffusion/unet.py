"""The U-Net of Stable Diffusion: noise in the latents, predicted at a time step and under a text.

It follows Rombach et al. 2022 (arXiv 2112.10752, appendix E.2), with the sinusoidal embedding of time of Ho et
al. 2020 (arXiv 2006.11239). The embedding is computed in at least float32: the step 750, rounded to bfloat16,
would be 752.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neural.arithmetic import wide
from neural.stable_diffusion import layers
from neural.stable_diffusion.architecture import Stage, UNetConfig
from neural.stable_diffusion.layers import Images, Record, Rows, Weights

KeysValues = Mapping[str, tuple[Array, Array]]
"""Keys and values (m, tokens, heads, width) of a text for every attention, by the attention's name."""

RESNET_EPSILON = 1e-5
ATTENTION_EPSILON = 1e-6
MAX_PERIOD = 10_000


def text_keys(weights: Weights, config: UNetConfig, text: Float[Array, "m tokens context"]) -> KeysValues:
    """Keys and values of a text in every attention of the U-Net, computed once for all steps."""

    def one(name: str) -> tuple[Array, Array]:
        block = f"{name}.transformer_blocks.0.attn2"
        k, v = (layers.linear(text, weights, f"{block}.{part}") for part in ("to_k", "to_v"))
        return layers.split_heads(k, config.heads), layers.split_heads(v, config.heads)

    return {stage.attention: one(stage.attention) for stage in config.stages() if stage.attention}


def embed_time(weights: Weights, config: UNetConfig, t: Float[Array, " n"]) -> Float[Array, "n e"]:
    """Embedding of the time step, which may be fractional, after the SiLU with which every block begins."""
    half = config.widths[0] // 2
    frequencies = jnp.exp(-jnp.log(jnp.asarray(MAX_PERIOD, t.dtype)) * jnp.arange(half, dtype=t.dtype) / half)
    angles = t[:, None] * frequencies[None]
    waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    emb = jax.nn.silu(layers.linear(waves, weights, "time_embedding.linear_1"))
    return jax.nn.silu(layers.linear(emb, weights, "time_embedding.linear_2"))


def unet(
    weights: Weights,
    config: UNetConfig,
    latents: Images,
    t: Float[Array, " n"],
    text: KeysValues,
    record: Record = None,
) -> Float[Array, "n height width out"]:
    """The predicted noise.

    Args:
        weights: by the checkpoint's names.
        config: the network's sizes.
        latents: (n, H, W, C) in the type to compute in; H and W must halve evenly from level to level.
        t: (n,) time steps.
        text: from `text_keys`, of n texts, or of one for all.
        record: if given, the output of every block is stored here by its name.
    """
    note = layers.recorder(record)
    emb = note("time_embedding", embed_time(weights, config, t.astype(wide(latents.dtype))))
    x = note("conv_in", layers.conv(latents, weights, "conv_in"))
    skips = [x]
    for stage in config.down():
        x = _stage(x, weights, config, stage, emb, text, record)
        skips.append(x)
        if stage.resample:
            x = note(stage.resample, layers.conv(x, weights, stage.resample, stride=2))
            skips.append(x)
    for stage in config.middle():
        x = _stage(x, weights, config, stage, emb, text, record)
    for stage in config.up():
        x = jnp.concatenate([x, skips.pop()], axis=-1)
        x = _stage(x, weights, config, stage, emb, text, record)
        if stage.resample:
            x = note(stage.resample, layers.conv(layers.double(x), weights, stage.resample))
    x = layers.group_norm(x, weights, "conv_norm_out", config.groups, RESNET_EPSILON)
    return note("conv_out", layers.conv(jax.nn.silu(x), weights, "conv_out"))


def _stage(
    x: Images,
    weights: Weights,
    config: UNetConfig,
    stage: Stage,
    emb: Float[Array, "n e"],
    text: KeysValues,
    record: Record,
) -> Float[Array, "n height width out"]:
    note = layers.recorder(record)
    x = note(stage.resnet, layers.resnet(x, weights, stage.resnet, config.groups, RESNET_EPSILON, emb))
    if stage.attention is None:
        return x
    return note(stage.attention, transformer(x, weights, config, stage.attention, text[stage.attention]))


def transformer(
    x: Images, weights: Weights, config: UNetConfig, name: str, text: tuple[Array, Array]
) -> Images:
    """The main path plus the attention of pixels to each other and to the text."""
    n, height, width, channels = x.shape
    block = f"{name}.transformer_blocks.0"
    y = layers.group_norm(x, weights, f"{name}.norm", config.groups, ATTENTION_EPSILON)
    rows = layers.pointwise(y, weights, f"{name}.proj_in").reshape(n, height * width, channels)
    rows = rows + self_attention(layers.layer_norm(rows, weights, f"{block}.norm1"), weights, config, block)
    rows = rows + cross_attention(
        layers.layer_norm(rows, weights, f"{block}.norm2"), weights, config, block, text
    )
    rows = rows + feed_forward(layers.layer_norm(rows, weights, f"{block}.norm3"), weights, f"{block}.ff")
    return x + layers.pointwise(rows.reshape(x.shape), weights, f"{name}.proj_out")


def self_attention(x: Rows, weights: Weights, config: UNetConfig, block: str) -> Rows:
    """Attention of pixels to each other."""
    q, k, v = (
        layers.split_heads(layers.linear(x, weights, f"{block}.attn1.{part}"), config.heads)
        for part in ("to_q", "to_k", "to_v")
    )
    return layers.linear(layers.attend(q, k, v), weights, f"{block}.attn1.to_out.0")


def cross_attention(
    x: Rows, weights: Weights, config: UNetConfig, block: str, text: tuple[Array, Array]
) -> Rows:
    """Attention of pixels to the tokens of the text."""
    q = layers.split_heads(layers.linear(x, weights, f"{block}.attn2.to_q"), config.heads)
    k, v = (jnp.broadcast_to(part, (x.shape[0], *part.shape[1:])).astype(x.dtype) for part in text)
    return layers.linear(layers.attend(q, k, v), weights, f"{block}.attn2.to_out.0")


def feed_forward(x: Rows, weights: Weights, name: str) -> Rows:
    """Two linear layers; the second half of the first one's output gates the first half by a GELU."""
    value, gate = jnp.split(layers.linear(x, weights, f"{name}.net.0.proj"), 2, axis=-1)
    return layers.linear(value * jax.nn.gelu(gate, approximate=False), weights, f"{name}.net.2")
