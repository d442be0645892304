"""Scaling laws by fitted exponents, windows by inversion, condensation by sampling at finite size."""

import math

import jax
import numpy as np
import pytest

import gmm
import theory
from theory.scaling import COORDINATES

DIMS = np.array([1e2, 1e4, 1e6, 1e8])
PRINTED = 6e-5


@pytest.mark.parametrize("criterion", ["half-entropy", "entropy-rate", "cloning", "sde-instability"])
def test_vp_times_grow_as_half_log_dimension(criterion):
    times = theory.speciation_time(gmm.vp(), DIMS, criterion=criterion)
    assert theory.fit_slope(np.log(DIMS[1:]), times[1:]).value == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(("process", "exponent"), [(gmm.edm(), 0.5), (gmm.ve(), 1.0)], ids=["edm", "ve"])
def test_ve_and_edm_times_are_powers_of_dimension(process, exponent):
    times = theory.speciation_time(process, DIMS, criterion="half-entropy")
    assert theory.fit_slope(np.log(DIMS[1:]), np.log(times[1:])).value == pytest.approx(exponent, abs=1e-3)


def test_curves_collapse_in_their_coordinate_and_only_there():
    def spread(process, coordinate):
        places = []
        for dim in DIMS[1:]:
            t = theory.speciation_time(process, dim, criterion="half-entropy")
            edges = [theory.speciation_time(process, dim * f, criterion="half-entropy") for f in (0.25, 4.0)]
            args = {"speciation": float(t)} if coordinate == "relative" else {}
            places.append(theory.collapse_coordinate(process, np.array([*edges]), dim, coordinate, **args))
        return np.ptp(np.array(places), axis=0).max()

    assert spread(gmm.vp(), "shifted") < 1e-3
    assert spread(gmm.vp(), "relative") > 0.05  # sharpens: the edges close in
    assert spread(gmm.edm(), "noise") < 1e-3
    assert spread(gmm.ve(), "noise") < 1e-3
    assert spread(gmm.edm(), "relative") < 1e-3  # never sharpens


def test_total_noise_collapses_exactly_at_any_dimension():
    for dim in (5.0, 50.0):
        t = theory.speciation_time(gmm.edm(), dim, variance=1.0, criterion="half-entropy")
        place = theory.collapse_coordinate(gmm.edm(), t, dim, "total-noise", variance=1.0)
        assert place == pytest.approx(1 / math.sqrt(1.0440133154525082), rel=1e-9)


def test_peak_of_the_pair():
    """Height 0.47952 nat, width 1.3109, H there 0.3750 bit, whatever the dimension."""
    for energy in (1e4, 1e10):
        found = theory.peak(gmm.vp(), energy)
        assert found.height == pytest.approx(0.47952, abs=PRINTED)
        assert found.width == pytest.approx(1.3109, abs=2 * PRINTED)
        assert found.entropy / math.log(2) == pytest.approx(0.3750, abs=PRINTED)
    assert theory.peak(gmm.vp(), 1e10).relative_width < theory.peak(gmm.vp(), 1e4).relative_width


def test_peak_outside_the_process_is_refused():
    with pytest.raises(ValueError, match="dH/dt has no maximum inside the range of vp_linear"):
        theory.peak(gmm.vp_linear(), 1e12)


def test_criteria_part_ways_in_class_count():
    classes = np.array([1e2, 1e4, 1e6, 1e8])
    time = lambda criterion: np.array(
        [
            theory.speciation_time(gmm.vp(), 1e20, classes=k, family="orthogonal", criterion=criterion)
            for k in classes
        ]
    )
    assert theory.fit_slope(np.log(classes), time("curvature")).value == pytest.approx(-0.5, abs=1e-6)
    assert theory.fit_slope(np.log(np.log(classes)), time("cloning")).value == pytest.approx(-0.5, abs=0.05)


def test_fit_slope_against_numpy_and_its_error_by_repetition():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 20)
    fits = [theory.fit_slope(x, 2 * x + rng.normal(size=20)) for _ in range(400)]
    z = np.array([(f.value - 2) / f.stderr for f in fits])
    assert 0.85 < np.median(np.abs(z)) / 0.688 < 1.15  # median of |t| with 18 degrees of freedom
    exact = np.polyfit(x, x**2, 1)
    found = theory.fit_slope(np.append(x, np.nan), np.append(x**2, 1.0))
    assert (found.value, found.intercept) == (pytest.approx(exact[0]), pytest.approx(exact[1]))
    with pytest.raises(ValueError, match="at least 3 finite points, got 2"):
        theory.fit_slope([1, 2], [1, 2])


