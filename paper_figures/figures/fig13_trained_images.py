"""Image networks beside their data: the exact curve, a Gaussian surrogate's, and what training has learned."""

import json

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm.curve import EntropyCurve
from gmm.landmarks import half_entropy
from paper_figures.drawing.style import (
    View,
    draw_entropy,
    draw_rate,
    letter_panels,
    new_figure,
    say_contradiction,
)
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import unstack, window_ends
from paper_figures.formats.numbers import Number, attach, number
from paper_figures.shipped import measure as measured

CAPTION = """
Small EDM2 networks trained on scikit-learn's digits (a) and Fashion-MNIST (b), zoo:digits and zoo:fashion, beside the
data: entropy of the class for the data points as an exact mixture, for one Gaussian fitted to each class, and for the
network by both estimators, with bands of two standard errors. Noise is in units of the root mean variance of a
pixel. Below σ of about one the mixture of data points collapses: the class is certain because the point is.
The networks have seen the same points and cannot. (c, d) The rates. Where the gap falls below zero the network
contradicts itself: its predictions for the classes differ by more than there is to be known. Results are shipped;
`python -m paper_figures.shipped.measure digits` and `fashion` measure again.
"""

DATA = {"digits": "digits", "fashion": "Fashion-MNIST"}
_LINES = {
    measured.EXACT: {"color": "k", "linestyle": "-"},
    measured.SURROGATE: {"color": "0.6", "linestyle": "--"},
    measured.ONLINE: {"color": "#c0392b", "linestyle": "-"},
    measured.GAP: {"color": "#2471a3", "linestyle": (0, (3, 1))},
}


def compute(_settings: Settings) -> xr.Dataset:
    """The shipped curves."""
    parts, names = [], {}
    for name in DATA:
        shipped = measured.load(name)
        names[name] = json.loads(shipped.attrs["curves"])
        changed = {variable: f"{name}_{variable}" for variable in {*shipped.variables, *shipped.dims}}
        parts.append(shipped.drop_attrs().rename(changed))
    dataset = xr.merge(parts).assign_attrs(curves=json.dumps(names))
    return attach(dataset, _numbers(dataset))


def curves_of(dataset: xr.Dataset, name: str) -> dict[str, EntropyCurve]:
    """The curves of a data set, by their labels."""
    labels = json.loads(dataset.attrs["curves"])[name]
    return {
        label: unstack(dataset, f"{name}_curve{i}", prefix=f"{name}_c{i}_")[0]
        for i, label in enumerate(labels)
    }


def _numbers(dataset: xr.Dataset) -> list[Number]:
    numbers = []
    for name, shown in DATA.items():
        for label, curve in curves_of(dataset, name).items():
            numbers.append(number(f"{shown}, {label}: σ at half entropy", np.exp(half_entropy(curve).value)))
            try:
                low, high = np.exp(window_ends(curve))
            except ValueError:  # a curve that is still gaining at its end has no window
                continue
            numbers.append(number(f"{shown}, {label}: σ at the low end of the window", low))
            numbers.append(number(f"{shown}, {label}: σ at the high end of the window", high))
    return numbers


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Entropies above, rates below."""
    figure, axes = new_figure(2, 2, height=5.0)
    axis = view.on("sigma")
    for column, name in enumerate(DATA):
        for label, curve in curves_of(dataset, name).items():
            draw_entropy(axes[0, column], curve, view, axis, label=label, **_LINES[label])
            draw_rate(axes[1, column], curve, view, axis, label=label, **_LINES[label])
        say_contradiction(axes[0, column], curves_of(dataset, name))
        _limit_below(axes[0, column], view.information(-0.5))
        _limit_below(axes[1, column], 0.0)
    axes[0, 0].legend(fontsize=6.5)
    names = (*DATA.values(), *(f"{name}: rates" for name in DATA.values()))
    letter_panels(axes.flat, names)
    return figure


def _limit_below(ax: Axes, bottom: float) -> None:
    """Show entropies below zero, which are errors of the network, no further than `bottom`."""
    ax.set_ylim(bottom=max(bottom, min(0.0, ax.get_ylim()[0])))
