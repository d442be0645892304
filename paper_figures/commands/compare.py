"""``speciation compare``: the class entropy of a trained model over the exact curves of its data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paper_figures.commands import model_options as asking
from paper_figures.commands.lists import words
from paper_figures.commands.model_options import DEFAULT_MODEL, Asked
from paper_figures.commands.options import Axis, DryRun, ModelDtype, OutputFolder, Seed, Units

if TYPE_CHECKING:
    import xarray as xr

    from paper_figures.studies.sources import Question, Source

PARTS = "compare.parts"
AGAINST = ("exact", "empirical", "gaussian", "mixture")

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FILE.nc ...]", help="Saved curves to lay over one another; nothing is computed."
    ),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        metavar="exact|empirical|gaussian|mixture ...",
        help="Exact curves to lay beneath: of the mixture that the model was trained on, of its data, of a Gaussian or "
        "of a mixture for each class. Default: what is known of the model.",
    ),
]
UTurn = Annotated[
    bool, typer.Option("--u-turn", help="Also noise samples and come back: how often does the class stay?")
]


def compare(
    files: Files = None,
    model: asking.ModelName = DEFAULT_MODEL,
    classes: asking.Classes = None,
    prompts: asking.Prompts = None,
    partition: asking.Partition = None,
    per_cell: asking.PerCell = None,
    prior: asking.Prior = None,
    against: Against = None,
    samples: asking.Samples = None,
    steps: asking.Steps = None,
    tracker: asking.Tracker = None,
    preset: asking.Preset = None,
    eta: asking.Eta = 1.0,
    batch: asking.Batch = None,
    u_turn: UTurn = False,
    seed: Seed = 0,
    dtype: ModelDtype = "float32",
    axis: Axis = None,
    units: Units = "nats",
    out: OutputFolder = None,
    dry_run: DryRun = False,
) -> None:
    """Class entropy of a trained model, by two estimators, over the exact curves.

    One figure (compare.png, compare.pdf) and its data (compare.nc) go into DIR: entropies and rates with bands of two
    standard errors, where each source decides and how sure that is, and the differences. What is finished is kept: a
    run that was stopped goes on when the same command is given again.

    Examples: speciation compare --model zoo:digits --classes 3 8
              speciation compare --model edm2-xs --partition pets --samples 300
              speciation compare first.nc second.nc --out overlay
    """
    from paper_figures.drawing.style import View

    view = View(axis, units)
    asked = Asked.of(locals())
    if files:
        _overlay(files, Path("compare") if out is None else out, view)
        return
    import jax

    from paper_figures.studies import u_turn as turning

    with jax.enable_x64(dtype == "float64"):
        question = asking.question(asked)
        sources, about = _sources(question, against)
        if u_turn:
            turning.check(question)
        asking.announce(question, sources, about)
        if dry_run:
            typer.echo("nothing was computed")
            return
        dataset = _measured(question, sources, asking.folder_of("compare", asked, out), u_turn)
    _finish(dataset, asking.folder_of("compare", asked, out), view)


def _sources(question: "Question", against: Sequence[str] | None) -> tuple[list["Source"], str]:
    """What is measured, exact curves first, and a word on what could not be."""
    from paper_figures.studies import sources as measuring

    named = words("--against", against, AGAINST) if against else None
    about = ""
    try:
        exact = measuring.against(question, named)
    except ValueError as error:
        if named is not None:
            raise
        exact, about = [], f"no exact curve: {error}"
    return [*exact, measuring.online(question), measuring.gap(question)], about


def _measured(question: "Question", sources: Sequence["Source"], folder: Path, u_turn: bool) -> "xr.Dataset":
    from paper_figures.studies import comparison as comparing
    from paper_figures.studies import u_turn as turning

    lines = comparing.lines_of(asking.measured(sources, folder / PARTS), question.seed)
    exact = [source.name for source in sources if not source.evaluations]
    levels = [level.name for level in question.decision.levels]
    found = comparing.dataset_of(lines, levels, exact[0] if exact else None, question=asking.facts(question))
    return found.merge(turning.turns(question, lines)) if u_turn else found


def _overlay(files: Sequence[Path], folder: Path, view: Any) -> None:
    from paper_figures.files import ensure_writable
    from paper_figures.studies.overlay import overlay

    dataset = overlay(files)
    ensure_writable(folder)
    _finish(dataset, folder, view)


def _finish(dataset: "xr.Dataset", folder: Path, view: Any) -> None:
    """Write the data and only then remove the parts; draw, and print the table."""
    from gmm.files import write_aside
    from paper_figures.drawing import comparison as compare_plot
    from paper_figures.drawing.style import lay_out, paper_style
    from paper_figures.files import PICTURES, save_picture
    from paper_figures.studies import sources as measuring

    path = folder / "compare.nc"
    with write_aside(path) as aside:
        dataset.to_netcdf(aside, engine="h5netcdf")
    measuring.forget(folder / PARTS)
    with paper_style():
        picture = compare_plot.draw(dataset, view)
        lay_out(picture)
        for suffix in PICTURES:
            save_picture(picture, path.with_suffix(suffix))
    compare_plot.print_table(dataset, view)
    typer.echo(f"compare: {path}, {path.with_suffix('.png')}, {path.with_suffix('.pdf')}")
