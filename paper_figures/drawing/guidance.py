"""The picture of guidance schedules on a model, and of schedules alone."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gmm.curve import positions
from gmm.guidance import Guidance
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.studies.guidance import MeasuredSchedule, weights_at_levels

# A curve is shown where its rate is above this share of the largest, and one e-fold of noise beyond.
_SHOWN_RATE = 0.002
# Noise levels at which a schedule's weight is drawn, besides both sides of its jumps.
_LEVELS = 401
# Where schedules alone are drawn: noise levels σ/α, log likelihood ratios, lengths of the guidance vector.
_ALL_LEVELS, _RATIOS, _GAPS = (0.01, 100.0), (-4.0, 4.0), (0.0, 20.0)


def draw(measured: Sequence[MeasuredSchedule], view: View) -> Figure:
    """Entropy, its rate, cross-entropy, and the weight against noise."""
    figure, axes = style.new_figure(2, 2, height=5.0)
    axis = view.on("sigma")
    low, high = _where_decided(measured)
    for guided, line in zip(measured, style.kinds(len(measured)), strict=True):
        style.draw_entropy(axes[0, 0], guided.curve, view, axis, label=style.literal(guided.name), **line)
        style.draw_rate(axes[0, 1], guided.curve, view, axis, **line)
        shown, noise = guided.curve.in_units(view.units), guided.curve.axis(axis)
        style.band(axes[1, 0], noise, shown.cross_entropy, shown.cross_entropy_stderr, **line)
        _draw_weight(axes[1, 1], guided, axis, (low, high), line)
    axes[1, 0].set_ylabel(rf"$E[-\log p(\mathrm{{target}}\,|\,x_t)]$  ({view.unit})")
    axes[1, 1].set_ylabel("mean weight $w$")
    for ax in axes.flat:
        style.noise_axis(ax, axis)
        style.limit_noise(ax, measured[0].curve, axis, low, high)
        style.fit_height(ax)
    names = ("entropy along guided paths", "information produced", "surprise of the target", "weight")
    style.letter_panels(axes.flat, names)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=min(len(measured), 5))
    return figure


def _draw_weight(
    ax: Axes, guided: MeasuredSchedule, axis: str, ends: tuple[float, float], line: dict
) -> None:
    """The weight itself where it depends on the noise level alone, else its mean at the curve's points."""
    if guided.schedule.of_state:
        order = np.argsort(guided.curve.sigma)
        ax.plot(guided.curve.axis(axis)[order], guided.weight[order], **line)
        return
    noise, weight = weights_at_levels(guided.schedule, ends, _LEVELS)
    ax.plot(style.to_axis(guided.curve, axis)(noise), weight, **line)


def _where_decided(measured: Sequence[MeasuredSchedule]) -> tuple[float, float]:
    """log(σ/α) between which information is produced and weights jump, with one e-fold of noise on either side."""
    places = [
        math.log(level) for guided in measured for level in guided.schedule.jumps if 0 < level < math.inf
    ]
    for guided in measured:
        rate = np.abs(guided.curve.rate_per_log_noise()[0])
        places += np.log(guided.curve.sigma)[rate > _SHOWN_RATE * np.nanmax(rate)].tolist()
    return min(places) - 1, max(places) + 1


def draw_schedules(schedules: Mapping[str, Guidance], view: View) -> Figure:
    """Schedules without a model: one panel for each thing that their weights depend on.

    Raises:
        ValueError: for an axis that belongs to a process.
    """
    axis = view.on("sigma")
    if axis == "t":
        raise ValueError(
            "axis must be sigma, log-snr or timestep for schedules, got t: they belong to no process"
        )
    names = {
        "noise": [name for name, schedule in schedules.items() if not schedule.of_state],
        "ratio": [name for name, schedule in schedules.items() if schedule.of_state and schedule.needs_ratio],
        "gap": [
            name for name, schedule in schedules.items() if schedule.of_state and not schedule.needs_ratio
        ],
    }
    draws = {"noise": _over_noise, "ratio": _over_ratio, "gap": _over_gap}
    panels = [kind for kind, shown in names.items() if shown]
    figure, axes = style.new_figure(1, len(panels), height=3.0)
    looks = dict(zip(schedules, style.kinds(len(schedules)), strict=True))
    for ax, kind in zip(axes.flat, panels, strict=True):
        for name in names[kind]:
            draws[kind](ax, schedules[name], axis, looks[name])
        ax.set_ylabel("weight $w$")
    words = {"noise": "by the noise level", "ratio": "by the posterior", "gap": "by the guidance vector"}
    style.letter_panels(axes.flat, [words[kind] for kind in panels])
    handles = [Line2D([], [], label=style.literal(name), **look) for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
    return figure


def _over_noise(ax: Axes, schedule: Guidance, axis: str, line: dict) -> None:
    noise, weight = weights_at_levels(schedule, tuple(np.log(_ALL_LEVELS)), _LEVELS)
    ax.plot(positions(-2 * noise, axis), weight, **line)
    style.noise_axis(ax, axis)


def _over_ratio(ax: Axes, schedule: Guidance, _: str, line: dict) -> None:
    ratio = np.linspace(*_RATIOS, _LEVELS)
    ax.plot(ratio, np.asarray(schedule.weight(1.0, schedule.of_exact(ratio, 0))), **line)
    ax.set_xlabel(r"$\log p(x_t|c)/p(x_t)$")


def _over_gap(ax: Axes, schedule: Guidance, _: str, line: dict) -> None:
    gap = np.linspace(*_GAPS, _LEVELS)
    ax.plot(gap, np.asarray(schedule.weight(1.0, 0.0, gap)), **line)
    ax.set_xlabel(r"length of the guidance vector, $\Vert D_c - D_0\Vert\,\alpha/\sigma$")
