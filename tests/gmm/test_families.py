"""Families against their Gram matrices written out, laws of random means, and direct fits."""

import jax
import numpy as np
import pytest
import scipy.linalg
from scipy import stats
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture

import gmm
import theory
from gmm import families
from gmm.partition import cell_log_posterior

# Gram matrices of float64 means: rounding of products over the dimensions.
EXACT = 1e-9


def gram(mixture, centred=True):
    means = np.asarray(mixture.means, float)
    if centred:
        means = means - means.mean(0)
    return means @ means.T


BUILT = {
    "pair": lambda **o: families.pair(20, separation=0.5, **o),
    "simplex": lambda **o: families.simplex(5, 20, separation=0.5, **o),
    "orthogonal": lambda **o: families.orthogonal(5, 20, separation=0.5, **o),
    "random": lambda **o: families.random(jax.random.key(0), 5, 20, separation=0.5, **o),
    "tree": lambda **o: families.tree((2, 3), 20, separation=0.5, **o),
}


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("reduced", [False, True])
def test_common_scale(name, reduced):
    mixture = BUILT[name](reduced=reduced)
    assert np.diag(gram(mixture)).mean() == pytest.approx(20 * 0.25, rel=EXACT)
    assert float(mixture.covariance.var) == 1
    assert mixture.dim == 20 if not reduced else mixture.dim <= mixture.components


@pytest.mark.parametrize("name", ["pair", "simplex", "orthogonal", "tree"])
def test_reduced_and_full_have_one_gram_matrix(name):
    np.testing.assert_allclose(gram(BUILT[name](reduced=True)), gram(BUILT[name](reduced=False)), atol=EXACT)


def test_gram_matrices_written_out():
    np.testing.assert_allclose(gram(families.pair(9), False), 9 * np.array([[1, -1], [-1, 1]]), atol=EXACT)
    simplex = 9 * np.where(np.eye(4, dtype=bool), 1, -1 / 3)
    np.testing.assert_allclose(gram(families.simplex(4, 9), False), simplex, atol=EXACT)
    np.testing.assert_allclose(gram(families.orthogonal(4, 9), False), 12 * np.eye(4), atol=EXACT)


def test_means_are_spread_over_all_coordinates():
    assert np.ptp(np.abs(np.asarray(families.pair(1000).means)), axis=1).max() < 1.5


def test_tree_gram_counts_common_ancestors():
    """Inner product of two leaves = energy of the levels on which their paths agree, found by walking paths."""
    branching, energies = (2, 3, 2), (5.0, 2.0, 1.0)
    paths = [(i, j, k) for i in range(2) for j in range(3) for k in range(2)]
    raw = np.array(
        [[sum(e for n, e in enumerate(energies) if a[: n + 1] == b[: n + 1]) for b in paths] for a in paths]
    )
    centre = np.eye(12) - 1 / 12
    np.testing.assert_allclose(families.tree_gram(branching, energies), centre @ raw @ centre, atol=1e-12)
    coarse, middle, leaves = families.tree_partitions(branching)
    assert [p.cells for p in (coarse, middle, leaves)] == [2, 6, 12]
    assert leaves.refines(middle)
    assert middle.refines(coarse)


def test_random_gram_matrices_have_one_law_reduced_or_not():
    """Inner product of the first two of many means: two samples of 300, Kolmogorov-Smirnov at 1e-4."""
    draw = lambda reduced, seed: gram(families.random(jax.random.key(seed), 3, 6, reduced=reduced))[0, 1]
    full, reduced = ([draw(r, s + 1000 * r) for s in range(300)] for r in (False, True))
    assert stats.ks_2samp(full, reduced).pvalue > 1e-4


@pytest.mark.parametrize("dim", [10**9, 10**12])
def test_dimension_is_only_a_number(dim):
    for mixture in (
        families.pair(dim, reduced=True),
        families.simplex(50, dim, reduced=True),
        families.random(jax.random.key(1), 50, dim, reduced=True),
        families.tree((2, 5), dim, reduced=True),
    ):
        assert np.diag(gram(mixture)).mean() == pytest.approx(dim, rel=1e-6)
        assert mixture.means.size <= 2500


def test_from_gram_reproduces_any_semi_definite_matrix():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 3))
    mixture = families.from_gram(factor @ factor.T, variance=0.5)
    assert mixture.dim == 3
    np.testing.assert_allclose(gram(mixture, False), factor @ factor.T, atol=EXACT)


def test_closed_coordinates_are_the_triangular_factor_of_the_gram_matrix():
    """Two routes: contrasts written out, and Cholesky with pivots of the Gram matrix."""
    for mixture in (families.simplex(6, 40, reduced=True), families.orthogonal(6, 40, reduced=True)):
        np.testing.assert_allclose(families.from_gram(gram(mixture, False)).means, mixture.means, atol=EXACT)


