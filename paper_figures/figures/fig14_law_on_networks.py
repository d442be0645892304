"""The logarithmic-time law on learned networks: slope in log d, shift with K."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gmm
from paper_figures.drawing.style import BAND_STDERRS, View, band, letter_panels, new_figure, sequence
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import unstack
from paper_figures.formats.numbers import Number, attach, number
from paper_figures.shipped import measure as measured
from theory import entropy_curve

CAPTION = """
One small network (an MLP) for every dimension d and class count K, each trained on samples of K Gaussian classes at the
vertices of a simplex, ‖mean‖² = d, within-class variance 1. (a) Entropy of the class along the networks' own
trajectories (lines, with bands of two standard errors) against the time of the variance-preserving process, minus ½ log
d: the curves of all dimensions fall on the exact one (dotted). (b) Time of half entropy: points are networks, lines
exact. (c) The networks' times minus the exact ones, with bars of two standard errors. Results are shipped;
`python -m paper_figures.shipped.measure law` trains and measures again.
"""


def compute(_settings: Settings) -> xr.Dataset:
    """The shipped curves and times."""
    dataset = measured.load("law")
    return attach(dataset.drop_attrs(), _numbers(dataset))


def _numbers(dataset: xr.Dataset) -> list[Number]:
    numbers = []
    for classes in np.unique(dataset.classes):
        part = dataset.isel(cell=dataset.classes.values == classes)
        value, stderr = weighted_slope(part.dim.values, part.t_half.values, part.t_half_stderr.values)
        exact, _ = weighted_slope(part.dim.values, part.exact_t_half.values, part.t_half_stderr.values)
        numbers.append(
            number(f"slope of the time of half entropy in log d, K = {classes}", value, stderr, exact)
        )
    pairs = dataset.classes.values == 2
    for classes in np.unique(dataset.classes)[1:]:
        both = [
            d for d in dataset.dim.values[dataset.classes.values == classes] if d in dataset.dim.values[pairs]
        ]
        value, stderr, exact = _shift(dataset, int(classes), both)
        numbers.append(number(f"shift of that time from K = 2 to K = {classes}", value, stderr, exact))
    numbers.append(
        number("largest loss of a network above the optimum, given the class (%)", 100 * dataset.gap.max())
    )
    z = (dataset.t_half - dataset.exact_t_half) / dataset.t_half_stderr
    return [*numbers, number(f"largest |z| of {z.size} times against the exact ones", np.abs(z).max())]


def weighted_slope(dims: np.ndarray, times: np.ndarray, stderrs: np.ndarray) -> tuple[float, float]:
    """Slope of times in log d by weighted least squares, and its standard error by the errors of the times."""
    weight, x = 1 / stderrs**2, np.log(dims)
    centred = x - np.average(x, weights=weight)
    norm = np.sum(weight * centred**2)
    return float(np.sum(weight * centred * times) / norm), float(norm**-0.5)


def _shift(dataset: xr.Dataset, classes: int, dims: list[int]) -> tuple[float, float, float]:
    """Mean over dimensions of t(K) - t(2), its standard error, and the exact one."""
    rows = []
    for d in dims:
        at = lambda k, d=d: dataset.isel(
            cell=int(np.flatnonzero((dataset.dim.values == d) & (dataset.classes.values == k))[0])
        )
        rows.append(
            (
                float(at(classes).t_half - at(2).t_half),
                float(at(classes).t_half_stderr ** 2 + at(2).t_half_stderr ** 2),
                float(at(classes).exact_t_half - at(2).exact_t_half),
            )
        )
    value, variance, exact = np.array(rows).T
    return float(value.mean()), float(np.sqrt(variance.sum()) / len(rows)), float(exact.mean())


def draw(dataset: xr.Dataset, _view: View) -> Figure:
    """Collapsed curves, times, differences."""
    figure, axes = new_figure(1, 3, height=2.9)
    counts = np.unique(dataset.classes)
    lines = {int(k): line for k, line in zip(counts, sequence(len(counts)), strict=True)}
    _draw_curves(axes[0, 0], dataset, lines)
    for k, line in lines.items():
        part = dataset.isel(cell=dataset.classes.values == k)
        axes[0, 1].plot(part.dim, part.exact_t_half, color=line["color"], linewidth=1)
        error = BAND_STDERRS * part.t_half_stderr
        axes[0, 1].errorbar(
            part.dim, part.t_half, error, fmt="o", markersize=3.5, color=line["color"], label=f"{k}"
        )
        shifted = part.dim * 1.12 ** (list(lines).index(k) - 1)
        axes[0, 2].errorbar(
            shifted, part.t_half - part.exact_t_half, error, fmt="o", markersize=3.5, color=line["color"]
        )
    axes[0, 1].set(xscale="log", xlabel="dimension $d$", ylabel="time of half entropy")
    axes[0, 1].legend(title="classes $K$")
    axes[0, 2].axhline(0, color="0.5", linewidth=0.8)
    axes[0, 2].set(xscale="log", xlabel="dimension $d$", ylabel="network − exact")
    letter_panels(axes.flat, ("curves collapse", "the law", "against exact"))
    return figure


def _draw_curves(ax: Axes, dataset: xr.Dataset, lines: dict[int, dict]) -> None:
    for i, curve in enumerate(unstack(dataset, "cell")):
        classes, dim = int(dataset.classes[i]), int(dataset.dim[i])
        u = 0.5 * np.log1p(curve.sigma**2) - 0.5 * np.log(dim)
        share, stderr = curve.entropy / curve.prior_entropy, curve.entropy_stderr / curve.prior_entropy
        band(ax, u, share, stderr, color=lines[classes]["color"], linestyle="-", linewidth=0.8)
    for classes, line in lines.items():
        u = np.linspace(-2.2, 1.6, 120)
        exact = entropy_curve(gmm.vp(), u + 0.5 * np.log(1e6), 1e6, classes=classes)
        ax.plot(u, exact.entropy / exact.prior_entropy, color="k", linestyle=":", linewidth=1.1)
        ax.plot([], [], color=line["color"], label=f"$K = {classes}$")
    ax.set(xlabel=r"$t - \frac{1}{2}\log d$", ylabel=r"$H[Z\,|\,X_t]\,/\,H[Z]$")
    ax.legend()
