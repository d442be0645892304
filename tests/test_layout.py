"""The house as CONTRIBUTING.md describes it: which file may import which, and where a file belongs."""

import ast
import graphlib
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Imports point from left to right only, between packages and between the rooms of paper_figures.
PACKAGES = ("paper_figures", "neural", "theory", "gmm")
ROOMS = (
    "cli",
    "commands",
    "figures",
    "pages",
    "shipped",
    "drawing",
    "studies",
    "formats",
    "compiled_programs",
    "files",
    "interruption",
    "progress",
    "terminal",
)
ROOMS_WITHOUT_OPTIONS = ("studies", "drawing", "formats")
LONGEST_BODY = 40  # lines of a function after its docstring
OPTION = re.compile(r"(?<![\w-])--[a-z]")


@cache
def modules():
    """Every module of the packages by its dotted name."""
    found = {}
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(name):
    return ast.parse(modules()[name].read_text())


@cache
def imports(name):
    """Every module that a module imports, at its top, inside functions, or for types alone."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            # `from package import module` needs the module, `from module import name` the module alone.
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & modules().keys()) or {node.module}
            if not inner <= modules().keys():
                found.add(node.module)
    return found


def room(name):
    """The part of paper_figures that a module belongs to."""
    return name.split(".")[1] if "." in name else "paper_figures"


def in_rooms(*rooms):
    return [name for name in modules() if name.startswith("paper_figures.") and room(name) in rooms]


def below_commands():
    """Modules that know nothing of the command line."""
    return [name for name in modules() if not name.startswith("paper_figures")] + in_rooms(
        *ROOMS_WITHOUT_OPTIONS
    )


def test_imports_between_packages_point_down():
    allowed = {package: {*PACKAGES[place:]} for place, package in enumerate(PACKAGES)}
    ours = {*PACKAGES, "benchmarks", "tests"}
    wrong = {
        (name, other)
        for name in modules()
        for other in imports(name)
        if other.split(".")[0] in ours - allowed[name.split(".")[0]]
    }
    assert wrong == set()


def test_imports_between_rooms_point_down():
    wrong = {
        (name, other)
        for name in in_rooms(*ROOMS)
        for other in imports(name)
        if other.startswith("paper_figures.") and ROOMS.index(room(other)) < ROOMS.index(room(name))
    }
    assert wrong == set()


def test_there_is_no_circle_of_imports():
    graph = {name: imports(name) & modules().keys() - {name} for name in modules()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"circle: {' <- '.join(error.args[1])}")


def test_the_command_line_library_is_used_by_commands_alone():
    users = {name for name in modules() if "typer" in {other.split(".")[0] for other in imports(name)}}
    assert users <= {*in_rooms("cli", "commands")}


def test_options_are_named_by_commands_alone():
    """Errors and docstrings below the commands name arguments; `commands.lists.spelled` turns them into options."""
    wrong = {
        f"{name}:{node.lineno}"
        for name in below_commands()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and OPTION.search(node.value)
    }
    assert wrong == set()


def test_what_does_not_draw_does_not_import_matplotlib():
    users = {name for name in modules() if "matplotlib" in {other.split(".")[0] for other in imports(name)}}
    assert not users & {*in_rooms("studies", "formats", "shipped", "progress", "interruption")}


def test_rooms_have_empty_front_doors():
    """An `__init__` that imports would make `speciation --help` wait for jax."""
    for name in in_rooms(*ROOMS):
        if modules()[name].name == "__init__.py":
            (only,) = tree(name).body
            assert isinstance(only, ast.Expr), f"{name} holds more than a docstring"


def test_no_function_is_longer_than_a_page():
    long = {}
    for name in modules():
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                if lines > LONGEST_BODY:
                    long[f"{name}.{node.name}"] = lines
    assert long == {}


def test_every_file_is_in_a_room():
    inside = {path.name.removesuffix(".py") for path in (ROOT / "paper_figures").iterdir()}
    assert inside - {"__pycache__", "__init__", "py.typed"} == {*ROOMS}
    nested = [path for path in (ROOT / "paper_figures").glob("*/*/*.py") if "__pycache__" not in path.parts]
    assert nested == []


def test_figures_and_commands_are_those_of_their_tables():
    from paper_figures.cli import build
    from paper_figures.figures.registry import FIGURES

    files = {path.stem for path in (ROOT / "paper_figures" / "figures").glob("fig*.py")}
    assert files == {figure.module for figure in FIGURES.values()}
    app = build()
    names = {command.callback.__name__ for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    assert names <= {path.stem for path in (ROOT / "paper_figures" / "commands").glob("*.py")}


def test_every_benchmark_is_listed():
    from benchmarks.__main__ import BENCHMARKS

    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert {*BENCHMARKS} == files - {"__init__", "__main__", "harness", "accelerator_parts"}


def test_tests_mirror_the_packages():
    for package in PACKAGES:
        folders = {path.parent for path in (ROOT / "tests" / package).rglob("test_*.py")}
        for folder in folders:
            assert (ROOT / folder.relative_to(ROOT / "tests")).is_dir(), (
                f"{folder} tests no folder of the packages"
            )


def test_the_wheel_holds_every_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert {*project["tool"]["setuptools"]["packages"]} == found
