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
ViewFile = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="PAGE.html",
        help="Write a page for a browser, in place of a picture beside FILE: values with their errors, axes, units and "
        "lines to choose.",
    ),
]


def show(file: File, *, out: PictureFile = None, html: ViewFile = None, view: ViewOptions) -> None:
    """Print and draw any saved result: a curve, a figure, a sweep, a comparison, a training, a window, ...

    Of an entropy curve its window, its peak and the facts it was made from are printed. A table holds the points of a
    curve or a comparison, the times of a sweep's cells, or the numbers of a figure. A page shows every curve of the
    result and its other quantities; it is one file that needs no network. Nothing is computed.
    """
    from paper_figures.commands.saved_files import show_file, show_page

    if html is not None:
        typer.echo(f"page: {show_page(file, view, html)}")
        if out is None:
            return
    target = show_file(file, view, out, quiet=html is not None)
    typer.echo(f"{'table' if target.suffix == '.csv' else 'drawn'}: {target}")
