"""The vision transformer that DINOv2 and CLIP's image tower share, as a pure function of named weights.

An image becomes patches, one token each, after a class token and, in some networks, registers. DINOv2 (Oquab et al.
2023, arXiv 2304.07193; registers: Darcet et al. 2023, arXiv 2309.16588) scales every residual by a learnt vector and
normalises the class token at the end; CLIP (Radford et al. 2021, arXiv 2103.00020) normalises before the first layer,
too, and projects the class token. Names of weights are this project's; `neural.vision.names` maps the published ones.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neural.stable_diffusion import layers
from neural.stable_diffusion.layers import Rows, Weights
from neural.vision.resampling import Images, resize

Activation = Literal["gelu", "quick_gelu", "swiglu"]
Interpolation = Literal["size", "antialias", "offset"]
OFFSET = 0.1
"""What DINOv2's own code adds to the number of patches a side before it divides (its positions differ by that)."""


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a vision transformer.

    Attributes:
        width: channels of a token.
        depth: number of layers.
        heads: attention heads.
        patch: pixels along a side of a patch.
        grid: patches along a side for which positions were learnt.
        registers: tokens between the class token and the patches.
        epsilon: added to the variance of norms.
        activation: of the feed-forward layers.
        interpolation: of positions for other image sizes: bicubic to the size ("size"), with anti-aliasing, or by a
            scale with DINOv2's offset.
    """

    width: int
    depth: int
    heads: int
    patch: int
    grid: int
    registers: int = 0
    epsilon: float = 1e-6
    activation: Activation = "gelu"
    interpolation: Interpolation = "size"

    @property
    def side(self) -> int:
        """Pixels along a side of the images that positions were learnt for."""
        return self.grid * self.patch


def all_tokens(
    weights: Weights, config: TransformerConfig, pixels: Images, last: int = 1
) -> list[Float[Array, "n tokens units"]]:
    """The tokens after each of the `last` layers, deepest last: class token, registers, patches; not normalised.

    Args:
        weights: by this project's names.
        config: the network's sizes.
        pixels: (n, height, width, 3) normalised images; what does not fill a patch is cut off.
        last: how many layers' tokens.
    """
    x = _embedded(weights, config, pixels)
    if "pre_norm.weight" in weights:
        x = layers.layer_norm(x, weights, "pre_norm", config.epsilon)
    kept = []
    for index in range(config.depth):
        x = _layer(x, weights, config, f"layers.{index}")
        if index >= config.depth - last:
            kept.append(x)
    return kept


def class_token(
    weights: Weights, config: TransformerConfig, tokens: Float[Array, "n tokens width"]
) -> Float[Array, "n features"]:
    """The normed class token, projected where the network has a projection."""
    normed = layers.layer_norm(tokens[:, :1], weights, "norm", config.epsilon)[:, 0]
    return layers.linear(normed, weights, "projection") if "projection.weight" in weights else normed


def linear_head(
    weights: Weights, config: TransformerConfig, tokens: list[Float[Array, "n tokens units"]]
) -> Float[Array, "n classes"]:
    """Logits of DINOv2's linear head, which reads the class tokens of some layers and the mean of the last patches."""
    normed = [layers.layer_norm(x, weights, "norm", config.epsilon) for x in tokens]
    patches = normed[-1][:, 1 + config.registers :].mean(1)
    return layers.linear(jnp.concatenate([*(x[:, 0] for x in normed), patches], axis=1), weights, "head")


def _embedded(weights: Weights, config: TransformerConfig, pixels: Images) -> Float[Array, "n tokens units"]:
    n, channels, patch = pixels.shape[0], pixels.shape[3], config.patch
    height, width = (length // patch for length in pixels.shape[1:3])
    apart = pixels[:, : height * patch, : width * patch].reshape(n, height, patch, width, patch, channels)
    flat = apart.transpose(0, 1, 3, 5, 2, 4).reshape(n, height * width, -1)
    kernel = weights["patch.weight"]
    named = {**weights, "patch.weight": kernel.reshape(kernel.shape[0], -1)}
    patches = layers.linear(flat, named, "patch")
    positions = _positions(weights, config, (height, width), pixels.shape[1:3]).astype(pixels.dtype)
    start = jnp.broadcast_to(weights["class_token"].astype(pixels.dtype), (n, 1, config.width))
    x = jnp.concatenate([start, patches], axis=1) + positions[None]
    if not config.registers:
        return x
    registers = weights["registers"].astype(pixels.dtype)
    registers = jnp.broadcast_to(registers[None], (n, *registers.shape))
    return jnp.concatenate([x[:, :1], registers, x[:, 1:]], axis=1)


def _positions(
    weights: Weights, config: TransformerConfig, grid: tuple[int, int], size: tuple[int, ...]
) -> Float[Array, "tokens width"]:
    positions = weights["positions"]
    # As in the originals, images that are not square are interpolated even where their patches are as many.
    if grid[0] * grid[1] == config.grid**2 and size[0] == size[1]:
        return positions
    learnt = positions[1:].reshape(1, config.grid, config.grid, -1).astype(jnp.float32)
    scale = None
    if config.interpolation == "offset":
        scale = (config.grid / (grid[0] + OFFSET), config.grid / (grid[1] + OFFSET))
    antialias = config.interpolation == "antialias"
    resized = resize(learnt, grid, "bicubic", antialias=antialias, scale=scale)
    return jnp.concatenate([positions[:1], resized.reshape(-1, config.width).astype(positions.dtype)])


def _layer(x: Rows, weights: Weights, config: TransformerConfig, name: str) -> Rows:
    y = layers.layer_norm(x, weights, f"{name}.norm1", config.epsilon)
    q, k, v = (
        layers.split_heads(layers.linear(y, weights, f"{name}.{part}"), config.heads)
        for part in ("q", "k", "v")
    )
    y = layers.linear(layers.attend(q, k, v), weights, f"{name}.out")
    x = x + _scaled(y, weights, f"{name}.scale1")
    y = layers.layer_norm(x, weights, f"{name}.norm2", config.epsilon)
    return x + _scaled(_feed_forward(y, weights, config.activation, name), weights, f"{name}.scale2")


def _scaled(x: Rows, weights: Weights, name: str) -> Rows:
    scale = weights.get(name)
    return x if scale is None else x * scale.astype(x.dtype)[None, None]


def _feed_forward(x: Rows, weights: Weights, activation: Activation, name: str) -> Rows:
    hidden = layers.linear(x, weights, f"{name}.up")
    if activation == "swiglu":
        gate, value = jnp.split(hidden, 2, axis=-1)
        hidden = jax.nn.silu(gate) * value
    elif activation == "quick_gelu":
        hidden = layers.quick_gelu(hidden)
    else:
        hidden = jax.nn.gelu(hidden, approximate=False)
    return layers.linear(hidden, weights, f"{name}.down")
