"""The text encoder of CLIP ViT-L/14 (Radford et al. 2021, arXiv 2103.00020): tokens to states."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neural.stable_diffusion import layers
from neural.stable_diffusion.architecture import TextConfig
from neural.stable_diffusion.layers import Record, Rows, Weights


def text_encoder(
    weights: Weights,
    config: TextConfig,
    tokens: Int[Array, "n tokens"],
    dtype: jnp.dtype,
    record: Record = None,
) -> Float[Array, "n tokens width"]:
    """The states of the last layer, after the final norm.

    Args:
        weights: by the checkpoint's names.
        config: the network's sizes.
        tokens: (n, T), T at most the network's positions. A token attends to itself and to those before it.
        dtype: to compute in.
        record: if given, the output of every layer is stored here by its name.
    """
    note, table = layers.recorder(record), "text_model.embeddings"
    positions = weights[f"{table}.position_embedding.weight"][: tokens.shape[1]]
    x = (weights[f"{table}.token_embedding.weight"][tokens] + positions[None]).astype(dtype)
    for index in range(config.layers):
        name = f"text_model.encoder.layers.{index}"
        x = note(name, _layer(x, weights, config, name))
    return layers.layer_norm(x, weights, "text_model.final_layer_norm")


def _layer(x: Rows, weights: Weights, config: TextConfig, name: str) -> Rows:
    y = layers.layer_norm(x, weights, f"{name}.layer_norm1")
    q, k, v = (
        layers.split_heads(layers.linear(y, weights, f"{name}.self_attn.{part}"), config.heads)
        for part in ("q_proj", "k_proj", "v_proj")
    )
    x = x + layers.linear(layers.attend(q, k, v, causal=True), weights, f"{name}.self_attn.out_proj")
    y = layers.linear(layers.layer_norm(x, weights, f"{name}.layer_norm2"), weights, f"{name}.mlp.fc1")
    return x + layers.linear(layers.quick_gelu(y), weights, f"{name}.mlp.fc2")
