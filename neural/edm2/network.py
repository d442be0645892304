"""The EDM2 network as pure functions of its folded weights.

Inside, images and activations are NHWC, (n, height, width, channels): the layout that XLA's convolutions run
fastest on every backend, and that of the whole project. Checkpoints and the paper are NCHW; only
`neural.edm2.weights` knows.

Every function keeps the expected magnitude of its input. In bfloat16 or float16 the convolutions and what
lies between them are in that type; noise level, embedding, norms and softmax stay in at least float32:
squares of activations of up to 256 overflow float16, and a noise level rounded to bfloat16 is another noise
level.

Equations are those of Karras et al. 2024 (arXiv 2312.02696).
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neural import winograd
from neural.arguments import NO_CLASS
from neural.arithmetic import precision, wide
from neural.edm2.architecture import Block, Config
from neural.edm2.weights import EPSILON

Weights = Mapping[str, Array]
Images = Float[Array, "n height width channels"]
Part = Float[Array, "_ height width _"]  # of what is joined along channels; rows may be shared
Record = dict[str, Array] | None


def mp_silu(x: Array) -> Array:
    """Magnitude-preserving SiLU (eq. 81); 0.596 is the root mean square of silu(N(0, 1))."""
    return jax.nn.silu(x) / 0.596


def mp_sum(a: Array, b: Array, t: float) -> Array:
    """Magnitude-preserving blend of two independent terms, `t` the share of `b` (eq. 88)."""
    scale = ((1 - t) ** 2 + t**2) ** -0.5
    return a * ((1 - t) * scale) + b * (t * scale)


def mp_cat_scales(channels: tuple[int, int], t: float) -> tuple[float, float]:
    """Factors on two inputs so that their concatenation gives `t` the share of the second (eq. 103)."""
    first, second = channels
    scale = ((first + second) / ((1 - t) ** 2 + t**2)) ** 0.5
    return (1 - t) * scale / first**0.5, t * scale / second**0.5


def pixel_norm(x: Float[Array, "... channels"]) -> Float[Array, "... channels"]:
    """Divide by the root mean square over channels plus ε (eq. 30), computed in at least float32."""
    square = jnp.mean(jnp.square(x.astype(wide(x.dtype))), axis=-1, keepdims=True)
    return x * (1 / (EPSILON + jnp.sqrt(square))).astype(x.dtype)


def mp_fourier(
    x: Float[Array, " n"], freqs: Float[Array, " f"], phases: Float[Array, " f"]
) -> Float[Array, "n f"]:
    """Magnitude-preserving Fourier features √2 cos(freqs·x + phases) (eq. 75)."""
    return 2**0.5 * jnp.cos(x[:, None] * freqs[None] + phases[None])


def direct_conv(x: Images, weight: Float[Array, "kh kw channels out"]) -> Float[Array, "n height width out"]:
    """Convolution with zero padding that keeps height and width, by XLA."""
    return jax.lax.conv_general_dilated(
        x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=precision(x.dtype)
    )


def conv(x: Images, weight: Float[Array, "kh kw channels out"]) -> Float[Array, "n height width out"]:
    """Convolution as `direct_conv`; on a CPU by Winograd's algorithm where the shapes make it faster."""
    if winograd.pays(x.shape, weight.shape, x.dtype):
        return jax.lax.platform_dependent(x, weight, cpu=winograd.convolve, default=direct_conv)
    return direct_conv(x, weight)


def linear(x: Float[Array, "n f"], weight: Float[Array, "f out"]) -> Float[Array, "n out"]:
    """Matrix product, in full precision."""
    return jnp.matmul(x, weight, precision=precision(x.dtype))


def resample(x: Images, mode: str) -> Float[Array, "n rows columns channels"]:
    """Means of 2x2 pixels (down) or each pixel repeated 2x2 (up): the published filter [1, 1]."""
    n, height, width, channels = x.shape
    if mode == "down":
        return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    if mode == "up":
        doubled = jnp.broadcast_to(x[:, :, None, :, None], (n, height, 2, width, 2, channels))
        return doubled.reshape(n, 2 * height, 2 * width, channels)
    return x


