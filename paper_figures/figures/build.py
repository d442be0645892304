"""Making figures in one or more processes, so that whatever stops the work loses nothing that is finished.

A process that only waits for others imports neither jax nor matplotlib: that would take as long as a figure.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.progress import ProgressColumn, Task
from rich.text import Text

from paper_figures.drawing.view import View
from paper_figures.figures.job import Job
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.interruption import reliable_interrupts
from paper_figures.progress import bars

if TYPE_CHECKING:
    from neural.progress import Progress

# Held while index.html is written, which shows all figures of a folder: two writers would leave one out.
_page: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()


def make(job: Job, view: View, progress: "Progress | None" = None) -> bool:
    """Make one figure: its data unless they are on disk, then its pictures and the page of its lines, and index.html.

    Args:
        job: which figure.
        view: axis and units of its picture.
        progress: called while an experiment is measured.

    Returns:
        Whether the data on disk were reused.
    """
    from paper_figures.drawing.style import PICTURES, save_pictures
    from paper_figures.figures import page
    from paper_figures.pages.view import write_view

    dataset = _on_disk(job)
    reused = dataset is not None
    if dataset is None:
        dataset = _measured(job, progress) if job.figure.is_experiment else _computed(job)
        if not _is_first():
            return False
        dataset = job.save(dataset)
    if not _is_first():
        return reused
    pictures = [job.path(suffix) for suffix in PICTURES]
    save_pictures(lambda: job.figure.draw(dataset, view), pictures, draft=job.settings.fast)
    write_view(job.path(".html"), dataset, job.figure.name)
    with _page:
        page.write(job.folder)
    return reused


def _on_disk(job: Job) -> Any:
    """Its data, if they are there and can be used, as the first process sees it where several share an experiment."""
    if not job.figure.is_experiment:
        return job.load()
    from gmm.devices import agreed

    is_there = agreed(lambda: [job.load() is not None])[0]
    dataset = job.load() if is_there else None
    if is_there and dataset is None:
        raise ValueError(f"every process must see {job.folder}: name a folder that they share")
    return dataset


def _is_first() -> bool:
    """Whether this process writes the files."""
    import jax

    return jax.process_index() == 0


def _measured(job: Job, progress: "Progress | None") -> Any:
    """The data of an experiment; its finished rows stay beside them for a list of classes that shares some."""
    from paper_figures.studies.experiment import Work

    assert isinstance(job.settings, ExperimentSettings)
    return job.figure.measure(job.settings, Work(job.path(".rows"), progress))


def _computed(job: Job) -> Any:
    """The figure's data. A ValueError here is a bug, not bad input, and keeps its traceback."""
    import jax

    quick = job.settings.fast and not job.figure.times_itself
    try:
        with jax.enable_x64(job.settings.dtype == "float64"), _quick_compilation(quick):
            return job.figure.compute(job.settings)
    except ValueError as error:
        raise RuntimeError(f"figure {job.figure.name} could not be made: {error}") from error


@contextlib.contextmanager
def _quick_compilation(wanted: bool) -> Iterator[None]:
    """Leave programs unoptimised if wanted: they compile three times as fast, run slower, and give the same numbers."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", wanted or before)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


class Made(NamedTuple):
    """A finished figure: its job, whether its data were reused, and how many seconds it took."""

    job: Job
    reused: bool
    seconds: float


def make_all(jobs: Sequence[Job], view: View, workers: int = 1) -> Iterator[Made]:
    """Make figures, with a bar on a terminal; yields each when it is finished.

    Args:
        jobs: the figures, made in the order of `in_order`.
        view: axis and units of the pictures.
        workers: processes; 1 is this one.
    """
    with bars(_TimeLeft()) as shown:
        workers = min(workers, len(jobs))
        left = sum(_seconds(job) for job in jobs) / max(workers, 1)
        task = shown.add_task("making figures", total=left, started=time.monotonic(), left=left)
        for made in _made(jobs, view, workers):
            yield made
            share = _seconds(made.job) / workers
            left -= share
            name = made.job.figure.name
            shown.advance(task, share)
            shown.update(task, description=f"made {name}", started=time.monotonic(), left=left)


def in_order(jobs: Sequence[Job], workers: int) -> list[Job]:
    """Jobs as they are begun: the cheapest first, so that there is soon something to look at.

    One process goes on with the next cheapest, several with the most expensive, so that all end at the same time.
    """
    by_cost = sorted(jobs, key=_seconds)
    cheapest, others = by_cost[:1], by_cost[1:]
    return cheapest + (others[::-1] if workers > 1 else others)


def _timed(job: Job, view: View) -> Made:
    from gmm import programs

    programs.drop_if_many()
    started = time.monotonic()
    return Made(job, make(job, view), time.monotonic() - started)


def _made(jobs: Sequence[Job], view: View, workers: int) -> Iterator[Made]:
    """Jobs as they are finished."""
    if workers <= 1:
        yield from (_timed(job, view) for job in in_order(jobs, workers))
        return
    start = multiprocessing.get_context("spawn")  # JAX has threads, which a fork does not survive
    with concurrent.futures.ProcessPoolExecutor(workers, start, _start_worker, (start.Lock(),)) as pool:
        try:
            futures = [pool.submit(_timed_by_worker, job, view) for job in in_order(jobs, workers)]
            yield from (future.result() for future in concurrent.futures.as_completed(futures))
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _start_worker(page: contextlib.AbstractContextManager[Any]) -> None:
    """Make this worker end when the process that started it ends it or is gone, and at no other signal."""
    global _page
    _page = page
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _exit(*_: object) -> None:
    """End by an exception, so that a file that is being written aside is removed."""
    raise SystemExit


def _timed_by_worker(job: Job, view: View) -> Made:
    try:
        with reliable_interrupts(signal.SIGTERM):
            signal.signal(signal.SIGTERM, _exit)
            return _timed(job, view)
    except SystemExit:  # the pool would go on with the next figure
        os._exit(1)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # between figures nothing has to be removed


def _seconds(job: Job) -> float:
    return job.figure.cost(job.settings.fast)


class _TimeLeft(ProgressColumn):
    """The time left, by the costs of the registry, counting down between figures."""

    def render(self, task: Task) -> Text:
        since = time.monotonic() - task.fields["started"]
        return Text(f"about {max(0.0, task.fields['left'] - since):.0f} s left")
