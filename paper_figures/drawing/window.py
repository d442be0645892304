"""The picture of a measured window: entropy and rate, the window shaded, and the steps of a sampler."""

import functools
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Transform

from gmm.curve import EntropyCurve, positions
from gmm.window_file import MeasuredWindow, Place, SamplerSteps
from paper_figures.drawing.style import (
    ToAxis,
    View,
    draw_entropy,
    draw_rate,
    letter_panels,
    limit_noise,
    literal,
    new_figure,
    noise_axis,
    to_axis,
)

# So many widths of the window are shown on either side of it.
_MARGIN = 1.2
# Noise levels at which a shaded span is placed: one that leaves the axis is shaded to about its end.
_SPAN_POINTS = 201
# Height of a sampler's marks, as a share of the panel.
_BOTTOM = 0.02


def draw(curve: EntropyCurve, window: MeasuredWindow, view: View) -> Figure:
    """Entropy and rate, the window shaded, the steps of the first sampler as ticks."""
    figure, axes = new_figure(1, 2, height=2.7)
    axis = view.on("sigma")
    draw_entropy(axes[0, 0], curve, view, axis, color="#1f4e9e", linestyle="-")
    draw_rate(axes[0, 1], curve, view, axis, color="#1f4e9e", linestyle="-")
    place = to_axis(curve, axis)
    low, high = np.log([window.low.sigma, window.high.sigma])
    margin = _MARGIN * (high - low)
    ends = np.clip([low - margin, high + margin], *np.log([curve.sigma.min(), curve.sigma.max()]))
    for ax in axes.flat:
        _shade(ax, window, place)
        for sampler in window.samplers[:1]:
            _mark_steps(ax, window, sampler, place, _BOTTOM, ax.get_xaxis_transform())
        ax.set_ylim(0, None)
        limit_noise(ax, curve, axis, *ends)
    rate = ["rate", *(f"and the {_steps(sampler)}" for sampler in window.samplers[:1])]
    letter_panels(axes.flat, (_heading(window), ", ".join(rate)))
    return figure


def draw_alone(window: MeasuredWindow, view: View) -> Figure:
    """The window without its curve, and below it the steps of each sampler, one row each.

    Raises:
        ValueError: for the axis t, because the file of a window does not hold the clock of its process.
    """
    axis = view.on("sigma")
    if axis == "t":
        raise ValueError(
            "axis must be sigma, log-snr or timestep for a window, got t: its file does not hold the process's clock"
        )
    place = functools.partial(_on_axis, axis)
    rows = [_steps(sampler) for sampler in window.samplers]
    figure, axes = new_figure(1, 1, height=1.2 + 0.35 * len(rows))
    ax = axes[0, 0]
    _shade(ax, window, place)
    for row, sampler in enumerate(window.samplers):
        _mark_steps(ax, window, sampler, place, row, ax.transData)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    noise_axis(ax, axis)
    letter_panels([ax], [f"{_heading(window)}; {window.share:.0%} of the information"])
    return figure


def _on_axis(axis: str, noise: np.ndarray) -> np.ndarray:
    return positions(-2 * np.asarray(noise), axis)


def _heading(window: MeasuredWindow) -> str:
    cells = ", ".join(window.cells) if len(window.cells) <= 4 else f"{len(window.cells)} {window.question}"
    return literal(f"{window.model}: {cells}"[:60])


def _steps(sampler: SamplerSteps) -> str:
    return literal(f"{sampler.steps} steps of {sampler.sampler}")


def _shade(ax: Axes, window: MeasuredWindow, place: ToAxis) -> None:
    """The window in grey, its ends and middle as lines, their 95% intervals in colour."""
    _span(ax, place, (window.low.sigma, window.high.sigma), color="0.92")
    for end in (window.low, window.median, window.high):
        _mark_place(ax, end, place, "-" if end is window.median else ":")


def _mark_place(ax: Axes, mark: Place, place: ToAxis, dashes: str) -> None:
    at = float(place(np.log(mark.sigma)))
    if np.isfinite(at):
        ax.axvline(at, color="0.35", linewidth=0.8, linestyle=dashes)
    if mark.interval is not None:
        _span(ax, place, mark.interval, color="#c98a1b", alpha=0.25, linewidth=0)


def _span(ax: Axes, place: ToAxis, sigmas: tuple[float, float], **look: Any) -> None:
    """Shade between two noise levels, as far as the axis reaches them."""
    inner = place(np.linspace(np.log(sigmas[0]), np.log(sigmas[1]), _SPAN_POINTS))
    reached = inner[np.isfinite(inner)]
    if reached.size:
        ax.axvspan(reached[0], reached[-1], zorder=0, **look)


def _mark_steps(
    ax: Axes,
    window: MeasuredWindow,
    sampler: SamplerSteps,
    place: ToAxis,
    height: float,
    transform: Transform,
) -> None:
    """One mark for each step of a sampler, in colour within the window."""
    sigmas = np.array(sampler.sigmas)
    sigmas = sigmas[sigmas > 0]  # a sampler may end without noise, where a logarithmic axis does not reach
    inside = (sigmas >= window.low.sigma) & (sigmas <= window.high.sigma)
    for chosen, color in ((inside, "#b3341f"), (~inside, "0.6")):
        ax.plot(
            place(np.log(sigmas[chosen])), np.full(chosen.sum(), height), "|", transform=transform,
            color=color, markersize=7, linestyle="none",
        )  # fmt: skip
