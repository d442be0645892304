"""Reverse diffusion, probability flow and U-turns against exact laws.

Oracles: mpmath for the reverse kernel, the mixture's own distribution functions (Kolmogorov-Smirnov), linear
recursions for Gaussian chains, transport of quantiles in one dimension, scipy's ODE solver, quadrature.
"""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import integrate, stats

from gmm import (
    Full,
    Isotropic,
    LowRank,
    Mixture,
    Partition,
    ddpm,
    diffuse,
    dynamics,
    edm,
    flow,
    forward_sde,
    log_posterior,
    probability_flow,
    reverse_kernel,
    reverse_sde,
    sample,
    scaled_linear_betas,
    time_grid,
    u_turn,
    ve,
    vp,
    vp_linear,
)

# Seeds are fixed, so a test either always passes or always fails; these bound how likely a right
# implementation is to fail at the first choice of seed.
FIVE_SIGMA = 5.0  # 6e-7 a comparison; a few hundred comparisons in this file
KS_LEVEL = 1e-4  # p-value below which a sample is rejected; a dozen such tests
ROUNDING = 1e-12  # a handful of float64 operations
SOLVER = 1e-10  # tolerance asked of a step of the flow
FLOW_ERROR = 10 * SOLVER  # of a whole path; the largest measured is 6e-10

PROCESSES = [vp(), vp_linear(), ve(), edm(), flow(), ddpm(scaled_linear_betas())]
each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.name)


def times_at(process, *log_snr):
    return np.asarray(process.time_at_log_snr(np.array(log_snr)))


def at(process, t):
    return float(process.alpha(t)), float(process.sigma(t))


# ---------------------------------------------------------------------------------------------- grids, kernel


@each_process
@pytest.mark.parametrize("ends", [(-4.0, 3.0), (2.5, -3.5)])
def test_time_grids_are_even_in_their_coordinate(process, ends):
    start, stop = times_at(process, *ends)
    even = time_grid(process, start, stop, 10)
    assert (even[0], even[-1], even.shape) == (start, stop, (11,))
    np.testing.assert_allclose(process.log_snr(even), np.linspace(*ends, 11), atol=1e-9)
    karras = time_grid(process, start, stop, 10, spacing="edm")
    first, last = np.exp(-0.5 * np.array(ends))
    # Karras et al. 2022, eq. 5.
    levels = (first ** (1 / 7) + np.arange(11) / 10 * (last ** (1 / 7) - first ** (1 / 7))) ** 7
    np.testing.assert_allclose(np.exp(-0.5 * process.log_snr(karras)), levels, rtol=1e-9)


def kernel_by_conditioning(alpha_t, var_t, alpha_s, var_s):
    """p(x_s | x_t, x_0) from p(x_s | x_0) and x_t = a x_s + noise, by adding precisions; 50 digits."""
    a = alpha_t / alpha_s
    added = var_t - a**2 * var_s
    variance = 1 / (1 / var_s + a**2 / added)
    return variance * a / added, variance * alpha_s / var_s, variance


@pytest.mark.parametrize("t", [1e-4, 0.3, 2.0, 12.0])
@pytest.mark.parametrize("step", [1e-5, 0.1, 0.99])
def test_reverse_kernel_is_bayes_rule(t, step):
    s = t * (1 - step)
    with mpmath.workdps(50):
        signal = lambda t: (mpmath.exp(-mpmath.mpf(t)), -mpmath.expm1(-2 * mpmath.mpf(t)))
        exact = [float(value) for value in kernel_by_conditioning(*signal(t), *signal(s))]
    # The step itself, a difference of two logarithms, is known to 1e-16 of them.
    np.testing.assert_allclose(reverse_kernel(vp(), t, s), exact, rtol=1e-15 * 30 / step)


