"""Short hashes of what a result follows from, by which finished work is recognised."""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmm.keys import key_numbers


def fingerprint(*parts: Any) -> str:
    """SHA-256, in hexadecimal, of everything that a result follows from: arrays, and facts in JSON's types.

    Of an array the bytes count, not its type and shape.
    """
    digest = hashlib.sha256()
    for part in parts:
        if hasattr(part, "dtype"):
            digest.update(np.ascontiguousarray(part).view(np.uint8).data)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def tree_fingerprint(*trees: Any) -> str:
    """The same of pytrees: arrays count by type, shape and bytes, JAX keys by their numbers, all else by its `repr`."""
    parts: list[Any] = []
    for leaf in jax.tree.leaves(trees):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = key_numbers(leaf)
        if isinstance(leaf, jax.Array | np.ndarray):
            array = np.asarray(leaf)
            parts += [[str(array.dtype), array.shape], array]
        else:
            parts.append([type(leaf).__name__, repr(leaf)])
    return fingerprint(*parts)
