r"""H[Z|X_t] of any denoiser: the posterior tracked along its own trajectories, and the integral of the denoiser gap.

docs/explanation/estimators.md explains the method; the formulas are in `tracking` (the step) and `trackers`
(posteriors and rates).
Every number has a standard error. Where fewer than about thirty trajectories are undecided, the value is too small more
often than not, and its error is unknown (NaN): rarer events are only seen with more trajectories.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from gmm.checks import check_values
from gmm.clock import schedule
from gmm.curve import EntropyCurve
from gmm.estimate import Estimate
from gmm.guidance import Guidance
from gmm.keys import check_key
from neural.denoiser import Denoiser
from neural.estimators.chain import Chain, Kept
from neural.estimators.curves import described, estimates_of, facts_of, gap_curve, online_curve
from neural.estimators.inputs import (
    Data,
    Inputs,
    Options,
    Partitions,
    check_samples,
    check_stochastic,
    labels_inside,
    make_inputs,
    plain_chain,
    states_of,
    tracking_chain,
)
from neural.estimators.overloads import one_or_several
from neural.estimators.runs import KEEP_NOTHING, Run, joined, run
from neural.estimators.sources import data_source, own_samples
from neural.estimators.stopping import expected_total, half_error, next_total

# Trajectories of the first group where a precision is asked for: fewer seldom know their own error.
GROUP = 64


@one_or_several
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
    precision: float | None = None,
    steps: int = 64,
    drive: str = "class",
    guide: Denoiser | None = None,
    shares: Float[ArrayLike, "..."] | None = None,
    initial: Float[ArrayLike, "N ..."] | None = None,
    eta: float = 1.0,
    **options: Any,
) -> EntropyCurve | list[EntropyCurve]:
    """The class entropy from the posterior tracked along stochastic reverse trajectories of the model itself.

    A class is drawn from the prior and its denoiser followed, which samples the marginal exactly. The tracked posterior
    is that of the discrete chain, whose steps gain slightly more information than the diffusion: `entropy` is too small
    by a term of first order in the step (docs/explanation/estimators.md has its exact law for isotropic classes).

    Args:
        denoiser: any denoiser.
        conditions: K conditions, the classes of the decision.
        partition: cells of the conditions, one label each (-1 leaves a condition out, and the prior is conditioned
            on the rest); or several partitions of the same conditions, which share one set of trajectories.
        prior: (K,) probabilities of the conditions; uniform by default.
        tracker: "classes"; "unconditional", the published map, whose entropy keeps a floor; or "share". The formulas
            are in `neural.estimators.trackers`.
        guidance: schedule of `gmm.guidance`, or a weight w. Trajectories are then guided to their class; the curve's
            `entropy` is that of the unguided posterior along them, `cross_entropy` the mean surprise of the class
            they were guided to.
        key: JAX random key.
        samples: number of trajectories N, >= 2.
        precision: standard error in log(σ/α) of half entropy at which no more trajectories are computed; `samples` is
            then their largest number, and `metadata` says in `samples` how many there were and in `reached` whether
            they were enough. None for all of them.
        steps: number of times of the grid, and of evaluations per trajectory.
        drive: "class"; or "mixture", "unconditional": the drawn class is then not that of the path.
        guide: denoiser of the unconditional law, called without a condition (under autoguidance: the worse model,
            called with the condition); by default the denoiser's `unconditional`.
        shares: () or (K,) share of each class among the unconditional network's labels; by default equal.
        initial: (N, ...) states at the first time, for drives other than "class".
        eta: noise of the sampler; only 1 is supported, because with less noise the increments along a path are not
            those of the diffusion's likelihood ratio.
        **options: see `Options`.

    Returns:
        EntropyCurve with one point per time, first to last; for several partitions a list of them. `rate` averages
        denoiser gaps along the trajectories; it is not a difference of entropies.

    Raises:
        ValueError: when a condition is unknown, a partition or prior does not fit, a denoiser for the reference is
            missing, the sampler is not stochastic, precision is not positive, or the denoiser returns something that is
            not finite.
    """
    check_stochastic(eta)
    check_values("precision", 1.0 if precision is None else precision, "positive", lambda v: v > 0)
    inputs = make_inputs(denoiser, conditions, partition, prior, steps, Options(**options))
    chain = tracking_chain(inputs, tracker, drive, guidance, guide, shares, initial is not None)
    first = None if initial is None else states_of(inputs, "initial", initial, check_samples(samples))
    facts = {"source": "online posterior", "route": "online", "tracker": tracker, "drive": drive}
    facts |= {"guidance": described(chain.guidance)}

    def curves(result: Run) -> list[EntropyCurve]:
        every = facts | facts_of(inputs, key, len(result.z))
        return [online_curve(inputs, chain, result, i, every) for i in inputs.numbers]

    if precision is None:
        found = curves(_run(inputs, chain, key, samples, first=first))
    else:
        found = _until_precise(inputs, chain, key, check_samples(samples), precision, curves, first)
    return found if inputs.many else found[0]


@one_or_several
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
) -> EntropyCurve | list[EntropyCurve]:
    """The class entropy from the I-MMSE integral H(γ) = H(γ_T) - ½ ∫ E‖D_Z - D‖² dγ over noised samples.

    Samples are noised along whole paths, and the posterior in D = Σ_c p(c|x) D_c is tracked along them; errors of the
    posterior enter the integrand in second order. H(γ_T) is the posterior entropy at the first time. The head,
    H[Z] - H(γ_T), is the information that the state has there already. Standard errors are those of independent paths,
    each with its own integral. The error of the quadrature (a cubic spline in log γ) is in
    `metadata["integration_error"]`.

    Args:
        denoiser: any denoiser.
        conditions: K conditions, the classes of the decision.
        data: x_0 (m, ...) and labels (m,): the conditions of the points, or their positions in the list `conditions`
            with -1 for points to leave out; see `Options.labels` and `metadata["labels"]`. Every point is used for at
            most one path while its class has unused points; after that, points are used again, and the error bars
            describe these data and not the law that they were drawn from. None: the model's own samples, by Heun's
            sampler.
        partition: as in `online_entropy`.
        prior: as in `online_entropy`.
        key: JAX random key.
        samples: number of paths N, >= 2; by default 1024, or as many as use each point of the data at most once.
        steps: number of times of the grid.
        **options: see `Options`.

    Returns:
        EntropyCurve, or a list of them, as in `online_entropy`; on data with the tracker's `cross_entropy`.

    Raises:
        ValueError: as `online_entropy`, and when a class has no data.
    """
    inputs = make_inputs(denoiser, conditions, partition, prior, steps, Options(**options))
    chain = plain_chain(inputs, on_data=True)
    result, samples, facts = _run_on(inputs, chain, data, key, samples)
    facts |= {"source": "denoiser gap", "route": "gap"} | facts_of(inputs, key, samples)
    curves = [gap_curve(inputs, chain, result, i, facts, data is not None) for i in inputs.numbers]
    return curves if inputs.many else curves[0]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Whether a network's posterior is calibrated on data.

    Attributes:
        curve: the tracker's `entropy` and `cross_entropy` along paths of noised data.
        excess: (T,) cross-entropy minus entropy in nats, with the standard error of the paired difference; a positive
            value means overconfidence. Finite steps alone make it slightly positive.
        balance: (T,) γ (E‖x_0-D‖² - E‖x_0-D_c‖² - E‖D_c-D‖²); zero where D_c is the posterior mean.
    """

    curve: EntropyCurve
    excess: Estimate
    balance: Estimate

    def passes(self, tolerance: float = 0.02, stderrs: float = 4.0) -> bool:
        """Whether |excess| stays below `tolerance` times the prior entropy and `stderrs` standard errors, everywhere.

        The tolerance allows for finite steps, not for errors of the network: halve the steps to see which it is.
        Where an error is unknown, the largest known one stands for it; without a known error the result is False.
        """
        stderr = np.nan_to_num(self.excess.stderr, nan=np.fmax.reduce(self.excess.stderr))
        allowed = tolerance * self.curve.prior_entropy + stderrs * stderr
        return bool(np.all(np.abs(self.excess.value) <= allowed))


