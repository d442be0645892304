"""Parts that two processes divide: each is computed once, all are read by both, and a refusal ends the work."""

import json
import socket
import subprocess
import sys

WORK = """
import json, sys
from pathlib import Path
from paper_figures.commands.hosts import join
join(sys.argv[2])
import jax
import numpy as np
from paper_figures.studies.parts import kept_arrays
store, computed = kept_arrays(Path(sys.argv[1])), []

def compute(number, progress):
    computed.append(number)
    return {"x": np.arange(3.0) + number}

first = store.divided([f"a{number}" for number in range(5)], compute)
again = store.divided([f"a{number}" for number in range(6)], compute)
found = [part["x"].tolist() for part in again]
Path(sys.argv[1], f"{jax.process_index()}.json").write_text(json.dumps([computed, found]))
"""
TIMEOUT = 600  # seconds, on a busy machine


def test_two_processes_divide_the_parts(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [
        subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path), f"{address},2,{number}"])
        for number in range(2)
    ]
    assert [process.wait(timeout=TIMEOUT) for process in processes] == [0, 0]
    (mine, found), (others, also) = (json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2))
    # The first five in turn; of the second call only the one that is new, by the first process.
    assert mine == [0, 2, 4, 5]
    assert others == [1, 3]
    assert found == also == [[number, number + 1, number + 2] for number in range(6)]
