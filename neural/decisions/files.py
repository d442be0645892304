"""Partition files: cells of classes or prompts, at several levels, as TOML or JSON. Schema: ``docs/compare.md``.

Files are untrusted text: parsed, checked and never executed.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from neural.decisions.decision import Decision, decision
from neural.decisions.words import check_free_text, members
from neural.models.model import Model

FORMAT = "speciation-partition/1"
FOLDER = Path(__file__).parent.parent / "partitions"
MAX_BYTES = 1 << 20
EACH = "each"
_KINDS = ("classes", "prompts")
_FIELDS = {"format", "name", "about", "source", "kind", "classes_of", "templates", "level"}


class Shipped(NamedTuple):
    """A partition that comes with the project.

    Attributes:
        name: on the command line.
        about: one line.
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
    """Partitions that come with the project, by name."""
    found = {}
    for path in sorted(FOLDER.glob("*.toml")):
        held = parse(path)
        found[path.stem] = Shipped(
            path.stem, held.get("about", ""), held.get("kind", "classes"), held.get("classes_of", ""), path
        )
    return found


def read_partition(source: str, model: Model) -> Decision:
    """A decision of `model` from a file, or from a partition that ships.

    Args:
        source: a name (`shipped`) or the path of a ``.toml`` or ``.json``.
        model: whose conditions the cells name.

    Raises:
        ValueError: when there is no such file, it is not of the format, its cells are empty or overlap, or the
            model does not know what it names.
    """
    path = Path(source).expanduser()
    known = shipped()
    if not path.is_file():
        if source not in known:
            raise ValueError(f"partition must be a file, or one of {', '.join(known)}; got {source!r}")
        path = known[source].path
    held = parse(path)
    try:
        return _decision(held, path.stem, model)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def parse(path: Path) -> dict[str, Any]:
    """The table in a partition file, its fields of the right kinds.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"{path}: a partition file has at most {MAX_BYTES} bytes, this one {path.stat().st_size}"
        )
    try:
        text = path.read_text(encoding="utf-8")
        held = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        _check_fields(held)
    except (ValueError, RecursionError) as error:  # of JSON, TOML and Unicode alike
        raise ValueError(f"{path}: {error}") from error
    return held


def _check_fields(held: Any) -> None:
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        found = held.get("format") if isinstance(held, dict) else type(held).__name__
        raise ValueError(f"format must be {FORMAT!r}, got {found!r}")
    if unknown := sorted(held.keys() - _FIELDS):
        raise ValueError(f"unknown field {unknown[0]!r}; fields are {', '.join(sorted(_FIELDS))}")
    if held.get("kind", _KINDS[0]) not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {held['kind']!r}")
    for name in ("name", "about", "source", "classes_of"):
        if not isinstance(held.get(name, ""), str):
            raise ValueError(f"{name} must be text, got {held[name]!r}")
    templates = held.get("templates", ["{}"])
    if not _is_texts(templates) or not templates or any(t.count("{}") != 1 for t in templates):
        raise ValueError(f"templates must list texts with one {{}} each, got {templates!r}")
    levels = held.get("level")
    if not isinstance(levels, list) or not levels:
        raise ValueError("level must be a list of tables ([[level]] in TOML), one a level, coarsest first")
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


def _decision(held: Mapping[str, Any], stem: str, model: Model) -> Decision:
    prompts = held.get("kind") == "prompts"
    _check_model(held, prompts, model)
    levels = []
    for number, level in enumerate(held["level"]):
        named = level["cells"]
        if named == EACH:
            known = dict.fromkeys(m for _, cells in levels for group in cells.values() for m in group)
            if not known:
                raise ValueError(f"level {number} cannot be {EACH!r}: no level above it names anything")
            cells = {_called(model, prompts, member): [member] for member in known}
        else:
            cells = {
                cell: _prompts(held, words) if prompts else _conditions(model, words)
                for cell, words in named.items()
            }
        levels.append((level.get("name", f"level {number + 1}"), cells))
    names = None if prompts else dict(zip(model.conditions or (), model.names, strict=True))
    return decision(
        held.get("name", stem), levels, names, about=held.get("about", ""), source=held.get("source", "")
    )


def _check_model(held: Mapping[str, Any], prompts: bool, model: Model) -> None:
    if prompts:
        return check_free_text(model)
    if model.free_text:
        raise ValueError(f"it names classes; {model.name} takes prompts")
    of = held.get("classes_of")
    if of and model.classes_of and of != model.classes_of:
        raise ValueError(f"it names classes of {of}; {model.name} knows those of {model.classes_of}")
    return None


def _called(model: Model, prompts: bool, member: Any) -> str:
    return str(member) if prompts else model.names[(model.conditions or ()).index(member)]


def _conditions(model: Model, words: Sequence[str | int]) -> list[Any]:
    conditions = model.conditions or ()
    return [conditions[i] for word in words for i in members(model, str(word))]


def _prompts(held: Mapping[str, Any], words: Sequence[str | int]) -> list[str]:
    """Templates times words."""
    return [template.replace("{}", str(word)) for word in words for template in held.get("templates", ["{}"])]
