"""The weights that the network computes with, made once from a checkpoint's tensors.

Training keeps the stored rows unnormalised and normalises them in every forward pass (Karras et al. 2024).
For inference the factors are constants, so they are multiplied in here: w / (1e-4 + RMS(w)) · gain / √fan_in
for each output row w of every convolution and linear layer.

The folded weights have the checkpoint's own names. A gain becomes part of the layer that it scales. The layouts are
the fastest for XLA: convolutions (height, width, in, out), linear layers (in, out).
"""

import functools
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from neural.arithmetic import wide
from neural.edm2.architecture import Config

EPSILON = 1e-4
"""Added to the root mean square that a row of weights, or the channels of a pixel, are divided by."""

_ROWS = 64


def fold(
    tensors: Mapping[str, np.ndarray], config: Config, dtype: np.dtype, *, as_published: bool = False
) -> dict[str, Array]:
    """Fold normalisation and gains into the weights of a checkpoint that fits `config`.

    Args:
        tensors: the checkpoint, by `state_dict` name.
        config: its sizes, from `read_config`.
        dtype: of the convolutions. The embedding of noise level and class and the uncertainty output, a
            negligible share of the work, stay in at least float32: a noise level rounded to bfloat16 would be
            another noise level.
        as_published: round every gain / √fan_in to float16, as the published float16 pickles do when the
            official code computes with them in float32.
    """
    convert = functools.partial(_fold, tensors, config, np.dtype(dtype), as_published)
    # Largest first, so that the temporary memory of a conversion is free again when all results exist.
    names = sorted(
        (name for name in tensors if not name.endswith("_gain")), key=lambda name: -tensors[name].size
    )
    # NumPy releases the interpreter lock: threads share the conversion of some hundred million numbers.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return {
            name: jax.device_put(array) for name, array in zip(names, pool.map(convert, names), strict=True)
        }


def _fold(
    tensors: Mapping[str, np.ndarray], config: Config, dtype: np.dtype, rounded: bool, name: str
) -> np.ndarray:
    stored = tensors[name]
    if not name.endswith(".weight"):
        # A copy even where the type fits, because weights must not be views of a file.
        return np.array(stored, wide(dtype))
    gain = tensors.get(_gain_name(name) or "")
    order = np.arange(stored.shape[0])
    if name.endswith(".attn_qkv.weight"):
        order = _split_qkv(order, config.channels_per_head)
    scale = _label_scale(name, config)
    kernel = stored.shape[2:]
    folded = np.empty((*kernel, stored.shape[1], stored.shape[0]), dtype if kernel else wide(dtype))
    # A few rows at a time, so that temporary arrays stay small and in the cache.
    for begin in range(0, len(order), _ROWS):
        part = slice(begin, begin + _ROWS)
        rows = np.asarray(stored[order[part]], wide(dtype))
        weight = normalised(rows, gain, rounded=rounded) * rows.dtype.type(scale)
        folded[..., part] = weight.transpose(*range(2, stored.ndim), 1, 0)
    return folded


def _gain_name(name: str) -> str | None:
    if name == "unet.out_conv.weight":
        return "unet.out_gain"
    return name.replace(".emb_linear.weight", ".emb_gain") if name.endswith(".emb_linear.weight") else None


def _label_scale(name: str, config: Config) -> float:
    # The network takes a class index; training multiplied a one-hot row by √label_dim.
    return config.label_dim**0.5 if name == "unet.emb_label.weight" else 1.0


def normalised(weight: Any, gain: np.ndarray | None = None, *, rounded: bool = False) -> Any:
    """Each row of `weight` (out, ...) over its root mean square plus ε, times gain / √fan_in.

    NumPy or JAX arrays; a row of zeros stays zero.
    """
    rows = weight.reshape(weight.shape[0], -1)
    rms = (rows**2).mean(axis=1, keepdims=True) ** 0.5
    return (rows * (_factor(gain, rows.shape[1], weight.dtype, rounded) / (rms + EPSILON))).reshape(
        weight.shape
    )


def _factor(gain: np.ndarray | None, fan_in: int, dtype: np.dtype, rounded: bool) -> np.ndarray:
    """gain / √fan_in; 1 / √fan_in, never rounded to float16, for a layer without a gain."""
    root = np.sqrt(np.float64(fan_in))
    if gain is None:
        return np.asarray(1 / root, dtype)
    if rounded:
        return np.asarray(np.float16(np.float32(gain) / np.float32(root)), dtype)
    return np.asarray(np.float64(gain) / root, dtype)


def _split_qkv(rows: np.ndarray, width: int) -> np.ndarray:
    """Order the output rows (n,) as (q | k | v, head, channel); stored are (head, channel, q | k | v)."""
    return rows.reshape(-1, width, 3).transpose(2, 0, 1).ravel()


def fold_traced(tensors: Mapping[str, Array], config: Config) -> dict[str, Array]:
    """The weights of `fold` by a function that JAX can trace and differentiate; training uses it.

    Args:
        tensors: the checkpoint's, by `state_dict` name, in its layout.
        config: its sizes.
    """

    def convert(name: str) -> Array:
        stored = tensors[name]
        if not name.endswith(".weight"):
            return stored
        weight = normalised(stored) * _label_scale(name, config)
        if gain := _gain_name(name):
            weight = weight * tensors[gain]
        if name.endswith(".attn_qkv.weight"):
            weight = weight[_split_qkv(np.arange(len(stored)), config.channels_per_head)]
        return weight.transpose(*range(2, stored.ndim), 1, 0)

    return {name: convert(name) for name in tensors if not name.endswith("_gain")}


def forced(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors with every row of every weight at root mean square one, as in training (eqs. 66 and 67)."""
    return {
        name: normalised(tensor) * (tensor[0].size ** 0.5) if name.endswith(".weight") else tensor
        for name, tensor in tensors.items()
    }
