"""Commands that are killed, interrupted, or run out of disk; run by ``make hardening``, since it takes many minutes.

However often a command is stopped, running it again ends with the numbers of one that was never stopped.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from gmm.curve import EntropyCurve
from gmm.netcdf import load_dataset
from tests.neural.checkpoints import forge

COMMAND = [sys.executable, "-c", "from paper_figures.cli import main; main()"]
TREE = ["--model", "zoo:tree", "--samples", "32", "--steps", "16"]
# Files that commands read.
INPUTS = tempfile.TemporaryDirectory()
COMMANDS = {
    "sweep": (["sweep", "--dims", "8", "16", "32", "--points", "40", "--out", "a/a.nc"], "a/a.nc"),
    "data": (
        ["data", "--data", "digits", "--limit", "300", "--levels", "16", "--samples", "32", "--out", "a"],
        "a/digits.nc",
    ),
    "compare": (["compare", *TREE, "--out", "a"], "a/compare.nc"),
    "figures": (["figures", "--fast", "--only", "four-points", "--out", "a"], "a/four-points-fast.nc"),
    "train": (["train", "--family", "pair", "--dim", "4", "--steps", "400", "--out", "a"], "a/training.nc"),
    "sample": (["sample", "--model", "zoo:digits", "--class", "3", "--steps", "8", "--out", "a"], "a/3-seed0.png"),
    "window": (["window", *TREE, "--allow-partial", "--out", "a"], "a/window-1.nc"),
    "guidance": (["guidance", *TREE, "--schedules", "cfg:2", "--out", "a"], "a/guidance.json"),
    "weights": (["weights", "convert", f"{INPUTS.name}/a.pt", "a/a.safetensors"], "a/a.safetensors"),
    "show": (["show", f"{INPUTS.name}/a.nc", "--out", "a/a.csv"], "a/a.csv"),
    "check": (["check", "--model", "zoo:tree", "--samples", "8"], None),
}  # fmt: skip
SMALL_FILE = 2_000
# Of a process that is told to end while it starts, before its handlers are there.
STARTING = {-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP}
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(scope="module", autouse=True)
def inputs():
    """The files that commands read; what is made of them is larger than `SMALL_FILE` and than a small disk."""
    times, weights = np.linspace(0.5, 5, 400), np.arange(10_000, dtype=np.float32)
    EntropyCurve(
        t=times, log_snr=-times, entropy=np.tanh(times), entropy_stderr=0 * times, rate=times, rate_stderr=0 * times,
        prior_entropy=2.0, metadata={},
    ).save(Path(INPUTS.name, "a.nc"))  # fmt: skip
    network = {"w": forge.rebuild(forge.identity(weights), weights)}
    Path(INPUTS.name, "a.pt").write_bytes(forge.archive(network, {"0": weights}))
    yield
    INPUTS.cleanup()


def start(name, folder, **options):
    arguments, _ = COMMANDS[name]
    return subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    )  # fmt: skip


def result(name, folder):
    """What a command has left: the Dataset or the bytes of its file, or nothing where it writes none."""
    if COMMANDS[name][1] is None:
        return None
    path = folder / COMMANDS[name][1]
    return load_dataset(path) if path.suffix == ".nc" else path.read_bytes()


def assert_same(found, expected):
    if not isinstance(found, xr.Dataset):
        assert found == expected
        return
    for variable in expected.variables:
        if expected[variable].dtype.kind == "f":
            np.testing.assert_allclose(
                found[variable], expected[variable], rtol=1e-6, atol=1e-9, err_msg=variable
            )
        else:
            xr.testing.assert_equal(found[variable], expected[variable])


@pytest.fixture(scope="module", params=COMMANDS)
def whole(request, tmp_path_factory):
    """A command, how long it takes, and what it leaves when nobody stops it."""
    folder = tmp_path_factory.mktemp(request.param)
    begun = time.monotonic()
    process = start(request.param, folder)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    return request.param, time.monotonic() - begun, result(request.param, folder)


@pytest.fixture
def writing(whole):
    """The same for a command that writes something."""
    if whole[2] is None:
        pytest.skip("it writes nothing")
    return whole


@pytest.fixture
def stops(request):
    return request.config.getoption("stops")


def stopped(name, seconds, folder, signum):
    """Exit code and words of a command that gets a signal after some time."""
    process = start(name, folder)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(signum)
    said = process.communicate(timeout=600)[1]
    return process.returncode, said


def finish(name, folder, expected):
    process = start(name, folder)
    said = process.communicate(timeout=600)[1]
    assert process.returncode == 0, said
    assert_same(result(name, folder), expected)


def test_kills(whole, stops, tmp_path, held):
    name, seconds, expected = whole
    rng = np.random.default_rng(0)
    for _ in range(stops):
        code, _ = stopped(name, rng.uniform(0, seconds), tmp_path, signal.SIGKILL)
        assert code in (-signal.SIGKILL, 0)
    finish(name, tmp_path, expected)
    held(f"kill -9: {name}", stops)


@pytest.mark.parametrize("signum", CODES, ids=lambda signum: signum.name)
def test_signals(signum, whole, stops, tmp_path, held):
    name, seconds, expected = whole
    rng = np.random.default_rng(int(signum))
    for _ in range(stops if signum == signal.SIGINT else max(1, stops // 5)):
        code, said = stopped(name, rng.uniform(0.2, 1) * seconds, tmp_path, signum)
        assert code in {CODES[signum], 0, *STARTING}, said
        if code not in STARTING:
            assert "Traceback" not in said, said
    finish(name, tmp_path, expected)
    held(f"{signum.name}: {name}", stops)


def test_a_full_disk(writing, tmp_path, held):
    """A limit on the size of files stands for a disk without room: every larger file is cut off there."""
    name, _, expected = writing
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILE, resource.RLIM_INFINITY))
    process = start(name, tmp_path, preexec_fn=limit)
    said = process.communicate(timeout=600)[1]
    assert process.returncode == 2, said
    assert "Traceback" not in said, said
    assert "speciation: cannot write " in said.splitlines()[-1], said
    assert not [path for path in tmp_path.rglob("*") if ".partial-" in path.name]
    finish(name, tmp_path, expected)
    held("full disk")


def test_a_disk_without_room(writing, tmp_path, held):
    """The same on a file system of its own, where one may be mounted."""
    name, _, expected = writing
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        process = start(name, tmp_path)
        said = process.communicate(timeout=600)[1]
        assert process.returncode == 2, said
        assert "cannot write" in said.splitlines()[-1], said
        subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path)], check=True)
        finish(name, tmp_path, expected)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=False)
    held("full disk")


def test_equal_sweeps_at_once(tmp_path, held):
    running = [start("sweep", tmp_path) for _ in range(3)]
    said = [process.communicate(timeout=600)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert load_dataset(tmp_path / "a" / "a.nc").sizes["dim"] == 3
    held("equal commands at once", 3)
