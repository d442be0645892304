r"""H[Z|X_t] of any denoiser: the posterior tracked along its own trajectories, and the integral of the denoiser gap.

The mathematics stands where it is computed: the step in `neural.tracking`, the trackers and rates in `neural.trackers`;
docs/estimators.md tells it in one piece. Every number comes with its standard error. Where not one of the trajectories
is undecided any more, value and error are both too small: nothing short of more trajectories sees what is rarer than
one in `samples`.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Int, PRNGKeyArray

from gmm.checks import check_finite, check_shape, check_values, choose
from gmm.curve import EntropyCurve, versions
from gmm.entropy import schedule
from gmm.estimate import Estimate
from gmm.guidance import Guidance, cfg
from gmm.mixture import WEIGHT_SUM_TOLERANCE, check_key
from gmm.partition import Partition, trivial_partition
from neural.denoiser import Denoiser, as_pytree, encode, state_dtype, state_shape
from neural.runs import NOTHING, Moments, Progress, Run, antiderivative, run
from neural.samplers import edm_times
from neural.sources import data_source, own_samples
from neural.trackers import COLUMNS, TRACKERS, Decision, floor_of
from neural.tracking import DRIVES, STARTS, Chain, Kept, make_rows

Partitions = Partition | Sequence[Partition] | None
Data = tuple[Float[ArrayLike, "m ..."], Int[ArrayLike, " m"]]


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
    """What every estimator takes beside its own arguments, as keywords.

    Attributes:
        times: (T,) falling times where log-SNR is finite, in place of the EDM grid of `steps` times (0.002..80).
        start: what is known at the first time. "state": what the process has left of the class there; a chain's
            first state is moved to its class, and log-weights start from -‖x_T - α D_c‖²/2σ². "prior": nothing;
            all chains start at N(0, σ_T²), as samplers do, and the log-ratio at zero. Where σ_max is small
            for the separation of the classes (Stable Diffusion's 14.6) the two differ.
        within_variance: variance of every class, where it is known to be isotropic: trajectories and weights then
            use the true variance of x_s given x_t, and no step is too long. Zero for networks.
        shape: of one state, for denoisers that do not tell.
        batch: states that the network sees at a time; by default as many as make 2^20 numbers.
        folder: where finished chunks are kept and found again by the same call.
        progress: called with (trajectories done, in all).
    """

    times: Float[ArrayLike, " T"] | None = None
    start: str = "state"
    within_variance: float = 0.0
    shape: Sequence[int] | None = None
    batch: int | None = None
    folder: str | os.PathLike[str] | None = None
    progress: Progress | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Preset:
    """A published set-up: keywords for `online_entropy`, to be spread into the call.

    Attributes:
        steps: network evaluations of a trajectory.
        samples: trajectories of a highlighted curve; others: of the rest.
        timesteps: whether the grid is equal steps of the model's own index rather than EDM's.
    """

    steps: int
    samples: int
    others: int
    timesteps: bool = False

    def arguments(self, denoiser: Denoiser, *, highlighted: bool = True) -> dict[str, Any]:
        """Keywords: one class against the unconditional network at prior ½, log-ratio from zero."""
        process = denoiser.process
        grid = np.linspace(process.t_max, process.t_min, self.steps)
        return {
            "tracker": "unconditional",
            "start": "prior",
            "times": grid if self.timesteps else edm_times(process, self.steps),
            "samples": self.samples if highlighted else self.others,
        }


# arXiv 2602.09651 as far as it is known: partitions, prompts and Stable Diffusion's grid are not published.
PAPER = {"edm2": Preset(64, 3000, 300), "sd15": Preset(100, 400, 400, timesteps=True)}


def online_entropy(
    denoiser: Denoiser,
    conditions: Sequence[Any],
    *,
    partition: Partitions = None,
    prior: Float[ArrayLike, " K"] | None = None,
    tracker: str = "classes",
    guidance: Guidance | float | None = None,
    key: PRNGKeyArray,
    samples: int = 1024,
    steps: int = 64,
    drive: str = "class",
    guide: Denoiser | None = None,
    shares: Float[ArrayLike, "..."] | None = None,
    initial: Float[ArrayLike, "N ..."] | None = None,
    eta: float = 1.0,
    **options: Any,
) -> Any:
    """The posterior of the class, tracked along stochastic reverse trajectories of the model itself.

    A class is drawn from the prior and its denoiser followed, which samples the marginal exactly; the tracked posterior
    is that of the chain, whose steps gain a little more information than the diffusion: `entropy` is too small by a
    term of first order in the step (docs/estimators.md has its exact law for isotropic classes).

    Args:
        denoiser: what to ask.
        conditions: K conditions, the classes of the decision.
        partition: cells of the conditions, one label each (-1 leaves a condition out, and the prior is conditioned
            on the rest); or several partitions of the same conditions, all answered by one set of trajectories.
        prior: (K,) of the conditions; uniform by default.
        tracker: "classes"; "unconditional", the published map, whose entropy keeps a floor; or "share". Formulas in
            `neural.trackers`.
        guidance: schedule of `gmm.guidance`, or a weight w. Trajectories are then guided to their class; the curve's
            `entropy` is that of the unguided posterior along them, `cross_entropy` the mean surprise of the class
            they were guided to.
        key: JAX random key.
        samples: trajectories N, >= 2.
        steps: times of the grid, and evaluations of each trajectory.
        drive: "class"; or "mixture", "unconditional": the drawn class is then not that of the path.
        guide: denoiser of the unconditional law, asked without condition (under autoguidance: the worse model, asked
            with it); by default the denoiser's `unconditional`.
        shares: () or (K,) share of each class among the unconditional network's labels; by default equal.
        initial: (N, ...) states at the first time, for drives other than "class".
        eta: of the sampler; only 1 will do.
        **options: see `Options`.

    Returns:
        EntropyCurve with a point a time, first to last; for several partitions a list of them. `rate` averages
        denoiser gaps along the trajectories; nothing is differenced.

    Raises:
        ValueError: when a condition is unknown, a partition or prior does not fit, a denoiser for the reference is
            missing, the sampler is not stochastic, or the denoiser returns something that is not finite.
    """
    if eta != 1:
        raise ValueError(
            f"eta must be 1 (the stochastic sampler), got {eta:g}: with less noise the increments along a path are not "
            "those of the diffusion's likelihood ratio, and a deterministic path is certain of its class at once"
        )
    asked = _ask(denoiser, conditions, partition, prior, steps, Options(**options))
    chain = _tracking_chain(asked, tracker, drive, guidance, guide, shares, initial is not None)
    first = None if initial is None else _states(asked, "initial", initial, check_samples(samples))
    found = _run(asked, chain, key, samples, first=first)
    facts = {"source": "online posterior", "tracker": tracker, "drive": drive}
    facts |= {"guidance": _described(chain.guidance)} | _facts(asked, key, samples)
    curves = [_online_curve(asked, chain, found, i, facts) for i in asked.numbers]
    return curves if asked.many else curves[0]


def gap_entropy(
    denoiser: Denoiser,
    conditions: Sequence[Any],
    *,
    data: Data | None = None,
    partition: Partitions = None,
    prior: Float[ArrayLike, " K"] | None = None,
    key: PRNGKeyArray,
    samples: int | None = None,
    steps: int = 64,
    **options: Any,
) -> Any:
    """The I-MMSE integral H(γ) = H(γ_T) - ½ ∫ E‖D_Z - D‖² dγ over states that are noised samples.

    Samples are noised along whole paths, so that the posterior in D = Σ_c p(c|x) D_c is that of the same update; its
    errors enter the integrand in second order. H(γ_T) is the posterior entropy at the first time, the head
    H[Z] - H(γ_T) the information that is there already. Standard errors are those of independent paths, each with its
    own integral; the error of the quadrature, a cubic spline in log γ, is estimated in `metadata["integration_error"]`.

    Args:
        denoiser: what to ask.
        conditions: K conditions, the classes of the decision.
        data: x_0 (m, ...) and labels (m,), numbers of conditions in their list, -1 for points to leave out. A point
            serves one path until its class has none left; beyond that paths share points, and the error bars speak
            of these data rather than of what they were drawn from. None: the model's own samples, by Heun's sampler.
        partition: as in `online_entropy`.
        prior: as in `online_entropy`.
        key: JAX random key.
        samples: paths N, >= 2; by default 1024, or as many as the data allow without sharing.
        steps: times of the grid.
        **options: see `Options`.

    Returns:
        EntropyCurve, or a list of them, as `online_entropy`; on data with the tracker's `cross_entropy`.

    Raises:
        ValueError: as `online_entropy`, and when a class has no data.
    """
    asked = _ask(denoiser, conditions, partition, prior, steps, Options(**options))
    chain = _chain(asked, on_data=True)
    found, samples, facts = _run_on(asked, chain, data, key, samples)
    facts |= {"source": "denoiser gap"} | _facts(asked, key, samples)
    curves = [_gap_curve(asked, chain, found, i, facts, data is not None) for i in asked.numbers]
    return curves if asked.many else curves[0]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Whether a network's posterior means what it says, on data.

    Attributes:
        curve: the tracker's `entropy` and `cross_entropy` along paths of noised data.
        excess: (T,) cross-entropy minus entropy, nats, with the standard error of the paired difference: positive is
            overconfident. Finite steps alone make it positive.
        balance: (T,) γ (E‖x_0-D‖² - E‖x_0-D_c‖² - E‖D_c-D‖²): zero where D_c is the posterior mean that it claims
            to be.
    """

    curve: EntropyCurve
    excess: Estimate
    balance: Estimate

    def passes(self, tolerance: float = 0.02, stderrs: float = 4.0) -> bool:
        """Whether |excess| stays below `tolerance` times the prior entropy and `stderrs` standard errors, everywhere.

        The tolerance is there for the steps, not for the network: halve the steps to see which it is.
        """
        allowed = tolerance * self.curve.prior_entropy + stderrs * self.excess.stderr
        return bool(np.all(np.abs(self.excess.value) <= allowed))


def calibration(
    denoiser: Denoiser,
    conditions: Sequence[Any],
    data: Data,
    *,
    partition: Partitions = None,
    prior: Float[ArrayLike, " K"] | None = None,
    key: PRNGKeyArray,
    samples: int | None = None,
    steps: int = 64,
    **options: Any,
) -> Any:
    """Two checks that can fail: the tracker runs along real labelled data, noised forward.

    On trajectories that a model made itself, entropy and cross-entropy agree whatever the model: the tracked
    posterior is exactly that of the chain. On data they agree only where the posterior is right.

    Arguments and errors as in `gap_entropy`; returns a `Calibration`, or a list for several partitions.
    """
    asked = _ask(denoiser, conditions, partition, prior, steps, Options(**options))
    chain = _chain(asked, on_data=True)
    found, samples, facts = _run_on(asked, chain, data, key, samples)
    facts |= {"source": "tracker on data"} | _facts(asked, key, samples)
    results = []
    for i in asked.numbers:
        column = _columns(found.moments[i])
        curve = _online_curve(asked, chain, found, i, facts, crossed=True)
        results.append(Calibration(curve, column["excess"], column["balance"]))
    return results if asked.many else results[0]


class PosteriorPaths(NamedTuple):
    """Tracked posteriors, path by path.

    Attributes:
        t, log_snr: (T,) the grid.
        log_posterior: (T, N, K) log p(c|path) of every condition.
        condition: (N,) number of the condition that each path was made for.
        log_ratio: (T, N) log p(path|condition)/p(path) by the unconditional network, or None without one.
        states: (T, N, ...) or None.
    """

    t: np.ndarray
    log_snr: np.ndarray
    log_posterior: np.ndarray
    condition: np.ndarray
    log_ratio: np.ndarray | None
    states: np.ndarray | None


def posterior_paths(
    denoiser: Denoiser,
    conditions: Sequence[Any],
    *,
    data: Data | None = None,
    prior: Float[ArrayLike, " K"] | None = None,
    tracker: str = "classes",
    guidance: Guidance | float | None = None,
    key: PRNGKeyArray,
    samples: int,
    steps: int = 64,
    drive: str = "class",
    guide: Denoiser | None = None,
    initial: Float[ArrayLike, "N ..."] | None = None,
    states: bool = False,
    **options: Any,
) -> PosteriorPaths:
    """The posteriors that `online_entropy` averages, kept path by path; on `data`, those of `gap_entropy`.

    The same key gives the same paths. With `states` their states are kept too, all N of them at all T times.
    Other arguments, and errors, as there.
    """
    asked = _ask(denoiser, conditions, None, prior, steps, Options(**options))
    keep = Kept(True, states)
    if data is not None:
        chain = _chain(asked, on_data=True)
        found, _, _ = _run_on(asked, chain, data, key, samples, keep=keep)
    else:
        chain = _tracking_chain(asked, tracker, drive, guidance, guide, None, initial is not None)
        first = None if initial is None else _states(asked, "initial", initial, samples)
        found = _run(asked, chain, key, samples, first=first, keep=keep)
    log_w, x = found.kept
    ratio = None
    if chain.reference is not None and not chain.same_condition:
        own = np.take_along_axis(log_w, found.z[None, :, None], axis=2)[:, :, 0]  # type: ignore[arg-type]
        ratio = own - asked.log_prior[found.z][None, :] - log_w[:, :, -1]  # type: ignore[index]
    return PosteriorPaths(
        t=asked.times,
        log_snr=schedule(denoiser.process, asked.times).log_snr,
        log_posterior=log_w[:, :, : chain.classes],  # type: ignore[index]
        condition=found.z,
        log_ratio=ratio,
        states=None if x is None else x.reshape(*x.shape[:2], *asked.shape),
    )


def evaluations(
    conditions: int,
    samples: int,
    steps: int,
    *,
    tracker: str = "classes",
    start: str = "state",
    guided: bool = False,
) -> int:
    """Network evaluations of `online_entropy` with that many conditions: what a run costs before it starts."""
    references = int(tracker != "classes" or guided)
    return samples * (steps + (start == "state")) * (conditions + references)


# ------------------------------------------------------------------------------------------- what is asked


@dataclasses.dataclass(frozen=True, eq=False)
class _Asked:
    """A question that has been checked.

    Attributes:
        denoiser: as handed in.
        conditions: those inside the decision, as a list; inside: their places in the list that was handed in.
        partitions: of those conditions, nobody outside; many: whether a list of curves is wanted.
        log_prior: (K,).
        times: (T,) the grid.
        shape: of one state.
        options: the rest.
    """

    denoiser: Denoiser
    conditions: list[Any]
    inside: np.ndarray
    partitions: tuple[Partition, ...]
    many: bool
    log_prior: np.ndarray
    times: np.ndarray
    shape: tuple[int, ...]
    options: Options

    @property
    def numbers(self) -> range:
        """Of the partitions."""
        return range(len(self.partitions))

    def cell_prior(self, number: int) -> np.ndarray:
        """(C,) prior of a partition's cells."""
        return np.bincount(self.partitions[number].labels, np.exp(self.log_prior))


def _ask(
    denoiser: Denoiser,
    conditions: Sequence[Any],
    partition: Partitions,
    prior: Any,
    steps: int,
    options: Options,
) -> _Asked:
    choose("start", options.start, STARTS)
    check_values(
        "within_variance", options.within_variance, "finite and >= 0", lambda v: np.isfinite(v) & (v >= 0)
    )
    if options.batch is not None and options.batch < 1:
        raise ValueError(f"batch must be >= 1, got {options.batch}")
    conditions = list(conditions)
    many = not (partition is None or isinstance(partition, Partition))
    partitions = _partitions(len(conditions), partition)
    inside = partitions[0].inside
    kept = tuple(Partition(p.labels[inside]) for p in partitions)
    return _Asked(
        denoiser, [conditions[i] for i in inside], inside, kept, many, _log_prior(len(conditions), prior, inside),
        _times(denoiser, steps, options), state_shape(denoiser, options.shape), options,
    )  # fmt: skip


def _partitions(conditions: int, partition: Partitions) -> list[Partition]:
    if conditions == 0:
        raise ValueError("conditions must name at least one condition, got none")
    found = [partition] if partition is None or isinstance(partition, Partition) else list(partition)
    partitions = [trivial_partition(conditions) if p is None else p for p in found]
    if not partitions:
        raise ValueError("partition must be a Partition or a list of at least one, got an empty list")
    for p in partitions:
        check_shape("partition.labels", p.labels, f"({conditions},), one a condition", [(conditions,)])
        if not np.array_equal(p.inside, partitions[0].inside):
            raise ValueError(
                "partitions asked about together must leave out the same conditions, since one set of trajectories "
                "answers them all; ask about them one at a time"
            )
    return partitions


def _log_prior(conditions: int, prior: Any, inside: np.ndarray) -> np.ndarray:
    """(K,) log prior of the conditions inside, normalised."""
    weights = np.full(conditions, 1 / conditions) if prior is None else np.asarray(prior, np.float64)
    check_shape("prior", weights, f"({conditions},), one a condition", [(conditions,)])
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


def check_samples(samples: int) -> int:
    """`samples`, if a standard error can be had of so many."""
    if samples < 2:
        raise ValueError(f"samples must be >= 2, got {samples}")
    return samples


def _states(asked: _Asked, name: str, x: Any, count: int | None = None) -> np.ndarray:
    """States (n, ...) that a person handed in, flat (n, d)."""
    x = np.asarray(x)
    if x.shape[1:] != asked.shape or (count is not None and len(x) != count):
        n = "n" if count is None else count
        raise ValueError(f"{name} must have shape ({n}, {', '.join(map(str, asked.shape))}), got {x.shape}")
    check_finite(name, x)
    return x.reshape(len(x), -1).astype(state_dtype(asked.denoiser))


def _guidance(guidance: Guidance | float | None) -> Guidance | None:
    if guidance is None:
        return None
    found = guidance if isinstance(guidance, Guidance) else cfg(guidance)
    return None if found.is_plain else found


def _tracking_chain(
    asked: _Asked,
    tracker: str,
    drive: str,
    guidance: Guidance | float | None,
    guide: Denoiser | None,
    shares: Any,
    given: bool,
) -> Chain:
    """The chain of `online_entropy`, from what a person handed in."""
    choose("tracker", tracker, TRACKERS)
    choose("drive", drive, DRIVES)
    schedule = _guidance(guidance)
    if drive != "class" and schedule is not None:
        raise ValueError(f'guidance pulls towards a class: drive must be "class", got {drive!r}')
    if given and drive == "class":
        raise ValueError(
            'initial states need drive="mixture" or "unconditional": a class has states of its own'
        )
    chain = _chain(asked, drive=drive, tracker=tracker, guidance=schedule, given=given)
    return _with_reference(asked, chain, guide, shares)


def _chain(
    asked: _Asked,
    *,
    drive: str = "class",
    tracker: str = "classes",
    guidance: Guidance | None = None,
    on_data: bool = False,
    given: bool = False,
) -> Chain:
    if tracker == "classes" and any(p.cells < 2 for p in asked.partitions):
        raise ValueError(
            'a decision needs at least two cells, got one; tracker="unconditional" asks about one class'
        )
    options, dtype = asked.options, state_dtype(asked.denoiser)
    rows = make_rows(
        asked.denoiser.process, asked.times,
        start=options.start, variance=options.within_variance, on_data=on_data, given=given,
    )  # fmt: skip
    return Chain(
        denoiser=as_pytree(asked.denoiser),
        reference=None,
        conditions=encode(asked.denoiser, asked.conditions),
        log_prior=jnp.asarray(asked.log_prior, dtype),
        rows=rows,
        decisions=tuple(Decision.of(partition) for partition in asked.partitions),
        guidance=guidance,
        shares=jnp.zeros(len(asked.conditions), dtype),
        drive=drive,
        tracker=tracker,
        shape=asked.shape,
        dtype=dtype,
        at_once=len(asked.conditions),
        exhaustive=len(set(map(str, asked.conditions))) == len(tuple(asked.denoiser.conditions)),
        same_condition=guidance is not None and guidance.reference == "guide",
    )


def _with_reference(asked: _Asked, chain: Chain, guide: Denoiser | None, shares: Any) -> Chain:
    """The chain with a denoiser of the unconditional law, where anything asks for one."""
    if chain.tracker == "classes" and chain.drive != "unconditional" and chain.guidance is None:
        return chain
    if chain.same_condition and (guide is None or chain.tracker != "classes"):
        raise ValueError("autoguidance needs the worse model, guide=..., and the tracker of classes")
    reference = getattr(asked.denoiser, "unconditional", None) if guide is None else guide
    if reference is None:
        raise ValueError(
            f"tracker={chain.tracker!r}, drive={chain.drive!r} and guidance need a denoiser of the unconditional law, "
            f"which {type(asked.denoiser).__name__} does not bring; pass guide=..."
        )
    labels = len(tuple(asked.denoiser.conditions))
    share = np.asarray(1 / max(labels, 1) if shares is None else shares, np.float64)
    if share.ndim:
        share = share[asked.inside] if share.shape == (max(asked.inside) + 1,) else share
    check_shape("shares", share, f"() or ({len(asked.conditions)},)", [(), (len(asked.conditions),)])
    check_values("shares", share, "in (0, 1]", lambda a: (a > 0) & (a <= 1))
    full = jnp.broadcast_to(jnp.asarray(share, chain.dtype), chain.log_prior.shape)
    return dataclasses.replace(chain, reference=as_pytree(reference), shares=full)


# ----------------------------------------------------------------------------------------------- what is found


def _run(asked: _Asked, chain: Chain, key: PRNGKeyArray, samples: int, **more: Any) -> Run:
    options = asked.options
    return run(
        chain, check_key(key), check_samples(samples),
        batch=options.batch, folder=options.folder, progress=options.progress, **more,
    )  # fmt: skip


def _run_on(
    asked: _Asked,
    chain: Chain,
    data: Data | None,
    key: PRNGKeyArray,
    samples: int | None,
    keep: Kept = NOTHING,
) -> tuple[Run, int, dict[str, Any]]:
    """The run along noised data (or the model's own samples), its size, and what it was made on."""
    check_key(key)
    if data is None:
        source = own_samples(chain, key, asked.times)
        samples, facts = 1024 if samples is None else samples, {"samples_of_x0": "the model's own"}
    else:
        x, labels = _states(asked, "data", data[0]), np.asarray(data[1])
        source, samples, facts = data_source(chain, key, x, _inside(asked, labels, len(x)), samples)
    return (
        _run(asked, chain, key, samples, source=source, facts=facts.get("hash", ""), keep=keep),
        samples,
        facts,
    )


def _inside(asked: _Asked, labels: np.ndarray, count: int) -> np.ndarray:
    """Labels as numbers of the conditions inside the decision, -1 for the others."""
    check_shape("data labels", labels, f"({count},), one a point", [(count,)])
    last = int(max(asked.inside.max(), 0))
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"data labels must be integers, numbers of conditions in their list, got {labels.dtype}"
        )
    check_values("data labels", labels, ">= -1", lambda a: a >= -1)
    places = np.full(max(last, int(labels.max(initial=0))) + 2, -1)
    places[asked.inside] = np.arange(len(asked.inside))
    return places[labels]