def attention(x: Images, weights: Weights, block: Block, balance: float) -> Images:
    """Cosine attention over all pixels blended into the main path."""
    n, height, width, channels = x.shape
    qkv = conv(x, weights[f"{block.name}.attn_qkv.weight"])
    qkv = pixel_norm(qkv.reshape(n, height * width, 3, block.heads, channels // block.heads))
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    einsum = functools.partial(jnp.einsum, precision=precision(x.dtype), preferred_element_type=wide(x.dtype))
    share = jax.nn.softmax(einsum("nqhc,nkhc->nhqk", q, k) * (channels // block.heads) ** -0.5)
    y = einsum("nhqk,nkhc->nqhc", share.astype(x.dtype), v).astype(x.dtype)
    y = conv(y.reshape(x.shape), weights[f"{block.name}.attn_proj.weight"])
    return mp_sum(x, y, balance)


def _repeat(x: Array, rows: int) -> Array:
    """Repeat each row of a batch that is still shared between the classes of a state."""
    return x if x.shape[0] == rows else jnp.repeat(x, rows // x.shape[0], axis=0, total_repeat_length=rows)


def _conv_parts(parts: list[Part], weight: Array) -> Float[Array, "n height width out"]:
    """Convolve `parts` joined along channels; a part with fewer rows is convolved once, then repeated."""
    rows = max(part.shape[0] for part in parts)
    if all(part.shape[0] == rows for part in parts):
        return conv(jnp.concatenate(parts, axis=-1), weight)
    split = jnp.split(weight, [parts[0].shape[-1]], axis=2)
    first, second = (_repeat(conv(part, w), rows) for part, w in zip(parts, split, strict=True))
    return first + second


def apply_block(
    parts: list[Part], emb: Float[Array, "rows e"], weights: Weights, block: Block, config: Config
) -> Float[Array, "rows h w out"]:
    """One residual block (figure 21).

    Args:
        parts: the main path and, in the decoder, the skip connection. They may have fewer rows than
            `emb`: then each of their rows serves as many consecutive rows of `emb`.
        emb: embedding of noise level and class.
        weights: folded weights.
        block: which block.
        config: constants of the network.
    """
    rows = emb.shape[0]
    parts = [resample(part, block.resample) for part in parts]
    if len(parts) == 2:
        scales = mp_cat_scales((block.channels_in, block.channels_skip), config.concat_balance)
        parts = [part * scale for part, scale in zip(parts, scales, strict=True)]
    if block.is_encoder:
        x = conv(parts[0], weights[f"{block.name}.conv_skip.weight"]) if block.has_conv_skip else parts[0]
        parts = [pixel_norm(x)]
    y = _conv_parts([mp_silu(part) for part in parts], weights[f"{block.name}.conv_res0.weight"])
    modulation = linear(emb, weights[f"{block.name}.emb_linear.weight"]) + 1
    y = mp_silu(_repeat(y, rows) * modulation[:, None, None].astype(y.dtype))
    y = conv(y, weights[f"{block.name}.conv_res1.weight"])
    if block.has_conv_skip and not block.is_encoder:
        x = _conv_parts(parts, weights[f"{block.name}.conv_skip.weight"])
    else:
        x = parts[0]
    x = mp_sum(_repeat(x, rows), y, config.res_balance)
    if block.heads:
        x = attention(x, weights, block, config.attn_balance)
    return x if config.clip_act is None else jnp.clip(x, -config.clip_act, config.clip_act)


def embed(
    weights: Weights,
    config: Config,
    c_noise: Float[Array, " n"],
    label: Int[Array, " n"],
    record: Record = None,
) -> Float[Array, "n e"]:
    """Embedding of noise level and class; label -1 is the zero label."""
    note = _recorder(record)
    fourier = mp_fourier(c_noise, weights["unet.emb_fourier.freqs"], weights["unet.emb_fourier.phases"])
    emb = note("emb_noise", linear(note("emb_fourier", fourier), weights["unet.emb_noise.weight"]))
    if config.label_dim:
        known = (label != NO_CLASS)[:, None]
        rows = weights["unet.emb_label.weight"][jnp.where(label == NO_CLASS, 0, label)]
        emb = mp_sum(emb, note("emb_label", jnp.where(known, rows, 0)), config.label_balance)
    return note("emb", mp_silu(emb))


def unet(
    weights: Weights, config: Config, x: Images, emb: Float[Array, "rows e"], record: Record = None
) -> Float[Array, "rows height width channels"]:
    """The U-Net F on the scaled image `x` = c_in·(noisy image).

    Args:
        weights: from `fold`.
        config: the network's sizes.
        x: (n, H, W, C) in the type to compute in.
        emb: (rows, e) from `embed`; rows is n, or n·K where the rows of one state are K classes in a row.
            What does not depend on the class is then computed once a state.
        record: if given, the output of every block is entered here by its name, for tests.
    """
    note = _recorder(record)
    ones = jnp.ones_like(x[..., :1])
    x = conv(jnp.concatenate([x, ones], axis=-1), weights[f"{config.input_conv}.weight"])
    skips = [note(config.input_conv, x)]
    for block in config.encoder():
        x = note(block.name, apply_block([x], emb, weights, block, config))
        skips.append(x)
    for block in config.decoder():
        parts = [x, skips.pop()] if block.channels_skip else [x]
        x = note(block.name, apply_block(parts, emb, weights, block, config))
    return note("F_x", conv(x, weights["unet.out_conv.weight"]))


def _recorder(record: Record) -> Callable[[str, Array], Array]:
    def note(name: str, value: Array) -> Array:
        if record is not None:
            record[name.removeprefix("unet.")] = value
        return value

    return note


def uncertainty(weights: Weights, c_noise: Float[Array, " n"]) -> Float[Array, " n"]:
    """The network's log-variance output u(σ), a function of the noise level alone."""
    fourier = mp_fourier(c_noise, weights["logvar_fourier.freqs"], weights["logvar_fourier.phases"])
    return linear(fourier, weights["logvar_linear.weight"])[:, 0]
