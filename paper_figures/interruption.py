"""Interruption of long work: it ends at once, and a line says what is kept."""

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds after which a dropped signal is sent again: too short for a person to notice.
MOMENT = 0.01


@contextmanager
def interruptible(what_stays: str) -> Iterator[None]:
    """When the work within is interrupted, print one line that says what is kept, and let the interruption go on."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"speciation: interrupted; {what_stays}", file=sys.stderr)
        raise


@contextmanager
def reliable_interrupts(signum: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Make sure that a signal whose handler raises ends the work within.

    From some places, such as functions that JAX calls at each garbage collection, Python passes no exception on: it
    prints the exception, drops it and goes on. Here nothing is printed, and the signal is sent again a moment later.
    """
    previous_hook = sys.unraisablehook
    work_ended = threading.Event()

    def send_again(dropped: "sys.UnraisableHookArgs") -> None:
        if dropped.exc_type not in (KeyboardInterrupt, SystemExit):
            previous_hook(dropped)
            return
        hook_left: list[bool] = []
        # Unlike `Thread.start`, this does not wait: a signal that came within this function would be dropped too.
        _thread.start_new_thread(_send, (signum, hook_left, work_ended))
        hook_left += [True]

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = previous_hook
        work_ended.set()


def _send(signum: signal.Signals, hook_left: list[bool], work_ended: threading.Event) -> None:
    """Raise the signal in the main thread, once that has left the hook and unless the work has ended meanwhile."""
    while not work_ended.wait(MOMENT):
        if hook_left:
            _thread.interrupt_main(signum)
            return
