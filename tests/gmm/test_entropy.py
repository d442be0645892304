"""Sampled entropies against quadrature in one and two dimensions, which shares no code with the sampler.

Statistical tests fix their seeds. Each compares N numbers at FIVE_SIGMA: with honest standard errors the
false-alarm rate over the whole file (fewer than 1,000 numbers) is below 1e-3, were seeds redrawn.
"""

import jax
import numpy as np
import pytest
from scipy import integrate, stats

from gmm import (
    Diagonal,
    EntropyCurve,
    Full,
    Isotropic,
    LowRank,
    Mixture,
    Partition,
    class_entropy,
    clone_agreement,
    ddpm,
    edm,
    flow,
    posterior_sampling,
    scaled_linear_betas,
    ve,
    vp,
    vp_linear,
)

FIVE_SIGMA = 5.0
# Chi-square of 60 repetitions: the 1e-6 quantiles of a variance of z-scores around one.
Z_VARIANCE = tuple(stats.chi2.ppf([1e-6, 1 - 1e-6], 59) / 59)
# Grid quadrature in two dimensions: halving the step moves nothing above this.
QUADRATURE = 1e-8


def binary_by_quadrature(rho):
    """H, mmse, E Σp² and variance of the surprise of two equal classes at separation rho, by scipy."""

    def mean(f):
        integrand = lambda u: stats.norm.pdf(u) * f(2 * (rho + np.sqrt(rho) * u))
        return integrate.quad(integrand, -40, 40, points=[-np.sqrt(rho)], limit=2000, epsabs=0, epsrel=1e-10)[
            0
        ]

    surprise = lambda a: np.logaddexp(0, -a)
    entropy = mean(surprise)
    mmse = mean(lambda a: 2 / (1 + np.exp(np.clip(a, -700, 700))))
    return entropy, mmse, 1 - mmse / 2, mean(lambda a: surprise(a) ** 2) - entropy**2


