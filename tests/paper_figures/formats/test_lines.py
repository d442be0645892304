"""Lines of saved results: which curves and quantities are found in a Dataset, and under which names."""

import math

import numpy as np
import pytest
import xarray as xr

import gmm
import theory
from paper_figures.formats.curves import stack
from paper_figures.formats.lines import (
    MOST_CURVES,
    MOST_LINES,
    MOST_POINTS,
    curves_of,
    left_out,
    series_of,
)

TIMES = np.linspace(0.2, 3.0, 30)


def curve(dim, points=30):
    return theory.entropy_curve(gmm.vp(), np.linspace(0.2, 3.0, points), dim)


def test_families_come_back_as_they_were_stacked():
    first, second = [curve(10.0), curve(100.0)], [curve(50.0, 20)]
    dataset = stack(first, "dim", [10.0, 100.0]).merge(stack(second, "way", ["sampled here"], "other_"))
    found = curves_of(dataset)
    assert [(one.name, one.family) for one in found] == [
        ("dim 10", ""),
        ("dim 100", ""),
        ("sampled here", "other"),
    ]
    for one, original in zip(found, [*first, *second], strict=True):
        order = np.argsort(original.log_snr)
        for field in ("t", "log_snr", "entropy", "rate", "log_snr_slope", "clone_agreement"):
            np.testing.assert_array_equal(getattr(one.curve, field), getattr(original, field)[order])
        assert one.curve.prior_entropy == original.prior_entropy
    assert series_of(dataset) == []


def test_a_saved_curve_is_in_nats_and_its_cells_are_lines():
    pair = gmm.families.pair(dim=20)
    measured = gmm.class_entropy(pair, gmm.vp(), TIMES, key=gmm_key(), samples=64, exact=False).in_bits()
    dataset = measured.to_dataset()
    (found,) = curves_of(dataset)
    np.testing.assert_allclose(found.curve.entropy[::-1], measured.in_units("nats").entropy, rtol=1e-12)
    cells = next(series for series in series_of(dataset) if series.name == "per cell")
    assert cells.along == "noise level σ/α"
    assert [line.name for line in cells.lines] == ["cell 0", "cell 1"]
    np.testing.assert_allclose(cells.lines[1].y, measured.per_cell[:, 1], rtol=1e-12)
    np.testing.assert_allclose(cells.lines[1].x, measured.sigma, rtol=1e-12)


def gmm_key():
    import jax

    return jax.random.key(0)


def test_shorter_curves_end_where_their_points_end():
    one, two = curve(10.0, 12), curve(20.0, 30)
    padded = np.full(30, np.nan)
    fields = {}
    for name in ("t", "log_snr", "entropy", "entropy_stderr", "rate", "rate_stderr"):
        padded[:12] = getattr(one, name)
        fields[name] = (("source", "point"), np.stack([padded.copy(), getattr(two, name)]))
    dataset = xr.Dataset(fields, {"source": ["short", "long"], "classes": 5})
    short, long = curves_of(dataset)
    assert (len(short.curve.t), len(long.curve.t)) == (12, 30)
    assert short.curve.prior_entropy == math.log(5)
    assert math.isnan(curves_of(dataset.drop_vars("classes"))[0].curve.prior_entropy)


def test_quantities_have_their_errors_and_names_of_places():
    y = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, 6.0]])
    dataset = xr.Dataset(
        {
            "cost": (("way", "step"), y),
            "cost_stderr": (("way", "step"), 0.1 * y),
            "best_way": ("step", [1, 0, 1]),
        },
        {"way": ["fast", "slow"], "step": ["first", "second", "third"]},
    )
    cost, best = series_of(dataset)
    assert (cost.name, cost.along, cost.ticks) == ("cost", "step", ["first", "second", "third"])
    assert [line.name for line in cost.lines] == ["fast", "slow"]
    np.testing.assert_array_equal(cost.lines[0].x, [0, 2])
    np.testing.assert_allclose(cost.lines[0].stderr, [0.1, 0.3])
    assert [line.name for line in best.lines] == ["best way"]
    assert np.isnan(best.lines[0].stderr).all()


def test_large_results_are_thinned_and_that_is_counted():
    many = MOST_CURVES + 50
    family = stack([curve(float(d), 4) for d in range(1, many + 1)], "dim", np.arange(1.0, many + 1))
    names = [one.name for one in curves_of(family)]
    assert len(names) == MOST_CURVES
    assert (names[0], names[-1]) == ("dim 1", f"dim {many}")
    assert left_out(family) == 50
    (long,) = curves_of(stack([curve(10.0, 3 * MOST_POINTS)], "dim", [10.0]))
    assert len(long.curve.t) == MOST_POINTS
    (table,) = series_of(xr.Dataset({"y": (("a", "b"), np.ones((5 * MOST_LINES, 3)))}))
    assert len(table.lines) == MOST_LINES


def test_letters_that_do_not_print_are_escaped():
    dataset = xr.Dataset({"y": (("a", "b"), np.ones((2, 3)))}, {"a": ["\u202egpj.exe", "line\nbreak"]})
    (series,) = series_of(dataset)
    assert [line.name for line in series.lines] == [r"\u202egpj.exe", r"line\nbreak"]


@pytest.mark.parametrize("dtype", [object, "U3", "datetime64[s]"])
def test_what_is_no_number_is_no_quantity(dtype):
    values = np.array(["1", "2"], dtype="U3") if dtype != "datetime64[s]" else np.zeros(2, dtype)
    assert series_of(xr.Dataset({"y": ("a", values.astype(dtype))})) == []
