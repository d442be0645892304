"""The memory of work on many shapes: it stops growing once as many programs as are allowed have been compiled."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SHAPES, ALLOWED = 100, 20
WORK = """
import json, sys
from pathlib import Path
import jax, jax.numpy as jnp
from gmm import programs
from paper_figures.studies.parts import Parts

shapes, most = map(int, sys.argv[1:])
programs.drop_if_many.__defaults__ = (most,)
work = jax.jit(lambda x: jnp.linalg.svd(jnp.sin(x) @ jnp.cos(x).T)[1] + jnp.sort(x, axis=1).sum())
parts = Parts(None, "", lambda _: None, lambda *_: None)
compute = lambda number, _: float(work(jnp.ones((4, 4 + number))).sum())
resident = []
for _ in parts.each([str(number) for number in range(shapes)], compute):
    resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20)
print(json.dumps([resident, work._cache_size()]))
"""


def resident(most):
    """MiB of a process after each of its parts, every part of another shape, and the programs that it ends with."""
    command = [sys.executable, "-c", WORK, str(SHAPES), str(most)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the system does not say what a process takes"
)
def test_memory_is_bounded_over_many_shapes():
    bounded, held = resident(ALLOWED)
    unbounded, all_of_them = resident(10**9)
    assert held <= ALLOWED
    assert all_of_them == SHAPES
    # From when the limit was reached first; without one, every program adds 3 MiB.
    growth, without_limit = (taken[-1] - taken[ALLOWED] for taken in (bounded, unbounded))
    assert without_limit > SHAPES - ALLOWED
    assert growth < 0.25 * without_limit
