"""``speciation show``: the facts and the picture of any saved result."""

from pathlib import Path
from typing import Annotated

import typer

from paper_figures.commands.options import Axis, Units

File = Annotated[Path, typer.Argument(help="A curve or the data of a figure, as NetCDF.", metavar="FILE")]
PictureFile = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="PICTURE", help="Where to draw: .png, .pdf or .svg. Default: beside FILE, as PNG."
    ),
]


def show(file: File, out: PictureFile = None, axis: Axis = None, units: Units = "nats") -> None:
    """Print and draw a saved curve or the data of a figure.

    Of an entropy curve, from any source, it prints the facts it was made from, its window and its peak. The
    data of a figure are drawn again; nothing is computed.
    """
    from paper_figures.commands.saved_files import show_file
    from paper_figures.drawing.view import View

    typer.echo(f"drawn: {show_file(file, View(axis, units), out)}")
