r"""Dynamics of mixtures: forward and reverse diffusion, probability flow, U-turns.

A mixture reduced to the span of its means is a mixture: the same functions work for it, and the law of their
results is the projected law. With λ = log γ and a step from time t to an earlier time s, r = γ_t/γ_s < 1::

    p(x_s | x_t, x_0) = N((σ_s/σ_t) √r x_t + α_s (1-r) x_0, σ_s² (1-r) I)
    p(x_s | x_t, k)   = the same with x_0 ~ p(x_0 | x_t, k) = N(D_k(x_t), σ_t² C_k (α_t² C_k + σ_t² I)⁻¹)
    p(x_s | x_t)      = Σ_k p(k | x_t) p(x_s | x_t, k)

All three hold for steps of any length. A sampler that has only the denoiser puts x_0 = D(x_t) into the first
(DDIM with η = 1; Song, Meng, Ermon 2021, eqs. 12 and 16): its mean is exact, its variance misses that of x_0
given x_t, which is of second order in the step.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from gmm.checks import (
    as_float,
    check_count,
    check_detached,
    check_finite,
    check_values,
    choose,
    common_dtype,
    is_concrete,
    may_be_infinite,
)
from gmm.clock import in_float64, noise_at, times_at
from gmm.estimate import Estimate
from gmm.mixture import (
    BLOCK_ELEMENTS,
    Mixture,
    check_component,
    check_key,
    component_at,
    denoise,
    diffuse,
    log_posterior,
    sample,
)
from gmm.partition import Partition, cell_log_posterior, partition_of
from gmm.process import Process, vp

KERNELS = ("exact-mean", "exact")
SPACINGS = ("log-snr", "edm")
EDM_RHO = 7  # Karras et al. 2022, eq. 5: levels σ/α equally spaced in their seventh root
# Default end of a U-turn: the smallest level σ/α of the turns divided by this.
RETURN_DEPTH = 100.0
# Dozens of steps are usual; this many are reached only when the precision does not allow the tolerance.
MAX_FLOW_STEPS = 2**12


class Kernel(NamedTuple):
    """The Gaussian p(x_s | x_t, x_0): mean state·x_t + clean·x_0, variance `variance` in each dimension."""

    state: Float[Array, "..."]
    clean: Float[Array, "..."]
    variance: Float[Array, "..."]


@may_be_infinite
def reverse_kernel(process: Process, t: Float[ArrayLike, "..."], s: Float[ArrayLike, "..."]) -> Kernel:
    """Coefficients of the reverse step from time t to an earlier time s, given x_0.

    Finite at both ends of time: where α_t = 0 the state is forgotten, where σ_s = 0 the result is x_0.

    Args:
        process: forward process.
        t: times to step from.
        s: times to step to, s < t; of a shape that broadcasts with t.
    """
    log_r = process.log_snr(t) - process.log_snr(s)
    sigma_s = process.sigma(s)
    # In logarithms, and as a loss: γ_s overflows towards the data, and r rounds to one in small steps.
    lost = -jnp.expm1(log_r)
    return Kernel(
        sigma_s / process.sigma(t) * jnp.exp(0.5 * log_r), process.alpha(s) * lost, sigma_s**2 * lost
    )


def time_grid(
    process: Process, start: float, stop: float, steps: int, spacing: str = "log-snr"
) -> np.ndarray:
    """Times of a sampler with `steps` steps, from `start` to `stop`, in either direction.

    Args:
        process: forward process.
        start: first time.
        stop: last time.
        steps: number of steps, >= 1.
        spacing: "log-snr" (equal steps in log γ) or "edm" (equal steps in (σ/α)^{1/7}; Karras et al. 2022,
            eq. 5): finer at small noise.

    Returns:
        (steps + 1,) times in float64; the first is `start`, the last `stop`.

    Raises:
        ValueError: when a time is outside the process's range or has infinite log-SNR (append such an end to
            the grid), when start and stop are equal, or on steps < 1 or an unknown spacing.
    """
    choose("spacing", spacing, SPACINGS)
    process.check_times(start, "start")
    process.check_times(stop, "stop")
    check_count("steps", steps)
    if start == stop:
        raise ValueError(f"start and stop must differ, got {start:g} twice")
    first, last = -2 * noise_at(process, np.array([start, stop], float))
    if spacing == "log-snr":
        log_snr = np.linspace(first, last, steps + 1)
    else:
        # (σ/α)^{1/ρ} = e^{-λ/2ρ}.
        roots = np.exp(-0.5 / EDM_RHO * np.array([first, last]))
        log_snr = -2 * EDM_RHO * np.log(np.linspace(roots[0], roots[1], steps + 1))
    return np.concatenate([[start], times_at(process, -0.5 * log_snr[1:-1]), [stop]])


def forward_sde(
    process: Process, times: Float[ArrayLike, " T"], x: Float[ArrayLike, "n d"], key: PRNGKeyArray
) -> Float[Array, "T n d"]:
    """Sample paths of the forward process; exact in law for steps of any length.

    Args:
        process: forward process.
        times: (T,) rising times; the first may be the noiseless end.
        x: (n, d) states at times[0].
        key: JAX random key.

    Returns:
        (T, n, d) states at `times`, x first.

    Raises:
        ValueError: when the times do not rise or leave the process's range, or x is not a finite
            (n, d) array.
    """
    x = check_states(x)
    times = check_path(process, times, falling=False)
    scale, noise = in_float64(_forward_table, process, times)
    return _forward(_cast(scale, x.dtype), _cast(noise, x.dtype), x, check_key(key))


def reverse_sde(
    mixture: Mixture,
    process: Process,
    times: Float[ArrayLike, " T"],
    x: Float[ArrayLike, "n d"],
    key: PRNGKeyArray,
    *,
    component: Int[ArrayLike, "..."] | None = None,
    kernel: str = "exact-mean",
) -> Float[Array, "T n d"]:
    """Sample paths of the reverse process from x at times[0], one Gaussian step for each time.

    Args:
        mixture: law of x_0.
        process: forward process.
        times: (T,) falling times. The first may have α = 0 (x is then plain noise), the last σ = 0.
        x: (n, d) states at times[0], usually from p_t (`sample` of the diffused mixture).
        key: JAX random key.
        component: () or (n,) component indices whose conditional dynamics to follow; None for the whole
            mixture.
        kernel: "exact-mean" puts the denoiser in the place of x_0, as samplers of networks must. Its law
            differs from the true one by a term of first order in the step; it is exact at any step for one
            component of zero variance. "exact" samples p(x_s|x_t) itself, at any step: it draws a component
            from the posterior at x_t (or takes the given one), then x_s given that component. Derivatives
            of its paths hold the drawn components fixed.

    Returns:
        (T, n, d) states at `times`, x first.

    Raises:
        ValueError: when the times do not fall or leave the process's range, x is not a finite (n, d) array,
            or a component or kernel is unknown.
    """
    choose("kernel", kernel, KERNELS)
    x = check_states(x, mixture)
    times = check_path(process, times, falling=True)
    component = _components(mixture, component, len(x))
    steps = in_float64(steps_of, process, times)
    return _reverse_paths(mixture, process, steps, x, check_key(key), component, kernel)


def probability_flow(
    mixture: Mixture,
    process: Process,
    times: Float[ArrayLike, " T"],
    x: Float[ArrayLike, "n d"],
    *,
    component: Int[ArrayLike, "..."] | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Float[Array, "T n d"]:
    r"""The probability flow dx/dt = f x - ½ g² ∇log p_t(x) through x, towards data or towards noise.

    In z = x/√(α²+σ²) every process is the Ornstein-Uhlenbeck process of the same SNR, and against the clock
    u = log(1 + α/σ) its flow is dz/du = (a + b)(D - a z), with a and b the α and σ of z: smooth where α = 0,
    not stiff towards the data. It is solved adaptively (Dormand-Prince 8(7)), all paths with common steps.
    The flow of one component is closed: x_s = α_s μ + Σ_s^{1/2} Σ_t^{-1/2} (x_t - α_t μ).

    Args:
        mixture: law of x_0; variances may be zero.
        process: forward process.
        times: (T,) times, all falling or all rising. α = 0 is allowed (flow matching at t = 1), σ = 0 is
            not: stop a little before the data.
        x: (n, d) states at times[0].
        component: () or (n,) component indices whose conditional flow to follow; None for the whole mixture.
        rtol: relative tolerance of a step's error in each coordinate of z. In high dimension reduce the
            mixture first: along a direction spread over d coordinates the error may be √d times that.
        atol: absolute tolerance, likewise.

    Returns:
        (T, n, d) states at `times`, x first.

    Raises:
        ValueError: when the times are not monotone, leave the process's range or have no noise, x is not a
            finite (n, d) array, or a component is unknown.
        RuntimeError: when the solver does not reach the tolerances; under jit the path is then NaN.
    """
    x = check_states(x, mixture)
    times = check_path(process, times, falling=None)
    component = _components(mixture, component, len(x))
    levels = in_float64(_coefficients, process, times)
    allowed = "positive (stop the flow a little before the data)"
    check_values("sigma at times", levels.sigma, allowed, lambda a: a > 0)
    if component is not None:
        return _gaussian_flow(mixture, levels, x, component)
    path, solved = _flow(mixture, levels, x, rtol, atol)
    if is_concrete(solved) and not solved:
        tolerances = f"rtol={rtol:g} and atol={atol:g} in {x.dtype}"
        raise RuntimeError(f"the flow did not reach {tolerances} within {MAX_FLOW_STEPS} steps; loosen them")
    return path


def u_turn(
    mixture: Mixture,
    process: Process,
    times: Float[ArrayLike, " T"],
    *,
    partition: Partition | None = None,
    key: PRNGKeyArray,
    samples: int,
    steps: int,
    end: float | None = None,
    kernel: str = "exact-mean",
) -> Estimate:
    """The probability that x_0, noised to t and denoised again, is still in its cell, with its standard error.

    The cell that a path returns to is weighted by the exact posterior p(c | x_end) at its end.
    Posteriors are martingales along the reverse process: with the exact kernel the value is E Σ_c p(c|X_t)²
    (`clone_agreement`; Biroli, Bonnaire, de Bortoli, Mezard 2024) wherever the end is, and with the other it
    tends to that with the number of steps.

    Args:
        mixture: law of x_0.
        process: forward process.
        times: (T,) times to turn at, in any order, all above `end`.
        partition: the cells; None makes every component a cell. Components outside a restricted partition
            are left out of the mixture.
        key: JAX random key; the same noise is used at all times.
        samples: paths for each time, >= 2; rounded up to whole blocks when they do not fit into one.
        steps: steps of the way back, equal in log-SNR.
        end: time to come back to. Default: where σ/α is a hundredth of its value at the smallest time, or the
            end of the process's range.
        kernel: as in `reverse_sde`.

    Returns:
        Value and standard error, (T,) each.

    Raises:
        ValueError: on times outside the process's range or not above `end`, a partition of another size,
            samples < 2, steps < 1 or an unknown kernel.
    """
    choose("kernel", kernel, KERNELS)
    check_key(key)
    check_count("samples", samples, 2)
    turns = check_vector(times)
    process.check_times(turns)
    end = _return_time(process, turns) if end is None else end
    process.check_times(end, "end")
    check_values("times", turns, f"above the end of the way back, {end:g}", lambda t: t > end)
    partition = partition_of(mixture.components, partition)
    inside = partition.inside
    question = mixture.take(inside), jnp.asarray(partition.labels[inside])
    results = []
    for t in turns:
        way_back = in_float64(steps_of, process, time_grid(process, t, end, steps))
        common = jax.random.clone(key)  # on purpose the same for all times
        run = _u_turn(*question, process, way_back, common, partition.cells, samples, kernel)
        stays = np.asarray(run, np.float64).reshape(-1)
        results.append((stays.mean(), stays.std(ddof=1) / np.sqrt(stays.size)))
    return Estimate(*np.array(results).T)


# ---------------------------------------------------------------------------------------------- inner parts


class Steps(NamedTuple):
    """A row for each reverse step, (steps,) each, and where the last one ends.

    Attributes:
        t, alpha, sigma: the time that the step starts from, and the process there.
        kernel: the step's reverse kernel.
        end: () alpha and sigma at the last time.
    """

    t: Float[Array, " steps"]
    alpha: Float[Array, " steps"]
    sigma: Float[Array, " steps"]
    kernel: Kernel
    end: tuple[Float[Array, ""], ...]


def steps_of(process: Process, times: Float[Array, " T"]) -> Steps:
    """The reverse steps between neighbouring `times`."""
    alpha, sigma = process.alpha(times), process.sigma(times)
    kernel = reverse_kernel(process, times[:-1], times[1:])
    return Steps(times[:-1], alpha[:-1], sigma[:-1], kernel, (alpha[-1], sigma[-1]))


@functools.partial(jax.jit, static_argnames=("kernel",))
def _reverse_paths(
    mixture: Mixture,
    process: Process,
    steps: Steps,
    x: Float[Array, "n d"],
    key: PRNGKeyArray,
    component: Int[Array, " n"] | None,
    kernel: str,
) -> Float[Array, "T n d"]:
    step = functools.partial(reverse_step, mixture, process, key, component, kernel)
    path = lax.scan(lambda x, row: (y := step(x, row), y), x, rows_of(steps, x.dtype))[1]
    return jnp.concatenate([x[None], path])


def rows_of(steps: Steps, dtype: jnp.dtype) -> tuple[Steps, Int[Array, " steps"]]:
    """Inputs of the scan over reverse steps: the table in the precision of the states, and step numbers."""
    # Times keep their own precision: the denoiser rounds α and σ, not t.
    return _cast(steps, dtype)._replace(t=as_float(steps.t), end=()), jnp.arange(len(steps.t))


def reverse_step(
    mixture: Mixture,
    process: Process,
    key: PRNGKeyArray,
    component: Int[Array, " n"] | None,
    kernel: str,
    x: Float[Array, "n d"],
    row: tuple[Steps, Int[Array, ""]],
) -> Float[Array, "n d"]:
    """One Gaussian step of `reverse_sde` from x; `row` is one of `rows_of`'s, the key that of the whole path."""
    step, number = row
    state, clean, variance = step.kernel
    key_component, key_noise = jax.random.split(jax.random.fold_in(key, number))
    noise = jax.random.normal(key_noise, x.shape, x.dtype)
    if kernel == "exact":
        noisy = diffuse(mixture, step.alpha, step.sigma)
        component = _draw_component(noisy, x, key_component) if component is None else component
        # x_0 given x_t and k has the variance c σ²/(α²c + σ²) where x_0 has c.
        signal, noisiness = step.alpha**2, step.sigma**2
        spread = mixture.covariance.map(lambda c: c * noisiness / (signal * c + noisiness))
        noise = spread.map(lambda v: jnp.sqrt(variance + clean**2 * v)).apply(noise, component)
    else:
        noise = jnp.sqrt(variance) * noise
    return state * x + clean * denoise(mixture, process, x, step.t, component) + noise


