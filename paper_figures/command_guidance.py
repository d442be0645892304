"""``speciation guidance``: what guidance schedules do to a model's decision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paper_figures.options import Axis, DryRun, Dtype, OutputFolder, Seed, Units

if TYPE_CHECKING:
    from neural.decisions import Decision
    from neural.models import Model

DEFAULT_MODEL = "zoo:digits"
DEFAULT_SCHEDULES = ["cfg:2,4", "interval:4:0.3..3", "feedback", "entropy:4"]
PARTS = "guidance.parts"

ModelName = Annotated[str, typer.Option("--model", metavar="NAME|PATH", help="A model by name or path.")]
Schedules = Annotated[
    list[str],
    typer.Option(
        metavar="SCHEDULE ...",
        help="none, cfg:W[,W...], interval:W:LOW..HIGH (in σ/α), feedback[:PI], power:OMEGA[:EXPONENT], "
        "entropy:W[:SHARE][:profile] (timed by the measured curve), negative:W, dynamic-negative:PI, auto:W, or a "
        ".json file of schedules. The plain dynamics are always measured.",
    ),
]
Classes = Annotated[
    list[str] | None, typer.Option(metavar="CLASS ...", help="Classes to decide between; default: all.")
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT ...", help="Prompts to decide between, of models that take text."),
]
Partition = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="Cells of several classes; its first level is asked.")
]
Guide = Annotated[
    str | None, typer.Option(metavar="NAME|PATH", help="A second, worse model, for auto:W (autoguidance).")
]
Samples = Annotated[int, typer.Option(metavar="N", min=2, help="Trajectories a schedule.")]
Steps = Annotated[
    int | None, typer.Option(metavar="N", min=2, help="Noise levels; default: the model's own grid.")
]


def guidance(
    model: ModelName = DEFAULT_MODEL,
    schedules: Schedules = DEFAULT_SCHEDULES,
    classes: Classes = None,
    prompts: Prompts = None,
    partition: Partition = None,
    guide: Guide = None,
    samples: Samples = 256,
    steps: Steps = None,
    seed: Seed = 0,
    dtype: Dtype = "float32",
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
    from paper_figures import guiding
    from paper_figures.store import ensure_writable
    from paper_figures.style import View

    with jax.enable_x64(dtype == "float64"):
        loaded = load_model(model, dtype=dtype)
        second = None if guide is None else load_model(guide, dtype=dtype)
        asked = _decision(loaded, classes, prompts, partition)
        task = guiding.Task(loaded, asked, second, samples, steps or loaded.grid.steps, seed)
        guiding.check(task, schedules)
        _announce(task, schedules)
        if dry_run:
            typer.echo("nothing was computed")
            return
        if out is None:
            raise ValueError("--out must name the folder for the results, such as --out guidance")
        ensure_writable(out)
        found = _measured(task, schedules, out)
        guiding.write(out, found)
    for line in guiding.report(found):
        typer.echo(line)
    for path in [out / "guidance.json", *guiding.draw_all(out, found, View(axis, units))]:
        typer.echo(f"guidance: {path}")


def _decision(
    model: "Model", classes: list[str] | None, prompts: list[str] | None, partition: str | None
) -> "Decision":
    from neural.decisions import by_classes, by_prompts, every_class, read_partition

    given = [bool(classes), bool(prompts), partition is not None]
    if sum(given) > 1:
        raise ValueError("--classes, --prompts and --partition name the same thing; give one of them")
    if partition is not None:
        return read_partition(partition, model)
    if prompts:
        return by_prompts(model, prompts)
    return by_classes(model, classes) if classes else every_class(model)


def _announce(task: Any, schedules: list[str]) -> None:
    cells = ", ".join(task.decision.levels[0].cells[:10])
    typer.echo(f"{task.model.name}: {len(task.decision.conditions)} conditions; {cells}")
    count = len(schedules) + sum(text.count(",") for text in schedules if text.startswith("cfg:")) + 1
    each = task.samples * task.steps * (len(task.decision.conditions) + 1)
    typer.echo(f"{count} schedules, each {each:,} evaluations of the network")


def _measured(task: Any, schedules: list[str], out: Path) -> Any:
    import shutil

    from paper_figures import guiding

    try:
        with _watching() as watch:
            found = guiding.measure(task, schedules, out / PARTS, watch)
    except KeyboardInterrupt:
        typer.echo(
            f"speciation: interrupted; finished parts stay in {out / PARTS}, the same command goes on",
            err=True,
        )
        raise
    shutil.rmtree(out / PARTS, ignore_errors=True)
    return found


@contextmanager
def _watching() -> "Iterator[Callable[[str, int, int], None]]":
    """Progress with the time left, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def watch(name: str, done: int, total: int) -> None:
            task = tasks.setdefault(name, None) or progress.add_task(name, total=total)
            tasks[name] = task
            progress.update(task, completed=done, total=total)

        yield watch
