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
