"""Both ends of time, in both precisions: sampled curves are finite and have the limits of quadrature."""

import jax
import numpy as np
import pytest

import gmm
import theory

KEY = jax.random.key(0)
# Rounding of float32 sums; at these noise levels every sample gives the same number.
ROUNDING = 2e-6
LATE = [
    (gmm.vp(), [38.0, 44.0, 50.0, 320.0, 400.0]),
    (gmm.edm(), [1e10, 1e17, 1e19, 1e25, 1e60]),
    (gmm.ve(), [1e30, 1e38, 1e60]),
]


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def precision(request):
    with jax.enable_x64(request.param):
        yield


@pytest.mark.parametrize("dim", [2, 200])
@pytest.mark.parametrize(("process", "times"), LATE, ids=[process.name for process, _ in LATE])
def test_class_entropy_where_almost_nothing_is_left_of_the_signal(precision, process, times, dim):
    mixture = gmm.families.pair(dim, separation=(8 / dim) ** 0.5)
    curve = gmm.class_entropy(mixture, process, times, key=KEY, samples=64)
    exact = theory.entropy_curve(process, times, 8.0)
    np.testing.assert_allclose(curve.entropy, exact.entropy, rtol=ROUNDING)
    np.testing.assert_allclose(curve.rate, exact.rate, rtol=ROUNDING)
    np.testing.assert_allclose(curve.clone_agreement, 0.5, rtol=ROUNDING)


@pytest.mark.parametrize("covariance", ["diagonal", "full", "own"])
def test_every_covariance_at_late_times(precision, covariance):
    dim = 3
    means = np.eye(2, dim, dtype=jax.numpy.zeros(()).dtype)
    made = {
        "diagonal": gmm.Diagonal(np.ones(dim, means.dtype)),
        "full": gmm.Full(np.eye(dim, dtype=means.dtype)),
        "own": gmm.Isotropic(np.ones(2, means.dtype)),
    }[covariance]
    mixture = gmm.Mixture(np.full(2, 0.5, means.dtype), means, made)
    for process, times in LATE:
        curve = gmm.class_entropy(mixture, process, times, key=KEY, samples=64)
        np.testing.assert_allclose(curve.entropy, np.log(2), rtol=ROUNDING)
        assert np.isfinite(curve.rate).all()
        assert (curve.rate >= 0).all()


# Against float64 on the same points: posterior odds in float32 are good to 1e-5 of |log odds|, which are below 100.
TWO_PRECISIONS = 1e-4
ENDS = {
    "edm": (gmm.edm, [1e-18, 1.0, 1e10, 1e17, 1e19, 1e20, 1e30]),
    "ve": (gmm.ve, [1e-30, 1.0, 1e30, 1e37]),
    "vp": (gmm.vp, [1e-30, 1.0, 44.0, 100.0, 400.0]),
    "vp_linear": (gmm.vp_linear, [1e-30, 0.5, 1.0]),
    "flow": (gmm.flow, [1e-18, 0.5, 1.0]),
    "ddpm": (lambda: gmm.ddpm(gmm.scaled_linear_betas()), [0.0, 500.0, 999.0]),
}
COVARIANCES = {
    "shared": lambda d: gmm.Isotropic(1.0),
    "own": lambda d: gmm.Isotropic([1.0, 0.5, 2.0]),
    "diagonal": lambda d: gmm.Diagonal(np.linspace(0.5, 2, d)),
}


def in_precision(x64, dim, covariance, make, x, t, batch):
    """E[x_0|x], log p(k|x), σ·score and log p in one precision; the last three None where σ² overflows."""
    with jax.enable_x64(x64):
        dtype = np.float64 if x64 else np.float32
        means = np.random.default_rng(0).normal(size=(3, dim)) * 3 / dim**0.5
        cast = lambda leaf: np.asarray(leaf).astype(dtype)
        mixture = gmm.Mixture(
            cast([0.2, 0.3, 0.5]), cast(means.astype(np.float32)), jax.tree.map(cast, covariance)
        )
        process = make()
        x, sigma = x.astype(dtype), float(process.sigma(t))
        denoised = gmm.denoise(mixture, process, x, np.full(len(x), t) if batch else t)
        if sigma**2 > float(np.finfo(np.float32).max):
            return (denoised,)
        noisy = gmm.diffuse(mixture, process.alpha(t), process.sigma(t))
        scale = max(sigma, float(process.alpha(t)))
        parts = gmm.log_posterior(noisy, x), gmm.score(noisy, x) * dtype(scale), gmm.log_prob(noisy, x)
        return denoised, *parts


@pytest.mark.parametrize("dim", [2, 10_000])
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("name", ENDS)
def test_both_ends_of_time_in_both_precisions(name, covariance, dim):
    """At typical states and 15 standard deviations out; unlike variances only where log p has digits left."""
    make, times = ENDS[name]
    process = make()
    made = COVARIANCES[covariance](dim)
    noise = np.random.default_rng(1).normal(size=(2, dim))
    for t in times:
        spread = np.hypot(float(process.alpha(t)), float(process.sigma(t)))
        for deviations in (1.0, 15.0):
            x = (deviations * spread * noise).astype(np.float32)
            if not np.isfinite(x).all() or (covariance == "own" and dim > 2):
                continue
            batch = dim == 2
            single, double = (in_precision(x64, dim, made, make, x, t, batch) for x64 in (False, True))
            for a, b in zip(single, double, strict=True):
                assert np.isfinite(np.asarray(a)).all(), (t, deviations)
                np.testing.assert_allclose(a, b, rtol=TWO_PRECISIONS, atol=TWO_PRECISIONS * np.abs(b).max())


@pytest.mark.slow
@pytest.mark.parametrize("process", [gmm.edm(), gmm.vp()], ids=["edm", "vp"])
def test_a_million_dimensions_at_both_ends(precision, process):
    mixture = gmm.families.pair(10**6, separation=1e-3)
    noise = np.random.default_rng(1).normal(size=(1, 10**6)).astype(mixture.dtype)
    for t in (1e-18, 1e20) if process.name == "edm" else (1e-30, 100.0):
        x = 15 * np.hypot(float(process.alpha(t)), float(process.sigma(t))) * noise
        assert np.isfinite(np.asarray(gmm.denoise(mixture, process, x.astype(mixture.dtype), t))).all()


def test_a_variance_beyond_float32_is_refused():
    with jax.enable_x64(False):
        mixture = gmm.families.pair(2)
        with pytest.raises(
            ValueError, match=r"^sigma must be below 1.8e\+19, whose square float32 holds .*got 1e"
        ):
            gmm.diffuse(mixture, 1.0, 1e20)
