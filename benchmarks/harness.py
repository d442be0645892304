"""Timing on a busy machine: calls run in turn, and only ratios within a turn are reported."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

SETTLE_SECONDS = 0.1
"""Threads of OpenMP and OpenBLAS keep spinning for tens of milliseconds after a call, on cores that the next call
needs: without a pause the call after PyTorch's or scikit-learn's runs at little more than half its speed."""
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
"""On a busy machine only processor times can be compared. Threads that wait by spinning count as work, so restrict
the process to one core (taskset -c 0)."""


def seconds(call: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Time of one call, waiting for asynchronous results."""
    start = clock()
    jax.block_until_ready(call())
    return clock() - start


def in_turn(
    calls: Mapping[str, Callable[[], object]], repeats: int = 9, clock: Clock = time.perf_counter
) -> dict[str, np.ndarray]:
    """Times (repeats,) of each call, run in turn A B C A B C ... after one warm-up each."""
    for call in calls.values():
        jax.block_until_ready(call())
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            time.sleep(SETTLE_SECONDS)
            times[name].append(seconds(call, clock))
    return {name: np.array(values) for name, values in times.items()}


def ratio(times: np.ndarray, peer: np.ndarray) -> str:
    """Median of the turn-by-turn ratios, with their quartiles."""
    low, middle, high = np.quantile(times / peer, [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes (Linux).

    Read from /proc: getrusage would report the parent's peak where that was larger before exec.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left", title_style="")
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)
