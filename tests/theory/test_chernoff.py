"""Two Gaussian classes of any covariances: against mpmath, quadrature in x, the isotropic closed forms and sampling."""

import itertools
import math
import warnings

import jax
import mpmath as mp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import xlogy

import gmm
import theory
from gmm import chernoff, pair_basis

# Of the accuracy that the line integrals promise: absolute, and relative down to the smallest values.
ABSOLUTE, RELATIVE, SMALLEST = 1e-12, 1e-9, 1e-200
# Rounding of sums of a few thousand terms of order one.
ROUNDING = 2e-13
LEVEL = (1.0, 0.0)  # clean data: alpha, sigma


def spectra(rng, dim, decades=4.0):
    return 10 ** rng.uniform(-decades / 2, decades / 2, (2, dim))


def random_pair(seed):
    """A pair of diagonal Gaussians whose spectra cover four decades, priors 1e-6..½, overlaps from full to none."""
    rng = np.random.default_rng(seed)
    dim = int(rng.integers(1, 51))
    prior = 10 ** rng.uniform(-6, math.log10(0.5))
    var = spectra(rng, dim, decades=rng.choice([0.1, 1.0, 4.0]))
    means = rng.normal(size=(2, dim)) * np.sqrt(var.mean(axis=0)) * 10 ** rng.uniform(-2, 0.5)
    return gmm.Mixture(np.array([prior, 1 - prior]), means, gmm.Diagonal(var))


def mp_integrals(mixture, alpha, sigma, digits=30):
    """H, 2 E p_0p_1, dH/d log σ² and the per-class parts on the critical line a = ½ + iu, in many digits.

    The line is not the one that the code chooses, and C is a product over coordinates. The step resolves the fall of
    C(½ + iu), about e^{4 u² log C(½)}: the trapezoid rule errs by less than e^{-60} of the value.
    """
    with mp.workdps(digits + 40):
        weights = [mp.mpf(float(w)) for w in np.exp(np.asarray(mixture.log_weights))]
        weights = [w / sum(weights) for w in weights]
        signal, noise = mp.mpf(alpha) ** 2, mp.mpf(sigma) ** 2
        first, second = (
            [signal * mp.mpf(float(v)) + noise for v in row] for row in np.asarray(mixture.covariance.var)
        )
        steps = [
            signal * (mp.mpf(float(a)) - mp.mpf(float(b))) ** 2
            for a, b in zip(*np.asarray(mixture.means), strict=True)
        ]

        def log_c_and_growth(a):
            b = 1 - a
            log_c, growth = mp.mpc(0), mp.mpc(0)
            for v, w, square in zip(first, second, steps, strict=True):
                mixed = a * w + b * v
                log_c += half * (b * mp.log(v) + a * mp.log(w) - mp.log(mixed) - a * b * square / mixed)
                growth += half * noise * ((w - v) ** 2 / (v * w * mixed) + square / mixed**2)
            return log_c, growth

        half = mp.mpf("0.5")
        step = mp.mpf("0.02") / max(1, mp.sqrt(-mp.re(log_c_and_growth(half)[0]) / 100))
        parts = mp.matrix(5, 1)
        ratio = mp.log(weights[0] / weights[1])
        largest = mp.mpf(0)
        for k in range(2400):
            u = k * step
            a = half + mp.mpc(0, 1) * u
            b = 1 - a
            log_c, growth = log_c_and_growth(a)
            c = mp.exp(log_c + mp.mpc(0, 1) * u * ratio)
            kernel = mp.sech(mp.pi * u)
            values = [
                kernel * c / (a * b),
                2 * kernel * c,
                kernel * c * growth,
                kernel * c / b,
                kernel * c / a,
            ]
            parts += mp.matrix([mp.re(v) for v in values]) * (1 if k == 0 else 2)
            largest = max(largest, abs(values[0]))
            if abs(values[0]) < largest * mp.mpf(10) ** (-digits - 36):
                break
        scale = half * mp.sqrt(weights[0] * weights[1]) * step
        found = [scale * part for part in parts]
        return [found[0], found[1], found[2], found[3] / weights[0], found[4] / weights[1]]


