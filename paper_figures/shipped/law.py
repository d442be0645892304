"""The law on learned networks: one small network for every dimension and class count, and the curve of each.

The classes are the vertices of a simplex, ‖mean‖² = d, within-class variance 1; the exact curve of each is known.
A network sees samples alone.
"""

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

import gmm
from gmm.curve import EntropyCurve
from neural.estimators import online_entropy
from neural.families import FamilySpec
from neural.training.evaluation import level_losses, mixture_optimum
from neural.training.plans import Plan, mixture_plan
from neural.training.trainer import Recipe, train

DIMS, CLASSES = (16, 64, 256, 1024), (2, 8, 32)
STEPS, BATCH = 2000, 256
WIDTH, DEPTH, DROPOUT = 128, 2, 0.2
RUNS, PATHS, LEVELS = 6, 256, 48
# The grid spans this much log(σ/α) on either side of where half of the entropy is left.
REACH = 1.9


@dataclasses.dataclass(frozen=True)
class Learned:
    """One network and what was measured on it.

    Attributes:
        dim, classes: d and K.
        times: (T,) noise levels σ, falling.
        runs: curves of independent trajectories.
        gap: largest excess of its class-conditional loss over the optimum, at those noise levels.
    """

    dim: int
    classes: int
    times: np.ndarray
    runs: list[EntropyCurve]
    gap: float


def cells(dims: Sequence[int] = DIMS, classes: Sequence[int] = CLASSES) -> Iterator[tuple[int, int]]:
    """Every (d, K) whose simplex exists: K ≤ d + 1."""
    return ((d, k) for d in dims for k in classes if k <= d + 1)


def plan(dim: int, classes: int, seed: int = 0, steps: int = STEPS) -> Plan:
    """How the network of a cell is trained."""
    family = FamilySpec("simplex", dim, classes)
    recipe = Recipe(steps, BATCH, 2e-3, seed=seed)
    return mixture_plan(family, recipe, width=WIDTH, depth=DEPTH, dropout=DROPOUT)


def grid(dim: int, half_rho: float) -> Float[np.ndarray, " levels"]:
    """Noise levels around the decision, falling: there σ² = d/ρ - 1."""
    middle = 0.5 * math.log(dim / half_rho - 1)
    return np.exp(np.linspace(middle + REACH, middle - REACH, LEVELS))


def learned(
    dim: int,
    classes: int,
    half_rho: float,
    *,
    seed: int = 0,
    steps: int = STEPS,
    folder: str | os.PathLike[str] | None = None,
) -> Learned:
    """Train the network of a cell and measure its curves.

    Args:
        dim: dimension d.
        classes: K ≤ d + 1.
        half_rho: ρ at which half of the entropy is left, where the grid is put.
        seed: of everything random.
        steps: of training.
        folder: where the run's state is kept, so that it goes on where it was stopped.
    """
    todo = plan(dim, classes, seed, steps)
    kept = None if folder is None else Path(folder) / f"d{dim}-K{classes}.safetensors"
    state, losses = train(todo.task, todo.recipe, kept=kept, describe=todo.facts)
    network, times = todo.denoiser(state.ema), grid(dim, half_rho)
    key = jax.random.key(seed)
    paths = [jax.random.fold_in(key, 10 + run) for run in range(RUNS)]
    x0, labels = gmm.sample(todo.task.mixture, jax.random.fold_in(key, 1), 1024)  # type: ignore[union-attr]
    optimum = mixture_optimum(todo.task.mixture)  # type: ignore[union-attr]
    gap = level_losses(network, x0, labels, times[:: LEVELS // 6], key=key, optimum=optimum).gap
    runs = [
        online_entropy(network, network.conditions, key=path, samples=PATHS, times=times) for path in paths
    ]
    print(f"d = {dim}, K = {classes}: loss {losses[-100:].mean():.4f}, {gap[0].max():.2%} above the optimum")
    return Learned(dim, classes, times, runs, float(gap[0].max()))