def entropy_on_grid(weights, means, covariances, labels, alpha, sigma, step=0.06, reach=9.0):
    """H[cell|X_t] of a planar mixture by a tensor grid: densities are analytic, so this converges fast."""
    noisy = [alpha**2 * np.asarray(c) + sigma**2 * np.eye(2) for c in covariances]
    scale = np.sqrt(max(np.linalg.eigvalsh(c).max() for c in noisy))
    low, high = alpha * means.min(0) - reach * scale, alpha * means.max(0) + reach * scale
    fine = step * np.sqrt(min(np.linalg.eigvalsh(c).min() for c in noisy)) * 4
    axes = [np.arange(a, b, fine) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    joint = np.stack(
        [
            w * stats.multivariate_normal(alpha * m, c).pdf(points)
            for w, m, c in zip(weights, means, noisy, strict=True)
        ]
    )
    cells = np.stack([joint[labels == c].sum(0) for c in range(labels.max() + 1)])
    total = cells.sum(0)
    terms = np.where(
        cells > 0, cells * np.log(np.where(cells > 0, cells, 1) / np.where(total > 0, total, 1)), 0
    )
    return -terms.sum() * fine**2


def z_scores(value, exact, stderr):
    return (np.asarray(value) - exact) / np.asarray(stderr)


def pair(norm2, dim=3, dtype=float):
    mean = np.full(dim, np.sqrt(norm2 / dim), dtype)
    return Mixture(np.array([0.5, 0.5], dtype), np.stack([mean, -mean]), Isotropic(np.array(1, dtype)))


PLANAR = {
    "isotropic": Isotropic(0.8),
    "isotropic each": Isotropic([0.8, 0.4, 1.5, 0.6]),
    "diagonal": Diagonal([0.5, 1.5]),
    "diagonal each": Diagonal([[0.5, 1.5], [1.0, 0.3], [0.7, 0.7], [1.2, 0.4]]),
    "low rank": LowRank([[1.0], [0.5]], 0.3),
    "low rank each": LowRank(np.array([[[1.0], [0.5]], [[0.2], [0.9]], [[1.0], [-1]], [[0.1], [0.1]]]), 0.3),
    "full": Full([[1.0, 0.4], [0.4, 0.6]]),
    "full each": Full(np.array([[[1.0, 0.4], [0.4, 0.6]]] * 3 + [[[0.5, -0.2], [-0.2, 0.9]]])),
}
PLANAR_MEANS = np.array([[1.5, 0.0], [-1.0, 1.2], [0.2, -1.8], [2.5, 2.0]])
PLANAR_WEIGHTS = np.array([0.4, 0.3, 0.2, 0.1])
PARTITIONS = {"components": [0, 1, 2, 3], "cells": [0, 1, 1, 0], "restricted": [0, -1, 1, 0]}


@pytest.mark.parametrize("norm2", [1.0, 100.0])
def test_pair_matches_quadrature_from_undecided_to_long_decided(norm2):
    times = np.array([5.0, 3.0, 2.0, 1.5, 1.0, 0.6, 0.3, 0.1])
    curve = class_entropy(pair(norm2), vp(), times, key=jax.random.key(3), samples=8192)
    rho = norm2 * np.exp(-2 * times)
    entropy, mmse, agreement, variance = np.array([binary_by_quadrature(r) for r in rho]).T
    assert np.abs(z_scores(curve.entropy, entropy, curve.entropy_stderr)).max() < FIVE_SIGMA
    # dH/dt = (-½ mmse)(dρ/dt) = ρ mmse.
    assert np.abs(z_scores(curve.rate, rho * mmse, curve.rate_stderr)).max() < FIVE_SIGMA
    assert np.abs(z_scores(curve.clone_agreement, agreement, curve.clone_agreement_stderr)).max() < FIVE_SIGMA
    np.testing.assert_allclose(curve.surprise_variance, variance, rtol=0.25)
    assert curve.prior_entropy == pytest.approx(np.log(2), rel=1e-12)


def test_boundary_points_keep_percent_errors_where_plain_sampling_does_not_know_its_error():
    times = np.array([0.4])  # rho = 44.9, H = 3.1e-11
    exact = binary_by_quadrature(100 * np.exp(-0.8))[0]
    sharp = class_entropy(pair(100.0), vp(), times, key=jax.random.key(0), samples=4096)
    plain = class_entropy(pair(100.0), vp(), times, key=jax.random.key(0), samples=4096, boundary=False)
    assert sharp.entropy_stderr[0] < 0.1 * exact
    assert abs(sharp.entropy[0] - exact) < FIVE_SIGMA * sharp.entropy_stderr[0]
    # What plain sampling never visits is missing from its value, and its error is unknown.
    assert plain.entropy[0] < 1e-3 * exact
    assert np.isnan(plain.entropy_stderr[0])


@pytest.mark.parametrize("name", PLANAR)
@pytest.mark.parametrize("partition", PARTITIONS)
def test_planar_mixtures_match_grid_quadrature(name, partition):
    process, t = vp(), 0.35
    labels = np.array(PARTITIONS[partition])
    mixture = Mixture(PLANAR_WEIGHTS, PLANAR_MEANS, PLANAR[name])
    inside = labels >= 0
    dense = np.broadcast_to(np.asarray(PLANAR[name].dense(2)), (4, 2, 2))[inside]
    weights = PLANAR_WEIGHTS[inside] / PLANAR_WEIGHTS[inside].sum()

    def exact(time):
        alpha, sigma = float(process.alpha(time)), float(process.sigma(time))
        return entropy_on_grid(weights, PLANAR_MEANS[inside], dense, labels[inside], alpha, sigma)

    curve = class_entropy(
        mixture, process, [t], partition=Partition(labels), key=jax.random.key(11), samples=2**15
    )
    assert abs(z_scores(curve.entropy[0], exact(t), curve.entropy_stderr[0])) < FIVE_SIGMA
    # I-MMSE: the rate needs no differencing, so differencing the quadrature is an independent route.
    h = 1e-3
    slope = (exact(t + h) - exact(t - h)) / (2 * h)
    assert abs(z_scores(curve.rate[0], slope, curve.rate_stderr[0])) < FIVE_SIGMA
    prior = np.bincount(labels[inside], weights)
    np.testing.assert_allclose(curve.per_cell[0] @ prior, curve.entropy[0], rtol=1e-10)


def test_grid_quadrature_has_converged():
    dense = np.broadcast_to(np.asarray(PLANAR["full"].dense(2)), (4, 2, 2))
    arguments = (PLANAR_WEIGHTS, PLANAR_MEANS, dense, np.arange(4), 0.7, 0.7)
    assert entropy_on_grid(*arguments) == pytest.approx(
        entropy_on_grid(*arguments, step=0.12), abs=QUADRATURE
    )


@pytest.mark.parametrize(
    "process", [vp(), vp_linear(), ve(), edm(), flow(), ddpm(scaled_linear_betas())], ids=lambda p: p.name
)
def test_all_processes_are_one_curve_in_log_snr(process):
    log_snr = np.array([1.0, -1.0, -2.5])
    times = np.asarray(process.time_at_log_snr(log_snr))
    curve = class_entropy(pair(4.0), process, times, key=jax.random.key(5), samples=4096)
    np.testing.assert_allclose(curve.log_snr, log_snr, atol=1e-9)
    rho = 4 * np.exp(log_snr) / (1 + np.exp(log_snr))
    exact = np.array([binary_by_quadrature(r)[:2] for r in rho])
    assert np.abs(z_scores(curve.entropy, exact[:, 0], curve.entropy_stderr)).max() < FIVE_SIGMA
    # dH/d log(σ/α) = -2 dH/dλ = mmse · dρ/dλ, the same for every process.
    rate, stderr = curve.rate_per_log_noise()
    slope = exact[:, 1] * 4 * np.exp(log_snr) / (1 + np.exp(log_snr)) ** 2
    assert np.abs(z_scores(rate, slope, stderr)).max() < FIVE_SIGMA


@pytest.mark.parametrize("covariance", ["diagonal", "diagonal each"])
def test_standard_errors_are_neither_too_small_nor_too_large(covariance):
    mixture = Mixture(PLANAR_WEIGHTS, PLANAR_MEANS * 2, PLANAR[covariance])
    times = [1.5, 0.7, 0.2]
    options = {"exact": False}  # what samples do not tell stays NaN, and is no sample
    reference = class_entropy(mixture, vp(), times, key=jax.random.key(999), samples=2**18, **options)
    runs = [
        class_entropy(mixture, vp(), times, key=jax.random.key(s), samples=1024, **options) for s in range(60)
    ]
    for name in ("entropy", "rate", "clone_agreement", "per_cell"):
        values = np.stack([getattr(run, name) for run in runs])
        errors = np.stack([getattr(run, f"{name}_stderr") for run in runs])
        z = (values - getattr(reference, name)) / np.hypot(errors, getattr(reference, f"{name}_stderr"))
        # Where a run cannot tell its error, the others are a selection.
        known = np.isfinite(errors).all(axis=0)
        assert known.mean() > 0.9, name
        variance = (z**2).mean(axis=0)[known]
        assert variance.min() > Z_VARIANCE[0], name
        assert variance.max() < Z_VARIANCE[1] * 1.2, name  # small samples: t-like tails add a little


def test_chain_rule_over_a_restriction():
    """H[Z|X] = H[1_A|X] + π_A H[Z|X, A] + (1-π_A) H[Z|X, not A]."""
    mixture = Mixture(PLANAR_WEIGHTS, PLANAR_MEANS, PLANAR["full each"])
    fine = Partition(np.arange(4))
    options = {"key": jax.random.key(2), "samples": 2**15}
    times = [0.8, 0.3]
    whole = class_entropy(mixture, vp(), times, partition=fine, **options)
    halves = class_entropy(mixture, vp(), times, partition=fine.coarsen([0, 0, 1, 1]), **options)
    first = class_entropy(mixture, vp(), times, partition=fine.restrict([0, 1]), **options)
    second = class_entropy(mixture, vp(), times, partition=fine.restrict([2, 3]), **options)
    for name in ("entropy", "rate"):
        parts = [(halves, 1.0), (first, 0.7), (second, 0.3)]
        total = sum(weight * getattr(curve, name) for curve, weight in parts)
        variance = sum((weight * getattr(curve, f"{name}_stderr")) ** 2 for curve, weight in parts)
        error = np.sqrt(variance + getattr(whole, f"{name}_stderr") ** 2)
        assert np.abs((getattr(whole, name) - total) / error).max() < FIVE_SIGMA


def test_a_class_of_probability_zero_takes_no_part():
    """The same mixture with one class more that never occurs."""
    options = {"times": [2.0, 0.8, 0.2], "key": jax.random.key(3), "samples": 512}
    two = class_entropy(Mixture([0.25, 0.75], 2 * np.eye(2), Isotropic(1.0)), vp(), **options)
    three = Mixture([0.25, 0.75, 0.0], np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), Isotropic(1.0))
    found = class_entropy(three, vp(), **options)
    for name in ("entropy", "entropy_stderr", "rate", "clone_agreement", "surprise_variance"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(two, name), rtol=1e-9, atol=1e-12, err_msg=name
        )
    assert found.prior_entropy == pytest.approx(stats.entropy([0.25, 0.75]), rel=1e-12)
    np.testing.assert_allclose(found.per_cell[:, :2], two.per_cell, rtol=1e-9)
    assert np.isnan(found.per_cell[:, 2]).all()


