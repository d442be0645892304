"""What files hold, against declared types; pydantic's own schema against what is accepted."""

import dataclasses

import pytest

from gmm import schema


@dataclasses.dataclass(frozen=True)
class Part:
    level: schema.Positive
    ends: tuple[schema.Finite, schema.Finite] | None = None


@dataclasses.dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Part, ...]
    count: schema.Count = 1

    def __post_init__(self):
        if self.count > 9:
            raise ValueError("count must be small")


GOOD = {"name": "a", "parts": [{"level": 2, "ends": [1, 2.5]}], "count": 3}


def test_values_of_the_declared_type():
    assert schema.from_values(Whole, GOOD) == Whole("a", (Part(2.0, (1.0, 2.5)),), 3)
    assert schema.from_values(Whole, GOOD | {"more": 1}).count == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "^name must be text, got 3$"),
        ({"parts": [{"level": "2"}]}, "^parts.0.level must be a number, got '2'$"),
        ({"parts": [{"level": True}]}, "^parts.0.level must be a number, got True$"),
        ({"parts": [{"level": float("inf")}]}, "^parts.0.level must be a finite number, got inf$"),
        (
            {"parts": [{"level": 10**400}]},
            "^(parts.0.level must be a (finite )?number|Invalid JSON: number out of range)",
        ),
        ({"parts": [{"level": -1}]}, "^parts.0.level must be above 0.0, got -1$"),
        ({"parts": [{}]}, "^parts.0.level is missing$"),
        ({"parts": 5}, "^parts must be a list, got 5$"),
        ({"count": 0}, "^count must be at least 1, got 0$"),
        ({"count": 1.0}, "^count must be a whole number, got 1.0$"),
        ({"count": 10}, "^count must be small$"),
        ({"name": ["\x1b[2J" * 99]}, r"^name must be text, got \['.x1b\[2J[^\n]{,99}$"),
    ],
)
def test_one_line_names_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        schema.from_values(Whole, GOOD | changes)


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"name": "\\ud800"}', b"\xff", "1" * 5000, '{"a\n": 1}', "[" + "1," * 9]
)
def test_text_that_is_no_json(text):
    with pytest.raises(ValueError, match=r"^[^\n]{,200}$"):
        schema.from_json(Whole, text)


def test_values_that_json_has_not():
    loop: list = []
    loop.append(loop)
    for value in (object(), loop, {1j: 2}):
        with pytest.raises(ValueError, match="values must be those of JSON"):
            schema.from_values(Whole, value)
