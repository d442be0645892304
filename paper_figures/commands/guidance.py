"""``speciation guidance``: what guidance schedules do to a model's decision."""

from pathlib import Path
from typing import Annotated, Any

import typer

from paper_figures.commands import model_options as asking
from paper_figures.commands.model_options import DEFAULT_MODEL, Asked
from paper_figures.commands.options import Axis, DryRun, ModelDtype, OutputFolder, Seed, Units

DEFAULT_SCHEDULES = ["cfg:2,4", "interval:4:0.3..3", "feedback", "entropy:4"]
PARTS = "guidance.parts"

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
    str | None, typer.Option(metavar="NAME|PATH", help="A second, worse model, for auto:W (autoguidance).")
]


def guidance(
    model: asking.ModelName = DEFAULT_MODEL,
    schedules: Schedules = DEFAULT_SCHEDULES,
    classes: asking.Classes = None,
    prompts: asking.Prompts = None,
    partition: asking.Partition = None,
    per_cell: asking.PerCell = None,
    prior: asking.Prior = None,
    guide: Guide = None,
    samples: asking.Samples = None,
    steps: asking.Steps = None,
    batch: asking.Batch = None,
    seed: Seed = 0,
    dtype: ModelDtype = "float32",
    axis: Axis = None,
    units: Units = "nats",
    out: OutputFolder = None,
    dry_run: DryRun = False,
) -> None:
    """How does guidance move this model's decision?

    Trajectories are guided to classes drawn evenly; under each schedule the folder gets a curve file (entropy of the
    unguided posterior along them, its rate, and the surprise of the class that they were guided to, with error bands),
    and all together guidance.json (the schedules, for samplers to read; docs/guidance.md) and a picture.

    Examples: speciation guidance --model mixture:simplex:10:64 --schedules cfg:1,2,4 interval:2:0.2..1.5 --out DIR
              speciation guidance --model edm2-xs --classes tabby 207 --schedules cfg:2 entropy:2 --out DIR
    """
    import jax

    from neural.models import load_model
    from paper_figures.drawing.view import View
    from paper_figures.files import ensure_writable
    from paper_figures.studies import guidance as guiding

    asked = Asked.of(locals())
    with jax.enable_x64(dtype == "float64"):
        second = None if guide is None else load_model(guide, dtype=dtype)
        task = guiding.Task(asking.question(asked), second)
        guiding.check(task, schedules)
        typer.echo(guiding.announcement(task, schedules))
        if dry_run:
            typer.echo("nothing was computed")
            return
        folder = asking.folder_of("guidance", asked, out)
        ensure_writable(folder)
        found = _measured(task, schedules, folder)
        guiding.write(folder, found)
    for line in guiding.report(found):
        typer.echo(line)
    for path in [folder / "guidance.json", *guiding.draw_all(folder, found, View(axis, units))]:
        typer.echo(f"guidance: {path}")


def _measured(task: Any, schedules: list[str], out: Path) -> Any:
    from paper_figures import interruption, progress
    from paper_figures.studies import guidance as guiding
    from paper_figures.studies import sources as measuring

    with (
        interruption.interruptible(f"finished parts stay in {out / PARTS}, the same command goes on"),
        progress.watching(progress.bars()) as watch,
    ):
        found = guiding.measure(task, schedules, out / PARTS, watch)
    measuring.forget(out / PARTS)
    return found
