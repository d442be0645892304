"""What the commands that measure a model share: announce the cost, run with progress, keep finished parts."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from paper_figures.studies.question import Question
    from paper_figures.studies.sources import Runs, Source


def folder_of(command: str, model: str, out: Path | None) -> Path:
    """The folder for results: the one named, else one for each command and model."""
    if out is not None:
        return out
    name = model if ":" in model else Path(model).stem
    return Path(f"{command}-{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}")


def parts_of(command: str, folder: Path) -> Path:
    """The folder for finished parts of a command that has not come to its end."""
    return folder / f"{command}.parts"


def announce(questions: "Sequence[Question]", sources: "Sequence[Source]") -> None:
    """Print what is measured and what it costs in all."""
    import jax

    from paper_figures.formats.words import duration
    from paper_figures.studies.cost import seconds_per_evaluation

    for question in questions:
        print_decision(question)
    question = questions[0]
    seconds = seconds_per_evaluation(question)
    device = jax.devices()[0]
    where = f"{jax.device_count()} x {device.device_kind}" if device.platform != "cpu" else "cpu"
    count = "" if len(questions) == 1 else f"{len(questions)} questions, each with "
    most = sum(source.evaluations for source in sources)
    least = sum(source.evaluations if source.least is None else source.least for source in sources)
    first = "" if least == most else f"{least:,} to "
    typer.echo(
        f"{count}{_plan(question)}: {first}{most:,} network evaluations, {'about' if least == most else 'at most'} "
        f"{duration(seconds * most)} on this device ({where}, {1e3 * seconds:.3g} ms each, timed just now)"
    )


def _plan(question: "Question") -> str:
    """How many trajectories are computed."""
    if question.precision is None:
        return f"{question.trajectories} trajectories of {question.steps} steps"
    return f"trajectories until errors are {question.precision:g} in log σ/α, at most {question.most}"


def print_costs(runs: "Runs") -> None:
    """Print what a stated precision took, for each group of curves that share their trajectories."""
    said = set()
    for curve in (curve for level in runs for curve in level):
        facts = curve.metadata
        if facts.get("precision") is None:
            continue
        paths = facts.get("paths", facts["samples"])
        reached = "reached" if facts["reached"] else "not reached, which more samples may change"
        spent = f" and {facts['evaluations']:,} network evaluations" if "evaluations" in facts else ""
        said.add(f"precision {facts['precision']:g} {reached}, with {paths} trajectories{spent}")
    for line in sorted(said):
        typer.echo(line)


def print_decision(question: "Question") -> None:
    """Print the model and the cells between which it decides."""
    from paper_figures.formats.words import shortened

    levels = question.decision.levels
    cells = "; ".join(f"{level.name}: {shortened(level.cells)}" for level in levels)
    typer.echo(f"{question.model.name}: {len(question.decision.conditions)} conditions; {cells}")


def measure_each(
    questions: "Sequence[Question]", sources_of: "Callable[[Question], Sequence[Source]]", parts: Path
) -> "list[dict[str, Runs]]":
    """For each question every run of its sources, with progress; finished runs stay in `parts` when interrupted.

    Raises:
        ValueError: when the folder of `parts` cannot be written.
    """
    import jax

    from gmm.files import alone_in
    from paper_figures.files import ensure_writable
    from paper_figures.interruption import interruptible
    from paper_figures.progress import bar, share
    from paper_figures.studies.sources import measure

    ensure_writable(parts.parent)
    stay = f"finished parts stay in {parts}, the same command goes on"
    # The only source of the only question counts by itself; several report shares.
    alone = len(questions) == 1 and [s.least is not None for s in sources_of(questions[0])] == [True]
    shown = bar("measuring", "evaluations" if alone else None)
    with interruptible(stay), alone_in(None if jax.process_index() else parts), shown as progress:
        return [
            measure(sources_of(question), parts, share(progress, number, len(questions)))
            for number, question in enumerate(questions)
        ]


def remove_parts(parts: Path) -> None:
    """Remove the finished parts of a measurement whose result is written; of several processes the first does."""
    import shutil

    import jax

    if jax.process_index() == 0:
        shutil.rmtree(parts, ignore_errors=True)