def test_from_gram_is_a_triangle_in_the_order_of_lengths_with_positive_pivots():
    """scipy's Cholesky factor of the matrix in pivot order; lengths are chosen so that the order is clear."""
    factor = np.random.default_rng(8).normal(size=(4, 4)) * [[1.0], [8.0], [3.0], [20.0]]
    matrix, order = factor @ factor.T, [3, 1, 2, 0]
    wanted = scipy.linalg.cholesky(matrix[np.ix_(order, order)], lower=True)
    np.testing.assert_allclose(np.asarray(families.from_gram(matrix).means)[order], wanted, atol=1e-10)


def test_equal_lengths_are_taken_in_the_order_of_classes():
    noisy = np.eye(5) * (1 + 1e-12 * np.random.default_rng(9).normal(size=5))
    np.testing.assert_allclose(families.from_gram(noisy).means, np.eye(5), atol=1e-11)


@pytest.mark.parametrize("ratio", [1e6, 1e14, 1e20])
def test_a_tree_keeps_levels_that_are_small_beside_others(ratio, x32):
    """Squared distances of siblings and of cousins, from the energies: 2E_2 and 2(E_1 + E_2); float32."""
    coarse, fine = ratio, 25.0
    energies = (coarse, fine)
    total = 0.5 * (coarse + fine / 2) + 0.5 * fine  # mean squared norm after centring
    mixture = families.tree((2, 2), 4, energies=energies, separation=np.sqrt(total / 4), reduced=True)
    means = np.asarray(mixture.means, float)
    assert np.sum((means[0] - means[1]) ** 2) == pytest.approx(2 * fine, rel=1e-6)
    assert np.sum((means[0] - means[2]) ** 2) == pytest.approx(2 * (coarse + fine), rel=1e-6)


def test_small_levels_of_a_tree_decide_as_quadrature_says():
    energies, times = (1e14, 25.0), [0.05, 1.0]
    total = 0.5 * (energies[0] + energies[1] / 2) + 0.5 * energies[1]
    mixture = families.tree((2, 2), 4, energies=energies, separation=np.sqrt(total / 4), reduced=True)
    found = gmm.class_entropy(mixture, gmm.edm(), times, key=jax.random.key(0), samples=1024)
    exact = theory.tree_curves(gmm.edm(), times, (2, 2), energies)[-1]
    assert (np.abs(found.entropy - exact.entropy) < 5 * found.entropy_stderr).all()
    assert found.entropy[0] < 1e-2


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
def test_from_gram_keeps_classes_apart_beside_a_common_offset(offset):
    """Entries of the Gram matrix are known to eps · offset²."""
    means = np.array([[offset, 0.0], [offset, 9.0], [offset, -9.0]])
    found = np.asarray(families.from_gram(means @ means.T).means)
    squares = np.sum((found[:, None] - found[None]) ** 2, axis=-1)
    wanted = np.sum((means[:, None] - means[None]) ** 2, axis=-1)
    np.testing.assert_allclose(squares, wanted, atol=1e-12 + 4 * np.finfo(float).eps * offset**2)


def test_classes_that_the_entries_of_a_gram_matrix_cannot_tell_apart_are_refused():
    for apart in (9.0, 0.5):  # entries that differ by a unit in the last place, and equal ones
        means = np.array([[1e9, 0.0], [1e9, apart], [1e9, -apart]])
        with pytest.raises(ValueError, match=r"gram must resolve .* give inner products of centred means"):
            families.from_gram(means @ means.T)
    assert families.from_gram(np.ones((2, 2))).dim == 1  # coincident, and known to be


def test_dense_means_that_float32_would_move_are_refused(x32):
    with pytest.raises(ValueError, match=r"means must keep the distances .* use reduced=True or float64"):
        families.tree((2, 2), 4, energies=(1e14, 25.0), separation=1e7)
    with pytest.raises(ValueError, match="move the means towards the origin, or set JAX to 64 bit"):
        gmm.Mixture([0.5, 0.5], np.array([[1e8, 0.0], [1e8 + 3, 0.0]]), gmm.Isotropic(1.0))
    with pytest.raises(ValueError, match="move the means towards the origin, or set JAX to 64 bit"):
        families.empirical(1e8 + np.random.default_rng(0).normal(size=(20, 2)))
    constant = gmm.Mixture([0.5, 0.5], np.array([[1e8 + 1, 0.0], [1e8 + 1, 3.0]]), gmm.Isotropic(1.0))
    assert float(constant.means[1, 1]) == 3  # what all means share may be rounded


