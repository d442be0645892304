"""Partition files: cells of classes or prompts, at several levels, as TOML or JSON.

Format: ``docs/how-to/compare.md``, with its JSON Schema in ``docs/schemas/partition.json``.

Files are untrusted text: parsed, checked and never executed.
"""

import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import pydantic
from typing_extensions import TypedDict

from gmm.outside_files import read_outside
from gmm.schema import either, from_json, from_values
from neural.decisions.decision import Decision
from neural.decisions.words import check_free_text, members
from neural.models.model import Model

FORMAT = "speciation-partition/1"
FOLDER = Path(__file__).parent.parent / "partitions"
MAX_BYTES = 1 << 20
EACH = "each"
MAX_DOTS = 100
MAX_PROMPTS = 10_000
"""Templates times words, of one cell."""
_STRINGS_AND_COMMENTS = re.compile(
    r"""#[^\n]*|\"{3}(?:\\.|[^\\])*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""", re.DOTALL
)


def _with_one_gap(text: str) -> str:
    if text.count("{}") != 1:
        raise ValueError(f"templates must have one {{}} each, got {text!r:.60}")
    return text


Template = Annotated[
    str,
    pydantic.AfterValidator(_with_one_gap),
    pydantic.WithJsonSchema({"type": "string", "pattern": r"^(?:(?!\{\})[\s\S])*\{\}(?:(?!\{\})[\s\S])*$"}),
]


class Level(TypedDict):
    """One level of a partition: its cells list class names, indices, spans and groups (or words, of prompts)."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")  # type: ignore[misc]
    name: NotRequired[str]
    cells: Annotated[
        Literal["each"] | dict[str, list[str | int]],
        either("names of cells with lists of class names, indices, spans and groups (or words), or 'each'"),
    ]


class PartitionFile(TypedDict):
    """What a partition file holds, levels coarsest first."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")  # type: ignore[misc]
    format: Literal["speciation-partition/1"]
    name: NotRequired[str]
    about: NotRequired[str]
    source: NotRequired[str]
    kind: NotRequired[Literal["classes", "prompts"]]
    classes_of: NotRequired[str]
    templates: NotRequired[Annotated[list[Template], pydantic.Field(min_length=1)]]
    level: Annotated[list[Level], pydantic.Field(min_length=1)]


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
    contents = read_outside(path, MAX_BYTES)
    try:
        # A dictionary of `PartitionFile`'s fields.
        if path.suffix == ".json":
            return from_json(PartitionFile, contents)  # type: ignore[return-value]
        return from_values(PartitionFile, _toml(contents.decode("utf-8")))
    except (ValueError, RecursionError) as error:  # from JSON, TOML or Unicode
        raise ValueError(f"{path}: {error}") from error


def _toml(text: str) -> dict[str, Any]:
    """The table in TOML text. The time that Python's parser takes grows with the square of a key's parts."""
    for line in _STRINGS_AND_COMMENTS.sub("", text).splitlines():
        if line.count(".") > MAX_DOTS:
            raise ValueError(f"a line has a key of more than {MAX_DOTS} parts, or as many fractions")
    return tomllib.loads(text)


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
    """The conditions that words stand for; one more than the model has is enough to see that some come twice."""
    conditions = model.conditions or ()
    listed = (conditions[i] for word in words for i in members(model, str(word)))
    return list(itertools.islice(listed, len(conditions) + 1))


def _prompts(table: Mapping[str, Any], words: Sequence[str | int]) -> list[str]:
    """Templates times words."""
    templates = table.get("templates", ["{}"])
    if len(templates) * len(words) > MAX_PROMPTS:
        raise ValueError(
            f"a cell of {len(templates)} templates and {len(words)} words; at most {MAX_PROMPTS} prompts"
        )
    return [template.replace("{}", str(word)) for word in words for template in templates]
