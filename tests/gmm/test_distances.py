"""Near classes beside far ones: distances, posteriors, scores and entropies in float32, against NumPy's float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

import gmm
from gmm.distances import HARMLESS

# Differences x - m round each coordinate to eps·|x|: in log odds eps·|x|·|m_j - m_k|, here below 0.1.
INPUT_ROUNDING = 0.1
# How far the two groups are from the origin, and the classes of one from its centre, in standard deviations.
OFFSET, NEAR = 3e4, 3.5
SIGMAS = 4.5  # two-sided: false alarms in 1 of 1e5 seeds


def groups(per_group=20, dim=40):
    """Two far groups of near classes, rotated into general position, exact in float32."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    near = NEAR * axes[1 : 1 + per_group]
    means = np.concatenate([near + OFFSET * axes[0], near - OFFSET * axes[0]])
    x = means[rng.integers(2 * per_group, size=64)] + rng.normal(size=(64, dim))
    return means.astype(np.float32), x.astype(np.float32)


def covariances(classes, dim):
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    spectrum = rng.uniform(0.5, 2, dim)
    factor = rng.normal(size=(dim, 3)).astype(np.float32)
    return {
        "isotropic": gmm.Isotropic(np.float32(1.5)),
        "diagonal": gmm.Diagonal(spectrum.astype(np.float32)),
        "full": gmm.Full(((axes * spectrum) @ axes.T).astype(np.float32)),
        "low rank": gmm.LowRank(factor, np.float32(1)),
        "isotropic each": gmm.Isotropic(rng.uniform(0.5, 2, classes).astype(np.float32)),
        "diagonal each": gmm.Diagonal(rng.uniform(0.5, 2, (classes, dim)).astype(np.float32)),
    }


KINDS = list(covariances(2, 4))


def reference(covariance, means, x):
    """(n, K) log densities up to a constant for all, and x - mean, in float64 from the definition."""
    dense = np.asarray(covariance.dense(means.shape[1]), float)
    dense = np.broadcast_to(dense, (len(means), *dense.shape[-2:]))
    gap = x.astype(float)[:, None] - means.astype(float)[None]
    solved = np.stack([np.linalg.solve(c, g.T).T for c, g in zip(dense, gap.swapaxes(0, 1), strict=True)], 1)
    return -0.5 * np.sum(gap * solved, axis=-1) - 0.5 * np.linalg.slogdet(dense)[1], solved


@pytest.mark.parametrize("per_group", [3, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_posteriors_and_scores_of_near_classes_beside_far_ones(kind, per_group):
    means, x = groups(per_group)
    covariance = covariances(*means.shape)[kind]
    mixture = gmm.Mixture(np.full(len(means), 1 / len(means), np.float32), means, covariance)
    joint, solved = reference(covariance, means, x)
    exact = log_softmax(joint, axis=1)
    found = np.asarray(gmm.log_posterior(mixture, x), float)
    likely = exact > -30
    np.testing.assert_allclose(found[likely], exact[likely], atol=INPUT_ROUNDING)
    score = -np.sum(np.exp(exact)[..., None] * solved, axis=1)
    np.testing.assert_allclose(gmm.score(mixture, x), score, atol=INPUT_ROUNDING)
    slope = jax.vmap(jax.grad(lambda p: gmm.log_prob(mixture, p)))(jnp.asarray(x[:8]))
    np.testing.assert_allclose(slope, score[:8], atol=INPUT_ROUNDING)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 300.0])
def test_entropy_and_rate_of_near_classes_beside_far_ones(sigma):
    """Two groups of orthogonal classes: the group is certain (or noise hides it), the class inside is not."""
    means, _ = groups()
    mixture = gmm.Mixture(np.full(40, 1 / 40, np.float32), means, gmm.Isotropic(np.float32(1)))
    curve = gmm.class_entropy(mixture, gmm.edm(), [sigma], key=jax.random.key(0), samples=1024)
    with jax.enable_x64(True):
        exact = gmm.Mixture(np.full(40, 1 / 40), means.astype(float), gmm.Isotropic(1.0))
        other = gmm.class_entropy(exact, gmm.edm(), [sigma], key=jax.random.key(1), samples=1024)
    for name in ("entropy", "rate"):
        (a,), (b,) = getattr(curve, name), getattr(other, name)
        error = np.hypot(getattr(curve, f"{name}_stderr")[0], getattr(other, f"{name}_stderr")[0])
        assert abs(a - b) <= SIGMAS * error + HARMLESS**2 * b


def test_a_batch_of_problems_and_blocks_of_components_agree_with_one(monkeypatch):
    """A time for each state, which is a batch; and blocks, each with near classes or without them."""
    means, x = groups()
    means[-3:] = 0  # a block without far classes
    mixture = gmm.Mixture(np.full(40, 1 / 40, np.float32), means, gmm.Isotropic(np.float32(1)))
    one = gmm.denoise(mixture, gmm.edm(), x, np.float32(0.5))
    each = gmm.denoise(mixture, gmm.edm(), x, np.full(len(x), 0.5, np.float32))
    np.testing.assert_allclose(each, one, atol=INPUT_ROUNDING)
    monkeypatch.setattr("gmm.mixture.BLOCK_ELEMENTS", 7 * len(x))
    jax.clear_caches()
    blocks = gmm.denoise(mixture, gmm.edm(), x, np.float32(0.5))
    jax.clear_caches()
    np.testing.assert_allclose(blocks, one, atol=INPUT_ROUNDING)


def test_far_points_and_coincident_means_stay_finite():
    means = np.zeros((12, 20), np.float32)
    means[6:] = 1e5
    mixture = gmm.Mixture(np.full(12, 1 / 12, np.float32), means, gmm.Isotropic(np.float32(1)))
    posterior = np.exp(gmm.log_posterior(mixture, np.full((1, 20), 1e8, np.float32)))
    np.testing.assert_allclose(posterior, np.repeat([0, 1 / 6], 6)[None], rtol=1e-5)


def test_points_in_float64_are_cast_after_their_offset_is_gone():
    offset = 2.0**30  # exact in float32, where its neighbours are 128 apart
    shift = np.array([offset, 0])
    means = np.array([[0.0, 0.0], [0.0, 2.0]]) + shift
    mixture = gmm.Mixture(np.full(2, 0.5, np.float32), means.astype(np.float32), gmm.Isotropic(np.float32(1)))
    x = np.random.default_rng(2).normal(size=(3, 5, 2))
    here = gmm.Mixture(mixture.weights, means - shift, gmm.Isotropic(np.float32(1)))
    for function in (gmm.log_prob, gmm.log_posterior, gmm.score):
        np.testing.assert_allclose(function(mixture, x + shift), function(here, x), atol=1e-5)