def test_one_gaussian_a_class_is_the_class_mean_and_covariance():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 3)) @ np.diag([1, 2, 0.5]) + np.repeat([[0, 0, 0], [3, 1, 0]], 300, axis=0)
    y = np.repeat(["dog", "cat"], 300)
    mixture, partition = families.fitted(x, y, shrinkage=0.0)
    np.testing.assert_array_equal(partition.labels, [0, 1])
    for k, name in enumerate(["cat", "dog"]):
        own = x[y == name]
        np.testing.assert_allclose(mixture.means[k], own.mean(0), rtol=1e-9)
        np.testing.assert_allclose(
            mixture.covariance.dense(3)[k], np.cov(own.T, bias=True), rtol=1e-4, atol=1e-4
        )
    shared, _ = families.fitted(x, y, covariance="shared", shrinkage=0.0)
    residual = x - np.where((y == "cat")[:, None], x[y == "cat"].mean(0), x[y == "dog"].mean(0))
    np.testing.assert_allclose(shared.covariance.dense(3), residual.T @ residual / 600, rtol=1e-4, atol=1e-4)


def test_posteriors_of_a_fit_are_scikit_learns():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(400, 2)) * [1, 3], np.repeat([0, 1], 200)
    x[y == 1] += [2, 1]
    mixture, _ = families.fitted(x, y, covariance="diagonal", shrinkage=0.0)
    model = GaussianMixture(2, covariance_type="diag")
    model.weights_, model.means_ = np.asarray(mixture.weights), np.asarray(mixture.means)
    model.covariances_ = np.asarray(mixture.covariance.var)
    model.precisions_cholesky_ = 1 / np.sqrt(model.covariances_)
    np.testing.assert_allclose(np.exp(gmm.log_posterior(mixture, x)), model.predict_proba(x), atol=1e-9)


@pytest.mark.parametrize(
    "options", [{}, {"covariance": "shared"}, {"covariance": "diagonal", "components": 2}]
)
def test_digits_with_their_constant_pixels_are_fitted(options):
    x, y = load_digits(return_X_y=True)
    mixture, partition = families.fitted(x / 16, y, **options)
    log_p = cell_log_posterior(
        gmm.log_posterior(gmm.diffuse(mixture, 1.0, 0.05), x / 16), partition.labels, 10
    )
    assert np.isfinite(np.asarray(log_p).max(axis=1)).all()
    assert (np.argmax(np.asarray(log_p), 1) == y).mean() > 0.9


def test_empirical_mixture_is_the_data():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(7, 2)), np.array(list("abacbca"))
    mixture, partition = families.empirical(x, y)
    noisy = gmm.diffuse(mixture, 0.8, 0.5)
    point = np.array([0.3, -0.2])
    brute = np.mean([stats.multivariate_normal(0.8 * p, 0.25).pdf(point) for p in x])
    assert float(gmm.log_prob(noisy, point)) == pytest.approx(np.log(brute), rel=1e-12)
    np.testing.assert_array_equal(partition.labels, [0, 1, 0, 2, 1, 2, 0])
    assert families.empirical(x)[1].cells == 7


