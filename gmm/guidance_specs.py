"""Guidance schedules as text and as JSON.

Format: ``docs/how-to/guidance.md``, with the JSON Schema of files in ``docs/schemas/guidance.json``.
"""

import inspect
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union

import pydantic

from gmm import guidance as schedules
from gmm.curve import EntropyCurve
from gmm.files import write_aside
from gmm.guidance import Guidance
from gmm.outside_files import read_outside
from gmm.schema import Finite, from_json, from_values

FORMAT = "speciation-guidance/1"
LARGEST_FILE = 2**20
SPECS = {
    "none": "none",
    "cfg": "cfg:W[,W...]",
    "interval": "interval:W:LOW..HIGH",
    "feedback": "feedback[:PI][:NAME=VALUE,...]",
    "power": "power:OMEGA[:EXPONENT]",
    "entropy": "entropy:W[:SHARE][:profile]",
    "negative": "negative:W",
    "dynamic-negative": "dynamic-negative:PI[:NAME=VALUE,...]",
    "auto": "auto:W",
}
"""The text forms, by their first word."""

_MAKERS: dict[str, Callable[..., Guidance]] = {
    "none": schedules.unguided,
    "cfg": schedules.cfg,
    "auto": schedules.autoguidance,
    "interval": schedules.limited_interval,
    "profile": schedules.weight_profile,
    "feedback": schedules.feedback,
    "power": schedules.power_law,
    "dynamic-negative": schedules.dynamic_negative,
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf"


def _declared(kind: str) -> Any:
    """The type of a schedule of one kind in a file: the arguments of its maker; null is no upper bound."""
    arguments: dict[str, Any] = {}
    for name, given in inspect.signature(_MAKERS[kind]).parameters.items():
        declared: Any = list[Finite] if given.annotation is not float else Finite
        default = ... if given.default is given.empty else given.default
        arguments[name] = (Union[declared, None] if name == "high" else declared, default)  # noqa: UP007
    fields: dict[str, Any] = {"kind": (Literal[kind], ...), "name": (str, ""), **arguments}
    return pydantic.create_model(kind, __config__=pydantic.ConfigDict(extra="forbid"), **fields)


Schedule: Any = Annotated[Union[tuple(map(_declared, _MAKERS))], pydantic.Field(discriminator="kind")]  # noqa: UP007


class GuidanceFile(pydantic.BaseModel):
    """What a file of schedules holds."""

    format: Literal["speciation-guidance/1"]
    schedules: tuple[Schedule, ...]  # type: ignore[valid-type]


def from_dict(values: Mapping[str, Any]) -> Guidance:
    """A schedule from what `Guidance.as_dict` gives.

    Raises:
        ValueError: on an unknown kind, a missing or unknown field, or a value outside its range.
    """
    return _made(from_values(Schedule, values))


def _made(fields: Any) -> Guidance:
    values = fields.model_dump(exclude={"kind", "name"}, exclude_unset=True)
    return _MAKERS[fields.kind](**{name: math.inf if v is None else v for name, v in values.items()})


def save_guidance(path: str | os.PathLike[str], named: Mapping[str, Guidance]) -> None:
    """Write schedules as JSON, aside and then renamed; raises ValueError when `path` cannot be written."""
    listed = [{"name": name, **schedule.as_dict()} for name, schedule in named.items()]
    with write_aside(path) as aside:
        aside.write_text(
            json.dumps({"format": FORMAT, "schedules": listed}, indent=2) + "\n", encoding="utf-8"
        )


def load_guidance(path: str | os.PathLike[str]) -> dict[str, Guidance]:
    """Read schedules that `save_guidance` wrote, by name.

    Raises:
        ValueError: when the file is missing, too large, no JSON of this format, or holds a bad schedule.
    """
    text = read_outside(path, LARGEST_FILE)
    try:
        contents = from_json(GuidanceFile, text)
    except ValueError as error:
        raise ValueError(f"cannot read {os.fspath(path)} as guidance schedules: {error}") from error
    named = {}
    for position, fields in enumerate(contents.schedules):
        if not fields.name or fields.name in named:
            raise ValueError(
                f"{os.fspath(path)}: schedule {position} must have a name of its own, got {fields.name!a}"
            )
        try:
            named[fields.name] = _made(fields)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: schedule {fields.name!a}: {error}") from error
    return named


def needs_curve(text: str) -> bool:
    """Whether a text form waits for a measured curve."""
    return text.partition(":")[0] == "entropy"


def parse_guidance(text: str, curve: EntropyCurve | None = None) -> dict[str, Guidance]:
    """Schedules from their text form, by name: ``cfg:1,2,4`` is three.

    Args:
        text: one of `SPECS`, or the path of a JSON file of schedules (ending in ``.json``).
        curve: measured entropy curve, for ``entropy:...``.

    Raises:
        ValueError: when the form is unknown or a value is outside its range.
    """
    if text.endswith(".json"):
        return load_guidance(text)
    word, _, rest = text.partition(":")
    if word not in SPECS:
        raise ValueError(f"schedule must be one of {' '.join(SPECS.values())} or a .json file; got {text!r}")
    try:
        if word == "cfg":
            return {f"cfg:{w.strip()}": schedules.cfg(_parsed(w)) for w in rest.split(",")}
        return {
            text: _PARSERS[word](*rest.split(":")) if word != "entropy" else _entropy(curve, *rest.split(":"))
        }
    except (ValueError, TypeError) as error:
        # A TypeError here is a wrong number of parts.
        why = f": {error}" if isinstance(error, ValueError) else ""
        raise ValueError(f"schedule {text!r} must have the form {SPECS[word]}{why}") from error


def _none(rest: str = "") -> Guidance:
    if rest:
        raise ValueError("nothing may follow")
    return schedules.unguided()


def _interval(w: str, bounds: str) -> Guidance:
    low, dots, high = bounds.partition("..")
    if not dots:
        raise ValueError("two noise levels σ/α are joined by two dots")
    return schedules.limited_interval(_parsed(w), _parsed(low), _parsed(high))


def _feedback(*parts: str) -> Guidance:
    return schedules.feedback(**_named(parts))


def _dynamic_negative(*parts: str) -> Guidance:
    return schedules.dynamic_negative(**_named(parts))


def _named(parts: tuple[str, ...]) -> dict[str, float]:
    """``0.9:temperature=0.2,offset=-0.02``: π first or not at all, the rest by name."""
    values: dict[str, float] = {}
    for item in ",".join(parts).split(","):
        name, equals, value = item.partition("=")
        if equals:
            values[name.strip().replace("-", "_")] = _parsed(value)
        elif item:
            values["pi"] = _parsed(item)
    return values


def _entropy(curve: EntropyCurve | None, w: str, *rest: str) -> Guidance:
    if curve is None:
        raise ValueError("it needs a measured curve")
    shape = "profile" if "profile" in rest else "interval"
    shares = [_parsed(part) for part in rest if part != "profile"]
    if len(shares) > 1:
        raise ValueError("one share is enough")
    return schedules.entropy_timed(curve, _parsed(w), share=shares[0] if shares else 0.8, shape=shape)


_PARSERS: dict[str, Callable[..., Guidance]] = {
    "none": _none,
    "interval": _interval,
    "feedback": _feedback,
    "power": lambda omega, exponent="1": schedules.power_law(_parsed(omega), _parsed(exponent)),
    "negative": lambda w: schedules.negative(_parsed(w)),
    "dynamic-negative": _dynamic_negative,
    "auto": lambda w: schedules.autoguidance(_parsed(w)),
}


def _parsed(text: str) -> float:
    if not re.fullmatch(_NUMBER, text.strip()):
        raise ValueError(f"{text.strip()!r} is not a number")
    return float(text)
