"""Channel entropies against 25-digit quadrature, another formula in extended precision, limits and sampling.

The two-class oracle integrates the definition with mpmath. The K-class oracle is the textbook form
E log S - rho in 80-bit arithmetic, and sampling of the K-dimensional posterior itself.
"""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory

# The stated errors.
TWO_CLASSES = 1e-12
K_CLASSES_ABSOLUTE, K_CLASSES_RELATIVE = 1e-12, 1e-7
TREES = 1e-9
# Published and recomputed tables are printed to this many digits.
PRINTED_5, PRINTED_10 = 6e-6, 6e-11
FIVE_SIGMA = 5.0

# Equal classes: rho, H in nats, mmse (30-digit arithmetic).
HALF_RATE = 1.0440133154525082381
EQUAL = [(1.0, 0.3563163602131136974, 0.44959950920667282971), (HALF_RATE, 0.5 * np.log(2), None)]
# rho, H, clone agreement to six digits.
TABLE = [
    (0.25, 0.581726, 0.602027),
    (0.5, 0.491802, 0.675057),
    (1, 0.356316, 0.775200),
    (2, 0.193075, 0.884491),
    (4, 0.060427, 0.965701),
    (8, 0.006611, 0.996412),
]
# Orthogonal means: K, H/log K at rho = 2 log K and at 4 log K, E sum p^2 at 2 log K.
MANY = [
    (2, 0.62535, 0.40413, None),
    (4, 0.47045, 0.22208, 0.645767),
    (10, 0.36291, 0.11921, 0.607667),
    (100, 0.24663, 0.03700, 0.576462),
    (1000, 0.19780, 0.01505, 0.564335),
    (1e6, 0.13880, 0.00184, None),
    (1e12, 0.09911, 0.00006, None),
]
# Branching, rho of each level, entropies of levels 1 | 1-2 | ... | leaf, all coarsest first.
TREE_TABLE = [
    ((3, 4), (2, 1), (0.5520833374, 1.6084150838)),
    ((2, 8), (6, 1.5), (0.0978191914, 1.5914492616)),
    ((5, 3), (0.5, 3), (0.9333470118, 1.3893816338)),
    ((2, 3, 4), (3, 2, 1), (0.1829607108, 0.7350440482, 1.7913757946)),
    ((3, 2, 5), (4, 0.7, 5), (0.1861666045, 0.4433611081, 0.8853811375)),
    ((2, 2, 2), (1, 2, 4), (0.1630600007, 0.3134984829, 0.5065735274)),
]


def binary_by_mpmath(rho, prior):
    """H of two classes: the definition, E over both classes of -log posterior, to 25 digits."""
    with mpmath.workdps(25):
        rho, prior = mpmath.mpf(rho), mpmath.mpf(prior)

        def surprise(own, other):
            # log-odds of the true class given u: log(own/other) + 2(rho + sqrt(rho) u)
            odds = lambda u: mpmath.log(own / other) + 2 * (rho + mpmath.sqrt(rho) * u)
            f = lambda u: mpmath.npdf(u) * mpmath.log1p(mpmath.exp(-odds(u)))
            kink = -mpmath.sqrt(rho)
            return mpmath.quad(f, [-30, kink - 5, kink, kink + 5, 10, 30])

        return prior * surprise(prior, 1 - prior) + (1 - prior) * surprise(1 - prior, prior)


def orthogonal_by_textbook(classes, rho):
    """E log S - rho = ∫ [exp(-e^y) - phi(y)^(K-1) phi(y+rho)] dy - rho, plain sums in extended precision."""
    wide = np.longdouble
    u_step, y_step = wide(0.1) / max(1, np.sqrt(rho)), wide(0.1)
    u = np.arange(-12, 12, u_step, dtype=wide)
    weight = np.exp(-(u**2) / 2)
    weight /= weight.sum()  # numpy's pi has only the digits of a float64

    def phi(y):
        return np.array([weight @ np.exp(-np.exp(value + np.sqrt(wide(rho)) * u)) for value in y])

    y = np.arange(-rho - 10 * np.sqrt(rho) - np.log(classes) - 45, 12 + 10 * np.sqrt(rho), y_step, dtype=wide)
    own, other = phi(y + rho), phi(y)
    return float((np.exp(-np.exp(y)) - other ** (classes - 1) * own).sum() * y_step - rho)


