"""The contrast of one cell with the whole mixture: against quadrature on a line, its floor, and refusals."""

import jax
import numpy as np
import pytest
from scipy import integrate

import gmm
from gmm.contrast import floor_of

WEIGHTS, MEANS, VARIANCE = np.array([0.5, 0.3, 0.2]), np.array([-3.0, 0.0, 2.0]), 0.5
CELLS = gmm.Partition(np.array([0, 0, 1]))
TIMES = np.geomspace(20.0, 0.05, 7)
# Points of all times are drawn by the same noise, so that one draw far off moves them all: one false alarm in 16,000.
STDERRS = 4.0


@pytest.fixture(scope="module", autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def mixture(variance=VARIANCE):
    return gmm.Mixture(WEIGHTS, MEANS[:, None], gmm.Isotropic(np.array(variance)))


def quadrature(sigma, weights=WEIGHTS, labels=CELLS.labels):
    """Σ_C π_C ∫ p_C h_b(p_C/(p_C + p)) dx; p is the whole mixture, π and p_C have the weights of the decision."""
    inside = labels >= 0
    total, variance = 0.0, VARIANCE + sigma**2

    def density(x, chosen):
        return np.sum(chosen * np.exp(-((x - MEANS) ** 2) / 2 / variance) / np.sqrt(2 * np.pi * variance))

    for cell in range(labels.max() + 1):
        chosen = np.where(labels == cell, weights, 0)
        share = chosen.sum() / weights[inside].sum()
        chosen = chosen / chosen.sum()

        def integrand(x, chosen=chosen):
            own, whole = density(x, chosen), density(x, WEIGHTS)
            p = own / (own + whole) if own > 0 else 0.0
            return own * -(p * np.log(p or 1) + (1 - p) * np.log(1 - p))

        reach = 12 * np.sqrt(variance) + 5
        total += share * integrate.quad(integrand, -reach, reach, limit=500, points=MEANS)[0]
    return total


def curve(**options):
    options = {"partition": CELLS, "key": jax.random.key(0), "samples": 20_000} | options
    return gmm.contrast_entropy(mixture(), gmm.edm(), TIMES, **options)


@pytest.mark.parametrize(
    ("labels", "weights"),
    [([0, 0, 1], None), ([0, -1, 1], None), ([0, -1, -1], None), ([0, 0, 1], np.array([0.2, 0.3, 0.5]))],
)
def test_entropy_is_that_of_quadrature(labels, weights):
    labels = np.array(labels)
    found = curve(partition=gmm.Partition(labels), weights=weights)
    wanted = [quadrature(s, WEIGHTS if weights is None else weights, labels) for s in TIMES]
    assert np.all(np.abs(found.entropy - wanted) < STDERRS * found.entropy_stderr)
    assert found.prior_entropy == np.log(2)


def test_rate_is_the_derivative():
    found, step = curve(), 1e-3
    for t, rate, stderr in zip(TIMES, found.rate, found.rate_stderr, strict=True):
        wanted = (quadrature(t * (1 + step)) - quadrature(t * (1 - step))) / (2 * step * t)
        # The central difference is off by its step squared.
        assert abs(rate - wanted) < STDERRS * stderr + 1e-5 * abs(wanted)


def test_errors_are_those_of_the_spread():
    runs = [
        gmm.contrast_entropy(
            mixture(), gmm.edm(), TIMES[3:5], partition=CELLS, key=jax.random.key(i), samples=400
        )
        for i in range(64)
    ]
    spread = np.std([run.entropy for run in runs], axis=0, ddof=1)
    # The spread of 64 runs is itself known to 9%.
    np.testing.assert_allclose(np.mean([run.entropy_stderr for run in runs], axis=0), spread, rtol=0.4)


def test_classes_apart_end_at_the_floor():
    points = gmm.Mixture(
        np.full(10, 0.1), 20 * np.eye(10), gmm.Isotropic(np.array(0.0))
    )  # without overlap at little noise
    found = gmm.contrast_entropy(points, gmm.edm(), [0.5], key=jax.random.key(0), samples=32)
    assert found.entropy[0] == pytest.approx(floor_of(0.1), abs=1e-9)
    assert found.metadata["mean_floor"] == pytest.approx(floor_of(0.1))
    # h_b(1/(1+ω)), by its definition.
    p = 1 / 1.1
    assert floor_of(0.1) == pytest.approx(-p * np.log(p) - (1 - p) * np.log(1 - p))


def test_too_few_points_leave_the_error_open():
    rare = gmm.Mixture(np.array([0.5, 0.5]), np.array([[-4.0], [4.0]]), gmm.Isotropic(np.array(1.0)))
    found = gmm.contrast_entropy(rare, gmm.edm(), [0.1], key=jax.random.key(0), samples=50)
    # What is left of the rate comes from the few states near the middle, of which 50 hold none.
    assert np.isnan(found.rate_stderr[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "samples must be >= 2, got 1"),
        ({"weights": np.ones(2)}, r"weights must have shape \(3,\), one per component"),
        ({"weights": np.array([1.0, 0.0, 1.0])}, "weights must be finite and > 0"),
        ({"key": 3}, "key must be a JAX random key"),
    ],
)
def test_what_is_refused(options, message):
    given = {"partition": CELLS, "key": jax.random.key(0), "samples": 8} | options
    with pytest.raises(ValueError, match=message):
        gmm.contrast_entropy(mixture(), gmm.edm(), TIMES, **given)
