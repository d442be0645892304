"""Winograd's algorithm against XLA's direct convolution, and its choice by shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neural import winograd
from neural.edm2 import network
from neural.stable_diffusion import layers

# Rounding of the transforms over that of a direct sum, relative to the largest output; 2e-6 measured.
FLOAT32 = 5e-6
FLOAT64 = 1e-13

SHAPES = [(1, 2, 2, 1, 1), (4, 8, 12, 5, 7), (2, 16, 16, 64, 8)]
# Bytes of transformed inputs at a time: all at once, single images, strips of images.
CHUNKS = [2**23, 2**15, 2**12]


def inputs(shape, dtype):
    n, height, width, channels, out = shape
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((n, height, width, channels)), rng.standard_normal((3, 3, channels, out))
    return jnp.asarray(x, dtype), jnp.asarray(weight, dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_agrees_with_the_direct_convolution(shape, chunk, monkeypatch):
    monkeypatch.setattr(winograd, "CHUNK_BYTES", chunk)
    for dtype, limit in ((jnp.float64, FLOAT64), (jnp.float32, FLOAT32)):
        x, weight = inputs(shape, dtype)
        expected = np.asarray(network.direct_conv(x, weight))
        given = {"HWIO": weight, "OIHW": weight.transpose(3, 2, 0, 1)}
        for layout, kernel in given.items():
            found = jax.jit(winograd.convolve, static_argnames="layout")(x, kernel, layout=layout)
            assert found.dtype == dtype
            assert np.abs(found - expected).max() < limit * np.abs(expected).max()


@pytest.mark.parametrize(
    ("images", "weight", "dtype", "expected"),
    [
        ((1, 64, 64, 128), (3, 3, 128, 128), "float32", {"HWIO", "OIHW"}),
        ((1, 8, 8, 512), (3, 3, 512, 512), "float32", {"OIHW"}),
        ((1, 4, 4, 512), (3, 3, 512, 512), "float32", set()),
        ((4, 8, 8, 512), (3, 3, 512, 512), "float32", {"HWIO", "OIHW"}),
        ((1, 64, 64, 5), (3, 3, 5, 128), "float32", set()),
        ((1, 64, 64, 128), (1, 1, 128, 128), "float32", set()),
        ((1, 65, 64, 128), (3, 3, 128, 128), "float32", set()),
        ((1, 64, 64, 128), (3, 3, 128, 128), "bfloat16", set()),
    ],
)
def test_chosen_by_shape_and_type(images, weight, dtype, expected):
    height, width, channels, out = weight
    kernels = {"HWIO": weight, "OIHW": (out, channels, height, width)}
    assert {
        layout for layout, one in kernels.items() if winograd.pays(images, one, jnp.dtype(dtype), layout)
    } == expected


def stable_diffusion_conv(x, weight):
    weights = {"c.weight": weight.transpose(3, 2, 0, 1), "c.bias": jnp.zeros(weight.shape[3])}
    return layers.conv(x, weights, "c")


@pytest.mark.parametrize("conv", [network.conv, stable_diffusion_conv])
def test_fewer_multiplications_on_a_cpu_alone(conv):
    x, weight = inputs((1, 64, 64, 64, 64), jnp.float32)
    exported = jax.export.export(jax.jit(conv), platforms=["cuda"])(x, weight)
    assert "stablehlo.convolution" in exported.mlir_module()
    lowered = jax.jit(conv).lower(x, weight)
    assert "stablehlo.convolution" not in lowered.as_text()
    expected = np.asarray(network.direct_conv(x, weight))
    assert np.abs(np.asarray(jax.jit(conv)(x, weight)) - expected).max() < FLOAT32 * np.abs(expected).max()


def test_what_is_not_finite_stays_in_its_image():
    """The zero that orders the transform of the kernel after the image is zero whatever the image."""
    x, weight = inputs((3, 4, 4, 2, 3), jnp.float32)
    expected = np.asarray(network.direct_conv(x, weight))
    for value in (np.nan, -np.inf, -1.0):
        broken = x.at[0, 0, 0, 0].set(value)
        found = np.asarray(jax.jit(winograd.convolve)(broken, weight))
        assert np.abs(found[1:] - expected[1:]).max() < FLOAT32 * np.abs(expected).max()
