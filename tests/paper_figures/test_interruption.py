"""A signal ends the work wherever it strikes: also where Python drops what its handler raises."""

import gc
import signal
import sys
import time

import pytest

from paper_figures.interruption import MOMENT, reliable_interrupts

# Longer than any wait for a thread on a busy machine.
PATIENCE = 20.0


def _leave(*_):
    raise SystemExit


def _struck_while_collecting(signum, seconds):
    """Work that a signal strikes within a callback of the garbage collection, as JAX registers one."""

    def strike(*_):
        gc.callbacks.remove(strike)
        signal.raise_signal(signum)

    gc.callbacks.append(strike)
    gc.collect()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(MOMENT)


@pytest.fixture
def printed(monkeypatch):
    """The exceptions that Python would print and drop."""
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: dropped.append(args.exc_type))
    return dropped


def test_an_interruption_that_python_drops_comes_again(printed):
    with pytest.raises(KeyboardInterrupt), reliable_interrupts():
        _struck_while_collecting(signal.SIGINT, PATIENCE)
    assert printed == []


def test_any_signal_whose_handler_raises_comes_again(printed):
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        with pytest.raises(SystemExit), reliable_interrupts(signal.SIGTERM):
            _struck_while_collecting(signal.SIGTERM, PATIENCE)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert printed == []


def test_without_it_the_work_goes_on(printed):
    _struck_while_collecting(signal.SIGINT, 10 * MOMENT)
    assert printed == [KeyboardInterrupt]


def test_other_dropped_exceptions_are_told_as_ever(printed):
    class Broken:
        def __del__(self):
            raise ValueError("not an interruption")

    hook = sys.unraisablehook
    with reliable_interrupts():
        Broken()
    assert printed == [ValueError]
    assert sys.unraisablehook is hook


def test_an_interruption_does_not_outlive_the_work(printed):
    with reliable_interrupts():
        _struck_while_collecting(signal.SIGINT, 0.0)
    time.sleep(10 * MOMENT)
    assert printed == []
