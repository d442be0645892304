"""The clock of a process, in float64 whatever the caller's precision: times, noise levels and scales."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from gmm.checks import is_concrete, may_be_infinite, padded
from gmm.process import Process

Times = Float[ArrayLike, " T"] | Sequence[float]
"""Times of a process as a caller may give them: an array, or a list of numbers."""


@may_be_infinite
def in_float64(function: Callable[[Process, Array], Any], process: Process, values: Any) -> Any:
    """`function(process, values)` as float64 NumPy arrays, whatever the caller's precision.

    All paths share the rounding of a table. Under a JAX trace the caller's precision is used.
    """
    if not is_concrete(process, values):
        return function(process, values)
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        table = function(process, jnp.asarray(values, jnp.float64))
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), table)


def times_at(process: Process, noise: Float[ArrayLike, "..."]) -> Float[np.ndarray, "..."]:
    """(...) the process's times at noise levels log(σ/α)."""
    return in_float64(lambda process, v: process.time_at_log_snr(-2 * v), process, noise)


def noise_at(process: Process, times: Float[ArrayLike, "..."]) -> Float[np.ndarray, "..."]:
    """(...) noise levels log(σ/α) at the process's times."""
    return in_float64(lambda process, t: -0.5 * process.log_snr(t), process, times)


def scales_at(process: Process, times: Float[ArrayLike, "..."]) -> tuple[np.ndarray, np.ndarray]:
    """Signal scale α and noise standard deviation σ at the process's times, (...) each."""
    return in_float64(lambda process, t: (process.alpha(t), process.sigma(t)), process, times)


class Schedule(NamedTuple):
    """The process at T times, in float64: t, log_snr, its slope, alpha, sigma and diffusion g, (T,) each."""

    t: np.ndarray
    log_snr: np.ndarray
    log_snr_slope: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    diffusion: np.ndarray


def schedule(process: Process, times: Times) -> Schedule:
    """Evaluate a process at `times` (T,) in float64, whatever the caller's precision.

    Raises:
        ValueError: when times is not one-dimensional or leaves the process's range.
    """
    t = np.asarray(times, np.float64)
    if t.ndim != 1 or t.size == 0:
        raise ValueError(f"times must have shape (T,) with T >= 1, got {t.shape}")
    process.check_times(t)
    with jax.enable_x64(True):
        values = _functions_of_time(process, jnp.asarray(padded(t)))
    return Schedule(t, *(np.asarray(value, np.float64)[: t.size] for value in values))


@jax.jit
def _functions_of_time(process: Process, t: Float[Array, " T"]) -> tuple[Float[Array, " T"], ...]:
    slope = jax.vmap(jax.grad(process.log_snr))
    return process.log_snr(t), slope(t), process.alpha(t), process.sigma(t), process.diffusion(t)
