"""Values from files, checked against a declared type; an error is one line that names the field."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self, TypeVar

import pydantic

T = TypeVar("T")

Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Positive = Annotated[float, pydantic.Field(allow_inf_nan=False, gt=0)]
Count = Annotated[int, pydantic.Field(ge=1)]

_SHOWN = 60


def either(words: str) -> pydantic.WrapValidator:
    """For a field of several types: what it must be in these words, instead of one error for each type."""

    def check(value: Any, inner: Callable[[Any], Any]) -> Any:
        try:
            return inner(value)
        except pydantic.ValidationError as error:
            raise ValueError(f"must be {words}, got {value!r:.{_SHOWN}}") from error

    return pydantic.WrapValidator(check)


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


def from_values(kind: type[T] | Any, values: Any) -> T:
    """A value of the declared type from values of JSON's types; errors as `from_json`."""
    try:
        text = json.dumps(values)
    except (TypeError, ValueError, RecursionError) as error:  # a date of TOML, a list that holds itself
        raise ValueError(f"values must be those of JSON: {error}") from error
    return from_json(kind, text)


class PlainForm:
    """For dataclasses that are kept in files: their plain form, and back."""

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """From the plain form.

        Raises:
            ValueError: when it is not of that form.
        """
        return from_values(cls, fields)

    def as_dict(self) -> dict[str, Any]:
        """The plain form: the fields by name, in JSON's types."""
        return _adapter(type(self)).dump_python(self, mode="json")


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `from_json` accepts for a type."""
    return _adapter(kind).json_schema()


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(kind)


# What must be, in words, by pydantic's name of the error; what is not here keeps its own words.
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is no field of this format",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dataclass_type": "must be an object",
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have {max_length} entries or fewer",
    "union_tag_invalid": "must have a {discriminator} among {expected_tags}",
    "union_tag_not_found": "must have a {discriminator}",
}


def _line(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    kind, context = first["type"], first.get("ctx", {})
    if kind == "json_invalid":
        return first["msg"]
    place = ".".join(str(part)[:_SHOWN] for part in first["loc"])
    if kind == "value_error":
        message = str(context["error"])
        return printable(
            f"{place}{' ' if message.startswith('must') else ': '}{message}" if place else message
        )
    words = _WORDS.get(kind, first["msg"]).format(**context)
    shown = "" if kind == "missing" else f", got {first['input']!r:.{_SHOWN}}"
    return printable(f"{place or 'it'} {words}{shown}")


def printable(text: str, keep: str = "") -> str:
    """Text from outside, fit for a message: what does not print is escaped, but for the letters to keep."""
    return "".join(
        letter if letter.isprintable() or letter in keep else ascii(letter)[1:-1] for letter in text
    )
