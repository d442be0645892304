"""Guidance on trained networks: what ships, and that it can be measured again."""

import numpy as np
import pytest

import gmm
from gmm.windows import crossing
from neural.samplers import edm_times
from paper_figures.formats.curves import unstack
from paper_figures.shipped import guided
from paper_figures.shipped import measure as measured
from theory import entropy_curve

STDERRS = 4


@pytest.mark.parametrize("name", guided.NAMES)
def test_what_ships_names_its_command_and_agrees_with_itself(name):
    found = measured.load(f"guided-{name}")
    assert found.attrs["command"] == f"python -m paper_figures.shipped.measure guided-{name}"
    assert found.attrs["format"] == measured.FORMAT
    curves = dict(zip(guided.SHOWN, unstack(found, "shown"), strict=True))
    halves = {shown: crossing(curve, 0.5 * curve.prior_entropy) for shown, curve in curves.items()}
    assert halves["none"] < halves["cfg 2"] < halves["cfg 4"]
    # Guidance below the window comes after the decision.
    assert halves["below 4"] == pytest.approx(halves["none"], abs=0.02)
    low, _, high = gmm.window(curves["none"]).sigma
    assert (float(found.window_low), float(found.window_high)) == pytest.approx((low, high))
    assert abs(float(found.plain_distance)) < STDERRS * float(found.plain_distance_stderr)
    assert (found.accuracy.sel(kind="cfg") > found.plain_accuracy).all()


def test_schedules_are_the_kinds_that_are_listed():
    curve = entropy_curve(gmm.edm(), np.geomspace(0.05, 500, 60), 16.0, family="pair")
    found = guided.schedules(curve, 3.0)
    assert tuple(found) == guided.KINDS
    low, _, high = gmm.window(curve).sigma
    assert found["below"].jumps == pytest.approx((0, low))
    assert found["above"].jumps == pytest.approx((high, np.inf))
    # ℓ starts at zero: the weight of feedback is that of the others.
    for kind in ("cfg", "feedback"):
        assert float(found[kind].weight(1.0, 0.0)) == pytest.approx(3.0, rel=1e-6)


def test_grids_span_the_same_levels():
    curve = entropy_curve(gmm.edm(), np.geomspace(0.05, 500, 60), 16.0, family="pair")
    for name in guided.GRIDS:
        times = guided.grid_times(name, curve, gmm.edm(), 8)
        assert (times[0], times[-1]) == pytest.approx((80, 0.002), rel=1e-4)
        assert (np.diff(times) < 0).all()
    np.testing.assert_allclose(guided.grid_times("edm", curve, gmm.edm(), 8), edm_times(gmm.edm(), 8))


@pytest.mark.slow
def test_a_network_is_measured_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(guided.SIZES, "tree", (128, 16, 8, 64))
    monkeypatch.setattr(guided, "WEIGHTS", (2.0,))
    monkeypatch.setattr(guided, "GRID_STEPS", (4,))
    found = guided.measure("tree", 1, tmp_path)
    shipped = measured.load("guided-tree")
    assert set(found.data_vars) == set(shipped.data_vars)
    # Errors that so few samples do not tell are unknown.
    numbers = [values for name, values in found.data_vars.items() if not str(name).endswith("_stderr")]
    assert all(np.isfinite(values).all() for values in numbers)
    assert capsys.readouterr().out.endswith("tree: grids measured\n")
