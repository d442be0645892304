"""Compiled programs that are kept between commands: found again, and never a reason for a command to fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# A program that is compiled or read, and whose answer is known; what JAX logs tells which.
PROGRAM = """
import logging, sys
from paper_figures import compiled_programs
with compiled_programs.kept():
    import jax
    logging.getLogger("jax._src.compiler").setLevel(logging.DEBUG)
    logging.getLogger("jax._src.compiler").propagate = False  # JAX 0.8 prints it to standard error as well
    logging.getLogger("jax._src.compiler").addHandler(logging.StreamHandler(sys.stdout))
    print("answer", float(jax.jit(lambda x: 3 * x + 1)(2.0)))
"""


def run(cache, program=PROGRAM, **variables):
    """Standard output of a fresh process whose cache folder is `cache`; nothing may go to standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    # Of the tests' own environment only the path counts: a cache chosen elsewhere would switch ours off.
    start = (
        "import os\nfor name in [n for n in os.environ if n.startswith('JAX_COMP')]: del os.environ[name]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start + program],
        env={**kept, "JAX_PLATFORMS": "cpu", "SPECIATION_CACHE": str(cache), **variables},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "answer 7.0" in done.stdout
    assert not done.stderr
    return done.stdout


def entries(cache):
    return sorted(cache.glob("compiled/*/*-cache"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that one run has filled."""
    cache = tmp_path_factory.mktemp("cache")
    assert "cache hit" not in run(cache)
    assert entries(cache)
    return cache


def test_a_second_run_compiles_nothing(filled):
    before = {path: path.stat().st_mtime_ns for path in entries(filled)}
    assert "cache hit" in run(filled)
    assert {path: path.stat().st_mtime_ns for path in entries(filled)} == before


def _cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def _flip(path):
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 16
    path.write_bytes(contents)


def _replace_by_link(path):
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


@pytest.mark.parametrize("harm", [_cut, _flip, _replace_by_link])
def test_what_is_not_as_it_was_written_is_compiled_again(harm, filled):
    for path in entries(filled):
        harm(path)
    assert "cache hit" not in run(filled)
    assert "cache hit" in run(filled)


@pytest.mark.parametrize("index", ["", "[]", "[" * 10**5, '{"a": 1}', None])
def test_a_lost_or_damaged_index_costs_a_compilation(index, filled):
    (path,) = filled.glob("compiled/*/index.json")
    path.unlink()
    if index is not None:
        path.write_text(index)
    assert "cache hit" not in run(filled)
    assert json.loads(path.read_bytes())


def test_a_program_damaged_under_way_is_forgotten(filled):
    """JAX finds the damage itself, says nothing to the user, and the next run starts from an empty folder."""
    folder = "__import__('pathlib').Path(jax.config.jax_compilation_cache_dir)"
    harm = f"for path in {folder}.glob('*-cache'): path.write_bytes(b'?')"
    program = PROGRAM.replace("    print", f"    {harm}\n    print")
    run(filled, program)
    assert "cache hit" not in run(filled)
    assert "cache hit" in run(filled)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a place where no folder can be made")
def test_without_a_folder_every_program_is_compiled(tmp_path):
    (tmp_path / "file").write_text("")
    run(tmp_path / "file" / "cache")
    run("/proc/nowhere")
    run("", HOME="/dev/null", XDG_CACHE_HOME="/dev/null/x")


def test_no_more_is_kept_than_the_limit_allows(filled):
    program = PROGRAM.replace("with compiled", "compiled_programs.MOST_BYTES = 10\nwith compiled", 1)
    run(filled, program)
    assert "cache hit" not in run(filled, program)


def test_another_choice_is_left_alone(tmp_path):
    run(
        tmp_path,
        PROGRAM.replace("import logging", "os.environ['JAX_COMPILATION_CACHE_DIR'] = ''; import logging"),
    )
    run(tmp_path, PROGRAM.replace("from paper", "import jax\nfrom paper", 1))
    assert not list(tmp_path.iterdir())
