"""The layers of the three networks, as pure functions of weights by their names in a checkpoint.

Activations are NHWC. Weights stay in the checkpoint's layout, (out, in, height, width) for convolutions and
(out, in) for linear layers. XLA multiplies them in this layout, so nothing is transposed, at load or later.

In bfloat16 or float16 convolutions, products and what lies between them are in that type; the means and
variances of norms and the softmax of attention are in at least float32.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neural import winograd
from neural.arithmetic import largest_divisor, precision, wide

Weights = Mapping[str, Array]
Images = Float[Array, "n height width channels"]
Rows = Float[Array, "n tokens channels"]
Padding = tuple[tuple[int, int], tuple[int, int]]
Record = dict[str, Array] | None

KERNELS = "OIHW"
"""Layout of convolution kernels in a checkpoint."""
SAME: Padding = ((1, 1), (1, 1))
"""Padding with which a 3x3 convolution keeps height and width."""
SCORES_BYTES = 2**27
"""Bytes of the scores over all keys that attention computes at one time;"""
CACHE_BYTES = 2**22
"""the same on a CPU, where scores that do not fit the cache take most of the time."""


def recorder(record: Record) -> Callable[[str, Array], Array]:
    """A function that stores a value in `record`, if there is one, and returns it."""

    def note(name: str, value: Array) -> Array:
        if record is not None:
            record[name] = value
        return value

    return note


def linear(x: Float[Array, "... f"], weights: Weights, name: str) -> Float[Array, "... out"]:
    """A linear layer; its bias is optional."""
    y = jax.lax.dot_general(
        x, weights[f"{name}.weight"].astype(x.dtype), (((x.ndim - 1,), (1,)), ((), ())),
        precision=precision(x.dtype),
    )  # fmt: skip
    bias = weights.get(f"{name}.bias")
    return y if bias is None else y + _last(bias, y)


def conv(
    x: Images, weights: Weights, name: str, stride: int = 1, padding: Padding = SAME
) -> Float[Array, "n rows columns out"]:
    """A 3x3 convolution with zero padding."""
    weight = weights[f"{name}.weight"].astype(x.dtype)
    direct = functools.partial(
        jax.lax.conv_general_dilated, window_strides=(stride, stride), padding=padding,
        dimension_numbers=("NHWC", KERNELS, "NHWC"), precision=precision(x.dtype),
    )  # fmt: skip
    keeps_size = stride == 1 and padding == SAME
    if keeps_size and winograd.pays(x.shape, weight.shape, x.dtype, KERNELS):
        fewer = functools.partial(winograd.convolve, layout=KERNELS)
        y = jax.lax.platform_dependent(x, weight, cpu=fewer, default=direct)
    else:
        y = direct(x, weight)
    return y + _last(weights[f"{name}.bias"], y)


def pointwise(x: Images, weights: Weights, name: str) -> Float[Array, "n height width out"]:
    """A 1x1 convolution, which is a linear layer on every pixel."""
    weight = weights[f"{name}.weight"]
    return linear(x, {**weights, f"{name}.weight": weight.reshape(weight.shape[:2])}, name)


def group_norm(x: Images, weights: Weights, name: str, groups: int, epsilon: float) -> Images:
    """Mean 0 and variance 1 over the pixels and channels of each group, then a scale and an offset for each channel."""
    high = x.astype(wide(x.dtype))

    def mean(values: Images) -> Float[Array, "n 1 1 channels"]:
        # Over pixels first: a sum along rows of memory, which every backend does at full speed.
        by_group = values.mean((1, 2)).reshape(x.shape[0], groups, -1).mean(2, keepdims=True)
        return jnp.repeat(by_group, x.shape[-1] // groups, axis=2).reshape(x.shape[0], 1, 1, -1)

    centred = high - mean(high)
    normal = centred * jax.lax.rsqrt(mean(jnp.square(centred)) + epsilon)
    return _affine(normal, weights, name).astype(x.dtype)


def layer_norm(x: Rows, weights: Weights, name: str, epsilon: float = 1e-5) -> Rows:
    """Mean 0 and variance 1 over the channels of each token, then a scale and an offset for each channel."""
    high = x.astype(wide(x.dtype))
    centred = high - high.mean(-1, keepdims=True)
    normal = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
    return _affine(normal, weights, name).astype(x.dtype)


def _affine(x: Array, weights: Weights, name: str) -> Array:
    return x * _last(weights[f"{name}.weight"], x) + _last(weights[f"{name}.bias"], x)


def _last(values: Float[Array, " channels"], like: Array) -> Array:
    """One number for each channel, in a shape that broadcasts against an array whose last axis is channels."""
    return values.astype(like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))


def quick_gelu(x: Rows) -> Rows:
    """CLIP's activation: a GELU whose normal distribution function is replaced by a sigmoid of sharpness 1.702."""
    return x * jax.nn.sigmoid(1.702 * x)


