"""Pictures of a training: how the loss fell, the loss at every noise level, and samples of the network."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm.axes import left_singular_vectors
from neural.training import Plan
from paper_figures.drawing.style import PAGE_WIDTH, View, band, letter_panels, literal, new_figure, sequence
from paper_figures.studies.training import Samples

SHEET_COLUMNS = 10
_LABELS = {"class": "given the class", "null": "without the class"}


def draw_training(dataset: xr.Dataset, _: View | None = None) -> Figure:
    """Loss by step; held-out loss by noise level; the gap to the optimum, or to the loss on training points."""
    figure, axes = new_figure(1, 3, height=2.5)
    _draw_steps(axes[0, 0], dataset)
    lines = dict(zip(_LABELS, sequence(3)[:2], strict=True))
    held_out = dataset.sel(points="held out")
    for name, label in _LABELS.items():
        part = held_out.sel(prediction=name)
        band(axes[0, 1], part.sigma, part.loss, part.stderr, label=label, **lines[name])
    axes[0, 1].set(xscale="log", yscale="log", xlabel=r"noise $\sigma$", ylabel="mean square error")
    axes[0, 1].legend()
    known = bool(np.isfinite(held_out.optimum).any())
    for name, label in _LABELS.items():
        part = held_out.sel(prediction=name)
        if known:
            y, stderr = part.excess / part.optimum, part.excess_stderr / part.optimum
        else:
            seen = dataset.sel(points="training", prediction=name)
            y, stderr = part.loss / seen.loss - 1, part.stderr / seen.loss
        band(axes[0, 2], part.sigma, 100 * y, 100 * stderr, label=label, **lines[name])
    ylabel = "loss above the optimum (%)" if known else "held-out above training loss (%)"
    axes[0, 2].set(xscale="log", xlabel=r"noise $\sigma$", ylabel=ylabel)
    if known:
        axes[0, 2].set_ylim(bottom=0)
    letter_panels(axes.flat, ("training", "held-out loss", "figure of merit"))
    return figure


def _draw_steps(ax: Axes, dataset: xr.Dataset) -> None:
    loss = dataset.step_loss.values
    every = max(1, len(loss) // 100)
    blocks = loss[: len(loss) // every * every].reshape(-1, every)
    steps = (np.arange(len(blocks)) + 0.5) * every
    ax.plot(steps, blocks.mean(axis=1), color=sequence(1)[0]["color"])
    ax.set(xlabel="step", ylabel="training loss")


def draw_samples(plan: Plan, samples: Samples) -> Figure:
    """One row of images for each class; of vectors, a scatter plot in the plane in which the classes differ most."""
    return _draw_images(plan, samples) if plan.is_image else _draw_vectors(plan, samples)


def _draw_images(plan: Plan, samples: Samples, columns: int = SHEET_COLUMNS) -> Figure:
    about = plan.facts["data"]
    names, (dark, bright) = about["classes"], about["range"]
    assert plan.state_map is not None
    points = plan.state_map.to_points(samples.states).reshape(-1, *plan.state_map.shape)
    figure = Figure(figsize=(0.45 * columns + 1.2, 0.45 * len(names)))
    axes = np.asarray(figure.subplots(len(names), columns, squeeze=False))
    for row, name in enumerate(names):
        shown = points[samples.labels == row][:columns]
        for ax, image in zip(axes[row], shown, strict=True):
            ax.imshow(image, cmap="gray" if image.ndim == 2 else None, vmin=dark, vmax=bright)
            ax.set_axis_off()
        axes[row, 0].text(
            -0.2, 0.5, literal(name), transform=axes[row, 0].transAxes, ha="right", va="center", fontsize=7
        )
    return figure


def _draw_vectors(plan: Plan, samples: Samples) -> Figure:
    classes = int(samples.labels.max()) + 1
    centres = np.stack([samples.states[samples.labels == c].mean(axis=0) for c in range(classes)])
    centred = centres - centres.mean(axis=0, keepdims=True)
    plane = left_singular_vectors(centred.T)[1][:, :2].T
    figure = Figure(figsize=(0.5 * PAGE_WIDTH, 0.45 * PAGE_WIDTH))
    ax = figure.subplots()
    at = (samples.states - centres.mean(axis=0, keepdims=True)) @ plane.T
    for c, line in enumerate(sequence(classes)):
        points = at[samples.labels == c]
        ax.plot(*points.T, ".", markersize=3, color=line["color"], label=str(c))
    if plan.family is not None:
        means = np.asarray(plan.task.mixture.means) - centres.mean(axis=0, keepdims=True)  # type: ignore[union-attr]
        ax.plot(*(means @ plane.T).T, "k+", markersize=7, label="exact means")
    ax.set(xlabel="first direction", ylabel="second direction")
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(ncols=2, fontsize=6)
    return figure
