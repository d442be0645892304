"""Three, four and more Gaussian classes: quadrature in x, closed families, sampling, and the bracket by enumeration."""

import itertools
import math

import jax
import numpy as np
import pytest
from scipy.special import gamma, xlogy

import gmm
import theory
from gmm import cluster, exact, subset_basis
from gmm.partition import trivial_partition

# Of cluster expansions against direct quadrature.
QUADRATURE = 1e-9
PROCESS = gmm.vp()
TRIPLE = gmm.Mixture(
    np.array([0.2, 0.3, 0.5]),
    np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.5]]),
    gmm.Diagonal(np.array([[1.0, 1.0], [0.5, 2.0], [1.5, 0.3]])),
)


def levels(log_snr):
    alpha = 1 / np.sqrt(1 + np.exp(-np.asarray(log_snr, float)))
    return alpha, np.sqrt(1 - alpha**2)


def values(mixture, labels=None, log_snr=(0.0,), tolerance=1e-9):
    partition = trivial_partition(mixture.components) if labels is None else gmm.Partition(np.array(labels))
    return exact.exact_values(exact.members(mixture, partition), *levels(log_snr), tolerance=tolerance)


def on_a_grid(mixture, alpha, sigma, labels, points=700):
    """H, agreement and per-cell surprise by the trapezoid rule in one or two dimensions: geometric convergence."""
    noisy = gmm.diffuse(mixture, alpha, sigma)
    reach = 11 * math.sqrt(float(np.asarray(noisy.covariance.eigenvalues(mixture.dim)).max()))
    means = np.asarray(noisy.means)
    axes = [
        np.linspace(means[:, i].min() - reach, means[:, i].max() + reach, points) for i in range(mixture.dim)
    ]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, mixture.dim)
    cell = math.prod(axis[1] - axis[0] for axis in axes)
    density = np.exp(np.asarray(gmm.log_prob(noisy, x))) * cell
    posterior = np.exp(np.asarray(gmm.log_posterior(noisy, x)))
    by_cell = np.stack(
        [posterior[:, np.array(labels) == c].sum(axis=1) for c in range(max(labels) + 1)], axis=1
    )
    prior = np.array(
        [np.exp(np.asarray(mixture.log_weights))[np.array(labels) == c].sum() for c in range(max(labels) + 1)]
    )
    surprise = -xlogy(by_cell, by_cell)
    return density @ surprise.sum(axis=1), density @ (by_cell**2).sum(axis=1), density @ surprise / prior


def wishart(rng, classes, dim):
    factor = rng.normal(size=(classes, dim, dim))
    return factor @ factor.transpose(0, 2, 1) / dim + 0.1 * np.eye(dim)


def random_mixture(seed, classes, dim, kind="diagonal"):
    rng = np.random.default_rng(seed)
    covariance = {
        "isotropic": lambda: gmm.Isotropic(rng.uniform(0.3, 2, classes)),
        "one variance": lambda: gmm.Isotropic(0.8),
        "diagonal": lambda: gmm.Diagonal(rng.uniform(0.3, 2, (classes, dim))),
        "one diagonal": lambda: gmm.Diagonal(rng.uniform(0.3, 2, dim)),
        "full": lambda: gmm.Full(wishart(rng, classes, dim)),
        "one full": lambda: gmm.Full(np.diag(rng.uniform(0.3, 2, dim)) + 0.2),
        "low rank": lambda: gmm.LowRank(rng.normal(size=(classes, dim, 1)), rng.uniform(0.3, 1, classes)),
        "one low rank": lambda: gmm.LowRank(rng.normal(size=(dim, 1)), 0.5),
    }[kind]()  # fmt: skip
    return gmm.Mixture(rng.dirichlet(3 * np.ones(classes)), 1.2 * rng.normal(size=(classes, dim)), covariance)