def assert_close(found, error, exact):
    """Within the promise and within the error that is stated."""
    exact = float(exact)
    gap = abs(found - exact)
    assert gap <= ABSOLUTE
    if exact > SMALLEST:
        assert gap <= RELATIVE * exact
    assert gap <= error + 1e-300


def check_against_mpmath(seed):
    mixture = random_pair(seed)
    alpha = float(np.random.default_rng(seed).uniform(0.05, 0.999))
    sigma = math.sqrt(1 - alpha**2)
    log_prior = np.asarray(mixture.log_weights)
    values, errors = chernoff.pair_values(pair_basis.pair_basis(mixture), alpha, sigma, log_prior)
    exact = mp_integrals(mixture, alpha, sigma)
    found = [values.entropy, values.disagreement, values.rate, *values.per_class]
    stated = [errors.entropy, errors.disagreement, errors.rate, *errors.per_class]
    for value, error, reference in zip(found[:3], stated[:3], exact[:3], strict=True):
        assert_close(value, error, reference)
    for value, error, reference in zip(found[3:], stated[3:], exact[3:], strict=True):
        assert abs(value - float(reference)) <= error  # surprises of rare classes exceed one


@pytest.mark.parametrize("seed", [0, 5])
def test_random_pairs_in_thirty_digits(seed):
    check_against_mpmath(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_two_hundred_random_pairs_in_thirty_digits(seed):
    check_against_mpmath(seed)


def test_published_pair():
    """The oracle of the derivation, by quadrature in x."""
    mixture = gmm.Mixture(
        np.array([0.3, 0.7]),
        np.array([[0.0, 0.0, 0.0], [1.0, -0.5, 2.0]]),
        gmm.Diagonal(np.array([[1.0, 2.0, 0.5], [0.7, 1.0, 3.0]])),
    )
    basis = pair_basis.pair_basis(mixture)
    values, errors = chernoff.pair_values(basis, *LEVEL, np.log([0.3, 0.7]))
    assert values.entropy == pytest.approx(0.28364991941502, abs=2e-14)
    assert 0.5 * values.disagreement == pytest.approx(0.09225935128486, abs=2e-14)
    assert errors.entropy < 1e-13


def one_dimensional(prior, means, var):
    """H, E Σ p², E Σ p log² p, per-class surprises and Bayes error of a pair on the line, by quadrature in x."""

    def at(x):
        logs = np.log(prior) - 0.5 * np.log(2 * np.pi * var) - 0.5 * (x - means) ** 2 / var
        return np.exp(logs), np.exp(logs - np.logaddexp(*logs))

    def mean(f):
        ends = np.concatenate([means - 40 * np.sqrt(var), means + 40 * np.sqrt(var)])
        cuts = np.unique(np.concatenate([means, *(means + s * np.sqrt(var) for s in (-8, -3, -1, 1, 3, 8))]))
        edges = [ends.min(), *cuts, ends.max()]
        return sum(
            quad(f, a, b, epsabs=1e-13, epsrel=1e-12, limit=400)[0] for a, b in itertools.pairwise(edges)
        )

    def density(x):
        return at(x)[0].sum()

    return {
        "entropy": mean(lambda x: -density(x) * xlogy(at(x)[1], at(x)[1]).sum()),
        "agreement": mean(lambda x: density(x) * (at(x)[1] ** 2).sum()),
        "second": mean(lambda x: density(x) * sum(p * math.log(p) ** 2 if p > 0 else 0.0 for p in at(x)[1])),
        "first": mean(lambda x: -xlogy(at(x)[0][0], at(x)[1][0]) / prior[0]),
        "bayes": mean(lambda x: at(x)[0].min()),
    }


@pytest.mark.parametrize(
    ("prior", "means", "var"),
    [(0.5, (0.0, 1.0), (1.0, 0.3)), (0.1, (-0.2, 0.3), (1.0, 25.0)), (0.02, (0.0, 0.0), (1.0, 1.5))],
)
def test_every_quantity_by_quadrature_in_x(prior, means, var):
    prior, means, var = np.array([prior, 1 - prior]), np.array(means), np.array(var)
    exact = one_dimensional(prior, means, var)
    basis = pair_basis.pair_basis(gmm.Mixture(prior, means[:, None], gmm.Isotropic(var)))
    values, _ = chernoff.pair_values(basis, *LEVEL, np.log(prior))
    near = {"rel": 1e-9, "abs": 1e-11}  # the quadrature's own accuracy
    assert values.entropy == pytest.approx(exact["entropy"], **near)
    assert 1 - values.disagreement == pytest.approx(exact["agreement"], **near)
    assert values.second_moment == pytest.approx(exact["second"], **near)
    assert values.per_class[0] == pytest.approx(exact["first"], **near)
    bayes, error = chernoff.bayes_error(basis, *LEVEL, np.log(prior))
    assert abs(bayes - exact["bayes"]) <= error + 1e-11


@pytest.mark.parametrize("prior", [0.5, 1e-3, 1e-6, 1e-60])
@pytest.mark.parametrize("rho", [0.0, 1e-12, 1.0, 30.0, 400.0, 900.0])
def test_isotropic_pairs_are_the_binary_channel(rho, prior):
    mixture = gmm.Mixture(
        np.array([prior, 1 - prior]), np.array([[0.0], [2 * math.sqrt(rho)]]), gmm.Isotropic(1.0)
    )
    values, errors = chernoff.pair_values(pair_basis.pair_basis(mixture), *LEVEL, np.log([prior, 1 - prior]))
    entropy, rate = theory.binary_entropy(rho, prior), -theory.binary_entropy_rate(rho, prior)
    # exp(-ρ/2) alone has a relative rounding error of ρ eps.
    near = 1e-14 + 2 * rho * np.finfo(float).eps
    assert values.entropy == pytest.approx(entropy, rel=10 * near)
    assert values.disagreement == pytest.approx(rate, rel=10 * near)
    assert abs(values.entropy - entropy) <= errors.entropy + 10 * near * entropy


def rotated(mixture, rng):
    """The same pair in another basis, as full covariances."""
    turn = np.linalg.qr(rng.normal(size=(mixture.dim, mixture.dim)))[0]
    full = np.stack([(turn * var) @ turn.T for var in np.asarray(mixture.covariance.var)])
    return gmm.Mixture(
        np.exp(np.asarray(mixture.log_weights)),
        np.asarray(mixture.means) @ turn.T,
        gmm.Full(0.5 * (full + full.transpose(0, 2, 1))),
    )


@pytest.mark.parametrize("seed", range(5))
def test_full_covariances_that_commute_are_the_diagonal_ones(seed):
    rng = np.random.default_rng(seed)
    var = spectra(rng, 12, decades=2)
    pair = gmm.Mixture(np.array([0.2, 0.8]), 0.3 * rng.normal(size=(2, 12)), gmm.Diagonal(var))
    times = np.geomspace(0.02, 3, 7)
    plain, turned = (theory.exact_curve(m, gmm.vp(), times) for m in (pair, rotated(pair, rng)))
    for name in ("entropy", "rate", "per_cell", "surprise_variance"):
        np.testing.assert_allclose(getattr(turned, name), getattr(plain, name), rtol=1e-10)


def test_full_covariances_with_a_known_pencil():
    """Σ_0 = WWᵀ and Σ_1 = W diag(w) Wᵀ do not commute; on clean data the pair is that of I and diag(w)."""
    rng = np.random.default_rng(3)
    root = np.eye(6) + 0.4 * rng.normal(size=(6, 6))
    w, step = 10 ** rng.uniform(-1, 1, 6), rng.normal(size=6)
    full = np.stack([root @ root.T, (root * w) @ root.T])
    means = np.stack([np.zeros(6), root @ step])
    dense = gmm.Mixture(np.array([0.4, 0.6]), means, gmm.Full(0.5 * (full + full.transpose(0, 2, 1))))
    plain = gmm.Mixture(
        np.array([0.4, 0.6]), np.stack([np.zeros(6), step]), gmm.Diagonal(np.stack([np.ones(6), w]))
    )
    found, exact = (
        chernoff.pair_values(pair_basis.pair_basis(m), *LEVEL, np.log([0.4, 0.6]))[0] for m in (dense, plain)
    )
    assert found.entropy == pytest.approx(exact.entropy, rel=1e-11)
    assert found.disagreement == pytest.approx(exact.disagreement, rel=1e-11)


def test_low_rank_is_full():
    rng = np.random.default_rng(4)
    factor, var = rng.normal(size=(2, 9, 2)), np.array([0.3, 0.5])
    means = rng.normal(size=(2, 9))
    low = gmm.Mixture(np.array([0.4, 0.6]), means, gmm.LowRank(factor, var))
    full = gmm.Mixture(np.array([0.4, 0.6]), means, gmm.Full(low.covariance.dense(9)))
    shared = gmm.Mixture(np.array([0.4, 0.6]), means, gmm.LowRank(factor[0], 0.3))
    shared_full = gmm.Mixture(np.array([0.4, 0.6]), means, gmm.Full(shared.covariance.dense(9)))
    times = np.geomspace(0.05, 3, 6)
    for a, b in ((low, full), (shared, shared_full)):
        first, second = (theory.exact_curve(m, gmm.vp(), times) for m in (a, b))
        np.testing.assert_allclose(first.entropy, second.entropy, rtol=1e-11)
        np.testing.assert_allclose(first.rate, second.rate, rtol=1e-10)


@pytest.mark.parametrize("kind", ["diagonal", "full", "low rank"])
def test_rate_is_the_derivative_of_the_entropy(kind):
    """Eighth-order differences in log noise: the derivative under the integral is another computation."""
    rng = np.random.default_rng(5)
    covariance = {
        "diagonal": gmm.Diagonal(spectra(rng, 5, decades=2)),
        "full": gmm.Full(np.stack([a @ a.T / 5 + 0.05 * np.eye(5) for a in rng.normal(size=(2, 5, 5))])),
        "low rank": gmm.LowRank(rng.normal(size=(2, 5, 1)), np.array([0.4, 0.2])),
    }[kind]
    mixture = gmm.Mixture(np.array([0.1, 0.9]), rng.normal(size=(2, 5)), covariance)
    process, times, step = gmm.edm(), np.geomspace(0.05, 10, 8), 0.02
    offsets, weights = np.arange(1, 5), np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])
    shifted = [
        theory.pair_entropy(mixture, process, times * math.exp(sign * k * step)).value
        for k in offsets for sign in (1, -1)
    ]  # fmt: skip
    slope = (
        sum(w * (up - down) for w, up, down in zip(weights, shifted[::2], shifted[1::2], strict=True)) / step
    )
    rate = theory.pair_entropy_rate(mixture, process, times)
    np.testing.assert_allclose(times * rate.value, slope, rtol=1e-8)
    assert (rate.error < 1e-11 * rate.value).all()


