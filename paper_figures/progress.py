"""Long work as a person sees it: progress with the time left.

Progress goes to standard error, is drawn on a terminal only and is gone when the work is done.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

Watch = Callable[[str, int, int], None]
"""Told what is at work, how much of it is done, and how much there is."""


def bars(*columns: ProgressColumn) -> Progress:
    """Bars, each behind what it is about; behind it `columns`, or else the time left."""
    # To standard error: what a command prints can be piped.
    console = Console(stderr=True)
    behind = columns or (TimeRemainingColumn(),)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *behind,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def counting_bars() -> Progress:
    """Bars with their counts, such as 3/50, and the time left."""
    return bars(MofNCompleteColumn(), TimeRemainingColumn())


@contextmanager
def watching(progress: Progress, expected: Mapping[str, int] | None = None) -> Iterator[Watch]:
    """A `Watch` that draws a bar for each name; those of `expected` (name -> total) from the start."""
    with progress:
        tasks = {name: progress.add_task(name, total=total) for name, total in (expected or {}).items()}

        def watch(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name)
            progress.update(tasks[name], completed=done, total=total)

        yield watch
