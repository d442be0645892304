"""Parts that all integrators of guided paths share: names of samplers, where paths start, a Runge-Kutta step."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

Sampler = Literal["sde", "flow"]
SAMPLERS: tuple[Sampler, ...] = ("sde", "flow")
"""The reverse SDE, and the probability flow."""

SMALLEST_RHO = 1e-8
# Paths start where ρ, the largest squared distance of a mean from the centre in units of the noise, has this value.
# Guidance before then would shift a state by (w-1) √ρ of its standard deviation. The flow keeps that shift; of the
# shift of the SDE only (w-1) ρ/√ρ' is left at a later ρ'.
FIRST_RHO: dict[Sampler, float] = {"sde": 1e-4, "flow": SMALLEST_RHO}

# A stage of the step starts from x plus this share of the step times the slope of the stage before.
_SHARES = (0.0, 0.5, 0.5, 1.0)

T = TypeVar("T", np.ndarray, Array)


def runge_kutta_step(
    slope: Callable[[T, Any], T], x: T, step: Any, start: Any, middle: Any, end: Any, *, traced: bool = False
) -> T:
    """x after one classical Runge-Kutta step of fourth order.

    Args:
        slope: slope(x, place) = dx/du.
        x: state at the start.
        step: length of the step in u.
        start: place at the start, in the form that `slope` takes; a pytree of arrays if traced.
        middle: place in the middle.
        end: place at the end.
        traced: run the four stages as a `lax.scan`, so that JAX compiles `slope` once instead of four times.
    """

    def stage(before: Any, inputs: Any) -> tuple[Any, Any]:
        share, place = inputs
        here = slope(x + share * step * before, place)
        return here, here

    places = (start, middle, middle, end)
    if traced:
        stacked = jnp.asarray(_SHARES, x.dtype), jax.tree.map(lambda *leaves: jnp.stack(leaves), *places)
        slopes = lax.scan(stage, jnp.zeros_like(x), stacked)[1]
    else:
        slopes, before = [], 0.0
        for inputs in zip(_SHARES, places, strict=True):
            before, _ = stage(before, inputs)
            slopes.append(before)
    return x + step / 6 * (slopes[0] + 2 * slopes[1] + 2 * slopes[2] + slopes[3])
