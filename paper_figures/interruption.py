"""Long work that a person interrupts: it ends at once, and says what stays."""

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer

# Seconds: long enough to leave the place that drops exceptions, too short for a person to notice.
MOMENT = 0.01


@contextmanager
def interruptible(what_stays: str) -> Iterator[None]:
    """When a person interrupts the work within, one line says what stays; the interruption goes on."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"speciation: interrupted; {what_stays}", err=True)
        raise


@contextmanager
def insisting(signum: int = signal.SIGINT) -> Iterator[None]:
    """Let a signal whose handler raises end the work within, wherever it strikes.

    From some places Python passes no exception on, such as from what JAX does at each garbage collection: it
    prints the exception, drops it and goes on. Here it prints nothing, and the signal comes again in a moment.
    """
    before = sys.unraisablehook
    again: list[threading.Timer] = []

    def heard(dropped: "sys.UnraisableHookArgs") -> None:
        if dropped.exc_type not in (KeyboardInterrupt, SystemExit):
            before(dropped)
            return
        again.append(threading.Timer(MOMENT, _thread.interrupt_main, [signum]))
        again[-1].start()

    sys.unraisablehook = heard
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in again:
            timer.cancel()