def split_heads(x: Rows, heads: int) -> Float[Array, "n tokens heads width"]:
    """Channels as heads of equal width."""
    return x.reshape(*x.shape[:2], heads, -1)


def attend(
    q: Float[Array, "n queries heads width"],
    k: Float[Array, "n keys heads width"],
    v: Float[Array, "n keys heads width"],
    *,
    causal: bool = False,
) -> Rows:
    """Softmax attention, heads joined again in the result.

    Some heads and queries are taken at a time, so that their scores over all keys stay within a CPU's cache, or
    within `SCORES_BYTES` elsewhere: at 64x64 latents those of one image would be half a gigabyte.
    """
    n, queries, heads, width = q.shape
    apart = [x.swapaxes(1, 2).reshape(n * heads, -1, width) for x in (q * width**-0.5, k, v)]
    attended = jax.lax.platform_dependent(
        *apart,
        cpu=functools.partial(_attend_in_parts, causal=causal, limit=CACHE_BYTES),
        default=functools.partial(_attend_in_parts, causal=causal, limit=SCORES_BYTES),
    )
    return attended.reshape(n, heads, queries, width).swapaxes(1, 2).reshape(n, queries, heads * width)


def _attend_in_parts(
    q: Array, k: Array, v: Array, *, causal: bool, limit: int
) -> Float[Array, "m queries w"]:
    m, queries, width = q.shape
    row = k.shape[1] * wide(q.dtype).itemsize
    heads = largest_divisor(m, limit // (queries * row))
    part = largest_divisor(queries, limit // (heads * row))
    starts = jnp.arange(0, queries, part)

    def some_heads(several: tuple[Array, Array, Array]) -> Array:
        q, k, v = several
        parts = q.reshape(heads, queries // part, part, width).swapaxes(0, 1)
        attended = jax.lax.map(
            lambda piece: _attend(piece[0], k, v, piece[1] if causal else None), (parts, starts)
        )
        return attended.swapaxes(0, 1).reshape(heads, queries, width)

    grouped = tuple(x.reshape(m // heads, heads, *x.shape[1:]) for x in (q, k, v))
    return jax.lax.map(some_heads, grouped).reshape(m, queries, width)


def _attend(q: Array, k: Array, v: Array, start: Array | None) -> Float[Array, "heads queries w"]:
    """Attention of some queries. From `start` on, each sees the keys up to its own place; with None, all keys."""
    einsum = functools.partial(jnp.einsum, precision=precision(q.dtype), preferred_element_type=wide(q.dtype))
    scores = einsum("hqc,hkc->hqk", q, k)
    if start is not None:
        seen = start + jnp.arange(q.shape[1])[:, None] >= jnp.arange(k.shape[1])[None]
        scores = jnp.where(seen[None], scores, -jnp.inf)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    # Divided after the product, whose result is smaller than the scores.
    total = weights.sum(-1, keepdims=True)
    return (einsum("hqk,hkc->hqc", weights.astype(v.dtype), v) / total).astype(v.dtype)


def double(x: Images) -> Float[Array, "n rows columns channels"]:
    """Each pixel repeated 2x2."""
    n, height, width, channels = x.shape
    doubled = jnp.broadcast_to(x[:, :, None, :, None], (n, height, 2, width, 2, channels))
    return doubled.reshape(n, 2 * height, 2 * width, channels)


def resnet(
    x: Images,
    weights: Weights,
    name: str,
    groups: int,
    epsilon: float,
    emb: Float[Array, "n e"] | None = None,
) -> Float[Array, "n height width out"]:
    """One residual block; `emb` shifts the channels between its two convolutions."""
    y = conv(jax.nn.silu(group_norm(x, weights, f"{name}.norm1", groups, epsilon)), weights, f"{name}.conv1")
    if emb is not None:
        y = y + linear(emb, weights, f"{name}.time_emb_proj")[:, None, None].astype(y.dtype)
    y = conv(jax.nn.silu(group_norm(y, weights, f"{name}.norm2", groups, epsilon)), weights, f"{name}.conv2")
    if f"{name}.conv_shortcut.weight" in weights:
        x = pointwise(x, weights, f"{name}.conv_shortcut")
    return x + y
