"""The picture of a labelled data set: curves, pairs of classes, and which directions speciate when."""

import json
import math
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator

from gmm.curve import EntropyCurve
from paper_figures.drawing.style import (
    PAGE_WIDTH,
    View,
    band,
    draw_rate,
    letter_panels,
    literal,
    noise_axis,
    sequence,
    to_axis,
)
from paper_figures.formats.curves import unstack
from paper_figures.studies.data import CLASS, POINT

SHOWN_DIRECTIONS, IMAGE_COLUMNS = 8, 4
# More names than these do not fit beside a matrix.
MOST_NAMES = 12
MARKS = {"entropy-rate": "^", "half-entropy": "D", "cloning": "o", "curvature": "s", "covariance": "|"}
# A legend of marks lies beside its panel: inside, its marks would look like data.
BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
EXACT = {CLASS: "class, exact", POINT: "point, exact"}


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Entropies and rates, times by every criterion, pairs of classes, and directions."""
    figure = Figure(figsize=(PAGE_WIDTH, 6.2))
    grid = figure.add_gridspec(3, 6)
    entropy, rate = figure.add_subplot(grid[0, :3]), figure.add_subplot(grid[0, 3:])
    times, pairs = figure.add_subplot(grid[1, :3]), figure.add_subplot(grid[1, 3:])
    directions = figure.add_subplot(grid[2, :3])
    axis = view.on("t")
    _draw_curves(entropy, rate, dataset, view, axis)
    _draw_times(times, dataset, axis)
    _draw_pairs(pairs, figure, dataset, axis)
    _draw_directions(directions, dataset, axis)
    last = _draw_images(figure, grid[2, 3:], dataset)
    words = ("entropy as a share", "rates", "when, by each criterion", "pairs of classes half decided")
    panels = (entropy, rate, times, pairs, directions, last)
    letter_panels(panels, (*words, "directions that open", "these directions"))
    return figure


def _positions(dataset: xr.Dataset, t: Any, axis: str) -> np.ndarray:
    """Times on the chosen axis, through the exact curve's own points; NaN outside them."""
    if axis == "t":
        return np.asarray(t, float)
    curve = unstack(dataset.sel(curve=[CLASS]), "curve")[0]
    return to_axis(curve, axis)(curve.noise_at(t))


def _draw_curves(entropy: Axes, rate: Axes, dataset: xr.Dataset, view: View, axis: str) -> None:
    curves = dict(zip(dataset.curve.values.tolist(), unstack(dataset, "curve"), strict=True))
    for (name, curve), line in zip(curves.items(), sequence(len(curves)), strict=True):
        share, stderr = curve.entropy / curve.prior_entropy, curve.entropy_stderr / curve.prior_entropy
        band(entropy, curve.axis(axis), share, stderr, label=EXACT.get(name, name), **line)
        draw_rate(rate, curve, view, axis, **line)
    entropy.set(ylabel="$H\\,/\\,H[Z]$")
    entropy.legend()
    noise_axis(entropy, axis)


def _draw_times(ax: Axes, dataset: xr.Dataset, axis: str) -> None:
    sources = [str(name) for name in dataset.source.values]
    shown = set()
    for row, source in enumerate(sources):
        for mark, (criterion, shape) in enumerate(MARKS.items()):
            time = dataset.time.sel(source=source, criterion=criterion)
            place = float(_positions(dataset, float(time), axis))
            if not math.isfinite(place):
                continue
            label = None if criterion in shown else criterion
            shown.add(criterion)
            size = 9 if shape == "|" else 5
            ax.plot(place, row, shape, color=f"C{mark}", markersize=size, label=label, linestyle="none")
    ax.set_yticks(range(len(sources)), [EXACT.get(source, source) for source in sources])
    ax.set_ylim(len(sources) - 0.5, -0.5)
    ax.legend(fontsize="x-small", **BESIDE)
    noise_axis(ax, axis)


