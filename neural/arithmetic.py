"""Arithmetic of the networks: types wide enough, precision of matrix products, equal parts of work."""

import jax
import numpy as np


def wide(dtype: np.dtype) -> np.dtype:
    """`dtype`, but at least float32: for values that must not be rounded to half precision."""
    # NumPy's promotion, which JAX's strict mode does not forbid.
    return np.promote_types(dtype, np.float32)


def precision(dtype: np.dtype) -> jax.lax.Precision:
    """The precision of matrix products in `dtype`: full for float32, which accelerators would otherwise round."""
    return jax.lax.Precision.HIGHEST if dtype.itemsize >= 4 else jax.lax.Precision.DEFAULT


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` within `limit`; at least 1."""
    return max(d for d in range(1, number + 1) if number % d == 0 and (d == 1 or d <= limit))