@pytest.mark.slow
def test_against_sampling():
    """|z| < 4.5 for 4 times and 3 quantities: a false alarm in 10^4 seeds."""
    rng = np.random.default_rng(6)
    covariance = gmm.Full(np.stack([a @ a.T / 8 + 0.1 * np.eye(8) for a in rng.normal(size=(2, 8, 8))]))
    mixture = gmm.Mixture(np.array([0.3, 0.7]), 0.5 * rng.normal(size=(2, 8)), covariance)
    times = np.array([0.1, 0.4, 1.0, 2.0])
    exact = theory.exact_curve(mixture, gmm.vp(), times)
    sampled = gmm.class_entropy(mixture, gmm.vp(), times, key=jax.random.key(0), samples=20_000, exact=False)
    for name in ("entropy", "rate", "clone_agreement"):
        z = (getattr(sampled, name) - getattr(exact, name)) / getattr(sampled, f"{name}_stderr")
        assert np.abs(z).max() < 4.5


@pytest.mark.parametrize("kind", ["wide", "steep", "few"])
def test_many_coordinates_gathered_are_the_sum_over_all(kind, monkeypatch):
    """d = 10^4 with strongly unequal spectra: the branch of log det C, and the interpolation of sums."""
    rng = np.random.default_rng(7)
    dim = 10_000
    first = {"wide": spectra(rng, dim)[0], "steep": np.arange(1.0, dim + 1) ** -1.0, "few": np.ones(dim)}[
        kind
    ]
    second = first.copy()
    second[:: 1 if kind == "wide" else 25] *= 10 ** rng.uniform(
        -1, 1, len(second[:: 1 if kind == "wide" else 25])
    )
    basis = pair_basis.Commuting(first, second, np.ones(dim), 1e-5 * rng.normal(size=dim) ** 2)
    levels = [(1 / math.sqrt(1 + n), math.sqrt(n / (1 + n))) for n in (1e5, 1e3, 30.0, 1.0, 0.03)]
    gathered = [chernoff.pair_values(basis, *level, np.log([0.3, 0.7])) for level in levels]
    monkeypatch.setattr(pair_basis, "DIRECT_COORDINATES", dim)
    for level, (values, errors) in zip(levels, gathered, strict=True):
        plain, also = chernoff.pair_values(basis, *level, np.log([0.3, 0.7]))
        for name in ("entropy", "disagreement", "rate"):
            exact = getattr(plain, name)
            assert abs(getattr(values, name) - exact) <= 1e-11 * exact
            assert abs(getattr(values, name) - exact) <= 2 * (getattr(errors, name) + getattr(also, name))