def test_published_triple():
    """The oracle of the derivation: pairs, the triple, and both with two of the classes in one cell."""
    decision = exact.members(TRIPLE, trivial_partition(3))
    subset = subset_basis.cluster_basis(TRIPLE).at(1.0, 0.0).take((0, 1, 2))
    term, error = cluster.cluster_term(subset, decision.log_weights, decision.cells, 3, tolerance=1e-11)
    assert term.entropy == pytest.approx(-0.04578239487261, abs=2e-14)
    assert error.entropy < 1e-11


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 1], [1, 0, 0]])
@pytest.mark.parametrize("mixture", [TRIPLE, random_mixture(1, 3, 1), random_mixture(2, 3, 2, "full")])
def test_three_classes_by_quadrature_in_x(mixture, labels):
    log_snr = [-2.0, 1.0, 4.0]
    found, error = values(mixture, labels, log_snr)
    for i, level in enumerate(zip(*levels(log_snr), strict=True)):
        entropy, agreement, per_cell = on_a_grid(mixture, *level, labels)
        assert abs(found.entropy[i] - entropy) <= min(QUADRATURE, error.entropy[i] + 1e-12)
        assert abs(1 - found.disagreement[i] - agreement) <= min(QUADRATURE, error.disagreement[i] + 1e-12)
        np.testing.assert_allclose(found.per_cell[i], per_cell, atol=QUADRATURE)
    # Gauss sums of 10^-9 are not all: the same integrals at a loose tolerance stay within what they state.
    loose, stated = values(mixture, labels, log_snr, tolerance=1e-4)
    assert (np.abs(loose.entropy - found.entropy) <= stated.entropy).all()


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 1, 0, 1], [0, 1, 2, 1]])
def test_four_classes_by_quadrature_in_x(labels):
    mixture = random_mixture(3, 4, 1)
    found, error = values(mixture, labels, [1.0], tolerance=1e-8)
    entropy, agreement, per_cell = on_a_grid(mixture, *np.array(levels([1.0]))[:, 0], labels)
    assert abs(found.entropy[0] - entropy) <= min(QUADRATURE, error.entropy[0])
    assert abs(1 - found.disagreement[0] - agreement) <= QUADRATURE
    np.testing.assert_allclose(found.per_cell[0], per_cell, atol=QUADRATURE)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_four_classes_to_full_accuracy(seed):
    mixture = random_mixture(100 + seed, 4, 1 + seed % 2)
    labels = [[0, 1, 2, 3], [0, 0, 1, 2]][seed // 6]
    found, error = values(mixture, labels, [1.5], tolerance=1e-10)
    entropy = on_a_grid(mixture, *np.array(levels([1.5]))[:, 0], labels)[0]
    assert abs(found.entropy[0] - entropy) <= min(QUADRATURE, error.entropy[0] + 1e-12)


@pytest.mark.parametrize(("classes", "tolerance"), [(3, 1e-10), (4, 1e-8)])
def test_identical_classes_keep_the_prior_entropy(classes, tolerance):
    weights = np.arange(1.0, classes + 1) / np.arange(1.0, classes + 1).sum()
    mixture = gmm.Mixture(weights, np.zeros((classes, 2)), gmm.Diagonal(np.ones((classes, 2))))
    found, error = values(mixture, tolerance=tolerance)
    prior = -(weights @ np.log(weights))
    assert abs(found.entropy[0] - prior) <= error.entropy[0] <= 4 * tolerance * prior
    assert abs(found.rate[0]) <= error.rate[0] + 1e-15


@pytest.mark.parametrize("classes", [3, 4])
def test_simplices_are_the_closed_form(classes):
    mixture = gmm.families.simplex(classes, 6)
    times = np.array([0.3, 1.0, 2.5])
    tolerance = 1e-9 if classes == 3 else 1e-7
    decision = exact.members(mixture, trivial_partition(classes))
    grid = gmm.clock.schedule(PROCESS, times)
    curve = exact.line_integral_curve(decision, PROCESS, grid, tolerance=tolerance)
    closed = theory.exact_curve(mixture, PROCESS, times)
    assert (curve.metadata["route"], closed.metadata["route"]) == ("cluster", "simplex")
    for name in ("entropy", "rate", "clone_agreement"):
        np.testing.assert_allclose(getattr(curve, name), getattr(closed, name), rtol=3 * tolerance)


@pytest.mark.parametrize(
    "kind", ["isotropic", "one variance", "one diagonal", "full", "one full", "low rank", "one low rank"]
)
def test_rate_is_the_derivative_of_the_entropy(kind):
    mixture = random_mixture(5, 3, 3, kind)
    log_snr, step = np.array([-1.0, 0.5, 2.0]), 0.02
    offsets, weights = np.arange(1, 5), np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])

    def at(shift):
        return values(mixture, log_snr=log_snr + shift, tolerance=1e-11)[0].entropy

    slope = sum(w * (at(-k * step) - at(k * step)) for k, w in zip(offsets, weights, strict=True)) / step
    np.testing.assert_allclose(values(mixture, log_snr=log_snr, tolerance=1e-10)[0].rate, slope, rtol=1e-8)


