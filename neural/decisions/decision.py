"""A decision among conditions of a model: cells at one or several levels over one list of conditions.

Every level places every condition in a cell, so that all levels share one set of trajectories. Conditions of the
model that are not listed are outside: probabilities are conditioned on the listed ones.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gmm.checks import check_text, choose
from gmm.partition import Partition

PRIORS = ("classes", "cells")
Cells = Mapping[str, Sequence[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """One level of a decision: a partition of the conditions, with names.

    Attributes:
        name: name of the level.
        cells: (C,) names of the cells.
        partition: cell of each of the decision's conditions.
    """

    name: str
    cells: tuple[str, ...]
    partition: Partition


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """Conditions, and partitions of them.

    Attributes:
        name: name of the decision.
        conditions: (K,) conditions that `denoise` takes.
        names: (K,) names of the conditions.
        levels: levels, coarsest first; at least one.
        about, source: a description, and where the cells come from.

    Raises:
        ValueError: when a name is not valid Unicode.
    """

    name: str
    conditions: tuple[Any, ...]
    names: tuple[str, ...]
    levels: tuple[Level, ...]
    about: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        cells = (cell for level in self.levels for cell in (level.name, *level.cells))
        for text in (self.name, *self.names, *cells):
            check_text("names and conditions", text)

    @classmethod
    def from_cells(
        cls,
        name: str,
        levels: Sequence[tuple[str, Cells]],
        names: Mapping[Any, str] | None = None,
        *,
        least: int = 2,
        **more: str,
    ) -> "Decision":
        """The decision with the given members of its cells.

        Args:
            name: name of the decision.
            levels: (name, cells) of each level, coarsest first; cells map names to conditions.
            names: names of the conditions; by default the conditions themselves as text.
            least: cells that a level must have; 1 where a class alone is compared with the unconditional network.
            more: `about` and `source`.

        Raises:
            ValueError: when a level has fewer than `least` cells, a cell is empty or lists a condition twice, two
                cells of a level overlap, or a level leaves out a condition that another level places.
        """
        if not levels:
            raise ValueError(f"{name} must have at least one level")
        for level, cells in levels:
            _check(level, cells, names or {}, least)
        conditions = tuple(dict.fromkeys(m for _, cells in levels for group in cells.values() for m in group))
        display = {condition: str((names or {}).get(condition, condition)) for condition in conditions}
        for level, cells in levels:
            placed = {member for members in cells.values() for member in members}
            if missing := [display[condition] for condition in conditions if condition not in placed]:
                raise ValueError(f"levels must place the same conditions; {level} leaves out {missing[0]!r}")
        built = tuple(
            Level(level, tuple(cells), Partition(_labels(conditions, cells))) for level, cells in levels
        )
        return cls(name, conditions, tuple(display.values()), built, **more)

    def prior(self, how: str = "classes") -> Float[np.ndarray, " K"]:
        """Probabilities of the conditions.

        Args:
            how: "classes", all conditions equally likely; or "cells", all cells of the first level equally likely
                and all conditions within a cell: one half each for a contrast of two cells, as in the paper's
                appendix B.
        """
        choose("prior", how, PRIORS)
        if how == "classes":
            return np.full(len(self.conditions), 1 / len(self.conditions))
        labels = self.levels[0].partition.labels
        return 1 / (np.bincount(labels)[labels] * self.levels[0].partition.cells)

    def thinned(self, most: int, seed: int) -> "Decision":
        """This decision with at most `most` conditions of each cell of the finest level, drawn by `seed`.

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
        levels = tuple(_restricted(level, kept) for level in self.levels)
        return dataclasses.replace(
            self,
            conditions=tuple(self.conditions[i] for i in kept),
            names=tuple(self.names[i] for i in kept),
            levels=levels,
        )

    def cell(self, number: int) -> "Decision":
        """The conditions of one cell of the finest level, as a decision with this cell alone."""
        level = self.levels[-1]
        inside = np.flatnonzero(level.partition.labels == number)
        name = level.cells[number]
        return dataclasses.replace(
            self,
            name=name,
            conditions=tuple(self.conditions[i] for i in inside),
            names=tuple(self.names[i] for i in inside),
            levels=(Level(name, (name,), Partition(np.zeros(len(inside), int))),),
        )

    def as_dict(self) -> dict[str, Any]:
        """The decision as plain values, which results carry."""

        def members(level: Level, cell: int) -> list[str]:
            labels = level.partition.labels
            return [name for name, label in zip(self.names, labels, strict=True) if label == cell]

        return {
            "name": self.name,
            "levels": [
                {"name": level.name, "cells": {cell: members(level, c) for c, cell in enumerate(level.cells)}}
                for level in self.levels
            ],
            "conditions": list(self.conditions),
            "names": list(self.names),
        }


def _check(level: str, cells: Cells, names: Mapping[Any, str], least: int) -> None:
    if len(cells) < least:
        raise ValueError(
            f"{level} must have two cells or more to decide between, got {len(cells)}; one alone can be compared with "
            "the unconditional network: `tracker` unconditional"
        )
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


def _restricted(level: Level, kept: Sequence[int]) -> Level:
    labels = level.partition.labels[np.asarray(kept)]
    left, renumbered = np.unique(labels, return_inverse=True)
    return Level(level.name, tuple(level.cells[c] for c in left), Partition(renumbered))
