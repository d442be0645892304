"""Strict JAX for the whole suite: 64 bit, no silent broadcasting over ranks, no random key used twice.

Tests that take `x32` run with JAX's default 32 bit. `pytest --typecheck` also checks array annotations while
the tests run; see `tests/typecheck.py`.
"""

import importlib
import os
import pkgutil
from pathlib import Path

import jax
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

from paper_figures import cli

NEURAL = Path(__file__).parent.parent / "neural"

# Tests compile more than they compute: as the commands do, they take two thirds of the time with these.
os.environ["XLA_FLAGS"] = " ".join([*cli.quick_to_compile(), os.environ.get("XLA_FLAGS", "")])

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

# The same examples in every run; the first one compiles, which no deadline should count.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser):
    parser.addoption("--typecheck", action="store_true", help="check array annotations at run time")
    parser.addoption(
        "--fuzz", type=int, default=5_000, help="changed files over all readers (tests/hardening)"
    )
    parser.addoption(
        "--stops", type=int, default=6, help="kills, and interruptions, of each of eleven commands"
    )
    parser.addoption(
        "--strict-numerics",
        action="store_true",
        help="no NaN, no infinity and no implicit dtype promotion in JAX",
    )


def pytest_configure(config):
    if config.getoption("--strict-numerics"):
        jax.config.update("jax_debug_nans", True)
        jax.config.update("jax_debug_infs", True)
        jax.config.update("jax_numpy_dtype_promotion", "strict")
    if config.getoption("--typecheck"):
        importlib.import_module("tests.typecheck")
        install_import_hook(ARRAY_MODULES, "tests.typecheck.check_arrays")


# Readers of files call small functions millions of times, and what they call is counted (tests/hardening).
WITHOUT_ARRAYS = ("neural.checkpoints", "neural.decisions")
ARRAY_MODULES = [
    "gmm",
    "theory",
    *(name for _, name, _ in pkgutil.iter_modules([str(NEURAL)], "neural.") if name not in WITHOUT_ARRAYS),
]

# Modules have few programs in common. Some 3 MB each: without a limit a worker ends with 6 GB.
PROGRAMS = 400


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    from gmm import programs  # not before --typecheck has put its hook in place

    yield
    programs.drop_if_many(PROGRAMS)


@pytest.fixture(autouse=True)
def lenient(request):
    """`@pytest.mark.lenient(reason)`: what the test does on purpose, --strict-numerics would stop."""
    if request.node.get_closest_marker("lenient") is None:
        yield
    else:
        with jax.debug_nans(False), jax.debug_infs(False), jax.numpy_dtype_promotion("standard"):
            yield


@pytest.fixture
def x32():
    with jax.enable_x64(False):
        yield