def test_reverse_kernel_is_finite_at_both_ends():
    np.testing.assert_allclose(reverse_kernel(flow(), 1.0, 0.25), [0, 0.75, 0.0625], rtol=ROUNDING)
    np.testing.assert_allclose(reverse_kernel(flow(), 0.25, 0.0), [0, 1, 0], rtol=ROUNDING)
    np.testing.assert_allclose(reverse_kernel(flow(), 1.0, 0.0), [0, 1, 0], rtol=ROUNDING)


# ---------------------------------------------------------------------------------------------- stochastic


def z_of(samples, exact):
    """How many standard errors the mean of `samples` (n, ...) is from `exact`."""
    return (samples.mean(0) - exact) / (samples.std(0, ddof=1) / np.sqrt(len(samples)))


@each_process
def test_forward_paths_have_the_process_s_covariance(process):
    times = np.append(process.t_min, times_at(process, 1.0, -2.0))
    x0 = np.full((40_000, 1), 1.5)
    path = np.asarray(forward_sde(process, times, x0, jax.random.key(1)))[..., 0]
    (alpha_0, sigma_0), (alpha_s, sigma_s), (alpha_t, sigma_t) = (at(process, t) for t in times)
    # What has been added since times[0], where ddpm has a little noise already.
    alpha_s, alpha_t = alpha_s / alpha_0, alpha_t / alpha_0
    sigma_s, sigma_t = (
        np.sqrt(s**2 - (a * sigma_0) ** 2) for a, s in ((alpha_s, sigma_s), (alpha_t, sigma_t))
    )
    np.testing.assert_array_equal(path[0], 1.5)
    s, t = path[1] - 1.5 * alpha_s, path[2] - 1.5 * alpha_t
    products = np.stack([s, t, s * s, t * t, s * t], axis=1)
    exact = [0, 0, sigma_s**2, sigma_t**2, alpha_t / alpha_s * sigma_s**2]
    assert np.abs(z_of(products, exact)).max() < FIVE_SIGMA


WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[2.0, 0.0], [-1.5, 1.0], [0.5, -2.5]])
COVARIANCES = {
    "low rank": LowRank([[1.0], [0.5]], 0.3),
    "full each": Full([[[1.0, 0.4], [0.4, 0.6]], [[0.2, 0.0], [0.0, 2.0]], [[0.5, -0.3], [-0.3, 0.4]]]),
}


def planar(name):
    return Mixture(WEIGHTS, MEANS, COVARIANCES[name])


def projected_cdf(mixture, alpha, sigma, direction):
    """Distribution function of directionᵀ(α x_0 + σ ε), from dense covariances."""
    dense = np.broadcast_to(mixture.covariance.dense(mixture.dim), (mixture.components,) + (mixture.dim,) * 2)
    centre = alpha * np.asarray(mixture.means) @ direction
    var = alpha**2 * np.einsum("i,kij,j->k", direction, dense, direction) + sigma**2 * direction @ direction
    weights = np.asarray(mixture.weights)
    return lambda x: stats.norm.cdf((x[..., None] - centre) / np.sqrt(var)) @ weights


def start_of(mixture, process, t, n, seed=0):
    return sample(diffuse(mixture, *at(process, t)), jax.random.key(seed), n)[0]


