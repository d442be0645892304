"""The panels of a comparison that show its U-turns: forward to a noise level, and back."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from paper_figures.drawing.style import BAND_STDERRS, sequence
from paper_figures.studies.comparison import curve_of
from paper_figures.studies.sources import ONLINE


def draw(axes: Sequence[Axes], dataset: xr.Dataset, looks: Mapping[str, dict], to_axis: Callable) -> None:
    """Agreements of every posterior as lines, those of the U-turns as points; and the points less the model's line."""
    noise = dataset.turn_log_sigma.values
    styles = [line["linestyle"] for line in sequence(len(dataset.level))]
    for level, style in zip(map(str, dataset.level.values), styles, strict=True):
        for source in map(str, dataset.source.values):
            curve = curve_of(dataset, source, level)
            line = looks[source] | {"linestyle": style}
            axes[0].plot(to_axis(-0.5 * curve.log_snr), curve.clone_agreement, **line)
        value, stderr = (dataset[name].sel(level=level).values for name in ("u_turn", "u_turn_stderr"))
        points = {
            "yerr": BAND_STDERRS * stderr,
            "fmt": "o",
            "color": "black",
            "markersize": 3.5,
            "linewidth": 1.0,
        }
        axes[0].errorbar(to_axis(noise), value, **points)
        model = curve_of(dataset, ONLINE, level)
        order = np.argsort(model.sigma)
        expected = np.interp(noise, np.log(model.sigma[order]), model.clone_agreement[order])
        axes[1].errorbar(to_axis(noise), value - expected, **points | {"ls": style})
    axes[0].set(ylabel=r"class stays, $\mathrm{E}\sum p^2$", ylim=(0, 1.03))
    axes[1].set(ylabel="U-turn less the model's $\\mathrm{E}\\sum p^2$")
    axes[1].axhline(0, color="black", linewidth=0.6, linestyle="-")
