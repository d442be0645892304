"""The page of a saved result: its lines with their errors, on an axis and in a unit that a person chooses."""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.plotting import figure

from gmm.curve import AXES
from gmm.schema import printable
from paper_figures.formats.lines import (
    MOST_LINES,
    MOST_POINTS,
    NamedCurve,
    Series,
    curves_of,
    left_out,
    series_of,
)
from paper_figures.formats.numbers import numbers_of
from paper_figures.pages.bundle import asset, write_page
from paper_figures.pages.panel import new_panel, numbers

FORMAT = "speciation-view/1"
SCRIPTS = ("plot.js", "view.js")
HEIGHTS = (340, 220, 220)
BAND_ALPHA = 0.18


def write_view(
    path: Path, dataset: xr.Dataset, name: str, facts: Sequence[tuple[str, str]] = ()
) -> Path | None:
    """Write the page of a result and return its path; None, and no page, where the result has nothing to draw.

    Args:
        path: the page's file.
        dataset: any saved result with curves or other quantities.
        name: of the result, for the heading.
        facts: names and values for a table on the page, before the result's own numbers.

    Raises:
        OSError: when the file cannot be written.
    """
    curves, series = curves_of(dataset), series_of(dataset)
    if not curves and not series:
        return None
    stated = [(n.label, n.shown + (f" (expected {n.shown_expected})" if n.shown_expected else ""))
              for n in numbers_of(dataset)]  # fmt: skip
    data = {
        "format": FORMAT,
        "version": importlib.metadata.version("speciation"),
        "name": printable(name),
        "facts": [[printable(str(a)), printable(str(b))] for a, b in (*facts, *stated)],
        "curves": [_curve(named) for named in curves],
        "leftOut": left_out(dataset),
        "series": [_of_series(one) for one in series],
        "mostLines": MOST_LINES,
        "mostPoints": MOST_POINTS,
    }
    layout = column(*_panels(), sizing_mode="stretch_width")
    title = f"{printable(name)}: speciation"
    return write_page(path, body=asset("view.html"), title=title, scripts=SCRIPTS, layout=layout, data=data)


def _curve(named: NamedCurve) -> dict[str, Any]:
    """One curve: positions on every axis, and values with errors in nats; a list is empty where nothing is known."""
    curve = named.curve
    rate, rate_stderr = curve.rate_per_log_noise()
    values = {
        "h": curve.entropy, "hError": curve.entropy_stderr, "rate": rate, "rateError": rate_stderr,
        "timeRate": curve.rate, "timeRateError": curve.rate_stderr,
        "agree": curve.clone_agreement, "agreeError": curve.clone_agreement_stderr,
        "cross": curve.cross_entropy, "crossError": curve.cross_entropy_stderr,
    }  # fmt: skip
    (prior,) = numbers([curve.prior_entropy])
    axes = {axis: numbers(curve.axis(axis)) for axis in AXES}
    kept = {key: _known(value) for key, value in values.items()}
    return {"name": named.name, "family": named.family, "prior": prior, "axes": axes, **kept}


def _known(values: np.ndarray | None) -> list[float | None]:
    return [] if values is None or not np.isfinite(values).any() else numbers(values)


def _of_series(series: Series) -> dict[str, Any]:
    lines = [
        {"name": line.name, "x": numbers(line.x), "y": numbers(line.y), "error": _known(line.stderr)}
        for line in series.lines
    ]
    return {"name": series.name, "along": series.along, "ticks": series.ticks, "lines": lines}


def _panels() -> list[figure]:
    """Pictures below each other, with empty sources that the script fills."""
    across = Range1d(start=0, end=1, name="across")
    return [_panel(i, height, across) for i, height in enumerate(HEIGHTS)]


def _panel(i: int, height: int, across: Range1d) -> figure:
    names = {
        f"bands-{i}": ("xs", "ys", "colour"),
        f"lines-{i}": ("xs", "ys", "colour", "dash"),
        f"points-{i}": ("x", "y", "colour", "alpha", "name", "place", "value"),
        f"cursor-{i}": ("x",),
    }
    bands, lines, points, cursor = (
        ColumnDataSource(data={column: [] for column in columns}, name=name)
        for name, columns in names.items()
    )
    panel = new_panel(f"panel-{i}", height, "", across)
    panel.patches("xs", "ys", source=bands, fill_color="colour", fill_alpha=BAND_ALPHA, line_color=None)
    panel.multi_line("xs", "ys", source=lines, line_color="colour", line_dash="dash", line_width=2)
    panel.vspan(x="x", source=cursor, line_width=1, line_dash="dotted", name="lines")
    shown = panel.scatter("x", "y", source=points, color="colour", size=4, alpha="alpha", hover_alpha=1)
    tips = [("line", "@name"), ("place", "@place"), ("value", "@value")]
    panel.add_tools(HoverTool(renderers=[shown], tooltips=tips, point_policy="snap_to_data", limit=4))
    return panel
