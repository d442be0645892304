"""Guidance schedules as text and as JSON; format in ``docs/guidance.md``."""

import inspect
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gmm import guidance as schedules
from gmm.curve import EntropyCurve
from gmm.files import write_aside
from gmm.guidance import Guidance

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


def from_dict(values: Mapping[str, Any]) -> Guidance:
    """A schedule from what `Guidance.to_dict` gives.

    Raises:
        ValueError: on an unknown kind, a missing or unknown field, or a value outside its range.
    """
    if not isinstance(values, Mapping) or values.get("kind") not in _MAKERS:
        kind = values.get("kind") if isinstance(values, Mapping) else values
        raise ValueError(f"a guidance schedule must have a kind, one of {', '.join(_MAKERS)}; got {kind!r}")
    maker = _MAKERS[values["kind"]]
    fields = {name: value for name, value in values.items() if name != "kind"}
    known = inspect.signature(maker).parameters
    if missing := [n for n, p in known.items() if p.default is p.empty and n not in fields]:
        raise ValueError(f"a guidance schedule of kind {values['kind']!r} lacks {', '.join(missing)}")
    if unknown := [name for name in fields if name not in known]:
        raise ValueError(
            f"a guidance schedule of kind {values['kind']!r} has no {', '.join(unknown)}; "
            f"it has {', '.join(known) or 'no fields'}"
        )
    return maker(**{name: _numeric(name, value) for name, value in fields.items()})


def save_guidance(path: str | os.PathLike[str], named: Mapping[str, Guidance]) -> None:
    """Write schedules as JSON, aside and then renamed; raises ValueError when `path` cannot be written."""
    listed = [{"name": name, **schedule.to_dict()} for name, schedule in named.items()]
    with write_aside(path) as aside:
        aside.write_text(json.dumps({"format": FORMAT, "schedules": listed}, indent=2) + "\n")


def load_guidance(path: str | os.PathLike[str]) -> dict[str, Guidance]:
    """Read schedules that `save_guidance` wrote, by name.

    Raises:
        ValueError: when the file is missing, too large, no JSON of this format, or holds a bad schedule.
    """
    try:
        if Path(path).stat().st_size > LARGEST_FILE:
            raise ValueError(f"{path} is too large for guidance schedules (above {LARGEST_FILE} bytes)")
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if (
        not isinstance(found, dict)
        or found.get("format") != FORMAT
        or not isinstance(found.get("schedules"), list)
    ):
        raise ValueError(f"{path} must hold guidance schedules of format {FORMAT!r}")
    named = {}
    for position, values in enumerate(found["schedules"]):
        name = values.get("name") if isinstance(values, dict) else None
        if not isinstance(name, str) or name in named:
            raise ValueError(f"{path}: schedule {position} must have a name of its own, got {name!r}")
        try:
            named[name] = from_dict({key: value for key, value in values.items() if key != "name"})
        except ValueError as error:
            raise ValueError(f"{path}: schedule {name!r}: {error}") from error
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


def _numeric(name: str, value: Any) -> Any:
    """A number or a flat list of numbers from JSON; null is no upper bound."""
    if value is None and name == "high":
        return math.inf
    values = value if isinstance(value, list) else [value]
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise ValueError(f"{name} must be a number or a list of numbers, got {value!r}")
    numbers = np.asarray(values, np.float64)
    return numbers if isinstance(value, list) else float(numbers[0])
