"""Number types of the networks: what is never rounded to half precision, and what float32 means."""

import jax
import jax.numpy as jnp
import numpy as np


def wide(dtype: np.dtype) -> np.dtype:
    """The type of what must not be rounded to half precision: `dtype`, but at least float32."""
    return np.dtype(jnp.promote_types(dtype, np.float32))


def precision(dtype: np.dtype) -> jax.lax.Precision:
    """float32 means float32: accelerators would multiply in tensorfloat32 or bfloat16 unless told."""
    return jax.lax.Precision.HIGHEST if dtype.itemsize >= 4 else jax.lax.Precision.DEFAULT
