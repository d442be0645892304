r"""Guided paths of mixtures (reverse SDE and probability flow, any schedule), and the class entropy along them.

The denoisers are exact, D_c = E[x_0|x_t, target] and D_0 = E[x_0|x_t], and so is the likelihood ratio that some
schedules need. A mixture reduced to the span of its means is a mixture, and the guidance vector lies in that span,
so that the same functions work for 10^6 dimensions at the cost of a few. Their steps are in `gmm.guided_steps`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from scipy.special import entr

from gmm.checks import check_count, check_index, check_values, choose
from gmm.clock import noise_at, schedule, times_at
from gmm.curve import EntropyCurve, versions
from gmm.decision import MixtureDecision, decide
from gmm.dynamics import check_path, check_states, reverse_sde, rows_at_once, time_grid
from gmm.guidance import Guidance
from gmm.guided_steps import Target, averages, end_states, paths, table_of
from gmm.keys import check_key, key_numbers
from gmm.mixture import Mixture
from gmm.partition import Partition, partition_of
from gmm.process import Process
from gmm.samplers import FIRST_RHO, SAMPLERS, Sampler

# From this many components on, paths without guidance have a separate program, which skips the other components.
PLAIN_PAYS = 256


def guided_paths(
    mixture: Mixture,
    process: Process,
    times: Float[ArrayLike, " T"],
    x: Float[ArrayLike, "n d"],
    guidance: Guidance,
    *,
    target: int,
    key: PRNGKeyArray,
    sampler: Sampler = "sde",
    partition: Partition | None = None,
    guide: Mixture | None = None,
) -> Float[Array, "T n d"]:
    """Guided paths from x at times[0], one step for each time.

    Args:
        mixture: law of x_0; `reduce` it first where its covariance is shared.
        process: forward process.
        times: (T,) falling times with finite log-SNR; levels at which the schedule jumps should be among them.
        x: (n, d) states at times[0].
        guidance: schedule.
        target: cell (component, without a partition) to guide towards.
        key: JAX random key; the flow does not use it.
        sampler: "sde" for the reverse SDE, "flow" for the probability flow (classical Runge-Kutta steps).
        partition: the cells; components outside a restricted partition are left out of the mixture.
        guide: reference mixture of autoguidance: as many components as the mixture, in its order.

    Returns:
        (T, n, d) states at `times`, x first.

    Raises:
        ValueError: on times that do not fall or have infinite log-SNR, a target that is unknown or of probability
            zero, states of another shape, or a guide that is missing or of another shape.
    """
    choose("sampler", sampler, SAMPLERS)
    task = _target(mixture, guidance, target, partition, guide)
    times = check_path(process, times, falling=True)
    process.check_times(times)
    x = check_states(x, mixture)
    if guidance.is_plain and sampler == "sde":
        component = 0 if task.inside.components == 1 else None
        return reverse_sde(task.inside, process, times, x, key, component=component, kernel="exact")
    table = table_of(process, times, guidance)
    return paths(task, process, table, x, check_key(key), sampler)


def guided_entropy(
    mixture: Mixture,
    process: Process,
    times: Float[ArrayLike, " T"],
    guidance: Guidance,
    *,
    target: int,
    key: PRNGKeyArray,
    samples: int,
    steps: int,
    sampler: Sampler = "sde",
    partition: Partition | None = None,
    guide: Mixture | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EntropyCurve:
    """Entropy of the unguided posterior along guided paths, and the cross-entropy E[-log p(target|x_t)].

    Paths start from the exact p_t(x|target) where the class is undecided: at ρ = 1e-4 (the flow at 1e-8), or at the
    noisy end of the process if that comes first. w = 1 is the plain conditional path. `rate` is the exact
    derivative of the entropy along the paths' law, E of the generator applied to H, without differences.
    Unlike `class_entropy` these are plain averages over paths: where fewer than one path in `samples` is
    undecided, values and standard errors are both too small.

    Args:
        mixture: law of x_0; `reduce` it first where its covariance is shared.
        process: forward process.
        times: (T,) times in any order, where log_snr is finite.
        guidance: schedule.
        target: cell (component, without a partition) to guide towards.
        key: JAX random key.
        samples: paths, >= 2; rounded up to whole blocks where they do not fit into one.
        steps: steps from the start to the smallest time, equal in log-SNR; `times` and jumps of the schedule come
            on top.
        sampler: "sde" for the reverse SDE, "flow" for the probability flow.
        partition: the cells; None makes every component a cell. Components outside a restricted partition are
            left out.
        guide: reference mixture of autoguidance.
        progress: called with (blocks done, blocks in all).

    Returns:
        A curve with entropy, rate, cross_entropy and clone_agreement along guided paths; metadata has `mean_weight`,
        E w at each point.

    Raises:
        ValueError: as `guided_paths`, or on fewer than two cells, samples < 2 or steps < 1.
    """
    choose("sampler", sampler, SAMPLERS)
    check_count("samples", samples, 2)
    check_count("steps", steps)
    task = _target(mixture, guidance, target, partition, guide)
    grid = schedule(process, times)
    path = _path_times(task, process, grid.t, guidance, steps, sampler)
    table = table_of(process, path, guidance)
    observed = np.isin(path[1:], grid.t)
    mean, stderr = averages(task, process, table, observed, check_key(key), samples, sampler, progress)
    order = np.searchsorted(-path[1:][observed], -grid.t)
    entropy, cross, agreement, rate, weight = mean[:, order]
    prior = np.asarray(task.decision.prior, np.float64)
    return EntropyCurve(
        t=grid.t,
        log_snr=grid.log_snr,
        log_snr_slope=grid.log_snr_slope,
        entropy=entropy,
        entropy_stderr=stderr[0, order],
        rate=rate,
        rate_stderr=stderr[3, order],
        prior_entropy=float(entr(prior).sum()),
        clone_agreement=agreement,
        clone_agreement_stderr=stderr[2, order],
        cross_entropy=cross,
        cross_entropy_stderr=stderr[1, order],
        metadata={
            "source": f"guided {sampler}",
            "route": "sampled",
            "process": process.describe(),
            "guidance": guidance.as_dict(),
            "target": int(target),
            **_facts_of(task.decision, key),
            "samples": samples,
            "steps": steps,
            "first_log_snr": -2 * float(noise_at(process, path[0])),
            "mean_weight": weight.tolist(),
            **versions(),
        },
    )


def guided_samples(
    mixture: Mixture,
    process: Process,
    guidance: Guidance,
    *,
    target: int,
    key: PRNGKeyArray,
    samples: int,
    steps: int,
    end: float | None = None,
    sampler: Sampler = "sde",
    partition: Partition | None = None,
    guide: Mixture | None = None,
) -> Float[Array, "n d"]:
    """States at `end` of guided paths that start where the class is undecided.

    The same key gives the same noise under every schedule, so that schedules can be compared path by path. Under w =
    1 the law of the reverse SDE's states is p_end(x|target) itself, at any number of steps.

    Args:
        mixture: law of x_0; `reduce` it first where its covariance is shared.
        process: forward process.
        guidance: schedule.
        target: cell (component, without a partition) to guide towards.
        key: JAX random key.
        samples: paths, >= 1.
        steps: steps from the start to `end`, equal in log-SNR; jumps of the schedule come on top.
        end: time to stop at, where log-SNR is finite; None for `last_time`.
        sampler: "sde" for the reverse SDE, "flow" for the probability flow.
        partition: the cells; None makes every component a cell.
        guide: reference mixture of autoguidance.

    Returns:
        (samples, d) states at `end`.

    Raises:
        ValueError: as `guided_entropy`.
    """
    choose("sampler", sampler, SAMPLERS)
    check_count("samples", samples)
    check_count("steps", steps)
    task = _target(mixture, guidance, target, partition, guide)
    end = last_time(mixture, process) if end is None else float(end)
    process.check_times(end, "end")
    path = _path_times(task, process, np.array([end]), guidance, steps, sampler)
    table = table_of(process, path, guidance)
    blocks = -(-samples // rows_at_once(task.decision.mixture))
    size = -(-samples // blocks)
    keys = jax.random.split(check_key(key), blocks)
    name = f"plain {sampler}" if guidance.is_plain and mixture.components >= PLAIN_PAYS else sampler
    parts = [end_states(task, process, table, key, size=size, sampler=name) for key in keys]
    return jnp.concatenate(parts)[:samples]


def last_time(mixture: Mixture, process: Process) -> float:
    """The time at which σ/α is a hundredth of the smallest standard deviation of a component, or the process's last.

    The remaining noise widens every component by at most 5e-5 of its width. Where a component has no width,
    σ/α is a ten-thousandth of the length of the longest mean.
    """
    spread = math.sqrt(float(jnp.min(mixture.covariance.eigenvalues(mixture.dim))))
    level = 0.01 * spread if spread > 0 else 1e-4 * float(jnp.linalg.norm(mixture.means, axis=1).max())
    return max(float(times_at(process, math.log(level))), process.t_min)


# ---------------------------------------------------------------------------------------------- inner parts


def _facts_of(decision: MixtureDecision, key: PRNGKeyArray) -> dict[str, object]:
    mixture = decision.mixture
    return {
        "components": mixture.components,
        "cells": decision.cells,
        "dim": mixture.dim,
        "dtype": str(mixture.dtype),
        "key": key_numbers(key).tolist(),
    }


def _target(
    mixture: Mixture, guidance: Guidance, target: int, partition: Partition | None, guide: Mixture | None
) -> Target:
    partition = partition_of(mixture.components, partition, least=2)
    check_index("target", target, partition.cells, "a cell")
    decision = decide(mixture, partition)
    check_values(f"the probability of target {target}", decision.prior[target], "positive", lambda p: p > 0)
    members = np.flatnonzero(partition.labels == target)
    if (guidance.reference == "guide") != (guide is not None):
        needs = "needs a second mixture; pass guide=..." if guide is None else "takes no guide; leave it out"
        raise ValueError(f"guidance of kind {guidance.kind!r} {needs}")
    if guide is not None and guide.means.shape != mixture.means.shape:
        raise ValueError(f"guide must have means of shape {mixture.means.shape}, got {guide.means.shape}")
    state_schedule = guidance if guidance.of_state else None
    log_prior = jnp.log(decision.prior[target])
    inside = mixture.take(members)
    return Target(
        decision, inside, guide and guide.take(members), state_schedule, jnp.asarray(target), log_prior
    )


def _path_times(
    task: Target, process: Process, times: np.ndarray, guidance: Guidance, steps: int, sampler: Sampler
) -> np.ndarray:
    """Falling times: `steps` equal steps in log-SNR, `times`, and where the schedule jumps."""
    means = np.asarray(task.decision.mixture.means, np.float64)
    weights = np.asarray(task.decision.mixture.weights, np.float64)
    energy = np.sum((means - weights @ means) ** 2, axis=1).max()
    first = -0.5 * np.log(FIRST_RHO[sampler] / max(energy, np.finfo(float).tiny))
    start = float(times_at(process, max(first, noise_at(process, times).max())))
    start = max(min(start, _noisiest(process)), float(times.max()))
    end = float(times.min())
    grid = time_grid(process, start, end, steps) if start > end else np.array([start])
    jumps = np.array([level for level in guidance.jumps if 0 < level < np.inf])
    if jumps.size:
        at = times_at(process, np.log(jumps))
        grid = np.concatenate([grid, at[(at > end) & (at < start)]])
    path = np.unique(np.concatenate([grid, times]))[::-1]
    # Only the ends of steps are recorded: a step of length zero where the start itself is among `times`.
    return np.concatenate([path[:1], path]) if path[0] in times else path


def _noisiest(process: Process) -> float:
    """The largest time with finite log-SNR."""
    end = process.t_max
    if not np.isfinite(end):
        return np.inf
    return float(end) if np.isfinite(noise_at(process, end)) else float(np.nextafter(end, 0))
