"""Inception-v3 as the Fréchet inception distance uses it: the network of 2015, with its poolings.

The network is that of Szegedy et al. 2016 (arXiv 1512.00567); the distance (Heusel et al. 2017, arXiv 1706.08500) is
defined on the 2048 features before its last layer. The published graph differs from the paper's text in its poolings:
averages leave out the padding, and the last block takes a maximum. Names of weights are those of the PyTorch port of
that graph. Batch normalisations are one scale and one shift for each channel.
"""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neural.arithmetic import precision
from neural.stable_diffusion import layers
from neural.stable_diffusion.layers import Images, Weights

LEAST = 75
"""Pixels along a side of the smallest images that leave something to the last block."""
EPSILON = 1e-3
"""Added to the variances of the batch normalisations."""

Branch = tuple[str, ...]
Kernel = tuple[int, int]

# Kernels (height, width) of every convolution, in the order of execution, "/2": stride 2, "v": no padding.
STEM: dict[str, str] = {
    "Conv2d_1a_3x3": "3x3/2v", "Conv2d_2a_3x3": "3x3v", "Conv2d_2b_3x3": "3x3", "pool_1": "max",
    "Conv2d_3b_1x1": "1x1", "Conv2d_4a_3x3": "3x3v", "pool_2": "max",
}  # fmt: skip
_A = {
    "branch1x1": "1x1",
    "branch5x5_1": "1x1", "branch5x5_2": "5x5",
    "branch3x3dbl_1": "1x1", "branch3x3dbl_2": "3x3", "branch3x3dbl_3": "3x3",
    "branch_pool": "1x1",
}  # fmt: skip
_B = {"branch3x3": "3x3/2v", "branch3x3dbl_1": "1x1", "branch3x3dbl_2": "3x3", "branch3x3dbl_3": "3x3/2v"}
_C = {
    "branch1x1": "1x1",
    "branch7x7_1": "1x1", "branch7x7_2": "1x7", "branch7x7_3": "7x1",
    "branch7x7dbl_1": "1x1", "branch7x7dbl_2": "7x1", "branch7x7dbl_3": "1x7", "branch7x7dbl_4": "7x1",
    "branch7x7dbl_5": "1x7",
    "branch_pool": "1x1",
}  # fmt: skip
_D = {
    "branch3x3_1": "1x1", "branch3x3_2": "3x3/2v",
    "branch7x7x3_1": "1x1", "branch7x7x3_2": "1x7", "branch7x7x3_3": "7x1", "branch7x7x3_4": "3x3/2v",
}  # fmt: skip
_E = {
    "branch1x1": "1x1",
    "branch3x3_1": "1x1", "branch3x3_2a": "1x3", "branch3x3_2b": "3x1",
    "branch3x3dbl_1": "1x1", "branch3x3dbl_2": "3x3", "branch3x3dbl_3a": "1x3", "branch3x3dbl_3b": "3x1",
    "branch_pool": "1x1",
}  # fmt: skip
BLOCKS: dict[str, dict[str, str]] = {
    "Mixed_5b": _A, "Mixed_5c": _A, "Mixed_5d": _A, "Mixed_6a": _B,
    "Mixed_6b": _C, "Mixed_6c": _C, "Mixed_6d": _C, "Mixed_6e": _C,
    "Mixed_7a": _D, "Mixed_7b": _E, "Mixed_7c": _E,
}  # fmt: skip
POOLS = {"Mixed_6a": "max/2", "Mixed_7a": "max/2", "Mixed_7c": "max"}
"""Pooling of a block's last branch; elsewhere it is the average without the padding."""


def features(weights: Weights, pixels: Images) -> Float[Array, "n 2048"]:
    """The features that the Fréchet inception distance is defined on.

    Args:
        weights: of `convolutions`, with scale and shift.
        pixels: (n, 299, 299, 3) images in [-1, 1]; other sizes of at least 75 pixels work.
    """
    x = pixels
    for name, kind in STEM.items():
        x = _max_pool(x, 2, "VALID") if kind == "max" else _conv(x, weights, name, kind)
    for name, convolutions in BLOCKS.items():
        x = _block(x, weights, name, convolutions)
    return x.mean((1, 2))


