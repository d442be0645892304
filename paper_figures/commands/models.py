"""``speciation models``: models by name, their classes, and partitions of these."""

from typing import Annotated

import typer

from paper_figures.commands.lists import Command

models = typer.Typer(
    help="Models by name, their classes, and the partitions that ship.", rich_markup_mode=None
)

Name = Annotated[
    str, typer.Argument(help="A model's name or path; 'imagenet' needs no weights.", metavar="MODEL")
]
Find = Annotated[
    str, typer.Option("--find", metavar="TEXT", help="List only names and spellings that contain this text.")
]
Groups = Annotated[
    bool, typer.Option("--groups", help="List groups of classes instead, with the number of their classes.")
]
Trust = Annotated[
    bool, typer.Option("--trust-code", help="Load an own model, module:object, which executes its code.")
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
def classes(model: Name, find: Find = "", groups: Groups = False, trust_code: Trust = False) -> None:
    """List the classes of a model by index, or its groups.

    ImageNet's names and groups are WordNet 3.0's.
    """
    from paper_figures.commands.listing import show_classes, show_groups

    show = show_groups if groups else show_classes
    show(model, find, trust_code=trust_code)


@models.command(cls=Command)
def partitions(name: Which = None) -> None:
    """List the partitions that ship, or print one.

    Each comes with the source of its cells. A file of your own has the same form; docs/how-to/compare.md describes it.
    """
    from paper_figures.commands.listing import show_partition, show_partitions

    show_partitions() if name is None else show_partition(name)
