"""Mixtures against scipy, mpmath, scikit-learn, dense algebra and automatic differentiation.

Statistical tests fix their seeds. Together they make fewer than 100 comparisons at a false-alarm rate of 1e-6
each, were seeds redrawn.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.mixture import GaussianMixture

import gmm.mixture as implementation
from gmm import (
    Diagonal,
    Full,
    Isotropic,
    LowRank,
    Mixture,
    Partition,
    ddpm,
    denoise,
    diffuse,
    flow,
    log_posterior,
    log_prob,
    sample,
    scaled_linear_betas,
    score,
    vp,
)
from gmm.mixture import component_at, joint_log_prob, log_normalise, posterior_logits
from gmm.partition import cell_log_posterior
from gmm.pytree import build
from tests.gmm.problems import PROBLEMS, tagged
from tests.refusals import check_refused

# Both ends of time and the middle: (alpha, sigma) of the Ornstein-Uhlenbeck process at t = 1e-6, 0.5, 20.
NOISE_LEVELS = [(1 - 1e-6, np.sqrt(2e-6)), (0.6, 0.8), (2e-9, 1.0)]
# Multiples of `rounding`, a bound to first order: the largest over all problems is 2.3.
ROUNDINGS = 4
# What that bound comes to where nothing is difficult: digits that users can count on.
EASY = {np.float32: 2e-4, np.float64: 4e-13}
# Two algebraic routes to one float64 number of order one: a few hundred roundings.
TWO_ROUTES = 1e-11
# 1e-6, two-sided and per comparison.
FALSE_ALARM = 1e-6
FALSE_ALARM_SIGMA = float(stats.norm.isf(FALSE_ALARM / 2))

DIFFICULT = {"points", "tiny-variance", "huge-variance", "offset", "high-dimension", "vanishing-weight"}
KINDS_3D = [slug for slug in PROBLEMS if slug.endswith("-3d")]
KINDS_24D = [slug for slug in PROBLEMS if slug.endswith("-24d")]


def problems_in(dtype):
    """Slugs of the problems that `dtype` can express."""
    return [slug for slug in PROBLEMS if dtype == np.float64 or slug not in tagged("vanishing-weight")]


def of(slugs, quick):
    """Parametrise by slug; all but the `quick` ones run with the slow tests, for each compiles its own code."""
    marks = [[] if slug in quick else [pytest.mark.slow] for slug in slugs]
    return pytest.mark.parametrize(
        "slug", [pytest.param(s, marks=m) for s, m in zip(slugs, marks, strict=True)]
    )


def is_slow(slug, dtype):
    """Every shape and type is one more compilation: a second precision of the same code runs with the slow tests."""
    if dtype == np.float32:
        return slug in (*KINDS_3D, "single", "symmetric-pair", "many-classes")
    return slug in KINDS_24D


def in_every_precision(*precisions):
    cases = [(slug, dtype) for dtype in precisions for slug in problems_in(dtype)]
    marks = [[pytest.mark.slow] if is_slow(*case) else [] for case in cases]
    ids = [f"{slug}-{dtype.__name__}" for slug, dtype in cases]
    parameters = [pytest.param(*c, marks=m, id=i) for c, m, i in zip(cases, marks, ids, strict=True)]
    return pytest.mark.parametrize(("slug", "dtype"), parameters)


@jax.jit
def evaluate(mixture, alphas, sigmas, x):
    """log_prob (l, n), log_posterior (l, n, K) and score (l, n, d) at l noise levels."""

    def one(alpha, sigma, x):
        noisy = diffuse(mixture, alpha, sigma)
        return log_prob(noisy, x), log_posterior(noisy, x), score(noisy, x)

    return jax.vmap(one)(alphas, sigmas, x)


@jax.jit
def slopes(mixture, alphas, sigmas, x):
    """Gradient (l, n, d) of log_prob at l noise levels."""
    total = lambda a, s, x: jnp.sum(log_prob(diffuse(mixture, a, s), x))
    return jax.vmap(jax.grad(total, argnums=2))(alphas, sigmas, x)


@functools.cache
def levels(slug, dtype):
    """(alphas, sigmas, x (l, n, d)) of a problem."""
    alphas, sigmas = np.array(NOISE_LEVELS, dtype).T
    rows = [PROBLEMS[slug].points(a, s, dtype) for a, s in zip(alphas, sigmas, strict=True)]
    return alphas, sigmas, np.stack(rows)


@functools.cache
def found(slug, dtype):
    return [np.asarray(leaf) for leaf in evaluate(PROBLEMS[slug].mixture(dtype), *levels(slug, dtype))]


@functools.cache
def expected(slug, dtype):
    """Exact log joint (l, n, K), and its log-sum-exp (l, n), in 80 bits."""
    alphas, sigmas, x = levels(slug, dtype)
    rows = zip(x, alphas, sigmas, strict=True)
    joint = np.stack([PROBLEMS[slug].log_joint(r, a, s, dtype) for r, a, s in rows])
    return joint, logsumexp(joint)


def logsumexp(a):
    top = a.max(axis=-1, keepdims=True)
    return (top + np.log(np.exp(a - top).sum(axis=-1, keepdims=True)))[..., 0]


def rounding(slug, dtype, logs):
    """What rounding x, means and sums once does to log densities of size `logs` (l, ...).

    An error ε|x| in x moves log N by |Σ⁻¹(x-μ)| ε|x| <= √(-2 log N / λ_min) ε|x|; a sum of d terms and a
    log determinant by ε times their size. λ_min is the least variance of the diffused mixture.
    """
    problem = PROBLEMS[slug]
    alphas, sigmas, x = levels(slug, dtype)
    spectra = problem.variances() if problem.diagonal else np.linalg.eigvalsh(problem.dense())
    by_level = (-1,) + (1,) * (logs.ndim - 1)
    noisy = [a**2 * spectra + s**2 for a, s in zip(alphas.astype(float), sigmas.astype(float), strict=True)]
    least = np.array([n.min() for n in noisy]).reshape(by_level)
    constant = np.array([np.abs(np.log(n)).sum(-1).max() for n in noisy]).reshape(by_level) + 2 * problem.dim
    size = np.abs(x).max(axis=(1, 2)).reshape(by_level)
    logs = np.where(np.isfinite(logs), np.abs(logs), 0).astype(float)
    return np.finfo(dtype).eps * (constant + logs + np.sqrt(2 * (logs + constant) / least) * size)


@in_every_precision(np.float32, np.float64)
def test_log_density_is_the_exact_one_at_both_ends_of_time(slug, dtype):
    value, exact = found(slug, dtype)[0], expected(slug, dtype)[1]
    assert value.dtype == dtype
    assert (np.abs(value - exact) <= ROUNDINGS * rounding(slug, dtype, exact)).all()


@in_every_precision(np.float32, np.float64)
def test_log_posterior_is_the_exact_one_at_both_ends_of_time(slug, dtype):
    value = found(slug, dtype)[1]
    joint, total = expected(slug, dtype)
    assert value.dtype == dtype
    exact = joint - total[..., None]
    possible = np.isfinite(exact)
    np.testing.assert_array_equal(np.isfinite(value), possible)  # weight zero is log 0, not a large number
    allowed = ROUNDINGS * (rounding(slug, dtype, joint) + rounding(slug, dtype, total)[..., None])
    assert (np.abs(value[possible] - exact[possible]) <= allowed[possible]).all()


@in_every_precision(np.float32, np.float64)
def test_where_nothing_is_difficult_these_digits_are_right(slug, dtype):
    if PROBLEMS[slug].tags & DIFFICULT:
        pytest.skip("rounding x alone costs more here")
    joint, total = expected(slug, dtype)
    middle = 1  # σ of order one; at t = 1e-6 the densities themselves are steep
    assert np.abs(found(slug, dtype)[0] - total)[middle].max() < EASY[dtype]
    posterior = np.exp(joint - total[..., None])
    assert np.abs(np.exp(found(slug, dtype)[1].astype(np.longdouble)) - posterior)[middle].max() < EASY[dtype]


@pytest.mark.parametrize("slug", KINDS_3D)
def test_log_density_agrees_with_scipy(slug):
    problem, (alpha, sigma) = PROBLEMS[slug], NOISE_LEVELS[1]
    x = levels(slug, np.float64)[2][1]
    noisy = alpha**2 * problem.dense() + sigma**2 * np.eye(problem.dim)
    laws = [stats.multivariate_normal(alpha * m, c) for m, c in zip(problem.means, noisy, strict=True)]
    logs = np.log(problem.weights) + np.stack([law.logpdf(x) for law in laws], axis=-1)
    np.testing.assert_allclose(found(slug, np.float64)[0][1], logsumexp(logs), rtol=TWO_ROUTES)


def sklearn_model(mixture, kind):
    model = GaussianMixture(mixture.components, covariance_type=kind)
    model.weights_, model.means_ = np.asarray(mixture.weights), np.asarray(mixture.means)
    dense = np.asarray(mixture.covariance.dense(mixture.dim))
    inverse = np.linalg.inv(dense)
    if kind == "diag":
        model.precisions_cholesky_ = np.sqrt(np.diagonal(inverse, axis1=1, axis2=2))
    else:
        model.precisions_cholesky_ = np.linalg.cholesky(inverse)
    return model


SKLEARN_KINDS = {"diagonal-each-24d": "diag", "full-24d": "tied", "full-each-24d": "full"}


@of(SKLEARN_KINDS, quick=["full-each-24d"])
def test_posteriors_and_densities_agree_with_scikit_learn(slug):
    mixture = diffuse(PROBLEMS[slug].mixture(), 0.5, 1.0)
    model = sklearn_model(mixture, SKLEARN_KINDS[slug])
    x = np.asarray(sample(mixture, jax.random.key(0), 50)[0])
    np.testing.assert_allclose(np.exp(log_posterior(mixture, x)), model.predict_proba(x), atol=TWO_ROUTES)
    np.testing.assert_allclose(log_prob(mixture, x), model.score_samples(x), rtol=TWO_ROUTES)


def score_rounding(slug, dtype):
    """What rounding x once does to scores.

    ε|x|/λ_min and ε times the score itself; beside it what it does to the posterior (as `rounding` says of
    its logarithm), times the differences of the components' scores. Sums over K components, which the
    backward pass does not normalise, round √K times.
    """
    problem = PROBLEMS[slug]
    alphas, sigmas, x = levels(slug, dtype)
    spectra = problem.variances() if problem.diagonal else np.linalg.eigvalsh(problem.dense())
    least = np.array([(a**2 * spectra + s**2).min() for a, s in zip(alphas, sigmas, strict=True)], float)
    reach = np.array([a * np.ptp(problem.means, axis=0).max() for a in alphas], float)
    size = np.abs(x).max(axis=(1, 2)) + reach
    value = np.abs(found(slug, dtype)[2]).max(-1)
    logs = rounding(slug, dtype, expected(slug, dtype)[1])
    eps = np.finfo(dtype).eps * np.sqrt(problem.components)
    return (eps * (value + (size / least)[:, None]) + logs * (reach / least)[:, None])[..., None]


@in_every_precision(np.float64)
def test_score_is_the_gradient_of_the_log_density(slug, dtype):
    value, slope = found(slug, dtype)[2], slopes(PROBLEMS[slug].mixture(dtype), *levels(slug, dtype))
    assert (np.abs(value - slope) <= ROUNDINGS * score_rounding(slug, dtype)).all()


@in_every_precision(np.float32)
def test_float32_scores_lose_no_more_than_rounding(slug, dtype):
    same = jax.tree.map(lambda leaf: leaf.astype(np.float64), PROBLEMS[slug].mixture(dtype))
    exact = np.asarray(slopes(same, *(level.astype(np.float64) for level in levels(slug, dtype))))
    value = found(slug, dtype)[2]
    assert value.dtype == dtype
    assert (np.abs(np.asarray(value) - exact) <= ROUNDINGS * score_rounding(slug, dtype)).all()


# ------------------------------------------------------------------------------------------------ denoising


def conditional_mean(problem, alpha, sigma, x):
    """(n, K, d) E[x_0|x_t, k] by the textbook formula for jointly Gaussian vectors, with dense matrices."""
    means, dense = problem.means, problem.dense()
    noisy = alpha**2 * dense + sigma**2 * np.eye(problem.dim)
    gap = x[:, None, :] - alpha * means[None]
    return means + alpha * np.einsum("kij,nkj->nki", dense @ np.linalg.inv(noisy), gap)


@of(
    [*KINDS_24D, "points", "points-each", "zero-weight"],
    quick=["isotropic-24d", "full-24d", "low-rank-each-24d", "points-each"],
)
def test_denoiser_agrees_with_dense_algebra_and_with_tweedie(slug):
    problem, process, t = PROBLEMS[slug], vp(), 0.5
    mixture = problem.mixture()
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    x = problem.points(alpha, sigma)
    each = conditional_mean(problem, alpha, sigma, x)
    joint = problem.log_joint(x, alpha, sigma)
    posterior = np.exp(joint - logsumexp(joint)[:, None]).astype(float)
    whole = denoise(mixture, process, x, t)
    np.testing.assert_allclose(
        whole, np.einsum("nk,nkd->nd", posterior, each), rtol=TWO_ROUTES, atol=TWO_ROUTES
    )
    component = np.arange(len(x)) % problem.components
    chosen = each[np.arange(len(x)), component]
    np.testing.assert_allclose(
        denoise(mixture, process, x, t, component), chosen, rtol=TWO_ROUTES, atol=TWO_ROUTES
    )
    # Robbins 1956, Miyasawa 1961: E[x_0|x_t] = (x_t + σ² ∇log p_t)/α.
    tweedie = (x + sigma**2 * score(diffuse(mixture, alpha, sigma), x)) / alpha
    np.testing.assert_allclose(whole, tweedie, rtol=TWO_ROUTES, atol=TWO_ROUTES)


@of(["isotropic-24d", "low-rank-each-24d"], quick=["low-rank-each-24d"])
def test_each_state_may_have_its_own_time_and_component(slug):
    mixture = PROBLEMS[slug].mixture()
    x = np.random.default_rng(0).normal(size=(2, 3, mixture.dim))
    t = np.array([[0.01, 0.1, 0.5], [1.0, 2.0, 3.0]])
    component = np.array([[0, 1, 2], [3, 0, 1]])
    whole, chosen = denoise(mixture, vp(), x, t), denoise(mixture, vp(), x, t, component)
    for index in np.ndindex(t.shape):
        one = functools.partial(denoise, mixture, vp(), x[index], t[index])
        np.testing.assert_allclose(whole[index], one(), rtol=TWO_ROUTES, atol=TWO_ROUTES)
        np.testing.assert_allclose(chosen[index], one(component[index]), rtol=TWO_ROUTES, atol=TWO_ROUTES)


@pytest.mark.parametrize("slug", ["isotropic-3d", "full-each-3d", "points"])
def test_without_signal_the_denoiser_returns_the_prior_mean(slug):
    mixture = PROBLEMS[slug].mixture()
    x = jnp.ones((2, 3))
    prior = np.asarray(mixture.weights) @ np.asarray(mixture.means)
    np.testing.assert_allclose(denoise(mixture, flow(), x, 1.0), [prior, prior], rtol=TWO_ROUTES)
    np.testing.assert_allclose(denoise(mixture, flow(), x, 1.0, 2), [mixture.means[2]] * 2, rtol=TWO_ROUTES)


def test_without_noise_the_denoiser_returns_its_input():
    mixture = PROBLEMS["full-each-3d"].mixture()
    x = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(denoise(mixture, flow(), x, 0.0), x, rtol=TWO_ROUTES, atol=TWO_ROUTES)


def test_float32_mixtures_stay_float32_whatever_the_process_and_its_times():
    mixture = PROBLEMS["full-each-3d"].mixture(np.float32)
    x = np.ones((2, 3), np.float32)
    process = ddpm(scaled_linear_betas())  # its table is float64
    assert denoise(mixture, process, x, np.float64(0.5)).dtype == np.float32
    assert denoise(mixture, process, x, np.array([0.5, 1.0]), 1).dtype == np.float32
    assert sample(mixture, jax.random.key(0), 2)[0].dtype == np.float32


def test_precisions_may_be_mixed():
    mixture = PROBLEMS["full-each-24d"].mixture()
    x = np.ones((2, 24), np.float32)
    np.testing.assert_array_equal(score(mixture, x), score(mixture, x.astype(float)))
    assert denoise(mixture, vp(), x, 0.5).dtype == np.float64


# ---------------------------------------------------------------------------------------- what is invariant


@of(["isotropic-24d", "full-24d", "full-each-24d"], quick=["full-24d"])
def test_rotating_and_shifting_everything_changes_no_posterior(slug):
    problem = PROBLEMS[slug]
    rng = np.random.default_rng(3)
    turn = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    shift = rng.normal(size=24)
    matrices = turn @ problem.dense() @ turn.T
    moved = Full(matrices if not problem.shared else matrices[0])
    mixture = problem.mixture()
    x = problem.points(1.0, 0.5)
    here = diffuse(mixture, 1.0, 0.5)
    there = diffuse(Mixture(problem.weights, problem.means @ turn.T + shift, moved), 1.0, 0.5)
    y = x @ turn.T + shift
    np.testing.assert_allclose(
        log_posterior(there, y), log_posterior(here, x), rtol=TWO_ROUTES, atol=TWO_ROUTES
    )
    np.testing.assert_allclose(log_prob(there, y), log_prob(here, x), rtol=TWO_ROUTES)
    np.testing.assert_allclose(score(there, y), score(here, x) @ turn.T, rtol=TWO_ROUTES, atol=TWO_ROUTES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@of(["isotropic-3d", "isotropic-24d", "diagonal-24d", "full-24d"], quick=["isotropic-3d", "full-24d"])
def test_a_common_offset_costs_posteriors_only_the_rounding_of_x(slug, dtype):
    mixture = PROBLEMS[slug].mixture(dtype)
    offset = dtype(1024)  # exact sums of numbers cut to a few bits: what differs is the arithmetic alone
    coarse = lambda a: np.round(np.asarray(a) * 64).astype(dtype) / 64
    means, x = coarse(mixture.means), coarse(PROBLEMS[slug].points(1, 1))
    here = Mixture(mixture.weights, means, mixture.covariance)
    there = Mixture(mixture.weights, means + offset, mixture.covariance)
    allowed = 3000 * np.finfo(dtype).eps  # log joints of a few hundred
    np.testing.assert_allclose(log_posterior(there, x + offset), log_posterior(here, x), rtol=0, atol=allowed)
    np.testing.assert_allclose(log_prob(there, x + offset), log_prob(here, x), rtol=0, atol=allowed)


finite = st.floats(-3, 3, allow_nan=False, width=32)
noise = st.tuples(st.floats(0.01, 2), st.floats(0.01, 2))


@settings(max_examples=30, deadline=None)
@given(noise, noise, st.lists(finite, min_size=3, max_size=3))
def test_diffusing_twice_is_diffusing_once(first, second, x):
    mixture, x = PROBLEMS["full-each-3d"].mixture(), np.array(x)
    (a, s), (b, r) = first, second
    twice = diffuse(diffuse(mixture, a, s), b, r)
    once = diffuse(mixture, a * b, np.sqrt(b**2 * s**2 + r**2))
    np.testing.assert_allclose(log_prob(twice, x), log_prob(once, x), rtol=TWO_ROUTES, atol=TWO_ROUTES)


@settings(max_examples=30, deadline=None)
@given(st.lists(finite, min_size=3, max_size=3), noise, st.permutations(range(4)))
def test_posteriors_sum_to_one_and_follow_the_components(x, level, order):
    mixture, x = diffuse(PROBLEMS["diagonal-each-3d"].mixture(), *level), np.array(x)
    log_p = log_posterior(mixture, x)
    assert float(jnp.sum(jnp.exp(log_p))) == pytest.approx(1, abs=TWO_ROUTES)
    np.testing.assert_allclose(
        log_posterior(mixture.take(np.array(order)), x), log_p[np.array(order)], rtol=1e-12
    )


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 10), st.lists(finite, min_size=3, max_size=3))
def test_scaling_space_moves_the_log_density_by_its_jacobian(scale, x):
    mixture, x = PROBLEMS["low-rank-3d"].mixture(), np.array(x)
    moved = log_prob(diffuse(mixture, scale, 0.0), scale * x)
    assert float(moved) == pytest.approx(float(log_prob(mixture, x)) - 3 * np.log(scale), rel=1e-10)


def test_one_component_is_certain():
    mixture = PROBLEMS["single"].mixture()
    x = np.array([[0.3, 40.0, -1.0]])
    np.testing.assert_array_equal(log_posterior(mixture, x), [[0.0]])
    np.testing.assert_allclose(score(mixture, x), np.asarray(mixture.means) - x, rtol=1e-14)


def test_coincident_components_share_their_posterior_as_their_weights():
    problem = PROBLEMS["coincident"]  # components 1 and 2, weights 0.3 and 0.4
    log_p = log_posterior(problem.mixture(), problem.points(1.0, 0.0))
    np.testing.assert_allclose(log_p[:, 2] - log_p[:, 1], np.log(0.4 / 0.3), rtol=1e-12)
    merged = Mixture([0.1, 0.7, 0.2], problem.means[[0, 1, 3]], Isotropic(1.0))
    x = problem.points(1.0, 0.0)
    np.testing.assert_allclose(log_prob(problem.mixture(), x), log_prob(merged, x), rtol=1e-13)


def test_weight_zero_is_absence():
    problem = PROBLEMS["zero-weight"]
    mixture, x = problem.mixture(), problem.points(1.0, 0.0)
    without = Mixture(problem.weights[:3], problem.means[:3], Isotropic(1.0))
    np.testing.assert_allclose(log_prob(mixture, x), log_prob(without, x), rtol=1e-14)
    np.testing.assert_array_equal(log_posterior(mixture, x)[:, 3], -np.inf)


def test_taking_components_conditions_on_them():
    mixture = PROBLEMS["full-each-3d"].mixture()
    part = mixture.take([2, 0])
    np.testing.assert_allclose(part.weights, [0.2 / 0.6, 0.4 / 0.6], rtol=1e-14)
    x = np.ones((1, 3))
    log_p = np.asarray(log_posterior(mixture, x))[:, [2, 0]]
    np.testing.assert_allclose(log_posterior(part, x), log_p - logsumexp(log_p)[:, None], rtol=1e-12)


# ------------------------------------------------------------------------------- log domain, high dimension


def test_log_posteriors_keep_their_relative_precision_where_one_class_is_certain():
    logits = np.array([[0.0, -80.0, -90.0], [-300.0, 0.0, -710.0]])
    log_p = np.asarray(log_normalise(jnp.asarray(logits)))
    np.testing.assert_allclose(log_p[0, 0], -(np.exp(-80) + np.exp(-90)), rtol=1e-14)
    np.testing.assert_allclose(log_p[1, 1], -np.exp(-300), rtol=1e-14)
    # What a plain log-softmax makes of it: nothing is left of the uncertainty.
    assert jax.nn.log_softmax(logits)[0, 0] == 0


def test_log_normalise_matches_log_softmax_elsewhere():
    logits = np.random.default_rng(0).normal(size=(5, 4, 7))
    np.testing.assert_allclose(log_normalise(jnp.asarray(logits)), jax.nn.log_softmax(logits), rtol=1e-13)


@pytest.mark.parametrize(
    "logits", [[0.0, 0.0], [2.0, -1.0, 2.0, 2.0], [0.5, 0.25, -3.0], [1e3, -np.inf, 1e3]]
)
def test_log_normalise_and_its_derivatives_where_several_are_largest(logits):
    logits, finite = jnp.asarray(logits), np.isfinite(logits)
    np.testing.assert_allclose(log_normalise(logits), jax.nn.log_softmax(logits), rtol=1e-14)
    # p by hand: d log p_i / d l_j = δ_ij - p_j, and once more -p_j (δ_jk - p_k).
    p = np.exp(logits - logsumexp(logits))
    first, second = jax.jacfwd(log_normalise), jax.jacrev(jax.jacfwd(log_normalise))
    slope, curvature = np.eye(len(p)) - p, -(np.diag(p) - np.outer(p, p))
    np.testing.assert_allclose(first(logits)[finite], slope[finite], atol=1e-14)
    for row in np.asarray(second(logits))[finite]:
        np.testing.assert_allclose(row, curvature, atol=1e-14)


def million_dimensions(dtype, rho=3.0):
    """Three means of norm √d at the noise level where their decision is open, and x ~ p_t (4, d)."""
    dim = 10**6
    rng = np.random.default_rng(0)
    means = rng.standard_normal((3, dim), np.float32)
    alpha = np.float32(np.sqrt(rho / dim))
    x = rng.standard_normal((4, dim), np.float32) + alpha * means[[0, 1, 2, 0]]
    return Mixture(np.array([0.5, 0.3, 0.2], np.float32), means, Isotropic(np.float32(1))), alpha, x


@pytest.mark.parametrize("kind", [Isotropic, pytest.param(Diagonal, marks=pytest.mark.slow)])
def test_float32_posteriors_hold_five_digits_in_a_million_dimensions(kind):
    mixture, alpha, x = million_dimensions(np.float32)
    var = np.float32(1) if kind is Isotropic else np.ones(mixture.dim, np.float32)
    noisy = diffuse(Mixture(mixture.weights, mixture.means, kind(var)), alpha, np.float32(1))
    means, v = np.asarray(noisy.means, float), float(noisy.covariance.var.ravel()[0])
    joint = np.log([0.5, 0.3, 0.2]) - ((x.astype(float)[:, None] - means[None]) ** 2).sum(-1) / (2 * v)
    exact = joint - logsumexp(joint)[:, None]
    assert np.abs(np.asarray(log_posterior(noisy, x)) - exact).max() < 3e-5  # measured: 1e-5
    # Through complete log densities, of size 1e6, the same posterior is wrong in the second digit.
    assert np.abs(np.asarray(log_normalise(joint_log_prob(noisy, x))) - exact).max() > 1e-3
    pulled = np.asarray(score(noisy, x)) - (np.exp(exact) @ means - x) / v
    assert np.abs(pulled).max() < 1e-6 * np.abs(x).max()


def test_posterior_logits_differ_from_the_log_joint_by_one_number_a_point():
    mixture = PROBLEMS["full-24d"].mixture()
    x = PROBLEMS["full-24d"].points(1.0, 0.0)
    gap = np.asarray(joint_log_prob(mixture, x) - posterior_logits(mixture, x))
    np.testing.assert_allclose(gap, gap[:, :1] * np.ones((1, 4)), rtol=TWO_ROUTES)
    assert np.ptp(gap[:, 0]) > 1  # and the number is no constant: it holds ‖x‖²


def test_a_million_classes():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(10**6, 2)) * 30
    mixture = Mixture(np.full(10**6, 1e-6), means, Isotropic(1.0))
    x = means[[5, 17]] + 0.5
    joint = -((x[:, None] - means[None]) ** 2).sum(-1) / 2 - np.log(2 * np.pi) - np.log(10**6)
    np.testing.assert_allclose(log_prob(mixture, x), logsumexp(joint), rtol=1e-13)
    posterior = np.exp(joint - logsumexp(joint)[:, None])
    np.testing.assert_allclose(score(mixture, x), posterior @ means - x, rtol=1e-9, atol=1e-9)
    labels = np.arange(10**6) % 3
    cells = np.asarray(cell_log_posterior(log_posterior(mixture, x), labels, 3))
    exact = [[posterior[n, labels == c].sum() for c in range(3)] for n in range(2)]
    np.testing.assert_allclose(np.exp(cells), exact, rtol=1e-10)


def test_weights_as_small_as_1e_300_keep_their_posteriors():
    means = np.array([[0.0], [60.0]])
    mixture = Mixture([1.0, 1e-300], means, Isotropic(1.0))
    # At x the far class is nearer by 60 x - 1800 = 690.8 nats, which is what its weight costs.
    x = np.array([[(1800 + 300 * np.log(10)) / 60]])
    np.testing.assert_allclose(np.exp(log_posterior(mixture, x)), [[0.5, 0.5]], rtol=1e-10)


# ------------------------------------------------------------------------------------------------ streaming


@pytest.fixture
def blocks_of(monkeypatch):
    """Sets the size of blocks, forgetting code compiled for another."""
    functions = [
        getattr(implementation, name) for name in ("_log_prob", "_log_posterior", "_score", "_denoise")
    ]

    def set_size(elements):
        monkeypatch.setattr(implementation, "BLOCK_ELEMENTS", elements)
        for function in functions:
            function.clear_cache()

    yield set_size
    monkeypatch.undo()
    for function in functions:
        function.clear_cache()


def everything(mixture, x, t, component):
    return [
        log_prob(mixture, x),
        log_posterior(mixture, x),
        score(mixture, x),
        denoise(mixture, vp(), x, 0.5),
        denoise(mixture, vp(), x, t),
        denoise(mixture, vp(), x, 0.5, component),
    ]


@of(["diagonal-each-3d", "isotropic-24d", "full-24d", "low-rank-each-24d"], quick=["diagonal-each-3d"])
def test_results_do_not_depend_on_the_size_of_blocks(slug, blocks_of):
    problem = PROBLEMS[slug]
    rng = np.random.default_rng(0)
    weights = np.append(rng.random(10), 0.0)  # eleven components leave some over in every block
    means = rng.normal(size=(11, problem.dim))
    covariance = problem.covariance()
    if not problem.shared:
        covariance = covariance.take(np.arange(11) % 4)
    mixture = Mixture(weights, means, covariance, normalise=True)
    x, t = rng.normal(size=(7, problem.dim)), np.linspace(0.1, 2, 7)
    whole = everything(mixture, x, t, np.arange(7))
    blocks_of(8)  # one or two points, four or eight components
    for a, b in zip(everything(mixture, x, t, np.arange(7)), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=TWO_ROUTES, atol=TWO_ROUTES)


def test_blocks_without_any_weight_count_for_nothing(blocks_of):
    blocks_of(14)  # seven points in blocks of two components: the last two blocks weigh nothing
    weights = np.array([0.5, 0.5, 0, 0, 0])
    mixture = Mixture(weights, np.random.default_rng(0).normal(size=(5, 3)), Isotropic(1.0))
    x = np.ones((7, 3))
    np.testing.assert_allclose(log_prob(mixture, x), log_prob(mixture.take([0, 1]), x), rtol=1e-13)
    gradient = jax.grad(lambda m: jnp.sum(log_prob(m, x)))(mixture)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_array_equal(gradient.means[2:], 0)


def shape_only(kind, components, dim, dtype=jnp.float32):
    """A mixture of abstract arrays, to compile for without making it."""
    leaf = lambda *shape: jax.ShapeDtypeStruct(shape, dtype)
    spectral = lambda *lead: {"basis": leaf(*lead, dim, 4), "values": leaf(*lead, 4), "rest": leaf(*lead)}
    covariance = {
        "isotropic": lambda: build(Isotropic, var=leaf()),
        "diagonal each": lambda: build(Diagonal, var=leaf(components, dim)),
        "low-rank": lambda: build(LowRank, **spectral()),
        "low-rank each": lambda: build(LowRank, **spectral(components)),
    }[kind]()
    return build(Mixture, log_weights=leaf(components), means=leaf(components, dim), covariance=covariance)


def temporary_bytes(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


BLOCK_BYTES = 4 * implementation.BLOCK_ELEMENTS
OPERATIONS = {
    "log_prob": log_prob,
    "score": score,
    "denoise": lambda m, x: denoise(m, vp(), x, jnp.full(x.shape[:-1], 0.5)),
    "gradient": lambda m, x: jax.grad(lambda m: jnp.sum(log_prob(m, x)))(m),
}


QUICK = [("isotropic", "log_prob"), ("diagonal each", "denoise"), ("low-rank each", "gradient")]


@pytest.mark.parametrize(
    ("kind", "operation"),
    [
        pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow])
        for case in itertools.product(["isotropic", "diagonal each", "low-rank", "low-rank each"], OPERATIONS)
    ],
)
def test_no_array_of_size_n_k_d_is_ever_made(kind, operation):
    n, components, dim = 2048, 1000, 1024
    mixture, x = shape_only(kind, components, dim), jax.ShapeDtypeStruct((n, dim), jnp.float32)
    # At most ten blocks at once, where n·K·d would be 125 of them.
    assert (
        temporary_bytes(OPERATIONS[operation], mixture, x) < 10 * BLOCK_BYTES < 4 * n * components * dim / 10
    )


@pytest.mark.parametrize("kind", ["isotropic", pytest.param("low-rank each", marks=pytest.mark.slow)])
def test_sixty_thousand_components_cost_copies_of_the_means_and_a_few_blocks(kind):
    n, components, dim = 2048, 60_000, 1024
    mixture, x = shape_only(kind, components, dim), jax.ShapeDtypeStruct((n, dim), jnp.float32)
    means = 4 * components * dim
    assert temporary_bytes(score, mixture, x) < 2 * means + 10 * BLOCK_BYTES < 4 * n * components * dim / 100


# ----------------------------------------------------------------------------------- transformations of JAX


def test_a_jitted_function_may_close_over_its_mixture():
    mixture = Mixture([0.5, 0.5], np.array([[1.0, 2.0], [0.0, 1.0]]), Isotropic(1))
    x = jnp.ones((3, 2))
    np.testing.assert_allclose(jax.jit(lambda x: log_prob(mixture, x))(x), log_prob(mixture, x), rtol=1e-12)


def test_jit_and_vmap_over_mixtures_made_inside():
    def one(mean, t, x):
        mixture = Mixture(jnp.array([0.5, 0.5]), jnp.stack([mean, -mean]), Isotropic(jnp.asarray(1.0)))
        noisy = diffuse(mixture, vp().alpha(t), vp().sigma(t))
        return log_prob(noisy, x), log_posterior(noisy, x), denoise(mixture, vp(), x, t)

    means, times, x = (
        np.random.default_rng(0).normal(size=(3, 4, 3)),
        np.array([0.1, 0.5, 1, 2.0]),
        np.ones((5, 3)),
    )
    together = jax.jit(jax.vmap(one, in_axes=(0, 0, None)))(means[0], times, x)
    for i, t in enumerate(times):
        for a, b in zip(together, one(means[0][i], t, x), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=TWO_ROUTES)


def test_batches_of_any_rank():
    mixture = PROBLEMS["low-rank-24d"].mixture()
    x = np.random.default_rng(0).normal(size=(2, 3, 24))
    assert log_prob(mixture, x[0, 0]).shape == ()
    assert log_posterior(mixture, x[:0]).shape == (0, 3, 4)
    np.testing.assert_allclose(log_prob(mixture, x)[1, 2], log_prob(mixture, x[1, 2]), rtol=1e-13)
    assert score(mixture, x).shape == x.shape
    assert log_posterior(mixture, x).shape == (2, 3, 4)


@of([*KINDS_3D, "zero-weight"], quick=["isotropic-3d", "low-rank-each-3d", "zero-weight"])
def test_gradients_with_respect_to_every_parameter_match_finite_differences(slug):
    mixture, x = PROBLEMS[slug].mixture(), PROBLEMS[slug].points(0.6, 0.8)

    @jax.jit
    @jax.value_and_grad
    def loss(mixture):
        noisy = diffuse(mixture, 0.6, 0.8)
        return jnp.sum(log_prob(noisy, x)) + jnp.sum(score(noisy, x) ** 2)

    gradient = loss(mixture)[1]
    rng = np.random.default_rng(0)
    # Keep the spectral form: directions in the basis would leave the orthonormal frames.
    direction = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 0 * leaf if "basis" in jax.tree_util.keystr(path) else rng.normal(size=leaf.shape),
        mixture,
    )
    step = 1e-5
    ahead = jax.tree.map(lambda m, d: m + step * d, mixture, direction)
    behind = jax.tree.map(lambda m, d: m - step * d, mixture, direction)
    slope = sum(np.sum(g * d) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    # Central differences: h² of the third derivative beside ε/h.
    assert slope == pytest.approx(float(loss(ahead)[0] - loss(behind)[0]) / (2 * step), rel=1e-6)


def test_gradients_reach_through_the_constructors():
    x = np.random.default_rng(0).normal(size=(5, 3))
    means = np.random.default_rng(1).normal(size=(2, 3))
    cov = np.diag([1.0, 2.0, 3.0]) + 0.3

    def full(cov):
        return jnp.sum(log_prob(Mixture(jnp.array([0.3, 0.7]), means, Full(cov)), x))

    def dense(cov):
        laws = [jax.scipy.stats.multivariate_normal.logpdf(x, m, cov) for m in means]
        return jnp.sum(jax.nn.logsumexp(jnp.stack(laws) + jnp.log(jnp.array([[0.3], [0.7]])), axis=0))

    with jax.numpy_rank_promotion("allow"):
        exact = jax.jit(jax.grad(dense))(cov)
    np.testing.assert_allclose(symmetric(jax.jit(jax.grad(full))(cov)), symmetric(exact), rtol=1e-9)


def symmetric(matrix):
    return matrix + np.swapaxes(matrix, -1, -2)


def test_gradients_with_respect_to_weights():
    means, x = np.array([[0.0], [2.0], [5.0]]), np.array([[0.5], [1.5]])
    function = lambda w: jnp.sum(log_prob(Mixture(w, means, Isotropic(1.0)), x))
    weights = np.array([0.2, 0.5, 0.3])
    density = np.exp(-0.5 * (x - means.T) ** 2)
    # log Σ w_k N_k - log Σ w_k: the constructor divides by the sum.
    exact = (density / (density @ weights)[:, None]).sum(0) - len(x)
    np.testing.assert_allclose(jax.grad(function)(weights), exact, rtol=1e-12)
    # An absent component stays absent: its derivative is taken to be zero, and no other is spoiled.
    absent = jax.grad(function)(np.array([0.4, 0.6, 0.0]))
    density = density[:, :2]
    exact = (density / (density @ [0.4, 0.6])[:, None]).sum(0) - len(x)
    np.testing.assert_allclose(absent, [*exact, 0.0], rtol=1e-12, atol=1e-12)


def test_no_gradient_is_lost_in_high_dimension():
    problem = PROBLEMS["high-dimension"]
    for dtype in (np.float32, np.float64):
        mixture, x = problem.mixture(dtype), problem.points(0.02, 1.0, dtype)
        noisy = lambda m: diffuse(m, dtype(0.02), dtype(1.0))  # noqa: B023
        gradient = jax.grad(lambda m: jnp.mean(log_posterior(noisy(m), x)[:, 0]))(mixture)  # noqa: B023
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        assert np.abs(gradient.means).max() > 0


# ------------------------------------------------------------------------------------------------- sampling


@of(KINDS_3D, quick=["diagonal-each-3d", "low-rank-3d", "full-each-3d"])
def test_samples_are_standard_normal_once_whitened(slug):
    problem = PROBLEMS[slug]
    x, component = map(np.asarray, sample(problem.mixture(), jax.random.key(5), 4000))
    roots = np.linalg.inv(np.linalg.cholesky(problem.dense()))
    white = np.einsum("nij,nj->ni", roots[component], x - problem.means[component])
    for column in white.T:
        assert stats.kstest(column, "norm").pvalue > FALSE_ALARM
    assert stats.kstest((white**2).sum(1), stats.chi2(3).cdf).pvalue > FALSE_ALARM
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert abs((white[:, i] * white[:, j]).mean() * np.sqrt(4000)) < FALSE_ALARM_SIGMA
    assert stats.chisquare(np.bincount(component), problem.weights * 4000).pvalue > FALSE_ALARM


def test_samples_of_points_are_the_points():
    mixture = PROBLEMS["points-each"].mixture()
    x, component = sample(mixture, jax.random.key(0), 20)
    np.testing.assert_array_equal(x, mixture.means[component])


def test_samples_depend_on_the_key_alone():
    mixture = PROBLEMS["full-3d"].mixture()
    first, again, other = (sample(mixture, jax.random.key(k), 10)[0] for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert sample(mixture, jax.random.key(0), 0)[0].shape == (0, 3)
    np.testing.assert_array_equal(sample(mixture, jax.random.PRNGKey(0), 10)[0], first)


def test_per_component_samples_in_many_dimensions_use_the_right_basis():
    problem = PROBLEMS["low-rank-each-24d"]
    x, component = map(np.asarray, sample(problem.mixture(), jax.random.key(2), 2000))
    inverse = np.linalg.inv(problem.dense())
    gap = x - problem.means[component]
    distance = np.einsum("ni,nij,nj->n", gap, inverse[component], gap)
    assert stats.kstest(distance, stats.chi2(24).cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cumulative_probabilities_name_components_that_have_weight(dtype):
    mixture = Mixture(
        np.array([0.0, 0.25, 0.0, 0.75, 0.0], dtype), np.zeros((5, 1), dtype), Isotropic(dtype(1))
    )
    u = np.array([0.0, 0.2499, 0.25, 0.9999, 1.0], dtype)  # 1.0: what rounding makes of the last stratum
    np.testing.assert_array_equal(component_at(mixture, u), [1, 1, 3, 3, 3])


# ------------------------------------------------------------------------------------------------ bad input

PAIR = np.array([[1.0, 0.0], [-1.0, 0.0]])
HALVES = np.array([0.5, 0.5])
BAD_MIXTURES = {
    "negative weight": (([1.5, -0.5], PAIR, Isotropic(1.0)), "weights must be non-negative, got -0.5"),
    "weight NaN": (([0.5, np.nan], PAIR, Isotropic(1.0)), "weights must be finite, got 1 value.* like nan"),
    "sum": (([0.5, 0.4], PAIR, Isotropic(1.0)), "weights must sum to one, got 0.9; pass normalise=True"),
    "weights shape": (
        ([1.0], PAIR, Isotropic(1.0)),
        r"weights must have shape \(2,\) like means, got \(1,\)",
    ),
    "means shape": ((HALVES, PAIR[0], Isotropic(1.0)), r"means must have shape \(K, d\), got \(2,\)"),
    "means inf": ((HALVES, PAIR + np.inf, Isotropic(1.0)), "means must be finite, got 4 value.* like inf"),
    "number": (
        (HALVES, PAIR, 1.0),
        r"covariance must be Isotropic, .* got float; a number v is Isotropic\(v\)",
    ),
    "components": ((HALVES, PAIR, Isotropic([1.0, 1.0, 1.0])), "each of the 2 components, got 3"),
    "dimension": (
        (HALVES, PAIR, Diagonal([1.0, 1.0, 1.0])),
        "covariance must have dimension 2 like means, got 3",
    ),
}


@pytest.mark.parametrize("case", BAD_MIXTURES)
def test_bad_mixtures_are_refused_by_name(case):
    arguments, message = BAD_MIXTURES[case]
    with pytest.raises(ValueError, match=message):
        Mixture(*arguments)


def test_weights_are_rescaled_only_when_asked():
    mixture = Mixture([1, 3], PAIR, Isotropic(1.0), normalise=True)
    np.testing.assert_allclose(mixture.weights, [0.25, 0.75], rtol=1e-15)
    with pytest.raises(ValueError, match="weights must sum to one, got 0"):
        Mixture([0.0, 0.0], PAIR, Isotropic(1.0), normalise=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_within_a_millionth_of_one_count_as_one(dtype):
    for excess in (-1e-6, 1e-6):
        weights = np.array([0.5, 0.5 + excess], dtype)
        np.testing.assert_allclose(
            np.sum(Mixture(weights, PAIR, Isotropic(1.0)).weights, dtype=float),
            1,
            rtol=2 * np.finfo(dtype).eps,
        )
        with pytest.raises(ValueError, match="weights must sum to one"):
            Mixture(np.array([0.5, 0.5 + 2 * excess], dtype), PAIR, Isotropic(1.0))


GOOD = Mixture(HALVES, PAIR, Isotropic(1.0))
POINTS = Mixture(HALVES, PAIR, Isotropic(0.0))
X = np.zeros((3, 2))
BAD_CALLS = {
    "dimension": (lambda: log_prob(GOOD, np.zeros((3, 4))), r"x must have shape \(\.\.\., 2\).*got \(3, 4\)"),
    "scalar": (lambda: score(GOOD, 1.0), r"x must have shape \(\.\.\., 2\).*got \(\)"),
    "x NaN": (lambda: log_posterior(GOOD, X + np.nan), "x must be finite, got 6 value"),
    "points": (lambda: log_prob(POINTS, X), "variances of covariance must be positive .*diffuse .* got 0.0"),
    "no noise": (lambda: denoise(POINTS, vp(), X, 0.0), "variances of covariance must be positive"),
    "time": (lambda: denoise(GOOD, flow(), X, 1.5), r"t must be in \[0, 1\], got 1.5"),
    "time NaN": (lambda: denoise(GOOD, vp(), X, np.nan), r"t must be in \[0, inf\], got nan"),
    "times": (
        lambda: denoise(GOOD, vp(), X, np.ones(2)),
        r"t must have shape \(\) or \(3,\) like x, got \(2,\)",
    ),
    "component": (
        lambda: denoise(GOOD, vp(), X, 0.5, 2),
        r"component must be a component index 0\.\.1, got 2",
    ),
    "component kind": (
        lambda: denoise(GOOD, vp(), X, 0.5, 0.5),
        "component must be a component index .*got 0.5",
    ),
    "components": (lambda: denoise(GOOD, vp(), X, 0.5, [0, 1]), r"component must have shape \(\) or \(3,\)"),
    "alpha": (lambda: diffuse(GOOD, -1.0, 0.5), "alpha must be finite and >= 0, got -1.0"),
    "sigma": (lambda: diffuse(GOOD, 1.0, np.inf), "sigma must be finite and >= 0, got inf"),
    "alphas": (lambda: diffuse(GOOD, np.ones(2), 1.0), r"alpha must have shape \(\) \(jax.vmap .*got \(2,\)"),
    "seed": (
        lambda: sample(GOOD, 0, 3),
        r"key must be a JAX random key such as jax.random.key\(0\), got int",
    ),
    "count": (lambda: sample(GOOD, jax.random.key(0), -1), "n must be >= 0, got -1"),
    "half": (lambda: sample(GOOD, jax.random.key(0), 2.5), "n must be a whole number >= 0, got 2.5"),
    "take": (lambda: GOOD.take([0, 2]), r"index must be a component index 0\.\.1, got 2"),
    "mask": (lambda: GOOD.take([True, False]), "index must hold integers of shape"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_arguments_are_refused_by_name(case):
    check_refused(BAD_CALLS[case])


@pytest.mark.lenient("a NaN passes where values are unknown")
def test_under_jit_what_cannot_be_known_passes_through():
    bad = jnp.array([[np.nan, 0.0], [1.0, 1.0]])
    for function in (log_prob, log_posterior, score):
        value = np.asarray(jax.jit(function)(GOOD, bad))
        assert np.isnan(value[0]).all()
        assert np.isfinite(value[1]).all()
    weights = jax.jit(lambda w: Mixture(w, PAIR, Isotropic(1.0)).weights)(np.array([1.0, 3.0]))
    np.testing.assert_allclose(weights, [0.25, 0.75])


def test_mixtures_describe_themselves():
    assert repr(GOOD) == "Mixture(K=2, d=2, Isotropic(var: ()), float64)"
    with pytest.raises(
        AttributeError, match="Mixture is immutable: build a new one instead of setting means"
    ):
        GOOD.means = PAIR


def test_whole_numbers_promote_nothing():
    assert Mixture(HALVES.astype(np.float32), PAIR.astype(np.float32), Isotropic(1)).dtype == np.float32
    assert Mixture([1, 0], [[1, 2], [3, 4]], Isotropic(1)).dtype == np.float64


def test_cells_of_the_posterior_are_sums():
    mixture = PROBLEMS["isotropic-3d"].mixture()
    x = PROBLEMS["isotropic-3d"].points(1.0, 0.5)
    partition = Partition([0, 1, 0, 1])
    log_p = log_posterior(mixture, x)
    p = np.exp(np.asarray(log_p))
    cells = cell_log_posterior(log_p, partition.labels, partition.cells)
    np.testing.assert_allclose(np.exp(cells), np.stack([p[:, 0] + p[:, 2], p[:, 1] + p[:, 3]], 1), rtol=1e-13)
