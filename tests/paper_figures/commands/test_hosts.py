"""The same numbers on one device and on eight, and on several hosts: run in processes of their own."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from paper_figures import cli
from paper_figures.commands.hosts import join

TIMEOUT = 900  # seconds, on a busy machine
# Sums of a few hundred terms in another order, in float64.
ROUNDING = 1e-12

WORK = """
import json, sys
from pathlib import Path
import jax
jax.config.update("jax_enable_x64", True)
from paper_figures.commands.hosts import join
first = join(sys.argv[2] if len(sys.argv) > 2 else None)
import numpy as np
import gmm, paper_figures
from paper_figures.studies import sweep_cell
rng = np.random.default_rng(0)
key, vp = jax.random.key(4), gmm.vp()
mixture = gmm.Mixture(np.full(6, 1 / 6), 2 * rng.normal(size=(6, 5)), gmm.Diagonal(np.linspace(0.5, 1.5, 5)))
curves = [
    gmm.class_entropy(mixture, vp, [1.0, 0.3], key=key, samples=1001, partition=p)
    for p in (None, gmm.Partition([0, 0, 1, 1, 2, -1]))
]
data, labels = gmm.families.empirical(2 * rng.normal(size=(300, 20)), np.arange(300) % 3)
curves.append(gmm.class_entropy(data, vp, [1.0, 0.3], key=key, samples=501, partition=labels, boundary=False))
# A sweep that is stopped after a cell and goes on.
asked = dict(family="random", dims=[50, 500], classes=[3], points=16, samples=301, out=Path(sys.argv[1]) / "a.nc")
count, compute = [], sweep_cell.compute
def stops(*arguments):
    count.append(None)
    if len(count) == 2:
        raise KeyboardInterrupt
    return compute(*arguments)
sweep_cell.compute = stops
try:
    paper_figures.sweep(**asked)
except KeyboardInterrupt:
    sweep = paper_figures.sweep(**asked)
assert len(count) == 3
try:
    paper_figures.sweep(**asked | {"points": 17})
except ValueError as error:
    assert "holds a sweep of other settings" in str(error) or not first, error
else:
    raise AssertionError("two sweeps in one file")
names = ("entropy", "entropy_stderr", "rate", "rate_stderr", "per_cell", "clone_agreement")
values = [np.asarray(getattr(c, n)).ravel().tolist() for c in curves for n in names]
values += [sweep[n].values.ravel().tolist() for n in ("entropy", "rate", "rate_stderr", "t_half", "window_lo")]
if first:
    print(json.dumps({"devices": jax.device_count(), "values": sum(values, [])}))
"""


def run(folder, *arguments, devices=1):
    flags = [f"--xla_force_host_platform_device_count={devices}", *cli.quick_to_compile()]
    environment = os.environ | {"XLA_FLAGS": " ".join(flags)}
    command = [sys.executable, "-c", WORK, str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)


def result(process):
    out, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    return json.loads(out)


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    return result(run(tmp_path_factory.mktemp("one")))


def test_eight_devices_give_the_same_numbers(on_one_device, tmp_path):
    eight = result(run(tmp_path, devices=8))
    assert (on_one_device["devices"], eight["devices"]) == (1, 8)
    np.testing.assert_allclose(eight["values"], on_one_device["values"], rtol=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [2, 4])
def test_several_hosts_give_the_same_numbers(on_one_device, hosts, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [run(tmp_path, f"{address},{hosts},{i}") for i in range(hosts)]
    outputs = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    found = json.loads(outputs[0].splitlines()[-1])  # gloo prints about its peers first
    assert found["devices"] == hosts
    np.testing.assert_allclose(found["values"], on_one_device["values"], rtol=ROUNDING)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


@pytest.mark.parametrize("wrong", ["here", "here:1,2", "here:1,2,2", "here:1,two,0", "here,2,0"])
def test_a_place_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="--distributed must be auto or HOST:PORT,N,I"):
        join(wrong)
