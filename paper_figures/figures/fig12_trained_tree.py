"""A trained network against quadrature: every level of a tree of classes, by both estimators."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm.curve import EntropyCurve
from gmm.landmarks import LANDMARKS
from neural.models import load_model
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import stack, unstack
from paper_figures.formats.numbers import Number, attach, number
from paper_figures.shipped import measure as measured

CAPTION = """
A network trained on samples of eight Gaussian classes in a binary tree of three levels in 64 dimensions
(zoo:tree), against quadrature. (a) Entropy of each level's decision: lines are exact, markers the trained network's own
posterior along its stochastic trajectories, with bars of two standard errors. (b) Their rates. (c) Where each level
decides: bars are the exact windows that hold the central 80% of the information, markers the ends and the median as
the network has them, by the online posterior (circles) and by the denoiser gap on samples (crosses). (d-f) The
network's entropy minus the exact one, one level each: by the online posterior (solid) and by the gap (dashed, red),
with bands of two standard errors. Exact curves are computed; those of the network are
shipped results of `python -m paper_figures.shipped.measure tree`.
"""

LEVELS = ("coarse", "middle", "fine")
_GAP_COLOR = "#b3341f"  # that of the gap in the pictures of comparisons


def compute(settings: Settings) -> xr.Dataset:
    """The shipped curves of the network, and quadrature at their noise levels and between."""
    shipped = measured.load("tree").drop_attrs()
    spec = measured.family_of(load_model("zoo:tree"))
    times = np.geomspace(float(shipped.t.max()), float(shipped.t.min()), settings.size(161, 81))
    curves = measured.exact_tree(spec, times)
    exact = stack(curves, "level", list(shipped.level.values), prefix="exact_")
    here = measured.exact_tree(spec, shipped.t.values[0, 0])
    dataset = xr.merge([shipped, exact]).assign(here=(("level", "point"), [curve.entropy for curve in here]))
    return attach(dataset, _numbers(dataset))


def _numbers(dataset: xr.Dataset) -> list[Number]:
    numbers = []
    for level, name in zip(dataset.level.values, LEVELS, strict=True):
        part = dataset.sel(level=level, estimator=measured.ONLINE)
        for place in ("low", "median", "high"):
            at = LANDMARKS.index(place)
            label = f"{name} level, log σ at the {'middle' if place == 'median' else place + ' end'} of its window"
            value, stderr = part.landmark[at], part.landmark_stderr[at]
            numbers.append(number(label, value, stderr, part.exact_landmark[at]))
    for estimator in dataset.estimator.values:
        off = dataset.landmark.sel(estimator=estimator) - dataset.exact_landmark
        numbers.append(
            number(f"{estimator}: largest error of a window in log σ", float(np.abs(off[:, 2:]).max()))
        )
        gap = np.abs(dataset.entropy.sel(estimator=estimator) - dataset.here).max("point")
        numbers.append(number(f"{estimator}: largest error of an entropy (nat)", float(gap.max())))
    return numbers


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Entropies, rates, windows; differences, one panel for each level."""
    figure, axes = style.new_figure(2, 3, height=4.6)
    for ax in axes[1, 1:]:
        ax.sharey(axes[1, 0])
    axis = view.on("sigma")
    lines = style.sequence(len(LEVELS))
    exact = unstack(dataset, "level", "exact_")
    for row, (curve, name, line) in enumerate(zip(exact, LEVELS, lines, strict=True)):
        part, line = dataset.isel(level=row), {**line, "linestyle": "-"}
        style.draw_entropy(axes[0, 0], curve, view, axis, label=name, **line)
        style.draw_rate(axes[0, 1], curve, view, axis, label=name, **line)
        online, _ = unstack(part, "estimator")
        marks = {"every": slice(None, None, 5), "fmt": "o", "markersize": 2.5, "color": line["color"]}
        style.mark_entropy(axes[0, 0], online, view, axis, **marks)
        style.mark_rate(axes[0, 1], online, view, axis, **marks)
        _draw_difference(axes[1, row], part, line["color"], view, axis)
    _draw_windows(axes[0, 2], dataset, exact, lines, axis)
    axes[1, 0].set_ylabel(f"network − exact  ({view.unit})")
    axes[0, 0].legend(title="level")
    axes[1, 0].legend()
    names = ("entropy", "rate", "windows", *(f"network against exact: {name}" for name in LEVELS))
    style.letter_panels(axes.flat, names)
    style.noise_axis(axes[0, 2], axis)
    return figure


def _draw_difference(ax: Axes, part: xr.Dataset, color: Any, view: View, axis: str) -> None:
    """Both estimators minus the exact entropy, at one level."""
    looks = ({"linestyle": "-", "color": color}, {"linestyle": "--", "color": _GAP_COLOR})
    for estimate, of, look in zip(unstack(part, "estimator"), ("online", "gap"), looks, strict=True):
        off, stderr = estimate.entropy - part.here.values, estimate.entropy_stderr
        style.band(ax, estimate.axis(axis), view.information(off), view.information(stderr), label=of, **look)
    ax.axhline(0, color="0.5", linewidth=0.8)
    style.noise_axis(ax, axis)


def _draw_windows(
    ax: Axes, dataset: xr.Dataset, exact: list[EntropyCurve], lines: list[dict], axis: str
) -> None:
    places = [LANDMARKS.index(name) for name in ("low", "median", "high")]
    for row, (level, curve) in enumerate(zip(dataset.level.values, exact, strict=True)):
        on_axis = style.to_axis(curve, axis)
        part = dataset.sel(level=level)
        low, _, high = on_axis(part.exact_landmark.values[places])
        ax.barh(row, high - low, left=low, height=0.5, color=lines[row]["color"], alpha=0.3)
        for estimator, marker, shift in zip(dataset.estimator.values, "ox", (-0.12, 0.12), strict=True):
            value = part.landmark.sel(estimator=estimator).values[places]
            ax.plot(on_axis(value), np.full(3, row + shift), marker, color=lines[row]["color"], markersize=4)
    ax.set_yticks(range(len(LEVELS)), LEVELS)
    ax.invert_yaxis()
