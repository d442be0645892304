"""Partitions: which decision is meant.

A partition maps mixture components to cells 0..C-1. The posterior of a cell is the sum of its components'
posteriors. A decision need not be exhaustive ("cat or dog, given that it is one of the two"): components
labelled -1 are outside, and sampling as well as posterior are then conditioned on the rest.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from gmm.checks import check_shape, may_be_infinite

if TYPE_CHECKING:
    from gmm.mixture import Mixture

OUTSIDE = -1


def _check_labels(name: str, values: ArrayLike | Sequence[int]) -> np.ndarray:
    """`values` as an array, if they are whole numbers that use every cell 0..C-1 (-1: outside)."""
    labels = np.asarray(values)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"{name} must have shape (K,), got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name} must be integers, got {labels.dtype}")
    used = np.unique(labels[labels != OUTSIDE])
    if labels.min() < OUTSIDE or not np.array_equal(used, np.arange(len(used))) or not len(used):
        raise ValueError(
            f"{name} must use every cell 0..C-1 (and {OUTSIDE} for outside), got {used[:10]}; "
            f"np.unique({name}, return_inverse=True)[1] makes them so"
        )
    return labels


@dataclasses.dataclass(frozen=True, eq=False)
class Partition:
    """Components to cells.

    Attributes:
        labels: (K,) cell of each component, 0..C-1, or -1 for components outside the decision. Every
            cell 0..C-1 has at least one component.

    Raises:
        ValueError: when labels are not integers of that form.
    """

    labels: np.ndarray

    def __post_init__(self) -> None:
        labels = _check_labels("labels", self.labels).astype(np.int32)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)

    @property
    def cells(self) -> int:
        """Number of cells C."""
        return int(self.labels.max()) + 1

    @property
    def inside(self) -> np.ndarray:
        """(m,) indices of the components that take part in the decision."""
        return np.flatnonzero(self.labels != OUTSIDE)

    def restrict(self, cells: Sequence[int]) -> "Partition":
        """The decision among `cells` only, renumbered in the order given; the rest moves outside.

        Raises:
            ValueError: when no cell is named, one does not exist or one is named twice.
        """
        chosen = np.asarray(cells).reshape(-1)
        distinct = chosen.size > 0 and len(np.unique(chosen)) == len(chosen)
        if not distinct or not np.isin(chosen, np.arange(self.cells)).all():
            raise ValueError(f"cells must be distinct numbers in 0..{self.cells - 1}, got {chosen.tolist()}")
        chosen = chosen.astype(int)
        renumber = np.full(self.cells + 1, OUTSIDE)
        renumber[chosen] = np.arange(len(chosen))
        # The last entry is for label -1.
        return Partition(renumber[self.labels])

    def coarsen(self, groups: Sequence[int]) -> "Partition":
        """Merge cells: cell c becomes part of cell groups[c] (-1 moves it outside).

        Raises:
            ValueError: when `groups` does not name a group for every cell, or leaves a group empty.
        """
        if np.shape(groups) != (self.cells,):
            raise ValueError(
                f"groups must have shape ({self.cells},), one for each cell, got {np.shape(groups)}"
            )
        # The last entry is for label -1.
        return Partition(np.append(_check_labels("groups", groups), OUTSIDE)[self.labels])

    def refines(self, coarse: "Partition") -> bool:
        """Whether every cell of this partition lies within one cell of `coarse`, or all of it outside.

        Raises:
            ValueError: when the two do not label the same number of components.
        """
        check_shape("coarse.labels", coarse.labels, f"{self.labels.shape} like labels", [self.labels.shape])
        pairs = np.unique(np.stack([self.labels, coarse.labels]), axis=1)
        return len(np.unique(pairs[0])) == pairs.shape[1]


def trivial_partition(components: int) -> Partition:
    """The partition in which every component is a cell of its own."""
    return Partition(np.arange(components))


def partition_of(
    components: int, partition: Partition | None, *, least: int = 1, labelled: str = "components"
) -> Partition:
    """`partition`, or the trivial one if it is None; `labelled` is what it labels, for the message of an error.

    Raises:
        ValueError: when it does not label that many components, or has fewer than `least` cells.
    """
    if partition is None:
        partition = trivial_partition(components)
    if len(partition.labels) != components:
        raise ValueError(
            f"partition must have one label for each of the {components} {labelled}, got {len(partition.labels)}"
        )
    if partition.cells < least:
        raise ValueError("partition must have at least two cells for a decision, got one")
    return partition


@may_be_infinite
def cell_log_posterior(
    log_posterior: Float[Array, "... K"], labels: Int[Array, " K"], cells: int
) -> Float[Array, "... C"]:
    """Log posterior of each cell: log Σ_{k in cell} p_k, with the largest term of each cell taken out."""
    flat = log_posterior.reshape(-1, log_posterior.shape[-1]).T
    top = jax.ops.segment_max(flat, labels, num_segments=cells)
    top = jnp.where(jnp.isfinite(top), top, 0)
    total = jax.ops.segment_sum(jnp.exp(flat - top[labels]), labels, num_segments=cells)
    # A cell whose every component is impossible: log 0 is right, but its gradient must not be NaN.
    empty = total == 0
    log_total = jnp.where(empty, -jnp.inf, jnp.log(jnp.where(empty, 1, total)))
    return (top + log_total).T.reshape(*log_posterior.shape[:-1], cells)


def restrict(mixture: "Mixture", partition: Partition, cells: Sequence[int]) -> "tuple[Mixture, Partition]":
    """The mixture conditioned on the union of `cells`, and the decision among them, renumbered.

    Raises:
        ValueError: as `Partition.restrict`.
    """
    chosen = partition.restrict(cells)
    return mixture.take(chosen.inside), Partition(chosen.labels[chosen.inside])