def dense(mixture):
    """The same mixture with full covariances."""
    covariance = mixture.covariance.dense(mixture.dim)
    return gmm.Mixture(
        np.exp(np.asarray(mixture.log_weights)), np.asarray(mixture.means), gmm.Full(covariance)
    )


@pytest.mark.parametrize(
    "kind", ["isotropic", "one variance", "diagonal", "one diagonal", "low rank", "one low rank"]
)
def test_every_kind_of_covariance_is_the_full_one(kind):
    mixture = random_mixture(6, 3, 5, kind)
    found, same = (values(m, log_snr=[0.0, 2.0])[0] for m in (mixture, dense(mixture)))
    for name in ("entropy", "disagreement", "rate", "per_cell"):
        np.testing.assert_allclose(getattr(found, name), getattr(same, name), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 4])
@pytest.mark.parametrize("kind", ["diagonal", "full", "low rank", "isotropic"])
def test_against_sampling(classes, kind):
    """|z| < 4.5 for 3 times and 3 quantities: a false alarm in 2·10^4 cases."""
    dim = 3 if kind == "full" else 8
    mixture = random_mixture(7, classes, dim, kind)
    times = np.array([0.2, 0.7, 1.6])
    curve = theory.exact_curve(mixture, PROCESS, times, tolerance=1e-6)
    sampled = gmm.class_entropy(mixture, PROCESS, times, key=jax.random.key(1), samples=20_000, exact=False)
    for name in ("entropy", "rate", "clone_agreement"):
        z = (getattr(sampled, name) - getattr(curve, name)) / getattr(sampled, f"{name}_stderr")
        assert np.abs(z).max() < 4.5


# The bracket.


def term_by_enumeration(weights):
    """T_A/E of one state whose classes have posteriors `weights`: the Möbius sum of S log S."""
    total = 0.0
    for size in range(1, len(weights) + 1):
        for subset in itertools.combinations(weights, size):
            total += (-1) ** (len(weights) - size) * xlogy(sum(subset), sum(subset))
    return total


@pytest.mark.parametrize("classes", [3, 4, 6])
def test_truncations_bracket_the_entropy_of_every_posterior(classes):
    """The proof of the bracket, by enumeration: signs alternate, and |T| falls from a set to a larger one."""
    rng = np.random.default_rng(8)
    for posterior in rng.dirichlet(np.full(classes, 0.3), size=200):
        sums = [
            sum(term_by_enumeration(subset) for subset in itertools.combinations(posterior, size))
            for size in range(2, classes + 1)
        ]
        entropy = -xlogy(posterior, posterior).sum()
        assert sum(sums) == pytest.approx(entropy, abs=1e-12)
        for kept in range(1, classes):
            gap = sum(sums[:kept]) - entropy
            assert (gap >= -1e-12) if kept % 2 else (gap <= 1e-12)
        largest = term_by_enumeration(posterior[:3])
        assert (
            0
            <= -largest
            <= min(term_by_enumeration(p) for p in itertools.combinations(posterior[:3], 2)) + 1e-15
        )


def connected_part(x):
    """-∫ Π (1 - e^{-s x_k}) ds/s², the triple's connected part of S log S, without cancellation: (..., 3) -> (...)."""
    step = 0.5
    total = np.zeros(x.shape[:-1])
    for log_s in np.arange(-25, 110, step):
        total -= step * np.exp(-log_s) * np.prod(-np.expm1(-np.exp(log_s) * x), axis=-1)
    return total


def test_connected_part_is_the_mobius_sum():
    x = np.random.default_rng(13).dirichlet(np.ones(3), size=20)
    np.testing.assert_allclose(connected_part(x), [term_by_enumeration(row) for row in x], atol=1e-12)


