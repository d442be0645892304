"""Groups of options: what typer reads of them, and that they fit what the studies take."""

import dataclasses
import inspect
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from paper_figures.commands import data, model_options, options, sample, sweep, train
from paper_figures.commands.option_groups import expanded, option, values
from paper_figures.studies.asked import Asked
from paper_figures.studies.data import StudySettings
from paper_figures.studies.pictures import plan_pictures
from paper_figures.studies.sweep import sweep as compute_sweep
from paper_figures.studies.training_request import Request

Shared = Annotated[int, typer.Option(metavar="K", help="A shared option.")]


@dataclasses.dataclass(frozen=True)
class Group:
    count: int = option(..., "A number.", "--number", metavar="N", least=2)
    many: list[str] = option(["a"], "Several.")
    kind: Literal["x", "y"] | None = option(None, "A choice.")
    flag: bool = option(False, "A flag.")
    shared: Shared = 3


def run(line):
    received = {}

    def command(first: int = 1, *, group: Group, last: str = "end") -> None:
        """Do nothing."""
        received.update(first=first, group=group, last=last)

    app = typer.Typer(rich_markup_mode=None)
    app.command()(expanded(command))
    return CliRunner().invoke(app, line.split(), env={"COLUMNS": "100"}), received


def test_a_group_is_made_of_the_options_given():
    result, received = run("--number 4 --kind y --flag --many b --many c --last x")
    assert result.exit_code == 0
    assert received == {"first": 1, "group": Group(4, ["b", "c"], "y", True, 3), "last": "x"}


def test_defaults_are_those_of_the_fields():
    assert run("--number 2")[1]["group"] == Group(2, ["a"], None, False, 3)


@pytest.mark.parametrize("line", ["", "--number 1", "--number 2 --kind z", "--number 2 --no-flag"])
def test_what_typer_refuses(line):
    result, received = run(line)
    assert result.exit_code == 2
    assert received == {}


def test_help_lists_the_options_in_their_order():
    text = run("--help")[0].output
    spelled = ["--first", "--number N", "--many", "--kind x|y", "--flag ", "--shared K", "--last"]
    places = [text.index(option) for option in spelled]
    assert places == sorted(places)


def test_values_of_groups():
    group = Group(count=2)
    assert values(group) == {"many": ["a"], "kind": None, "flag": False, "count": 2, "shared": 3}


@pytest.mark.parametrize(
    ("groups", "taken_by"),
    [
        ([train.TrainingOptions], Request),
        ([data.SamplingOptions], StudySettings),
        ([sample.PictureOptions, sample.ComputationOptions], plan_pictures),
        ([sweep.AxisOptions, sweep.CellOptions], compute_sweep),
        (
            [
                model_options.ModelOptions,
                model_options.DecisionOptions,
                model_options.TrajectoryOptions,
                options.NetworkOptions,
            ],
            Asked,
        ),
    ],
)
def test_studies_take_every_option_of_a_group(groups, taken_by):
    fields = {field.name for group in groups for field in dataclasses.fields(group)}
    assert fields <= inspect.signature(taken_by).parameters.keys()
