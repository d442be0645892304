"""NumPy functions that JAX can trace: float64 whatever the caller's precision, with exact derivatives.

The quadratures choose their grids from the values they are given, which a traced function cannot do. Known
values
therefore go straight to NumPy: no compilation, float64 in and out. Under jit, vmap and grad the same NumPy
function
runs as a callback; it computes in float64 and the result has the precision that JAX is set to. Derivatives
are the closed forms, themselves such functions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from gmm.checks import as_float, is_concrete

Array = np.ndarray
Shape = tuple[int, ...]


def _same(shape: Shape) -> Shape:
    return shape


@dataclasses.dataclass(frozen=True)
class HostFunction:
    """A function of `rho` and parameters, evaluated by NumPy.

    Attributes:
        name: the public name, for messages.
        compute: (rho, *parameters) float64 arrays of one shape -> float64 array. It must not raise on any
        values:
            under a transformation nothing has been checked.
        derivative: the derivative with respect to rho, or None where there is no closed form.
        apply: (derivative, tangent of rho) -> tangent of the result.
        shape: shape of rho -> shape of the result.
    """

    name: str
    compute: Callable[..., Array]
    derivative: "HostFunction | None" = None
    apply: Callable[[Any, Any], Any] = jnp.multiply
    shape: Callable[[Shape], Shape] = _same

    def __call__(self, rho: Any, *parameters: Any) -> Any:
        """The function of arguments that broadcast together."""
        if is_concrete(rho, *parameters):
            arrays = (np.asarray(value, np.float64) for value in (rho, *parameters))
            return self.compute(*np.broadcast_arrays(*arrays))[()]
        # Known numbers become floats first: a class count of 10^12 is no 32-bit integer.
        known = (np.asarray(v, np.float64) if is_concrete(v) else v for v in (rho, *parameters))
        values = jnp.broadcast_arrays(*map(as_float, known))
        return self._traced(*values)

    @property
    def _traced(self) -> Callable[..., jax.Array]:
        function = jax.custom_jvp(self._callback)
        function.defjvp(self._push_forward, symbolic_zeros=True)
        return function

    def _callback(self, *values: jax.Array) -> jax.Array:
        dtype = jnp.result_type(float)

        def compute(*arrays: Any) -> Array:
            return np.asarray(self.compute(*(np.asarray(a, np.float64) for a in arrays)), dtype)

        result = jax.ShapeDtypeStruct(self.shape(values[0].shape), dtype)
        return jax.pure_callback(compute, result, *values, vmap_method="broadcast_all")

    def _push_forward(self, values: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        if not all(isinstance(tangent, SymbolicZero) for tangent in tangents[1:]):
            raise TypeError(f"{self.name} can be differentiated with respect to rho only")
        result = self(*values)
        if isinstance(tangents[0], SymbolicZero):
            return result, jnp.zeros_like(result)
        if self.derivative is None:
            raise TypeError(f"{self.name} has no derivative in closed form; difference it instead")
        return result, self.apply(self.derivative(*values), tangents[0]).astype(result.dtype)