def logits(weights: Weights, features: Float[Array, "n 2048"]) -> Float[Array, "n classes"]:
    """The last layer's logits of features, for the 1008 outputs of the network of 2015."""
    return layers.linear(features, weights, "fc")


def convolutions() -> dict[str, str]:
    """The kernel of every convolution by its full name, in the order of execution."""
    stem = {name: kind for name, kind in STEM.items() if kind != "max"}
    return stem | {f"{block}.{name}": kind for block, inner in BLOCKS.items() for name, kind in inner.items()}


def kernel(kind: str) -> Kernel:
    """Height and width of a convolution's kernel."""
    height, width = kind.split("/")[0].rstrip("v").split("x")
    return int(height), int(width)


def normalisation(tensors: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Scale and shift for each channel that a batch normalisation comes to, computed in float64."""
    weight, bias, mean, var = (
        np.asarray(tensors[f"{name}.bn.{part}"], np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / np.sqrt(var + EPSILON)
    return {
        f"{name}.scale": scale.astype(np.float32),
        f"{name}.shift": (bias - mean * scale).astype(np.float32),
    }


def branches(block: Mapping[str, str]) -> list[Branch]:
    """The chains of convolutions of a block, each from its input; two that share a start end in `a` and `b`."""
    by_branch: dict[str, list[str]] = {}
    for name in block:
        by_branch.setdefault(re.sub(r"_\d[ab]?$", "", name), []).append(name)
    return [tuple(names) for names in by_branch.values()]


def _block(
    x: Images, weights: Weights, name: str, block: Mapping[str, str]
) -> Float[Array, "n rows columns out"]:
    outputs = []
    for branch in branches(block):
        y = _pooled(x, name) if branch == ("branch_pool",) else x
        split = [part for part in branch if part[-1] in "ab"]
        for part in (part for part in branch if part not in split):
            y = _conv(y, weights, f"{name}.{part}", block[part])
        outputs += [_conv(y, weights, f"{name}.{part}", block[part]) for part in split] or [y]
    if POOLS.get(name) == "max/2":
        outputs.append(_pooled(x, name))
    return jnp.concatenate(outputs, axis=-1)


def _conv(x: Images, weights: Weights, name: str, kind: str) -> Float[Array, "n rows columns out"]:
    weight = weights[f"{name}.weight"].astype(x.dtype)
    height, width = kernel(kind)
    rows, columns = (0, 0) if kind.endswith("v") else (height // 2, width // 2)
    padding = ((rows, rows), (columns, columns))
    stride = 2 if "/2" in kind else 1
    y = jax.lax.conv_general_dilated(
        x, weight, (stride, stride), padding, dimension_numbers=("NHWC", layers.KERNELS, "NHWC"),
        precision=precision(x.dtype),
    )  # fmt: skip
    scale, shift = (
        weights[f"{name}.{part}"].astype(x.dtype)[None, None, None] for part in ("scale", "shift")
    )
    return jax.nn.relu(y * scale + shift)


def _pooled(x: Images, block: str) -> Float[Array, "n rows columns channels"]:
    kind = POOLS.get(block, "average")
    if kind == "max/2":
        return _max_pool(x, 2, "VALID")
    return _max_pool(x, 1, "SAME") if kind == "max" else _average_pool(x)


def _max_pool(x: Images, stride: int, padding: str) -> Float[Array, "n rows columns channels"]:
    return jax.lax.reduce_window(
        x, jnp.array(-jnp.inf, x.dtype), jax.lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding
    )


def _average_pool(x: Images) -> Images:
    """The mean over 3x3 pixels, of those that are in the image."""

    def total(y: Array) -> Array:
        return jax.lax.reduce_window(
            y, jnp.array(0, y.dtype), jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME"
        )

    return total(x) / total(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
