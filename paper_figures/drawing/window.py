"""The picture of a measured window: entropy and rate, the window shaded, and the steps of a sampler."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm.curve import EntropyCurve
from gmm.window_file import MeasuredWindow
from paper_figures.drawing.style import View, draw_entropy, draw_rate, letter_panels, new_figure, positions


def draw(curve: EntropyCurve, window: MeasuredWindow, view: View) -> Figure:
    """Entropy and rate, the window shaded, the steps of the first sampler as ticks."""
    figure, axes = new_figure(1, 2, height=2.7)
    axis = view.on("sigma")
    draw_entropy(axes[0, 0], curve, view, axis, color="#1f4e9e", linestyle="-")
    draw_rate(axes[0, 1], curve, view, axis, color="#1f4e9e", linestyle="-")
    noise, shown = positions(curve, axis)

    def to_axis(sigma: Any) -> Any:
        return np.interp(np.log(sigma), noise, shown)

    for ax in axes.flat:
        _shade(ax, window, to_axis)
        ax.set_ylim(0, None)
        low, high = np.log([window.low.sigma, window.high.sigma])
        margin = 1.2 * (high - low)
        ends = np.clip([low - margin, high + margin], noise[0], noise[-1])
        ax.set_xlim(*to_axis(np.exp(ends)))
        if axis == "log-snr":
            ax.set_xlim(*sorted(ax.get_xlim(), reverse=True))
    cells = ", ".join(window.cells) if len(window.cells) <= 4 else f"{len(window.cells)} {window.question}"
    steps = window.samplers[0]
    what = (f"{window.model}: {cells}"[:60], f"rate, and the {steps.steps} steps of {steps.sampler}")
    letter_panels(axes.flat, what)
    return figure


def _shade(ax: Axes, window: MeasuredWindow, to_axis: Callable[[Any], Any]) -> None:
    low, high = to_axis(window.low.sigma), to_axis(window.high.sigma)
    ax.axvspan(low, high, color="0.92", zorder=0)
    for place in (window.low, window.median, window.high):
        ax.axvline(
            to_axis(place.sigma),
            color="0.35",
            linewidth=0.8,
            linestyle="-" if place is window.median else ":",
        )
        if place.interval is not None:
            ax.axvspan(*to_axis(np.array(place.interval)), color="#c98a1b", alpha=0.25, zorder=0, linewidth=0)
    sigmas = np.array(window.samplers[0].sigmas)
    inside = (sigmas >= window.low.sigma) & (sigmas <= window.high.sigma)
    for chosen, color in ((inside, "#b3341f"), (~inside, "0.6")):
        ax.plot(
            to_axis(sigmas[chosen]), np.full(chosen.sum(), 0.02), "|", transform=ax.get_xaxis_transform(),
            color=color, markersize=7, linestyle="none",
        )  # fmt: skip
