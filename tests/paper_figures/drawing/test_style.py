"""How curves are drawn on a chosen axis in chosen units."""

import dataclasses
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
    fit_height,
    lay_out,
    letter_panels,
    log_ticks,
    new_figure,
    noise_axis,
    paper_style,
    power_label,
    rate_label,
    say_contradiction,
    sequence,
    short_power,
    to_axis,
)
from theory import entropy_curve

CURVE = entropy_curve(gmm.vp(), np.linspace(0.1, 4.0, 30), 20.0)


def test_style_is_ours_whatever_the_user_has_set():
    with mpl.rc_context({"font.size": 31, "axes.grid": False}):
        with paper_style():
            assert mpl.rcParams["font.size"] == 8
            assert mpl.rcParams["axes.grid"]
        assert mpl.rcParams["font.size"] == 31


def test_contradictions_are_said_in_the_panel():
    impossible = dataclasses.replace(CURVE, entropy=CURVE.entropy - 1.0)
    _, ax = new_figure(1, 1, height=2.0)
    say_contradiction(ax[0, 0], {"right": CURVE})
    assert not ax[0, 0].texts
    say_contradiction(ax[0, 0], {"right": CURVE, "wrong": impossible})
    (text,) = ax[0, 0].texts
    assert text.get_text() == "wrong: outside 0..$H[Z]$,\nthe network contradicts itself"


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


@pytest.mark.parametrize("axis", gmm.curve.AXES)
def test_places_between_points_of_a_coarse_curve_are_exact(axis):
    """At the noise levels of a fine curve a coarse one puts its marks where the fine one has its points."""
    coarse = entropy_curve(gmm.vp(), np.geomspace(0.01, 6, 12), 20.0)
    fine = entropy_curve(gmm.vp(), np.geomspace(0.0101, 5.99, 300), 20.0)
    found, true = to_axis(coarse, axis)(np.log(fine.sigma)), fine.axis(axis)
    # A cubic through twelve times; the other axes are formulas.
    np.testing.assert_allclose(found, true, rtol=5e-3 if axis == "t" else 1e-12)


def test_an_axis_that_reaches_no_noise_level_is_refused():
    # Stable Diffusion's chain ends at σ/α = 14.6 (published constants of its schedule).
    curve = entropy_curve(gmm.edm(), np.geomspace(80, 0.002, 40), 20.0)
    assert np.isfinite(to_axis(curve, "timestep")(np.log([0.03, 14.5]))).all()
    assert np.isnan(to_axis(curve, "timestep")(np.log([0.029, 14.7]))).all()
    with pytest.raises(ValueError, match="axis must reach the curve's noise levels, got timestep"):
        to_axis(entropy_curve(gmm.edm(), [20.0, 40.0], 20.0), "timestep")


@pytest.mark.parametrize("ends", [(2.6, 11), (3, 3.1), (1, 40), (0.002, 80), (1e-4, 1e6), (9, 2e4)])
@pytest.mark.parametrize("width", [1.4, 3.5])
def test_labels_of_a_noise_axis_do_not_run_into_each_other(ends, width):
    with paper_style():
        figure = Figure(figsize=(width, 2), layout="constrained")
        ax = figure.subplots()
        noise_axis(ax, "sigma")
        ax.set_xlim(*ends)
        lay_out(figure)
        figure.draw_without_rendering()
        shown = [label for label in ax.get_xticklabels(which="both") if label.get_text()]
        boxes = [label.get_window_extent() for label in shown]
    boxes = sorted(
        (box.x0, box.x1) for box in boxes if ax.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= ax.bbox.x1 + 1
    )
    assert len(boxes) >= 2
    assert all(first[1] < second[0] for first, second in itertools.pairwise(boxes))


def test_labels_of_ticks():
    shown = [short_power(value) for value in (0.01, 0.5, 1000, 1e4, 2e4, 1e-6)]
    assert shown == ["0.01", "0.5", "1000", "$10^{4}$", r"$2\times 10^{4}$", "$10^{-6}$"]


def test_titles_do_not_run_into_the_next_panel():
    long = r"entropy: a name that is much longer than a panel is wide, with $\alpha = 3$ and \$5 in it"
    with paper_style():
        picture, axes = new_figure(2, 2, height=4)
        letter_panels(axes.flat, (long, long, "short", long))
        lay_out(picture)
        boxes = [ax.set_title(ax.get_title("left"), loc="left").get_window_extent() for ax in axes.flat]
        edges = [ax.get_window_extent() for ax in axes.flat]
    assert boxes[0].x1 < edges[1].x0
    assert boxes[1].x1 <= picture.bbox.width
    assert boxes[3].y1 < edges[1].y0
    assert axes[1, 0].get_title("left").endswith("short")
    assert axes[0, 0].get_title("left").replace("\n", " ").endswith(long)
    assert r"$\alpha = 3$" in axes[0, 0].get_title("left")


def test_height_follows_what_is_shown():
    ax = Figure().subplots()
    ax.plot([0.0, 1, 2, 3], [0.0, 1, 2, 100])
    ax.fill_between([0.0, 1, 3], [-1.0, 0, 0], [0.0, 2, 50], alpha=0.1)
    ax.axhline(-70)
    ax.set_xlim(0, 2.5)
    fit_height(ax)
    low, high = ax.get_ylim()
    assert -1.5 < low < -1
    assert 2 < high < 2.5


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
    assert "nat per unit $t$" in rate_label(View(), "t")
    assert "per unit" not in rate_label(View(), "sigma")  # the logarithm of a ratio has no unit
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


def test_a_logarithmic_axis_may_have_nothing_on_it():
    """As the windows of a network that decides nothing leave it."""
    with paper_style():
        picture, axes = new_figure(1, 1, height=2)
        axes[0, 0].hlines([0, 1], [np.nan] * 2, [np.nan] * 2)
        axes[0, 0].plot([np.nan] * 2, [0, 1], "o")
        axes[0, 0].invert_yaxis()
        log_ticks(axes[0, 0])
        lay_out(picture)
        assert min(axes[0, 0].get_xlim()) > 0