def test_coarser_cells_know_less_and_common_noise_makes_smooth_curves():
    rng = np.random.default_rng(0)
    mixture = Mixture(np.full(6, 1 / 6), 3 * rng.normal(size=(6, 4)), Isotropic(1.0))
    times = np.linspace(0.2, 3, 40)
    fine = class_entropy(mixture, vp(), times, key=jax.random.key(0), samples=512)
    coarse = class_entropy(
        mixture, vp(), times, key=jax.random.key(0), samples=512, partition=Partition([0, 0, 0, 1, 1, 1])
    )
    assert (coarse.entropy <= fine.entropy + 3 * fine.entropy_stderr).all()
    assert (np.diff(fine.entropy) > 0).all()
    assert (fine.entropy < fine.prior_entropy + FIVE_SIGMA * fine.entropy_stderr).all()


def test_rotation_and_shift_change_nothing():
    rng = np.random.default_rng(1)
    means = 2 * rng.normal(size=(3, 20))
    rotation = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    curves = [
        class_entropy(
            Mixture(np.full(3, 1 / 3), m, Isotropic(1.0)),
            ve(),
            [2.0, 8.0],
            key=jax.random.key(1),
            samples=4096,
        )
        for m in (means, means @ rotation.T + 100.0)
    ]
    difference = np.abs(curves[0].entropy - curves[1].entropy)
    assert (difference < FIVE_SIGMA * np.hypot(curves[0].entropy_stderr, curves[1].entropy_stderr)).all()
    assert (difference > 0).any()  # the noise is not rotated along: an echo would be exact


