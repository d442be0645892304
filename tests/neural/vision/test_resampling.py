"""Resizing against torch's own numbers (golden file) and Pillow itself."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural.vision import resampling
from tests.neural.vision import rule

GOLDEN = Path(__file__).parents[1] / "data" / "vision" / "golden.npz"
EXACT = 1e-9  # float64 on both sides, relative to 255; torch accumulates in another order
ROUNDING = (
    1.25  # Pillow rounds to 8 bits after each pass; the second spreads ½ by weights of total size below 1.5
)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


@pytest.mark.parametrize("name", ["bicubic-antialias", "bicubic", "bilinear", "bilinear-antialias"])
def test_resize_equals_torch(golden, name):
    kernel, _, antialias = name.partition("-")
    images = rule.images("resize", 1, 40, 53, 3).astype(np.float64)
    size = (24, 61) if kernel == "bicubic" else (99, 30)
    found = resampling.resize(images, size, kernel, antialias=bool(antialias))
    np.testing.assert_allclose(np.asarray(found), golden[f"resize.{name}"], atol=255 * EXACT, rtol=0)


def test_a_scale_of_its_own_equals_torch(golden):
    scale = (5 / 3.1, 5 / 7.1)
    found = resampling.resize(golden["resize.grid"], (3, 7), "bicubic", scale=scale)
    np.testing.assert_allclose(np.asarray(found), golden["resize.grid-offset"], atol=EXACT, rtol=0)


@pytest.mark.parametrize(("size", "to"), [((40, 53), (24, 61)), ((300, 200), (24, 24)), ((9, 9), (31, 64))])
def test_antialiased_bicubic_is_pillow_without_its_rounding(size, to):
    images = rule.images("pillow", 2, *size, 3)
    theirs = resampling.pillow_resized(images, to).astype(float)
    ours = np.clip(resampling.resize(images.astype(float), to, "bicubic", antialias=True), 0, 255)
    assert np.abs(ours - theirs).max() <= ROUNDING


def test_pillow_resized_is_pillow():
    images = rule.images("pillow", 2, 40, 53, 3)
    expected = np.asarray(Image.fromarray(images[1]).resize((61, 24), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resampling.pillow_resized(images, (24, 61))[1], expected)


def test_corners_take_every_second_pixel_when_the_image_is_halved():
    found = resampling.matrix(8, 4, "bilinear", centres="corner")
    np.testing.assert_array_equal(found, np.eye(8)[::2])


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("size", "out"), [(7, 7), (50, 3), (3, 50), (1, 4), (5, 1)])
def test_constants_stay_constant(kernel, antialias, size, out):
    found = resampling.matrix(size, out, kernel, antialias)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    if size == out:
        np.testing.assert_allclose(found, np.eye(size), atol=1e-12)


@pytest.mark.parametrize(
    ("size", "short"), [((100, 300), (32, 96)), ((301, 100), (96, 32)), ((64, 64), (32, 32))]
)
def test_short_side(size, short):
    assert resampling.short_side(size, 32) == short
    assert resampling.centre_crop(np.zeros((1, *short, 3)), 32).shape == (1, 32, 32, 3)