def sampled_entropy(gram, n=200_000, seed=0):
    """H and E sum p^2 of equiprobable classes with these inner products, unit noise; with standard errors."""
    rng = np.random.default_rng(seed)
    classes = len(gram)
    root = np.linalg.cholesky(gram + 1e-12 * np.eye(classes))
    noise = rng.normal(size=(n, classes)) @ root.T
    true = rng.integers(classes, size=n)
    logits = noise + gram[true] - 0.5 * np.diag(gram)
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    values = np.stack([-(np.exp(log_p) * log_p).sum(1), np.exp(2 * log_p).sum(1)])
    return values.mean(1), values.std(1) / np.sqrt(n)


@pytest.mark.parametrize(("rho", "entropy", "mmse"), EQUAL)
def test_two_classes_against_thirty_digits(rho, entropy, mmse):
    assert theory.binary_entropy(rho) == pytest.approx(entropy, abs=1e-15)
    if mmse is not None:
        assert theory.binary_mmse(rho) == pytest.approx(mmse, abs=1e-15)


@pytest.mark.parametrize("rho", [0.0, 1e-6, 0.01, 0.3, 1.3, 7.0, 25.0, 50.0])
@pytest.mark.parametrize("prior", [0.5, 0.2, 1e-3])
def test_two_classes_against_mpmath(rho, prior):
    exact = binary_by_mpmath(rho, prior)
    assert abs(theory.binary_entropy(rho, prior) - exact) < TWO_CLASSES


def test_two_classes_keep_relative_precision_where_nothing_is_left():
    with mpmath.workdps(40):
        rho = mpmath.mpf(200)
        root = 2 * mpmath.sqrt(rho)
        coin = lambda a: mpmath.log1p(mpmath.exp(-a)) + a / (1 + mpmath.exp(a))
        f = lambda a: mpmath.npdf(a / root) * mpmath.cosh(a / 2) * coin(a)
        half = mpmath.quad(f, [0, 5, 20, 60, 200]) / (2 * mpmath.sqrt(rho))
        exact = 2 * mpmath.exp(-rho / 2) * half
    assert theory.binary_entropy(200.0) / float(exact) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(("rho", "entropy", "agreement"), TABLE)
def test_two_class_table(rho, entropy, agreement):
    assert theory.binary_entropy(rho) == pytest.approx(entropy, abs=PRINTED_5)
    assert theory.binary_clone_agreement(rho) == pytest.approx(agreement, abs=PRINTED_5)


def test_unequal_priors_table():
    assert theory.binary_entropy(1.3, 0.2) == pytest.approx(0.22332848853551, abs=1e-12)
    assert theory.binary_clone_agreement(1.3, 0.2) == pytest.approx(0.86566575, abs=1e-8)


@pytest.mark.parametrize(("classes", "at_two", "at_four", "agreement"), MANY)
def test_many_class_table(classes, at_two, at_four, agreement):
    log_k = np.log(classes)
    found = theory.orthogonal_entropy(classes, np.array([2, 4]) * log_k) / log_k
    np.testing.assert_allclose(found, [at_two, at_four], atol=PRINTED_5)
    if agreement is not None:
        assert theory.orthogonal_clone_agreement(classes, 2 * log_k) == pytest.approx(
            agreement, abs=PRINTED_5
        )


@pytest.mark.parametrize(("classes", "rho"), [(3, 0.05), (3, 5.0), (50, 3.0), (1000, 12.0)])
def test_k_classes_against_another_formula(classes, rho):
    exact = orthogonal_by_textbook(classes, rho)
    assert abs(theory.orthogonal_entropy(classes, rho) - exact) < K_CLASSES_ABSOLUTE


def test_k_classes_down_to_1e_minus_37():
    assert theory.orthogonal_entropy(1e12, 442.0) == pytest.approx(
        8.5507e-38, rel=1e-5
    )  # five printed digits
    # Far apart, H is that of K-1 independent pairs: relative error e^{-rho/12}-small.
    pairs = (1e6 - 1) * 2 * theory.binary_entropy(200.0)
    assert theory.orthogonal_entropy(1e6, 400.0) == pytest.approx(pairs / 2, rel=1e-3)


@pytest.mark.parametrize("classes", [2, 3, 10, 1e3, 1e6, 1e12])
def test_stated_error_holds_when_nodes_are_doubled(classes):
    rho = np.concatenate([[0.0, 0.05, 0.1, 0.11, 1.0], np.linspace(2, 450, 40)])
    assert theory.quadrature_error(theory.orthogonal_entropy, classes, rho).max() < K_CLASSES_ABSOLUTE
    value = theory.orthogonal_entropy(classes, rho)
    assert (
        theory.quadrature_error(theory.orthogonal_entropy, classes, rho) <= K_CLASSES_RELATIVE * value
    ).all()


