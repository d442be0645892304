"""Making figures, a process each, so that whatever stops the work loses nothing that is finished.

The process that only waits for others imports neither jax nor matplotlib: that would take as long as a figure.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.progress import ProgressColumn, Task
from rich.text import Text

from paper_figures.drawing.view import View
from paper_figures.files import PICTURES, Job, save_picture
from paper_figures.interruption import insisting
from paper_figures.progress import bars

Say = Callable[[str], None]

# Held while index.html is written, which tells of all figures of a folder: two writers would leave one out.
_page: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()


def make(job: Job, view: View) -> bool:
    """Make one figure: its data unless they are on disk, then its pictures, and the page that shows it.

    Returns:
        Whether the data on disk were reused.
    """
    from paper_figures.drawing.style import lay_out, paper_style
    from paper_figures.figures import page as report

    dataset = job.stored()
    reused = dataset is not None
    if dataset is None:
        dataset = job.save(_computed(job))
    with paper_style(draft=job.settings.fast):
        picture = job.figure.draw(dataset, view)
        lay_out(picture)
        for suffix in PICTURES:
            save_picture(picture, job.path(suffix))
    with _page:
        report.write(job.folder)
    return reused


def _computed(job: Job) -> Any:
    """The figure's data. A ValueError from here is a bug of ours, not bad input: it keeps its traceback."""
    import jax

    hasty = job.settings.fast and not job.figure.times_itself
    try:
        with jax.enable_x64(job.settings.dtype == "float64"), _compiled_in_haste(hasty):
            return job.figure.compute(job.settings)
    except ValueError as error:
        raise RuntimeError(f"figure {job.figure.name} could not be made: {error}") from error


@contextlib.contextmanager
def _compiled_in_haste(hasty: bool) -> Iterator[None]:
    """Leave programs unoptimised: three times as fast to compile, as slow to run; the same numbers."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", hasty or before)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def make_all(jobs: Sequence[Job], view: View, say: Say, workers: int = 1) -> None:
    """Make figures, with progress on a terminal and a line for each on `say`.

    Args:
        jobs: the figures, made in this order by one worker and the dearest first by several.
        view: axis and units of the pictures.
        say: takes a line.
        workers: processes; 1 is this one.
    """
    with bars(_TimeLeft()) as progress:
        workers = min(workers, len(jobs))
        left = sum(_seconds(job) for job in jobs) / max(workers, 1)
        task = progress.add_task("making figures", total=left, started=time.monotonic(), left=left)
        for job, reused, seconds in _made(jobs, view, workers):
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
    with concurrent.futures.ProcessPoolExecutor(workers, start, _obey, (start.Lock(),)) as pool:
        try:
            dearest_first = sorted(jobs, key=_seconds, reverse=True)
            futures = [pool.submit(_timed_by_worker, job, view) for job in dearest_first]
            yield from (future.result() for future in concurrent.futures.as_completed(futures))
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _obey(page: contextlib.AbstractContextManager[Any]) -> None:
    """Make a worker end when, and only when, the process that started it says so or is gone."""
    global _page
    _page = page
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _leave(*_: object) -> None:
    """Unwind, so that a file that is being written aside goes."""
    raise SystemExit


def _timed_by_worker(job: Job, view: View) -> Made:
    try:
        with insisting(signal.SIGTERM):
            signal.signal(signal.SIGTERM, _leave)
            return _timed(job, view)
    except SystemExit:  # a pool would take it for the figure's own end, and go on with the next
        os._exit(1)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # between figures there is nothing to unwind


def _seconds(job: Job) -> float:
    return job.figure.cost(job.settings.fast)


class _TimeLeft(ProgressColumn):
    """Time left by the registry's costs, counting down between figures."""

    def render(self, task: Task) -> Text:
        since = time.monotonic() - task.fields["started"]
        return Text(f"about {max(0.0, task.fields['left'] - since):.0f} s left")
