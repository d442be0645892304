"""The same numbers on one device and on eight, and on several hosts: run in processes of their own."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

# Sums of a few hundred terms in another order, in float64.
ROUNDING = 1e-12

WORK = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
if len(sys.argv) > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(sys.argv[1], num_processes=int(sys.argv[2]), process_id=int(sys.argv[3]))
import numpy as np
from gmm import Diagonal, Mixture, Partition, class_entropy, vp
rng = np.random.default_rng(0)
mixture = Mixture(np.full(6, 1 / 6), 2 * rng.normal(size=(6, 5)), Diagonal(np.linspace(0.5, 1.5, 5)))
curves = [
    class_entropy(mixture, vp(), [1.0, 0.3], key=jax.random.key(4), samples=1001, partition=p)
    for p in (None, Partition([0, 0, 1, 1, 2, -1]))
]
names = ("entropy", "entropy_stderr", "rate", "rate_stderr", "per_cell", "clone_agreement")
if jax.process_index() == 0:
    values = [np.asarray(getattr(c, n)).ravel().tolist() for c in curves for n in names]
    print(json.dumps({"devices": jax.device_count(), "values": sum(values, [])}))
"""


def run(*arguments, devices=1):
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-c", WORK, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)


def result(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(out)


@pytest.fixture(scope="module")
def on_one_device():
    return result(run())


def test_eight_devices_give_the_same_numbers(on_one_device):
    eight = result(run(devices=8))
    assert (on_one_device["devices"], eight["devices"]) == (1, 8)
    np.testing.assert_allclose(eight["values"], on_one_device["values"], rtol=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [2, 4])
def test_several_hosts_give_the_same_numbers(on_one_device, hosts):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [run(address, str(hosts), str(i)) for i in range(hosts)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    found = json.loads(outputs[0].splitlines()[-1])  # gloo prints about its peers first
    assert found["devices"] == hosts
    np.testing.assert_allclose(found["values"], on_one_device["values"], rtol=ROUNDING)
