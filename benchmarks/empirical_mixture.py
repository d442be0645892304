"""What do exact posterior entropies of a large data set cost beside their bare matrix products?

60,000 labelled points of 784 dimensions in ten classes, 1,000 noisy samples at each of 50 noise levels, float32.
Entropies need two products a level, samples x points and posterior x labels; the rate one more, posterior x
points. The peer is those products alone, as XLA runs them, in blocks of the same size; at each level both run in
turn, so that ratios are of the same moment. Memory is the peak above the data themselves and must not grow
with the levels.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import gmm
from benchmarks.harness import peak_memory, show
from gmm.datasets import load_data
from gmm.mixture import BLOCK_ELEMENTS

POINTS, DIM, CLASSES, SAMPLES, LEVELS = 60_000, 784, 10, 1_000, 50
STRIDE = 7  # no divisor of LEVELS


def run(points: int = POINTS, samples: int = SAMPLES, levels: int = LEVELS, data: str | None = None) -> None:
    """Print the table; `data` names a data set to use instead of random points."""
    x, y = _points(points, data)
    mixture, partition = gmm.families.empirical(x, y)
    idle, process = peak_memory(), gmm.vp()
    times = np.geomspace(0.02, 5.0, levels)
    products = bare_products(x, y, samples)
    entropy = lambda t: gmm.class_entropy(
        mixture,
        process,
        np.array([t]),
        partition=partition,
        key=jax.random.key(0),
        samples=samples,
        boundary=False,
    )
    entropy(times[0])
    products()
    seconds, memory = [], []
    # In strides, one line each: whenever it is stopped, the levels measured so far are spread over all.
    for done in range(levels):
        t = times[done * STRIDE % levels]
        seconds.append((_seconds(lambda t=t: entropy(t)), _seconds(products)))
        memory.append(peak_memory())
        mine, bare = seconds[-1]
        print(
            f"level {done + 1}/{levels}, t = {t:.3f}: {mine:.1f} s, products {bare:.1f} s, ratio "
            f"{mine / bare:.2f}, peak above the data {(memory[-1] - idle) / 2**30:.2f} GiB",
            flush=True,
        )
    ours, peer = np.array(seconds).T
    low, middle, high = np.quantile(ours / peer, [0.25, 0.5, 0.75])
    total = f"{ours.sum() / peer.sum():.2f}"
    first, last = ((memory[i] - idle) / 2**30 for i in (0, -1))
    flops = 2 * samples * len(x) * (2 * x.shape[1] + len(np.unique(y)))
    rows = [
        ("entropy and rate, all levels", f"{ours.sum():.1f}", total),
        (
            "  level by level: median (quartiles)",
            f"{np.median(ours):.2f}",
            f"{middle:.2f} ({low:.2f}-{high:.2f})",
        ),
        ("bare products", f"{peer.sum():.1f}", "1"),
    ]
    show(
        f"{len(x)} points of {x.shape[1]} dimensions, {samples} samples, {levels} levels; products at "
        f"{flops / np.median(peer) / 1e9:.0f} GFLOP/s; peak above the data {first:.2f} GiB after one level, "
        f"{last:.2f} GiB after all",
        ("what", "seconds", "times the products"),
        rows,
    )


def _points(points: int, data: str | None) -> tuple[np.ndarray, np.ndarray]:
    if data is not None:
        labelled = load_data(data).subset(points).standardised()
        return labelled.x, labelled.y
    rng = np.random.default_rng(0)
    y = np.arange(points) % CLASSES
    centres = 0.5 * rng.standard_normal((CLASSES, DIM), np.float32)
    return rng.standard_normal((points, DIM), np.float32) + centres[y], y


def bare_products(x: np.ndarray, y: np.ndarray, samples: int) -> Callable[[], object]:
    """samples x points, posterior x points and posterior x labels, block by block, without anything else."""
    labels = jax.nn.one_hot(jnp.asarray(y), int(y.max()) + 1, dtype=x.dtype)
    rows = min(samples, max(1, BLOCK_ELEMENTS // (2 * len(x))))
    blocks = -(-samples // rows)
    noisy = jnp.asarray(np.resize(x[: min(samples, len(x))], (blocks, rows, x.shape[1])))
    points = jnp.asarray(x)
    times_points, times, add = jax.jit(lambda a, b: a @ b.T), jax.jit(jnp.matmul), jax.jit(jnp.add)

    def products() -> object:
        for states in noisy:
            # The first product's result stands for the posterior: what a product costs does not depend on it.
            logits = times_points(states, points)
            done = add(times(logits, points)[:, : labels.shape[1]], times(logits, labels))
            done.block_until_ready()
        return done

    return products


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
