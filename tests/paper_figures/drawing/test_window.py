"""The picture of a measured window."""

import dataclasses

import numpy as np
import pytest

import gmm
from gmm.window_file import MeasuredWindow, Place, SamplerSteps
from paper_figures.drawing.style import View
from paper_figures.drawing.window import draw, draw_alone
from theory import entropy_curve

LOW, MEDIAN, HIGH = 0.095, 0.9, 7.0


def place(sigma, interval=None):
    return Place(sigma, -2 * float(np.log(sigma)), sigma, 0.1, interval)


WINDOW = MeasuredWindow(
    model="m", question="classes", cells={"a": (0,), "b": (1,)}, process="edm()", share=0.8,
    prior_entropy=0.69, low=place(LOW, (0.08, 0.11)), median=place(MEDIAN), high=place(HIGH),
    samplers=(SamplerSteps("edm", 4, (40.0, 4.0, 0.4, 0.0)), SamplerSteps("time", 2, (9.0, 1.0))),
)  # fmt: skip


@pytest.mark.parametrize("axis", [None, *gmm.curve.AXES])
def test_marks_are_where_the_window_ends_on_a_coarse_grid(axis):
    curve = entropy_curve(gmm.edm(), np.geomspace(40, 0.03, 10), 4.0)
    figure = draw(curve, WINDOW, View(axis))
    for ax in figure.axes:
        lines = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]
        places = np.array([LOW, MEDIAN, HIGH])
        if axis == "log-snr":
            places = -2 * np.log(places)
        if axis == "timestep":
            # Independently: the chain's table of log SNR (betas linear in their square root).
            betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
            alpha2 = np.cumprod(1 - betas)
            places = np.interp(
                -2 * np.log(places), np.log(alpha2 / (1 - alpha2))[::-1], np.arange(1000.0)[::-1]
            )
        np.testing.assert_allclose(lines[:3], places, rtol=5e-3 if axis == "t" else 1e-9)


def test_steps_are_marked_inside_and_outside():
    inside, outside = draw_alone(WINDOW, View()).axes[0].lines[3:5]
    np.testing.assert_allclose(inside.get_xdata(), [4.0, 0.4])
    np.testing.assert_allclose(outside.get_xdata(), [40.0])  # a step without noise has no place


def test_window_without_samplers_is_drawn():
    bare = dataclasses.replace(WINDOW, samplers=())
    curve = entropy_curve(gmm.edm(), np.geomspace(40, 0.03, 10), 4.0)
    assert draw(curve, bare, View()).axes[1].get_title().endswith("rate")
    assert len(draw_alone(bare, View("log-snr")).axes[0].lines) == 3


def test_window_alone_has_no_clock():
    with pytest.raises(ValueError, match="axis must be sigma, log-snr or timestep for a window, got t"):
        draw_alone(WINDOW, View("t"))
