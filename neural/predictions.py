r"""What networks predict, and the posterior mean E[x_0 | x_t] that follows from it.

With x_t = α x_0 + σ ε and the network's output u, "error" the factor on an error of u::

    prediction   what u estimates          D = E[x_0 | x_t]             error of D          much noise   little noise
    "x0"         x_0                       u                            1                   1            1
    "eps"        ε                         (x - σ u)/α                  σ/α                 infinite     0
    "v"          α ε - σ x_0               (α x - σ u)/(α² + σ²)        σ/(α² + σ²)         1 (VP)       0
    "velocity"   dx_t/dt = α' x_0 + σ' ε   (σ' x - σ u)/(ασ' - σα')     σ/(ασ' - σα')       1 (flow)     0
    "F"          see below                 c_skip x/α + c_out u         c_out               σ_data       0

"v" is that of Salimans and Ho (2022, arXiv 2202.00512, section 4). For flow matching, α = 1 - t and σ = t, "velocity"
is ε - x_0 and D = x - t u. "F" is the network of EDM (Karras et al. 2022, eq. 7), with the level σ/α in the place of σ:
c_skip = s²/(l² + s²), c_out = l s/√(l² + s²), l = σ/α, s = σ_data.

An eps-network cannot resolve x_0 at much noise: its error in ε, a few percent, is multiplied by σ/α, which is 80 at the
usual largest level. At α = 0 (zero terminal SNR) its output says nothing about x_0, and the conversion is refused.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm.checks import check_values, choose
from gmm.process import Process

PREDICTIONS = ("x0", "eps", "v", "velocity", "F")


def check_prediction(prediction: str, process: Any, data_range: Any, sigma_data: float) -> None:
    """Raise ValueError unless the conversion to E[x_0 | x_t] is defined; see the docstring of the module."""
    choose("prediction", prediction, PREDICTIONS)
    if not isinstance(process, Process):
        raise ValueError(
            f"process must be a forward process such as gmm.edm() or gmm.flow(), got {type(process).__name__}"
        )
    if not sigma_data > 0:
        raise ValueError(f"sigma_data must be positive, got {sigma_data}")
    if data_range is None:
        return
    ends = np.asarray(data_range, np.float64)
    if ends.shape != (2,) or not ends[0] < ends[1]:
        raise ValueError(f"data_range must be two rising numbers or None, got {data_range!r}")


def to_x0(
    prediction: str,
    process: Process,
    x: Float[Array, "n ..."],
    t: Any,
    output: Float[Array, "n ..."],
    sigma_data: float = 0.5,
) -> Float[Array, "n ..."]:
    """E[x_0 | x_t] from the output of a network, by the formulas of the module.

    Args:
        prediction: one of `PREDICTIONS`.
        process: forward process.
        x: (n, ...) noisy states.
        t: () or (n,) times.
        output: (n, ...) the network's output.
        sigma_data: s of "F".

    Raises:
        ValueError: for "eps" at a known time where α = 0.
    """
    if prediction == "x0":
        return output
    on_state, on_output = coefficients(prediction, process, t, sigma_data)
    return _per_state(on_state, x) * x + _per_state(on_output, x) * output.astype(x.dtype)


def coefficients(prediction: str, process: Process, t: Any, sigma_data: float = 0.5) -> tuple[Array, Array]:
    """a and b of D = a x + b u at the times t, for outputs other than "x0"; shapes as t."""
    t = jnp.asarray(t, jnp.result_type(t, float))
    alpha, sigma = process.alpha(t), process.sigma(t)
    if prediction == "eps":
        allowed = (
            'where alpha > 0: at zero signal-to-noise ratio an eps-prediction does not determine x_0; use "v"'
        )
        check_values("t", alpha, allowed, lambda a: a > 0)
        return 1 / alpha, -sigma / alpha
    if prediction == "v":
        square = alpha**2 + sigma**2
        return alpha / square, -sigma / square
    if prediction == "velocity":
        unit = jnp.ones_like(t)
        alpha_slope, sigma_slope = (jax.jvp(f, (t,), (unit,))[1] for f in (process.alpha, process.sigma))
        wronskian = alpha * sigma_slope - sigma * alpha_slope
        return sigma_slope / wronskian, -sigma / wronskian
    level = sigma / alpha
    square = level**2 + sigma_data**2
    return sigma_data**2 / square / alpha, level * sigma_data / jnp.sqrt(square)


def _per_state(factor: Array, x: Array) -> Array:
    """A factor () or (n,) in a shape that multiplies states (n, ...)."""
    return factor.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