@pytest.mark.parametrize(("name", "steps"), [("low rank", 50), ("full each", 1)])
def test_exact_kernel_samples_the_reverse_process_at_any_step(name, steps):
    """From plain noise at α = 0 to data without noise: marginal, classes, and dependence on the start."""
    mixture, process, n = planar(name), flow(), 10_000
    times = np.linspace(1, 0, 51)[:: 50 // steps]
    x = jax.random.normal(jax.random.key(3), (n, 2))
    path = reverse_sde(mixture, process, times, x, jax.random.key(4), kernel="exact")
    assert path.shape == (steps + 1, n, 2)
    for direction in np.array([[1.0, 0.0], [0.6, 0.8]]):
        law = projected_cdf(mixture, 1.0, 0.0, direction)
        assert stats.kstest(np.asarray(path[-1] @ direction), law).pvalue > KS_LEVEL
    assert np.abs(z_of(np.exp(log_posterior(mixture, path[-1])), WEIGHTS)).max() < FIVE_SIGMA


@pytest.mark.parametrize("component", [None, 1])
def test_exact_kernel_keeps_the_joint_law_of_two_times(component):
    mixture, process, n = planar("full each"), vp(), 20_000
    law = mixture if component is None else mixture.take([component])
    t, s = 0.7, 0.2
    x = start_of(law, process, t, n)
    path = reverse_sde(mixture, process, [t, s], x, jax.random.key(4), kernel="exact", component=component)
    later, earlier = np.asarray(path)
    # x_t = a x_s + independent noise: the noise found on the way back is Gaussian and independent of x_s.
    (alpha_t, sigma_t), (alpha_s, sigma_s) = at(process, t), at(process, s)
    a = alpha_t / alpha_s
    noise = (later - a * earlier) / np.sqrt(sigma_t**2 - a**2 * sigma_s**2)
    for column in noise.T:
        assert stats.kstest(column, stats.norm.cdf).pvalue > KS_LEVEL
    seen = np.concatenate([earlier, np.exp(log_posterior(mixture, earlier))], axis=1)
    products = noise[:, :, None] * seen[:, None, :]
    assert np.abs(z_of(products, 0)).max() < FIVE_SIGMA
    assert np.abs(z_of(noise[:, :, None] ** 2 * seen[:, None, :] - seen[:, None, :], 0)).max() < FIVE_SIGMA


def test_exact_mean_kernel_has_the_exact_mean_at_any_step():
    """Of one component the mean is linear in the start, so the same noise shows its slope without error."""
    mixture, process = planar("full each"), vp()
    times = [2.0, 0.9, 0.5, 0.1]
    run = functools.partial(reverse_sde, mixture, process, times, key=jax.random.key(0), component=0)
    slope = np.stack(
        [run(x=direction[None])[-1, 0] - run(x=np.zeros((1, 2)))[-1, 0] for direction in np.eye(2)]
    )
    (alpha_t, sigma_t), (alpha_s, sigma_s) = at(process, 2.0), at(process, 0.1)
    clean, identity = np.asarray(mixture.covariance.dense(2))[0], np.eye(2)
    later = alpha_t**2 * clean + sigma_t**2 * identity
    both = alpha_t / alpha_s * (alpha_s**2 * clean + sigma_s**2 * identity)
    np.testing.assert_allclose(slope, both @ np.linalg.inv(later), rtol=ROUNDING, atol=ROUNDING)


def chain_variance(log_snr, variance):
    """Variance at the end of the exact-mean chain of N(0, variance) under the OU process, step by step."""
    alpha2, sigma2 = 1 / (1 + np.exp(-log_snr)), 1 / (1 + np.exp(log_snr))
    now = alpha2[0] * variance + sigma2[0]
    for i, r in enumerate(np.exp(-np.diff(log_snr))):
        denoiser = np.sqrt(alpha2[i]) * variance / (alpha2[i] * variance + sigma2[i])
        slope = np.sqrt(sigma2[i + 1] / sigma2[i] * r) + np.sqrt(alpha2[i + 1]) * (1 - r) * denoiser
        now = slope**2 * now + sigma2[i + 1] * (1 - r)
    return now


def test_exact_mean_kernel_is_biased_as_computed_and_at_first_order():
    process, n, dim, steps = vp(), 2**14, 8, 8
    gaussian = Mixture([1.0], np.zeros((1, dim)), Isotropic(1.0))
    x = jax.random.normal(jax.random.key(0), (n, dim))
    grid = lambda steps: np.linspace(-6, 6, steps + 1)
    path = reverse_sde(gaussian, process, times_at(process, *grid(steps)), x, jax.random.key(1))
    expected = chain_variance(grid(steps), 1.0)  # 0.52, where the truth is one
    assert abs(jnp.mean(path[-1] ** 2) / expected - 1) < FIVE_SIGMA * np.sqrt(2 / (n * dim))
    bias = [1 - chain_variance(grid(steps), 1.0) for steps in (512, 1024)]
    assert np.log2(bias[0] / bias[1]) == pytest.approx(1, abs=0.01)


def test_kernels_are_one_where_a_component_has_no_width():
    mixture = Mixture([0.5, 0.5], MEANS[:2], Isotropic([0.0, 0.0]))
    component = np.array([0, 1, 1])
    run = functools.partial(reverse_sde, mixture, ve(), [9.0, 1.0, 0.0], np.ones((3, 2)), jax.random.key(0))
    exact, other = run(component=component, kernel="exact"), run(component=component)
    np.testing.assert_array_equal(exact, other)
    np.testing.assert_allclose(other[-1], MEANS[component], rtol=ROUNDING)
    # One component for all is the same one for each, and makes a difference.
    np.testing.assert_array_equal(run(component=1)[:, 1:], other[:, 1:])
    assert np.abs(run(component=1) - other)[1, 0].max() > 0.1


# ---------------------------------------------------------------------------------------------- reduction

HIGH_DIM = 50
PLACES = np.array([[-3.0], [0.5], [4.0]])


def in_high_dimension():
    """Three means on a line in 50 dimensions, the direction, and the mixture in the one coordinate."""
    direction = np.random.default_rng(0).normal(size=HIGH_DIM)
    direction /= np.linalg.norm(direction)
    full = Mixture(WEIGHTS, PLACES * direction, Isotropic(0.7))
    return full, direction, Mixture(WEIGHTS, PLACES, Isotropic(0.7))


def test_reduced_dynamics_are_the_projected_dynamics_in_law():
    full, direction, reduced = in_high_dimension()
    process, times, n = vp(), [1.2, 0.6, 0.3, 0.05], 4000
    run = functools.partial(reverse_sde, process=process, times=times)
    tall = run(full, x=start_of(full, process, 1.2, n), key=jax.random.key(1)) @ direction
    flat = run(reduced, x=start_of(reduced, process, 1.2, n, 5), key=jax.random.key(2))[..., 0]
    # The coarse steps are biased, and equally so in both.
    for one, other in zip(np.asarray(tall), np.asarray(flat), strict=True):
        assert stats.ks_2samp(one, other, method="asymp").pvalue > KS_LEVEL


# ---------------------------------------------------------------------------------------------- flow

LOG_SNRS = (-7.0, -3.0, -1.0, 0.0, 2.0, 7.0)
LINE = np.linspace(-2.4, 2.4, 9)[:, None]
TIGHT = {"rtol": SOLVER, "atol": SOLVER}
LINES = {
    "overlapping": Isotropic([0.5, 1.0, 0.1]),
    "points": Isotropic([0.0, 0.0, 0.0]),
}


def on_a_line(name):
    return Mixture(WEIGHTS, PLACES, LINES[name])


def quantiles(mixture, process, times, path):
    one = np.ones(1)
    cdf = [
        projected_cdf(mixture, *at(process, t), one)(np.asarray(x[:, 0]))
        for t, x in zip(times, path, strict=True)
    ]
    return np.array(cdf)


@each_process
@pytest.mark.parametrize("name", LINES)
def test_flow_carries_quantiles_and_runs_both_ways(process, name):
    """In one dimension the flow is monotone, so that every path keeps its quantile."""
    mixture, times = on_a_line(name), times_at(process, *LOG_SNRS)
    start = np.hypot(*at(process, times[0])) * LINE
    path = probability_flow(mixture, process, times, start, **TIGHT)
    seen = quantiles(mixture, process, times, path)
    np.testing.assert_allclose(seen, seen[:1].repeat(len(times), 0), atol=FLOW_ERROR)
    back = probability_flow(mixture, process, times[::-1], path[-1], **TIGHT)
    scale = np.abs(path).max(axis=1, keepdims=True)
    np.testing.assert_allclose(back[::-1] / scale, path / scale, atol=FLOW_ERROR)


def test_flow_starts_where_the_signal_is_zero():
    mixture, times = on_a_line("overlapping"), np.array([1.0, 0.9, 0.7, 0.4, 0.1, 0.01])
    path = probability_flow(mixture, flow(), times, LINE, **TIGHT)
    np.testing.assert_array_equal(path[0], LINE)
    seen = quantiles(mixture, flow(), times, path)
    np.testing.assert_allclose(seen, stats.norm.cdf(LINE.T).repeat(6, 0), atol=FLOW_ERROR)
    back = probability_flow(mixture, flow(), times[::-1], path[-1], **TIGHT)
    np.testing.assert_allclose(back[-1], LINE, atol=FLOW_ERROR)


COVARIANCE_3D = np.array(
    [[[1.0, 0.5, 0.0], [0.5, 0.8, 0.2], [0.0, 0.2, 0.3]], np.diag([0.1, 1.0, 2.0]), 0.4 * np.eye(3)]
)
MEANS_3D = np.array([[3.0, -20.0, 0.5], [1.0, -19.0, 0.0], [0.0, -21.0, 2.0]])
POINTS_3D = np.random.default_rng(2).normal(size=(9, 3))


def in_space(weights):
    return Mixture(weights, MEANS_3D, Full(COVARIANCE_3D))


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(values) @ vectors.T


def gaussian_flow(process, times, x, k):
    """x_s = m_s + Σ_s^{1/2} Σ_t^{-1/2} (x_t - m_t), with dense matrices."""
    path = []
    alpha_t, sigma_t = at(process, times[0])
    white = np.linalg.inv(root(alpha_t**2 * COVARIANCE_3D[k] + sigma_t**2 * np.eye(3)))
    for alpha, sigma in (at(process, t) for t in times):
        colour = root(alpha**2 * COVARIANCE_3D[k] + sigma**2 * np.eye(3))
        path.append(alpha * MEANS_3D[k] + (x - alpha_t * MEANS_3D[k]) @ white @ colour)
    return np.array(path)


@each_process
def test_flow_of_one_gaussian_is_its_closed_form(process):
    times = times_at(process, *LOG_SNRS)
    alpha, sigma = at(process, times[0])
    x = alpha * MEANS_3D[0] + sigma * POINTS_3D
    exact = gaussian_flow(process, times, x, 0)
    # A component of weight zero is none: the solver sees one Gaussian.
    solved = probability_flow(in_space([1.0, 0.0, 0.0]), process, times, x, **TIGHT)
    np.testing.assert_allclose(solved, exact, rtol=FLOW_ERROR, atol=FLOW_ERROR)
    component = np.arange(9) % 2
    closed = probability_flow(in_space([0.5, 0.5, 0.0]), process, times, x, component=component)
    expected = np.where(component[:, None] == 0, exact, gaussian_flow(process, times, x, 1))
    np.testing.assert_allclose(closed, expected, rtol=ROUNDING, atol=100 * ROUNDING)


@pytest.mark.parametrize("process", [vp(), flow()], ids=lambda p: p.name)
def test_flow_solves_its_equation_in_the_process_s_own_time(process):
    weights = np.array([0.3, 0.5, 0.2])
    times = times_at(process, *LOG_SNRS)
    alpha, sigma = at(process, times[0])
    start = alpha * MEANS_3D[0] + np.hypot(alpha, sigma) * POINTS_3D

    def score(t, x):
        alpha, sigma = at(process, t)
        noisy = alpha**2 * COVARIANCE_3D + sigma**2 * np.eye(3)
        laws = [stats.multivariate_normal(alpha * m, c) for m, c in zip(MEANS_3D, noisy, strict=True)]
        density = weights * [law.pdf(x) for law in laws]
        return np.average([np.linalg.solve(law.cov, law.mean - x) for law in laws], axis=0, weights=density)

    def slope(t, x):
        return float(process.drift(t)) * x - 0.5 * float(process.diffusion(t)) ** 2 * score(t, x)

    path = probability_flow(in_space(weights), process, times, start, **TIGHT)
    options = {"t_eval": times, "rtol": 1e-8, "atol": 1e-8}
    solved = integrate.solve_ivp(slope, (times[0], times[-1]), start[3], **options)
    np.testing.assert_allclose(path[:, 3], solved.y.T, rtol=1e-6, atol=1e-6)


def test_reduced_flow_is_the_projected_flow():
    process, times = edm(), times_at(edm(), *LOG_SNRS)
    direction = np.array([0.6, 0.0, 0.8])
    reduced = Mixture(WEIGHTS, PLACES, Isotropic([0.7] * 3))
    full = Mixture(WEIGHTS, PLACES * direction, Full([0.7 * np.eye(3)] * 3))
    x = times[0] * POINTS_3D
    tall = np.asarray(probability_flow(full, process, times, x, **TIGHT))
    flat = np.asarray(probability_flow(reduced, process, times, x @ direction[:, None], **TIGHT))
    np.testing.assert_allclose(tall @ direction, flat[..., 0], atol=FLOW_ERROR * times[0])
    # What is orthogonal to the means is one Gaussian, and shrinks as one.
    beside = lambda x: x - (x @ direction)[..., None] * direction
    shrink = np.sqrt((0.7 + times**2) / (0.7 + times[0] ** 2))
    np.testing.assert_allclose(beside(tall), shrink[:, None, None] * beside(x), atol=FLOW_ERROR * times[0])


# ---------------------------------------------------------------------------------------------- U-turns


def agreement_on_a_line(mixture, labels, alpha, sigma):
    """E Σ_c p(c|x_t)² = ∫ Σ_c p(x, c)²/p(x) dx by the trapezoid rule."""
    var = alpha**2 * np.asarray(mixture.covariance.var) + sigma**2
    centre = alpha * np.asarray(mixture.means)[:, 0]
    x = np.linspace(centre.min() - 9 * np.sqrt(var.max()), centre.max() + 9 * np.sqrt(var.max()), 4001)
    inside = labels >= 0
    weights = np.where(inside, np.asarray(mixture.weights), 0)
    joint = weights / weights.sum() * stats.norm.pdf(x[:, None], centre, np.sqrt(var))
    cells = np.stack([joint[:, labels == c].sum(1) for c in range(labels.max() + 1)])
    total = cells.sum(0)
    return np.trapezoid((cells**2).sum(0) / np.where(total > 0, total, 1), x)


TURNS = np.array([0.3, 2.0, 0.8])


@pytest.mark.parametrize(("name", "block"), [("cells", None), ("restricted", 1000)])
def test_u_turns_with_the_exact_kernel_are_the_clone_agreement_at_any_step(name, block, monkeypatch):
    labels = np.array({"cells": [0, 1, 0], "restricted": [0, -1, 1]}[name])
    if block:
        monkeypatch.setattr(dynamics, "BLOCK_ELEMENTS", block)
    mixture = on_a_line("overlapping")
    exact = np.array([agreement_on_a_line(mixture, labels, *at(vp(), t)) for t in TURNS])
    options = {"partition": Partition(labels), "key": jax.random.key(0), "samples": 8001, "kernel": "exact"}
    value, stderr = u_turn(mixture, vp(), TURNS, steps=1, **options)
    assert value.shape == stderr.shape == (3,)
    assert np.abs((value - exact) / stderr).max() < FIVE_SIGMA
    # All samples count, and none twice: a variable in [0, 1] has at most the variance of a coin.
    assert (stderr < np.sqrt(exact * (1 - exact) / 8001) + 1e-4).all()
    # Classes overlap, so the posterior at an early end is still uncertain; its expectation is not.
    value, stderr = u_turn(mixture, vp(), TURNS, steps=1, end=0.29, **options)
    assert np.abs((value - exact) / stderr).max() < FIVE_SIGMA


@pytest.mark.slow
def test_u_turns_with_the_exact_mean_kernel_tend_to_the_clone_agreement_in_any_dimension():
    full, _, reduced = in_high_dimension()
    exact = np.array([agreement_on_a_line(reduced, np.arange(3), *at(vp(), t)) for t in TURNS])
    options = {"key": jax.random.key(1), "samples": 2000}
    value, stderr = u_turn(full, vp(), TURNS, steps=64, **options)
    assert np.abs((value - exact) / stderr).max() < FIVE_SIGMA
    coarse, stderr = u_turn(full, vp(), TURNS, steps=1, **options)
    assert np.abs((coarse - exact) / stderr).max() > FIVE_SIGMA


# ---------------------------------------------------------------------------------------------- precision


@pytest.mark.usefixtures("x32")
def test_float32():
    mixture = Mixture(WEIGHTS, PLACES, Isotropic([0.5, 1.0, 0.1]))
    x, times = start_of(mixture, vp(), 3.0, 4000), time_grid(vp(), 3.0, 1e-4, 3)
    path = reverse_sde(mixture, vp(), times, x, jax.random.key(0), kernel="exact")
    assert mixture.dtype == path.dtype == np.float32
    law = projected_cdf(mixture, *at(vp(), 1e-4), np.ones(1))
    assert stats.kstest(np.asarray(path[-1, :, 0]), law).pvalue > KS_LEVEL
    times = times_at(vp(), *LOG_SNRS)
    path = probability_flow(mixture, vp(), times, LINE)
    assert path.dtype == np.float32
    seen = quantiles(mixture, vp(), times, path)
    np.testing.assert_allclose(seen, seen[:1].repeat(len(times), 0), atol=1e-5)


def test_float32_states_stay_so_in_64_bit():
    mixture = Mixture(np.float32(WEIGHTS), np.float32(PLACES), Isotropic(np.float32(0.5)))
    x, key = np.ones((2, 1), np.float32), jax.random.key(0)
    runs = [
        lambda: forward_sde(vp(), [0.5, 1.0], x, key),
        lambda: probability_flow(mixture, vp(), [1.0, 0.5], x),
        lambda: probability_flow(mixture, vp(), [1.0, 0.5], x, component=0),
        *(
            functools.partial(reverse_sde, mixture, vp(), [1.0, 0.5], x, key, kernel=k)
            for k in dynamics.KERNELS
        ),
    ]
    for run in runs:
        assert jax.eval_shape(run).dtype == np.float32


def test_everything_runs_under_jit_with_traced_times():
    x, key = np.ones((3, 2)), jax.random.key(0)
    run = lambda mixture, times: reverse_sde(mixture, vp(), times, x, key)
    arguments = planar("full each"), np.array([1.0, 0.5])
    np.testing.assert_allclose(jax.jit(run)(*arguments), run(*arguments), rtol=1e-10)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(functools.partial(reverse_sde, key=jax.random.key(0), kernel="exact"), id="reverse_sde"),
        pytest.param(functools.partial(probability_flow, **TIGHT), id="flow", marks=pytest.mark.slow),
    ],
)
def test_derivatives_of_paths(run):
    times = times_at(vp(), *LOG_SNRS)

    def last(scale):
        mixture = Mixture(WEIGHTS, scale * jnp.asarray(PLACES), LINES["overlapping"])
        return jnp.sum(run(mixture, vp(), times, LINE)[-1])

    h = 1e-5  # FLOW_ERROR over it is 1e-4; the components drawn do not change
    slope = (last(1 + h) - last(1 - h)) / (2 * h)
    assert float(jax.grad(last)(1.0)) == pytest.approx(float(slope), rel=1e-4)


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": [0.5, 1.0]}, r"times must fall \(towards data\), got 0.5 before 1; order them"),
        ({"times": [1.0, 1.0]}, "times must fall"),
        ({"times": [1.0, -0.5]}, r"times must be finite and in \[0, inf\], got -0.5"),
        ({"times": [np.inf, 1.0]}, r"times must be finite and in \[0, inf\], got inf"),
        ({"times": 1.0}, r"times must have shape \(T,\) with T >= 1, got \(\)"),
        ({"x": np.ones((4, 3))}, r"x must have shape \(n, 2 like the mixture\), got \(4, 3\)"),
        ({"x": np.ones(2)}, r"x must have shape \(n, 2 like the mixture\), got \(2,\)"),
        ({"x": np.full((4, 2), np.nan)}, "x must be finite"),
        ({"key": 0}, r"key must be a JAX random key such as jax.random.key\(0\)"),
        ({"kernel": "ddim"}, "kernel must be one of exact-mean, exact; got 'ddim'"),
        ({"component": 3}, r"component must be a component index 0\.\.2, got 3"),
        ({"component": [0, 1]}, r"component must have shape \(\) or \(4,\) like x, got \(2,\)"),
    ],
)
def test_bad_input_to_reverse_sde(change, message):
    arguments = {"times": [1.0, 0.5], "x": np.ones((4, 2)), "key": jax.random.key(0)} | change
    with pytest.raises(ValueError, match=message):
        reverse_sde(planar("low rank"), vp(), **arguments)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1.0, 0.0], r"sigma at times must be positive \(stop the flow a little before the data\), got 0"),
        ([1.0, 0.5, 0.7], r"times must fall \(towards data\), got 0.5 before 0.7"),
        ([0.2, 0.5, 0.3], r"times must rise \(towards noise\), got 0.5 before 0.3"),
        ([0.2, 1.5], r"times must be finite and in \[0, 1\], got 1.5"),
    ],
)
def test_bad_times_of_a_flow(times, message):
    with pytest.raises(ValueError, match=message):
        probability_flow(planar("low rank"), flow(), times, np.ones((4, 2)))


