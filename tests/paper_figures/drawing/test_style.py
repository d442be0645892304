"""How curves are drawn on a chosen axis in chosen units."""

import itertools
import math
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import gmm
from paper_figures.drawing.style import (
    BAND_STDERRS,
    View,
    band,
    draw_entropy,
    draw_rate,
    entropy_label,
    lay_out,
    letter_panels,
    new_figure,
    noise_axis,
    paper_style,
    positions,
    power_label,
    rate_label,
    sequence,
)
from theory import entropy_curve

CURVE = entropy_curve(gmm.vp(), np.linspace(0.1, 4.0, 30), 20.0)


def test_style_is_ours_whatever_the_user_has_set():
    with mpl.rc_context({"font.size": 31, "axes.grid": False}):
        with paper_style():
            assert mpl.rcParams["font.size"] == 8
            assert mpl.rcParams["axes.grid"]
        assert mpl.rcParams["font.size"] == 31


def test_lightness_orders_a_family():
    shades = [mpl.colors.to_rgb(line["color"]) for line in sequence(8)]
    # Rec. 601 luma: what a grey printer makes of a colour.
    luma = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in shades]
    assert np.all(np.diff(luma) > 0.05)
    assert max(luma) < 0.85


def test_neighbours_differ_in_dashes():
    dashes = [str(line["linestyle"]) for line in sequence(8)]
    assert all(a != b for a, b in itertools.pairwise(dashes))


def test_view_scales_information_and_keeps_a_panels_axis():
    assert View(units="bits").information(math.log(2)) == pytest.approx(1.0)
    assert View().information(0.3) == 0.3
    assert View().on("sigma") == "sigma"
    assert View("log-snr").on("sigma") == "log-snr"


def test_positions_are_those_that_an_axis_reaches():
    curve = entropy_curve(gmm.edm(), np.geomspace(80, 0.002, 40), 20.0)
    noise, shown = positions(curve, "sigma")
    np.testing.assert_allclose(shown, np.geomspace(0.002, 80, 40), rtol=1e-12)
    np.testing.assert_allclose(noise, np.log(shown), rtol=1e-12)
    # Stable Diffusion's chain ends at σ/α = 14.6 and begins at 0.029 (published constants of its schedule).
    noise, shown = positions(curve, "timestep")
    assert 0 < len(noise) < 40
    assert (np.exp(noise[[0, -1]]) > [0.0292, 11]).all()
    assert (np.exp(noise[[0, -1]]) < [0.04, 14.62]).all()
    assert (np.diff(shown) > 0).all()
    assert shown[0] >= 0
    assert shown[-1] <= 999
    with pytest.raises(ValueError, match="axis must reach the curve's noise levels, got timestep"):
        positions(entropy_curve(gmm.edm(), [20.0, 40.0], 20.0), "timestep")


@pytest.mark.parametrize("axis", gmm.curve.AXES)
def test_curve_is_drawn_where_it_says(axis):
    ax = Figure().subplots()
    draw_entropy(ax, CURVE, View(units="bits"), axis)
    x, y = ax.lines[0].get_data()
    order = np.argsort(CURVE.axis(axis))
    np.testing.assert_array_equal(x, CURVE.axis(axis)[order])
    np.testing.assert_allclose(y, CURVE.entropy[order] / math.log(2))


def test_rate_belongs_to_its_axis():
    ax = Figure().subplots()
    draw_rate(ax, CURVE, View(), "t")
    draw_rate(ax, CURVE, View(), "log-snr")
    over_t, over_noise = (line.get_data()[1] for line in ax.lines)
    np.testing.assert_array_equal(over_t, CURVE.rate)
    # dH/d log(σ/α) = dH/dt · (-2)/(dλ/dt); drawn with noise growing to the right.
    np.testing.assert_allclose(over_noise[::-1], -2 * CURVE.rate / CURVE.log_snr_slope)
    assert rate_label(View(), "t") != rate_label(View(), "sigma")
    assert "bit" in entropy_label(View(units="bits"))


def test_band_is_two_standard_errors():
    ax = Figure().subplots()
    band(ax, [2.0, 1.0], [5.0, 3.0], [0.5, 0.25])
    edges = ax.collections[0].get_paths()[0].vertices
    assert edges[:, 1].max() == 5 + BAND_STDERRS * 0.5
    assert edges[:, 1].min() == 3 - BAND_STDERRS * 0.25
    band(ax, [1.0, 2.0], [1.0, 2.0])
    assert len(ax.collections) == 1


def test_noise_grows_to_the_right():
    ax = Figure().subplots()
    noise_axis(ax, "log-snr")
    noise_axis(ax, "log-snr")
    assert ax.xaxis_inverted()
    other = Figure().subplots()
    noise_axis(other, "sigma")
    assert other.get_xscale() == "log"


def test_labels_of_numbers():
    assert [power_label(v) for v in (2, 10, 100.0, 1e12, 4000)] == [
        "2",
        "10",
        "$10^{2}$",
        "$10^{12}$",
        "4000",
    ]


def test_layout_is_placed_once():
    with paper_style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        picture, axes = new_figure(1, 2, height=2)
        letter_panels(axes.flat, ("one", "other"))
        lay_out(picture)
        first = axes[0, 1].get_position().bounds
        picture.draw_without_rendering()
        assert axes[0, 1].get_position().bounds == first
