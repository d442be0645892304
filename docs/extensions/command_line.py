"""The directive ``command-line``: the help of every sub-command, taken from the command itself."""

from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from docutils.parsers.rst import Directive

from paper_figures.cli import build

WIDTH = 88  # columns of the help: what a page shows without scrolling


class CommandLine(Directive):
    """One section for each sub-command, with its help as the terminal shows it."""

    def run(self) -> list[nodes.Node]:
        return [_section(path, command) for path, command in _commands(typer.main.get_command(build()), ())]


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, (*path, name))


def _section(path: tuple[str, ...], command: Any) -> nodes.section:
    title = " ".join(("speciation", *path))
    section = nodes.section(ids=[nodes.make_id(title)])
    section += nodes.title(title, title)
    context = typer.Context(command, info_name=title, terminal_width=WIDTH)
    section += nodes.literal_block("", context.get_help(), language="text")
    return section


def setup(app: Any) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
