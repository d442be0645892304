"""Partition files: cells of classes or prompts, at several levels, as TOML or JSON. Schema: ``docs/compare.md``.

Files are untrusted text: parsed, checked and never executed.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from neural.decisions.decision import Decision
from neural.decisions.words import check_free_text, members
from neural.models.model import Model

FORMAT = "speciation-partition/1"
FOLDER = Path(__file__).parent.parent / "partitions"
MAX_BYTES = 1 << 20
EACH = "each"
_KINDS = ("classes", "prompts")
_FIELDS = {"format", "name", "about", "source", "kind", "classes_of", "templates", "level"}


class Shipped(NamedTuple):
    """A partition that is part of the project.

    Attributes:
        name: its name.
        about: a description of one line.
        kind: "classes" or "prompts".
        classes_of: whose classes it names, e.g. "imagenet"; empty for prompts.
        path: its file.
    """

    name: str
    about: str
    kind: str
    classes_of: str
    path: Path


def shipped() -> dict[str, Shipped]:
    """Partitions that are part of the project, by name."""
    partitions = {}
    for path in sorted(FOLDER.glob("*.toml")):
        table = parse(path)
        partitions[path.stem] = Shipped(
            path.stem, table.get("about", ""), table.get("kind", "classes"), table.get("classes_of", ""), path
        )
    return partitions


def read_partition(source: str, model: Model) -> Decision:
    """A decision of `model` from a file, or from a partition that is part of the project.

    Args:
        source: a name (`shipped`) or the path of a ``.toml`` or ``.json``.
        model: whose conditions the cells name.

    Raises:
        ValueError: when there is no such file, it is not of the format, its cells are empty or overlap, or it
            lists conditions that the model does not have.
    """
    path = Path(source).expanduser()
    known = shipped()
    if not path.is_file():
        if source not in known:
            raise ValueError(f"partition must be a file, or one of {', '.join(known)}; got {source!r}")
        path = known[source].path
    table = parse(path)
    try:
        return _decision(table, path.stem, model)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def parse(path: Path) -> dict[str, Any]:
    """The table in a partition file, with fields of the right types.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"{path}: a partition file has at most {MAX_BYTES} bytes, this one {path.stat().st_size}"
        )
    try:
        text = path.read_text(encoding="utf-8")
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        _check_fields(table)
    except (ValueError, RecursionError) as error:  # from JSON, TOML or Unicode
        raise ValueError(f"{path}: {error}") from error
    return table


def _check_fields(table: Any) -> None:
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        found = table.get("format") if isinstance(table, dict) else type(table).__name__
        raise ValueError(f"format must be {FORMAT!r}, got {found!r}")
    if unknown := sorted(table.keys() - _FIELDS):
        raise ValueError(f"unknown field {unknown[0]!r}; fields are {', '.join(sorted(_FIELDS))}")
    if table.get("kind", _KINDS[0]) not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {table['kind']!r}")
    for name in ("name", "about", "source", "classes_of"):
        if not isinstance(table.get(name, ""), str):
            raise ValueError(f"{name} must be text, got {table[name]!r}")
    templates = table.get("templates", ["{}"])
    if not _is_texts(templates) or not templates or any(t.count("{}") != 1 for t in templates):
        raise ValueError(f"templates must list texts with one {{}} each, got {templates!r}")
    levels = table.get("level")
    if not isinstance(levels, list) or not levels:
        raise ValueError("level must be a list of tables ([[level]] in TOML), one per level, coarsest first")
    for number, level in enumerate(levels):
        _check_level(number, level)


def _check_level(number: int, level: Any) -> None:
    if not isinstance(level, dict) or not isinstance(level.get("name", ""), str):
        raise ValueError(f"level {number} must be a table with a name and cells")
    if unknown := sorted(level.keys() - {"name", "cells"}):
        raise ValueError(f"level {number} has an unknown field {unknown[0]!r}; fields are name, cells")
    cells = level.get("cells")
    if cells == EACH:
        return
    whole = isinstance(cells, dict) and all(_is_texts(members, numbers=True) for members in cells.values())
    if not whole:
        raise ValueError(
            f"cells of level {number} must map names to lists of class names, indices, spans and groups "
            f"(or words, of prompts), or be {EACH!r}"
        )


def _is_texts(value: Any, numbers: bool = False) -> bool:
    kinds = (str, int) if numbers else (str,)
    return isinstance(value, list) and all(isinstance(v, kinds) and not isinstance(v, bool) for v in value)


def _decision(table: Mapping[str, Any], stem: str, model: Model) -> Decision:
    prompts = table.get("kind") == "prompts"
    _check_model(table, prompts, model)
    levels = []
    for number, level in enumerate(table["level"]):
        named = level["cells"]
        if named == EACH:
            listed = dict.fromkeys(m for _, cells in levels for group in cells.values() for m in group)
            if not listed:
                raise ValueError(f"level {number} cannot be {EACH!r}: no level above it lists a condition")
            cells = {_display_name(model, prompts, member): [member] for member in listed}
        else:
            cells = {
                cell: _prompts(table, words) if prompts else _conditions(model, words)
                for cell, words in named.items()
            }
        levels.append((level.get("name", f"level {number + 1}"), cells))
    names = None if prompts else dict(zip(model.conditions or (), model.names, strict=True))
    return Decision.from_cells(
        table.get("name", stem), levels, names, about=table.get("about", ""), source=table.get("source", "")
    )


def _check_model(table: Mapping[str, Any], prompts: bool, model: Model) -> None:
    if prompts:
        return check_free_text(model)
    if model.free_text:
        raise ValueError(f"it lists classes; {model.name} takes prompts")
    of = table.get("classes_of")
    if of and model.classes_of and of != model.classes_of:
        raise ValueError(f"it lists classes of {of}; {model.name} has those of {model.classes_of}")
    return None


def _display_name(model: Model, prompts: bool, member: Any) -> str:
    return str(member) if prompts else model.names[(model.conditions or ()).index(member)]


def _conditions(model: Model, words: Sequence[str | int]) -> list[Any]:
    conditions = model.conditions or ()
    return [conditions[i] for word in words for i in members(model, str(word))]


def _prompts(table: Mapping[str, Any], words: Sequence[str | int]) -> list[str]:
    """Every word in every template."""
    return [
        template.replace("{}", str(word)) for word in words for template in table.get("templates", ["{}"])
    ]