def _columns(moments: Moments) -> dict[str, Estimate]:
    """Each statistic over time, with its standard error."""
    stderr = moments.stderr
    names = (*COLUMNS, "integral")
    return {name: Estimate(moments.mean[:, i], stderr[:, i]) for i, name in enumerate(names)}


def _surprise_variance(moments: Moments, averaged_out: bool) -> np.ndarray:
    """Of -log p(Z|X): from the posterior where it is that of Z, else from the surprises themselves."""
    column = dict(zip(COLUMNS, moments.mean.T, strict=False))
    if averaged_out:
        return column["second_moment"] - column["entropy"] ** 2
    return moments.squares[:, COLUMNS.index("surprise")] / (moments.count - 1)


def _cells(
    moments: Moments, cells: int, counts: np.ndarray | None, integrals: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(T, C) surprise given each cell and its standard error; `counts` (C,) where the paths' own classes tell."""
    begin = len(COLUMNS) + 1 + cells * integrals
    part = slice(begin, begin + cells)
    mean, stderr = moments.mean[:, part], moments.stderr[:, part]
    if counts is None:
        return mean, stderr
    # Columns are zero for paths of other cells: back to sums over those of the cell.
    many = np.where(counts > 1, counts, np.nan)[None, :]
    total = moments.count * mean
    squares = moments.squares[:, part] + moments.count * mean**2
    variance = np.maximum(squares - total**2 / many, 0) / (many - 1)
    return total / np.where(counts > 0, counts, np.nan)[None, :], np.sqrt(variance / many)


def _online_curve(
    asked: _Asked, chain: Chain, found: Run, number: int, facts: Mapping[str, Any], crossed: bool = False
) -> EntropyCurve:
    moments, partition = found.moments[number], asked.partitions[number]
    column = _columns(moments)
    crossed = crossed or chain.guidance is not None
    averaged_out = not crossed and chain.tracker == "classes" and chain.drive == "class"
    counts = np.bincount(partition.labels[found.z], minlength=partition.cells)
    per_cell, per_cell_stderr = _cells(moments, partition.cells, None if averaged_out else counts)
    more: dict[str, Any] = {}
    if crossed:
        more = {"cross_entropy": column["surprise"].value, "cross_entropy_stderr": column["surprise"].stderr}
    if chain.tracker == "unconditional":
        share = np.bincount(partition.labels, np.asarray(chain.shares, np.float64))
        facts = dict(facts) | {"floor": [floor_of(s) for s in share]}
    return _curve(
        asked, chain, number, column["entropy"], column["rate"], facts,
        per_cell=per_cell, per_cell_stderr=per_cell_stderr,
        surprise_variance=_surprise_variance(moments, averaged_out),
        clone_agreement=1 - column["disagreement"].value, clone_agreement_stderr=column["disagreement"].stderr, **more,
    )  # fmt: skip


def _gap_curve(
    asked: _Asked, chain: Chain, found: Run, number: int, facts: Mapping[str, Any], crossed: bool
) -> EntropyCurve:
    moments, partition = found.moments[number], asked.partitions[number]
    column = _columns(moments)
    counts = np.bincount(partition.labels[found.z], minlength=partition.cells)
    per_cell, per_cell_stderr = _cells(moments, partition.cells, counts, integrals=True)
    surprise = {"cross_entropy": column["surprise"].value, "cross_entropy_stderr": column["surprise"].stderr}
    curve = _curve(
        asked, chain, number, column["integral"], column["own_rate"], facts,
        per_cell=per_cell, per_cell_stderr=per_cell_stderr,
        surprise_variance=_surprise_variance(moments, False),
        clone_agreement=1 - column["disagreement"].value, clone_agreement_stderr=column["disagreement"].stderr,
        **(surprise if crossed else {}),
    )  # fmt: skip
    head = curve.prior_entropy - column["entropy"].value[0]
    return dataclasses.replace(
        curve,
        metadata=dict(curve.metadata)
        | {
            "head": float(head),
            "integration_error": integration_error(curve.log_snr, column["own_rate"].value),
        },
    )


def integration_error(log_snr: np.ndarray, rate: np.ndarray) -> float:
    """How far the integral moves when every other time is left out: some 16 times the error of the whole grid."""
    if len(rate) < 4:
        return float("nan")
    fine, coarse = antiderivative(log_snr) @ rate, antiderivative(log_snr[::2]) @ rate[::2]
    return float(np.abs(fine[::2] - coarse).max())


def _curve(
    asked: _Asked,
    chain: Chain,
    number: int,
    entropy: Estimate,
    rate: Estimate,
    facts: Mapping[str, Any],
    **more: Any,
) -> EntropyCurve:
    grid = schedule(asked.denoiser.process, asked.times)
    prior = asked.cell_prior(number)
    if chain.tracker == "unconditional":
        prior = np.array([0.5, 0.5])
    elif chain.tracker == "share":
        share = np.bincount(asked.partitions[number].labels, np.asarray(chain.shares, np.float64)) @ prior
        prior = np.array([share, 1 - share])
    per_time = -grid.log_snr_slope  # rates come per unit of -log γ
    return EntropyCurve(
        t=grid.t,
        log_snr=grid.log_snr,
        log_snr_slope=grid.log_snr_slope,
        entropy=entropy.value,
        entropy_stderr=entropy.stderr,
        rate=per_time * rate.value,
        rate_stderr=per_time * rate.stderr,
        prior_entropy=float(-np.sum(prior[prior > 0] * np.log(prior[prior > 0]))),
        metadata={**facts, "cells": asked.partitions[number].cells},
        **more,
    )


def _described(guidance: Guidance | None) -> Any:
    return None if guidance is None else guidance.to_dict()


def _facts(asked: _Asked, key: PRNGKeyArray, samples: int) -> dict[str, Any]:
    """What it takes to compute the curve again."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return {
        "denoiser": type(asked.denoiser).__name__,
        "conditions": [c if isinstance(c, str) else int(c) for c in asked.conditions],
        "prior": np.exp(asked.log_prior).tolist(),
        "process": asked.denoiser.process.describe(),
        "samples": samples,
        "steps": len(asked.times),
        "start": asked.options.start,
        "within_variance": float(asked.options.within_variance),
        "shape": list(asked.shape),
        "dtype": str(state_dtype(asked.denoiser)),
        "key": np.asarray(jax.random.key_data(key) if typed else key).tolist(),
        **versions(),
    }
