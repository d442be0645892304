"""Options that take several values after them."""

from typing import Annotated

import hypothesis.strategies as st
import pytest
import typer
from hypothesis import given
from typer.testing import CliRunner

from paper_figures import cli
from paper_figures.commands.lists import Command, spelled, spread
from paper_figures.formats.words import integers, words

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


def test_errors_are_spelled_as_options():
    options = {"samples": "--samples", "guidance_scale": "--guidance-scale", "classes": "--class"}
    assert spelled("samples must be at least 2", options) == "--samples must be at least 2"
    assert spelled("use `guidance_scale` 1", options) == "use --guidance-scale 1"
    assert (
        spelled("it has classes; name some by `classes`", options) == "it has classes; name some by --class"
    )
    # A word that is no argument's name stays.
    assert spelled("samples of a model; `dtype` must fit", options) == "samples of a model; `dtype` must fit"


def test_a_command_takes_all_forms():
    app = typer.Typer()
    seen = []

    @app.command(cls=Command)
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "--class", "a\udcff"],
        ["window", "--prompts", "a", "b\ud800"],
        ["data", "--data", "a\udcff"],
    ],
)
def test_what_is_no_text_is_refused_before_any_work(arguments, capsys):
    model = [] if arguments[0] == "data" else ["--model", "zoo:digits"]
    assert cli.run([*arguments, *model, "--out", "nowhere"]) == 2
    assert "must be valid Unicode, got" in capsys.readouterr().err
