"""The picture of guidance on a published network."""

import xarray as xr
from matplotlib.figure import Figure

from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.studies.comparison import curve_of


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """One row of panels for each decision: entropy, its rate, and the surprise of the target."""
    levels, names = (list(map(str, dataset[dim].values)) for dim in ("level", "source"))
    figure, axes = style.new_figure(len(levels), 3, height=1.0 + 2.3 * len(levels))
    axis = view.on("sigma")
    for row, level in zip(axes, levels, strict=True):
        for name, look in zip(names, style.kinds(len(names)), strict=True):
            curve = curve_of(dataset, name, level)
            style.draw_entropy(row[0], curve, view, axis, label=style.literal(name), **look)
            style.draw_rate(row[1], curve, view, axis, **look)
            shown = curve.in_units(view.units)
            if shown.cross_entropy is not None:
                style.band(row[2], shown.axis(axis), shown.cross_entropy, shown.cross_entropy_stderr, **look)
        row[2].set_ylabel(rf"$E[-\log p(\mathrm{{target}}\,|\,x_t)]$  ({view.unit})")
        style.noise_axis(row[2], axis)
    titles = [
        f"{style.literal(level)}: {what}"
        for level in levels
        for what in ("entropy", "rate", "surprise of the target")
    ]
    style.letter_panels(axes.flat, titles)
    style.shared_legend(figure, axes[0, 0], "schedule")
    return figure