@one_or_several
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
) -> Calibration | list[Calibration]:
    """A `Calibration`, or a list for several partitions: the tracked posterior against real labelled data.

    On trajectories that a model made itself, entropy and cross-entropy agree for every model, because the tracked
    posterior is exactly that of the chain. On noised data they agree only where the posterior is right.

    Arguments and errors are those of `gap_entropy`.
    """
    inputs = make_inputs(denoiser, conditions, partition, prior, steps, Options(**options))
    chain = plain_chain(inputs, on_data=True)
    result, samples, facts = _run_on(inputs, chain, data, key, samples)
    facts |= {"source": "tracker on data", "route": "online"} | facts_of(inputs, key, samples)
    results = []
    for i in inputs.numbers:
        column = estimates_of(chain, result, i)
        curve = online_curve(inputs, chain, result, i, facts, crossed=True)
        results.append(Calibration(curve, column["excess"], column["balance"]))
    return results if inputs.many else results[0]


class PosteriorPaths(NamedTuple):
    """Tracked posteriors of every path.

    Attributes:
        t, log_snr: (T,) the grid.
        log_posterior: (T, N, K) log p(c|path) of every condition.
        condition: (N,) position of each path's condition in the list.
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
    """The posteriors of every path that `online_entropy` averages; with `data`, those of `gap_entropy`.

    The same key gives the same paths. With `states=True` the states are kept too, all N at all T times.
    Other arguments and errors are those of `online_entropy` and `gap_entropy`.
    """
    inputs = make_inputs(denoiser, conditions, None, prior, steps, Options(**options))
    keep = Kept(True, states)
    if data is not None:
        chain = plain_chain(inputs, on_data=True)
        result, _, _ = _run_on(inputs, chain, data, key, samples, keep=keep)
    else:
        chain = tracking_chain(inputs, tracker, drive, guidance, guide, None, initial is not None)
        first = None if initial is None else states_of(inputs, "initial", initial, samples)
        result = _run(inputs, chain, key, samples, first=first, keep=keep)
    log_w, x = result.kept
    ratio = None
    if chain.reference is not None and not chain.same_condition:
        of_class = np.take_along_axis(log_w, result.z[None, :, None], axis=2)[:, :, 0]  # type: ignore[arg-type]
        ratio = of_class - inputs.log_prior[result.z][None, :] - log_w[:, :, -1]  # type: ignore[index]
    return PosteriorPaths(
        t=inputs.times,
        log_snr=schedule(denoiser.process, inputs.times).log_snr,
        log_posterior=log_w[:, :, : chain.classes],  # type: ignore[index]
        condition=result.z,
        log_ratio=ratio,
        states=None if x is None else x.reshape(*x.shape[:2], *inputs.shape),
    )


# ------------------------------------------------------------------------------------------------ runs


def _run(inputs: Inputs, chain: Chain, key: PRNGKeyArray, samples: int, **more: Any) -> Run:
    options = inputs.options
    return run(
        chain, check_key(key), check_samples(samples),
        batch=options.batch, folder=options.folder, progress=options.progress, **more,
    )  # fmt: skip


def _until_precise(
    inputs: Inputs,
    chain: Chain,
    key: PRNGKeyArray,
    samples: int,
    precision: float,
    curves_of: Callable[[Run], list[EntropyCurve]],
    first: Any,
) -> list[EntropyCurve]:
    """The curves of groups of trajectories, until half entropy is known as precisely as asked."""
    parts, total, expected, progress = [], 0, GROUP, inputs.options.progress
    while True:
        wanted = next_total(total, GROUP, samples, precision)
        whole = max(expected, wanted)
        told = None if progress is None else lambda done, _, whole=whole: progress(done, whole)
        options = dataclasses.replace(inputs.options, progress=told)
        ours = dataclasses.replace(inputs, options=options)
        parts.append(_run(ours, chain, key, wanted, begin=total, first=first))
        total = wanted
        curves = curves_of(joined(parts))
        error = max(half_error(curve) for curve in curves)
        if error <= precision or total >= samples:
            break
        expected = expected_total(total, samples, error, precision)
    if progress is not None:
        progress(total, total)
    facts = {"precision": precision, "reached": error <= precision}
    return [dataclasses.replace(curve, metadata={**curve.metadata, **facts}) for curve in curves]


def _run_on(
    inputs: Inputs,
    chain: Chain,
    data: Data | None,
    key: PRNGKeyArray,
    samples: int | None,
    keep: Kept = KEEP_NOTHING,
) -> tuple[Run, int, dict[str, Any]]:
    """The run along noised data (or the model's own samples), the number of paths, and facts about the data."""
    check_key(key)
    if data is None:
        source = own_samples(chain, key, inputs.times)
        samples, facts = 1024 if samples is None else samples, {"samples_of_x0": "the model's own"}
    else:
        x = states_of(inputs, "data", data[0])
        labels, reading = labels_inside(inputs, np.asarray(data[1]), len(x))
        source, samples, facts = data_source(chain, key, x, labels, samples)
        facts |= {"labels": reading}
    return (
        _run(inputs, chain, key, samples, source=source, facts=facts.get("hash", ""), keep=keep),
        samples,
        facts,
    )
