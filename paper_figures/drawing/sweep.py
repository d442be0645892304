"""The picture of a sweep: curves, their collapse, and the law with its fitted slope."""

import math
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm.curve import EntropyCurve
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.formats.numbers import number
from paper_figures.studies.sweep_laws import flat, slope

DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vP"
LEGEND_ROOM = 0.6  # share of a panel's height that is added for its legend


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """One row for each process: entropy, rate, collapse, and the noise level of the decision against d."""
    part = flat(dataset)
    processes = [str(name) for name in part.process.values]
    figure, axes = style.new_figure(len(processes), 4, height=0.6 + 2.0 * len(processes))
    for row, process in zip(axes, processes, strict=True):
        _draw_process(row, part.sel(process=process), view, process)
    words = ("entropy", "rate", "collapse", "decision")
    style.letter_panels(axes.flat, [f"{process}: {word}" for process in processes for word in words])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if handles:
        heading = "$d$" if len(part.classes) == 1 else "$d$ (dashes: class count, as in the last panel)"
        figure.legend(handles, labels, title=heading, loc="outside lower center", ncols=min(len(labels), 8))
    return figure


def _draw_process(row: np.ndarray, ours: xr.Dataset, view: View, process: str) -> None:
    axis = view.on("t" if process in ("vp", "vp_linear", "flow") else "sigma")
    shades = [line["color"] for line in style.sequence(len(ours.dim))]
    for k, classes in enumerate(ours.classes.values):
        for i, dim in enumerate(ours.dim.values):
            cell = ours.isel(classes=k, dim=i)
            if str(cell.status.values) != "ok":
                continue
            line = {"color": shades[i], "linestyle": DASHES[k % len(DASHES)]}
            curve = _curve(cell, math.log(float(classes)))
            style.draw_entropy(
                row[0], curve, view, axis, label=None if k else style.power_label(float(dim)), **line
            )
            style.draw_rate(row[1], curve, view, axis, **line)
            shifted = np.log(curve.sigma) - 0.5 * math.log(float(dim))
            row[2].plot(shifted, curve.in_units(view.units).entropy, **line)
        _draw_law(row[3], ours.isel(classes=k), k, f"$K$ = {classes}")
    low, high = row[3].get_ylim()
    row[3].set_ylim(low, high + LEGEND_ROOM * (high - low))
    row[3].legend(title="slope in $\\log d$", fontsize="x-small", title_fontsize="x-small", loc="upper left")
    row[2].set(xlabel=r"$\log(\sigma/\alpha)-\frac{1}{2}\log d$", ylabel=style.entropy_label(view))


def _draw_law(ax: Axes, ours: xr.Dataset, k: int, label: str) -> None:
    """log(σ/α) at the fastest decision with its window and its slope in log d: one law for every process."""
    noise = np.array([_noise_at(ours.isel(dim=i)) for i in range(len(ours.dim))])
    fitted = number("slope", *slope(np.log(ours.dim.values.astype(float)), noise))
    if math.isfinite(fitted.value):
        label += f": {fitted.short}"
    look: dict[str, Any] = {
        "color": f"C{k}",
        "linestyle": DASHES[k % len(DASHES)],
        "marker": MARKERS[k % len(MARKERS)],
    }
    ax.plot(ours.dim, noise, label=label, **look)
    ax.fill_between(ours.dim, ours.window_lo, ours.window_hi, color=f"C{k}", alpha=0.12, linewidth=0)
    ax.set(xscale="log", xlabel="$d$", ylabel=r"$\log(\sigma/\alpha)$ of the maximum")


def _noise_at(cell: xr.Dataset) -> float:
    """log(σ/α) at t_peak, between the cell's points."""
    peak = float(cell.t_peak)
    return float(_curve(cell, math.nan).noise_at(peak)) if math.isfinite(peak) else math.nan


def _curve(cell: xr.Dataset, prior_entropy: float) -> EntropyCurve:
    names = ("t", "log_snr", "entropy", "entropy_stderr", "rate", "rate_stderr")
    fields: dict[str, Any] = {name: cell[name].values for name in names}
    return EntropyCurve(**fields, prior_entropy=prior_entropy)
