"""Windows say how much was decided, and refuse curves of no decision."""

import dataclasses
import json

import numpy as np
import pytest

import gmm
import theory
from gmm.window_file import MeasuredWindow, SamplerSteps, load_window, save_window

TIMES = np.geomspace(0.02, 8.0, 60)
CURVE = theory.entropy_curve(gmm.vp(), TIMES, 100.0)
# Interpolation of a straight line in log(σ/α) is exact up to rounding.
ROUNDING = 1e-12


def changed(**fields):
    return dataclasses.replace(CURVE, **fields)


def test_a_window_says_how_much_is_decided():
    found = gmm.window(CURVE)
    order = np.argsort(CURVE.sigma)
    assert found.entropy_low == CURVE.entropy[order[0]]
    assert found.entropy_high == CURVE.entropy[order[-1]]
    np.testing.assert_allclose(found.decided, np.ptp(CURVE.entropy) / np.log(2), rtol=ROUNDING)
    assert found.decided_stderr == 0


def test_a_model_that_decides_nothing_has_no_window():
    # What is left of a decision after a network that hardly reads its condition: 0.69303 of 0.69315 nat.
    part = 0.00012 / np.log(2)
    undecided = changed(entropy=np.log(2) - part * (np.log(2) - CURVE.entropy), rate=part * CURVE.rate)
    with pytest.raises(ValueError, match=r"must decide at least 50% of H\[Z\] = 0.6931 nats, got 0.02%"):
        gmm.window(undecided)
    partial = gmm.window(undecided, allow_partial=True)
    # The entropies differ in their fourth digit and beyond: twelve digits of sixteen are left.
    np.testing.assert_allclose(partial.sigma, gmm.window(CURVE).sigma, rtol=1e-9)
    assert partial.decided < 0.001


def test_an_estimate_that_leaves_the_range_contradicts_itself():
    # The gap of a network with random weights: H falls to -822 nat.
    below = changed(entropy=np.log(2) - (np.log(2) - CURVE.entropy) * 1200, entropy_stderr=np.full(60, 1.0))
    with pytest.raises(
        ValueError, match=r"must lie in 0..H\[Z\] = 0.6931 nats, got -83\d.*contradicts itself"
    ):
        gmm.window(below)
    within = changed(entropy=CURVE.entropy - 0.02, entropy_stderr=np.full(60, 0.01))
    assert gmm.window(within).decided > 0.9


def test_a_decision_that_begins_before_the_curve_has_no_window():
    # An eps-network claims a tenth of the information at the most noise; the errors are large in the middle only.
    begun = 0.93 * CURVE.entropy
    errors = 0.03 * np.exp(-(((CURVE.entropy - 0.35) / 0.1) ** 2))
    with pytest.raises(ValueError, match=r"it still gains about 0\.049 nats; add times with more noise"):
        gmm.window(changed(entropy=begun, rate=0.93 * CURVE.rate, entropy_stderr=errors))
    # Where the error at the most noise is that large, the curve may be whole.
    assert (
        gmm.window(changed(entropy=begun, rate=0.93 * CURVE.rate, entropy_stderr=np.full(60, 0.03))).decided
        < 1
    )


def test_an_unknown_error_is_no_contradiction_unless_the_estimate_is_far_off():
    # Too few paths of the denoiser gap: the curve of a right model ends below zero, by an error that they do not show.
    unknown = np.where(CURVE.entropy < 0.2, np.nan, 0.01)
    short = changed(entropy=CURVE.entropy - 0.15 * (np.log(2) - CURVE.entropy), entropy_stderr=unknown)
    assert np.isnan(gmm.window(short).entropy_low_stderr)
    far = changed(entropy=CURVE.entropy - 0.5 * (np.log(2) - CURVE.entropy), entropy_stderr=unknown)
    with pytest.raises(ValueError, match=r"got -0\.34\d* ± \? at .* or too few samples cause"):
        gmm.window(far)


def test_a_curve_that_is_cut_is_refused_unless_allowed():
    cut = CURVE.take(np.flatnonzero(CURVE.sigma > 6.0))
    with pytest.raises(ValueError, match="add times with less noise, or pass `allow_partial`"):
        gmm.window(cut)
    assert gmm.window(cut, allow_partial=True).low > np.log(6.0)


def test_a_curve_writes_its_window_in_one_call(tmp_path):
    sigmas = np.geomspace(80, 0.01, 30)
    measured = MeasuredWindow.from_curve(CURVE, samplers={"euler": sigmas}, model="mine", facts={"seed": 3})
    save_window(tmp_path / "window.json", measured)
    read = load_window(tmp_path / "window.json")
    found = gmm.window(CURVE)
    np.testing.assert_allclose(read.sigma, found.sigma, rtol=ROUNDING)
    assert (read.model, read.facts["seed"]) == ("mine", 3)
    assert read.decided is not None
    assert read.decided.share == found.decided
    step = read.samplers[0]
    # Levels are equally spaced in log(σ/α): the index is a straight line.
    wanted = (np.log(80) - np.array([found.high, found.median, found.low])) / np.log(8000) * 29
    np.testing.assert_allclose([step.first, step.median, step.last], wanted, rtol=1e-9)
    assert step.inside == (int(np.ceil(wanted[0])), int(np.floor(wanted[2])))


def test_files_of_earlier_versions_are_read(tmp_path):
    save_window(tmp_path / "window.json", MeasuredWindow.from_curve(CURVE))
    fields = json.loads((tmp_path / "window.json").read_text())
    del fields["decided"]
    (tmp_path / "old.json").write_text(json.dumps(fields))
    assert load_window(tmp_path / "old.json").decided is None


def test_levels_of_samplers_are_checked():
    found = gmm.window(CURVE)
    with pytest.raises(ValueError, match="sigmas of mine must fall"):
        SamplerSteps.from_sigmas("mine", [1.0, 2.0], found)
    with pytest.raises(ValueError, match="sigmas of mine must be positive"):
        SamplerSteps.from_sigmas("mine", [1.0, 0.0], found)
    assert SamplerSteps.from_sigmas("far", [500.0, 400.0], found).inside is None
