"""JAX random keys that a person hands in, and their numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray


def check_key(key: Any) -> PRNGKeyArray:
    """Return `key` if it is a JAX random key (typed, or a raw uint32 pair)."""
    if not isinstance(key, jax.Array) or not (_is_typed(key) or key.dtype == jnp.uint32):
        raise ValueError(f"key must be a JAX random key such as jax.random.key(0), got {type(key).__name__}")
    return key


def key_numbers(key: PRNGKeyArray) -> np.ndarray:
    """The whole numbers that a key is made of: seeds for NumPy, and the record of a key in metadata."""
    return np.asarray(jax.random.key_data(key) if _is_typed(key) else key)


def _is_typed(key: jax.Array) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
