"""The picture of a comparison."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures.drawing import style, u_turn
from paper_figures.drawing.view import View
from paper_figures.studies.comparison import ASKS, asks_of, compared, curve_of, difference
from paper_figures.studies.sources import GAP, LABELS, ONLINE

# What is exact is black and grey, what is trained has colour.
_LOOKS = {
    LABELS["exact"]: {"color": "black", "linestyle": "-"},
    LABELS["empirical"]: {"color": "black", "linestyle": "-"},
    LABELS["gaussian"]: {"color": "0.5", "linestyle": (0, (5, 1.2))},
    LABELS["mixture"]: {"color": "0.5", "linestyle": (0, (1, 1))},
    ONLINE: {"color": "#1f4e9e", "linestyle": "-"},
    GAP: {"color": "#b3341f", "linestyle": (0, (5, 1.2))},
}
# Share of the largest rate above which a curve counts as deciding, when a picture's noise range is chosen.
_DECIDING = 0.01
_MARGIN = 0.08


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Entropy and rate of every level; then where each source decides, and how they differ."""
    levels = [str(level) for level in dataset.level.values]
    has_turns = "u_turn" in dataset
    rows = len(levels) + 1 + has_turns
    figure, axes = style.new_figure(rows, 2, height=0.7 + 2.3 * rows)
    reference = str(dataset.attrs["reference"])
    axis = view.on("sigma")
    looks = _looks([str(source) for source in dataset.source.values])
    titles = []
    for row, level in enumerate(levels):
        _draw_level(axes[row], dataset, level, looks, view, axis)
        name = "" if len(levels) == 1 else f": {style.literal(level)}"
        titles += [f"entropy{name}", f"rate{name}"]
    below = axes[len(levels)]
    _draw_places(below[0], dataset, looks, axis)
    titles += ["half entropy and the central 80%"]
    if compared(dataset):
        _draw_differences(below[1], dataset, reference, looks, view, axis)
        titles += [f"difference from {style.literal(reference)}"]
    else:
        below[1].remove()
        below[0].set_subplotspec(below[0].get_gridspec()[len(levels), :])
    if has_turns:
        any_curve = curve_of(dataset, str(dataset.source.values[0]), levels[0])
        u_turn.draw(axes[-1], dataset, looks, style.to_axis(any_curve, axis))
        titles += ["forward and back", "U-turns against the measured posterior"]
        for ax in axes[-1]:
            style.noise_axis(ax, axis)
    style.letter_panels(figure.axes, titles)
    for ax in figure.axes:
        _zoom(ax, dataset, axis)
    if compared(dataset):
        style.fit_height(below[1])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
    return figure


def _looks(sources: list[str]) -> dict[str, dict]:
    others = [source for source in sources if source not in _LOOKS]
    return _LOOKS | dict(zip(others, style.sequence(len(others)), strict=True))


def _draw_level(
    axes: np.ndarray, dataset: xr.Dataset, level: str, looks: dict[str, dict], view: View, axis: str
) -> None:
    for source in map(str, dataset.source.values):
        curve = curve_of(dataset, source, level)
        style.draw_entropy(axes[0], curve, view, axis, label=style.literal(source), **looks[source])
        style.draw_rate(axes[1], curve, view, axis, **looks[source])
    style.say_contradiction(
        axes[0], {s: curve_of(dataset, s, level) for s in map(str, dataset.source.values)}
    )
    asked = set(asks_of(dataset).values())
    if asked - {ASKS["classes"]}:
        what = "posterior entropy" if ASKS["classes"] in asked else r"$H[\mathrm{class\ or\ all}\,|\,X_t]$"
        axes[0].set_ylabel(f"{what}  ({view.unit})")
    for ax in axes:
        ax.set_ylim(0, None)


def _draw_places(ax: Axes, dataset: xr.Dataset, looks: dict[str, dict], axis: str) -> None:
    """One bar for each window, with a mark at half entropy and 95% intervals as thin lines."""
    names = []
    for level in map(str, dataset.level.values):
        for source in map(str, dataset.source.values):
            names.append(style.literal(source if len(dataset.level) == 1 else f"{level}: {source}"))
            part = dataset.sel(source=source, level=level)
            place = style.to_axis(curve_of(dataset, source, level), axis)
            _draw_place(ax, len(names) - 1, part, place, looks[source]["color"])
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.use_sticky_edges = False
    style.noise_axis(ax, axis)


def _draw_place(ax: Axes, row: int, part: xr.Dataset, place: style.ToAxis, color: str) -> None:
    ends = place(part.place.sel(landmark=["low", "high"]).values)
    if np.isfinite(ends).all():
        ax.plot(ends, [row, row], color=color, alpha=0.35, linewidth=7, linestyle="-", solid_capstyle="butt")
    for mark, shape in (("half", "D"), ("low", "|"), ("high", "|")):
        at = part.sel(landmark=mark)
        middle, low, high = place(np.array([at.place, at.place_low, at.place_high], float))
        if np.isfinite(middle):
            ax.plot(middle, row, marker=shape, color=color, markersize=4 if shape == "D" else 7)
        if np.isfinite([low, high]).all():
            ax.plot([low, high], [row, row], color=color, linewidth=1.1, linestyle="-")


def _draw_differences(
    ax: Axes, dataset: xr.Dataset, reference: str, looks: dict[str, dict], view: View, axis: str
) -> None:
    styles = [line["linestyle"] for line in style.sequence(len(dataset.level))]
    for level, dashes in zip(map(str, dataset.level.values), styles, strict=True):
        for source in compared(dataset):
            curve = curve_of(dataset, source, level)
            noise, gap, stderr = difference(curve, curve_of(dataset, reference, level))
            line = looks[source] if len(styles) == 1 else looks[source] | {"linestyle": dashes}
            style.band(
                ax, style.to_axis(curve, axis)(noise), view.information(gap), view.information(stderr), **line
            )
    if len(styles) > 1:
        named = zip(map(str, dataset.level.values), styles, strict=True)
        ax.legend(
            handles=[
                Line2D([], [], color="black", linestyle=s, label=style.literal(level)) for level, s in named
            ]
        )
    ax.axhline(0, color="black", linewidth=0.6)
    word = (reference.split() or [""])[-1]
    below = word if word.isascii() and word.isalnum() else "reference"
    ax.set_ylabel(f"$H - H_{{\\mathrm{{{below}}}}}$  ({view.unit})")
    style.noise_axis(ax, axis)


def _zoom(ax: Axes, dataset: xr.Dataset, axis: str) -> None:
    """Show only the noise levels at which a curve changes, not the whole grid of a sampler."""
    ends = []
    for source in map(str, dataset.source.values):
        for level in map(str, dataset.level.values):
            curve = curve_of(dataset, source, level)
            rate = curve.rate_per_log_noise()[0]
            busy = np.flatnonzero(rate > _DECIDING * np.nanmax(rate))
            ends += [-0.5 * curve.log_snr[busy].max(), -0.5 * curve.log_snr[busy].min()] if len(busy) else []
    if not ends:
        return
    low, high = min(ends), max(ends)
    margin = _MARGIN * (high - low)
    curve = curve_of(dataset, str(dataset.source.values[0]), str(dataset.level.values[0]))
    style.limit_noise(ax, curve, axis, low - margin, high + margin)