def test_window_by_inverting_the_entropy():
    times = np.linspace(0.5, 9, 120)
    curve = theory.entropy_curve(gmm.vp(), times, 1e4)
    found = theory.window(curve)
    rho = 1e4 / (np.exp(2 * np.array([found.low, found.median, found.high])) + 1)
    np.testing.assert_allclose(theory.binary_entropy(rho) / math.log(2), [0.1, 0.5, 0.9], atol=1e-6)
    assert found.width == pytest.approx(found.high - found.low)
    # Exact points: what is left is what their spacing leaves open.
    assert found.low_stderr < 1e-5
    narrow = theory.window(curve, share=0.5)
    assert found.low < narrow.low < narrow.high < found.high


def test_window_error_is_that_of_repeated_curves():
    mixture, times = gmm.families.pair(100), np.linspace(0.2, 6, 40)
    exact = theory.window(theory.entropy_curve(gmm.vp(), times, 100.0))
    runs = [
        theory.window(
            gmm.class_entropy(gmm.reduce(mixture), gmm.vp(), times, key=jax.random.key(s), samples=512)
        )
        for s in range(40)
    ]
    z = np.array([(run.median - exact.median) / run.median_stderr for run in runs])
    assert 0.5 < np.mean(z**2) < 1.8  # chi-square of 40: beyond six standard deviations


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.linspace(4.6, 9, 40), "add times with less noise"),
        (np.linspace(0.5, 4.6, 40), "add times with more noise"),
    ],
)
def test_window_refuses_a_curve_that_misses_the_decision(times, message):
    with pytest.raises(ValueError, match=message):
        theory.window(theory.entropy_curve(gmm.vp(), times, 1e4))


def test_bad_input():
    curve = theory.entropy_curve(gmm.vp(), [1.0, 2.0], 10.0)
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\), got 1"):
        theory.window(curve, share=1.0)
    with pytest.raises(ValueError, match="at least 4 points"):
        theory.window(curve)
    with pytest.raises(ValueError, match=f"coordinate must be one of {COORDINATES[0]}"):
        theory.collapse_coordinate(gmm.vp(), 1.0, 10, "time")
    with pytest.raises(ValueError, match="speciation must be given"):
        theory.collapse_coordinate(gmm.vp(), 1.0, 10, "relative")


def test_condensation_times():
    found = theory.condensation_time(gmm.vp(), np.array([0.05, 0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(found[:4], [1.1261, 0.7539, 0.3548, 0.0979], atol=PRINTED)
    assert np.isnan(found[4])  # beyond half log 2 clean data are open


def test_collapse_times_of_biroli():
    found = [float(theory.collapse_time(gmm.vp(), 20_000, dim)) for dim in (256, 1024, 4096)]
    np.testing.assert_allclose(found, [1.2988, 1.9775, 2.6671], atol=PRINTED)
    # Their formula as they write it.
    assert found[0] == pytest.approx(0.5 * math.log(1 + 1 / (20_000 ** (2 / 256) - 1)), rel=1e-12)


@pytest.mark.slow
def test_finite_size_entropy_approaches_the_limit_from_above():
    """κ = 0.1 at its condensation time: H/d = 0.021 at d = 60, falling with d (the limit is zero)."""
    t = float(theory.condensation_time(gmm.vp(), 0.1))
    found = []
    for dim in (20, 40, 60):
        classes = round(math.exp(0.1 * dim))
        means = np.random.default_rng(dim).normal(size=(classes, dim))
        mixture = gmm.Mixture(np.full(classes, 1 / classes), means, gmm.Isotropic(1.0))
        curve = gmm.class_entropy(mixture, gmm.vp(), [t], key=jax.random.key(0), samples=8192)
        found.append(curve.entropy[0] / dim)
    assert found[0] > found[1] > found[2] > 0
    assert found[2] == pytest.approx(0.021, abs=0.003)  # one draw of 403 means


def test_entropy_density_is_a_ramp():
    assert theory.entropy_density(-50.0, 0.2) == pytest.approx(0.2)
    assert theory.entropy_density(50.0, 0.2) == 0
    with pytest.raises(ValueError, match="kappa must be positive, got 0"):
        theory.entropy_density(0.0, 0.0)