def test_kernel_is_the_mellin_transform_of_the_connected_part():
    """∫ of the triple's connected part against powers: Π Γ(-a_k) on Σ a_k = 1, by quadrature over two log ratios."""
    a, step = np.array([0.25, 0.35, 0.4]), 0.5
    grid = np.arange(-75, 75, step)
    y, z = np.meshgrid(grid, grid, indexing="ij")
    log_x = np.stack([np.zeros_like(y), y, z], axis=-1)
    log_x = log_x - log_x.max(axis=-1, keepdims=True)
    found = (connected_part(np.exp(log_x)) * np.exp(-(log_x @ a))).sum() * step**2
    assert found == pytest.approx(np.prod(gamma(-a)), rel=1e-6)


# What a person may hand in, and the choice of the route.


def test_more_than_four_classes_are_refused_with_the_way_out():
    assert theory.exact_route(random_mixture(9, 5, 3)) is None
    with pytest.raises(ValueError, match=r"at most 4 components .* got 5; sample it with gmm\.class_entropy"):
        theory.exact_curve(random_mixture(9, 5, 3), PROCESS, [1.0])
    with pytest.raises(ValueError, match=r"gmm\.class_entropy"):
        theory.cluster_entropy(random_mixture(9, 6, 3), PROCESS, [1.0])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_caller_in_32_bit_gets_the_same_numbers(classes):
    with jax.enable_x64(True):
        mixture = random_mixture(0, classes, 5)
        expected = theory.exact_curve(mixture, gmm.vp(), [0.5, 1.0])
    with jax.enable_x64(False):
        curve = theory.exact_curve(mixture, gmm.vp(), [0.5, 1.0])
    np.testing.assert_array_equal(curve.entropy, expected.entropy)


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_without_a_common_point_are_decided(classes):
    """Each class has no width along an axis of its own: H falls to zero with the noise, and nothing is NaN."""
    var = 1 - np.eye(3)[:classes]
    means, prior = np.eye(3)[:classes], np.arange(1.0, classes + 1)
    times = np.array([1e-25, 1e-8, 1e-3, 0.5, 30.0])
    found = [
        theory.exact_curve(gmm.Mixture(prior, means, covariance, normalise=True), PROCESS, times)
        for covariance in (gmm.Diagonal(var), gmm.Full(np.stack([np.diag(row) for row in var])))
    ]
    for curve in found:
        assert curve.entropy[0] < 1e-11
        assert (np.diff(curve.entropy) > 0).all()
        assert np.isfinite(curve.rate).all()
        assert curve.entropy[-1] == pytest.approx(curve.prior_entropy, rel=1e-9)
    np.testing.assert_allclose(found[0].entropy, found[1].entropy, rtol=1e-8)


def test_one_class_of_zero_variance_among_three():
    """A point among two wide classes is decided as the noise vanishes; what is left is the decision of the others."""
    mixture = gmm.Mixture(np.array([0.2, 0.3, 0.5]), np.eye(3), gmm.Isotropic(np.array([0.0, 1.0, 2.0])))
    curve = theory.exact_curve(mixture, PROCESS, [1e-25])
    others = theory.exact_curve(mixture.take(np.array([1, 2])), PROCESS, [1e-25])
    assert curve.entropy[0] == pytest.approx(0.8 * others.entropy[0], rel=1e-7)


def test_components_outside_or_of_weight_zero_do_not_count():
    mixture = random_mixture(10, 5, 2)
    inside = gmm.Partition(np.array([0, -1, 1, 2, -1]))
    curve = theory.exact_curve(mixture, PROCESS, [0.5], partition=inside)
    alone = theory.exact_curve(mixture.take(np.array([0, 2, 3])), PROCESS, [0.5])
    np.testing.assert_allclose(curve.entropy, alone.entropy, rtol=1e-12)
    weights = np.array([0.2, 0.0, 0.3, 0.5, 0.0])
    absent = gmm.Mixture(weights, np.asarray(mixture.means), mixture.covariance)
    curve = theory.exact_curve(absent, PROCESS, [0.5])
    assert np.isnan(curve.per_cell[0, [1, 4]]).all()
    assert np.isfinite(curve.per_cell[0, [0, 2, 3]]).all()
    assert curve.prior_entropy == pytest.approx(-xlogy(weights, weights).sum())


