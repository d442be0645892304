"""``speciation show``: the facts and the picture of any saved result."""

from pathlib import Path
from typing import Annotated

import typer

from paper_figures.commands.options import Axis, Units

File = Annotated[Path, typer.Argument(help="A saved result, as NetCDF.", metavar="FILE")]
PictureFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="PICTURE",
        help="File for the picture: .png, .pdf or .svg. Default: beside FILE, as PNG.",
    ),
]


def show(file: File, out: PictureFile = None, axis: Axis = None, units: Units = "nats") -> None:
    """Print and draw any saved result: a curve, a figure, a sweep, a comparison, a training or a data set.

    Of an entropy curve its window, its peak and the facts it was made from are printed. Nothing is computed.
    """
    from paper_figures.commands.saved_files import show_file
    from paper_figures.drawing.view import View

    typer.echo(f"drawn: {show_file(file, View(axis, units), out)}")
