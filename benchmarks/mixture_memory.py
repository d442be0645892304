"""Does memory stay flat while n·K·d grows past it?

Each size runs in a process of its own; the table shows the peak above an idle process with jax, beside the
bytes of the inputs and of the n·K·d array that is never built.
"""

import subprocess
import sys

from benchmarks.harness import show

SIZES = ((2048, 1000, 1024), (8192, 4000, 1024), (16384, 20000, 1024), (64, 100, 10**6))
CHILD = """
import sys
import numpy as np, jax.numpy as jnp
from benchmarks.harness import peak_memory
from gmm import Isotropic, Mixture, score
n, K, d = map(int, sys.argv[1:])
idle = peak_memory()
x, means = jnp.ones((n, d)), jnp.arange(K, dtype=jnp.float32)[:, None] * jnp.ones((1, d)) / d
score(Mixture(np.full(K, 1 / K), means, Isotropic(1.0)), x).block_until_ready()
print(peak_memory() - idle)
"""


def run() -> None:
    """Print the table."""
    rows = []
    for n, classes, dim in SIZES:
        command = [sys.executable, "-c", CHILD, str(n), str(classes), str(dim)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak = int(done.stdout) / 2**30
        inputs, cube = 4 * (n + classes) * dim / 2**30, 4 * n * classes * dim / 2**30
        rows.append((f"{n} x {classes} x {dim}", f"{inputs:.2f}", f"{cube:.1f}", f"{peak:.2f}"))
    show(
        "score, shared covariance, float32",
        ("n x K x d", "inputs GiB", "n·K·d GiB", "peak above idle GiB"),
        rows,
    )
