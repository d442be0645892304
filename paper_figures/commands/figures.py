"""``speciation figures``: every picture, its data and the page that shows them."""

import importlib.metadata
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paper_figures.commands import experiments
from paper_figures.commands.experiments import ExperimentOptions
from paper_figures.commands.hosts import join
from paper_figures.commands.options import Distributed, DryRun, Dtype, OutputFolder, Seed, ViewOptions
from paper_figures.figures.registry import FIGURES, Figure
from paper_figures.figures.settings import Settings
from paper_figures.formats.words import words

if TYPE_CHECKING:
    from paper_figures.drawing.view import View
    from paper_figures.figures.job import Job

# Each takes up to a gigabyte.
MOST_JOBS = 2

Only = Annotated[
    list[str] | None,
    typer.Option(help="Make only these figures.", metavar="NAME ..."),
]
Fast = Annotated[
    bool, typer.Option("--fast", help="Small sizes for a quick look; the files have names of their own.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help=f"Number of processes. Default: one for each core, at most {MOST_JOBS}."
    ),
]


def figures(
    *,
    out: OutputFolder = None,
    only: Only = None,
    fast: Fast = False,
    seed: Seed = 0,
    dtype: Dtype = "float64",
    view: ViewOptions,
    jobs: Jobs = None,
    experiment: ExperimentOptions,
    distributed: Distributed = None,
    dry_run: DryRun = False,
) -> None:
    """Make the figures, their data and a page that shows them.

    Each figure is written as PNG and PDF, beside the NetCDF data from which it is drawn; index.html shows all of them
    with captions and numbers. Data on disk that were computed from the same settings are used again, so a second run
    only draws, and a run that was stopped goes on. DIR is figures by default, or figures-fast with --fast.

    Experiments ask a published network: edm2-classes, edm2-partitions, edm2-guidance, edm2-quality, edm2-u-turn,
    sd15-prompts, sd15-guidance, sd15-u-turn. They are made only when named with --only, and --dry-run says what they
    cost without the weights at hand.
    """
    folder = Path("figures-fast" if fast else "figures") if out is None else out
    chosen = _chosen(only)
    experiments.check(chosen, experiment)
    work = _jobs(chosen, Settings(fast=fast, seed=seed, dtype=dtype), folder, experiment)
    computed, measured = ([job for job in work if job.figure.is_experiment == kind] for kind in (False, True))
    if dry_run:
        if computed:
            _print_cost(computed)
        for job in measured:
            experiments.print_plan(job)
        return
    if computed and distributed is not None:
        raise ValueError(
            f"several processes divide experiments alone; leave {computed[0].figure.name} out, or `distributed`"
        )
    is_first = join(distributed)
    _make(computed, measured, folder, view, _workers() if jobs is None else jobs, is_first)


def _make(
    computed: "list[Job]", measured: "list[Job]", folder: Path, view: "View", workers: int, is_first: bool
) -> None:
    """Make figures and experiments; only the first of several processes draws and prints."""
    from paper_figures.figures.build import make_all
    from paper_figures.files import ensure_writable
    from paper_figures.interruption import interruptible

    ensure_writable(folder)
    page = folder / "index.html"
    say = typer.echo if is_first else lambda _: None
    with interruptible(f"what is finished stays in {folder}"):
        say(f"{page} shows the figures that are finished")
        for made in make_all(computed, view, workers):
            how = "data reused from" if made.reused else f"computed in {made.seconds:.1f} s,"
            say(f"{made.job.figure.name}: {how} {made.job.path('.nc')}")
        for job in measured:
            for line in experiments.make(job, view):
                say(line)
    say(f"all figures: {page}")


def _workers() -> int:
    """Two processes on a CPU of two cores or more; one where they would have to share an accelerator."""
    return 1 if _accelerated() else min(MOST_JOBS, os.cpu_count() or 1)


def _accelerated() -> bool:
    """Whether jax computes on an accelerator; jax is imported only where a plugin for one is installed."""
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    if not plugins and not any(map(importlib.util.find_spec, ("jax_plugins", "libtpu"))):
        return False
    import jax

    return jax.default_backend() != "cpu"


def _chosen(only: list[str] | None) -> list[Figure]:
    if not only:
        return [figure for figure in FIGURES.values() if figure.by_default]
    return [FIGURES[name] for name in words("only", only, FIGURES)]


def _jobs(
    figures: list[Figure], settings: Settings, folder: Path, experiment: ExperimentOptions
) -> "list[Job]":
    from paper_figures.figures.job import Job

    return [Job(figure, experiments.settings_of(figure, settings, experiment), folder) for figure in figures]


def _print_cost(jobs: "list[Job]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "what", "seconds", "data")
    total = 0.0
    for job in jobs:
        ready = job.load() is not None
        seconds = 0.0 if ready else job.figure.cost(job.settings.fast)
        total += seconds
        state = "on disk" if ready else "to compute"
        table.add_row(job.figure.name, job.figure.description, f"{seconds:.0f}", state)
    Console().print(table, f"about {total / MOST_JOBS:.0f} s on two cores; nothing was made")