def _draw_pairs(ax: Axes, figure: Figure, dataset: xr.Dataset, axis: str) -> None:
    if "pair_time" not in dataset:
        ax.text(0.5, 0.5, "too many classes to pair", ha="center", va="center", transform=ax.transAxes)
        ax.set_axis_off()
        return
    places = _positions(dataset, dataset.pair_time.values, axis)
    image = ax.imshow(places, cmap="viridis", interpolation="nearest")
    names = [literal(name) for name in dataset["class"].values]
    ticks = range(len(names)) if len(names) <= MOST_NAMES else []
    ax.set_xticks(ticks, names if ticks else [], rotation=90 if max(map(len, names)) > 2 else 0)
    ax.set_yticks(ticks, names if ticks else [])
    ax.tick_params(length=0, labelsize="x-small")
    ax.grid(visible=False)
    figure.colorbar(image, ax=ax, label=_word(axis))


def _word(axis: str) -> str:
    return {"t": "$t$", "log-snr": r"$\log(\alpha^2/\sigma^2)$", "sigma": r"$\sigma/\alpha$"}.get(axis, axis)


def _draw_directions(ax: Axes, dataset: xr.Dataset, axis: str) -> None:
    """One mark for each direction that opens, and when noise exceeds each of the largest covariance eigenvalues."""
    places = _positions(dataset, dataset.direction_time.values, axis)
    number = np.arange(1, len(places) + 1)
    ax.plot(places, number, "o", color="C0", label="between classes")
    largest = dataset.covariance.values[: max(len(places), SHOWN_DIRECTIONS)]
    curve = unstack(dataset.sel(curve=[CLASS]), "curve")[0]
    exceeded = to_axis(curve, axis)(_exceeded(curve, largest))
    ax.plot(exceeded, np.arange(1, len(exceeded) + 1), "|", color="0.5", markersize=9, label="covariance")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(ylabel="direction", ylim=(max(len(places), len(exceeded)) + 0.6, 0.4))
    ax.legend(fontsize="x-small", **BESIDE)
    noise_axis(ax, axis)


def _exceeded(curve: EntropyCurve, eigenvalues: np.ndarray) -> np.ndarray:
    """log(σ/α) at which α²Λ = α² + σ²; NaN for Λ <= 1, and outside the curve."""
    noise = 0.5 * np.log(np.where(eigenvalues > 1, eigenvalues - 1, np.nan))
    ends = np.log([curve.sigma.min(), curve.sigma.max()])
    return np.where((noise >= ends[0]) & (noise <= ends[1]), noise, np.nan)


def _draw_images(figure: Figure, place: SubplotSpec, dataset: xr.Dataset) -> Axes:
    """The first directions as images, dark for less and light for more; their spectrum where they are none."""
    shape = tuple(json.loads(dataset.attrs["data"])["shape"])
    vectors = dataset.direction_vector.values[:SHOWN_DIRECTIONS]
    flat = len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3))
    if not flat or not len(vectors):
        ax = figure.add_subplot(place)
        ax.semilogy(np.arange(1, dataset.sizes["component"] + 1), dataset.covariance, color="0.5")
        between = dataset.between.values
        kept = between > 1e-12 * between[0]
        ax.semilogy(np.arange(1, kept.sum() + 1), between[kept], "o", color="C0", markersize=3)
        ax.set(xlabel="eigenvalue", ylabel="variance")
        return ax
    return _image_grid(figure, place, vectors.reshape(-1, *shape), dataset.direction_time.values)


def _image_grid(figure: Figure, place: SubplotSpec, images: np.ndarray, times: np.ndarray) -> Axes:
    rows = -(-len(images) // IMAGE_COLUMNS)
    whole = figure.add_subplot(place)
    whole.set_axis_off()
    for number, image in enumerate(images):
        row, column = divmod(number, IMAGE_COLUMNS)
        inner = whole.inset_axes(
            (column / IMAGE_COLUMNS, 1 - (row + 1) / rows, 0.94 / IMAGE_COLUMNS, 0.8 / rows)
        )
        extent = np.abs(image).max()
        if image.ndim == 3 and image.shape[-1] == 3:
            inner.imshow(0.5 + 0.5 * image / extent)
        else:
            inner.imshow(np.squeeze(image), cmap="RdBu_r", vmin=-extent, vmax=extent)
        inner.set(xticks=[], yticks=[])
        inner.spines[:].set_visible(False)
        inner.set_title(f"$t$ = {times[number]:.2f}", fontsize="xx-small", pad=1.5)
    return whole
