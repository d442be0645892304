"""What the pictures of all pages share: an empty panel, and numbers as a page keeps them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from bokeh.models import Range1d
from bokeh.plotting import figure

# The place of the vertical axis, so that panels below each other are in line.
LEFT_BORDER = 68


def new_panel(name: str, height: int, title: str, across: Range1d) -> figure:
    """An empty panel without tools.

    Args:
        name: by which the page's script finds it.
        height: pixels.
        title: label of the vertical axis.
        across: the horizontal range, which panels of one page share.
    """
    return figure(
        name=name,
        height=height,
        sizing_mode="stretch_width",
        x_range=across,
        y_range=Range1d(start=0, end=1),
        y_axis_label=title,
        x_axis_label="t",
        tools="",
        toolbar_location=None,
        min_border_left=LEFT_BORDER,
    )


def numbers(values: Iterable[Any]) -> list[float | None]:
    """Numbers for a page, six digits of each; None for what is not finite."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in np.asarray(values, float)]
