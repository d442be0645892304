"""The picture of guidance schedules on a model."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from gmm.curve import EntropyCurve
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.studies.guidance import MeasuredSchedule

# A curve is shown where its rate is above this share of the largest, and one e-fold of noise beyond.
_SHOWN_RATE = 0.002


def draw(measured: Sequence[MeasuredSchedule], view: View) -> Figure:
    """Entropy, its rate, cross-entropy, and the weight against noise."""
    figure, axes = style.new_figure(2, 2, height=5.0)
    axis = view.on("sigma")
    for one, line in zip(measured, style.kinds(len(measured)), strict=True):
        style.draw_entropy(axes[0, 0], one.curve, view, axis, label=style.literal(one.name), **line)
        style.draw_rate(axes[0, 1], one.curve, view, axis, **line)
        shown, noise = one.curve.in_units(view.units), one.curve.axis(axis)
        style.band(axes[1, 0], noise, shown.cross_entropy, shown.cross_entropy_stderr, **line)
        order = np.argsort(noise)
        axes[1, 1].plot(noise[order], one.weight[order], **line)
    axes[1, 0].set_ylabel(rf"$E[-\log p(\mathrm{{target}}\,|\,x_t)]$  ({view.unit})")
    axes[1, 1].set_ylabel("mean weight $w$")
    limits = _where_decided([one.curve for one in measured], axis)
    for ax in axes.flat:
        style.noise_axis(ax, axis)
        ax.set_xlim(*limits)
    names = ("entropy along guided paths", "information produced", "surprise of the target", "weight")
    style.letter_panels(axes.flat, names)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=min(len(measured), 5))
    return figure


def _where_decided(curves: Sequence[EntropyCurve], axis: str) -> tuple[float, float]:
    """The part of the axis where information is produced, with a margin of one e-fold of noise on either side."""
    lows, highs = [], []
    for curve in curves:
        rate = np.abs(curve.rate_per_log_noise()[0])
        seen = np.log(curve.sigma)[rate > _SHOWN_RATE * np.nanmax(rate)]
        noise, places = style.positions(curve, axis)
        for ends, at in ((lows, seen.min() - 1), (highs, seen.max() + 1)):
            ends.append(places[int(np.argmin(np.abs(noise - at)))])
    both = np.array([lows, highs])
    rising = both[0, 0] <= both[1, 0]
    low, high = float(np.nanmin(both)), float(np.nanmax(both))
    return (low, high) if rising else (high, low)
