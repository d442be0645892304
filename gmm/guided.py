r"""Guided paths of mixtures: reverse SDE and probability flow under any schedule, and what they do to a decision.

The denoisers are exact, D_c = E[x_0|x_t, target] and D_0 = E[x_0|x_t], and so is the likelihood ratio that some
schedules ask for. A mixture reduced to the span of its means is a mixture: the guidance vector lies in that span,
so the same functions serve 10^6 dimensions at the cost of a few.

Reverse SDE, a step in λ = log γ: the plain conditional step, which is exact at any length, plus what guidance adds
to it, dx = (w-1) α (D_c - D_0) dλ, by the trapezoid rule along the step (a predictor, then the average of both
ends, the first carried along by the conditional dynamics): of second order in the step, and of no effect at w = 1.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from scipy.special import entr

from gmm.checks import check_shape, check_values, choose
from gmm.curve import EntropyCurve, versions
from gmm.decision import Decision, decide
from gmm.dynamics import (
    Steps,
    check_path,
    check_states,
    in_float64,
    reverse_sde,
    reverse_step,
    rows_at_once,
    steps_of,
    time_grid,
)
from gmm.entropy import schedule
from gmm.guidance import Guidance, gap_of, steer
from gmm.mixture import Mixture, check_key, denoise, diffuse, log_normalise, posterior_logits, sample
from gmm.partition import Partition, trivial_partition
from gmm.posterior_statistics import per_point, posterior
from gmm.process import Process

SAMPLERS = ("sde", "flow")
# Paths start where ρ, the largest squared distance of a mean from the centre in units of the noise, is this. What
# guidance would have done before then shifts a state by (w-1) √ρ of its spread; the flow keeps that shift, the SDE
# has forgotten all but (w-1) ρ/√ρ' of it at ρ'.
FIRST_RHO = {"sde": 1e-4, "flow": 1e-8}


# From this many components on paths without guidance have a program of their own, which does not look at the others.
PLAIN_PAYS = 256


class Target(NamedTuple):
    """What paths are guided towards, and how; a pytree.

    Attributes:
        decision: the mixture, cell by cell.
        inside: the target's components alone.
        guide: reference mixture of autoguidance, its components of the target alone; None for the mixture itself.
        schedule: where its weight depends on the state; else the table of steps has it.
        index: () the target's cell.
        log_prior: () log prior of the target.
    """

    decision: Decision
    inside: Mixture
    guide: Mixture | None
    schedule: Guidance | None
    index: Array
    log_prior: Array


class _Table(NamedTuple):
    """A row for each step, (steps,) each.

    Attributes:
        steps: times and reverse kernels.
        after: time that the step ends at.
        middle: time in the middle of `clock`.
        length: of the step in log γ.
        clock: length in u = log(1 + α/σ), the flow's clock.
        level: σ/α in the middle of its log γ; weights that jump do so between steps.
        weight: w there, for schedules of the level alone.
        weight_after: w at its end, likewise.
    """

    steps: Steps
    after: Float[Array, " steps"]
    middle: Float[Array, " steps"]
    length: Float[Array, " steps"]
    clock: Float[Array, " steps"]
    level: Float[Array, " steps"]
    weight: Float[Array, " steps"]
    weight_after: Float[Array, " steps"]


def guided_paths(
    mixture: Mixture,
    process: Process,
    times: Float[ArrayLike, " T"],
    x: Float[ArrayLike, "n d"],
    guidance: Guidance,
    *,
    target: int,
    key: PRNGKeyArray,
    sampler: Literal["sde", "flow"] = "sde",
    partition: Partition | None = None,
    guide: Mixture | None = None,
) -> Float[Array, "T n d"]:
    """Guided paths from x at times[0], one step a time.

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
    table = in_float64(lambda process, t: _table(process, t, guidance), process, times)
    return _paths(task, process, table, x, check_key(key), sampler)


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
    sampler: Literal["sde", "flow"] = "sde",
    partition: Partition | None = None,
    guide: Mixture | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EntropyCurve:
    """Entropy of the unguided posterior along guided paths, and the cross-entropy E[-log p(target|x_t)].

    Paths start from the exact p_t(x|target) where nothing is decided: at ρ = 1e-4 (the flow at 1e-8), or at the
    noisy end of the process if that comes first. w = 1 is the plain conditional path. `rate` is the exact
    derivative of the entropy along the paths' law, E of the generator applied to H: nothing is differenced.
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
    if samples < 2 or steps < 1:
        raise ValueError(f"samples must be >= 2 and steps >= 1, got {samples} and {steps}")
    task = _target(mixture, guidance, target, partition, guide)
    grid = schedule(process, times)
    path = _path_times(task, process, grid.t, guidance, steps, sampler)
    table = in_float64(lambda process, t: _table(process, t, guidance), process, path)
    seen = np.isin(path[1:], grid.t)
    mean, stderr = _averages(task, process, table, seen, check_key(key), samples, sampler, progress)
    order = np.searchsorted(-path[1:][seen], -grid.t)
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
            "process": process.describe(),
            "guidance": guidance.to_dict(),
            "target": int(target),
            "components": mixture.components,
            "cells": task.decision.cells,
            "dim": mixture.dim,
            "dtype": str(mixture.dtype),
            "samples": samples,
            "steps": steps,
            "first_log_snr": float(in_float64(lambda p, t: p.log_snr(t), process, path[0])),
            "mean_weight": weight.tolist(),
            "key": np.asarray(_key_data(key)).tolist(),
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
    sampler: Literal["sde", "flow"] = "sde",
    partition: Partition | None = None,
    guide: Mixture | None = None,
) -> Float[Array, "n d"]:
    """What guided sampling makes: states at `end` of paths that start where nothing is decided.

    The same key gives the same noise under every schedule: schedules are compared path by path. Under w = 1 the law
    of the reverse SDE's states is p_end(x|target) itself, at any number of steps.

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
    if samples < 1 or steps < 1:
        raise ValueError(f"samples and steps must be >= 1, got {samples} and {steps}")
    task = _target(mixture, guidance, target, partition, guide)
    end = last_time(mixture, process) if end is None else float(end)
    process.check_times(end, "end")
    path = _path_times(task, process, np.array([end]), guidance, steps, sampler)
    table = in_float64(lambda process, t: _table(process, t, guidance), process, path)
    blocks = -(-samples // rows_at_once(task.decision.mixture))
    size = -(-samples // blocks)
    keys = jax.random.split(check_key(key), blocks)
    name = f"plain {sampler}" if guidance.is_plain and mixture.components >= PLAIN_PAYS else sampler
    found = [_end_states(task, process, table, key, size=size, sampler=name) for key in keys]
    return jnp.concatenate(found)[:samples]


def last_time(mixture: Mixture, process: Process) -> float:
    """Where σ/α is a hundredth of the smallest standard deviation of a component, or the clean end of the process.

    What is left of the noise widens every component by 5e-5 of its width at most. Where a component has no width,
    σ/α is a ten-thousandth of the length of the longest mean.
    """
    spread = math.sqrt(float(jnp.min(mixture.covariance.eigenvalues(mixture.dim))))
    level = 0.01 * spread if spread > 0 else 1e-4 * float(jnp.linalg.norm(mixture.means, axis=1).max())
    t = in_float64(lambda p, v: p.time_at_log_snr(v), process, np.array(-2 * np.log(level)))
    return max(float(t), process.t_min)


# ---------------------------------------------------------------------------------------------- inner parts


def _key_data(key: PRNGKeyArray) -> Array:
    return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key


def _target(
    mixture: Mixture, guidance: Guidance, target: int, partition: Partition | None, guide: Mixture | None
) -> Target:
    partition = trivial_partition(mixture.components) if partition is None else partition
    shape = (mixture.components,)
    check_shape("partition.labels", partition.labels, f"{shape}, one a component", [shape])
    if partition.cells < 2:
        raise ValueError("partition must have at least two cells for a decision, got one")
    known = f"a cell 0..{partition.cells - 1}"
    whole = lambda c: np.issubdtype(c.dtype, np.integer) & (c >= 0) & (c < partition.cells)
    check_values("target", target, known, whole)
    decision = decide(mixture, partition)
    check_values(f"the probability of target {target}", decision.prior[target], "positive", lambda p: p > 0)
    members = np.flatnonzero(partition.labels == target)
    if (guidance.reference == "guide") != (guide is not None):
        needs = "needs a second mixture; pass guide=..." if guide is None else "takes no guide; leave it out"
        raise ValueError(f"guidance of kind {guidance.kind!r} {needs}")
    if guide is not None and guide.means.shape != mixture.means.shape:
        raise ValueError(f"guide must have means of shape {mixture.means.shape}, got {guide.means.shape}")
    kept = guidance if guidance.of_state else None
    log_prior = jnp.log(decision.prior[target])
    inside = mixture.take(members)
    return Target(decision, inside, guide and guide.take(members), kept, jnp.asarray(target), log_prior)


def _path_times(
    task: Target, process: Process, times: np.ndarray, guidance: Guidance, steps: int, sampler: str
) -> np.ndarray:
    """Falling times: `steps` equal steps in log-SNR, `times`, and where the schedule jumps."""
    means = np.asarray(task.decision.mixture.means, np.float64)
    weights = np.asarray(task.decision.mixture.weights, np.float64)
    energy = np.sum((means - weights @ means) ** 2, axis=1).max()
    log_snr = np.asarray(in_float64(lambda p, t: p.log_snr(t), process, times))
    first = min(np.log(FIRST_RHO[sampler] / max(energy, np.finfo(float).tiny)), log_snr.min())
    start = float(in_float64(lambda p, v: p.time_at_log_snr(v), process, first))
    start = max(min(start, _noisiest(process)), float(times.max()))
    end = float(times.min())
    grid = time_grid(process, start, end, steps) if start > end else np.array([start])
    jumps = np.array([level for level in guidance.jumps if 0 < level < np.inf])
    if jumps.size:
        at = np.asarray(in_float64(lambda p, v: p.time_at_log_snr(v), process, -2 * np.log(jumps)))
        grid = np.concatenate([grid, at[(at > end) & (at < start)]])
    path = np.unique(np.concatenate([grid, times]))[::-1]
    # Only ends of steps are looked at: a step of no length where the start itself is asked for.
    return np.concatenate([path[:1], path]) if path[0] in times else path


def _noisiest(process: Process) -> float:
    """The largest time with finite log-SNR."""
    end = process.t_max
    if not np.isfinite(end):
        return np.inf
    finite = np.isfinite(np.asarray(in_float64(lambda p, t: p.log_snr(t), process, end)))
    return float(end) if finite else float(np.nextafter(end, 0))


def _table(process: Process, times: Float[Array, " T"], guidance: Guidance) -> _Table:
    log_snr = process.log_snr(times)
    clock = jax.nn.softplus(0.5 * log_snr)
    middle = 2 * jnp.log(jnp.expm1(0.5 * (clock[1:] + clock[:-1])))
    level = jnp.exp(-0.25 * (log_snr[1:] + log_snr[:-1]))
    weight = jnp.ones_like if guidance.of_state else guidance.weight
    return _Table(
        steps=steps_of(process, times),
        after=times[1:],
        middle=process.time_at_log_snr(middle),
        length=jnp.diff(log_snr),
        clock=jnp.diff(clock),
        level=level,
        weight=weight(level),
        weight_after=weight(jnp.exp(-0.5 * log_snr[1:])),
    )


class _Pulls(NamedTuple):
    """At one state and time: D_c, D_w and D of the whole mixture, and w."""

    conditional: Array
    guided: Array
    whole: Array
    weight: Array


def _pulls(
    task: Target, process: Process, x: Array, t: Array, level: Array, weight: Array, number: Array
) -> _Pulls:
    mixture = task.decision.mixture
    whole = denoise(mixture, process, x, t)
    conditional = denoise(task.inside, process, x, t, *_only(task, x))
    reference = whole if task.guide is None else denoise(task.guide, process, x, t, *_only(task, x))
    if task.schedule is not None:
        ratio = _log_cells(task, process, x, t)[:, task.index] - task.log_prior
        gap = gap_of(conditional, reference, level)
        weight = task.schedule.weight(level, task.schedule.of_exact(ratio, number), gap)
    return _Pulls(conditional, steer(conditional, reference, weight), whole, weight)


def _only(task: Target, x: Array) -> tuple[Array, ...]:
    """The component of each state, where the target has only one: nothing is to be weighed then."""
    return (jnp.zeros(len(x), int),) if task.inside.components == 1 else ()


def _log_cells(task: Target, process: Process, x: Array, t: Array) -> Float[Array, "n C"]:
    noisy = _noisy(task, process, t)
    joint = task.decision.by_cell(posterior_logits(noisy, x))
    return log_normalise(jax.nn.logsumexp(joint, axis=-1))


def _noisy(task: Target, process: Process, t: Array) -> Mixture:
    mixture = task.decision.mixture
    return diffuse(mixture, process.alpha(t).astype(mixture.dtype), process.sigma(t).astype(mixture.dtype))


def _plain_sde_step(
    task: Target, process: Process, key: PRNGKeyArray, x: Float[Array, "n d"], row: tuple[_Table, Array]
) -> Float[Array, "n d"]:
    component = jnp.zeros(len(x), int) if task.inside.components == 1 else None
    return reverse_step(task.inside, process, key, component, "exact", x, (row[0].steps, row[1]))


def _sde_step(
    task: Target, process: Process, key: PRNGKeyArray, x: Float[Array, "n d"], row: tuple[_Table, Array]
) -> Float[Array, "n d"]:
    table, number = row
    here = table.steps
    plain = _plain_sde_step(task, process, key, x, row)

    def added(x: Array, t: Array, number: Array) -> Array:
        """(w-1) α (D_c - D_0): what guidance adds per unit of log γ."""
        pulls = _pulls(task, process, x, t, table.level, table.weight, number)
        return process.alpha(t).astype(x.dtype) * (pulls.guided - pulls.conditional)

    def carry(x: Array) -> Array:
        state, clean, _ = here.kernel
        return state * x + clean * denoise(task.inside, process, x, here.t, *_only(task, x))

    first = jax.jvp(carry, (x,), (added(x, here.t, number),))[1]
    second = added(plain + table.length * first, table.after, number + 1)
    return plain + 0.5 * table.length * (first + second)


def _flow_step(
    task: Target, process: Process, key: PRNGKeyArray, x: Float[Array, "n d"], row: tuple[_Table, Array]
) -> Float[Array, "n d"]:
    del key
    table = row[0]

    def guided(x: Array, t: Array, ahead: Array) -> Array:
        return _pulls(task, process, x, t, table.level, table.weight, row[1] + ahead).guided

    return _runge_kutta(process, table, x, guided)


def _plain_flow_step(
    task: Target, process: Process, key: PRNGKeyArray, x: Float[Array, "n d"], row: tuple[_Table, Array]
) -> Float[Array, "n d"]:
    del key
    conditional = lambda x, t, _: denoise(task.inside, process, x, t, *_only(task, x))
    return _runge_kutta(process, row[0], x, conditional)


def _runge_kutta(
    process: Process, table: _Table, x: Float[Array, "n d"], denoised: Callable[[Array, Array, Array], Array]
) -> Float[Array, "n d"]:
    """A classical step in z = x/√(α²+σ²), dz/du = (a+b)(D - a z), see `gmm.probability_flow`."""

    def at(t: Array) -> tuple[Array, Array, Array]:
        alpha, sigma = process.alpha(t).astype(x.dtype), process.sigma(t).astype(x.dtype)
        scale = jnp.hypot(alpha, sigma)
        return alpha / scale, sigma / scale, scale

    def velocity(z: Array, t: Array, ahead: Array) -> Array:
        a, b, scale = at(t)
        return (a + b) * (denoised(scale * z, t, ahead) - a * z)

    h, start, middle, end = table.clock, table.steps.t, table.middle, table.after
    z = x / at(start)[2]

    def stage(k: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        t, reach, ahead = row
        k = velocity(z + reach * h * k, t, ahead)
        return k, k

    # As a scan the body, and with it the mixture's denoiser, is compiled once instead of four times.
    rows = (
        jnp.stack([start, middle, middle, end]),
        jnp.array([0, 0.5, 0.5, 1], x.dtype),
        jnp.array([0, 0, 0, 1]),
    )
    k = lax.scan(stage, jnp.zeros_like(z), rows)[1]
    return at(end)[2] * (z + h / 6 * (k[0] + 2 * k[1] + 2 * k[2] + k[3]))


_STEPS: Mapping[str, Callable[..., Array]] = {
    "sde": _sde_step,
    "flow": _flow_step,
    "plain sde": _plain_sde_step,
    "plain flow": _plain_flow_step,
}


def _rows(table: _Table, dtype: jnp.dtype) -> tuple[_Table, Array]:
    """What steps scan over: the table in the states' precision, times in their own, and each step's number."""
    cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), table)
    steps = cast.steps._replace(t=jnp.asarray(table.steps.t), end=())
    times = {"after": jnp.asarray(table.after), "middle": jnp.asarray(table.middle)}
    return cast._replace(steps=steps, **times), jnp.arange(len(table.level))


def _paths(
    task: Target,
    process: Process,
    table: _Table,
    x: Float[Array, "n d"],
    key: PRNGKeyArray,
    sampler: str,
) -> Float[Array, "T n d"]:
    return jnp.concatenate([x[None], _scan_paths(task, process, table, x, key, sampler=sampler)])


@functools.partial(jax.jit, static_argnames=("sampler",))
def _scan_paths(
    task: Target, process: Process, table: _Table, x: Float[Array, "n d"], key: PRNGKeyArray, *, sampler: str
) -> Float[Array, "steps n d"]:
    step = functools.partial(_STEPS[sampler], task, process, key)
    return lax.scan(lambda x, row: (y := step(x, row), y), x, _rows(table, x.dtype))[1]


@functools.partial(jax.jit, static_argnames=("size", "sampler"))
def _end_states(
    task: Target, process: Process, table: _Table, key: PRNGKeyArray, *, size: int, sampler: str
) -> Float[Array, "size d"]:
    dtype = task.inside.dtype
    key_start, key_path = jax.random.split(key)
    rows = _rows(table, dtype)
    start = diffuse(task.inside, rows[0].steps.alpha[0], rows[0].steps.sigma[0])
    step = functools.partial(_STEPS[sampler], task, process, key_path)
    return lax.scan(lambda x, row: (step(x, row), None), sample(start, key_start, size)[0], rows)[0]


def _averages(
    task: Target,
    process: Process,
    table: _Table,
    seen: np.ndarray,
    keys: PRNGKeyArray,
    samples: int,
    sampler: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors of `_observe` at the steps' ends that are `seen`, (5, points) each."""
    blocks = -(-samples // rows_at_once(task.decision.mixture))
    size = -(-samples // blocks)
    parts = []
    for done, key in enumerate(jax.random.split(keys, blocks)):
        if progress is not None:
            progress(done, blocks)
        found = _block(task, process, table, jnp.asarray(seen), key, size=size, sampler=sampler)
        parts.append([np.asarray(part, np.float64)[seen].T for part in found])
    if progress is not None:
        progress(blocks, blocks)
    means, squares = (np.stack(part) for part in zip(*parts, strict=True))
    mean = means.mean(axis=0)
    total = squares.sum(axis=0) + size * ((means - mean) ** 2).sum(axis=0)
    count = size * blocks
    return mean, np.sqrt(total / (count - 1) / count)


@functools.partial(jax.jit, static_argnames=("size", "sampler"))
def _block(
    task: Target, process: Process, table: _Table, seen: Array, key: PRNGKeyArray, *, size: int, sampler: str
) -> tuple[Float[Array, "steps 5"], Float[Array, "steps 5"]]:
    """Means of what is observed along `size` paths, and sums of squares about them; zeros where not `seen`."""
    dtype = task.inside.dtype
    key_start, key_path = jax.random.split(key)
    rows, numbers = _rows(table, dtype)
    start = diffuse(task.inside, rows.steps.alpha[0], rows.steps.sigma[0])
    step = functools.partial(_STEPS[sampler], task, process, key_path)
    nothing = (jnp.zeros(5, dtype), jnp.zeros(5, dtype))

    def advance(x: Array, row: tuple[_Table, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        table, number, wanted = row
        x = step(x, (table, number))

        def look(x: Array) -> tuple[Array, Array]:
            y = _observe(task, process, table, x, number + 1, sampler)
            mean = y.mean(axis=0)
            return mean, ((y - mean[None, :]) ** 2).sum(axis=0)

        return x, lax.cond(wanted, look, lambda _: nothing, x)

    return lax.scan(advance, sample(start, key_start, size)[0], (rows, numbers, seen))[1]


def _observe(
    task: Target, process: Process, table: _Table, x: Float[Array, "n d"], number: Array, sampler: str
) -> Float[Array, "n 5"]:
    """Entropy, surprise of the target, agreement, dH/dt and w at the states x at the end of a step."""
    t, decision = table.after, task.decision
    alpha, sigma, g, f = (
        function(t).astype(x.dtype)
        for function in (process.alpha, process.sigma, process.diffusion, process.drift)
    )
    noisy = diffuse(decision.mixture, alpha, sigma)
    found = per_point(decision, noisy, x, posterior(decision, posterior_logits(noisy, x)))
    log_p = _log_cells(task, process, x, t)
    pulls = _pulls(task, process, x, t, sigma / alpha, table.weight_after, number)
    if sampler == "sde":
        # -dH/dt is the generator of the guided reverse process on H; without guidance posteriors are martingales.
        push = alpha / sigma**2 * (pulls.guided - pulls.whole)
        along = jax.jvp(lambda x: _entropy(_log_cells(task, process, x, t)), (x,), (push,))[1]
        rate = g**2 * (0.5 * found.spread - along)
    else:
        velocity = f * x - 0.5 * (g / sigma) ** 2 * (alpha * pulls.guided - x)
        moving = lambda x, t: _entropy(_log_cells(task, process, x, t))
        rate = jax.jvp(moving, (x, t), (velocity, jnp.ones_like(t)))[1]
    weight = jnp.broadcast_to(pulls.weight, rate.shape)
    return jnp.stack([found.entropy, -log_p[:, task.index], 1 - found.disagreement, rate, weight], axis=-1)


def _entropy(log_p: Float[Array, "n C"]) -> Float[Array, " n"]:
    """-Σ p log p; a posterior of zero counts for nothing, in the derivative too."""
    p = jnp.exp(log_p)
    return -jnp.sum(jnp.where(p > 0, p * jnp.where(p > 0, log_p, 0), 0), axis=-1)
