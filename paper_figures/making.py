"""Making figures one after the other, so that whatever stops the work loses nothing that is finished."""

import time
from collections.abc import Callable, Sequence

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from paper_figures import report
from paper_figures.store import PICTURES, Job, save_picture
from paper_figures.style import View, lay_out, paper_style

Say = Callable[[str], None]


def make(job: Job, view: View) -> bool:
    """Make one figure: its data unless they are on disk, then its pictures.

    Returns:
        Whether the data on disk were reused.
    """
    dataset = job.stored()
    reused = dataset is not None
    if dataset is None:
        # A ValueError from here is a bug of ours, not bad input: it keeps its traceback.
        try:
            with jax.enable_x64(job.settings.dtype == "float64"):
                dataset = job.save(job.figure.compute(job.settings))
        except ValueError as error:
            raise RuntimeError(f"figure {job.figure.name} could not be made: {error}") from error
    with paper_style():
        picture = job.figure.draw(dataset, view)
        lay_out(picture)
        for suffix in PICTURES:
            save_picture(picture, job.path(suffix))
    return reused


def make_all(jobs: Sequence[Job], view: View, say: Say) -> None:
    """Make figures in order, with progress on a terminal and a line for each on `say`."""
    with _progress() as progress:
        task = progress.add_task("", total=sum(_seconds(job) for job in jobs))
        for job in jobs:
            progress.update(task, description=job.figure.name, started=time.monotonic(), cost=_seconds(job))
            started = time.monotonic()
            reused = make(job, view)
            report.write(job.folder)
            how = "data reused from" if reused else f"computed in {time.monotonic() - started:.1f} s,"
            say(f"{job.figure.name}: {how} {job.path('.nc')}")
            progress.advance(task, _seconds(job))


def _seconds(job: Job) -> float:
    return job.figure.cost(job.settings.fast)


class _TimeLeft(ProgressColumn):
    """Time left by the registry's costs: counts down within a figure, and never below the others' cost."""

    def render(self, task: Task) -> Text:
        now = min(time.monotonic() - task.fields["started"], task.fields["cost"])
        return Text(f"about {max(0.0, (task.remaining or 0.0) - now):.0f} s left")


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        _TimeLeft(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
