"""The picture of one entropy curve."""

import numpy as np
from matplotlib.figure import Figure

from gmm.curve import EntropyCurve
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.formats.curves import window_or_none


def draw(curve: EntropyCurve, view: View) -> Figure:
    """The curve's entropy and its rate, the window shaded where the curve holds it."""
    figure, axes = style.new_figure(1, 2, height=2.6)
    axis = view.on("sigma")
    style.draw_entropy(axes[0, 0], curve, view, axis, label="entropy")
    if curve.cross_entropy is not None:
        shown = curve.in_units(view.units)
        line = {"label": "cross-entropy", "linestyle": "--"}
        style.band(axes[0, 0], curve.axis(axis), shown.cross_entropy, shown.cross_entropy_stderr, **line)
        axes[0, 0].legend()
    style.draw_rate(axes[0, 1], curve, view, axis)
    style.letter_panels(axes.flat, ("entropy", "rate"))
    window = window_or_none(curve)
    if window is not None:
        ends = style.to_axis(curve, axis)(np.array([window.low, window.high]))
        for ax in axes.flat:
            if np.isfinite(ends).all():
                ax.axvspan(*ends, color="0.93", zorder=0)
    return figure
