"""Guidance on trained networks: what it produces when, and what commitment costs."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm.windows import crossing
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import unstack
from paper_figures.formats.numbers import Number, attach, number
from paper_figures.shipped import measure as measured
from paper_figures.shipped.guided import GRIDS, KINDS, NAMES, SHOWN

CAPTION = """
Guidance on small trained networks. (a, b) EDM2 network of scikit-learn's digits (zoo:digits): entropy of the unguided
posterior along guided trajectories and information produced; the shaded window holds 80% of the information without
guidance. "Window 4" guides by 4 inside it only, "below 4" at less noise only. (c) Commitment against cost on the
digits: posterior mass on other digits, by the digits themselves as a mixture at σ = 0.3, against the kernel distance
(unbiased, on pixels) of the samples of a class from its data; each line one schedule with its strength rising from
none. (d) The same for a network of a tree of eight Gaussian classes in 64 dimensions (zoo:tree), judged by the exact
posterior. (e) Variance within a class of digits over that without guidance. (f) Kernel distance of unconditional
samples from the law by the grid of the sampler (Heun), tree full, digits dashed, linear below one. Bars and bands
are two standard errors; in (c-e) that of the abscissa and of the variance is drawn once. Results are shipped;
`python -m paper_figures.shipped.measure guided-digits` and `guided-tree` measure again.
"""

LINEAR = 1.0  # kernel distance below which panel (f) is linear: what is left there is sampling error
_MARKERS = dict(zip(KINDS, "os^v<D>", strict=True))


def compute(_settings: Settings) -> xr.Dataset:
    """The shipped measurement."""
    parts = [measured.load(f"guided-{name}").drop_attrs() for name in NAMES]
    dataset: xr.Dataset = xr.concat(parts, "network").assign_coords(network=list(NAMES))  # type: ignore[assignment]
    return attach(dataset, _numbers(dataset))


def _numbers(dataset: xr.Dataset) -> list[Number]:
    numbers = []
    for name in NAMES:
        here = dataset.sel(network=name)
        for shown, curve in zip(SHOWN, unstack(here, "shown"), strict=True):
            place = crossing(curve, 0.5 * curve.prior_entropy)
            numbers.append(number(f"{name}, {shown}: σ at half entropy", np.exp(place)))
        for kind in ("plain", *KINDS):
            at = here if kind == "plain" else here.sel(kind=kind, w=4.0)
            prefix, label = ("plain_", "unguided") if kind == "plain" else ("", f"{kind} at strength 4")
            miss, miss_error = 1 - at[f"{prefix}accuracy"], at[f"{prefix}accuracy_stderr"]
            numbers.append(number(f"{name}, {label}: mass on other classes", miss, miss_error))
            distance = at[f"{prefix}distance"], at[f"{prefix}distance_stderr"]
            numbers.append(number(f"{name}, {label}: kernel distance", *distance))
    return numbers


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Entropies and rates; costs; diversity; grids."""
    figure, axes = style.new_figure(2, 3, height=5.0)
    axis = view.on("sigma")
    digits, tree = (dataset.sel(network=name) for name in NAMES)
    _draw_curves(axes[0, :2], digits, view, axis)
    for ax, part in ((axes[0, 2], digits), (axes[1, 0], tree)):
        _draw_costs(ax, part)
    _draw_diversity(axes[1, 1], digits)
    _draw_grids(axes[1, 2], digits, tree)
    names = (
        "digits: entropy", "digits: information", "digits: cost",
        "tree: cost", "digits: diversity", "grids",
    )  # fmt: skip
    style.letter_panels(axes.flat, names)
    handles, labels = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, title="c-e", loc="outside lower center", ncols=len(labels))
    return figure


def _draw_curves(axes: np.ndarray, digits: xr.Dataset, view: View, axis: str) -> None:
    curves = unstack(digits, "shown")
    for shown, curve, line in zip(SHOWN, curves, style.kinds(len(SHOWN)), strict=True):
        style.draw_entropy(axes[0], curve, view, axis, label=shown, **line)
        style.draw_rate(axes[1], curve, view, axis, **line)
    if axis == "sigma":
        for ax in axes:
            window = float(digits.window_low), float(digits.window_high)
            ax.axvspan(*window, color="0.92", linewidth=0, zorder=0)
            ax.set_xlim(0.1, 30)
    axes[0].legend()


def _draw_costs(ax: Axes, part: xr.Dataset) -> None:
    for kind, line in zip(KINDS, style.kinds(len(KINDS)), strict=True):
        at = part.sel(kind=kind)
        x, y = (np.append(float(part[f"plain_{name}"]), at[name]) for name in ("distance", "accuracy"))
        error = style.BAND_STDERRS * np.append(float(part.plain_accuracy_stderr), at.accuracy_stderr)
        look = line | {"marker": _MARKERS[kind], "markersize": 3, "elinewidth": 0.5}
        ax.errorbar(x, 1 - y, yerr=np.minimum(error, 0.9 * (1 - y)), label=kind, **look)
    # Most of it is the data's own sampling, the same for every schedule: one bar shows it.
    bar = style.BAND_STDERRS * float(part.plain_distance_stderr)
    ax.errorbar(
        float(part.plain_distance), 1 - float(part.plain_accuracy), xerr=bar, color="0.4", elinewidth=0.8
    )
    ax.set(yscale="log", xlabel="kernel distance from the class", ylabel="mass on other classes")


def _draw_diversity(ax: Axes, part: xr.Dataset) -> None:
    plain = float(part.plain_diversity)
    for kind, line in zip(KINDS, style.kinds(len(KINDS)), strict=True):
        at = part.sel(kind=kind)
        look = line | {"marker": _MARKERS[kind], "markersize": 3}
        ax.plot(np.append(1, at.w), np.append(1, at.diversity / plain), **look)
    bar = style.BAND_STDERRS * float(part.plain_diversity_stderr) / plain
    ax.errorbar(1, 1, bar, color="0.4", elinewidth=0.8)
    ax.set(xlabel="strength $w$", ylabel="variance within a class")


def _draw_grids(ax: Axes, digits: xr.Dataset, tree: xr.Dataset) -> None:
    for grid, line, marker in zip(GRIDS, style.kinds(len(GRIDS)), "os^v", strict=True):
        for part, dashes, label in ((tree, "-", grid), (digits, (0, (4, 1.5)), None)):
            at = part.sel(grid=grid)
            bars = style.BAND_STDERRS * at.grid_distance_stderr
            look = {"color": line["color"], "linestyle": dashes, "marker": marker, "markersize": 3}
            ax.errorbar(at.steps, at.grid_distance, bars, label=label, elinewidth=0.5, **look)
    ax.set_yscale("symlog", linthresh=LINEAR)
    ax.set(xscale="log", xlabel="steps", ylabel="kernel distance from the law")
    ax.set_xticks(digits.steps.values, [str(n) for n in digits.steps.values])
    ax.minorticks_off()
    ax.legend()
