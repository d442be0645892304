"""Arithmetic of the networks: what is never rounded to half precision, what float32 means, work in equal parts."""

import jax
import jax.numpy as jnp
import numpy as np


def wide(dtype: np.dtype) -> np.dtype:
    """The type of what must not be rounded to half precision: `dtype`, but at least float32."""
    return np.dtype(jnp.promote_types(dtype, np.float32))


def precision(dtype: np.dtype) -> jax.lax.Precision:
    """float32 means float32: accelerators would multiply in tensorfloat32 or bfloat16 unless told."""
    return jax.lax.Precision.HIGHEST if dtype.itemsize >= 4 else jax.lax.Precision.DEFAULT


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` within `limit`; at least 1."""
    return max(d for d in range(1, number + 1) if number % d == 0 and (d == 1 or d <= limit))