def test_a_class_inside_another_in_ten_dimensions_of_scale():
    """Equal means, Σ_1 = w I: the likelihood ratio is a function of a χ² variable, integrated in one dimension."""
    for dim, w, prior in ((1, 4.0, 0.5), (10, 2.0, 0.01), (300, 1.2, 0.5)):
        basis = pair_basis.Commuting(np.ones(1), np.full(1, w), np.full(1, float(dim)), np.zeros(1))
        found, error = chernoff.pair_values(basis, *LEVEL, np.log([prior, 1 - prior]))
        exact = chi_square_entropy(dim, w, prior)
        assert found.entropy == pytest.approx(exact, rel=1e-9)
        assert error.entropy < 1e-11 * exact


def chi_square_entropy(dim, w, prior):
    with mp.workdps(30):
        half, prior = mp.mpf(dim) / 2, mp.mpf(prior)

        def at(y):  # y = log of the squared radius
            r = mp.exp(y)
            log_0 = mp.log(prior) - r / 2 + half * y - half * mp.log(2) - mp.loggamma(half)
            log_1 = (
                mp.log(1 - prior)
                - r / (2 * mp.mpf(w))
                + half * y
                - half * mp.log(2 * mp.mpf(w))
                - mp.loggamma(half)
            )
            a, b = mp.exp(log_0), mp.exp(log_1)
            return a * mp.log(1 + mp.exp(log_1 - log_0)) + b * mp.log(1 + mp.exp(log_0 - log_1))

        # Smooth and doubly exponentially falling at one end, exponentially at the other.
        centre, step = mp.log(dim), mp.mpf(1) / 60
        width = 60 / mp.mpf(dim) + 6
        return float(step * mp.fsum(at(centre + k * step) for k in range(int(-width * 60), 360)))


