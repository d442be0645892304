"""What reaches a terminal: text that prints, whatever files, prompts and names hold, in any encoding."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console

_KEPT = str.maketrans("", "", "\n\t")


class _Printable:
    """A stream that escapes control characters, except line ends and tabs; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        if not text.translate(_KEPT).isprintable():
            # Here, since it imports JAX, for which help and errors must not wait.
            from gmm.schema import printable

            text = printable(text, keep="\n\t")
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def open_closed_streams() -> None:
    """Let streams that were closed before this process began lead nowhere.

    Otherwise a file of results would get the number of standard output or error, and what is printed would go into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115


@contextmanager
def printable_streams() -> Iterator[None]:
    """Let everything that is printed within reach the terminal as text."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):  # an answer is not lost because the encoding is narrow
            stream.reconfigure(errors="backslashreplace")
    streams: Any = map(_Printable, before)
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def console(*, stderr: bool = False, **options: Any) -> Console:
    """A console for tables and bars, which may colour and move the cursor; their cells are passed through `cell`."""
    stream: Any = sys.stderr if stderr else sys.stdout
    return Console(
        file=getattr(stream, "stream", stream), markup=False, emoji=False, highlight=False, **options
    )


def cell(text: object) -> str:
    """Text for a cell of a table or the name of a bar."""
    from gmm.schema import printable

    return printable(str(text), keep="\n")
