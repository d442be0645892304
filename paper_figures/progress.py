"""Progress of long work: one kind of callback, and bars on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from paper_figures import terminal

if TYPE_CHECKING:
    from neural.progress import Progress

# Parts of a piece of work are reported in thousandths, since each may count something else.
_SCALE = 1000


def share(progress: "Progress | None", number: int, of: int) -> "Progress | None":
    """A callback for one of several equal parts of a piece of work, which reports to the callback of the whole.

    Args:
        progress: the callback of the whole, which is also that of its only part; None gives None.
        number: the part, from 0.
        of: how many parts there are.
    """
    if progress is None or of == 1:
        return progress
    return lambda done, total: progress(_SCALE * number + _SCALE * done // max(total, 1), _SCALE * of)


def from_part(progress: "Progress | None", first: int, of: int) -> "Progress | None":
    """A callback for all parts from number `first` on, of `of` equal parts of a piece of work."""
    if progress is None:
        return None
    scale = _SCALE * (of - first)
    return lambda done, total: progress(_SCALE * first + scale * done // max(total, 1), _SCALE * of)


def bars(*columns: ProgressColumn) -> Bars:
    """Bars on standard error, each after its description and before `columns` (default: the time left).

    They are shown on a terminal only, so that what a command prints can be piped.
    """
    console = terminal.console(stderr=True)
    after = columns or (TaskProgressColumn(), TimeRemainingColumn())
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        *after,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def bar(description: str, unit: str | None = None) -> "Iterator[Progress | None]":
    """A bar while the work within runs; yields its callback, or None without a terminal to draw on.

    Args:
        description: what is done.
        unit: what the callback counts, to be shown as numbers done and expected in all; None shows a percentage.
    """
    counts = TextColumn(f"{{task.completed:,.0f}} of about {{task.total:,.0f}} {unit}")
    with bars() if unit is None else bars(counts, TimeRemainingColumn()) as shown:
        task = shown.add_task(description, total=None)
        yield None if shown.disable else lambda done, total: shown.update(task, completed=done, total=total)
