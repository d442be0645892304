"""``speciation compare``: the class entropy of a trained model beside the exact curves of its data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paper_figures.commands.hosts import join, silent_unless
from paper_figures.commands.model_options import ChangeOptions, DecisionOptions, ModelOptions, QuestionOptions
from paper_figures.commands.option_groups import values
from paper_figures.commands.options import Distributed, NetworkOptions, ResultOptions
from paper_figures.commands.run_model import (
    announce,
    folder_of,
    measure_each,
    parts_of,
    print_costs,
    remove_parts,
)
from paper_figures.drawing.view import View

if TYPE_CHECKING:
    import xarray as xr

    from paper_figures.studies.question import Question
    from paper_figures.studies.sources import Source

Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[FILE.nc ...]", help="Saved curves to draw in one figure; nothing is computed."),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        metavar="exact|empirical|gaussian|mixture ...",
        help="Exact curves to compare with: of the mixture that the model was trained on, of its data, of one "
        "Gaussian or one mixture for each class of the data. Default: those that are known for the model.",
    ),
]
UTurn = Annotated[
    bool,
    typer.Option(
        "--u-turn", help="Also noise samples and denoise them again: how often does the class stay the same?"
    ),
]


def compare(
    files: Files = None,
    *,
    model: ModelOptions,
    change: ChangeOptions,
    decision: DecisionOptions,
    against: Against = None,
    trajectories: QuestionOptions,
    u_turn: UTurn = False,
    network: NetworkOptions,
    result: ResultOptions,
    distributed: Distributed = None,
) -> None:
    """Class entropy of a trained model, by two estimators, beside the exact curves.

    One figure (compare.png, compare.pdf) and its data (compare.nc) go into DIR: entropies and rates with bands of two
    standard errors, the noise levels at which each source decides with their errors, and the differences. A run that
    was stopped goes on when the same command is given again.

    Examples: speciation compare --model zoo:digits --classes 3 8
              speciation compare --model edm2-xs --partition pets --samples 300
              speciation compare first.nc second.nc --out overlay
    """
    if files:
        _overlay(files, Path("compare") if result.out is None else result.out, result)
        return
    is_first = join(distributed)
    import jax

    from paper_figures.studies import asked
    from paper_figures.studies import u_turn as u_turns

    with silent_unless(is_first), jax.enable_x64(network.dtype == "float64"):
        ours = asked.Asked(**values(model, decision, trajectories, network), settings=change.settings)
        questions = asked.questions(asked.to_a_precision(ours))
        sources, about = _sources(questions[0], against)
        if u_turn:
            u_turns.check(questions[0])
        announce(questions, list(sources) * len(questions))
        if about:
            typer.echo(about)
        if result.dry_run:
            typer.echo("nothing was computed")
            return
        folder = folder_of("compare", model.model, result.out)
        dataset = _measured(questions, against, folder, u_turn)
    if is_first:
        _finish(dataset, folder, result)


def _sources(question: "Question", against: Sequence[str] | None) -> "tuple[list[Source], str]":
    """What is measured, exact curves first, and a line that says why there are no exact curves."""
    from paper_figures.formats.words import words
    from paper_figures.studies import sources

    named = words("against", against, sources.AGAINST) if against else None
    about = ""
    try:
        exact = sources.exact_curves(question, named)
    except ValueError as error:
        if named is not None:
            raise
        exact, about = [], f"no exact curve: {str(error).replace('`', '')}"
    # The denoiser gap is one between classes, and never answers whether one class stands out from all.
    between = question.tracker == "classes" and len(question.decision.conditions) > 1
    gap = [sources.gap(question)] if between else []
    return [*exact, sources.online(question), *gap], about


def _measured(
    questions: "Sequence[Question]", against: Sequence[str] | None, folder: Path, u_turn: bool
) -> "xr.Dataset":
    from paper_figures.studies.comparison import asks, dataset_of, lines_of
    from paper_figures.studies.u_turn import turns

    question = questions[0]
    runs = measure_each(questions, lambda part: _sources(part, against)[0], parts_of("compare", folder))
    # Questions one after the other are levels of one comparison.
    together = {name: [level for run in runs for level in run[name]] for name in runs[0]}
    for levels in together.values():
        print_costs(levels)
    lines = lines_of(together, question.seed)
    exact = [source.name for source in _sources(question, against)[0] if not source.evaluations]
    levels = [level.name for part in questions for level in part.decision.levels]
    dataset = dataset_of(
        lines,
        levels,
        exact[0] if exact else None,
        question=question.facts() if len(questions) == 1 else [part.facts() for part in questions],
        asks=asks(question, list(lines)),
    )
    return dataset.merge(turns(question, lines)) if u_turn else dataset


def _overlay(files: Sequence[Path], folder: Path, view: View) -> None:
    from paper_figures.files import ensure_writable
    from paper_figures.studies.overlay import overlay

    dataset = overlay(files)
    ensure_writable(folder)
    _finish(dataset, folder, view)


def _finish(dataset: "xr.Dataset", folder: Path, view: View) -> None:
    """Write the data and only then remove the parts; draw, and print the table."""
    from paper_figures.commands.comparison_table import print_table
    from paper_figures.drawing import comparison
    from paper_figures.drawing.style import PICTURES, save_pictures
    from paper_figures.files import save_dataset

    path = folder / "compare.nc"
    save_dataset(dataset, path)
    remove_parts(parts_of("compare", folder))
    pictures = [path.with_suffix(suffix) for suffix in PICTURES]
    save_pictures(lambda: comparison.draw(dataset, view), pictures)
    print_table(dataset, view)
    typer.echo(f"compare: {', '.join(map(str, [path, *pictures]))}")
