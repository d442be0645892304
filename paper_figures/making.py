"""Making figures, a process each, so that whatever stops the work loses nothing that is finished."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

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
    with paper_style(draft=job.settings.fast):
        picture = job.figure.draw(dataset, view)
        lay_out(picture)
        for suffix in PICTURES:
            save_picture(picture, job.path(suffix))
    return reused


def make_all(jobs: Sequence[Job], view: View, say: Say, workers: int = 1) -> None:
    """Make figures, with progress on a terminal and a line for each on `say`.

    Args:
        jobs: the figures, made in this order by one worker and the dearest first by several.
        view: axis and units of the pictures.
        say: takes a line.
        workers: processes; 1 is this one.
    """
    with _progress() as progress:
        workers = min(workers, len(jobs))
        left = sum(_seconds(job) for job in jobs) / max(workers, 1)
        task = progress.add_task("making figures", total=left, started=time.monotonic(), left=left)
        for job, reused, seconds in _made(jobs, view, workers):
            report.write(job.folder)
            how = "data reused from" if reused else f"computed in {seconds:.1f} s,"
            say(f"{job.figure.name}: {how} {job.path('.nc')}")
            left -= _seconds(job) / workers
            progress.advance(task, _seconds(job) / workers)
            progress.update(task, description=f"made {job.figure.name}", started=time.monotonic(), left=left)


Made = tuple[Job, bool, float]


def _timed(job: Job, view: View) -> Made:
    """The job, whether its data were reused, and how long it took."""
    started = time.monotonic()
    return job, make(job, view), time.monotonic() - started


def _made(jobs: Sequence[Job], view: View, workers: int) -> Iterator[Made]:
    """Jobs as they are finished."""
    if workers <= 1:
        yield from (_timed(job, view) for job in jobs)
        return
    start = multiprocessing.get_context("spawn")  # JAX has threads, which a fork does not survive
    with concurrent.futures.ProcessPoolExecutor(workers, start, _obey) as pool:
        try:
            dearest_first = sorted(jobs, key=_seconds, reverse=True)
            futures = [pool.submit(_timed, job, view) for job in dearest_first]
            yield from (future.result() for future in concurrent.futures.as_completed(futures))
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _obey() -> None:
    """Make a worker end when, and only when, the process that started it says so or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _seconds(job: Job) -> float:
    return job.figure.cost(job.settings.fast)


class _TimeLeft(ProgressColumn):
    """Time left by the registry's costs, counting down between figures."""

    def render(self, task: Task) -> Text:
        since = time.monotonic() - task.fields["started"]
        return Text(f"about {max(0.0, task.fields['left'] - since):.0f} s left")


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
