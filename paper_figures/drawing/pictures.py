"""A sheet of pictures: one row for each condition, one column for each seed."""

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.image import imread

from paper_figures.drawing.style import literal
from paper_figures.studies.pictures import Picture

# Images of at most so many pixels a side keep their pixels; larger ones are smoothed.
_LARGEST_UNSMOOTHED = 64
_NAME_WIDTH, _NAME_LINES = 18, 5


def draw_sheet(pictures: Sequence[Picture], folder: Path, heading: str) -> Figure:
    """All pictures that lie in a folder, on one page."""
    rows = list(dict.fromkeys(picture.name for picture in pictures))
    columns = list(dict.fromkeys(picture.seed for picture in pictures))
    figure = Figure(figsize=(1.2 + 1.8 * len(columns), 0.6 + 1.8 * len(rows)), layout="constrained", dpi=150)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for picture in pictures:
        image = imread(picture.path(folder))
        smoothing = "nearest" if image.shape[0] <= _LARGEST_UNSMOOTHED else "antialiased"
        axes[rows.index(picture.name)][columns.index(picture.seed)].imshow(image, interpolation=smoothing)
    for row, column in itertools.product(range(len(rows)), range(len(columns))):
        ax = axes[row][column]
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if row == 0:
            ax.set_title(f"seed {columns[column]}", fontsize=8)
        if column == 0:
            name = "\n".join(textwrap.wrap(rows[row], _NAME_WIDTH)[:_NAME_LINES])
            ax.set_ylabel(literal(name), fontsize=8, rotation=0, ha="right", va="center")
    figure.suptitle(literal(heading), fontsize=9)
    return figure
