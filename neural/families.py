"""Mixture families as plain descriptions, which the file of a network holds if it was trained on one."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float

import gmm
from gmm.checks import check_shape, choose
from gmm.families import FAMILIES, named
from gmm.schema import Count, Finite, PlainForm

MEANS = "mixture.means"
"""The tensor of a network's file that holds the class means (K, d) that the network was trained on."""


@dataclasses.dataclass(frozen=True)
class FamilySpec(PlainForm):
    """A description of a mixture of `gmm.families`, in words and numbers.

    Attributes:
        family: "pair", "simplex", "orthogonal", "random" or "tree".
        dim: dimension d.
        classes: number of classes; of a tree, its leaves.
        branching, energies: of a tree, as in `gmm.families.tree`; energies may be empty for equal ones.
        separation: root mean square of a coordinate of a class mean.
        variance: within-class variance.
        seed: of the directions of "random".

    Raises:
        ValueError: for an unknown family, or classes that contradict it.
    """

    family: str
    dim: Count
    classes: Count
    branching: tuple[Count, ...] = ()
    energies: tuple[Finite, ...] = ()
    separation: Finite = 1.0
    variance: Finite = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        choose("family", self.family, FAMILIES)
        if self.family == "pair" and self.classes != 2:
            raise ValueError(f"classes must be 2 for a pair, got {self.classes}")
        if (self.family == "tree") != bool(self.branching):
            raise ValueError(
                f"branching must be given for a tree and only there, got family {self.family!r} and {self.branching}"
            )
        if self.branching and math.prod(self.branching) != self.classes:
            raise ValueError(f"a tree of branching {self.branching} has not {self.classes} classes")

    def mixture(self, means: Float[np.ndarray, "K d"] | None = None) -> gmm.Mixture:
        """The mixture itself.

        Args:
            means: (K, d) class means in other coordinates, those of a network's file for one; None for the
                family's own.

        Raises:
            ValueError: as the family's own function, and when the means have another shape.
        """
        if means is not None:
            check_shape("means", means, "(classes, dim)", [(self.classes, self.dim)])
            weights = np.full(self.classes, 1 / self.classes)
            return gmm.Mixture(weights, means, gmm.Isotropic(self.variance))
        return named(
            self.family,
            self.branching or (self.classes,),
            self.dim,
            key=jax.random.key(self.seed),
            energies=self.energies or None,
            separation=self.separation,
            variance=self.variance,
        )

    def levels(self) -> Sequence[gmm.Partition]:
        """The decision of each level of a tree, coarsest first; of other families the classes themselves."""
        if self.family == "tree":
            return gmm.families.tree_partitions(self.branching)
        return (gmm.Partition(np.arange(self.classes)),)