@pytest.mark.parametrize("partition", [None, Partition([0, 0, 1, 1])])
def test_blocks_do_not_change_the_numbers(monkeypatch, partition):
    mixture = Mixture(PLANAR_WEIGHTS, PLANAR_MEANS, PLANAR["diagonal"])
    run = lambda: class_entropy(
        mixture, vp(), [0.5], partition=partition, key=jax.random.key(0), samples=1000
    )
    whole = run()
    monkeypatch.setattr(posterior_sampling, "BLOCK_ELEMENTS", 2**10)
    jax.clear_caches()
    pieces = run()
    jax.clear_caches()
    for name in ("entropy", "entropy_stderr", "rate", "rate_stderr", "per_cell"):
        np.testing.assert_allclose(getattr(whole, name), getattr(pieces, name), rtol=1e-12)


@pytest.mark.usefixtures("x32")
def test_float32_holds_at_a_million_dimensions_and_at_both_ends():
    mixture = pair(1e6, dim=10**6, dtype=np.float32)
    assert mixture.dtype == np.float32
    half_log_d = 0.5 * np.log(1e6)
    offsets = np.array([4.0, 0.5, -1.0])
    curve = class_entropy(mixture, vp(), half_log_d + offsets, key=jax.random.key(0), samples=64)
    exact = np.array([binary_by_quadrature(np.exp(-2 * u))[0] for u in offsets])
    assert np.abs(z_scores(curve.entropy, exact, curve.entropy_stderr)).max() < FIVE_SIGMA
    ends = class_entropy(mixture, vp(), [1e-6, 40.0, 200.0], key=jax.random.key(0), samples=8)
    np.testing.assert_allclose(ends.entropy, [0, np.log(2), np.log(2)], atol=1e-6)
    for name in ("entropy", "entropy_stderr", "rate", "rate_stderr", "clone_agreement", "surprise_variance"):
        assert np.isfinite(getattr(ends, name)).all(), name


