"""The checked arguments of an estimator: conditions, partitions, prior, grid; and the chain made from them."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from gmm.checks import check_count, check_finite, check_shape, check_values, choose
from gmm.guidance import Guidance, cfg
from gmm.mixture import WEIGHT_SUM_TOLERANCE
from gmm.partition import Partition, partition_of
from neural.denoiser import Denoiser, as_pytree, encode, state_dtype, state_shape
from neural.estimators.chain import DRIVES, STARTS, TRACKERS, Chain, PartitionArrays
from neural.estimators.rows import make_rows
from neural.progress import Progress
from neural.samplers import edm_times

POSITIONS, CONDITIONS = "positions", "conditions"
Partitions = Partition | Sequence[Partition] | None
Data = tuple[Float[ArrayLike, "m ..."], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
    """Keywords that every estimator takes beside its own arguments.

    Attributes:
        times: (T,) falling times where log-SNR is finite, in place of the EDM grid of `steps` times (0.002..80).
        start: the information at the first time. "state": the information that the noisy state still has about the
            class; a chain's first state is moved to its class, and log-weights start from -‖x_T - α D_c‖²/2σ².
            "prior": none; all chains start at N(0, σ_T²), as samplers do, and the log-ratio starts at zero. The two
            differ where σ_max is small compared with the separation of the classes (Stable Diffusion's 14.6).
        within_variance: variance of every class, where the classes are known to be isotropic: trajectories and
            weights then use the exact variance of x_s given x_t, at any step length. Zero for networks.
        shape: shape of one state, for denoisers without `state_shape`.
        batch: number of states in one call of the network; by default as many as make 2^20 numbers.
        folder: where finished chunks are kept; the same call reads them again.
        progress: called with (trajectories done, total).
        labels: what the labels of data are: "conditions" (values of the list of conditions; points with another label
            are left out) or "positions" in that list. None: positions, unless only conditions are possible; where
            both are possible and differ, ValueError. `metadata["labels"]` says which.
    """

    times: Float[ArrayLike, " T"] | None = None
    start: str = "state"
    within_variance: float = 0.0
    shape: Sequence[int] | None = None
    batch: int | None = None
    folder: str | os.PathLike[str] | None = None
    progress: Progress | None = None
    labels: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
    """The checked arguments of an estimator.

    Attributes:
        denoiser: the denoiser.
        conditions: the K conditions inside the decision; inside: their positions among all conditions given.
        given: all conditions given, those outside the decision included.
        partitions: partitions of the K conditions; many: whether a list of curves is returned.
        log_prior: (K,) log prior probabilities.
        times: (T,) the grid.
        shape: shape of one state.
        options: the other options.
    """

    denoiser: Denoiser
    conditions: list[Any]
    inside: np.ndarray
    given: list[Any]
    partitions: tuple[Partition, ...]
    many: bool
    log_prior: np.ndarray
    times: np.ndarray
    shape: tuple[int, ...]
    options: Options

    @property
    def numbers(self) -> range:
        """Numbers of the partitions."""
        return range(len(self.partitions))

    @property
    def total(self) -> int:
        """Number of conditions given."""
        return len(self.given)

    @property
    def known(self) -> int:
        """Number of conditions that the denoiser lists; 0 where it has no list."""
        return len(tuple(self.denoiser.conditions or ()))

    def cell_prior(self, number: int) -> np.ndarray:
        """(C,) prior probabilities of a partition's cells."""
        return np.bincount(self.partitions[number].labels, np.exp(self.log_prior))


def make_inputs(
    denoiser: Denoiser,
    conditions: Sequence[Any],
    partition: Partitions,
    prior: Any,
    steps: int,
    options: Options,
) -> Inputs:
    """The checked arguments of an estimator.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    choose("start", options.start, STARTS)
    if options.labels is not None:
        choose("labels", options.labels, (POSITIONS, CONDITIONS))
    check_values(
        "within_variance", options.within_variance, "finite and >= 0", lambda v: np.isfinite(v) & (v >= 0)
    )
    if options.batch is not None:
        check_count("batch", options.batch)
    # A text is one condition, not as many as it has letters.
    conditions = [conditions] if isinstance(conditions, str) else list(conditions)
    partitions = _partitions(len(conditions), partition)
    inside = partitions[0].inside
    return Inputs(
        denoiser=denoiser,
        conditions=[conditions[i] for i in inside],
        inside=inside,
        given=conditions,
        partitions=tuple(Partition(p.labels[inside]) for p in partitions),
        many=not (partition is None or isinstance(partition, Partition)),
        log_prior=_log_prior(len(conditions), prior, inside),
        times=_times(denoiser, steps, options),
        shape=state_shape(denoiser, options.shape),
        options=options,
    )


def _partitions(conditions: int, partition: Partitions) -> list[Partition]:
    if conditions == 0:
        raise ValueError("conditions must name at least one condition, got none")
    given = [partition] if partition is None or isinstance(partition, Partition) else list(partition)
    if not given:
        raise ValueError("partition must be a Partition or a list of at least one, got an empty list")
    partitions = [partition_of(conditions, p, labelled="conditions") for p in given]
    for p in partitions:
        if not np.array_equal(p.inside, partitions[0].inside):
            raise ValueError(
                "partitions in one call must leave out the same conditions, since they share one set of trajectories; "
                "pass partitions that leave out other conditions in a call of their own"
            )
    return partitions


def _log_prior(conditions: int, prior: Any, inside: np.ndarray) -> np.ndarray:
    """(K,) log prior of the conditions inside the decision, normalised."""
    weights = np.full(conditions, 1 / conditions) if prior is None else np.asarray(prior, np.float64)
    check_shape("prior", weights, f"({conditions},), one per condition", [(conditions,)])
    check_values("prior", weights, "positive", lambda a: a > 0)
    if abs(weights.sum() - 1) > WEIGHT_SUM_TOLERANCE:
        raise ValueError(f"prior must sum to one, got {weights.sum():.9g}")
    return np.log(weights[inside] / weights[inside].sum())


def _times(denoiser: Denoiser, steps: int, options: Options) -> np.ndarray:
    if options.times is None:
        return edm_times(denoiser.process, steps)
    times = np.asarray(options.times, np.float64)
    if times.ndim != 1 or times.size == 0:
        raise ValueError(f"times must have shape (T,) with T >= 1, got {times.shape}")
    denoiser.process.check_times(times)
    if (np.diff(times) >= 0).any():
        raise ValueError("times must fall from noise to data; reverse them")
    return times


def check_stochastic(eta: float) -> None:
    """Raise ValueError unless η = 1, where the sampler's noise is that of the reverse diffusion."""
    if eta != 1:
        raise ValueError(
            f"eta must be 1 (the stochastic sampler), got {eta:g}: with less noise the increments along a path are not "
            "those of the diffusion's likelihood ratio, and on a deterministic path the posterior is certain at once"
        )


def check_samples(samples: int) -> int:
    """`samples`, checked: a standard error needs two or more."""
    check_count("samples", samples, 2)
    return samples


def states_of(inputs: Inputs, name: str, x: Any, count: int | None = None) -> np.ndarray:
    """States (n, ...) from the caller, checked and flat (n, d)."""
    x = np.asarray(x)
    if x.shape[1:] != inputs.shape or (count is not None and len(x) != count):
        n = "n" if count is None else count
        raise ValueError(f"{name} must have shape ({n}, {', '.join(map(str, inputs.shape))}), got {x.shape}")
    check_finite(name, x)
    return x.reshape(len(x), -1).astype(state_dtype(inputs.denoiser))


def _guidance(guidance: Guidance | float | None) -> Guidance | None:
    if guidance is None:
        return None
    schedule = guidance if isinstance(guidance, Guidance) else cfg(guidance)
    return None if schedule.is_plain else schedule


def tracking_chain(
    inputs: Inputs,
    tracker: str,
    drive: str,
    guidance: Guidance | float | None,
    guide: Denoiser | None,
    shares: Any,
    given: bool,
) -> Chain:
    """The chain of `online_entropy`."""
    choose("tracker", tracker, TRACKERS)
    choose("drive", drive, DRIVES)
    schedule = _guidance(guidance)
    if drive != "class" and schedule is not None:
        raise ValueError(
            f'drive must be "class" under guidance, which needs the class of each path; got {drive!r}'
        )
    if given and drive == "class":
        raise ValueError(
            'initial needs drive="mixture" or drive="unconditional": with drive="class" the first states depend on the '
            "class"
        )
    chain = plain_chain(inputs, drive=drive, tracker=tracker, guidance=schedule, given=given)
    return with_reference(inputs, chain, guide, shares)


def plain_chain(
    inputs: Inputs,
    *,
    drive: str = "class",
    tracker: str = "classes",
    guidance: Guidance | None = None,
    on_data: bool = False,
    given: bool = False,
) -> Chain:
    """The chain without a reference; `given` says whether the caller passes the first states."""
    if tracker == "classes" and any(p.cells < 2 for p in inputs.partitions):
        raise ValueError(
            'a decision needs at least two cells, got one; tracker="unconditional" works with one class'
        )
    options, dtype = inputs.options, state_dtype(inputs.denoiser)
    rows = make_rows(
        inputs.denoiser.process, inputs.times,
        start=options.start, variance=options.within_variance, on_data=on_data, given=given,
    )  # fmt: skip
    return Chain(
        denoiser=as_pytree(inputs.denoiser),
        reference=None,
        conditions=encode(inputs.denoiser, inputs.conditions),
        log_prior=jnp.asarray(inputs.log_prior, dtype),
        rows=rows,
        partitions=tuple(PartitionArrays.of(partition) for partition in inputs.partitions),
        guidance=guidance,
        shares=jnp.zeros(len(inputs.conditions), dtype),
        drive=drive,
        tracker=tracker,
        shape=inputs.shape,
        dtype=dtype,
        at_once=len(inputs.conditions),
        exhaustive=len(set(map(str, inputs.conditions))) == inputs.known,
        same_condition=guidance is not None and guidance.reference == "guide",
        given=given,
    )


def with_reference(inputs: Inputs, chain: Chain, guide: Denoiser | None, shares: Any) -> Chain:
    """The chain with a denoiser of the unconditional law, where tracker, drive or guidance needs one."""
    if chain.tracker == "classes" and chain.drive != "unconditional" and chain.guidance is None:
        return chain
    if chain.same_condition and (guide is None or chain.tracker != "classes"):
        raise ValueError('autoguidance needs the worse model as guide=... and tracker="classes"')
    reference = getattr(inputs.denoiser, "unconditional", None) if guide is None else guide
    if reference is None:
        raise ValueError(
            f"tracker={chain.tracker!r}, drive={chain.drive!r} and guidance need a denoiser of the unconditional law, "
            f"and {type(inputs.denoiser).__name__} has no `unconditional`; pass guide=..."
        )
    return dataclasses.replace(chain, reference=as_pytree(reference), shares=_shares(inputs, chain, shares))


def _shares(inputs: Inputs, chain: Chain, shares: Any) -> Float[Array, " K"]:
    """(K,) shares of the labels; by default equal shares of all conditions that the denoiser lists."""
    if shares is None and chain.tracker == "share" and not inputs.known:
        raise ValueError(
            "shares must be given: the denoiser lists no conditions, so that equal shares are not defined"
        )
    value = np.asarray(1 / max(inputs.known, 1) if shares is None else shares, np.float64)
    check_shape("shares", value, f"() or ({inputs.total},), one per condition", [(), (inputs.total,)])
    check_values("shares", value, "in (0, 1]", lambda a: (a > 0) & (a <= 1))
    return jnp.asarray(np.broadcast_to(value, (inputs.total,))[inputs.inside], chain.dtype)


def labels_inside(inputs: Inputs, labels: np.ndarray, count: int) -> tuple[np.ndarray, str]:
    """Labels as positions among the conditions inside the decision, -1 for the others; and how they were read."""
    check_shape("data labels", labels, f"({count},), one per point", [(count,)])
    if labels.dtype.kind not in "iuUSO":
        raise ValueError(
            f"data labels must be integers or words, conditions or their positions in the list, got {labels.dtype}"
        )
    reading = _reading(inputs, labels)
    positions = labels if reading == POSITIONS else _positions(inputs.given, labels)
    places = np.full(inputs.total + 1, -1)  # the last entry serves label -1
    places[inputs.inside] = np.arange(len(inputs.inside))
    return places[positions], reading


def _reading(inputs: Inputs, labels: np.ndarray) -> str:
    """Whether labels are positions of conditions in their list, or the conditions themselves; see `Options.labels`."""
    whole, last = np.issubdtype(labels.dtype, np.integer), inputs.total - 1
    left_out = labels == -1 if whole else np.zeros(len(labels), bool)
    not_positions = ~((labels >= -1) & (labels <= last)) if whole else np.ones(len(labels), bool)
    in_list = _positions(inputs.given, labels)
    known = _positions(list(inputs.denoiser.conditions or ()), labels) >= 0
    not_conditions = ~(known | (in_list >= 0) | left_out)
    reading = inputs.options.labels or (CONDITIONS if not_positions.any() else POSITIONS)
    wrong = not_positions if reading == POSITIONS else not_conditions
    if wrong.any():
        raise ValueError(
            f"data labels must be -1..{last}, positions of conditions in their list, or the denoiser's conditions; got "
            f"{labels[wrong].tolist()[0]!r}"
        )
    both = not not_positions.any() and bool(np.all((in_list >= 0) | left_out))
    if inputs.options.labels is None and both and not np.array_equal(in_list, labels):
        raise ValueError(
            'data labels could be conditions or their positions in the list: pass labels="conditions" or '
            'labels="positions"'
        )
    return reading


def _positions(conditions: Sequence[Any], labels: np.ndarray) -> np.ndarray:
    """Position of each label in the list of conditions, -1 for labels that are not in it."""
    positions = np.full(len(labels), -1)
    for position, condition in enumerate(conditions):
        positions[labels == condition] = position
    return positions
