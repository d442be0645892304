"""The picture of guidance schedules."""

import dataclasses
import math

import numpy as np
import pytest

import gmm
from paper_figures.drawing.guidance import draw, draw_schedules
from paper_figures.drawing.style import View
from paper_figures.studies.guidance import MeasuredSchedule, weights_at_levels
from theory import entropy_curve

INTERVAL = gmm.limited_interval(3.0, 0.2, 1.5)


def measured(schedule, levels=12):
    curve = entropy_curve(gmm.edm(), np.geomspace(300, 0.02, levels), 400.0)
    # Far from the decision the surprise leaves the scale.
    surprise = np.where(curve.sigma < 0.05, 1e3, curve.entropy)
    curve = dataclasses.replace(curve, cross_entropy=surprise, cross_entropy_stderr=0 * surprise)
    return MeasuredSchedule("s", schedule, curve, np.asarray(schedule.weight(curve.sigma), float))


def test_an_interval_is_a_rectangle_within_the_axis():
    _, _, surprise, weight = draw([measured(gmm.cfg(1.0)), measured(INTERVAL)], View()).axes
    noise, w = weight.lines[1].get_data()
    low, high = weight.get_xlim()
    assert low < 0.2 < 1.5 < high
    assert set(w) == {1.0, 3.0}
    rises, falls = noise[1:][np.diff(w) > 0], noise[1:][np.diff(w) < 0]
    np.testing.assert_allclose([rises[0], falls[0]], [0.2, 1.5], rtol=1e-6)
    assert surprise.get_ylim()[1] < 1  # H[Z] = 0.69: not the values outside the axis


def test_weights_at_levels_have_both_sides_of_a_jump():
    noise, weight = weights_at_levels(INTERVAL, (math.log(0.1), math.log(10)), 3)
    assert len(noise) == 3 + 4
    assert np.all(np.diff(noise) > 0)
    np.testing.assert_array_equal(weight, [1, 1, 3, 3, 3, 1, 1])


def test_schedules_alone_have_a_panel_for_each_cause():
    every = {"cfg": gmm.cfg(2.0), "i": INTERVAL, "f": gmm.feedback(), "p": gmm.power_law(2.0)}
    figure = draw_schedules(every, View("log-snr"))
    assert [len(ax.lines) for ax in figure.axes] == [2, 1, 1]
    with pytest.raises(ValueError, match="axis must be sigma, log-snr or timestep for schedules, got t"):
        draw_schedules(every, View("t"))
