"""Losses by noise level, against denoisers whose excess is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
from neural.denoiser import from_function
from neural.families import FamilySpec
from neural.training import level_losses, mixture_optimum, nearest_class

MIXTURE = FamilySpec("simplex", 6, 3).mixture()
SIGMAS = (0.1, 1.0, 5.0)
OFFSET = 0.3


def _shifted(x, t, condition):
    """The exact denoiser, off by the same in every coordinate."""
    exact = functools.partial(gmm.denoise, MIXTURE, gmm.edm(), x, t)
    return jnp.where((condition < 0)[:, None], exact(None), exact(jnp.maximum(condition, 0))) + OFFSET


@pytest.fixture(scope="module")
def losses():
    x0, labels = gmm.sample(MIXTURE, jax.random.key(0), 4000)
    denoiser = from_function(_shifted, gmm.edm(), range(3), (6,), unconditional=True)
    optimum = mixture_optimum(MIXTURE)
    return level_losses(denoiser, x0, labels, SIGMAS, key=jax.random.key(1), optimum=optimum)


def test_excess_is_the_distance_to_the_optimum(losses):
    np.testing.assert_allclose(losses.excess, OFFSET**2, rtol=1e-10)
    np.testing.assert_allclose(losses.excess_stderr, 0, atol=1e-10)
    np.testing.assert_allclose(losses.gap, OFFSET**2 / losses.optimum, rtol=1e-10)


def test_loss_is_optimum_plus_excess_within_its_error(losses):
    # Six values, two-sided: false alarm below 1e-4 a value.
    assert (np.abs(losses.loss - losses.optimum - losses.excess) < 4 * losses.stderr).all()


def test_the_optimum_given_the_class_is_the_variance_of_a_gaussian_channel(losses):
    exact = np.array([s**2 / (1 + s**2) for s in SIGMAS])
    assert (np.abs(losses.optimum[0] - exact) < 4 * losses.stderr[0]).all()
    assert (losses.optimum[1] > losses.optimum[0] - 1e-12).all()


def test_without_an_optimum_there_is_no_gap():
    x0, labels = gmm.sample(MIXTURE, jax.random.key(0), 4000)
    denoiser = from_function(_shifted, gmm.edm(), range(3), (6,), unconditional=True)
    found = level_losses(denoiser, x0, labels, SIGMAS[:1], key=jax.random.key(1))
    assert np.isnan(found.gap).all()
    assert np.isfinite(found.loss).all()


def test_nearest_class_is_that_of_the_nearest_point():
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(40, 5)), rng.integers(0, 4, 40)
    samples = rng.normal(size=(250, 5))
    distance = np.square(samples[:, None] - points[None]).sum(-1)
    np.testing.assert_array_equal(nearest_class(samples, points, labels), labels[distance.argmin(axis=1)])
