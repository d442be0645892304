r"""Steps of guided paths of mixtures, and what is observed along them; the functions to call are in `gmm.guided`.

Reverse SDE, a step in λ = log γ: the plain conditional step, which is exact at any length, plus what guidance adds
to it, dx = (w-1) α (D_c - D_0) dλ, by the trapezoid rule along the step (a predictor, then the average of both
ends, the first carried along by the conditional dynamics): of second order in the step, and of no effect at w = 1.
Probability flow: a classical Runge-Kutta step.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from gmm.clock import in_float64
from gmm.decision import MixtureDecision
from gmm.dynamics import Steps, reverse_step, rows_at_once, steps_of
from gmm.guidance import Guidance, gap_of, steer
from gmm.mixture import Mixture, denoise, diffuse, log_normalise, posterior_logits, sample
from gmm.posterior_statistics import per_point, posterior
from gmm.process import Process
from gmm.samplers import runge_kutta_step


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

    decision: MixtureDecision
    inside: Mixture
    guide: Mixture | None
    schedule: Guidance | None
    index: Array
    log_prior: Array


class Table(NamedTuple):
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


def table_of(process: Process, times: Float[ArrayLike, " T"], guidance: Guidance) -> Table:
    """The steps between `times` in float64."""
    return in_float64(lambda process, t: _table(process, t, guidance), process, times)


def _table(process: Process, times: Float[Array, " T"], guidance: Guidance) -> Table:
    log_snr = process.log_snr(times)
    clock = jax.nn.softplus(0.5 * log_snr)
    middle = 2 * jnp.log(jnp.expm1(0.5 * (clock[1:] + clock[:-1])))
    level = jnp.exp(-0.25 * (log_snr[1:] + log_snr[:-1]))
    weight = jnp.ones_like if guidance.of_state else guidance.weight
    return Table(
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
    conditional = denoise(task.inside, process, x, t, *_single_component(task, x))
    reference = (
        whole if task.guide is None else denoise(task.guide, process, x, t, *_single_component(task, x))
    )
    if task.schedule is not None:
        ratio = _log_cells(task, process, x, t)[:, task.index] - task.log_prior
        gap = gap_of(conditional, reference, level)
        weight = task.schedule.weight_of_exact(level, ratio, gap, number)
    return _Pulls(conditional, steer(conditional, reference, weight), whole, weight)


def _single_component(task: Target, x: Array) -> tuple[Array, ...]:
    """The component of each state if the target has only one, so that no posterior is needed; empty otherwise."""
    return (jnp.zeros(len(x), int),) if task.inside.components == 1 else ()


def _log_cells(task: Target, process: Process, x: Array, t: Array) -> Float[Array, "n C"]:
    noisy = _noisy(task, process, t)
    # Finite for a cell of weight zero, too: the derivative of a logsumexp of -inf alone would be NaN.
    joint = jnp.maximum(posterior_logits(noisy, x), float(jnp.finfo(x.dtype).min))
    joint = task.decision.by_cell(joint)
    return log_normalise(jax.nn.logsumexp(joint, axis=-1))


def _noisy(task: Target, process: Process, t: Array) -> Mixture:
    mixture = task.decision.mixture
    return diffuse(mixture, process.alpha(t).astype(mixture.dtype), process.sigma(t).astype(mixture.dtype))


def _plain_sde_step(
    task: Target, process: Process, key: PRNGKeyArray, x: Float[Array, "n d"], row: tuple[Table, Array]
) -> Float[Array, "n d"]:
    component = jnp.zeros(len(x), int) if task.inside.components == 1 else None
    return reverse_step(task.inside, process, key, component, "exact", x, (row[0].steps, row[1]))


def _sde_step(
    task: Target, process: Process, key: PRNGKeyArray, x: Float[Array, "n d"], row: tuple[Table, Array]
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
        return state * x + clean * denoise(task.inside, process, x, here.t, *_single_component(task, x))

    first = jax.jvp(carry, (x,), (added(x, here.t, number),))[1]
    second = added(plain + table.length * first, table.after, number + 1)
    return plain + 0.5 * table.length * (first + second)


def _flow_step(
    task: Target, process: Process, key: PRNGKeyArray, x: Float[Array, "n d"], row: tuple[Table, Array]
) -> Float[Array, "n d"]:
    del key
    table = row[0]

    def guided(x: Array, t: Array, ahead: Array) -> Array:
        return _pulls(task, process, x, t, table.level, table.weight, row[1] + ahead).guided

    return _flow(process, table, x, guided)


def _plain_flow_step(
    task: Target, process: Process, key: PRNGKeyArray, x: Float[Array, "n d"], row: tuple[Table, Array]
) -> Float[Array, "n d"]:
    del key
    conditional = lambda x, t, _: denoise(task.inside, process, x, t, *_single_component(task, x))
    return _flow(process, row[0], x, conditional)


def _flow(
    process: Process, table: Table, x: Float[Array, "n d"], denoised: Callable[[Array, Array, Array], Array]
) -> Float[Array, "n d"]:
    """A Runge-Kutta step in z = x/√(α²+σ²), dz/du = (a+b)(D - a z), see `gmm.probability_flow`."""

    def at(t: Array) -> tuple[Array, Array, Array]:
        alpha, sigma = process.alpha(t).astype(x.dtype), process.sigma(t).astype(x.dtype)
        scale = jnp.hypot(alpha, sigma)
        return alpha / scale, sigma / scale, scale

    def velocity(z: Array, place: tuple[Array, Array]) -> Array:
        t, ahead = place
        a, b, scale = at(t)
        return (a + b) * (denoised(scale * z, t, ahead) - a * z)

    # A place is a time, and the number of steps that its stage lies ahead of this one.
    times = ((table.steps.t, 0), (table.middle, 0), (table.after, 1))
    start, middle, end = ((t, jnp.asarray(ahead)) for t, ahead in times)
    z = runge_kutta_step(velocity, x / at(start[0])[2], table.clock, start, middle, end, traced=True)
    return at(end[0])[2] * z


_STEPS: Mapping[str, Callable[..., Array]] = {
    "sde": _sde_step,
    "flow": _flow_step,
    "plain sde": _plain_sde_step,
    "plain flow": _plain_flow_step,
}


def _rows(table: Table, dtype: jnp.dtype) -> tuple[Table, Array]:
    """Inputs of the scan over steps: the table in the precision of the states, times in their own, and step numbers."""
    cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), table)
    steps = cast.steps._replace(t=jnp.asarray(table.steps.t), end=())
    times = {"after": jnp.asarray(table.after), "middle": jnp.asarray(table.middle)}
    return cast._replace(steps=steps, **times), jnp.arange(len(table.level))


def paths(
    task: Target,
    process: Process,
    table: Table,
    x: Float[Array, "n d"],
    key: PRNGKeyArray,
    sampler: str,
) -> Float[Array, "T n d"]:
    """States at all times of the table, x first."""
    return jnp.concatenate([x[None], _scan_paths(task, process, table, x, key, sampler=sampler)])


@functools.partial(jax.jit, static_argnames=("sampler",))
def _scan_paths(
    task: Target, process: Process, table: Table, x: Float[Array, "n d"], key: PRNGKeyArray, *, sampler: str
) -> Float[Array, "steps n d"]:
    step = functools.partial(_STEPS[sampler], task, process, key)
    return lax.scan(lambda x, row: (y := step(x, row), y), x, _rows(table, x.dtype))[1]


@functools.partial(jax.jit, static_argnames=("size", "sampler"))
def end_states(
    task: Target, process: Process, table: Table, key: PRNGKeyArray, *, size: int, sampler: str
) -> Float[Array, "size d"]:
    """States at the end of `size` paths that start from the exact law of the target."""
    dtype = task.inside.dtype
    key_start, key_path = jax.random.split(key)
    rows = _rows(table, dtype)
    start = diffuse(task.inside, rows[0].steps.alpha[0], rows[0].steps.sigma[0])
    step = functools.partial(_STEPS[sampler], task, process, key_path)
    return lax.scan(lambda x, row: (step(x, row), None), sample(start, key_start, size)[0], rows)[0]


def averages(
    task: Target,
    process: Process,
    table: Table,
    observed: np.ndarray,
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
        block = _block(task, process, table, jnp.asarray(observed), key, size=size, sampler=sampler)
        parts.append([np.asarray(part, np.float64)[observed].T for part in block])
    if progress is not None:
        progress(blocks, blocks)
    means, squares = (np.stack(part) for part in zip(*parts, strict=True))
    mean = means.mean(axis=0)
    total = squares.sum(axis=0) + size * ((means - mean) ** 2).sum(axis=0)
    count = size * blocks
    return mean, np.sqrt(total / (count - 1) / count)


@functools.partial(jax.jit, static_argnames=("size", "sampler"))
def _block(
    task: Target,
    process: Process,
    table: Table,
    observed: Array,
    key: PRNGKeyArray,
    *,
    size: int,
    sampler: str,
) -> tuple[Float[Array, "steps 5"], Float[Array, "steps 5"]]:
    """Means of what is observed along `size` paths, and sums of squares about them; zeros where not `seen`."""
    dtype = task.inside.dtype
    key_start, key_path = jax.random.split(key)
    rows, numbers = _rows(table, dtype)
    start = diffuse(task.inside, rows.steps.alpha[0], rows.steps.sigma[0])
    step = functools.partial(_STEPS[sampler], task, process, key_path)
    zeros = (jnp.zeros(5, dtype), jnp.zeros(5, dtype))

    def advance(x: Array, row: tuple[Table, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        table, number, is_observed = row
        x = step(x, (table, number))

        def statistics(x: Array) -> tuple[Array, Array]:
            y = _observe(task, process, table, x, number + 1, sampler)
            mean = y.mean(axis=0)
            return mean, ((y - mean[None, :]) ** 2).sum(axis=0)

        return x, lax.cond(is_observed, statistics, lambda _: zeros, x)

    return lax.scan(advance, sample(start, key_start, size)[0], (rows, numbers, observed))[1]


def _observe(
    task: Target, process: Process, table: Table, x: Float[Array, "n d"], number: Array, sampler: str
) -> Float[Array, "n 5"]:
    """Entropy, surprise of the target, agreement, dH/dt and w at the states x at the end of a step."""
    t, decision = table.after, task.decision
    alpha, sigma, g, f = (
        function(t).astype(x.dtype)
        for function in (process.alpha, process.sigma, process.diffusion, process.drift)
    )
    noisy = diffuse(decision.mixture, alpha, sigma)
    statistics = per_point(decision, noisy, x, posterior(decision, posterior_logits(noisy, x)))
    log_p = _log_cells(task, process, x, t)
    pulls = _pulls(task, process, x, t, sigma / alpha, table.weight_after, number)
    if sampler == "sde":
        # -dH/dt is the generator of the guided reverse process on H; without guidance posteriors are martingales.
        push = alpha / sigma**2 * (pulls.guided - pulls.whole)
        along = jax.jvp(lambda x: _entropy(_log_cells(task, process, x, t)), (x,), (push,))[1]
        rate = g**2 * (0.5 * statistics.spread - along)
    else:
        velocity = f * x - 0.5 * (g / sigma) ** 2 * (alpha * pulls.guided - x)
        moving = lambda x, t: _entropy(_log_cells(task, process, x, t))
        rate = jax.jvp(moving, (x, t), (velocity, jnp.ones_like(t)))[1]
    weight = jnp.broadcast_to(pulls.weight, rate.shape)
    return jnp.stack(
        [statistics.entropy, -log_p[:, task.index], 1 - statistics.disagreement, rate, weight], axis=-1
    )


def _entropy(log_p: Float[Array, "n C"]) -> Float[Array, " n"]:
    """-Σ p log p; a posterior of zero contributes nothing, also to the derivative."""
    p = jnp.exp(log_p)
    return -jnp.sum(jnp.where(p > 0, p * jnp.where(p > 0, log_p, 0), 0), axis=-1)
