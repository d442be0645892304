"""The decision between cells of a mixture: the components of a partition, laid out cell by cell."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gmm.checks import may_be_infinite
from gmm.mixture import Mixture
from gmm.partition import Partition
from gmm.pytree import build


@functools.partial(jax.tree_util.register_dataclass, data_fields=("mixture",), meta_fields=("cells",))
@dataclasses.dataclass(frozen=True, eq=False)
class MixtureDecision:
    """A decision between cells of a mixture: the components that take part, cell by cell.

    Attributes:
        mixture: the components inside the decision, sorted by cell, weights renormalised. Every cell has
            as many components as the largest one: smaller cells repeat a member with weight zero.
        cells: number of cells C; components per cell m = K/C.
    """

    mixture: Mixture
    cells: int

    @property
    def trivial(self) -> bool:
        """Whether every component is its own cell."""
        return self.cells == self.mixture.components

    @property
    def labels(self) -> np.ndarray:
        """(K,) cell of each component."""
        return np.repeat(np.arange(self.cells), self.mixture.components // self.cells)

    @property
    def prior(self) -> Float[Array, " C"]:
        """(C,) prior probability of each cell."""
        return self.by_cell(self.mixture.weights).sum(axis=-1)

    def centred(self) -> "MixtureDecision":
        """The same decision with means measured from their mean, so that no later step copies them to do so.

        A shift of all states changes no posterior.
        """
        return MixtureDecision(_centred(self.mixture), self.cells)

    def by_cell(self, values: Float[Array, "... K"]) -> Float[Array, "... C m"]:
        """Split the last axis into cells and their members."""
        return values.reshape(*values.shape[:-1], self.cells, -1)


def decide(mixture: Mixture, partition: Partition) -> MixtureDecision:
    """The decision `partition` about `mixture`."""
    inside = partition.inside
    order = inside[np.argsort(partition.labels[inside], kind="stable")]
    counts = np.bincount(partition.labels[order])
    offset = np.arange(counts.max())[None, :]
    place = (np.cumsum(counts) - counts)[:, None] + np.minimum(offset, counts[:, None] - 1)
    present = (offset < counts[:, None]).reshape(-1)
    index = order[place.reshape(-1)]
    if present.all() and np.array_equal(index, np.arange(mixture.components)):
        return MixtureDecision(
            mixture, len(counts)
        )  # already in order: no program is compiled and nothing is copied
    return MixtureDecision(_taken(mixture, index, present), len(counts))


@may_be_infinite
@jax.jit
def _taken(mixture: Mixture, index: Int[Array, " K"], present: Bool[Array, " K"]) -> Mixture:
    """The components `index`, absent ones at weight zero."""
    taken = mixture.take(index)
    return taken.reweighted(jnp.where(present, taken.log_weights, -jnp.inf))


@may_be_infinite
@jax.jit
def _centred(mixture: Mixture) -> Mixture:
    """The mixture with its means measured from their mean."""
    means = mixture.means - jnp.mean(mixture.means, axis=0, keepdims=True)
    return build(Mixture, log_weights=mixture.log_weights, means=means, covariance=mixture.covariance)