def test_a_tolerance_that_cannot_be_met_is_an_error():
    message = "the flow did not reach rtol=1e-30 and atol=1e-30 in float64 within 4096 steps; loosen them"
    with pytest.raises(RuntimeError, match=message):
        probability_flow(on_a_line("points"), vp(), times_at(vp(), *LOG_SNRS), LINE, rtol=1e-30, atol=1e-30)


def test_bad_times_of_a_forward_path():
    with pytest.raises(ValueError, match=r"times must rise \(towards noise\), got 1 before 0.5"):
        forward_sde(vp(), [1.0, 0.5], np.ones((4, 2)), jax.random.key(0))
    with pytest.raises(ValueError, match=r"x must have shape \(n, d\), got \(2,\)"):
        forward_sde(vp(), [0.5, 1.0], np.ones(2), jax.random.key(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 1}, "samples must be >= 2, got 1"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"end": 0.9}, "times must be above the end of the way back, 0.9, got 0.8"),
        ({"end": 0.0}, "end must be in the range of vp, 0 < t < inf, got 0.0"),
        ({"times": [0.0]}, "times must be in the range of vp"),
        ({"partition": Partition([0, 1])}, "one label for each of the 3 components, got 2"),
        ({"key": 3}, "key must be a JAX random key"),
        ({"kernel": "best"}, "kernel must be one of exact-mean, exact"),
    ],
)
def test_bad_input_to_u_turn(change, message):
    arguments = {"times": [0.8], "key": jax.random.key(0), "samples": 8, "steps": 2} | change
    with pytest.raises(ValueError, match=message):
        u_turn(planar("low rank"), vp(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5, 0.0, 3), "stop must be in the range of flow, 0 < t < 1, got 0.0"),
        ((1.0, 0.5, 3), "start must be in the range of flow, 0 < t < 1, got 1.0"),
        ((0.5, 0.5, 3), "start and stop must differ, got 0.5 twice"),
        ((0.5, 0.1, 0), "steps must be >= 1, got 0"),
        ((0.5, 0.1, 3, "cosine"), "spacing must be one of log-snr, edm; got 'cosine'"),
    ],
)
def test_bad_grids(arguments, message):
    with pytest.raises(ValueError, match=message):
        time_grid(flow(), *arguments)