@pytest.mark.parametrize(
    ("covariance", "theirs"), [("full", "full"), ("diagonal", "diag"), ("isotropic", "spherical")]
)
def test_several_gaussians_a_class_are_scikit_learns_own_fit(covariance, theirs):
    """Class by class, parameters and posteriors of an independent GaussianMixture of the same seed and floor."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(400, 4)) * [1, 3, 1, 0.5] + 7, np.repeat([0, 1], [150, 250])
    x[::3] += [4, 0, 0, 1]
    mixture, partition = families.fitted(x, y, components=2, covariance=covariance, shrinkage=None, seed=3)
    np.testing.assert_allclose(mixture.weights[:2].sum(), 150 / 400)
    for c in (0, 1):
        own = x[y == c]
        model = GaussianMixture(
            2, covariance_type=theirs, random_state=3, reg_covar=1e-6 * x.var(axis=0).mean(), max_iter=1000
        ).fit(own - own.mean(0))
        part = mixture.take(partition.inside[partition.labels == c])
        np.testing.assert_allclose(part.means, model.means_ + own.mean(0), atol=EXACT)
        np.testing.assert_allclose(
            gmm.log_prob(part, own), model.score_samples(own - own.mean(0)), rtol=1e-8, atol=1e-8
        )
        np.testing.assert_allclose(
            np.exp(gmm.log_posterior(part, own)), model.predict_proba(own - own.mean(0)), atol=1e-8
        )


def test_shrinkage_is_ledoit_and_wolfs():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(60, 12)) * np.linspace(1, 3, 12), np.repeat([0, 1], 30)
    mixture, _ = families.fitted(x, y)
    floor = 1e-6 * x.var(axis=0).mean() * np.eye(12)
    for c in (0, 1):
        wanted = LedoitWolf().fit(x[y == c]).covariance_ + floor
        np.testing.assert_allclose(mixture.covariance.dense(12)[c], wanted, atol=EXACT)


def test_a_constant_class_is_no_failure():
    rng = np.random.default_rng(7)
    x = np.concatenate(
        [rng.normal(size=(40, 3)), np.zeros((20, 3)) + 1e-3 * rng.normal(size=(20, 3)) * [1, 0, 0]]
    )
    for covariance in families.SKLEARN_COVARIANCES:
        mixture, _ = families.fitted(x, np.repeat([0, 1], [40, 20]), components=2, covariance=covariance)
        assert np.isfinite(np.asarray(gmm.log_prob(mixture, x))).all()


def test_float32_fits_keep_their_smallest_variance(x32):
    """Digits with constant pixels, three full matrices a class, no shrinkage: no variance rounds to zero."""
    x, y = load_digits(n_class=3, return_X_y=True)
    mixture, _ = families.fitted(x / 8 - 1, y, components=3, shrinkage=None)
    assert mixture.dtype == np.float32
    floor = 1e-6 * (x / 8).var(axis=0).mean()
    assert np.asarray(mixture.covariance.eigenvalues(64)).min() > 0.9 * floor
    assert np.isfinite(np.asarray(gmm.log_prob(mixture, x[:100] / 8 - 1))).all()


def test_first_class_of_a_pair_is_positive():
    assert (np.asarray(families.pair(7).means[0]) > 0).all()
    assert float(families.pair(10**9, reduced=True).means[0, 0]) > 0


@pytest.mark.parametrize("name", BUILT)
def test_families_have_names(name):
    sizes = {"pair": (2,), "tree": (2, 3)}.get(name, (5,))
    found = families.named(name, sizes, 20, key=jax.random.key(0), separation=0.5, reduced=True)
    np.testing.assert_array_equal(found.means, BUILT[name](reduced=True).means)


def test_a_dimension_may_be_written_as_a_float():
    np.testing.assert_array_equal(families.pair(1e2).means, families.pair(100).means)
    assert families.random(jax.random.key(0), 3, 1e2).dim == 100


@pytest.mark.parametrize("dim", [3, 8, 60])
def test_reduced_random_means_have_the_wishart_law(dim):
    """Two entries of the Gram matrix of five means, below and above K dimensions: 200 draws of each kind.

    Six Kolmogorov-Smirnov tests at 1e-5 each.
    """
    draws = [
        np.array(
            [
                gram(families.random(jax.random.key(seed + 5000 * r), 5, dim, reduced=r))[0, :2]
                for seed in range(200)
            ]
        )
        for r in (False, True)
    ]
    for full, reduced in zip(draws[0].T, draws[1].T, strict=True):
        assert stats.ks_2samp(full, reduced).pvalue > 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: families.simplex(12, 10), "classes of a simplex family must be <= 11 in dim=10, got 12"),
        (lambda: families.orthogonal(11, 10), "must be <= 10 in dim=10, got 11"),
        (lambda: families.pair(0), "dim must be a whole number >= 1, got 0"),
        (lambda: families.pair(5, separation=-1), "separation must be finite and positive, got -1"),
        (lambda: families.pair(10**10), "would take .* GiB .* reduced=True"),
        (lambda: families.simplex(10**5, 10**9, reduced=True), "100000 classes would take .* GiB .* theory"),
        (lambda: families.tree((2, 2), 10, energies=[0, 0]), "energies must separate some of the 4 leaves"),
        (lambda: families.tree((2, 0), 10), "branching must list whole numbers >= 1"),
        (lambda: families.tree((2, 2), 10, energies=[1.0]), "energies must be 2 numbers >= 0"),
        (lambda: families.from_gram([[1.0, 2.0], [2.0, 1.0]]), "positive semi-definite"),
        (lambda: families.from_gram([[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
        (lambda: families.fitted(np.zeros((3, 2)), [0, 1]), r"x and y must have shapes"),
        (
            lambda: families.fitted(np.zeros((3, 2)), [0, 0, 1]),
            "every class needs at least 2 points, 1 has 1",
        ),
        (
            lambda: families.fitted(np.eye(4), [0, 0, 1, 1], covariance="round"),
            "covariance must be one of full",
        ),
        (
            lambda: families.fitted(np.eye(4), [0, 0, 1, 1], shrinkage=2.0),
            "shrinkage must be 'auto' or a share",
        ),
        (lambda: families.empirical(np.full((2, 2), np.nan)), "x must be finite"),
        (lambda: families.random(3, 2, 2), "key must be a JAX random key"),
        (lambda: families.named("random", (3,), 2), "key must be a JAX random key"),
        (lambda: families.named("cube", (3,), 2), "family must be one of pair, simplex"),
        (lambda: families.named("pair", (3,), 2), r"sizes must be two classes for a pair, got \[3\]"),
        (lambda: families.named("simplex", (2, 2), 9), "sizes must be one number of classes for 'simplex'"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
