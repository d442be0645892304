"""Decisions from words: class names, groups of classes, prompts."""

import difflib
import re
from collections.abc import Sequence

from neural.decisions.decision import Decision
from neural.models.model import Model

# Trackers evaluate every condition; with more than this many, the user has to choose some.
MOST_BY_DEFAULT = 64
_SPAN = re.compile(r"(\d+)-(\d+)")
_GROUP = "group:"


def members(model: Model, word: str) -> tuple[int, ...]:
    """Indices of the conditions that a word stands for.

    A word is the name, an alias or the index of a condition; a span of indices ("151-268"); or the name of a
    group ("dog", or "group:dog" where a condition has that name too).

    Raises:
        ValueError: for an unknown word, with the nearest names.
    """
    span = _SPAN.fullmatch(word)
    if span and word not in model.names:
        low, high = map(int, span.groups())
        if not low <= high < len(model.names):
            raise ValueError(f"span {word!r} must rise within 0..{len(model.names) - 1}")
        return tuple(range(low, high + 1))
    if word.startswith(_GROUP):
        return _group(model, word.removeprefix(_GROUP))
    try:
        return (model.find(word),)
    except ValueError:
        if word not in model.groups:
            raise
        return tuple(model.groups[word])


def _group(model: Model, name: str) -> tuple[int, ...]:
    if name in model.groups:
        return tuple(model.groups[name])
    close = difflib.get_close_matches(name, model.groups, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "" if model.groups else "; it has no groups"
    raise ValueError(f"{model.name} has no group {name!r}{hint}")


def by_classes(model: Model, words: Sequence[str], *, least: int = 2) -> Decision:
    """The decision between `least` words or more, each a cell; see `members`.

    Raises:
        ValueError: for unknown words, too few of them, words that overlap, or a model of free text.
    """
    if model.free_text:
        raise ValueError(f"{model.name} has no classes: it takes `prompts`, or a `partition` of prompts")
    groups = [members(model, word) for word in words]
    cells = [model.names[g[0]] if len(g) == 1 else word for word, g in zip(words, groups, strict=True)]
    if len(set(cells)) < len(cells):
        twice = next(name for name in cells if cells.count(name) > 1)
        raise ValueError(f"classes must differ, got {twice!r} twice")
    levels = [("classes", dict(zip(cells, groups, strict=True)))]
    return _of_indices(model, " | ".join(cells), levels, least=least)


def by_prompts(model: Model, prompts: Sequence[str], *, least: int = 2) -> Decision:
    """The decision between `least` prompts or more, each a cell.

    Raises:
        ValueError: for too few prompts, equal ones, or a model that takes no text.
    """
    check_free_text(model)
    if len(set(prompts)) < len(prompts):
        raise ValueError(f"prompts must differ, got {list(prompts)}")
    return Decision.from_cells(
        " | ".join(prompts), [("prompts", {prompt: [prompt] for prompt in prompts})], least=least
    )


def every_class(model: Model) -> Decision:
    """The decision among all conditions of a model at its levels, the finest last.

    Raises:
        ValueError: for a model of free text, or of more than `MOST_BY_DEFAULT` classes.
    """
    if model.free_text:
        raise ValueError(f"{model.name} takes prompts: name them by `prompts`, or name a `partition`")
    if len(model.names) > MOST_BY_DEFAULT:
        raise ValueError(
            f"{model.name} has {len(model.names)} classes: name some by `classes`, or name a `partition` "
            "(`speciation models partitions` lists those that ship)"
        )
    levels = []
    for name, partition in model.levels.items():
        groups = [[i for i, c in enumerate(partition.labels) if c == cell] for cell in range(partition.cells)]
        if len(groups) < len(model.names):  # the finest level has names of its own
            levels.append((name, {f"{name} {cell}": group for cell, group in enumerate(groups)}))
    finest = {name: [index] for index, name in enumerate(model.names)}
    return _of_indices(model, "all classes", [*levels, ("classes", finest)])


def check_free_text(model: Model) -> None:
    """Raise ValueError when a model takes no prompts."""
    if not model.free_text:
        raise ValueError(f"{model.name} has classes and takes no prompts; name classes by `classes`")


def _of_indices(model: Model, name: str, levels: Sequence, *, least: int = 2) -> Decision:
    """The decision whose cells are given by indices of the model's conditions."""
    conditions = model.conditions or ()
    translated = [
        (level, {cell: [conditions[i] for i in group] for cell, group in cells.items()})
        for level, cells in levels
    ]
    return Decision.from_cells(name, translated, dict(zip(conditions, model.names, strict=True)), least=least)
