"""Tables of models, their classes, and partitions."""

from rich.table import Table

from neural import imagenet
from neural.decisions import read_partition, shipped
from neural.decisions.files import parse
from neural.models import Grid, Model, load_model, model_names
from paper_figures.terminal import console

IMAGENET = "imagenet"


def show_models() -> None:
    """Print the names of models and what they stand for."""
    table = Table("model", "what")
    for name, about in model_names().items():
        table.add_row(name, about)
    table.add_row(
        "mixture:FAMILY:CLASSES:DIM",
        "the exact denoiser of a Gaussian mixture: pair, simplex, orthogonal, tree",
    )
    console().print(table)


def show_classes(name: str, find: str = "", *, trust_code: bool = False) -> None:
    """Print one line for each class: index, name, other spellings.

    Raises:
        ValueError: when the model cannot be loaded, takes prompts, or no class holds the text.
    """
    model = _with_classes(name, trust_code)
    shown = 0
    for index, called in enumerate(model.names):
        others = [spelling for spelling in model.aliases.get(called, ()) if spelling != called]
        if find.casefold() in " ".join([called, *others]).casefold():
            shown += 1
            print(f"{index}\t{called}" + (f"\t({', '.join(others)})" if others else ""))
    _check_found(shown, model, find)


def show_groups(name: str, find: str = "", *, trust_code: bool = False) -> None:
    """Print one line for each group: the number of its classes, and its name.

    Raises:
        ValueError: as `show_classes`.
    """
    model = _with_classes(name, trust_code)
    groups = {
        group: members for group, members in model.groups.items() if find.casefold() in group.casefold()
    }
    for group, members in groups.items():
        print(f"{len(members)}\t{group}\t{imagenet.spans(members)}")
    _check_found(len(groups), model, find)


def show_partitions() -> None:
    """Print the partitions that ship."""
    table = Table("partition", "of", "what")
    for partition in shipped().values():
        table.add_row(partition.name, partition.classes_of or partition.kind, partition.about)
    console().print(table)


def show_partition(name: str) -> None:
    """Print the cells of a partition, level by level, and their source.

    Raises:
        ValueError: when there is none of that name, or it is no partition of classes known without a model.
    """
    known = shipped().get(name)
    contents = parse(known.path) if known else None
    of = known.classes_of if known else IMAGENET
    if contents is not None and contents.get("kind") == "prompts":
        decision = read_partition(name, Model(name, "text", None, (), None, (), Grid()))
    else:
        decision = read_partition(name, _vocabulary(of))
    if decision.about:
        print(f"{decision.name}: {decision.about}")
    if decision.source:
        print(f"source: {decision.source}")
    for level in decision.as_dict()["levels"]:
        print(f"{level['name']}:")
        for cell, members in level["cells"].items():
            print(f"  {cell} ({len(members)}): {', '.join(members)}")


def _vocabulary(of: str) -> Model:
    """A model without a network, which holds the names of its classes alone."""
    if of == IMAGENET:
        fields = {"names": imagenet.names(), "aliases": imagenet.aliases(), "groups": imagenet.groups()}
    else:
        from gmm.datasets import FASHION_CLASSES

        fields = {"names": FASHION_CLASSES if of == "fashion" else tuple("0123456789")}
    count = len(fields["names"])
    return Model(of, "names", None, (), tuple(range(count)), grid=Grid(), classes_of=of, **fields)  # type: ignore[arg-type]


def _with_classes(name: str, trust_code: bool) -> Model:
    model = _vocabulary(IMAGENET) if name == IMAGENET else load_model(name, trust_code=trust_code)
    if model.free_text:
        raise ValueError(f"{name} takes prompts and has no classes to list")
    return model


def _check_found(shown: int, model: Model, find: str) -> None:
    if not shown and find:
        raise ValueError(f"nothing in {model.name} holds {find!r}")
