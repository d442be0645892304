"""The picture of a comparison, and its table."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Console
from rich.table import Table

from gmm.curve import EntropyCurve
from paper_figures.drawing.style import (
    View,
    band,
    draw_entropy,
    draw_rate,
    entropy_label,
    new_figure,
    noise_axis,
    positions,
    rate_label,
    sequence,
    title,
)
from paper_figures.formats.numbers import Number, number
from paper_figures.studies import u_turn as turning
from paper_figures.studies.comparison import curve_of, difference, largest, shift
from paper_figures.studies.sources import GAP, LABELS, ONLINE

ToAxis = Callable[[np.ndarray], np.ndarray]
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
_QUIET = 0.01
_MARGIN = 0.08


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Entropy and rate of every level; then where each source decides, and how they differ."""
    levels = [str(level) for level in dataset.level.values]
    turned = "u_turn" in dataset
    rows = len(levels) + 1 + turned
    figure, axes = new_figure(rows, 2, height=0.7 + 2.3 * rows)
    axis = view.on("sigma")
    looks = _looks([str(source) for source in dataset.source.values])
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    for row, level in enumerate(levels):
        _draw_level(axes[row], dataset, level, looks, view, axis)
        name = "" if len(levels) == 1 and level == "classes" else f": {level}"
        for ax, text in zip(axes[row], (f"entropy{name}", f"rate{name}"), strict=True):
            title(ax, next(letters), text)
    below = axes[len(levels)]
    _draw_places(below[0], dataset, looks, axis)
    _draw_differences(below[1], dataset, looks, view, axis)
    title(below[0], next(letters), "half entropy, and the central 80% of information")
    title(below[1], next(letters), _difference_title(dataset))
    if turned:
        any_curve = curve_of(dataset, str(dataset.source.values[0]), levels[0])
        turning.draw(axes[-1], dataset, looks, _to_axis(any_curve, axis))
        for ax, text in zip(
            axes[-1], ("forward and back", "U-turns against the measured posterior"), strict=True
        ):
            noise_axis(ax, axis)
            title(ax, next(letters), text)
    for ax in axes.flat:
        _zoom(ax, dataset, axis)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
    return figure


def _looks(sources: list[str]) -> dict[str, dict]:
    others = [source for source in sources if source not in _LOOKS]
    return _LOOKS | dict(zip(others, sequence(len(others)), strict=True))


def _draw_level(
    axes: np.ndarray, dataset: xr.Dataset, level: str, looks: dict[str, dict], view: View, axis: str
) -> None:
    for source in map(str, dataset.source.values):
        curve = curve_of(dataset, source, level)
        draw_entropy(axes[0], curve, view, axis, label=source, **looks[source])
        draw_rate(axes[1], curve, view, axis, **looks[source])
    axes[0].set(ylabel=entropy_label(view), ylim=(0, None))
    axes[1].set(ylabel=rate_label(view, axis), ylim=(0, None))
    for ax in axes:
        noise_axis(ax, axis)


def _draw_places(ax: Axes, dataset: xr.Dataset, looks: dict[str, dict], axis: str) -> None:
    """A bar from end to end of each window, the half entropy on it, 95% intervals as whiskers."""
    names = []
    for level in map(str, dataset.level.values):
        for source in map(str, dataset.source.values):
            names.append(source if len(dataset.level) == 1 else f"{level}: {source}")
            part = dataset.sel(source=source, level=level)
            place = _to_axis(curve_of(dataset, source, level), axis)
            _draw_place(ax, len(names) - 1, part, place, looks[source]["color"])
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.use_sticky_edges = False
    noise_axis(ax, axis)


def _draw_place(ax: Axes, row: int, part: xr.Dataset, place: ToAxis, color: str) -> None:
    ends = place(part.place.sel(landmark=["low", "high"]).values)
    if np.isfinite(ends).all():
        ax.plot(ends, [row, row], color=color, alpha=0.35, linewidth=7, linestyle="-", solid_capstyle="butt")
    for mark, style in (("half", "D"), ("low", "|"), ("high", "|")):
        at = part.sel(landmark=mark)
        middle, low, high = place(np.array([at.place, at.place_low, at.place_high], float))
        if np.isfinite(middle):
            ax.plot(middle, row, marker=style, color=color, markersize=4 if style == "D" else 7)
        if np.isfinite([low, high]).all():
            ax.plot([low, high], [row, row], color=color, linewidth=1.1, linestyle="-")


def _to_axis(curve: EntropyCurve, axis: str) -> ToAxis:
    """log(σ/α) to positions on an axis, by the curve's own points."""
    if axis == "sigma":
        return np.exp
    noise, shown = positions(curve, axis)
    return lambda log_sigma: np.interp(log_sigma, noise, shown, left=np.nan, right=np.nan)


