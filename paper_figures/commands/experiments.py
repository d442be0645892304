"""Experiments among the figures: their options, what they cost, and making one."""

import dataclasses
import json
from typing import TYPE_CHECKING

import typer

from paper_figures.commands.option_groups import option, values
from paper_figures.figures.registry import Figure
from paper_figures.figures.settings import ExperimentSettings, Settings

if TYPE_CHECKING:
    from paper_figures.drawing.view import View
    from paper_figures.figures.job import Job


@dataclasses.dataclass(frozen=True)
class ExperimentOptions:
    """Which decisions of which network an experiment measures."""

    weights: list[str] | None = option(
        None, "Networks of an experiment: presets or files.", metavar="FILE|PRESET ..."
    )
    classes: list[str] | None = option(None, "Classes of an experiment.", metavar="CLASS ...")
    highlight: list[str] | None = option(
        None, "Classes to draw thick, with ten times the trajectories.", metavar="CLASS ..."
    )
    prompts: list[str] | None = option(None, "Prompts of an experiment, in pairs.", metavar="TEXT ...")
    partitions: list[str] | None = option(
        None,
        "Partitions of an experiment: names (`speciation models partitions`) or files.",
        metavar="NAME|FILE ...",
    )
    schedules: list[str] | None = option(
        None, "Guidance schedules of an experiment, as in `speciation guidance`.", metavar="SCHEDULE ..."
    )
    paths: int | None = option(None, "Trajectories of a curve of an experiment.", metavar="N", least=2)
    steps: int | None = option(
        None, "Network evaluations of a trajectory of an experiment.", metavar="N", least=2
    )
    images: int | None = option(
        None, "Images of a schedule, for an experiment on image quality.", metavar="N", least=2
    )
    reference: list[str] | None = option(
        None,
        "What generated images are compared with: folders of real images, .npz files with mu and sigma, or the "
        "statistics that EDM2 publishes.",
        metavar="FOLDER|FILE ...",
    )


def settings_of(figure: Figure, settings: Settings, options: ExperimentOptions) -> Settings:
    """The settings of a figure; of an experiment with its options."""
    settings = dataclasses.replace(settings, stream=figure.seed)
    if not figure.is_experiment:
        return settings
    given = {name: value for name, value in values(options).items() if value}
    chosen = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return ExperimentSettings(**{**settings.as_dict(), "weights": figure.weights, **chosen})


def check(figures: "list[Figure]", options: ExperimentOptions) -> None:
    """Raise ValueError for an option of experiments where none is made."""
    given = [name for name, value in values(options).items() if value]
    if given and not any(figure.is_experiment for figure in figures):
        raise ValueError(f"`{given[0]}` is for experiments; name one of them with `only`")


def make(job: "Job", view: "View") -> list[str]:
    """Measure an experiment, or find it measured, and draw it; returns what to say of it."""
    from paper_figures.figures import build
    from paper_figures.progress import bar

    with bar(job.figure.name) as progress:
        reused = build.make(job, view, progress)
    how = "data reused from" if reused else f"rows in {job.path('.rows')}, data in"
    lines = [f"{how} {job.path('.nc')}", *_caveats(job)]
    return [f"{job.figure.name}: {line}" for line in lines]


def _caveats(job: "Job") -> list[str]:
    """What limits the numbers of an experiment, as its data say."""
    dataset = job.load()
    return [] if dataset is None else json.loads(str(dataset.attrs.get("caveats", "[]")))


def print_plan(job: "Job") -> None:
    """Print what an experiment costs on this device."""
    from rich.console import Console
    from rich.table import Table

    from paper_figures.formats.words import duration
    from paper_figures.studies.cost import operations_per_second

    assert isinstance(job.settings, ExperimentSettings)
    plan, rate = job.figure.plan(job.settings), operations_per_second()
    table = Table(
        "what", "curves", "trajectories", "evaluations", title=job.figure.name, title_justify="left"
    )
    for cost in plan.costs:
        table.add_row(cost.what, str(cost.curves), str(cost.paths), f"{cost.evaluations:,}")
    Console().print(table)
    size, memory = plan.network.multiply_adds / 1e9, plan.weight_bytes / 2**30
    typer.echo(
        f"{plan.network.name}: {plan.evaluations:,} evaluations of {size:.3g} G multiply-adds, "
        f"{plan.operations / 1e15:.3g} PFLOP; weights take {memory:.2f} GiB, states and activations come on top"
    )
    typer.echo(
        f"at the rate of this device's matrix products ({rate / 1e12:.3g} TFLOP/s, timed just now): about "
        f"{duration(plan.operations / rate)}; networks reach half of that rate or more. Nothing was made."
    )
    if plan.besides:
        typer.echo(plan.besides)
