"""The picture of judged U-turns."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from paper_figures.drawing import style


def draw(dataset: xr.Dataset) -> Figure:
    """What is predicted as bands, what the judge sees as points; and the points less the prediction."""
    figure, axes = style.new_figure(1, 2, height=3.2)
    sigma = np.exp(dataset.turn_log_sigma.values)
    names = list(map(str, dataset.level.values))
    for name, look in zip(names, style.kinds(len(names)), strict=True):
        part = dataset.sel(level=name)
        label = style.literal(name)
        style.band(
            axes[0, 0], sigma, part.predicted.values, part.predicted_stderr.values, label=label, **look
        )
        bars = style.BAND_STDERRS * part.u_turn_stderr.values
        points = {"fmt": "o", "markersize": 3, "color": look["color"]}
        axes[0, 0].errorbar(sigma, part.u_turn.values, bars, **points)
        axes[0, 0].axhline(float(part.accuracy), color=look["color"], linewidth=0.5)
        off = part.u_turn.values - part.predicted.values * float(part.accuracy)
        error = np.hypot(part.u_turn_stderr.values, part.predicted_stderr.values)
        axes[0, 1].errorbar(sigma, off, style.BAND_STDERRS * error, **points, linestyle="-")
    axes[0, 1].axhline(0, color="0.5", linewidth=0.8)
    axes[0, 0].set(ylabel="probability of the same class", ylim=(-0.03, 1.03))
    axes[0, 1].set_ylabel("judged less predicted × accuracy")
    for ax in axes.flat:
        style.noise_axis(ax, "sigma")
    axes[0, 0].legend()
    style.letter_panels(axes.flat, ("there and back", "against the prediction"))
    return figure
