"""``speciation models``: what can be asked, and between what."""

from typing import Annotated

import typer

from paper_figures.commands.lists import Command

models = typer.Typer(
    help="Models by name, their classes, and partitions of these that ship.", rich_markup_mode=None
)

Name = Annotated[
    str, typer.Argument(help="A model's name or path; 'imagenet' needs no weights.", metavar="MODEL")
]
Find = Annotated[
    str, typer.Option("--find", metavar="TEXT", help="Only names and spellings that hold this text.")
]
Groups = Annotated[
    bool, typer.Option("--groups", help="Groups of classes instead, with how many each holds.")
]
Which = Annotated[
    str | None, typer.Argument(help="Print the cells of this one, class by class.", metavar="[NAME|FILE]")
]


@models.command("list", cls=Command)
def list_models() -> None:
    """List the models that are always known by name.

    A path works wherever a name does: an EDM2 checkpoint, a network that `speciation train` made. Exact mixtures are
    models too: mixture:simplex:10:64, mixture:tree:2x4:64.
    """
    from paper_figures.commands.listing import show_models

    show_models()


@models.command(cls=Command)
def classes(model: Name, find: Find = "", groups: Groups = False) -> None:
    """List the classes of a model by index, or its groups.

    ImageNet's names and groups are WordNet 3.0's.
    """
    from paper_figures.commands.listing import show_classes, show_groups

    show_groups(model, find) if groups else show_classes(model, find)


@models.command(cls=Command)
def partitions(name: Which = None) -> None:
    """List the partitions that ship, or print one.

    Each comes with the source of its cells. A file of your own has the same form; docs/compare.md describes it.
    """
    from paper_figures.commands.listing import show_partition, show_partitions

    show_partitions() if name is None else show_partition(name)
