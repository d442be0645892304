"""3x3 convolutions with fewer multiplications: Winograd's minimal filtering F(2x2, 3x3).

Each tile of 2x2 outputs is computed from 4x4 inputs with 16 multiplications per pair of channels instead of
36 (Lavin and Gray 2016, arXiv 1509.09308, section 4.1): transform inputs and kernel, multiply the 16
positions as one batched matrix product over channels, transform back. The transforms are sums of at most
three terms of weight 1 or ½, so float32 loses 1e-6 against a direct sum, not the 1e-5 of larger tiles.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from neural.arithmetic import largest_divisor

Images = Float[Array, "n height width channels"]
Layout = Literal["HWIO", "OIHW"]
"""Order of a kernel's axes: height, width, channels in and out. Kernels are never transposed."""

# Transformed inputs are four times as large as the image. Working on a few images, or strips of one, at a time keeps
# them in a CPU's cache; without it, the algorithm is slower than direct convolution from 4 images of 64x64 pixels on.
CHUNK_BYTES = 2**23


# With fewer tiles than this the transform of the kernel costs more than it saves; in the second layout a direct
# convolution has to transpose the kernel, which costs as much. With fewer channels the image's transform costs more.
LEAST_TILES: dict[Layout, int] = {"HWIO": 64, "OIHW": 16}
LEAST_CHANNELS = 64


def pays(images: tuple[int, ...], weight: tuple[int, ...], dtype: jnp.dtype, layout: Layout = "HWIO") -> bool:
    """Whether `convolve` is expected to be faster than a direct convolution of these shapes on a CPU."""
    n, height, width, channels = images
    size, out = (weight[:2], weight[3]) if layout == "HWIO" else (weight[2:], weight[0])
    return (
        size == (3, 3)
        and height % 2 == width % 2 == 0
        and n * height * width // 4 >= LEAST_TILES[layout]
        and min(channels, out) >= LEAST_CHANNELS
        and dtype == jnp.float32
    )


def convolve(
    x: Images, weight: Float[Array, "_ _ _ _"], layout: Layout = "HWIO"
) -> Float[Array, "n height width out"]:
    """The convolution of `x` with zero padding that keeps height and width, both even."""
    n, height, width, channels = x.shape
    row_bytes = 4 * width * channels * x.dtype.itemsize
    images = largest_divisor(n, CHUNK_BYTES // (height * row_bytes))
    rows = 2 * largest_divisor(height // 2, CHUNK_BYTES // (2 * row_bytes))
    strips = height // rows
    kernel = _transform_kernel(weight, layout, x)
    contracted = 1 if layout == "HWIO" else 2
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def convolve_chunk(index: Array) -> Float[Array, "chunk rows width out"]:
        start = (index // strips * images, index % strips * rows, 0, 0)
        # Neighbouring strips share two rows.
        return _convolve(
            lax.dynamic_slice(padded, start, (images, rows + 2, width + 2, channels)), kernel, contracted
        )

    return lax.map(convolve_chunk, jnp.arange(n // images * strips)).reshape(n, height, width, -1)


def _convolve(
    padded: Images, kernel: Float[Array, "16 _ _"], contracted: int
) -> Float[Array, "n rows columns out"]:
    n, height, width, channels = padded.shape
    # The barrier keeps XLA from fusing both passes into one, which takes six times as long to compile.
    columns = lax.optimization_barrier(_transform(padded, axis=2))
    tiles = _transform(columns, axis=2)
    products = lax.dot_general(
        tiles.reshape(16, -1, channels),
        kernel,
        (((2,), (contracted,)), ((0,), (0,))),
        precision=lax.Precision.HIGHEST,
    )
    products = products.reshape(4, 4, n, height // 2 - 1, width // 2 - 1, -1)
    pixels = _back(_back(products, axis=0), axis=1)
    return pixels.transpose(2, 3, 0, 4, 1, 5).reshape(n, height - 2, width - 2, -1)


def _transform_kernel(weight: Float[Array, "_ _ _ _"], layout: Layout, x: Images) -> Float[Array, "16 _ _"]:
    """The 16 positions first, the channels in the layout's order."""
    spread = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    # A matrix product runs on every core; sums of slices do not.
    both = jnp.asarray(np.kron(spread, spread), weight.dtype) + _zero_after(x)
    if layout == "HWIO":
        flat, axis, channels = weight.reshape(9, -1), 0, weight.shape[2:]
    else:
        flat, axis, channels = weight.reshape(-1, 9), 1, weight.shape[:2]
    product = lax.dot_general(both, flat, (((1,), (axis,)), ((), ())), precision=lax.Precision.HIGHEST)
    return product.reshape(16, *channels)


def _zero_after(x: Array) -> Float[Array, ""]:
    """A zero that depends on `x`.

    Without this dependence XLA would transform the kernels of all layers before anything else, which takes gigabytes.
    """
    return (jnp.signbit(x[0, 0, 0, 0]).astype(jnp.uint32) >> 1).astype(x.dtype)


def _transform(x: Array, axis: int) -> Array:
    """The four input combinations of every tile of four, two apart, along `axis`; stacked first."""
    tiles = (x.shape[axis] - 2) // 2
    a, b, c, d = (lax.slice_in_dim(x, start, start + 2 * tiles - 1, 2, axis) for start in range(4))
    return jnp.stack([a - c, b + c, c - b, b - d])


def _back(products: Array, axis: int) -> Array:
    """The two outputs of every tile from its four products along `axis`; stacked in their place."""
    a, b, c, d = jnp.moveaxis(products, axis, 0)
    return jnp.stack([a + b + c, b - c - d], axis)
