"""What does it cost to load EDM2-XS from the published format, in seconds and in memory?

    python -m benchmarks checkpoint_loading

The file is made in a temporary folder: the structure of an official pickle, every size that of EDM2-XS
(float16, 250 MB), random values. Each load runs in a process of its own that has imported everything, with
the file warm; NumPy's own cost of the conversion that a load cannot do without, float16 to float32, stands
beside it in the same process. Peak memory is that of the process above its idle state with jax, pages of the
mapped file included, and is given as a share of float32 weights plus file.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.edm2_forward import XS, XS_ARGUMENTS
from benchmarks.harness import show
from neural import checkpoints
from neural.edm2 import tensor_shapes
from tests.neural.checkpoints import forge

LOAD = """
import json, sys, time
import jax, numpy as np
from benchmarks.harness import peak_memory
from neural import checkpoints, load_edm2
from pathlib import Path
path = Path(sys.argv[1])
jax.block_until_ready(jax.numpy.ones(1))
path.read_bytes()                                  # warm
Path("/proc/self/clear_refs").write_text("5")      # forget the peak so far
idle = peak_memory()
start = time.perf_counter()
checkpoints.read(path)
read = time.perf_counter() - start
start = time.perf_counter()
model = load_edm2(path, unconditional=None)
jax.block_until_ready(model.weights)
load = time.perf_counter() - start
peak = peak_memory() - idle
values = sum(weight.size for weight in model.weights.values())
start = time.perf_counter()
for tensor in checkpoints.read(path).tensors.values():
    tensor.astype(np.float32)
convert = time.perf_counter() - start
print(json.dumps({"read": read, "load": load, "convert": convert,
                  "share": peak / (4 * values + path.stat().st_size), "peak": peak}))
"""


def make_pickle(path: Path) -> None:
    """An EDM2-XS of random float16 tensors as the official code pickles it."""
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.standard_normal(shape, np.float32).astype(np.float16)
        for name, shape in tensor_shapes(XS).items()
    }
    path.write_bytes(forge.dump(forge.network(tensors, XS_ARGUMENTS)))


def measure(path: Path) -> tuple[str, ...]:
    """One row: the file's loads, each in a fresh process, medians over them."""
    runs = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(path)], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout))
    read, load, convert, share, peak = (
        float(np.median([run[key] for run in runs])) for key in ("read", "load", "convert", "share", "peak")
    )
    return (
        path.suffix, f"{path.stat().st_size / 1e6:.0f}", f"{read:.3f}", f"{load:.2f}", f"{load / convert:.1f}",
        f"{peak / 1e6:.0f}", f"{share:.2f}",
    )  # fmt: skip


def run() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        pickled = Path(folder, "xs.pkl")
        make_pickle(pickled)
        plain = pickled.with_suffix(".safetensors")
        found = checkpoints.read(pickled)
        checkpoints.write_safetensors(plain, found.tensors, found.attributes)
        show(
            "Loading EDM2-XS in float32, warm file, medians of five processes",
            (
                "format",
                "file MB",
                "read s",
                "load s",
                "load / float16 to float32",
                "peak MB",
                "peak / (weights + file)",
            ),
            [measure(pickled), measure(plain)],
        )


if __name__ == "__main__":
    run()
