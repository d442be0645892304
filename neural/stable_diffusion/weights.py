"""The weights of the networks from the tensors of a checkpoint: one copy, nothing transposed."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array

from gmm.checks import choose
from neural.arithmetic import wide

ALIGNMENT = 64
"""XLA uses an array of the host without a copy when its address is a multiple of this many bytes."""


def check_dtype(dtype: DTypeLike) -> np.dtype:
    """The type to compute in.

    Raises:
        ValueError: for one that is not float32, bfloat16 or float16, or float64 where JAX is set to 64 bit.
    """
    in_64_bit = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
    names = ("float32", "bfloat16", "float16") + (("float64",) if in_64_bit else ())
    return np.dtype(choose("dtype", jnp.dtype(dtype).name, names))


def convert(tensors: Mapping[str, np.ndarray], dtype: np.dtype) -> dict[str, Array]:
    """Weights by the names of `tensors`.

    Matrices and kernels are in `dtype`. Norms, biases and the embedding of time, a small share, stay in at least
    float32, because a time rounded to bfloat16 is another time.

    Raises:
        ValueError: when a tensor's numbers do not fit float16.
    """

    def one(name: str) -> np.ndarray:
        tensor = tensors[name]
        high = tensor.ndim < 2 or "time_emb" in name
        copy = _copied(tensor, wide(dtype) if high else dtype)
        if copy.dtype == np.float16 and tensor.dtype != np.float16 and not np.isfinite(copy).all():
            raise ValueError(f"tensor {name} does not fit float16; load with dtype='bfloat16' (or float32)")
        return copy

    # NumPy releases the interpreter lock while it copies, so threads read in parallel.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        names = list(tensors)
        return {name: jax.device_put(array) for name, array in zip(names, pool.map(one, names), strict=True)}


def _copied(tensor: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A copy that XLA does not copy again. Weights must not be views of a file."""
    size = tensor.size * dtype.itemsize
    padded = np.empty(size + ALIGNMENT, np.uint8)
    start = -padded.ctypes.data % ALIGNMENT
    copy = padded[start : start + size].view(dtype).reshape(tensor.shape)
    with np.errstate(over="ignore"):
        np.copyto(copy, tensor, casting="unsafe")
    return copy