# What a person may hand in.


def test_identical_classes_keep_the_prior_entropy():
    mixture = gmm.Mixture(np.array([0.2, 0.8]), np.ones((2, 3)), gmm.Diagonal(np.ones((2, 3))))
    curve = theory.exact_curve(mixture, gmm.vp(), np.array([0.01, 1.0, 10.0]))
    np.testing.assert_allclose(curve.entropy, curve.prior_entropy, rtol=1e-14)
    np.testing.assert_allclose(curve.rate, 0, atol=1e-300)
    np.testing.assert_allclose(curve.surprise_variance, 0.16 * math.log(4) ** 2, rtol=1e-12)


def test_a_class_of_probability_zero_leaves_nothing_to_decide():
    mixture = gmm.Mixture(np.array([0.0, 1.0]), np.array([[0.0], [1.0]]), gmm.Isotropic(np.array([1.0, 2.0])))
    curve = theory.exact_curve(mixture, gmm.vp(), np.array([0.1, 1.0]))
    assert (curve.entropy == 0).all()
    assert (curve.rate == 0).all()
    assert (curve.clone_agreement == 1).all()
    assert np.isnan(curve.per_cell[:, 0]).all()
    assert (curve.per_cell[:, 1] == 0).all()
    assert (theory.pair_entropy(mixture, gmm.vp(), [0.1]).value == 0).all()


