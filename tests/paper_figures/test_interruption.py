"""A signal ends the work wherever it strikes: also where Python drops what its handler raises."""

import gc
import os
import signal
import subprocess
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


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals are POSIX's")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_within_an_import_the_process_ends_at_once(name, tmp_path):
    """NumPy's library of C turns an interruption of its imports into an ImportError."""
    signum = getattr(signal, name)
    (tmp_path / "interrupted.py").write_text(
        "import signal\n"
        f"try:\n    signal.raise_signal({int(signum)})\n"
        "except KeyboardInterrupt as error:\n    raise ImportError from error\n"
    )
    line = "from paper_figures import cli; cli.run = lambda _: __import__('interrupted'); cli.main()"
    command = [sys.executable, "-c", line]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (128 + signum, "")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals are POSIX's")
def test_signals_that_are_ignored_stay_ignored():
    line = (
        "import signal, os; signal.signal(signal.SIGHUP, signal.SIG_IGN); from paper_figures import cli;"
        "cli.run = lambda _: os.kill(os.getpid(), signal.SIGHUP) or 0; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
