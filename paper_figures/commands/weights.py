"""``speciation weights``: published networks on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from paper_figures.commands.lists import Command

weights = typer.Typer(
    help="Published networks: list, fetch, convert, check. Nothing in a file is ever executed.",
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="A name from the list, or an official EDM2 name.", metavar="NAME")]
File = Annotated[
    Path,
    typer.Argument(
        help="An official .pkl, a .safetensors, a .ckpt, a folder of Stable Diffusion, or a preset that is one.",
        metavar="FILE",
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(help="Commit, branch or tag of a repository, in place of the pinned commit.", metavar="REV"),
]
Source = Annotated[
    Path, typer.Argument(help="A checkpoint of torch: .pkl, .pt or .ckpt.", metavar="FILE.pkl")
]
Target = Annotated[Path, typer.Argument(help="Where to write.", metavar="FILE.safetensors")]


@weights.command("list", cls=Command)
def list_presets() -> None:
    """List the presets, with the address and size of each file and whether it is on this machine."""
    from paper_figures.commands.weight_files import show_presets

    show_presets()


@weights.command(cls=Command)
def fetch(name: Name, revision: Revision = None) -> None:
    """Download a preset's files into the cache.

    A transfer that was interrupted goes on where it stopped. The sha256 of a file is recorded beside it when it is
    first fetched, and checked from then on. The cache folder is $SPECIATION_CACHE if that is set. Licences of the
    weights: EDM2 CC BY-NC-SA 4.0, sd15 CreativeML Open RAIL-M, sd-vae-ft-mse MIT.
    """
    from paper_figures.commands.weight_files import fetch_preset

    fetch_preset(name, revision)


@weights.command(cls=Command)
def convert(source: Source, target: Target) -> None:
    """Write a checkpoint as safetensors.

    Tensors keep their names and types; the network's options are kept in the metadata.
    """
    from paper_figures.commands.weight_files import convert_file

    convert_file(source, target)


@weights.command(cls=Command)
def check(file: File) -> None:
    """Read a checkpoint whole and print what it is.

    EDM2 and Stable Diffusion must have every tensor in its shape, every number must be finite, and the file
    must have the sha256 that was recorded when it was fetched.
    """
    from paper_figures.commands.weight_files import check_file

    check_file(file)