@pytest.mark.parametrize(
    "var", [[[0.0, 0.0], [1.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]
)
def test_classes_without_a_common_point(var):
    """Mutually singular clean data: H falls to zero and is never NaN."""
    mixture = gmm.Mixture(
        np.array([0.5, 0.5]), np.array([[0.0, 0.0], [1.0, 1.0]]), gmm.Diagonal(np.array(var))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean, _ = chernoff.pair_values(pair_basis.pair_basis(mixture), *LEVEL, np.log([0.5, 0.5]))
        curve = theory.exact_curve(mixture, gmm.ve(), np.geomspace(1e-30, 1e2, 9))
        bayes = theory.pair_bayes_error(mixture, gmm.ve(), np.array([1e-30, 1.0]))
    assert clean.entropy == clean.disagreement == 0
    assert np.isfinite(curve.entropy).all()
    assert np.isfinite(curve.rate).all()
    assert curve.entropy[0] < 1e-6
    assert (np.diff(curve.entropy) >= 0).all()
    assert 0 <= bayes.value[0] < bayes.value[1] < 0.5


def test_singular_full_covariances():
    mixture = gmm.Mixture(
        np.array([0.5, 0.5]),
        np.zeros((2, 3)),
        gmm.Full(np.stack([np.diag([1.0, 1, 0]), np.diag([1.0, 0, 1])])),
    )
    plain = gmm.Mixture(
        np.array([0.5, 0.5]), np.zeros((2, 3)), gmm.Diagonal(np.array([[1.0, 1, 0], [1.0, 0, 1]]))
    )
    times = np.array([1e-4, 0.01, 1.0])
    found, exact = (theory.exact_curve(m, gmm.vp(), times) for m in (mixture, plain))
    np.testing.assert_allclose(found.entropy, exact.entropy, rtol=1e-9)
    assert chernoff.pair_values(pair_basis.pair_basis(mixture), *LEVEL, np.log([0.5, 0.5]))[0].entropy == 0


def test_both_ends_of_time():
    mixture = gmm.Mixture(
        np.array([0.3, 0.7]), np.array([[0.0, 0], [30.0, 0]]), gmm.Diagonal(np.array([[1.0, 2], [2.0, 1]]))
    )
    curve = theory.exact_curve(mixture, gmm.vp(), np.array([1e-12, 300.0]))
    assert 0 < curve.entropy[0] < 1e-30
    assert curve.entropy[1] == pytest.approx(curve.prior_entropy, rel=1e-14)
    assert np.isfinite(curve.rate).all()


def test_single_precision_mixtures(x32):
    mixture = gmm.Mixture(
        np.array([0.5, 0.5]), np.array([[0.0, 0], [2.0, 0]]), gmm.Full(np.stack([np.eye(2), 2 * np.eye(2)]))
    )
    curve = theory.exact_curve(mixture, gmm.vp(), [0.5])
    assert mixture.dtype == np.float32
    assert curve.entropy.dtype == np.float64
    same = gmm.Mixture(
        np.array([0.5, 0.5]), np.array([[0.0, 0], [2.0, 0]]), gmm.Isotropic(np.array([1.0, 2.0]))
    )
    np.testing.assert_allclose(curve.entropy, theory.exact_curve(same, gmm.vp(), [0.5]).entropy, rtol=1e-6)


def test_what_is_refused():
    three = gmm.families.simplex(3, 4)
    with pytest.raises(ValueError, match="mixture must have two components, got 3; theory"):
        theory.pair_entropy(three, gmm.vp(), [1.0])
    with pytest.raises(ValueError, match="times"):
        theory.pair_entropy(gmm.families.pair(4), gmm.vp(), [[1.0]])
    with pytest.raises(ValueError):
        theory.pair_entropy(gmm.families.pair(4), gmm.flow(), [1.5])


def test_metadata_names_the_route_and_the_error():
    curve = theory.exact_curve(gmm.families.pair(4), gmm.vp(), np.array([0.5, 1.0]))
    assert curve.metadata["route"] == "pair"
    assert 0 < curve.metadata["relative_error"] < ROUNDING
    assert (curve.entropy_stderr == 0).all()
    assert (curve.rate_stderr == 0).all()