@pytest.mark.parametrize(("classes", "rho"), [(3, 2.0), (8, 4.0), (30, 6.0)])
def test_k_classes_against_sampling(classes, rho):
    (entropy, agreement), stderr = sampled_entropy(rho * np.eye(classes))
    assert abs(theory.orthogonal_entropy(classes, rho) - entropy) < FIVE_SIGMA * stderr[0]
    assert abs(theory.orthogonal_clone_agreement(classes, rho) - agreement) < FIVE_SIGMA * stderr[1]


def test_families_agree_where_they_are_the_same():
    rho = np.linspace(0, 40, 30)
    two = theory.binary_entropy(rho)
    np.testing.assert_allclose(theory.simplex_entropy(2, rho), two, atol=1e-14)
    np.testing.assert_allclose(theory.orthogonal_entropy(2, 2 * rho), two, atol=1e-14)
    np.testing.assert_allclose(
        theory.orthogonal_entropy_rate(2, 2 * rho), theory.binary_entropy_rate(rho) / 2, atol=1e-14
    )
    np.testing.assert_allclose(
        theory.simplex_entropy(5, rho), theory.orthogonal_entropy(5, rho * 1.25), atol=1e-14
    )
    np.testing.assert_allclose(
        theory.simplex_entropy_rate(2, rho), theory.binary_entropy_rate(rho), atol=1e-14
    )


def test_edges():
    assert theory.orthogonal_entropy(1, 3.0) == 0
    np.testing.assert_allclose(theory.orthogonal_entropy([2, 7, 1e6], 0.0), np.log([2, 7, 1e6]), rtol=1e-13)
    np.testing.assert_allclose(
        theory.orthogonal_entropy_rate([2, 7], 0.0), -0.5 * (1 - 1 / np.array([2, 7])), rtol=1e-12
    )
    np.testing.assert_array_equal(theory.orthogonal_entropy(10, [1e4, 1e9, np.inf]), 0)
    np.testing.assert_array_equal(theory.binary_entropy([1e4, np.inf]), 0)
    assert theory.binary_mmse(0.0) == pytest.approx(1, abs=1e-15)


@settings(max_examples=40, deadline=None)
@given(rho=st.floats(0, 60), more=st.floats(0.01, 5), classes=st.integers(2, 10**9))
def test_entropy_falls_and_stays_in_bounds(rho, more, classes):
    near, far = theory.orthogonal_entropy(classes, np.array([rho, rho + more]))
    assert 0 <= far <= near <= np.log(classes) + 1e-12


def test_derivatives_are_those_of_the_entropy():
    with mpmath.workdps(25):
        slope = mpmath.diff(lambda r: binary_by_mpmath(r, 0.3), 1.7, h=mpmath.mpf("1e-8"))
    assert theory.binary_entropy_rate(1.7, 0.3) == pytest.approx(float(slope), abs=1e-11)
    h = 1e-4
    for classes in (3, 1000):
        ends = theory.orthogonal_entropy(classes, np.array([5 + h, 5 - h]))
        slope = (ends[0] - ends[1]) / (2 * h)
        assert theory.orthogonal_entropy_rate(classes, 5.0) == pytest.approx(slope, abs=1e-7)


def test_jax_transformations():
    assert jax.grad(theory.binary_entropy)(1.0) == pytest.approx(-0.22479975460333642, abs=1e-14)
    assert jax.grad(theory.binary_entropy)(0.0) == pytest.approx(-0.5, abs=1e-12)
    assert jax.grad(lambda r: theory.orthogonal_entropy(10, r))(2.0) == pytest.approx(
        float(theory.orthogonal_entropy_rate(10, 2.0)), abs=1e-14
    )
    np.testing.assert_allclose(
        jax.jit(jax.vmap(theory.binary_entropy))(jnp.arange(3.0)),
        theory.binary_entropy(np.arange(3.0)),
        rtol=1e-14,
    )


@pytest.mark.usefixtures("x32")
def test_float64_whatever_the_setting():
    value = theory.binary_entropy(np.float32(1.0))
    assert np.asarray(value).dtype == np.float64
    assert value == pytest.approx(0.3563163602131136974, abs=1e-15)
    assert theory.orthogonal_entropy(1e6, 30.0) > 0


