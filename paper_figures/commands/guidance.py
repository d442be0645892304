"""``speciation guidance``: what guidance schedules do to a model's decision."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paper_figures.commands.hosts import join, silent_unless
from paper_figures.commands.model_options import (
    ChangeOptions,
    DecisionOptions,
    ModelOptions,
    TrajectoryOptions,
)
from paper_figures.commands.option_groups import values
from paper_figures.commands.options import Distributed, NetworkOptions, ResultOptions
from paper_figures.commands.run_model import folder_of, parts_of, print_costs, print_decision, remove_parts
from paper_figures.drawing.view import View

if TYPE_CHECKING:
    from neural.models import Model
    from paper_figures.studies.guidance import MeasuredSchedule
    from paper_figures.studies.question import Question

DEFAULT_SCHEDULES = ["cfg:2,4", "interval:4:0.3..3", "feedback", "entropy:4"]

Schedules = Annotated[
    list[str],
    typer.Option(
        metavar="SCHEDULE ...",
        help="none, cfg:W[,W...], interval:W:LOW..HIGH (in σ/α), feedback[:PI], power:OMEGA[:EXPONENT], "
        "entropy:W[:SHARE][:profile] (timed by the measured curve), negative:W, dynamic-negative:PI, auto:W, or a "
        ".json file of schedules. The plain dynamics are always measured.",
    ),
]
Guide = Annotated[
    str | None, typer.Option(metavar="NAME|PATH", help="A second, worse model for auto:W (autoguidance).")
]


def guidance(
    *,
    model: ModelOptions,
    change: ChangeOptions,
    schedules: Schedules = DEFAULT_SCHEDULES,
    decision: DecisionOptions,
    guide: Guide = None,
    trajectories: TrajectoryOptions,
    network: NetworkOptions,
    result: ResultOptions,
    distributed: Distributed = None,
) -> None:
    """How does guidance move this model's decision?

    Trajectories are guided towards classes that are drawn with equal probabilities. For each schedule DIR receives a
    curve file: the entropy of the unguided posterior along the trajectories, its rate, and the surprise -log p of the
    class they were guided to, with standard errors. Besides: guidance.json, the schedules for samplers to read
    (docs/how-to/guidance.md), and a picture of all of them.

    Examples: speciation guidance --model mixture:simplex:10:64 --schedules cfg:1,2,4 interval:2:0.2..1.5 --out DIR
              speciation guidance --model edm2-xs --classes tabby 207 --schedules cfg:2 entropy:2 --out DIR
    """
    is_first = join(distributed)
    import jax

    from neural.models import load_model
    from paper_figures.studies import asked
    from paper_figures.studies import guidance as study

    with silent_unless(is_first), jax.enable_x64(network.dtype == "float64"):
        second = (
            None if guide is None else load_model(guide, dtype=network.dtype, trust_code=model.trust_code)
        )
        question = asked.question(
            asked.Asked(**values(model, decision, trajectories, network), settings=change.settings)
        )
        study.check(question, second, schedules)
        _announce(question, study.count(schedules))
        if result.dry_run:
            typer.echo("nothing was computed")
            return
        folder = folder_of("guidance", model.model, result.out)
        measured = _measured(question, second, schedules, folder)
        if is_first:
            study.write(folder, measured)
    if is_first:
        _finish(folder, measured, result)


def _finish(folder: Path, measured: "Sequence[MeasuredSchedule]", view: View) -> None:
    """Remove finished parts, print what was found, draw it, and print the paths of all files."""
    remove_parts(parts_of("guidance", folder))
    for line in _report(measured):
        typer.echo(line)
    print_costs([[one.curve] for one in measured])
    for path in (folder / "guidance.json", *_draw(folder, measured, view)):
        typer.echo(f"guidance: {path}")


def _announce(question: "Question", count: int) -> None:
    """Print what is measured and what it costs."""
    print_decision(question)
    from paper_figures.studies.guidance import most_samples

    samples, steps, conditions = most_samples(question), question.steps, len(question.decision.conditions)
    evaluations = count * samples * steps * (conditions + 1)
    most = "" if question.precision is None else "at most "
    typer.echo(
        f"{count} schedules, {most}{samples} trajectories of {steps} steps each: {most}{evaluations:,} network "
        "evaluations in all"
    )


def _measured(
    question: "Question", guide: "Model | None", schedules: Sequence[str], folder: Path
) -> "list[MeasuredSchedule]":
    from paper_figures.files import ensure_writable
    from paper_figures.interruption import interruptible
    from paper_figures.progress import bar
    from paper_figures.studies.guidance import measure

    ensure_writable(folder)
    parts = parts_of("guidance", folder)
    stay = f"finished parts stay in {parts}, the same command goes on"
    with interruptible(stay), bar("measuring") as progress:
        return measure(question, guide, schedules, parts, progress)


def _report(measured: "Sequence[MeasuredSchedule]") -> Iterator[str]:
    """Shift of the half entropy by each schedule, and what is undecided at the end, line by line."""
    import numpy as np

    from gmm.landmarks import half_entropy

    plain = float(half_entropy(measured[0].curve).value)
    end = "-log p(target) at the end"
    yield f"{'schedule':24} {'half entropy at σ/α':>20} {'shift in log σ':>15} {end:>26}"
    for guided in measured:
        assert guided.curve.cross_entropy is not None
        place, last = (
            float(half_entropy(guided.curve).value),
            guided.curve.cross_entropy[int(np.argmin(guided.curve.sigma))],
        )
        yield f"{guided.name:24} {np.exp(place):20.4g} {place - plain:15.3f} {last:26.3g}"


def _draw(folder: Path, measured: "Sequence[MeasuredSchedule]", view: View) -> list[Path]:
    from paper_figures.drawing.guidance import draw
    from paper_figures.drawing.style import PICTURES, save_pictures

    pictures = [folder / f"guidance{suffix}" for suffix in PICTURES]
    save_pictures(lambda: draw(measured, view), pictures)
    return pictures