def _draw_differences(ax: Axes, dataset: xr.Dataset, looks: dict[str, dict], view: View, axis: str) -> None:
    reference = str(dataset.attrs["reference"])
    styles = [line["linestyle"] for line in sequence(len(dataset.level))]
    for level, style in zip(map(str, dataset.level.values), styles, strict=True):
        for source in map(str, dataset.source.values):
            if not reference or source == reference:
                continue
            curve = curve_of(dataset, source, level)
            noise, gap, stderr = difference(curve, curve_of(dataset, reference, level))
            line = looks[source] if len(styles) == 1 else looks[source] | {"linestyle": style}
            band(ax, _to_axis(curve, axis)(noise), view.information(gap), view.information(stderr), **line)
    if reference and len(styles) > 1:
        named = zip(map(str, dataset.level.values), styles, strict=True)
        ax.legend(handles=[Line2D([], [], color="black", linestyle=s, label=level) for level, s in named])
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set_ylabel(f"$H - H_{{\\mathrm{{{(reference or 'reference').split()[-1]}}}}}$  ({view.unit})")
    noise_axis(ax, axis)


def _difference_title(dataset: xr.Dataset) -> str:
    reference = dataset.attrs["reference"]
    if not reference:
        return "nothing to compare with"
    return f"difference from {reference}"


def _zoom(ax: Axes, dataset: xr.Dataset, axis: str) -> None:
    """Show the noise levels at which something happens, not the whole of a sampler's grid."""
    ends = []
    for source in map(str, dataset.source.values):
        for level in map(str, dataset.level.values):
            curve = curve_of(dataset, source, level)
            rate = curve.rate_per_log_noise()[0]
            busy = np.flatnonzero(rate > _QUIET * np.nanmax(rate))
            ends += [-0.5 * curve.log_snr[busy].max(), -0.5 * curve.log_snr[busy].min()] if len(busy) else []
    if not ends:
        return
    low, high = min(ends), max(ends)
    room = _MARGIN * (high - low)
    curve = curve_of(dataset, str(dataset.source.values[0]), str(dataset.level.values[0]))
    own = -0.5 * curve.log_snr
    wanted = (
        np.clip([low - room, high + room], own.min(), own.max())
        if axis != "sigma"
        else [low - room, high + room]
    )
    shown = _to_axis(curve, axis)(np.asarray(wanted))
    if np.isfinite(shown).all() and shown[0] != shown[1]:
        ax.set_xlim(*shown)


# ------------------------------------------------------------------------------------------------------ table


def print_table(dataset: xr.Dataset, view: View) -> None:
    """Places of every source and differences from the reference, with their uncertainty."""
    reference = str(dataset.attrs["reference"])
    sources = [str(source) for source in dataset.source.values]
    for level in map(str, dataset.level.values):
        prior = float(view.information(dataset.prior_entropy.sel(level=level)[0]))
        places = _table(
            f"{level}: σ/α, of a prior entropy of {prior:.4g} {view.unit}", "half", "peak", "window"
        )
        for source in sources:
            places.add_row(source, *_places(dataset, source, level))
        Console().print(places)
        if not reference or len(sources) < 2:
            continue
        gaps = _table(
            f"{level}: difference from {reference}",
            f"largest ΔH ({view.unit})",
            "at σ/α",
            "Δ log σ/α at half",
        )
        for source in sources:
            if source != reference:
                gaps.add_row(source, *_gaps(dataset, source, level, reference, view))
        Console().print(gaps)


def _table(heading: str, *columns: str) -> Table:
    return Table("", *columns, title=heading, title_justify="left", title_style="bold")


def _places(dataset: xr.Dataset, source: str, level: str) -> list[str]:
    part = dataset.sel(source=source, level=level)

    def shown(mark: str) -> str:
        sigma = float(np.exp(part.place.sel(landmark=mark)))
        return _shown(number("", sigma, sigma * float(part.place_stderr.sel(landmark=mark))))

    return [shown(mark) for mark in ("half", "peak", "low", "high")]


def _gaps(dataset: xr.Dataset, source: str, level: str, reference: str, view: View) -> list[str]:
    at, gap, stderr = largest(curve_of(dataset, source, level), curve_of(dataset, reference, level))
    gap, stderr = (float(view.information(value)) for value in (gap, stderr))
    moved = number("", *shift(dataset, source, level, "half"))
    return [_shown(number("", gap, stderr)), f"{np.exp(at):.3g}", _shown(moved)]


def _shown(value: Number) -> str:
    """As it is shown elsewhere, with a mark where there is a value but no error."""
    known = value.stderr is not None and np.isfinite(value.stderr)
    return value.shown if known or np.isnan(value.value) else f"{value.value:.4g} ± ?"
