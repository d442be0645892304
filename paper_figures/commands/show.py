"""``speciation show``: the facts and the picture of any saved result."""

from pathlib import Path
from typing import Annotated

import typer

from paper_figures.commands.options import ViewOptions

File = Annotated[
    Path,
    typer.Argument(
        help="A saved result: NetCDF, or the JSON of a window or of guidance schedules.", metavar="FILE"
    ),
]
PictureFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="PICTURE|TABLE.csv",
        help="File for the picture (.png, .pdf or .svg), or for the table (.csv). Default: a picture beside FILE, as "
        "PNG.",
    ),
]


def show(file: File, *, out: PictureFile = None, view: ViewOptions) -> None:
    """Print and draw any saved result: a curve, a figure, a sweep, a comparison, a training, a window, ...

    Of an entropy curve its window, its peak and the facts it was made from are printed. A table holds the points of a
    curve or a comparison, the times of a sweep's cells, or the numbers of a figure. Nothing is computed.
    """
    from paper_figures.commands.saved_files import show_file

    target = show_file(file, view, out)
    typer.echo(f"{'table' if target.suffix == '.csv' else 'drawn'}: {target}")
