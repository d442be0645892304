"""Samplers for any denoiser: EDM's Heun solver of the probability flow, and the stochastic reverse chain.

Notation: x_t = α x_0 + σ ε, level = σ/α, γ = (α/σ)². In the coordinate x/α every process is the EDM process
of its level, whose probability flow is dx/dlevel = (x - D)/level (Karras et al. 2022, eq. 1 and algorithm 2);
the Heun solver works in it. The stochastic chain works on x itself and may start where α = 0.

A sampler is one `lax.scan`, jitted once per shape, whose body holds each network once, because large networks take
long to compile. With several devices the batch is split over them.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from gmm.checks import check_count, check_detached, check_values, is_concrete
from gmm.dynamics import reverse_kernel, time_grid
from gmm.guidance import Constant, Guidance, gap_of, steer
from gmm.process import Process
from neural.arithmetic import wide
from neural.denoiser import Denoiser, State, as_partial, encode
from neural.progress import Progress

Times = Float[ArrayLike, " steps"] | Sequence[float]
Scale = float | Callable[[np.ndarray], Float[ArrayLike, "..."]] | Guidance


def edm_times(
    process: Process, steps: int = 32, *, sigma_min: float = 0.002, sigma_max: float = 80.0
) -> np.ndarray:
    """EDM's grid: times whose levels σ/α are equally spaced in their seventh root (Karras et al. 2022, eq. 5).

    A process that covers only a part of the range is sampled on that part. The final step to zero noise is not
    on the grid: samplers add it.

    Args:
        process: forward process.
        steps: number of times, >= 2.
        sigma_min: smallest level.
        sigma_max: largest level.

    Returns:
        (steps,) falling times, float64.

    Raises:
        ValueError: unless steps >= 2 and 0 < sigma_min < sigma_max.
    """
    check_count("steps", steps, 2)
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"levels must satisfy 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    log_snr = -2 * np.log([sigma_max, sigma_min])
    start, stop = np.clip(_on_host(process.time_at_log_snr, log_snr), process.t_min, process.t_max)
    return time_grid(process, start, stop, steps - 1, "edm")


@dataclasses.dataclass(frozen=True)
class Churn:
    """Noise added before each step of the Heun sampler (Karras et al. 2022, algorithm 2).

    Attributes:
        amount: S_churn; a step raises its level by the factor 1 + min(amount/steps, √2 - 1).
        low, high: S_min and S_max, the levels σ/α between which noise is added.
        noise: S_noise, standard deviation of the added noise relative to the one that raises the level exactly.
    """

    amount: float = 0.0
    low: float = 0.0
    high: float = math.inf
    noise: float = 1.0

    def raised(self, levels: np.ndarray) -> np.ndarray:
        """Levels after the noise has been added."""
        factor = min(self.amount / len(levels), math.sqrt(2) - 1)
        return np.where((levels >= self.low) & (levels <= self.high), levels * (1 + factor), levels)


def heun(
    denoiser: Denoiser,
    noise: Float[ArrayLike, "n ..."],
    condition: Any = None,
    *,
    times: Times | None = None,
    guide: Denoiser | None = None,
    guidance_scale: Scale = 1.0,
    churn: Churn = Churn(),
    key: PRNGKeyArray | None = None,
    progress: Progress | None = None,
) -> State:
    """Samples by EDM's second-order sampler, deterministic unless churned.

    2·steps - 1 evaluations; the last step, to zero noise, is a plain denoising.

    Args:
        denoiser: any denoiser that JAX can trace.
        noise: (n, ...) unit normal start; the samples have its shape and type (at least float32).
        condition: passed to the denoiser.
        times: (steps,) falling times of the denoiser's process; default `edm_times(process)`.
        guide: denoiser of the unconditional law, called without a condition; for autoguidance the worse model,
            called with the condition. Default: the denoiser's own `unconditional`. Needed only for guidance.
        guidance_scale: w in D = D_guide + w (D - D_guide): a number, a function of the level σ/α, or a schedule
            (`gmm.cfg` and others). Schedules that track a likelihood ratio need the stochastic chain of
            `ancestral`.
        churn: noise to add before each step.
        key: for churn only: one key, or one for each sample, whose noise then does not depend on the others.
        progress: called with (evaluations done, total) after each; the steps then run one by one.

    Returns:
        (n, ...) samples of x_0.

    Raises:
        ValueError: when the times do not fall or have an infinite level, when guidance has no guide or tracks
            a likelihood ratio, or churn has no key.
    """
    process, times = denoiser.process, _grid(denoiser.process, times)
    _check_untracked(guidance_scale)
    table = _heun_table(process, times, churn, guidance_scale)
    if churn.amount and key is None:
        raise ValueError("churn needs a key; pass key=jax.random.key(seed)")
    noise, condition = _split_over_devices(noise, _encoded(denoiser, condition))
    model = _model(denoiser, condition, guide, guidance_scale)
    draw = Partial(_normal, key) if churn.amount else None
    start = noise * table.level[0].astype(noise.dtype)
    carry = _in_parts(
        lambda carry, rows, index: _heun_steps(model, carry, rows, index, draw)[0],
        (start,) * 3,
        table,
        progress,
    )
    return carry[1]


def ancestral(
    denoiser: Denoiser,
    noise: Float[ArrayLike, "n ..."],
    condition: Any = None,
    *,
    key: PRNGKeyArray,
    times: Times | None = None,
    guide: Denoiser | None = None,
    guidance_scale: Scale = 1.0,
    progress: Progress | None = None,
) -> State:
    """Samples by the stochastic `gmm.reverse_kernel` with x_0 = D: ancestral sampling, DDIM with η = 1.

    One evaluation a step; the last step, to zero noise, is a plain denoising. The chain starts at N(0, σ_T²).

    Args:
        denoiser: any denoiser that JAX can trace.
        noise: (n, ...) unit normal start; the samples have its shape and type (at least float32).
        condition: passed to the denoiser.
        key: for the noise of the steps; one key or n, as in `heun`.
        times: (steps,) falling times of the denoiser's process; default `edm_times(process)`. α may be 0 at the
            first.
        guide: as in `heun`.
        guidance_scale: as in `heun`.
        progress: as in `heun`.

    Returns:
        (n, ...) samples of x_0.

    Raises:
        ValueError: when the times do not fall, or guidance has no guide.
    """
    table = _chain_table(denoiser.process, _grid(denoiser.process, times), guidance_scale)
    return _sample_chain(
        denoiser, noise, condition, table, Partial(_normal, key), guide, guidance_scale, progress
    )


def ddim(
    denoiser: Denoiser,
    noise: Float[ArrayLike, "n ..."],
    condition: Any = None,
    *,
    times: Times | None = None,
    end: float | None = None,
    eta: float = 0.0,
    key: PRNGKeyArray | None = None,
    guide: Denoiser | None = None,
    guidance_scale: Scale = 1.0,
    progress: Progress | None = None,
) -> State:
    """Samples by DDIM (Song et al. 2021, arXiv 2010.02502, eq. 12): first-order steps with a chosen share of noise.

    One evaluation a step. With `ddim_times` and `end=0` the steps are those of diffusers' ``DDIMScheduler`` as
    Stable Diffusion is published with (leading spacing, offset 1, last ᾱ that of step 0).

    Args:
        denoiser: any denoiser that JAX can trace.
        noise: (n, ...) unit normal start; the samples have its shape and type (at least float32).
        condition: passed to the denoiser.
        times: (steps,) falling times of the denoiser's process; default `edm_times(process)`.
        end: time that the last step ends at; None for zero noise, where it is a plain denoising.
        eta: standard deviation of the steps' noise in units of the exact reverse chain's: 0 is deterministic, 1
            is `ancestral`.
        key: for noise only; one key or n, as in `heun`.
        guide: as in `heun`.
        guidance_scale: as in `heun`; schedules that track a likelihood ratio need `ancestral`.
        progress: as in `heun`.

    Returns:
        (n, ...) samples of x_0, or of x_end.

    Raises:
        ValueError: when the times do not fall towards `end`, eta is not in 0..1, guidance has no guide or tracks
            a likelihood ratio, or noise has no key.
    """
    process, times = denoiser.process, _grid(denoiser.process, times)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in 0..1, got {eta}")
    if eta and key is None:
        raise ValueError("eta needs a key; pass key=jax.random.key(seed)")
    if end is not None and not process.t_min <= end < times[-1]:
        raise ValueError(
            f"end must lie in [{process.t_min:g}, {times[-1]:g}), before the last time; got {end:g}"
        )
    _check_untracked(guidance_scale)
    table = _chain_table(process, times, guidance_scale, eta, end)
    draw = Partial(_normal, key) if eta else None
    return _sample_chain(denoiser, noise, condition, table, draw, guide, guidance_scale, progress)


def ddim_times(process: Process, steps: int, *, offset: int = 1) -> np.ndarray:
    """Equally spaced steps of a discrete process, the grid of DDIM: ⌊N/steps⌋·i + offset, i falling from steps - 1.

    Args:
        process: with the times 0..N-1.
        steps: number of times, 1..N.
        offset: 1 for Stable Diffusion as published.

    Returns:
        (steps,) falling times, float64.

    Raises:
        ValueError: unless 1 <= steps <= N and the times lie within the process.
    """
    last = int(process.t_max)
    check_count("steps", steps)
    if steps > last + 1:
        raise ValueError(f"steps must be in 1..{last + 1}, got {steps}")
    times = (np.arange(steps)[::-1] * ((last + 1) // steps) + offset).astype(float)
    if not 0 <= times[-1] <= times[0] <= last:
        raise ValueError(f"offset must keep the times in 0..{last}, got {offset} with {steps} steps")
    return times


def _sample_chain(
    denoiser: Denoiser,
    noise: Float[ArrayLike, "n ..."],
    condition: Any,
    table: "_Steps",
    draw: Partial | None,
    guide: Denoiser | None,
    scale: Scale,
    progress: Progress | None,
) -> State:
    noise, condition = _split_over_devices(noise, _encoded(denoiser, condition))
    model = _model(denoiser, condition, guide, scale)
    start = noise * _on_host(denoiser.process.sigma, table.t[0]).astype(noise.dtype)
    carry = start, jnp.zeros(start.shape[0], start.dtype)
    return _in_parts(
        lambda carry, rows, index: _chain(model, carry, rows, index, draw), carry, table, progress
    )[0]


def _in_parts(program: Callable[..., Any], carry: Any, table: Any, progress: Progress | None) -> Any:
    """The carry after all rows of a table: in one program, or row by row where `progress` is called."""
    rows = len(table.t)
    if progress is None:
        return program(carry, table, np.arange(rows))
    for row in range(rows):
        single = type(table)(*(column[row : row + 1] for column in table))
        carry = jax.block_until_ready(program(carry, single, np.array([row])))
        progress(row + 1, rows)
    return carry


def _encoded(denoiser: Denoiser, condition: Any) -> Any:
    """The condition; words are encoded by the denoiser, once for all steps."""
    if isinstance(condition, str):
        condition = [condition]
    words = isinstance(condition, list | tuple) and any(isinstance(part, str) for part in condition)
    return encode(denoiser, condition) if words else condition


class _Evaluations(NamedTuple):
    """One row for every evaluation of a Heun solve: predictor, corrector, predictor, ..., last predictor."""

    t: np.ndarray
    alpha: np.ndarray
    level: np.ndarray  # σ/α of the evaluation
    scale: np.ndarray  # guidance scale
    raised: np.ndarray  # standard deviation, in x/α, of the noise to add before it
    length: np.ndarray  # of the step that it belongs to, in level; negative
    corrects: np.ndarray  # whether it is a corrector


class _Steps(NamedTuple):
    """One row for every step of an ancestral chain."""

    t: np.ndarray
    level: np.ndarray  # σ/α
    scale: np.ndarray  # guidance scale
    state: np.ndarray
    clean: np.ndarray
    deviation: np.ndarray


def _heun_table(process: Process, times: np.ndarray, churn: Churn, scale: Scale) -> _Evaluations:
    nominal = _on_host(_level, process, times)
    if not np.isfinite(nominal).all():
        raise ValueError(f"times must have finite σ/α, got {times[0]:g} first; start a little before it")
    raised, after = churn.raised(nominal), np.append(nominal[1:], 0.0)
    # Predictors are at the raised level, correctors where the step ends; the step to zero noise has no corrector.
    level = _alternate(raised, after)
    t = np.clip(_on_host(process.time_at_log_snr, -2 * np.log(level)), process.t_min, process.t_max)
    return _Evaluations(
        t=t,
        alpha=_on_host(process.alpha, t),
        level=level,
        scale=_scales(scale, level),
        raised=_alternate(churn.noise * np.sqrt(raised**2 - nominal**2), np.zeros_like(nominal)),
        length=_alternate(after - raised, after - raised),
        corrects=np.arange(level.size) % 2 == 1,
    )


def _alternate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([first, second], axis=1).ravel()[:-1]


def _chain_table(
    process: Process, times: np.ndarray, scale: Scale, eta: float = 1.0, end: float | None = None
) -> _Steps:
    """The table of steps x_s = state·x_t + clean·D + deviation·noise, whose noise has η² times the exact variance."""
    before, after = (times[:-1], times[1:]) if end is None else (times, np.append(times[1:], end))

    def kernel(part: str) -> np.ndarray:
        return _on_host(lambda t, s: getattr(reverse_kernel(process, t, s), part), before, after)

    state, clean, variance = kernel("state"), kernel("clean"), kernel("variance")
    if eta != 1:
        # The part of σ_s² that is not fresh noise keeps the direction of the noise in x_t.
        kept = _on_host(process.sigma, after) ** 2 - eta**2 * variance
        state = np.sqrt(kept) / _on_host(process.sigma, before)
        clean = _on_host(process.alpha, after) - _on_host(process.alpha, before) * state
    level = _on_host(_level, process, times)
    # The step to zero noise is a plain denoising.
    ends = np.append if end is None else lambda values, _: values
    return _Steps(
        t=times,
        level=level,
        scale=_scales(scale, level),
        state=ends(state, 0.0),
        clean=ends(clean, 1.0),
        deviation=ends(eta * np.sqrt(variance), 0.0),
    )


def _scales(scale: Scale, level: np.ndarray) -> np.ndarray:
    """The weight at each level; ones where the weight also depends on the state."""
    if isinstance(scale, Guidance):
        values = 1.0 if scale.of_state else _on_host(scale.weight, level)
    else:
        values = scale(level) if callable(scale) else scale
    return np.broadcast_to(np.asarray(values, np.float64), level.shape)


def _check_untracked(scale: Scale) -> None:
    if isinstance(scale, Guidance) and scale.needs_ratio:
        raise ValueError(
            f"guidance_scale must not track a likelihood ratio here, got {scale}: the ratio is that of the stochastic "
            "chain; use `ancestral`"
        )


class _Model(NamedTuple):
    """The guided denoiser: the denoiser under its condition, moved away from the guide's prediction.

    Attributes:
        denoise: the denoiser.
        guide: denoiser of the reference, or None for none.
        condition: passed to the denoiser.
        guide_condition: passed to the guide.
        schedule: the schedule, where its weight depends on the state.
    """

    denoise: Partial
    guide: Partial | None
    condition: Any
    guide_condition: Any
    schedule: Guidance | None

    def __call__(
        self, x: State, row: "_Evaluations | _Steps", log_ratio: Float[Array, "..."] | float = 0.0
    ) -> tuple[State, State, State]:
        """D_w, D_c and D_0 (D_c again without a guide)."""
        denoised = self.denoise(x, row.t, self.condition)
        if self.guide is None:
            return denoised, denoised, denoised
        reference = self.guide(x, row.t, self.guide_condition)
        weight = row.scale
        if self.schedule is not None:
            gap = gap_of(denoised, reference, row.level) if self.schedule.needs_gap else 0.0
            weight = self.schedule.weight(row.level, log_ratio, gap)
        return steer(denoised, reference, weight), denoised, reference


def _model(denoiser: Denoiser, condition: Any, guide: Denoiser | None, scale: Scale) -> _Model:
    schedule = scale if isinstance(scale, Guidance) else None if callable(scale) else Constant(scale)
    if schedule is not None and schedule.is_plain:
        return _Model(as_partial(denoiser), None, condition, None, None)
    same_condition = schedule is not None and schedule.reference == "guide"
    if guide is None and not same_condition:
        guide = getattr(denoiser, "unconditional", None)
    if guide is None:
        law = "a second, worse network" if same_condition else "a denoiser of the unconditional law"
        raise ValueError(f"guidance needs {law}; pass guide=...")
    of_state = schedule if schedule is not None and schedule.of_state else None
    guide_condition = condition if same_condition else None
    return _Model(as_partial(denoiser), as_partial(guide), condition, guide_condition, of_state)


@functools.partial(jax.jit, static_argnames=("record",))
def _heun_steps(
    model: _Model,
    carry: Any,
    table: _Evaluations,
    index: Array,
    draw: Partial | None,
    *,
    record: bool = False,
) -> tuple[Any, tuple[Array, Array] | None]:
    """Evaluations of a solve in x/α; with `record` also every (x/α, D), stacked.

    The carry is where the step began, where the path is, and its slope.
    """

    def evaluate(carry: Any, inputs: Any) -> Any:
        start, x, slope = carry
        row, index = inputs
        if draw is not None:
            x = x + row.raised * draw(index, x)
        start = jnp.where(row.corrects, start, x)
        denoised = model(row.alpha * x, row)[0]
        here = (x - denoised) / row.level
        slope = jnp.where(row.corrects, (slope + here) / 2, here)
        return (start, start + row.length * slope, slope), ((x, denoised) if record else None)

    return jax.lax.scan(evaluate, carry, (_cast(table, carry[0]), index))


@jax.jit
def _chain(
    model: _Model, carry: tuple[State, Array], table: _Steps, index: Array, draw: Partial | None
) -> tuple[State, Array]:
    """Steps of a chain; the carry is the state and the tracked log ratio."""

    def step(carry: tuple[State, Array], inputs: Any) -> tuple[tuple[State, Array], None]:
        (x, log_ratio), (row, index) = carry, inputs
        denoised, *both = model(x, row, log_ratio)
        after = row.state * x + row.clean * denoised
        if draw is not None:
            after = after + row.deviation * draw(index, x)
        if model.schedule is not None:
            log_ratio = model.schedule.tracked(log_ratio, _gained(row, after - row.state * x, *both))
        return (after, log_ratio), None

    return jax.lax.scan(step, carry, (_cast(table, carry[0]), index))[0]


def _gained(row: _Steps, move: State, denoised: State, reference: State) -> Float[Array, " n"]:
    """log N(x_s; m_c, v I) - log N(x_s; m_0, v I): the log-likelihood ratio of a step."""
    towards = (denoised - reference) * (move - row.clean * 0.5 * (denoised + reference))
    # The last step, to zero noise, has no variance; its ratio is not used.
    precision = jnp.where(
        row.deviation > 0, row.clean / jnp.where(row.deviation > 0, row.deviation, 1) ** 2, 0
    )
    return precision * towards.reshape(towards.shape[0], -1).sum(axis=1)


T = TypeVar("T", _Evaluations, _Steps)


def _cast(table: T, like: State) -> T:
    return jax.tree.map(lambda a: jnp.asarray(a, a.dtype if a.dtype == bool else like.dtype), table)


def _normal(key: PRNGKeyArray, index: Array, like: Array) -> Array:
    if key.ndim:
        return jax.vmap(lambda row_key, row: _normal(row_key, index, row))(key, like)
    return jax.random.normal(jax.random.fold_in(key, index), like.shape, like.dtype)


def _grid(process: Process, times: Times | None) -> np.ndarray:
    grid = edm_times(process) if times is None else np.asarray(times, np.float64)
    if grid.ndim != 1 or not grid.size:
        raise ValueError(f"times must have shape (steps,), got {grid.shape}")
    if (np.diff(grid) >= 0).any():
        raise ValueError("times must fall from noise to data; reverse them")
    check_values(
        "times",
        grid,
        f"in [{process.t_min:g}, {process.t_max:g}]",
        lambda t: (t >= process.t_min) & (t <= process.t_max),
    )
    return grid


def _level(process: Process, t: Array) -> Array:
    return jnp.exp(-0.5 * process.log_snr(t))


def _on_host(function: Callable[..., Array], *arguments: Any) -> np.ndarray:
    """The values in float64, whatever JAX is set to, because all samples share the rounding of a grid."""
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        arrays = [jnp.asarray(a, jnp.float64) if isinstance(a, np.ndarray | float) else a for a in arguments]
        return np.asarray(function(*arrays), np.float64)


def _split_over_devices(x: Float[ArrayLike, "n ..."], condition: Any) -> tuple[State, Any]:
    """A batch and its conditions, placed on as many of this host's devices as divide the batch."""
    check_detached("x", x)
    check_detached("condition", condition)
    x = jnp.asarray(x)
    x = x.astype(wide(x.dtype))
    if isinstance(condition, Sequence | int | np.ndarray) and not isinstance(condition, str):
        condition = jnp.asarray(condition)
    devices = jax.local_devices()
    count = math.gcd(x.shape[0], len(devices))
    if count == 1 or not is_concrete(x, condition):
        return x, condition
    batch = NamedSharding(Mesh(np.array(devices[:count]), ("batch",)), PartitionSpec("batch"))
    everywhere = NamedSharding(batch.mesh, PartitionSpec())

    def place(array: Array) -> Array:
        return jax.device_put(array, batch if np.shape(array)[:1] == x.shape[:1] else everywhere)

    return place(x), jax.tree.map(place, condition)