def test_one_cell_holds_everything_that_occurs():
    mixture = gmm.Mixture(np.array([0.5, 0.5, 0.0]), np.eye(3), gmm.Isotropic(1.0))
    curve = theory.exact_curve(mixture, PROCESS, [0.5], partition=gmm.Partition(np.array([0, 0, 1])))
    assert curve.entropy[0] == 0
    assert np.isnan(curve.per_cell[0, 1])


def test_bad_arguments():
    mixture = random_mixture(11, 3, 2)
    with pytest.raises(ValueError, match="tolerance"):
        theory.cluster_entropy(mixture, PROCESS, [1.0], tolerance=0.0)
    with pytest.raises(ValueError, match="partition must have one label"):
        theory.exact_curve(mixture, PROCESS, [1.0], partition=gmm.Partition(np.array([0, 1])))
    with pytest.raises(ValueError, match="two cells"):
        theory.exact_curve(mixture, PROCESS, [1.0], partition=gmm.Partition(np.array([0, 0, 0])))


FAMILIES = {
    "pair": (gmm.families.pair(5), None, "pair"),
    "simplex": (gmm.families.simplex(7, 9), None, "simplex"),
    "orthogonal": (gmm.families.orthogonal(6, 8), None, "orthogonal"),
    "tree": (gmm.families.tree((2, 3), 9), None, "tree"),
    "branches of a tree": (gmm.families.tree((2, 3), 9), [0, 0, 0, 1, 1, 1], "tree"),
    "halves of a simplex": (gmm.families.simplex(6, 8), [0, 1, 0, 1, 0, 1], "tree"),
    "pairs of leaves of a tree": (gmm.families.tree((2, 4), 12), [0, 0, 1, 1, 2, 2, 3, 3], "tree"),
    "general triple": (TRIPLE, None, "cluster"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_route_is_found(name):
    mixture, labels, route = FAMILIES[name]
    partition = None if labels is None else gmm.Partition(np.array(labels))
    assert theory.exact_route(mixture, partition) == route
    assert theory.exact_curve(mixture, PROCESS, [1.0], partition=partition).metadata["route"] == route


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_route_is_right(name):
    """Each route against sampling: |z| < 4.5 at 3 times, a false alarm in 5·10^4 cases."""
    mixture, labels, _ = FAMILIES[name]
    partition = None if labels is None else gmm.Partition(np.array(labels))
    times = np.array([0.4, 1.0, 1.8])
    curve = theory.exact_curve(mixture, PROCESS, times, partition=partition)
    sampled = gmm.class_entropy(
        mixture, PROCESS, times, partition=partition, key=jax.random.key(2), samples=4_000
    )
    assert np.abs((sampled.entropy - curve.entropy) / sampled.entropy_stderr).max() < 4.5
    assert np.abs((sampled.rate - curve.rate) / sampled.rate_stderr).max() < 4.5
    assert curve.prior_entropy == pytest.approx(sampled.prior_entropy)


def test_orthogonal_classes_of_any_priors_and_energies():
    means = np.diag([1.0, 2.0, 0.0, 3.0, 1.5])
    mixture = gmm.Mixture(np.array([0.1, 0.2, 0.3, 0.15, 0.25]), means + 7.0, gmm.Isotropic(0.5))
    curve = theory.exact_curve(mixture, PROCESS, [0.5])
    assert curve.metadata["route"] == "orthogonal"
    exact_one = theory.unequal_curve(
        PROCESS, [0.5], np.asarray(mixture.weights), np.diagonal(means) ** 2, variance=0.5
    )
    np.testing.assert_allclose(curve.entropy, exact_one.entropy, rtol=1e-10)


def test_structures_that_are_none_are_refused():
    rng = np.random.default_rng(12)
    with pytest.raises(ValueError, match=r"class_entropy"):
        theory.exact_curve(
            gmm.Mixture(np.full(6, 1 / 6), rng.normal(size=(6, 4)), gmm.Isotropic(1.0)), PROCESS, [1.0]
        )
    uneven = gmm.Partition(np.array([0, 0, 0, 0, 1, 1]))
    with pytest.raises(ValueError, match=r"class_entropy"):
        theory.exact_curve(gmm.families.simplex(6, 8), PROCESS, [1.0], partition=uneven)
