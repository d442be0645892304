"""A decision among conditions of a model: cells at one or several levels over one list of conditions.

Every level places every condition, so that one set of trajectories answers them all. Conditions of the model
that are not named are outside: the decision is conditioned on those that are.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gmm.checks import choose
from gmm.partition import Partition

PRIORS = ("classes", "cells")
Cells = Mapping[str, Sequence[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """One question.

    Attributes:
        name: what it asks about.
        cells: (C,) names of the answers.
        partition: cell of each of the decision's conditions.
    """

    name: str
    cells: tuple[str, ...]
    partition: Partition


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """Conditions, and questions about them.

    Attributes:
        name: of the whole.
        conditions: (K,) what `denoise` takes.
        names: (K,) what people call them.
        levels: questions, coarsest first; at least one.
        about, source: where the cells come from, in words.
    """

    name: str
    conditions: tuple[Any, ...]
    names: tuple[str, ...]
    levels: tuple[Level, ...]
    about: str = ""
    source: str = ""

    def prior(self, how: str = "classes") -> Float[np.ndarray, " K"]:
        """Probabilities of the conditions.

        Args:
            how: "classes", every condition alike; or "cells", every cell of the first level alike, and within
                it every condition: one half each for a contrast of two, as in the paper's appendix B.
        """
        choose("prior", how, PRIORS)
        if how == "classes":
            return np.full(len(self.conditions), 1 / len(self.conditions))
        labels = self.levels[0].partition.labels
        return 1 / (np.bincount(labels)[labels] * self.levels[0].partition.cells)

    def thinned(self, most: int, seed: int) -> "Decision":
        """The same questions about at most `most` conditions of each cell of the finest level, drawn by `seed`.

        Raises:
            ValueError: unless most >= 1.
        """
        if most < 1:
            raise ValueError(f"most must be >= 1, got {most}")
        rng = np.random.default_rng(seed)
        labels = self.levels[-1].partition.labels
        kept: list[int] = []
        for cell in np.unique(labels):
            members = np.flatnonzero(labels == cell)
            kept += rng.permutation(members)[:most].tolist()
        kept.sort()
        levels = tuple(_on(level, kept) for level in self.levels)
        pick = lambda values: tuple(values[i] for i in kept)
        return dataclasses.replace(
            self, conditions=pick(self.conditions), names=pick(self.names), levels=levels
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain form, for results to carry."""
        members = lambda level, c: [
            name for name, label in zip(self.names, level.partition.labels, strict=True) if label == c
        ]
        return {
            "name": self.name,
            "levels": [
                {"name": level.name, "cells": {cell: members(level, c) for c, cell in enumerate(level.cells)}}
                for level in self.levels
            ],
            "conditions": list(self.conditions),
            "names": list(self.names),
        }


def decision(
    name: str,
    levels: Sequence[tuple[str, Cells]],
    names: Mapping[Any, str] | None = None,
    **more: str,
) -> Decision:
    """A decision from the members of its cells.

    Args:
        name: of the whole.
        levels: (name, cells) of each level, coarsest first; cells map names to conditions.
        names: what people call the conditions; default: as they are.
        more: `about` and `source`.

    Raises:
        ValueError: when a level has fewer than two cells, a cell is empty or names a condition twice, or two
            cells of a level overlap, or a level leaves out a condition that another names.
    """
    if not levels:
        raise ValueError(f"{name} must have at least one level")
    for level, cells in levels:
        _check(level, cells, names or {})
    conditions = tuple(dict.fromkeys(m for _, cells in levels for members in cells.values() for m in members))
    called = {condition: str((names or {}).get(condition, condition)) for condition in conditions}
    for level, cells in levels:
        held = {member for members in cells.values() for member in members}
        if left := [called[condition] for condition in conditions if condition not in held]:
            raise ValueError(f"levels must place the same conditions; {level} leaves out {left[0]!r}")
    built = tuple(
        Level(level, tuple(cells), Partition(_labels(conditions, cells))) for level, cells in levels
    )
    return Decision(name, conditions, tuple(called.values()), built, **more)


def _check(level: str, cells: Cells, names: Mapping[Any, str]) -> None:
    if len(cells) < 2:
        raise ValueError(f"{level} must have two cells or more to decide between, got {len(cells)}")
    owner: dict[Any, str] = {}
    for cell, members in cells.items():
        if not members:
            raise ValueError(f"cell {cell!r} of {level} is empty; every cell needs a condition")
        for member in members:
            if member in owner:
                called = names.get(member, member)
                where = (
                    f"twice in cell {cell!r}"
                    if owner[member] == cell
                    else f"in {owner[member]!r} and {cell!r}"
                )
                raise ValueError(f"cells of {level} must not overlap: {called!r} is {where}")
            owner[member] = cell


def _labels(conditions: Sequence[Any], cells: Cells) -> np.ndarray:
    cell_of = {member: c for c, members in enumerate(cells.values()) for member in members}
    return np.array([cell_of[condition] for condition in conditions])


def _on(level: Level, kept: Sequence[int]) -> Level:
    labels = level.partition.labels[np.asarray(kept)]
    left, renumbered = np.unique(labels, return_inverse=True)
    return Level(level.name, tuple(level.cells[c] for c in left), Partition(renumbered))
