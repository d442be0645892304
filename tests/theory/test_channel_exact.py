"""Entropies by quadrature against mpmath, scipy, enumeration by sampling, exact limits and autodiff."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import theory
from theory import channel

# Stated in the docstrings; every measured error is below 1e-13.
EXACT = 1e-12
RELATIVE = 1e-9  # K classes down to H = 1e-50; the mpmath values carry 20 digits
TREE = 1e-12
PRINTED = 6e-11  # half a unit in the last printed digit of ten
# The printed agreements of K = 4 and 100 are off by 2e-6 (two quadratures agree to 1e-15): rho was rounded.
AGREEMENT_TABLE = 3e-6
FIVE_SIGMA = 5.0  # two-sided 6e-7 a comparison

# Relative: sums of positive terms, and rounding of exponents up to 700.
RARE = 1e-12


def binary_by_mpmath(rho, prior=0.5, digits=25):
    """H by integrating over the observed log-ratio itself, not by the tilted form that is implemented."""
    with mpmath.workdps(digits):
        rho, prior = mpmath.mpf(rho), mpmath.mpf(prior)
        total = mpmath.mpf(0)
        for own, sign in ((prior, 1), (1 - prior, -1)):
            h = sign * mpmath.log(prior / (1 - prior))
            root = mpmath.sqrt(rho)

            def f(u, h=h, root=root):
                return mpmath.npdf(u) * mpmath.log1p(mpmath.exp(-(h + 2 * rho + 2 * root * u)))

            edge = -(h + 2 * rho) / (2 * root) if rho else mpmath.mpf(0)
            points = sorted(
                {mpmath.mpf(-40), *(x for x in (edge, edge / 2, mpmath.mpf(0)) if abs(x) < 40), 40}
            )
            total += own * mpmath.quad(f, points)
        return float(total)


def orthogonal_by_mpmath(classes, rho, digits=25):
    """E log S - rho, E log S = ∫[exp(-e^y) - φ(y)^{K-1} φ(y+ρ)] dy: it cancels, hence 25 digits."""
    with mpmath.workdps(digits):
        root = mpmath.sqrt(rho)

        def phi(y):
            step = mpmath.mpf(1) / 4 / max(1, root)
            nodes = [k * step for k in range(-int(12 / step), int(12 / step) + 1)]
            return step * mpmath.fsum(mpmath.npdf(u) * mpmath.exp(-mpmath.exp(y + root * u)) for u in nodes)

        step = mpmath.mpf(1) / 4
        low, high = -float(rho) - 12 * float(root) - math.log(classes) - 60, 12 * float(root) + 8
        ys = [k * step for k in range(int(low / step), int(high / step) + 1)]
        terms = (mpmath.exp(-mpmath.exp(y)) - phi(y) ** (classes - 1) * phi(y + rho) for y in ys)
        return float(step * mpmath.fsum(terms) - rho)


@pytest.mark.parametrize("rho", [0.0, 1e-3, 0.3, 1.0, 7.0, 50.0])
@pytest.mark.parametrize("prior", [0.5, 0.2, 0.999])
def test_two_classes_match_mpmath(rho, prior):
    assert theory.binary_entropy(rho, prior) == pytest.approx(binary_by_mpmath(rho, prior), abs=EXACT)


# Ours, from the untilted integrals in 30-digit arithmetic.
BINARY_TABLE = {
    0.25: (0.581726, 0.795946, 0.602027),
    0.5: (0.491802, 0.649887, 0.675057),
    1: (0.356316, 0.449600, 0.775200),
    2: (0.193075, 0.231018, 0.884491),
    4: (0.060427, 0.068597, 0.965701),
    8: (0.006611, 0.007176, 0.996412),
}


def test_two_classes_have_their_reference_values():
    assert theory.binary_entropy(1) == pytest.approx(0.3563163602131136974, abs=1e-15)
    assert theory.binary_mmse(1) == pytest.approx(0.44959950920667282971, abs=1e-15)
    assert theory.binary_entropy(1.0440133154525082381) == pytest.approx(0.5 * math.log(2), abs=1e-15)
    assert theory.binary_entropy(1.3, 0.2) == pytest.approx(0.22332848853551, abs=1e-12)
    assert theory.binary_clone_agreement(1.3, 0.2) == pytest.approx(0.86566575, abs=6e-9)
    for rho, row in BINARY_TABLE.items():
        found = [f(rho) for f in (theory.binary_entropy, theory.binary_mmse, theory.binary_clone_agreement)]
        np.testing.assert_allclose(found, row, atol=6e-7)


def test_rho_times_mmse_peaks_where_it_should():
    rho, step = 1.508330628786381, 1e-4
    value = [r * theory.binary_mmse(r) for r in (rho - step, rho, rho + step)]
    assert value[1] > max(value[0], value[2])
    assert value[2] - value[0] == pytest.approx(0, abs=step**2 * 1e-2)


@pytest.mark.parametrize("rho", [0.2, 1.0, 12.0])
def test_mmse_is_that_of_the_conditional_mean(rho):
    error = lambda u: stats.norm.pdf(u) * (1 - np.tanh(rho + math.sqrt(rho) * u))
    assert theory.binary_mmse(rho) == pytest.approx(
        integrate.quad(error, -30, 30, epsabs=1e-12, limit=400)[0], abs=1e-10
    )


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "rho"), [(3, 1.0), (10, 4.0)])
def test_k_classes_match_the_textbook_form_in_mpmath(classes, rho):
    assert theory.orthogonal_entropy(classes, rho) == pytest.approx(
        orthogonal_by_mpmath(classes, rho), abs=EXACT
    )


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "rho"), [(1000, 14.0), (10**6, 27.6), (3, 40.0)])
def test_more_classes_match_the_textbook_form_in_mpmath(classes, rho):
    assert theory.orthogonal_entropy(classes, rho) == pytest.approx(
        orthogonal_by_mpmath(classes, rho), rel=RELATIVE, abs=EXACT
    )


@pytest.mark.parametrize("rho", [0.3, 2.0, 9.0])
def test_three_classes_match_a_planar_integral(rho):
    """Three simplex vertices span a plane: a tensor trapezoid over the plane, no reduction of any kind."""
    vertices = np.sqrt(rho) * np.array([[1, 0], [-0.5, np.sqrt(0.75)], [-0.5, -np.sqrt(0.75)]])
    axis = np.arange(-12, 12, 0.05)
    x = np.stack(np.meshgrid(axis, axis), -1)
    density = np.exp(-0.5 * ((x[..., None, :] - vertices) ** 2).sum(-1)) / (2 * np.pi) / 3
    total = density.sum(-1)
    p = density / total[..., None]
    entropy = -(density * np.log(np.maximum(p, 1e-300))).sum() * 0.05**2
    agreement = (total * (p**2).sum(-1)).sum() * 0.05**2
    assert theory.simplex_entropy(3, rho) == pytest.approx(entropy, abs=1e-11)
    assert theory.simplex_clone_agreement(3, rho) == pytest.approx(agreement, abs=1e-11)


def test_two_classes_are_one_function_in_three_spellings():
    rho = np.array([0, 1e-9, 1e-3, 0.1, 0.14, 0.16, 1, 10, 100, 400.0])
    pair = theory.binary_entropy(rho)
    np.testing.assert_allclose(theory.simplex_entropy(2, rho), pair, rtol=RELATIVE)
    np.testing.assert_allclose(theory.orthogonal_entropy(2, 2 * rho), pair, rtol=RELATIVE)


# Ours, by an independent quadrature: H/log K at ρ = 2 log K and 4 log K, E Σp² at 2 log K.
ORTHOGONAL_TABLE = {
    2: (0.62535, 0.40413, None),
    4: (0.47045, 0.22208, 0.645767),
    10: (0.36291, 0.11921, 0.607667),
    100: (0.24663, 0.03700, 0.576462),
    1000: (0.19780, 0.01505, 0.564335),
    1e6: (0.13880, 0.00184, None),
    1e12: (0.09911, 0.00006, None),
}


def test_orthogonal_classes_have_their_reference_values():
    for classes, (two, four, agreement) in ORTHOGONAL_TABLE.items():
        log_k = math.log(classes)
        found = theory.orthogonal_entropy(classes, np.array([2, 4]) * log_k) / log_k
        np.testing.assert_allclose(found, (two, four), atol=6e-6)
        if agreement is not None:
            assert theory.orthogonal_clone_agreement(classes, 2 * log_k) == pytest.approx(
                agreement, abs=AGREEMENT_TABLE
            )
    assert theory.orthogonal_entropy(1e12, 442) == pytest.approx(8.5507e-38, rel=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 1e3, 1e6, 1e12])
def test_error_estimate_keeps_the_stated_precision(classes):
    rho = np.array([0, 1e-4, 0.1, 0.149, 0.151, 1, 20, 60, 150, 300, 450.0])
    error = theory.quadrature_error(theory.orthogonal_entropy, classes, rho)
    assert (error <= np.minimum(EXACT, RELATIVE * theory.orthogonal_entropy(classes, rho))).all()


def test_error_estimate_sees_a_coarse_grid(monkeypatch):
    """Two-sided: with steps four times as long the estimate reports what the values lose."""
    exact = theory.orthogonal_entropy(10, 4.0)
    monkeypatch.setattr("theory.smoothing.COARSE", 2.0)
    channel._flat.cache_clear()
    estimate = theory.quadrature_error(theory.orthogonal_entropy, 10, 4.0)
    error = abs(theory.orthogonal_entropy(10, 4.0) - exact)
    channel._flat.cache_clear()
    assert error > 1e-9
    assert 0.5 * error < estimate < 2 * error


def softmax_entropy(logits):
    logits = logits - logits.max(-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -(np.exp(log_p) * log_p).sum(-1), (np.exp(log_p) ** 2).sum(-1)


def within_sigmas(sampled, value):
    mean, stderr = sampled.mean(), sampled.std() / math.sqrt(len(sampled))
    assert abs(mean - value) < FIVE_SIGMA * stderr, (mean, stderr, value)


def test_unequal_classes_match_sampling():
    weights, rhos = np.array([0.2, 0.5, 0.3]), np.array([1.0, 3.0, 40.0])
    rng = np.random.default_rng(1)
    z = rng.choice(3, size=200_000, p=weights)
    x = np.sqrt(rhos) * (z[:, None] == np.arange(3)) + rng.normal(size=(len(z), 3))
    logits = np.log(weights) + np.sqrt(rhos) * x - 0.5 * rhos
    entropy, agreement = softmax_entropy(logits)
    within_sigmas(entropy, theory.unequal_entropy(weights, rhos))
    within_sigmas(agreement, theory.unequal_clone_agreement(weights, rhos))


@pytest.mark.parametrize("prior", [1e-3, 1e-8, 1e-16, 1e-30, 1e-100])
@pytest.mark.parametrize("rhos", [(1e-3, 2e-3), (0.3, 0.5), (5.0, 30.0), (60.0, 100.0)])
def test_unequal_classes_keep_their_relative_precision_where_one_is_rare(prior, rhos):
    """Two orthogonal means are a pair; the two-class quadrature is another integral."""
    weights, pair = [prior, 1 - prior], sum(rhos) / 4
    assert theory.unequal_entropy(weights, rhos) == pytest.approx(
        theory.binary_entropy(pair, prior), rel=RARE, abs=0
    )
    wanted = theory.binary_entropy_rate(pair, prior) / 4
    np.testing.assert_allclose(theory.unequal_entropy_rate(weights, rhos), wanted, rtol=RARE)


def test_a_thousand_unequal_classes_refine_to_themselves():
    """Distinct energies on both sides of the ρ where the sums change from the grid to nodes of their own."""
    rng = np.random.default_rng(0)
    weights, rhos = rng.dirichlet(np.full(1000, 3.0)), 10 ** rng.uniform(-2, 2, 1000)
    for function in (theory.unequal_entropy, theory.unequal_entropy_rate):
        np.testing.assert_allclose(function(weights, rhos), function(weights, rhos, refine=2), rtol=RARE)
    # Classes that are alike are computed once: the same numbers as classes that differ by rounding.
    alike, apart = np.full(40, 3.0), 3.0 * (1 + 1e-15 * np.arange(40))
    uniform = np.full(40, 1 / 40)
    assert theory.unequal_entropy(uniform, apart) == pytest.approx(
        theory.orthogonal_entropy(40, 3.0), rel=RARE
    )
    assert theory.unequal_entropy(uniform, alike) == pytest.approx(
        theory.orthogonal_entropy(40, 3.0), rel=RARE
    )


def test_unequal_classes_contain_the_other_families():
    assert theory.unequal_entropy([0.2, 0.8], [2.6, 2.6]) == pytest.approx(
        theory.binary_entropy(1.3, 0.2), abs=EXACT
    )
    for rho in (0.0, 0.1, 3.0, 90.0):
        equal = theory.unequal_entropy(np.full(5, 0.2), np.full(5, rho))
        assert equal == pytest.approx(theory.orthogonal_entropy(5, rho), abs=EXACT)
    # A class of prior zero is not there, one of infinite energy is known, the rest is a pair.
    assert theory.unequal_entropy([0.5, 0.5, 0.0], [2.0, 2.0, 9.0]) == pytest.approx(
        theory.binary_entropy(1.0), abs=EXACT
    )
    known = theory.unequal_entropy([0.25, 0.25, 0.5], [2.0, 2.0, np.inf])
    assert known == pytest.approx(0.5 * theory.binary_entropy(1.0), abs=EXACT)


# (branching, ρ): entropies of levels 1 | 1-2 | ... | leaf; ours, by an independent recursion.
TREES = {
    ((3, 4), (2, 1)): (0.5520833374, 1.6084150838),
    ((2, 8), (6, 1.5)): (0.0978191914, 1.5914492616),
    ((5, 3), (0.5, 3)): (0.9333470118, 1.3893816338),
    ((2, 3, 4), (3, 2, 1)): (0.1829607108, 0.7350440482, 1.7913757946),
    ((3, 2, 5), (4, 0.7, 5)): (0.1861666045, 0.4433611081, 0.8853811375),
    ((2, 2, 2), (1, 2, 4)): (0.1630600007, 0.3134984829, 0.5065735274),
}


def test_trees_have_their_reference_values():
    for (branching, rhos), values in TREES.items():
        np.testing.assert_allclose(theory.tree_entropy(branching, np.array(rhos)), values, atol=PRINTED)


@pytest.mark.parametrize(("branching", "rhos"), [((3, 4), (2.0, 1.0)), ((2, 3, 4), (3.0, 2.0, 1.0))])
def test_trees_match_sampling_with_exact_leaf_posteriors(branching, rhos):
    rng = np.random.default_rng(2)
    leaves, samples = math.prod(branching), 100_000
    # One column for each node of each level: a leaf's mean is the sum over its ancestors.
    ancestors = [np.arange(leaves) // math.prod(branching[j + 1 :]) for j in range(len(branching))]
    z = rng.integers(leaves, size=samples)
    logits = np.zeros((samples, leaves))
    for of_leaf, rho in zip(ancestors, rhos, strict=True):
        x = rng.normal(size=(samples, of_leaf.max() + 1))
        x[np.arange(samples), of_leaf[z]] += math.sqrt(rho)
        logits += math.sqrt(rho) * x[:, of_leaf]
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    agreements = theory.tree_clone_agreement(branching, np.array(rhos))
    entropies = theory.tree_entropy(branching, np.array(rhos))
    for of_leaf, entropy, agreement in zip(ancestors, entropies, agreements, strict=True):
        nodes = np.stack([p[:, of_leaf == node].sum(1) for node in range(of_leaf.max() + 1)], 1)
        within_sigmas(-(nodes * np.log(np.maximum(nodes, 1e-300))).sum(1), entropy)
        within_sigmas((nodes**2).sum(1), agreement)


@pytest.mark.parametrize("depth", [2, 3, 6])
@pytest.mark.parametrize("branching", [2, 1000])
@pytest.mark.parametrize("rho", [0.0, 1e-4, 0.1, 10.0, 100.0, 250.0])
def test_trees_without_coarse_energy_are_flat(depth, branching, rho):
    """ρ_1 = ... = 0: only the leaf increments tell leaves apart, which are orthogonal; exact at any size."""
    leaf = theory.tree_entropy((branching,) * depth, np.array([0.0] * (depth - 1) + [rho]))[-1]
    assert leaf == pytest.approx(theory.orthogonal_entropy(float(branching) ** depth, rho), abs=TREE)


@pytest.mark.parametrize(
    ("branching", "rhos"),
    [
        ((1000,) * 6, (20.0,) * 6),
        ((1000,) * 6, (20.0, 5.0, 1e-3, 3.0, 0.0, 100.0)),
        ((10,) * 6, (1e-4,) * 6),
        ((7,), (3.0,)),
    ],
)
def test_tree_limits_at_depth_six(branching, rhos):
    rhos = np.array(rhos)
    error = theory.quadrature_error(theory.tree_entropy, branching, rhos)
    assert (error < TREE).all()
    # An only child's increment is more energy for its parent.
    more = rhos + np.array([0.0] * (len(rhos) - 1) + [2.0])
    whole = theory.tree_entropy(branching, rhos)
    padded = theory.tree_entropy((*branching, 1), np.array([*rhos, 2.0]))
    np.testing.assert_allclose(
        padded[1:], theory.tree_entropy(branching, more)[[*range(1, len(rhos)), -1]], atol=TREE
    )
    if 0.0 in rhos:
        assert theory.tree_entropy((1000,) * 4 + (10**6,), np.delete(rhos, 4))[-1] == pytest.approx(
            whole[-1], abs=TREE
        )


def test_one_level_is_the_flat_family():
    rho = np.array([[0.0, 0.01, 0.3, 4.0, 60.0]])
    np.testing.assert_allclose(
        theory.tree_entropy((7,), rho)[0], theory.orthogonal_entropy(7, rho[0]), rtol=RELATIVE
    )


@pytest.mark.parametrize("rho", [1e-6, 0.05, 0.5, 3.0, 30.0])
@pytest.mark.parametrize("classes", [2, 10, 1e6])
def test_rates_are_derivatives(classes, rho):
    """Five-point differences of the entropy, an independent integral; their error is h⁴ and rounding over h."""
    h = 1e-3 * rho
    for f, rate in (
        (theory.orthogonal_entropy, theory.orthogonal_entropy_rate),
        (theory.simplex_entropy, theory.simplex_entropy_rate),
    ):
        differences = [f(classes, rho + k * h) - f(classes, rho - k * h) for k in (1, 2)]
        slope = (8 * differences[0] - differences[1]) / (12 * h)
        assert rate(classes, rho) == pytest.approx(slope, rel=1e-8, abs=1e-14 / h)


def test_tree_and_unequal_rates_are_derivatives():
    h = 1e-4
    for function, rate, known, rhos in (
        (theory.tree_entropy, theory.tree_entropy_jacobian, (2, 3, 4), np.array([3.0, 2.0, 1.0])),
        (theory.unequal_entropy, theory.unequal_entropy_rate, (0.2, 0.5, 0.3), np.array([1.0, 3.0, 9.0])),
    ):
        steps = h * np.eye(3)
        slopes = [(function(known, rhos + s) - function(known, rhos - s)) / (2 * h) for s in steps]
        np.testing.assert_allclose(np.stack(slopes, -1), rate(known, rhos), atol=1e-8)


@pytest.mark.parametrize(
    ("function", "rate"),
    [
        (theory.binary_entropy, theory.binary_entropy_rate),
        (lambda r: theory.binary_entropy(r, 0.1), lambda r: theory.binary_entropy_rate(r, 0.1)),
        (lambda r: theory.orthogonal_entropy(10, r), lambda r: theory.orthogonal_entropy_rate(10, r)),
        (lambda r: theory.simplex_entropy(1e6, r), lambda r: theory.simplex_entropy_rate(1e6, r)),
    ],
)
def test_jit_vmap_and_grad_pass_through(function, rate):
    rho = jnp.array([0.0, 0.3, 5.0])
    np.testing.assert_allclose(jax.jit(function)(rho), function(np.asarray(rho)), rtol=1e-15)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(function)))(rho), rate(np.asarray(rho)), rtol=1e-15)
    # Second derivatives are closed forms of their own; differences of the rate are the second route.
    second = jax.vmap(jax.grad(jax.grad(function)))(rho[1:])
    h = 1e-4
    differences = (rate(np.asarray(rho[1:]) + h) - rate(np.asarray(rho[1:]) - h)) / (2 * h)
    np.testing.assert_allclose(second, differences, rtol=1e-5)


def test_vector_functions_are_traceable():
    rhos = jnp.array([[2.0, 1.0], [0.5, 3.0], [7.0, 0.0]])
    leaf = lambda r: theory.tree_entropy((3, 4), r)[-1]
    expected = theory.tree_entropy_rate((3, 4), np.asarray(rhos).T).T
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(leaf)))(rhos), expected, rtol=1e-14)
    np.testing.assert_allclose(
        jax.vmap(leaf)(rhos), theory.tree_entropy((3, 4), np.asarray(rhos).T)[-1], rtol=1e-14
    )
    unequal = lambda r: theory.unequal_entropy([0.3, 0.7], r)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(unequal))(rhos), theory.unequal_entropy_rate([0.3, 0.7], rhos), rtol=1e-14
    )
    np.testing.assert_allclose(
        jax.vmap(theory.orthogonal_entropy)(jnp.array([2, 30]), jnp.array([1.0, 2.0])),
        theory.orthogonal_entropy([2, 30], [1.0, 2.0]),
        rtol=1e-15,
    )


@pytest.mark.usefixtures("x32")
def test_float64_inside_whatever_the_setting():
    found = theory.orthogonal_entropy(10**6, np.float32(30))
    assert isinstance(found, np.float64)
    with jax.enable_x64(True):
        assert found == theory.orthogonal_entropy(10**6, 30.0)
    for value in (
        theory.binary_entropy(jnp.ones(2)),
        theory.tree_entropy((2, 2), jnp.ones(2)),
        theory.simplex_entropy(3, [1, 2]),
    ):
        assert value.dtype == np.float64
    # A 32-bit trace cannot hold more: computed in float64, rounded once.
    traced = jax.jit(lambda r: theory.orthogonal_entropy(10**12, r))(400.0)
    assert traced.dtype == np.float32
    assert float(traced) == pytest.approx(theory.orthogonal_entropy(10**12, 400.0), rel=1e-7)


def test_large_arrays_pass_through_callbacks():
    rho = jnp.linspace(0, 10, 20_000)
    assert jnp.isfinite(jax.jit(theory.binary_entropy)(rho)).all()


@pytest.mark.parametrize("classes", [1, 2, 7, 1e6, 1e250])
def test_ends_of_the_range(classes):
    log_k = math.log(classes)
    for entropy, rate, agreement in (
        (theory.orthogonal_entropy, theory.orthogonal_entropy_rate, theory.orthogonal_clone_agreement),
        (theory.simplex_entropy, theory.simplex_entropy_rate, theory.simplex_clone_agreement),
    ):
        assert entropy(classes, 0) == pytest.approx(log_k, rel=1e-13)
        assert agreement(classes, 0) == pytest.approx(1 / classes, abs=1e-14)
        for rho in (1e4, 1e9, np.inf):
            assert entropy(classes, rho) == 0
            assert rate(classes, rho) == 0
            assert agreement(classes, rho) == 1
    assert theory.binary_entropy([0, 1e9, np.inf], [0.5, 0.5, 0.1])[1:].max() == 0
    assert theory.binary_entropy(3.0, 0.0) == theory.binary_entropy(3.0, 1.0) == 0


@settings(max_examples=40, deadline=None)
@given(
    classes=st.floats(2, 1e12),
    rho=st.floats(0, 300),
    step=st.floats(1e-3, 10),
)
def test_entropy_falls_within_its_bounds(classes, rho, step):
    h, later = theory.orthogonal_entropy(classes, [rho, rho + step])
    assert -EXACT <= later <= h + EXACT
    assert h <= math.log(classes) + EXACT
    # Fano's converse with Gaussian inputs: I(Z; X) <= ρ/2, the energy of one mean.
    assert math.log(classes) - h <= 0.5 * rho * (1 - 1 / classes) + EXACT
    assert 1 / classes - EXACT <= theory.orthogonal_clone_agreement(classes, rho) <= 1 + EXACT


@settings(max_examples=25, deadline=None)
@given(
    levels=st.lists(
        st.tuples(st.integers(1, 50), st.sampled_from([0.0, 1e-5, 0.02, 0.3, 2.0, 15.0, 80.0])),
        min_size=1,
        max_size=4,
    ),
)
def test_tree_levels_obey_the_chain_rule(levels):
    branching, rhos = zip(*levels, strict=True)
    entropies = theory.tree_entropy(branching, np.array(rhos))
    priors = np.cumsum(np.log(branching))
    assert (np.diff(entropies) >= -TREE).all()
    assert (entropies >= -TREE).all()
    assert (entropies <= priors + TREE).all()
    # Knowing the coarse node can only help: H[leaf] <= H[node] + what a subtree of its own leaves open.
    for j in range(1, len(branching)):
        below = theory.tree_entropy(branching[j:], np.array(rhos[j:]))[-1]
        assert entropies[-1] == pytest.approx(entropies[j - 1] + below, abs=TREE)
    agreements = theory.tree_clone_agreement(branching, np.array(rhos))
    assert (np.diff(agreements) <= TREE).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.binary_entropy(-1.0), r"rho must be >= 0, got -1.0"),
        (lambda: theory.binary_entropy([1.0, np.nan]), r"rho must be >= 0, got nan"),
        (lambda: theory.binary_entropy(1.0, 1.5), r"prior must be in \[0, 1\], got 1.5"),
        (lambda: theory.orthogonal_entropy(0.5, 1.0), r"classes must be a number from 1 to 1e250, got 0.5"),
        (lambda: theory.simplex_entropy(np.inf, 1.0), r"classes must be a number from 1 to 1e250, got inf"),
        (lambda: theory.orthogonal_entropy_rate(3, -2), r"rho must be >= 0, got -2"),
        (
            lambda: theory.tree_entropy((3, 4), [1.0]),
            r"rhos must have shape \(levels, .*2 branching numbers, got \(1,\)",
        ),
        (lambda: theory.tree_entropy((3, 0), [1.0, 1.0]), r"branching must be numbers >= 1, got 0.0"),
        (lambda: theory.tree_entropy((), []), r"branching must have shape \(levels,\)"),
        (lambda: theory.tree_entropy((3,), [-1.0]), r"rhos must be >= 0, got -1.0"),
        (
            lambda: theory.unequal_entropy([0.5, 0.6], [1.0, 1.0]),
            r"weights must sum to one, got 1.1; divide by the sum",
        ),
        (lambda: theory.unequal_entropy([1.5, -0.5], [1.0, 1.0]), r"weights must be >= 0, got -0.5"),
        (lambda: theory.unequal_entropy([0.5, 0.5], [1.0]), r"rhos must have shape \(\.\.\., K\)"),
        (
            lambda: jax.jit(lambda w: theory.unequal_entropy(w, jnp.ones(2)))(jnp.ones(2) / 2),
            "weights must be known numbers",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_derivatives_that_do_not_exist_are_refused():
    with pytest.raises(TypeError, match="orthogonal_entropy can be differentiated with respect to rho only"):
        jax.grad(theory.orthogonal_entropy)(10.0, 1.0)
    with pytest.raises(TypeError, match="has no derivative in closed form"):
        jax.grad(jax.grad(jax.grad(theory.binary_entropy)))(1.0)
