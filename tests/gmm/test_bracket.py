"""Sampled curves whose tails are computed: brackets against closed forms, exact curves and each other."""

import jax
import numpy as np
import pytest

import gmm
import theory
from gmm import bracket, exact
from gmm.partition import trivial_partition

KEY = jax.random.key(0)
PROCESS = gmm.vp()


def separated(classes, dim=8, seed=0, distance=3.0):
    rng = np.random.default_rng(seed)
    var = gmm.Diagonal(rng.uniform(0.3, 2, (classes, dim)))
    return gmm.Mixture(rng.dirichlet(3 * np.ones(classes)), distance * rng.normal(size=(classes, dim)), var)


def levels(log_snr):
    alpha = 1 / np.sqrt(1 + np.exp(-np.asarray(log_snr, float)))
    return alpha, np.sqrt(1 - alpha**2)


@pytest.mark.parametrize("classes", [4, 6, 9])
def test_bracket_holds_the_closed_form(classes):
    """A simplex whose equal variances are given class by class: its entropy is known for any K."""
    plain = gmm.families.simplex(classes, 12)
    one_each = gmm.Mixture(
        np.full(classes, 1 / classes), np.asarray(plain.means), gmm.Isotropic(np.ones(classes))
    )
    decision = exact.members(one_each, trivial_partition(classes))
    assert bracket.affordable(decision)
    times = np.array([0.03, 0.3, 1.0])
    grid = gmm.clock.schedule(PROCESS, times)
    values, errors = bracket.bracketed_values(decision, grid.alpha, grid.sigma)
    closed = theory.exact_curve(plain, PROCESS, times)
    assert (np.abs(values.entropy - closed.entropy) <= errors.entropy).all()
    assert (np.abs(1 - values.disagreement - closed.clone_agreement) <= errors.disagreement).all()
    assert (
        np.abs(-values.rate * grid.log_snr_slope - closed.rate) <= -errors.rate * grid.log_snr_slope
    ).all()
    # Where little is left to decide the bracket is tight.
    assert errors.entropy[0] < 0.2 * values.entropy[0]


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 1, 2]])
def test_bracket_holds_the_exact_curve_of_four(labels):
    decision = exact.members(separated(4, dim=3, distance=1.0), gmm.Partition(np.array(labels)))
    alpha, sigma = levels([-1.0, 1.0, 4.0])
    values, errors = bracket.bracketed_values(decision, alpha, sigma)
    found, _ = exact.exact_values(decision, alpha, sigma, tolerance=1e-6)
    for name in ("entropy", "disagreement", "per_cell"):
        gap = np.abs(getattr(values, name) - getattr(found, name))
        assert (gap <= getattr(errors, name) + 1e-6).all()


# Of four classes to 1e-6, in the exact curves that tails are compared with; and what rounding makes of three.
TOLERANCE = {2: 1e-12, 3: 1e-8, 4: 1e-6}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_tails_are_smooth_and_honest_down_to_1e_30(classes, dtype):
    """Sampled points within 5 errors of the exact curve, a false alarm in 10^5 cases; computed ones within theirs."""
    rng = np.random.default_rng(classes)
    means, var = 12 * rng.normal(size=(classes, 6)), rng.uniform(0.5, 1.5, (classes, 6))
    mixture = gmm.Mixture(
        rng.dirichlet(3 * np.ones(classes)).astype(dtype),
        means.astype(dtype),
        gmm.Diagonal(var.astype(dtype)),
        normalise=True,
    )
    times = np.linspace(0.05, 3.0, 8)
    curve = gmm.class_entropy(mixture, PROCESS, times, key=KEY, samples=2000)
    found = theory.exact_curve(mixture, PROCESS, times, tolerance=TOLERANCE[classes])
    assert found.entropy[0] < 1e-30
    assert (np.diff(curve.entropy) > 0).all()
    for name in ("entropy", "rate", "clone_agreement"):
        value, error, exact = (
            getattr(*part) for part in ((curve, name), (curve, f"{name}_stderr"), (found, name))
        )
        assert np.isfinite(error).all()
        assert (np.abs(value - exact) <= 5 * error + 2 * TOLERANCE[classes] * np.abs(exact)).all()
    # Where little is left to decide, what remains of the error is small beside the value.
    assert curve.entropy_stderr[0] <= 1e-3 * curve.entropy[0]


def test_pairs_with_a_covariance_each_are_not_sampled():
    """One line integral, unless sampling is what is wanted; shared covariances have boundary points to sample."""
    mixture, times = separated(2), np.array([0.1, 0.5, 2.0])
    curve = gmm.class_entropy(mixture, PROCESS, times, key=KEY, samples=64)
    exact_one = theory.exact_curve(mixture, PROCESS, times)
    assert curve.metadata["route"] == "pair"
    for name in ("entropy", "rate", "per_cell", "clone_agreement", "surprise_variance"):
        np.testing.assert_array_equal(getattr(curve, name), getattr(exact_one, name))
    assert (curve.entropy_stderr == 0).all()
    sampled = gmm.class_entropy(mixture, PROCESS, times, key=KEY, samples=64, exact=False)
    assert sampled.metadata["route"] == "sampled"
    one = gmm.class_entropy(gmm.families.pair(3), PROCESS, times, key=KEY, samples=64)
    assert one.metadata["route"] == "sampled"


def test_six_classes_have_errors_everywhere():
    curve = gmm.class_entropy(separated(6), PROCESS, np.geomspace(0.02, 2, 6), key=KEY, samples=2000)
    assert np.isfinite(curve.entropy_stderr).all()
    assert (curve.entropy_stderr[0] < 0.02 * curve.entropy[0]).all()
    assert curve.metadata["route"] == "sampled"


def test_samples_alone_on_request():
    curve = gmm.class_entropy(separated(3), PROCESS, [0.02], key=KEY, samples=400, exact=False)
    assert np.isnan(curve.entropy_stderr).all()
    assert "bracketed_points" not in curve.metadata


def test_too_many_classes_are_left_to_the_samples():
    many = gmm.Mixture(np.full(40, 1 / 40), 30 * np.eye(40), gmm.Isotropic(np.linspace(1, 2, 40)))
    assert not bracket.affordable(exact.members(many, trivial_partition(40)))
    curve = gmm.class_entropy(many, PROCESS, [0.02], key=KEY, samples=400)
    assert np.isnan(curve.entropy_stderr).all()
