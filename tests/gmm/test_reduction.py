"""Exact reduction: posteriors of the projected problem are those of the full one at d = 200."""

import jax
import numpy as np
import pytest

import gmm
from gmm.axes import equal_groups
from gmm.reduction import VARIANCE_ROUNDING, reduction

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


def posterior_gap(mixture, alpha, sigma):
    """Largest difference of reduced and full log posteriors over 50 points of the diffused mixture."""
    found, noisy = reduction(mixture), gmm.diffuse(mixture, alpha, sigma)
    x, _ = gmm.sample(noisy, jax.random.key(4), 50)
    small = gmm.log_posterior(gmm.diffuse(found.mixture, alpha, sigma), found.project(x, alpha))
    return np.abs(np.asarray(small - gmm.log_posterior(noisy, x))).max()


def test_small_variances_beside_large_ones_stay_apart():
    """1e-6 and 3e-6 are two variances whatever the third one is: at σ = 1e-4 it is they that decide."""
    means = 1e-3 * np.array([[1, 1, 1], [-1, -1, -1]])
    mixture = gmm.Mixture([0.5, 0.5], means, gmm.Diagonal([1e6, 1e-6, 3e-6]))
    assert gmm.reduce(mixture).dim == 3
    assert posterior_gap(mixture, 1.0, 1e-4) < 1e-9


def test_a_short_separation_in_a_quiet_coordinate_counts():
    """Beside one a million times longer, but ten standard deviations wide."""
    means = np.array([[1e3, 1e-9], [-1e3, -1e-9]])
    mixture = gmm.Mixture([0.5, 0.5], means, gmm.Diagonal([1e6, 1e-20]))
    assert gmm.reduce(mixture).dim == 2
    assert posterior_gap(mixture, 1.0, 1e-10) < 1e-6


def test_densely_spread_variances_are_not_one_value():
    """In float32 neighbours among 100,000 variances are equal to 5 digits; first and last differ by four."""
    var = np.linspace(0.5, 2, 100_000, dtype=np.float32)
    slack = VARIANCE_ROUNDING * float(np.finfo(np.float32).eps) * var
    widths = [var[index].max() / var[index].min() for _, index in equal_groups(var, slack)]
    assert max(widths) < 1 + 1e-6


def test_thousands_of_distinct_variances_are_no_burden():
    """No array of a distinct value times classes times dimension is built: 1,000 values, in well under a second."""
    rng = np.random.default_rng(2)
    mixture = gmm.Mixture(
        np.ones(4) / 4, 0.05 * rng.normal(size=(4, 1000)), gmm.Diagonal(np.linspace(0.5, 2, 1000))
    )
    assert gmm.reduce(mixture).dim == 1000
    assert posterior_gap(mixture, 1.0, 0.1) < EXACT


@pytest.mark.parametrize("name", covariances())
def test_basis_is_orthonormal_and_of_eigenvectors(name):
    mixture = mixture_with(covariances()[name][0])
    found = reduction(mixture)
    rank = found.mixture.dim
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(rank), atol=EXACT)
    spectrum = np.broadcast_to(found.mixture.covariance.eigenvalues(rank), (rank,))
    dense = np.asarray(mixture.covariance.dense(DIM))
    np.testing.assert_allclose(dense @ found.basis, found.basis * spectrum[None, :], atol=1e-9)


@pytest.mark.parametrize("name", covariances())
def test_coincident_means_leave_one_eigenvector(name):
    mixture = gmm.Mixture(np.ones(4) / 4, np.full((4, DIM), 0.1), covariances()[name][0])
    found = reduction(mixture)
    assert found.basis.shape == (DIM, 1)
    value = np.ravel(found.mixture.covariance.eigenvalues(1))
    dense = np.asarray(mixture.covariance.dense(DIM))
    np.testing.assert_allclose(dense @ found.basis, found.basis * value[None, :], atol=1e-9)


def test_reduced_coordinates_do_not_depend_on_how_the_problem_is_turned():
    """The same classes in a turned frame: other axes, the same coordinates."""
    rng = np.random.default_rng(5)
    means, turn = rng.normal(size=(CLASSES, 30)), np.linalg.qr(rng.normal(size=(30, 30)))[0]
    weights, square = np.full(CLASSES, 1 / CLASSES), np.diag(np.repeat([0.5, 1.0, 2.0], 10))
    one = gmm.reduce(gmm.Mixture(weights, means, gmm.Diagonal(np.diag(square))))
    other = gmm.reduce(gmm.Mixture(weights, means @ turn.T, gmm.Full(turn @ square @ turn.T)))
    np.testing.assert_allclose(one.means, other.means, atol=1e-10)


def test_short_differences_beside_long_ones_survive_in_float32(x32):
    """The lower level of a tree, a millionth as long as the upper one, in coordinates of its own."""
    mixture = gmm.families.tree((2, 2), 4, energies=(1e10, 25.0), separation=4e4, reduced=True)
    small = gmm.reduce(mixture)
    assert small.dim == 3
    for pair in ((0, 1), (2, 3)):
        far, near = (
            np.linalg.norm(np.subtract(*np.asarray(m.means, float)[list(pair)])) for m in (mixture, small)
        )
        assert near == pytest.approx(far, rel=1e-3)


def test_differences_that_rounding_would_hide_are_refused():
    mixture = gmm.families.tree((2, 2), 4, energies=(1e34, 25.0), separation=4e16, reduced=True)
    with pytest.raises(ValueError, match=r"means must keep the distances .* or use float64"):
        gmm.reduce(mixture)
