"""What work will cost on this device, from a short measurement of its speed."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neural.denoiser import as_pytree, denoise_each, encode, from_pytree, state_dtype
from paper_figures.studies.question import Question

# Numbers in the largest array of a timed call: about what the estimators use.
_NUMBERS = 2**20


def seconds_per_evaluation(question: Question) -> float:
    """Seconds of one evaluation of the network on one state, by a timed call of the size that the estimators use."""
    model = question.model
    conditions = encode(model.denoiser, question.decision.conditions)
    count = len(question.decision.conditions)
    most = question.batch or max(1, _NUMBERS // (int(np.prod(model.shape)) * count))
    states = min(question.per_run, most)
    x = jnp.ones((states, *model.shape), state_dtype(model.denoiser))
    middle = jnp.asarray(question.times[len(question.times) // 2])
    wrapped, at_once = as_pytree(model.denoiser), max(1, most // states)
    return _seconds(lambda: _evaluate(wrapped, x, middle, conditions, at_once)) / (states * count)


@functools.partial(jax.jit, static_argnames=("at_once",))
def _evaluate(wrapped: Any, x: Array, t: Array, conditions: Any, at_once: int) -> Array:
    return jnp.sum(denoise_each(from_pytree(wrapped), x, t, conditions, at_once))


def operations_per_second(size: int = 512, repeats: int = 8) -> float:
    """Operations per second of float32 matrix products on this device, as busy as it is now."""
    a = jnp.ones((size, size), jnp.float32)
    return 2 * size**3 * repeats / _seconds(lambda: [_square(a) for _ in range(repeats)])


@jax.jit
def _square(a: Array) -> Array:
    return a @ a


def _seconds(call: Callable[[], Any]) -> float:
    """Seconds of a call whose programs are compiled already."""
    jax.block_until_ready(call())
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started
