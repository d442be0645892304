"""Images of another size, exactly as the libraries of the reference metrics resize them.

A resize is linear and acts on rows and columns apart, so it is two small matrices. Output pixel i of a side lies at

    c = (i + 1/2) · scale - 1/2        scale = size in / size out         half-pixel centres (PyTorch, Pillow)
    c = i · scale                                                         corners (TensorFlow 1)

and takes the inputs j with weights k(j - c). Bilinear: k is the triangle of width 1. Bicubic: Keys' kernel, with
a = -3/4 in PyTorch and a = -1/2 in Pillow and in PyTorch with anti-aliasing. Anti-aliasing stretches the kernel by the
scale where the image shrinks, drops what lies outside and normalises; without it, pixels outside repeat the edge.
"""

import functools
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from neural.arithmetic import precision

Kernel = Literal["bilinear", "bicubic"]
Centres = Literal["half-pixel", "corner"]
Images = Float[Array, "n height width channels"]

SHARP, SOFT = -0.75, -0.5
"""Keys' parameter a, without and with anti-aliasing."""
RADIUS = {"bilinear": 1, "bicubic": 2}


def resize(
    images: Images,
    size: tuple[int, int],
    kernel: Kernel,
    *,
    antialias: bool = False,
    centres: Centres = "half-pixel",
    scale: tuple[float, float] | None = None,
) -> Float[Array, "n rows columns channels"]:
    """Images of `size` (height, width), not rounded.

    Args:
        images: (n, height, width, channels).
        size: height and width that are wanted.
        kernel: "bilinear" or "bicubic".
        antialias: stretch the kernel where the image shrinks, as Pillow does.
        centres: where pixels lie.
        scale: size in over size out of each side, where it is not their ratio.
    """
    rows, columns = (
        jnp.asarray(
            matrix(images.shape[axis + 1], size[axis], kernel, antialias, centres, scale and scale[axis]),
            images.dtype,
        )
        for axis in (0, 1)
    )
    return jnp.einsum("ih,nhwc,jw->nijc", rows, images, columns, precision=precision(images.dtype))


@functools.lru_cache(maxsize=64)
def matrix(
    size: int,
    out: int,
    kernel: Kernel,
    antialias: bool = False,
    centres: Centres = "half-pixel",
    scale: float | None = None,
) -> Float[np.ndarray, "out size"]:
    """The weights of every input pixel of a side (columns) in every output pixel (rows); rows sum to one."""
    scale = size / out if scale is None else scale
    at = np.arange(out) * scale if centres == "corner" else (np.arange(out) + 0.5) * scale - 0.5
    if antialias:
        return _stretched(at, size, kernel, max(scale, 1.0))
    radius = RADIUS[kernel]
    first = np.floor(at).astype(int) - radius + 1
    taps = first[:, None] + np.arange(2 * radius)
    weights = _kernel(taps - at[:, None], kernel, SHARP)
    weights_of_pixels = np.zeros((out, size))
    np.add.at(weights_of_pixels, (np.arange(out)[:, None], np.clip(taps, 0, size - 1)), weights)
    return weights_of_pixels


def _stretched(
    at: Float[np.ndarray, " out"], size: int, kernel: Kernel, stretch: float
) -> Float[np.ndarray, "out size"]:
    radius = RADIUS[kernel] * stretch
    pixels = np.arange(size)
    # Pixels whose centre is within the stretched kernel, ends rounded as Pillow and PyTorch round them.
    start = np.maximum((at + 1 - radius).astype(int), 0)[:, None]
    stop = np.minimum((at + 1 + radius).astype(int), size)[:, None]
    weights = _kernel((pixels - at[:, None]) / stretch, kernel, SOFT)
    weights = np.where((pixels >= start) & (pixels < stop), weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _kernel(x: np.ndarray, kernel: Kernel, a: float) -> np.ndarray:
    x = np.abs(x)
    if kernel == "bilinear":
        return np.maximum(1 - x, 0)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def pillow_resized(
    images: UInt8[np.ndarray, "n height width channels"], size: tuple[int, int]
) -> UInt8[np.ndarray, "n new_height new_width channels"]:
    """Images of `size` (height, width) by Pillow's bicubic filter, which rounds to 8 bits after each side."""
    from PIL import Image

    width_height, bicubic = (size[1], size[0]), Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(image).resize(width_height, bicubic)) for image in images])


def centre_crop(images: np.ndarray, side: int) -> np.ndarray:
    """The middle square of `side` pixels of images that are at least as large."""
    top, left = ((length - side) // 2 for length in images.shape[1:3])
    return images[:, top : top + side, left : left + side]


def short_side(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size with the shorter side of `side` pixels and the same shape, the longer one rounded down."""
    height, width = size
    return (side, side * width // height) if height <= width else (side * height // width, side)
