"""Options that take several values after them."""

from typing import Annotated

import hypothesis.strategies as st
import pytest
import typer
from hypothesis import given
from typer.testing import CliRunner

from paper_figures.commands.lists import ListCommand, integers, numbers, spread, words

OPTIONS = {"--classes", "--process"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--classes 3 8", "--classes 3 --classes 8"),
        ("--classes 3 --classes 8", "--classes 3 --classes 8"),
        ("--classes=3 8", "--classes=3 --classes 8"),
        (
            "--classes 3 8 --seed 1 --process vp edm",
            "--classes 3 --classes 8 --seed 1 --process vp --process edm",
        ),
        ("--classes -8 -.5 1e3", "--classes -8 --classes -.5 --classes 1e3"),
        ("FILE --classes 3", "FILE --classes 3"),
        ("--classes 3 8 -- FILE x", "--classes 3 --classes 8 -- FILE x"),
        ("--seed 1 FILE", "--seed 1 FILE"),
        ("--classes", "--classes"),
        ("", ""),
    ],
)
def test_further_values_repeat_the_option(line, expected):
    assert spread(line.split(), OPTIONS) == expected.split()


VALUES = st.lists(st.from_regex(r"[a-z0-9][a-z0-9.]*", fullmatch=True), min_size=1, max_size=4)


@given(st.lists(st.tuples(st.sampled_from(["--classes", "--process", "--seed"]), VALUES), max_size=5))
def test_every_form_of_one_command_line_becomes_the_repeated_form(groups):
    together, repeated = [], []
    for option, values in groups:
        values = values[:1] if option == "--seed" else values
        together += [option, *values]
        repeated += [part for value in values for part in (option, value)]
    assert spread(together, OPTIONS) == repeated
    assert spread(repeated, OPTIONS) == repeated


@given(st.lists(st.integers(-(10**18), 10**18), min_size=1, unique=True))
def test_integers_survive_in_any_grouping_by_commas(values):
    text = [str(value) for value in values]
    assert integers("--classes", text) == values
    assert integers("--classes", [",".join(text)]) == values


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0), min_size=1))
def test_numbers_keep_order_and_come_once(values):
    assert numbers("--dims", [repr(value) for value in values]) == list(dict.fromkeys(values))


def test_scientific_notation_is_a_whole_number_where_it_is_one():
    assert integers("--classes", ["1e3,2", "1e12"]) == [1000, 2, 10**12]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: numbers("--dims", ["1e3,ten"]), "--dims must list finite numbers.*got 'ten'"),
        (lambda: numbers("--dims", ["inf"]), "--dims must list finite numbers.*got 'inf'"),
        (lambda: integers("--classes", ["2.5"]), "--classes must list whole numbers.*got '2.5'"),
        (lambda: words("--only", ["a,,b"]), "--only must list names, got an empty one in 'a,,b'"),
        (
            lambda: words("--only", ["fuor"], ["four", "two"]),
            "--only does not know 'fuor'; did you mean 'four'\\? known: four, two",
        ),
        (lambda: words("--only", ["zzz"], ["four", "two"]), "--only does not know 'zzz'; known: four, two"),
    ],
)
def test_errors_name_the_option_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_command_takes_all_forms():
    app = typer.Typer()
    seen = []

    @app.command(cls=ListCommand)
    def sweep(
        file: str,
        classes: Annotated[list[str] | None, typer.Option()] = None,
        process: Annotated[list[str] | None, typer.Option()] = None,
        seed: Annotated[int, typer.Option()] = 0,
    ):
        seen.append((file, integers("--classes", classes or []), words("--process", process or []), seed))

    for line in (
        "f.nc --classes 3 8 --process vp edm --seed 4",
        "f.nc --classes 3,8 --seed 4 --process vp --process edm",
        "--classes 3 8 --process vp,edm --seed 4 f.nc",
        "--process vp edm --classes=3 8 --seed=4 -- f.nc",
    ):
        result = CliRunner().invoke(app, line.split())
        assert result.exit_code == 0, result.output
    assert set(map(str, seen)) == {"('f.nc', [3, 8], ['vp', 'edm'], 4)"}
