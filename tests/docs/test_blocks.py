"""Every code block of README and of the pages: Python runs, commands parse, files are of the format that they name.

A block continues those above it on its page. A block that cannot run everywhere begins with a line
"# Not run in the tests: ..." that says what it needs.
"""

import ast
import importlib.util
import json
import re
import tomllib

import jax
import matplotlib.pyplot as plt
import pytest

import gmm
from neural import imagenet
from neural.decisions import read_partition
from neural.models import Grid, Model
from tests.docs.command_lines import calls, parse
from tests.docs.pages import NOT_RUN, ROOT, blocks, pages

PYTHON = {"python", "{code-cell}"}
SHELL = {"bash", "console"}
DIRECTIVES = {"{toctree}", "{eval-rst}", "{gallery}", "{include}", "{literalinclude}", "{only}", "{raw}"}
OTHERS = {"text", "json", "toml", *DIRECTIVES}
ALL = [block for page in pages() for block in blocks(page)]
COMMANDS = [(block, call) for block in ALL if block.language in SHELL for call in calls(block.text)]


IMAGENET = Model(
    "imagenet", "test", None, (2,), tuple(range(1000)), imagenet.names(), Grid(), classes_of="imagenet",
    aliases=imagenet.aliases(), groups=imagenet.groups(),
)  # fmt: skip


def _code(page):
    return "\n".join(block.text for block in blocks(page) if block.language in PYTHON and block.runs)


def _extras(page):
    """The packages that a page imports and that not every installation has."""
    return {"torch", "diffusers"} & set(re.findall(r"^ *(?:import|from) (\w+)", _code(page), re.MULTILINE))


def python_pages():
    """Pages with Python to run; those that need torch are run by `make torch`."""
    return [
        pytest.param(page, marks=[pytest.mark.torch] if _extras(page) else [])
        for page in pages()
        if _code(page).strip()
    ]


def test_every_block_names_its_language():
    wrong = [f"{block}: {block.language!r}" for block in ALL if block.language not in PYTHON | SHELL | OTHERS]
    assert wrong == []


@pytest.mark.parametrize("page", python_pages())
def test_python_runs(page, x32, tmp_path, monkeypatch):
    for module in _extras(page):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    names = {"__name__": "__page__"}
    for block in blocks(page):
        if block.language in PYTHON and block.runs:
            code = "\n" * (block.line - 1) + block.text
            with jax.numpy_rank_promotion("allow"):  # as readers have it
                exec(compile(code, str(ROOT / page), "exec"), names)
    plt.close("all")


@pytest.mark.parametrize("block", [b for b in ALL if b.language in PYTHON and not b.runs], ids=str)
def test_python_that_needs_more_than_this_parses_and_says_what(block):
    ast.parse(block.text)
    first = block.text.lstrip().splitlines()[0]
    assert len(first.removeprefix(NOT_RUN)) > len("needs")


@pytest.mark.parametrize(("block", "call"), COMMANDS, ids=[f"{b}-{' '.join(c)}" for b, c in COMMANDS])
def test_command_takes_these_options(block, call):
    parse(call)


def test_calls_are_found_in_every_form():
    text = (
        "$ speciation figures  # all\nX=1 speciation sweep --dims 1e3 \\\n    --out a.nc\n"
        "srun -n 4 \\\n  speciation show a.nc"
    )
    assert calls(text) == [["figures"], ["sweep", "--dims", "1e3", "--out", "a.nc"], ["show", "a.nc"]]
    assert calls('ssh host "cd there; speciation show a.nc"') == [["show", "a.nc"]]
    assert calls("pip install speciation\n# speciation --wrong\nconda activate speciation") == []


def test_unknown_options_are_noticed():
    with pytest.raises(Exception, match="--wrong"):
        parse(["figures", "--wrong"])


def test_targets_of_make_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word
        for block in ALL
        if block.language in SHELL
        for word in re.findall(r"^\$? ?make ([a-z]+)", block.text, re.MULTILINE)
    }
    assert named <= targets


def test_named_benchmarks_exist():
    named = {word for block in ALL for word in re.findall(r"python -m benchmarks ([a-z]\w+)", block.text)}
    assert {name for name in named if not (ROOT / f"benchmarks/{name}.py").exists()} == set()


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "json"], ids=str)
def test_json_is_a_file_that_loads(block, tmp_path):
    path = tmp_path / "file.json"
    path.write_text(block.text)
    readers = {"speciation-window/1": gmm.load_window, "speciation-guidance/1": gmm.load_guidance}
    readers[json.loads(block.text)["format"]](path)


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "toml"], ids=str)
def test_toml_is_a_partition_that_loads(block, tmp_path):
    path = tmp_path / "file.toml"
    path.write_text(block.text)
    assert tomllib.loads(block.text)["format"] == "speciation-partition/1"
    read_partition(str(path), IMAGENET)
