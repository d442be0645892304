"""Mixtures whose exact curve needs no integral over subsets: orthogonal, equidistant and tree-like means.

Posteriors see squared distances D²_jk between the means only. Classes with D²_jk = E_j + E_k for j ≠ k are
orthogonal means of energies E; distances that take one value for each level of a regular tree are the tree's.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Int

from gmm.covariance import Isotropic
from gmm.curve import EntropyCurve
from gmm.exact import Members
from gmm.process import Process
from theory.speciation import entropy_curve, tree_curves, unequal_curve

Array = np.ndarray
# Distances and weights that agree to this many eps of the largest count as equal.
ROUNDING = 256
# Above this many components of unequal energies their product of densities takes longer than sampling.
MOST_UNEQUAL = 256


Times = Float[ArrayLike, " T"]


class Structure(NamedTuple):
    """A decision whose means have a known structure: the route's name, and the exact curve of a process and times."""

    route: str
    curve: Callable[[Process, Times], EntropyCurve]


def structure_of(decision: Members) -> Structure | None:
    """The structure of a decision between three or more components; None where their means have none."""
    covariance = decision.mixture.covariance
    if not (isinstance(covariance, Isotropic) and covariance.shared):
        return None
    variance = float(covariance.var)
    squares, slack = _squared_distances(decision)
    weights = np.exp(decision.log_weights)
    equal = bool(
        np.ptp(weights) <= ROUNDING * np.finfo(float).eps + 1e-6 * (decision.mixture.dtype == np.float32)
    )
    energies = _energies(squares, slack)
    trivial = len(np.unique(decision.cells)) == decision.mixture.components
    if energies is not None and trivial:
        return _flat(decision, energies, variance, equal)
    tree = _tree(squares, slack, decision.cells) if equal else None
    if tree is None:
        return None
    branching, steps, level = tree
    increments = np.array(steps)
    return Structure(
        "tree",
        lambda process, times: tree_curves(process, times, branching, increments, variance=variance)[level],
    )


def _flat(decision: Members, energies: Array, variance: float, equal: bool) -> Structure | None:
    classes = len(energies)
    if equal and np.ptp(energies) == 0:
        if not energies[0] > 0:
            return None
        means = np.asarray(decision.mixture.means, float)
        inner = means @ means.T - np.diag(np.diagonal(means @ means.T))
        shape = {"variance": variance, "classes": classes, "family": "orthogonal"}
        return Structure(
            "orthogonal" if np.abs(inner).max() <= 1e-6 * energies[0] else "simplex",
            lambda process, times: entropy_curve(process, times, float(energies[0]), **shape),
        )
    if classes > MOST_UNEQUAL:
        return None
    weights = np.exp(decision.log_weights)
    return Structure(
        "orthogonal",
        lambda process, times: unequal_curve(process, times, weights, energies, variance=variance),
    )


def _squared_distances(decision: Members) -> tuple[Float[Array, "K K"], float]:
    """Squared distances between the means, and how far two that are equal may differ by rounding."""
    means = np.asarray(decision.mixture.means, np.float64)
    means = means - means.mean(axis=0)
    gram = means @ means.T
    norms = np.diagonal(gram)
    squares = np.maximum(norms[:, None] + norms - 2 * gram, 0)
    eps = float(np.finfo(decision.mixture.dtype).eps)
    return squares, ROUNDING * eps * float(norms.max(initial=0))


def _energies(squares: Float[Array, "K K"], slack: float) -> Float[Array, " K"] | None:
    """E with D²_jk = E_j + E_k, or None; equal ones are made exactly so."""
    classes = len(squares)
    total = squares.sum(axis=1)
    energies = (total - squares.sum() / (2 * (classes - 1))) / (classes - 2)
    fitted = energies[:, None] + energies
    np.fill_diagonal(fitted, 0)
    if np.abs(fitted - squares).max() > slack or energies.min() < -slack:
        return None
    if np.ptp(energies) <= slack:
        return np.full(classes, energies.mean())
    return np.maximum(energies, 0)


def _tree(
    squares: Float[Array, "K K"], slack: float, cells: Int[Array, " K"]
) -> tuple[tuple[int, ...], list[float], int] | None:
    """Branching, energies and the level whose nodes are the cells, of a regular tree; None where it is none."""
    distances = np.sort(squares[~np.eye(len(squares), dtype=bool)])[::-1]
    heights = distances[np.append(True, np.diff(distances) < -slack)]
    if len(heights) > 16:
        return None
    groups = [_groups(squares <= height + slack) for height in heights[1:]]
    # Leaves of equal means, or cells of equidistant classes: a level without energy.
    partition = np.unique(cells, return_inverse=True)[1]
    levels = [group for group in groups if group is not None] + [np.arange(len(squares))]
    if len(levels) != len(heights):
        return None
    position = next((i for i, level in enumerate(levels) if _same(level, partition)), None)
    energies = [0.5 * float(a - b) for a, b in zip(heights, [*heights[1:], 0.0], strict=True)]
    if position is None:
        position = next((i for i in range(len(levels)) if _refines(levels[i], partition, levels[:i])), None)
        if position is None:
            return None
        levels.insert(position, partition)
        energies.insert(position, 0.0)
    branching = _branching(levels)
    return None if branching is None else (branching, energies, position)


def _groups(close: Float[Array, "K K"]) -> Int[Array, " K"] | None:
    """Labels of the classes of an equivalence relation; None where it is none."""
    labels = np.argmax(close, axis=1)
    if not np.array_equal(close, labels[:, None] == labels):
        return None
    return np.unique(labels, return_inverse=True)[1]


def _same(first: Array, second: Array) -> bool:
    return bool(
        len(np.unique(first)) == len(np.unique(second)) == len(np.unique(np.stack([first, second]), axis=1).T)
    )


def _refines(fine: Array, coarse: Array, above: Sequence[Array]) -> bool:
    """Whether `fine` refines `coarse`, which refines the last of `above`."""
    nested = len(np.unique(np.stack([fine, coarse]), axis=1).T) == len(np.unique(fine))
    return nested and (
        not above or len(np.unique(np.stack([coarse, above[-1]]), axis=1).T) == len(np.unique(coarse))
    )


def _branching(levels: Sequence[Array]) -> tuple[int, ...] | None:
    """Children per node of each level, where all nodes of a level have as many."""
    numbers = [1, *(len(np.unique(level)) for level in levels)]
    for level in levels:
        if np.ptp(np.bincount(level)) > 0:
            return None
    steps = [b // a for a, b in itertools.pairwise(numbers)]
    whole = all(b % a == 0 for a, b in itertools.pairwise(numbers))
    return tuple(steps) if whole and min(steps) > 1 else None
