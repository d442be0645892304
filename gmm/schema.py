"""Values out of files, held to a declared type: what does not fit is one error on one line that names the field."""

import functools
import json
from typing import Annotated, Any, TypeVar

import pydantic

T = TypeVar("T")

Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Positive = Annotated[float, pydantic.Field(allow_inf_nan=False, gt=0)]
Count = Annotated[int, pydantic.Field(ge=1)]

_SHOWN = 60


def from_json(kind: type[T], text: str | bytes) -> T:
    """A value of the declared type from JSON text.

    Args:
        kind: a dataclass, a `typing.TypedDict` or any other type that pydantic describes.
        text: JSON. A value is taken as it is written: text is no number, and `true` is not 1.

    Raises:
        ValueError: naming the first field that does not fit, what it holds and what is allowed; or saying where
            the text is no JSON.
    """
    try:
        return _adapter(kind).validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        raise ValueError(_line(error)) from error


def from_values(kind: type[T], values: Any) -> T:
    """A value of the declared type from values of JSON's types; errors as `from_json`."""
    try:
        text = json.dumps(values)
    except (TypeError, ValueError, RecursionError) as error:  # a date of TOML, a list that holds itself
        raise ValueError(f"values must be those of JSON: {error}") from error
    return from_json(kind, text)


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `from_json` accepts for a type."""
    return _adapter(kind).json_schema()


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(kind)


def _line(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return first["msg"]
    place = ".".join(str(part)[:_SHOWN] for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] in ("value_error", "missing"):
        return ascii_line(f"{place}: {said}" if place else said)
    return ascii_line(f"{place or 'the file'} {said}, got {first['input']!r:.{_SHOWN}}")


def ascii_line(text: str) -> str:
    """Text from outside, fit for one line of a message: what does not print is escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
