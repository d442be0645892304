"""window, compare and guidance on two processes: the numbers of one process, and one set of files."""

import contextlib
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from gmm.curve import EntropyCurve, load_dataset
from gmm.devices import alone
from gmm.window_file import load_window
from neural.estimators.runs import _blocks
from paper_figures import cli
from paper_figures.commands.hosts import silent_unless

TIMEOUT = 900  # seconds, on a busy machine
# Sums of a hundred trajectories in another order, in float32.
ROUNDING = 1e-5
COMMANDS = {
    "window": "window --model mixture:pair:2:16 --samples 64 --steps 16",
    "precise": "window --model mixture:pair:2:16 --precision 0.05",
    "compare": "compare --model mixture:pair:2:4 --samples 64 --steps 16",
    "guidance": "guidance --model mixture:simplex:3:16 --samples 33 --steps 12 --schedules cfg:2 feedback",
}
WORK = """
import sys
from paper_figures import cli
from paper_figures.commands import hosts
# One process joins once; each command then runs in it.
join = hosts.join(sys.argv[1]) if sys.argv[1] else True
for line in sys.argv[2:]:
    words = line.split()
    module = __import__(f"paper_figures.commands.{words[0]}", fromlist=["join"])
    module.join = lambda distributed: join
    code = cli.run(words)
    assert code == 0, (line, code)
"""


def start(place, folder):
    lines = [f"{line} --out {folder / name}" for name, line in COMMANDS.items()]
    environment = os.environ | {"XLA_FLAGS": " ".join(cli.quick_to_compile())}
    command = [sys.executable, "-c", WORK, place, *lines]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What one process and two make, and what each of the two prints."""
    alone, shared = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("shared")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [start(f"{address},2,{i}", shared) for i in range(2)]
    printed = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    single = start("", alone)
    single.communicate(timeout=TIMEOUT)
    assert single.returncode == 0
    return alone, shared, printed


@pytest.mark.slow
def test_both_make_the_same_files_and_the_first_prints(folders):
    alone, shared, printed = folders
    names = lambda folder: sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert names(alone) == names(shared)
    assert "window:" in printed[0]
    assert "window:" not in printed[1]


@pytest.mark.slow
def test_both_have_the_same_numbers(folders):
    alone, shared, _ = folders
    for name in ("window", "precise"):
        curves = [EntropyCurve.load(folder / name / "window.nc") for folder in (alone, shared)]
        for field in ("entropy", "entropy_stderr", "rate", "per_cell"):
            one, two = (getattr(curve, field) for curve in curves)
            np.testing.assert_allclose(two, one, rtol=ROUNDING, atol=ROUNDING)
        found = [load_window(folder / name / "window.json") for folder in (alone, shared)]
        np.testing.assert_allclose(found[0].sigma, found[1].sigma, rtol=10 * ROUNDING)
    one, two = (load_dataset(folder / "compare" / "compare.nc") for folder in (alone, shared))
    for field in ("entropy", "entropy_stderr", "rate", "place"):
        np.testing.assert_allclose(two[field], one[field], rtol=10 * ROUNDING, atol=10 * ROUNDING)
    for path in sorted((alone / "guidance").glob("*.nc")):
        curves = [EntropyCurve.load(folder / "guidance" / path.name) for folder in (alone, shared)]
        np.testing.assert_allclose(curves[1].entropy, curves[0].entropy, rtol=ROUNDING, atol=ROUNDING)
        weights = [curve.metadata["mean_weight"] for curve in curves]
        np.testing.assert_allclose(weights[1], weights[0], rtol=ROUNDING)


def test_every_trajectory_belongs_to_one_process(monkeypatch):
    import jax

    for hosts, begin, samples in ((3, 0, 10), (4, 5, 8), (2, 0, 2), (5, 1, 3)):
        monkeypatch.setattr(jax, "process_count", lambda hosts=hosts: hosts)
        blocks = _blocks(begin, samples)
        assert [i for block in blocks for i in range(*block)] == list(range(begin, samples))
        assert all(stop > start for start, stop in blocks)


def test_work_that_is_divided_already_is_not_divided_again(monkeypatch):
    import jax

    monkeypatch.setattr(jax, "process_count", lambda: 3)
    assert len(_blocks(0, 9)) == 3
    with alone():
        assert _blocks(0, 9) == [(0, 9)]
    assert len(_blocks(0, 9)) == 3


def test_a_process_that_is_not_the_first_prints_nothing(capsys):
    for is_first in (True, False):
        with silent_unless(is_first):
            print("said")
    assert capsys.readouterr().out == "said\n"
    with contextlib.suppress(KeyError), silent_unless(False):
        raise KeyError
    print("again")
    assert capsys.readouterr().out == "again\n"
