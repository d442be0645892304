"""A network trained to machine precision where it can be: its curve is the exact one, from training to estimator."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import gmm
from neural.denoiser import mixture_denoiser
from neural.estimators import gap_entropy, online_entropy
from neural.families import FamilySpec
from neural.mlp import MLP
from neural.models import load_model
from neural.training import Recipe, VectorTask, mixture_plan, train
from theory import entropy_curve

FAMILY = FamilySpec("simplex", 4, 3, separation=2.0)
# What is left of the denoiser's error after training, in units of the noise or of the class means: that of the
# float32 that weights are kept in, over a few sums.
PRECISION = 3e-6
# The same paths, driven by denoisers that differ by that.
SAME = 1e-4
TIMES = np.geomspace(40.0, 0.3, 48)


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["mixture", "labels"], meta_fields=["config", "dropout"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class ExactTargets(VectorTask):
    """The optimal denoiser of each class as the target: nothing to average, so training converges to it."""

    def residuals(self, params, key, batch):
        points, levels, noise = jax.random.split(key, 3)
        x0, label = gmm.sample(self.mixture, points, batch)
        c = self.config
        span = math.log(c.sigma_max / c.sigma_min)
        sigma = c.sigma_min * jnp.exp(span * jax.random.uniform(levels, (batch,)))
        x = x0 + sigma[:, None] * jax.random.normal(noise, x0.shape)
        best = gmm.denoise(self.mixture, gmm.edm(), x, sigma, label)
        scale = (sigma * c.sigma_data / jnp.sqrt(sigma**2 + c.sigma_data**2))[:, None]
        return (MLP(params, c).denoise(x, sigma, label) - best) / scale

    def loss(self, params, key, batch):
        return jnp.mean(self.residuals(params, key, batch) ** 2)


def newton(task, params, key, batch=512):
    """The step of Gauss and Newton, which ends the training of a network that is linear in its weights."""
    flat, restore = ravel_pytree(params)
    residuals = lambda w: task.residuals(restore(w), key, batch).ravel()

    @jax.jit
    def linear(w):
        value, push = jax.linearize(residuals, w)
        return value, jax.vmap(push, out_axes=1)(jnp.eye(w.size))

    value, slope = linear(flat)
    return restore(flat - np.linalg.lstsq(slope, value, rcond=1e-12)[0])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    plan = mixture_plan(FAMILY, Recipe(300, batch=64, learning_rate=0.05), depth=0)
    task = ExactTargets(FAMILY.mixture(), plan.task.labels, plan.task.config, plan.task.dropout)
    state, losses = train(task, plan.recipe, block=100)
    assert losses[-1] < 0.05 * losses[0]
    path = tmp_path_factory.mktemp("oracle") / "model.safetensors"
    plan.write(path, newton(task, state.ema, jax.random.key(9)))
    return load_model(path)


def test_what_was_trained_is_the_exact_denoiser(model):
    x0, label = gmm.sample(model.mixture, jax.random.key(1), 64)
    for sigma in (0.05, 1.0, 20.0):
        x = x0 + sigma * jax.random.normal(jax.random.key(2), x0.shape)
        best = gmm.denoise(model.mixture, gmm.edm(), x, sigma, label)
        scale = sigma / math.sqrt(sigma**2 + 1)
        error = np.abs(np.asarray(model.denoiser.denoise(x, sigma, label) - best)) / scale
        assert error.max() < PRECISION


@pytest.mark.parametrize("estimator", [online_entropy, pytest.param(gap_entropy, marks=pytest.mark.slow)])
def test_its_curve_is_the_exact_one(model, estimator):
    ask = {"key": jax.random.key(3), "times": TIMES, "samples": 1024}
    if estimator is gap_entropy:
        ask["data"] = tuple(np.asarray(a) for a in gmm.sample(model.mixture, jax.random.key(4), 1024))
    learned = estimator(model.denoiser, model.conditions, **ask)
    same = estimator(mixture_denoiser(model.mixture, gmm.edm()), model.conditions, **ask)
    np.testing.assert_allclose(learned.entropy, same.entropy, atol=SAME)
    np.testing.assert_allclose(learned.rate, same.rate, rtol=1e-3, atol=SAME)
    exact = entropy_curve(gmm.edm(), TIMES, 16.0, classes=3)
    # What the project holds its estimators to: 2% of log K for the finite step, and the sampling error.
    # Where so few paths are undecided that the error is unknown, the largest known one stands for it.
    stderr = np.nan_to_num(learned.entropy_stderr, nan=np.nanmax(learned.entropy_stderr))
    assert np.isfinite(learned.entropy_stderr[exact.entropy > 0.1]).all()
    assert (np.abs(learned.entropy - exact.entropy) < 0.02 * math.log(3) + 3 * stderr).all()
