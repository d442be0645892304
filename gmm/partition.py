"""Partitions: which decision is being asked about.

A partition maps mixture components to cells 0..C-1. The posterior of a cell is the sum of its components'
posteriors. A decision need not be exhaustive ("cat or dog, given that it is one of the two"): components
labelled -1 are outside, and sampling as well as posterior are then conditioned on the rest.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

OUTSIDE = -1


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
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or labels.size == 0:
            raise ValueError(f"labels must have shape (K,), got {labels.shape}")
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"labels must be integers, got {labels.dtype}")
        found = np.unique(labels[labels != OUTSIDE])
        if labels.min() < OUTSIDE or not np.array_equal(found, np.arange(len(found))) or not len(found):
            raise ValueError(
                f"labels must use every cell 0..C-1 (and {OUTSIDE} for outside), got {found[:10]}; "
                "np.unique(labels, return_inverse=True)[1] makes them so"
            )
        object.__setattr__(self, "labels", labels.astype(np.int32))

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
            ValueError: when a cell does not exist or is named twice.
        """
        wanted = np.asarray(cells, int).reshape(-1)
        if len(np.unique(wanted)) != len(wanted) or not np.isin(wanted, np.arange(self.cells)).all():
            raise ValueError(f"cells must be distinct numbers in 0..{self.cells - 1}, got {list(cells)}")
        renumber = np.full(self.cells + 1, OUTSIDE)
        renumber[wanted] = np.arange(len(wanted))
        # The last entry serves label -1.
        return Partition(renumber[self.labels])

    def coarsen(self, groups: Sequence[int]) -> "Partition":
        """Merge cells: cell c becomes part of cell groups[c] (-1 moves it outside).

        Raises:
            ValueError: when `groups` does not name a group for every cell.
        """
        groups = np.asarray(groups, int)
        if groups.shape != (self.cells,):
            raise ValueError(f"groups must have shape ({self.cells},), one entry a cell, got {groups.shape}")
        return Partition(np.append(groups, OUTSIDE)[self.labels])

    def refines(self, coarse: "Partition") -> bool:
        """Whether every cell of this partition lies within one cell of `coarse`."""
        pairs = np.unique(np.stack([self.labels, coarse.labels]), axis=1)
        return len(np.unique(pairs[0])) == pairs.shape[1]


def trivial_partition(components: int) -> Partition:
    """Every component its own cell."""
    return Partition(np.arange(components))


def cell_log_posterior(
    log_posterior: Float[Array, "... K"], labels: Int[Array, " K"], cells: int
) -> Float[Array, "... C"]:
    """Log posterior of each cell: log Σ_{k in cell} p_k, with the largest term of each cell taken out."""
    flat = log_posterior.reshape(-1, log_posterior.shape[-1]).T
    top = jax.ops.segment_max(flat, labels, num_segments=cells)
    top = jnp.where(jnp.isfinite(top), top, 0)
    total = jax.ops.segment_sum(jnp.exp(flat - top[labels]), labels, num_segments=cells)
    return (top + jnp.log(total)).T.reshape(*log_posterior.shape[:-1], cells)