def _draw_component(noisy: Mixture, x: Float[Array, "n d"], key: PRNGKeyArray) -> Int[Array, " n"]:
    """k ~ p(k|x): the posterior is the prior of a reweighted mixture.

    Paths are differentiated at fixed components, because a random choice has no derivative.
    """
    noisy, x = lax.stop_gradient((noisy, x))

    def draw(row: tuple[Array, Array]) -> Array:
        x, u = row
        return component_at(noisy.reweighted(log_posterior(noisy, x)), u)

    u = jax.random.uniform(key, x.shape[:1], x.dtype)
    return lax.map(draw, (x, u), batch_size=rows_at_once(noisy))


def rows_at_once(mixture: Mixture) -> int:
    """How many states keep states and posteriors below BLOCK_ELEMENTS."""
    return max(1, BLOCK_ELEMENTS // max(mixture.components, mixture.dim))


@functools.partial(jax.jit, static_argnames=("cells", "samples", "kernel"))
def _u_turn(
    mixture: Mixture,
    labels: Int[Array, " K"],
    process: Process,
    way_back: Steps,
    key: PRNGKeyArray,
    cells: int,
    samples: int,
    kernel: str,
) -> Float[Array, "blocks size"]:
    """Posterior, at the end of each path, of the cell that it started from."""
    blocks = -(-samples // rows_at_once(mixture))
    size = -(-samples // blocks)

    def block(key: PRNGKeyArray) -> Float[Array, " size"]:
        key_start, key_back = jax.random.split(key)
        # Noised points of a component are points of the noised component.
        x, component = sample(diffuse(mixture, way_back.alpha[0], way_back.sigma[0]), key_start, size)
        step = functools.partial(reverse_step, mixture, process, key_back, None, kernel)
        x = lax.scan(lambda x, row: (step(x, row), None), x, rows_of(way_back, x.dtype))[0]
        log_p = cell_log_posterior(log_posterior(diffuse(mixture, *way_back.end), x), labels, cells)
        return jnp.exp(jnp.take_along_axis(log_p, labels[component][:, None], axis=1)[:, 0])

    return lax.map(block, jax.random.split(key, blocks))


def _return_time(process: Process, turns: np.ndarray) -> float:
    def deeper(process: Process, times: Array) -> Array:
        return process.time_at_log_snr(jnp.max(process.log_snr(times)) + 2 * np.log(RETURN_DEPTH))

    return max(float(in_float64(deeper, process, turns)), process.t_min)


def _forward_table(process: Process, times: Float[Array, " T"]) -> tuple[Array, Array]:
    """x_t = scale x_s + noise ε for neighbouring times s < t."""
    alpha, log_snr = process.alpha(times), process.log_snr(times)
    return alpha[1:] / alpha[:-1], process.sigma(times[1:]) * jnp.sqrt(-jnp.expm1(jnp.diff(log_snr)))


@jax.jit
def _forward(
    scale: Float[Array, " steps"], noise: Float[Array, " steps"], x: Float[Array, "n d"], key: PRNGKeyArray
) -> Float[Array, "T n d"]:
    def step(x: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        scale, noise, index = row
        fresh = jax.random.normal(jax.random.fold_in(key, index), x.shape, x.dtype)
        x = scale * x + noise * fresh
        return x, x

    path = lax.scan(step, x, (scale, noise, jnp.arange(len(scale))))[1]
    return jnp.concatenate([x[None], path])


class _Coefficients(NamedTuple):
    """The flow's times: α, σ, the scale √(α²+σ²) of x/z, and the clock u = log(1 + α/σ), (T,) each."""

    alpha: Float[Array, " T"]
    sigma: Float[Array, " T"]
    scale: Float[Array, " T"]
    clock: Float[Array, " T"]


def _coefficients(process: Process, times: Float[Array, " T"]) -> _Coefficients:
    alpha, sigma = process.alpha(times), process.sigma(times)
    return _Coefficients(alpha, sigma, jnp.hypot(alpha, sigma), jax.nn.softplus(0.5 * process.log_snr(times)))


@jax.jit
def _flow(
    mixture: Mixture, levels: _Coefficients, x: Float[Array, "n d"], rtol: float, atol: float
) -> tuple[Float[Array, "T n d"], Bool[Array, ""]]:
    """The path, and whether it was solved."""
    import diffrax  # takes a second to import, which nothing else in the package should wait for

    levels = _cast(levels, x.dtype)
    unit = vp()

    def velocity(u: Any, z: Array, _: Any) -> Array:
        # Rounding may carry the clock below zero, its value at α = 0.
        t = unit.time_at_log_snr(2 * jnp.log(jnp.maximum(jnp.expm1(u), 0)))
        alpha, sigma = unit.alpha(t), unit.sigma(t)
        return (alpha + sigma) * (denoise(mixture, unit, z, t) - alpha * z)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        diffrax.Dopri8(),
        t0=levels.clock[0],
        t1=levels.clock[-1],
        dt0=None,
        y0=x / levels.scale[0],
        saveat=diffrax.SaveAt(ts=levels.clock),
        # Every coordinate of every path has its own tolerance: a mean over paths would hide the few that
        # stand at a decision.
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol, norm=lambda y: jnp.max(jnp.abs(y))),
        max_steps=MAX_FLOW_STEPS,
        throw=False,
    )
    solved = solution.result == diffrax.RESULTS.successful
    path = levels.scale[:, None, None] * jnp.asarray(solution.ys)
    return jnp.where(solved, path, jnp.nan), solved


@jax.jit
def _gaussian_flow(
    mixture: Mixture, levels: _Coefficients, x: Float[Array, "n d"], component: Int[Array, " n"]
) -> Float[Array, "T n d"]:
    levels = _cast(levels, x.dtype)
    mean, start = mixture.means[component], (levels.alpha[0], levels.sigma[0])
    white = mixture.covariance.diffused(*start).map(lambda v: 1 / jnp.sqrt(v))
    noise = white.apply(x - levels.alpha[0] * mean, component)

    def at(row: tuple[Array, Array]) -> Array:
        return row[0] * mean + mixture.covariance.diffused(*row).map(jnp.sqrt).apply(noise, component)

    return lax.map(at, (levels.alpha, levels.sigma))


def _cast(table: Any, dtype: jnp.dtype) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), table)


