"""The ``speciation`` command: the list of its sub-commands, and how it ends.

Each sub-command is a module of `paper_figures.commands` and one line of `build`. None of them imports jax before it
runs, so that help and errors come at once.
"""

import contextlib
import functools
import importlib.metadata
import logging
import os
import signal
import sys
import types
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from paper_figures.commands.check import check
from paper_figures.commands.compare import compare
from paper_figures.commands.data import data
from paper_figures.commands.explore import explore
from paper_figures.commands.figures import figures
from paper_figures.commands.guidance import guidance
from paper_figures.commands.lists import Command
from paper_figures.commands.models import models
from paper_figures.commands.option_groups import expanded
from paper_figures.commands.sample import sample
from paper_figures.commands.show import show
from paper_figures.commands.sweep import sweep
from paper_figures.commands.train import train
from paper_figures.commands.weights import weights
from paper_figures.commands.window import window
from paper_figures.interruption import reliable_interrupts
from paper_figures.terminal import open_closed_streams, printable_streams

BAD_INPUT = 2
INTERRUPTED = 130
# The newest jaxlib whose XLA is known to take the flags of `quick_to_compile`; 0.7 does too.
FLAGS_TRIED = (0, 10)
# Signals by which terminals, queues and containers end a process; its exit code is then 128 and the signal's number.
_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_received: list[int] = []
# How JAX begins the text of an exception in a function that it called on the host.
_CALLBACK = "CpuCallback error"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"speciation {importlib.metadata.version('speciation')}")
        raise typer.Exit


def _speciation(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """When, along the noise axis, does a diffusion model decide which class it is generating?

    Start with `speciation figures`: it makes every figure of the theory, the data from which each is drawn, and a page
    that shows them. `speciation sweep` computes curves and times over a grid of dimensions, class counts and more.
    `speciation compare` draws the curves of a trained model beside the exact ones of its data, and `speciation window`
    says between which noise levels it decides.
    """


def build() -> typer.Typer:
    """The command with all its sub-commands."""
    app = typer.Typer(name="speciation", add_completion=False, rich_markup_mode=None)
    app.callback()(_speciation)
    for command in (figures, sweep, data, guidance, compare, window, check, sample, show, explore, train):
        app.command(cls=Command)(expanded(command))
    app.add_typer(models, name="models")
    app.add_typer(weights, name="weights")
    return app


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code: 0, 1 where a check failed, 2 for bad input, 130 when interrupted.

    Bad input is one line on standard error. A ValueError or OSError is bad input by the project's
    convention: everything that a person hands in is validated with one. Other exceptions are bugs and keep
    their traceback.
    """
    with printable_streams():
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(build())
    try:
        with reliable_interrupts():
            code = command.main(list(arguments) or ["--help"], prog_name="speciation", standalone_mode=False)
    except (RuntimeError, AssertionError) as error:
        if failed := _failed_in_callback(error):
            return _after_callback(failed)
        if not _platform_is_missing():
            raise
        wanted = os.environ["JAX_PLATFORMS"]
        return _refuse(
            f"JAX has no platform {wanted!r} here, but JAX_PLATFORMS is set to it; unset it or name another"
        )
    except typer.TyperException as error:
        return _refuse(error.format_message())
    except (ValueError, OSError) as error:
        failed = _failed_in_callback(error)
        return _after_callback(failed) if failed else _refuse(str(error))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _failed_in_callback(error: Exception) -> str:
    """The exception that ended a function which JAX called on the host, such as a network of torch; else empty.

    JAX passes it on as text, behind the whole traceback.
    """
    text = str(error)
    return text.strip().splitlines()[-1].strip() if _CALLBACK in text else ""


def _after_callback(failed: str) -> int:
    """The exit code after such an exception, and a line for it; none where it was interrupted."""
    if failed.startswith(KeyboardInterrupt.__name__):
        return INTERRUPTED
    return _refuse(f"the model's own code failed: {failed}")


def _platform_is_missing() -> bool:
    """Whether JAX cannot start on the platform that the environment names; its own message has fifty lines."""
    if not os.environ.get("JAX_PLATFORMS"):
        return False
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        return True
    return False


def _refuse(message: str) -> int:
    # pydantic, below typer, announces its own kind of error first.
    line = " ".join(message.split()).replace("Value error, ", "")
    print("speciation:", line, file=sys.stderr)
    return BAD_INPUT


def _warn(message: Warning | str, *_: object) -> None:
    """Print a warning as one line, without the place in the code that it comes from."""
    _say_once("speciation: warning: " + " ".join(str(message).split()))


@functools.cache
def _say_once(line: str) -> None:
    # A check before the work and the work itself may give the same warning.
    print(line, file=sys.stderr)


def main() -> None:
    """Entry point of the installed ``speciation`` command."""
    # JAX prints the traceback of a failed callback before it passes the exception on.
    logging.getLogger("jax._src.callback").setLevel(logging.CRITICAL)
    open_closed_streams()
    os.environ["XLA_FLAGS"] = " ".join([*quick_to_compile(), os.environ.get("XLA_FLAGS", "")])
    # A notebook's backend is not there for the processes that it starts, and commands draw into files alone.
    os.environ["MPLBACKEND"] = "agg"
    warnings.showwarning = _warn
    for signum in _ENDING:
        # nohup, and scripts that run a command in the background, have a signal ignored.
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _interrupt)
    code = run(sys.argv[1:])
    if code == INTERRUPTED:
        _leave(128 + _received[-1] if _received else code)
    # Python takes a second to end; an interruption meanwhile would print a traceback that says nothing.
    for signum in _ENDING:
        if signal.getsignal(signum) == _interrupt:
            signal.signal(signum, signal.SIG_DFL)
    sys.exit(code)


def _interrupt(signum: int, frame: types.FrameType | None) -> None:
    """End the work as Ctrl-C does: what is finished stays, and `train` keeps its state.

    Within an import the process ends at once: a library of C that cannot import what it needs reports an error of its
    own, or crashes.
    """
    _received.append(signum)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _leave(128 + signum)
        frame = frame.f_back
    raise KeyboardInterrupt


def _leave(code: int) -> None:
    """End the process at once: taking XLA apart while its threads are at work may crash."""
    for signum in _ENDING:
        signal.signal(signum, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a pipe that nobody reads any more
            stream.flush()
    os._exit(code)


def quick_to_compile() -> list[str]:
    """XLA's flags for a command, which compiles dozens of programs and runs each for a second or less.

    A level of optimisation below the highest halves the time of the compilations, emitters that build a program
    in one piece instead of kernel by kernel halve it again; neither costs the runs anything that shows.
    """
    flags = ["--xla_backend_optimization_level=2"]
    # XLA ends the process over a flag that it does not know, so it is named to releases that were tried.
    release = tuple(int(part) for part in importlib.metadata.version("jaxlib").split(".")[:2])
    return [*flags, "--xla_cpu_use_fusion_emitters=false"] if release <= FLAGS_TRIED else flags
