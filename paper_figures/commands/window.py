"""``speciation window``: the noise interval in which a model decides between classes or prompts."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

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
    from pathlib import Path

    from gmm.window_file import MeasuredWindow
    from paper_figures.studies.sources import Runs

Share = Annotated[
    float,
    typer.Option(
        metavar="SHARE", help="Central share of the information about the answer that the window holds."
    ),
]
Sampler = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GRID[:STEPS] ...",
        help="Samplers in whose steps the window is also given: edm, log-snr or time, such as edm:32. Default: the "
        "model's own.",
    ),
]
AllowPartial = Annotated[
    bool,
    typer.Option(
        "--allow-partial",
        help="Compute a window although less than half of H[Z] is decided, an entropy contradicts itself, or the "
        "noise levels end within the decision.",
    ),
]
Estimator = Annotated[
    Literal["online", "gap"],
    typer.Option(
        metavar="online|gap",
        help="online: the posterior along the model's own trajectories; gap: the integral of the denoiser gap.",
    ),
]


def window(
    *,
    model: ModelOptions,
    change: ChangeOptions,
    decision: DecisionOptions,
    sampler: Sampler = None,
    share: Share = 0.8,
    estimator: Estimator = "online",
    allow_partial: AllowPartial = False,
    trajectories: QuestionOptions,
    network: NetworkOptions,
    result: ResultOptions,
    distributed: Distributed = None,
) -> None:
    """In which noise interval does this model decide between these classes or prompts?

    The answer is printed in σ/α, in log SNR and in the steps of a sampler, with its uncertainty. DIR receives a
    picture (window.png, window.pdf), the curve (window.nc) and the window for samplers to read (window.json), once
    for each level of a partition. A run that was stopped goes on when the same command is given again.

    Examples: speciation window --model zoo:digits --classes 3 8
              speciation window --model edm2-xs --classes "golden retriever" tabby --sampler edm:32
    """
    is_first = join(distributed)
    import jax

    from paper_figures.commands.window_words import in_words
    from paper_figures.studies import asked, sources
    from paper_figures.studies import window as study

    with silent_unless(is_first), jax.enable_x64(network.dtype == "float64"):
        ours = asked.Asked(**values(model, decision, trajectories, network), settings=change.settings)
        if estimator == "gap" and ours.precision is not None:
            raise ValueError("`precision` needs `estimator` online; give `samples` for the gap")
        questions = asked.questions(asked.to_a_precision(ours) if estimator == "online" else ours)
        grids = study.grids(questions[0].model, sampler)
        study.check_share(share)
        by = sources.online if estimator == "online" else sources.gap
        announce(questions, [by(question) for question in questions])
        if result.dry_run:
            typer.echo("nothing was computed")
            return
        folder = folder_of("window", model.model, result.out)
        measured = measure_each(questions, lambda question: [by(question)], parts_of("window", folder))
        runs, windows = [], []
        for question, source in zip(questions, measured, strict=True):
            ((name, levels),) = source.items()
            runs += levels
            windows += study.windows(question, name, levels, share, grids, allow_partial=allow_partial)
    if not is_first:
        return
    study.write(folder, runs, windows)
    remove_parts(parts_of("window", folder))
    for line in (line for interval in windows for line in in_words(interval)):
        typer.echo(line)
    print_costs(runs)
    _draw(folder, runs, windows, result)


def _draw(folder: "Path", runs: "Runs", windows: "Sequence[MeasuredWindow]", view: View) -> None:
    """Draw every level, and print the paths of all files."""
    from gmm.pooling import pool
    from paper_figures.drawing import window as drawing
    from paper_figures.drawing.style import PICTURES, save_pictures
    from paper_figures.studies.window import stems

    for stem, level_runs, measured in zip(stems(windows), runs, windows, strict=True):
        pictures = [folder / f"{stem}{suffix}" for suffix in PICTURES]
        draw = functools.partial(drawing.draw, pool(level_runs), measured, view)
        save_pictures(draw, pictures)
        for path in (folder / f"{stem}.json", *pictures, folder / f"{stem}.nc"):
            typer.echo(f"window: {path}")