def check_states(x: Float[ArrayLike, "n d"], mixture: Mixture | None = None) -> Float[Array, "n d"]:
    """`x`, when it is a finite (n, d) array that fits the mixture."""
    check_detached("x", x)
    x = as_float(x)
    if x.ndim != 2 or (mixture is not None and x.shape[1] != mixture.dim):
        dim = "d" if mixture is None else f"{mixture.dim} like the mixture"
        raise ValueError(f"x must have shape (n, {dim}), got {x.shape}")
    check_finite("x", x)
    return x if mixture is None else x.astype(common_dtype(x, mixture.dtype))


def _components(mixture: Mixture, component: Int[ArrayLike, "..."] | None, n: int) -> Int[Array, " n"] | None:
    """The component of each of n states, checked; None for the whole mixture."""
    return None if component is None else jnp.broadcast_to(check_component(mixture, component, (n,)), (n,))


def check_vector(times: Float[ArrayLike, " T"]) -> Any:
    """`times` as a vector, of float64 where they are known."""
    times = np.asarray(times, np.float64) if is_concrete(times) else as_float(times)
    if times.ndim != 1 or times.size == 0:
        raise ValueError(f"times must have shape (T,) with T >= 1, got {times.shape}")
    return times


def check_path(process: Process, times: Float[ArrayLike, " T"], *, falling: bool | None) -> Any:
    """`times`, when they lie in the process's range and fall, or rise, or (None) do one of the two."""
    path = check_vector(times)
    if not is_concrete(process, path):
        return path
    low, high = process.t_min, process.t_max
    inside = lambda t: np.isfinite(t) & (t >= low) & (t <= high)
    check_values("times", path, f"finite and in [{low:g}, {high:g}]", inside)
    falling = bool(path[0] > path[-1]) if falling is None else falling
    for first, second in itertools.pairwise(path):
        if (first > second) != falling or first == second:
            way = "fall (towards data)" if falling else "rise (towards noise)"
            raise ValueError(f"times must {way}, got {first:g} before {second:g}; order them")
    return path
