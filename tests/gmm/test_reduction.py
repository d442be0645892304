"""Exact reduction: posteriors of the projected problem are those of the full one at d = 200."""

import jax
import numpy as np
import pytest

import gmm
from gmm.reduction import reduction

DIM, CLASSES = 200, 4
# Log posteriors of float64 mixtures: rounding of squared norms of a few hundred.
EXACT = 1e-11


def covariances():
    rng = np.random.default_rng(0)
    square = rng.normal(size=(DIM, DIM))
    return {
        "isotropic": (gmm.Isotropic(0.7), CLASSES - 1),
        "diagonal": (gmm.Diagonal(np.repeat([0.5, 1.0, 2.0, 4.0], DIM // 4)), 4 * (CLASSES - 1)),
        "low rank": (gmm.LowRank(rng.normal(size=(DIM, 3)), 0.4), CLASSES - 1 + 3),
        "full": (gmm.Full(square @ square.T / DIM + 0.1 * np.eye(DIM)), DIM),
    }


def mixture_with(covariance):
    means = np.random.default_rng(1).normal(size=(CLASSES, DIM)) / 3 + 5.0
    return gmm.Mixture([0.1, 0.2, 0.3, 0.4], means, covariance)


@pytest.mark.parametrize("name", covariances())
@pytest.mark.parametrize("process", [gmm.vp(), gmm.edm(), gmm.flow()], ids=lambda p: p.name)
def test_posteriors_are_those_of_the_full_problem(name, process):
    covariance, most = covariances()[name]
    mixture = mixture_with(covariance)
    found = reduction(mixture)
    assert found.mixture.dim <= most
    for t in (0.05, 0.7):
        alpha, sigma = process.alpha(t), process.sigma(t)
        noisy = gmm.diffuse(mixture, alpha, sigma)
        x, _ = gmm.sample(noisy, jax.random.key(2), 20)
        small = gmm.log_posterior(gmm.diffuse(found.mixture, alpha, sigma), found.project(x, alpha))
        np.testing.assert_allclose(small, gmm.log_posterior(noisy, x), atol=EXACT)


@pytest.mark.parametrize("name", ["isotropic", "diagonal", "low rank"])
def test_entropies_and_rates_agree_within_their_errors(name):
    mixture = mixture_with(covariances()[name][0])
    options = {"key": jax.random.key(0), "samples": 2048}
    full, small = (
        gmm.class_entropy(m, gmm.vp(), [0.8, 1.5], **options) for m in (mixture, gmm.reduce(mixture))
    )
    for field in ("entropy", "rate"):
        error = np.hypot(getattr(full, f"{field}_stderr"), getattr(small, f"{field}_stderr"))
        assert np.abs((getattr(full, field) - getattr(small, field)) / error).max() < 5


def test_scores_reduce_too():
    mixture = mixture_with(gmm.Isotropic(0.5))
    found = reduction(mixture)
    x, _ = gmm.sample(mixture, jax.random.key(3), 10)
    inside = gmm.score(mixture, x) @ found.basis
    np.testing.assert_allclose(inside, gmm.score(found.mixture, found.project(x)), atol=1e-9)
    np.testing.assert_allclose(found.project(found.lift(found.project(x))), found.project(x), atol=1e-9)


def test_coincident_means_keep_one_coordinate():
    mixture = gmm.Mixture([0.5, 0.5], np.ones((2, 6)), gmm.Isotropic(0.3))
    small = gmm.reduce(mixture)
    assert small.dim == 1
    np.testing.assert_allclose(small.means, 0, atol=1e-12)
    assert float(np.ravel(small.covariance.var)[0]) == pytest.approx(0.3)


def test_float32_stays_float32():
    means = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    mixture = gmm.Mixture(np.full(3, 1 / 3, np.float32), means, gmm.Isotropic(np.float32(1)))
    assert gmm.reduce(mixture).dtype == np.float32
    assert gmm.reduce(mixture).dim == 2


def test_unequal_covariances_are_refused_with_a_way_out():
    mixture = gmm.Mixture([0.5, 0.5], np.eye(2), gmm.Isotropic([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"share one covariance .* covariance='shared'"):
        gmm.reduce(mixture)


def test_restrict_conditions_on_the_union():
    mixture = gmm.Mixture([0.1, 0.2, 0.3, 0.4], np.eye(4), gmm.Isotropic(1.0))
    small, decision = gmm.restrict(mixture, gmm.Partition([0, 1, 1, 2]), [2, 1])
    np.testing.assert_allclose(small.weights, np.array([0.2, 0.3, 0.4]) / 0.9)
    np.testing.assert_array_equal(decision.labels, [1, 1, 0])
