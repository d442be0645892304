"""U-turns of denoisers against the exact agreement of mixtures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
from neural.denoiser import mixture_denoiser
from neural.uturn import u_turn

# Standard errors that a difference may take; two partitions at four times are compared.
SIGMAS = 4.0
# The way back in 64 steps forgets that x_0 has a variance given x_t: with 2^15 paths the fine class stays up to
# 0.011 ± 0.003 more often than the posterior says, the coarse one 0.003 ± 0.003.
STEP_BIAS = 0.011


@pytest.fixture(scope="module")
def tree():
    return gmm.families.tree([2, 3], dim=16), gmm.families.tree_partitions([2, 3])


def turned(mixture, partitions, times, n=2048, **more):
    key, draw = jax.random.split(jax.random.key(1))
    x0, labels = gmm.sample(mixture, draw, n)
    return u_turn(
        mixture_denoiser(mixture, gmm.edm()),
        x0,
        labels,
        times,
        judge=functools.partial(gmm.log_posterior, mixture),
        partitions=partitions,
        key=key,
        **more,
    )


def test_a_class_stays_as_often_as_the_posterior_says(tree):
    mixture, partitions = tree
    times = np.array([1.0, 2.0, 4.0, 12.0])
    for partition, found in zip(partitions, turned(mixture, partitions, times), strict=True):
        exact = gmm.clone_agreement(
            mixture, gmm.edm(), times, partition=partition, key=jax.random.key(2), samples=2**14
        )
        allowed = SIGMAS * np.hypot(found.stderr, exact.stderr) + STEP_BIAS
        assert (np.abs(found.value - exact.value) < allowed).all()


def test_a_way_back_to_another_law_is_found_out(tree):
    mixture, partitions = tree
    other = gmm.Mixture(mixture.weights, 0.5 * mixture.means, mixture.covariance)
    x0, labels = gmm.sample(mixture, jax.random.key(0), 1024)
    found = u_turn(
        mixture_denoiser(other, gmm.edm()), x0, labels, [3.0],
        judge=lambda x: gmm.log_posterior(mixture, x), partitions=partitions[-1:], key=jax.random.key(1),
    )[0]  # fmt: skip
    exact = gmm.clone_agreement(mixture, gmm.edm(), [3.0], key=jax.random.key(2), samples=2**13)
    assert abs(found.value[0] - exact.value[0]) > 5 * np.hypot(found.stderr[0], exact.stderr[0])


def test_bad_input(tree):
    mixture, partitions = tree
    denoiser, judge = mixture_denoiser(mixture, gmm.edm()), lambda x: gmm.log_posterior(mixture, x)
    common = {"judge": judge, "partitions": partitions, "key": jax.random.key(0)}
    with pytest.raises(ValueError, match="n >= 2 samples and their classes"):
        u_turn(denoiser, jnp.zeros((3, 16)), [0, 1], [1.0], **common)
    with pytest.raises(ValueError, match="times must be noisier than the end of the reverse process"):
        u_turn(denoiser, jnp.zeros((2, 16)), [0, 1], [1.0, 0.01], **common)
