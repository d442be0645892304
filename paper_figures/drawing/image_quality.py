"""The picture of image quality over guidance weight and interval."""

import json

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.drawing import style

MEASURES = ("frechet", "precision", "recall")
LEGEND_COLUMNS = 4


def draw(dataset: xr.Dataset) -> Figure:
    """Distances, precision and recall against the weight, one line for each interval; and the intervals themselves."""
    judges = list(map(str, dataset.judge.values))
    figure, axes = style.new_figure(len(judges), 4, height=1.2 + 2.2 * len(judges))
    families = _families(dataset)
    looks = dict(zip(families, style.kinds(len(families)), strict=True))
    for row, judge in zip(axes, judges, strict=True):
        part = dataset.sel(judge=judge)
        for ax, measure in zip(row, MEASURES, strict=False):
            _draw_measure(ax, part.sel(measure=measure), families, looks)
        _draw_intervals(row[3], part.sel(measure="frechet"), families, looks)
    titles = [f"{judge}{what}" for judge in judges for what in ("", ", precision", ", recall", ", intervals")]
    style.letter_panels(axes.flat, titles)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    heading = "noise interval of guidance, σ/α"
    figure.legend(handles, labels, title=heading, loc="outside lower center", ncols=LEGEND_COLUMNS)
    caveats = json.loads(str(dataset.attrs.get("caveats", "[]")))
    if caveats:
        figure.suptitle(style.literal("\n".join(caveats)), fontsize=5)
    return figure


def _families(dataset: xr.Dataset) -> dict[str, np.ndarray]:
    """Places of schedules that share an interval and differ in weight; others stand alone, under their own name."""
    found: dict[str, list[int]] = {}
    for place, (name, low, high) in enumerate(
        zip(dataset.schedule.values, dataset.low.values, dataset.high.values, strict=True)
    ):
        found.setdefault(_family(str(name), float(low), float(high)), []).append(place)
    return {name: np.array(places) for name, places in found.items()}


def _family(name: str, low: float, high: float) -> str:
    if name.startswith("entropy:"):
        return f"measured: {low:.3g} to {high:.3g}"
    if not np.isfinite(low):
        return name
    if high == np.inf:
        return "none" if name == "none" else "all"
    return f"{low:g} to {high:g}"


def _draw_measure(
    ax: Axes, part: xr.Dataset, families: dict[str, np.ndarray], looks: dict[str, dict]
) -> None:
    for name, places in families.items():
        some = part.isel(schedule=places)
        weights, values = some.weight.values, some.value.values
        if not np.isfinite(values).any():
            continue
        bars = style.BAND_STDERRS * some.stderr.values
        label, look = style.literal(name), looks[name]
        if np.isfinite(weights).all() and name != "none":
            order = np.argsort(weights)
            ax.errorbar(
                weights[order],
                values[order],
                bars[order],
                marker="o",
                markersize=2.5,
                capsize=0,
                label=label,
                **look,
            )
        else:
            low, high = values[0] - bars[0], values[0] + bars[0]
            ax.axhspan(low, high, color=look["color"], alpha=0.2, linewidth=0)
            ax.axhline(values[0], label=label, linewidth=1, **look)
    if not ax.lines and not ax.containers:
        ax.text(0.5, 0.5, "needs real images", ha="center", va="center", transform=ax.transAxes, fontsize=6)
    ax.set_xlabel("guidance weight")


def _draw_intervals(
    ax: Axes, part: xr.Dataset, families: dict[str, np.ndarray], looks: dict[str, dict]
) -> None:
    """Each interval as a line, at the height of its least distance; the best one thick; the window in grey."""
    low, middle, high = (float(part[f"window_{end}"]) for end in ("low", "median", "high"))
    if np.isfinite([low, high]).all():
        ax.axvspan(low, high, color="0.88", zorder=0)
        ax.axvline(middle, color="0.5", linestyle=":", linewidth=0.8)
    limited = [
        n for n, p in families.items() if np.isfinite(part.high.values[p]).all() and part.low.values[p[0]] > 0
    ]
    least = {name: float(np.nanmin(part.value.values[families[name]])) for name in limited}
    for name, value in least.items():
        ends = [float(part[end].values[families[name][0]]) for end in ("low", "high")]
        width = 3.0 if value == min(least.values()) else 1.0
        ax.plot(ends, [value, value], color=looks[name]["color"], linewidth=width, linestyle="-")
    ax.set_ylabel("least distance")
    style.noise_axis(ax, "sigma")
