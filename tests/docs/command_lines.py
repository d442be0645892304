"""Lines of shell blocks that call the project's command, and whether the command takes their options."""

import re
import shlex
from typing import Any

import typer

from paper_figures.cli import build

# Where a line of the shell begins to be a call of the command: after a prompt, settings of the environment, a launcher.
_CALL = re.compile(r"(?:^|\s|\")(?:\S*/)?speciation(?=\s)")
_OTHER_USES = re.compile(r"conda |pip |uv |git |import ")


def calls(text: str) -> list[list[str]]:
    """The arguments of each call of ``speciation`` in a shell block, with continued lines joined."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        match = _CALL.search(line)
        if match is None or line.lstrip().startswith("#") or _OTHER_USES.search(line[: match.start()]):
            continue
        arguments = line[match.end() :]
        if arguments.count('"') % 2:  # the call is the last argument of another command, within quotes
            arguments = arguments.rstrip().removesuffix('"')
        found.append([word for word in shlex.split(arguments, comments=True) if word != "..."])
    return found


def parse(arguments: list[str]) -> None:
    """Parse the arguments as the command does, and run nothing.

    Raises:
        typer.TyperException: there is no such command or option, or a value is not allowed.
    """
    command: Any = typer.main.get_command(build())
    if arguments in (["--help"], ["--version"]):
        return
    context = command.make_context("speciation", list(arguments))
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
