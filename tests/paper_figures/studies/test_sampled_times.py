"""Times read off curves: exact curves with made-up errors, whose true times theory knows."""

import dataclasses

import numpy as np
import pytest

import gmm
from gmm.clock import times_at
from paper_figures.studies.sampled_times import agreement_time, half_time, peak_time
from theory import entropy_curve, speciation_time

# Relative bias at 200 points: what the module says of maxima; cubics, with and without slopes.
PEAK_BIAS, HALF_BIAS, AGREEMENT_BIAS = 2e-5, 1e-7, 1e-4
CASES = [("vp", 2, 100.0), ("edm", 10, 1000.0), ("flow", 10, 1000.0), ("vp", 1000, 1e6)]


def exact(name, classes, energy, points, error=0.0):
    clock = getattr(gmm, name)()
    middle = 0.5 * np.log(energy / (2 * np.log(2 * classes)))
    t = times_at(clock, np.linspace(middle - 3.5, middle + 3.5, points))
    curve = entropy_curve(clock, t, energy, classes=classes)
    return clock, dataclasses.replace(
        curve,
        rate_stderr=np.full(points, error * curve.rate.max()),
        entropy_stderr=np.full(points, error * curve.prior_entropy),
    )


@pytest.mark.parametrize("case", CASES)
def test_exact_curves_give_their_own_times(case):
    clock, curve = exact(*case, points=200)
    _, classes, energy = case
    for found, criterion, bias in (
        (peak_time(curve), "entropy-rate", PEAK_BIAS),
        (half_time(curve), "half-entropy", HALF_BIAS),
    ):
        true = float(speciation_time(clock, energy, classes=classes, criterion=criterion))
        assert found.value == pytest.approx(true, rel=bias)
        assert abs(found.value - true) <= found.stderr + 1e-12


@pytest.mark.parametrize("points", [16, 24, 40])
@pytest.mark.parametrize("case", CASES)
def test_coarse_points_are_paid_for_by_the_error(case, points):
    clock, curve = exact(*case, points=points)
    _, classes, energy = case
    for found, criterion in ((peak_time(curve), "entropy-rate"), (half_time(curve), "half-entropy")):
        true = float(speciation_time(clock, energy, classes=classes, criterion=criterion))
        assert abs(found.value - true) < 3 * found.stderr


@pytest.mark.parametrize("case", CASES[:2])
def test_errors_of_the_points_become_the_error_of_the_time(case):
    """Independent noise of the stated size: scatter of the times against what is claimed."""
    _, curve = exact(*case, points=100, error=0.01)
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        rate = curve.rate + curve.rate_stderr * rng.normal(size=100)
        found.append(peak_time(dataclasses.replace(curve, rate=rate)))
    scatter = np.std([time.value for time in found], ddof=1)
    # A hundred times tell their scatter to 7%; the claim adds what a lower degree would change.
    assert 0.75 * scatter < np.median([time.stderr for time in found]) < 2 * scatter


def test_no_time_where_the_curve_ends_before():
    _, curve = exact("vp", 2, 100.0, points=40)
    low = curve.take(slice(15))
    for found in (peak_time(low), half_time(low), agreement_time(low, 0.5)):
        assert np.isnan(found).all()


def test_clones_agree_midway_where_the_closed_form_says():
    clock, curve = exact("vp", 2, 100.0, points=200)
    found = agreement_time(curve, 0.5)
    true = float(speciation_time(clock, 100.0, criterion="cloning"))
    assert found.value == pytest.approx(true, rel=AGREEMENT_BIAS)
    assert abs(found.value - true) <= 3 * found.stderr