def test_points_without_width_collapse_one_by_one():
    """Zero variance: the finest decision of a data set. Far classes are decided, near ones are open."""
    mixture = Mixture([0.25] * 4, np.array([[-8.0], [-4.0], [6.0], [8.0]]), Isotropic(0.0))
    curve = class_entropy(mixture, ve(), [1e-3, 9.0, 1e4], key=jax.random.key(0), samples=4096)
    assert curve.entropy[0] < 1e-100
    assert 0 < curve.entropy[1] < np.log(2)
    assert curve.entropy[2] == pytest.approx(np.log(4), rel=0.01)


def test_curve_is_whole_and_survives_a_file(tmp_path):
    curve = class_entropy(pair(9.0), edm(), [0.5, 5.0], key=jax.random.key(7), samples=100)
    assert curve.metadata["samples"] == 104
    assert curve.metadata["process"] == "edm()"
    assert curve.metadata["key"] == [0, 7]
    curve.save(tmp_path / "curve.nc")
    back = EntropyCurve.load(tmp_path / "curve.nc")
    np.testing.assert_array_equal(back.entropy, curve.entropy)
    assert back.metadata == curve.metadata


def test_clone_agreement_is_the_curves():
    options = {"key": jax.random.key(7), "samples": 100}
    value, stderr = clone_agreement(pair(9.0), edm(), [0.5, 5.0], **options)
    curve = class_entropy(pair(9.0), edm(), [0.5, 5.0], **options)
    np.testing.assert_array_equal(value, curve.clone_agreement)
    np.testing.assert_array_equal(stderr, curve.clone_agreement_stderr)


def test_progress_is_told_at_every_time():
    told = []
    class_entropy(
        pair(1.0), vp(), [1.0, 2.0], key=jax.random.key(0), samples=8, progress=lambda *a: told.append(a)
    )
    assert told == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": [-1.0]}, r"times must be in the range of vp, 0 < t < inf, got -1.0"),
        ({"times": [np.nan]}, "times must be in the range of vp"),
        ({"times": [[1.0]]}, r"times must have shape \(T,\)"),
        ({"samples": 0}, "samples must be >= 1, got 0"),
        ({"key": 0}, "key must be a JAX random key such as jax.random.key"),
        ({"partition": Partition([0, 0])}, "partition must have at least two cells"),
        ({"partition": Partition([0, 1, 1])}, "one label for each of the 2 components, got 3"),
    ],
)
def test_bad_input(change, message):
    arguments = {"times": [1.0], "key": jax.random.key(0), "samples": 8} | change
    times = arguments.pop("times")
    with pytest.raises(ValueError, match=message):
        class_entropy(pair(1.0), vp(), times, **arguments)