def test_any_priors_and_energies():
    assert theory.unequal_entropy([0.2, 0.8], [2.6, 2.6]) == pytest.approx(0.22332848853551, abs=1e-12)
    np.testing.assert_allclose(
        theory.unequal_entropy(np.full(6, 1 / 6), np.full((3, 6), 1.0) * [[1], [4], [9]]),
        theory.orthogonal_entropy(6, [1, 4, 9]),
        atol=1e-12,
    )
    # Unequal energies and priors: sampling with importance of each class by its prior.
    weights, rhos = np.array([0.5, 0.3, 0.2]), np.array([1.0, 3.0, 6.0])
    rng = np.random.default_rng(3)
    true = rng.choice(3, p=weights, size=400_000)
    logits = np.log(weights) + np.sqrt(rhos) * rng.normal(size=(400_000, 3)) - rhos / 2
    logits[np.arange(len(true)), true] += rhos[true]
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    surprise = -(np.exp(log_p) * log_p).sum(1)
    assert (
        abs(theory.unequal_entropy(weights, rhos) - surprise.mean())
        < FIVE_SIGMA * surprise.std() / len(true) ** 0.5
    )


@pytest.mark.parametrize(("branching", "rhos", "entropies"), TREE_TABLE)
def test_tree_table(branching, rhos, entropies):
    np.testing.assert_allclose(theory.tree_entropy(branching, rhos), entropies, atol=PRINTED_10)


def test_trees_by_sampling():
    branching, rhos = (2, 3), (2.0, 1.0)
    gram = np.kron(np.eye(2), np.ones((3, 3))) * rhos[0] + np.eye(6) * rhos[1]
    (leaf, _), stderr = sampled_entropy(gram)
    assert abs(theory.tree_entropy(branching, rhos)[-1] - leaf) < FIVE_SIGMA * stderr[0]


def test_trees_reduce_to_flat_families():
    flat = theory.orthogonal_entropy(7, 2.0)
    assert theory.tree_entropy((7,), (2.0,))[0] == pytest.approx(flat, abs=TREES)
    assert theory.tree_entropy((1, 7), (0.0, 2.0))[-1] == pytest.approx(flat, abs=TREES)
    assert theory.tree_entropy((3, 4), (0.0, 2.0))[-1] == pytest.approx(
        theory.orthogonal_entropy(12, 2.0), abs=TREES
    )
    # Leaves that nothing tells apart: only the coarse level is learned.
    coarse, leaf = theory.tree_entropy((3, 4), (2.0, 0.0))
    assert coarse == pytest.approx(theory.orthogonal_entropy(3, 2.0), abs=TREES)
    assert leaf == pytest.approx(coarse + np.log(4), abs=TREES)
    deep = theory.tree_entropy((1, 1, 1, 1, 1, 1000), (0, 0, 0, 0, 0, 40.0))[-1]
    assert deep == pytest.approx(theory.orthogonal_entropy(1000, 40.0), abs=TREES)


def test_deep_and_wide_trees_obey_the_chain_rule():
    """Six levels of a thousand: each finer level adds at most its own flat entropy, and never subtracts."""
    found = theory.tree_entropy((1000,) * 6, (20.0,) * 6)
    assert (np.diff(found) >= -TREES).all()
    assert (np.diff(found) <= theory.orthogonal_entropy(1000, 20.0) + TREES).all()
    # The last level, its parents unknown, is at least as open as with them known.
    assert found[-1] >= theory.orthogonal_entropy(1000, 20.0)


def test_tree_rates():
    h = 1e-5
    rates = theory.tree_entropy_rate((3, 4), (2.0, 1.0))
    for level in range(2):
        step = h * np.eye(2)[level]
        up, down = (theory.tree_entropy((3, 4), np.array([2.0, 1.0]) + s)[-1] for s in (step, -step))
        assert rates[level] == pytest.approx((up - down) / (2 * h), abs=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.binary_entropy(-1.0), "rho must be .*got -1"),
        (lambda: theory.binary_entropy(np.nan), "rho must be .*got nan"),
        (lambda: theory.binary_entropy(1.0, 1.5), "prior must be .*got 1.5"),
        (lambda: theory.orthogonal_entropy(0, 1.0), "classes must be .*got 0"),
        (lambda: theory.simplex_entropy(3, -2.0), "rho must be .*got -2"),
        (lambda: theory.tree_entropy((2, 3), (1.0,)), "for 2 branching numbers"),
        (lambda: theory.tree_entropy((2, 0), (1.0, 1.0)), "branching must be .*got 0"),
        (lambda: theory.tree_entropy((2,), (-1.0,)), "must be .*got -1"),
        (lambda: theory.unequal_entropy([0.5, 0.4], [1.0, 1.0]), "weights"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
