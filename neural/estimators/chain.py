"""The data types of an estimate: the table of steps, a chunk of trajectories, and the chain that makes them."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from gmm.partition import Partition
from neural.denoiser import Conditions, denoise_each, from_pytree

DRIVES = ("class", "mixture", "unconditional")
STARTS = ("state", "prior")
TRACKERS = ("classes", "unconditional", "share")


class Rows(NamedTuple):
    """One row for each evaluation of the denoiser: (T,) each, or (1 + T,) where a row prepares the first state.

    Attributes:
        t, alpha, sigma: the time, and α and σ of the process at that time; level: σ/α; half_snr: γ/2.
        state, clean, deviation: x_s = state x_t + clean drive + deviation ε.
        along, square: log w_c += along ε·Δ_c - ½ square ‖Δ_c‖².
        start_along, start_square: the same for the information in the first state itself; zero in other rows.
        setup: whether the row only prepares the first state.
        number: number of the step, which selects its noise.
    """

    t: Any
    alpha: Any
    sigma: Any
    level: Any
    half_snr: Any
    state: Any
    clean: Any
    deviation: Any
    along: Any
    square: Any
    start_along: Any
    start_square: Any
    setup: Any
    number: Any


@functools.partial(jax.tree_util.register_dataclass, data_fields=["labels"], meta_fields=["cells"])
@dataclasses.dataclass(frozen=True, eq=False)
class PartitionArrays:
    """A partition of the K conditions as arrays that a jitted function can take.

    Attributes:
        labels: (K,) cell of each condition; every condition is in a cell.
        cells: number of cells C.
    """

    labels: Int[np.ndarray, " K"]
    cells: int

    @classmethod
    def of(cls, partition: Partition) -> "PartitionArrays":
        """The arrays of a partition that places every condition."""
        # JAX's default integers, which cells are counted in.
        return cls(np.asarray(partition.labels, int), partition.cells)


class Paths(NamedTuple):
    """A chunk of n trajectories; all their random numbers follow from `key` and their indices.

    Attributes:
        key: random key of the whole estimate.
        index: (n,) number of each trajectory.
        real: (n,) True for a trajectory that counts, False for one that only fills up the chunk.
        z: (n,) class of each, an index into the conditions.
        first: (n, d) first states, or the standard normal noise that they are made from.
        x0: (n, d) data that drive the trajectories, or None.
    """

    key: PRNGKeyArray
    index: Any
    real: Any
    z: Any
    first: Any
    x0: Any


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "denoiser",
        "reference",
        "conditions",
        "log_prior",
        "rows",
        "partitions",
        "guidance",
        "shares",
        "points",
    ],
    meta_fields=["drive", "tracker", "shape", "dtype", "at_once", "exhaustive", "same_condition", "given"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """Everything that trajectories and their posteriors are computed from.

    Attributes:
        denoiser: as a pytree, see `as_pytree`.
        reference: denoiser of the unconditional law (called without a condition), or None where it is not needed.
        conditions: the K encoded conditions.
        log_prior: (K,).
        rows: the table of steps.
        partitions: the partitions whose entropy is estimated.
        guidance: schedule of the guided chain, or None.
        shares: (K,) share of each class among the unconditional network's labels.
        drive, tracker: see `neural.estimators.tracking` and `neural.estimators.trackers`.
        shape: shape of one state; the chain itself works on flat states (n, d).
        dtype: floating type of states and log-weights.
        at_once: number of conditions in one call of the network.
        exhaustive: whether the unconditional law is a mixture of exactly these conditions.
        same_condition: whether the reference is called with the trajectory's own condition.
        given: whether the caller passes the first states.
        points: (S,) SNRs at which expected statistics are wanted instead of those of every row, see
            `neural.estimators.held`; or None.
    """

    denoiser: Any
    reference: Any
    conditions: Conditions
    log_prior: Float[Array, " K"]
    rows: Rows
    partitions: tuple[PartitionArrays, ...]
    guidance: Any
    shares: Float[Array, " K"]
    drive: str
    tracker: str
    shape: tuple[int, ...]
    dtype: Any
    at_once: int
    exhaustive: bool
    same_condition: bool
    given: bool
    points: Any = None

    @property
    def classes(self) -> int:
        """K."""
        return self.log_prior.shape[0]

    def predict(self, x: Float[Array, "n d"], t: Array, z: Int[Array, " n"]) -> Float[Array, "n J d"]:
        """D_c for each class and, where there is a reference, D_∅ as the last of J."""
        states = x.reshape(-1, *self.shape)
        by_class = denoise_each(from_pytree(self.denoiser), states, t, self.conditions, self.at_once)
        by_class = by_class.reshape(x.shape[0], self.classes, x.shape[1]).astype(self.dtype)
        if self.reference is None:
            return by_class
        condition = jax.tree.map(lambda leaf: leaf[z], self.conditions) if self.same_condition else None
        without = from_pytree(self.reference).denoise(states, t, condition).reshape(x.shape[0], 1, x.shape[1])
        return jnp.concatenate([by_class, without.astype(self.dtype)], axis=1)


class Carry(NamedTuple):
    """Between steps: x (n, d); log w of each class, normalised, and of the reference (n, J); ℓ of guidance (n,)."""

    x: Float[Array, "n d"]
    log_w: Float[Array, "n J"]
    ratio: Float[Array, " n"]


class Kept(NamedTuple):
    """Log-weights of classes (normalised) and reference (n, J), and states (n, d), of one time; or None."""

    log_w: Any
    x: Any


class Record(NamedTuple):
    """The results of one row.

    Attributes:
        columns: for each partition the statistics of every trajectory (n, F), see `neural.estimators.trackers`.
        finite: () whether every prediction was finite.
        kept: log-weights (n, J) and states (n, d), None where they are not kept.
    """

    columns: tuple[Float[Array, "n F"], ...]
    finite: Bool[Array, ""]
    kept: Kept
