"""Published networks from a file or a preset."""

import dataclasses
import os
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from neural import checkpoints
from neural.checkpoints import Checkpoint, CheckpointError
from neural.edm2.architecture import Config, read_config
from neural.edm2.denoiser import EDM2, from_tensors

Source = str | os.PathLike[str]
ZERO_LABEL = "zero_label_trained"
"""Attribute of a checkpoint whose network has seen the zero label in training; no published one has."""


def load_edm2(
    source: Source,
    *,
    dtype: DTypeLike = jnp.float32,
    as_published: bool = False,
    unconditional: Source | Literal["sibling"] | None = "sibling",
) -> EDM2:
    """An EDM2 network from a file or a preset name.

    Args:
        source: an official ``.pkl``, a ``.safetensors`` made from one, the name of a preset, or an official
            name; files of the latter two must lie in the cache (`speciation weights fetch`).
        dtype: float32, bfloat16 or float16 for the convolutions.
        as_published: take the published float16 gains as the official code does when it computes in float32:
            gain / √fan_in rounded to float16. That moves outputs by up to 2e-4 of their size. The default
            converts the gains to float32 first.
        unconditional: source of the network that guidance and gaps use in place of the untrained zero label.
            By default the preset's own, or the file beside `source` whose name differs by ``-uncond``, if
            there is one, or the network itself, if the file says that it was trained on the zero label too; None
            for no such network.

    Returns:
        The denoiser; its weights are folded once, see `neural.edm2.weights`.

    Raises:
        CheckpointError: (a ValueError) when a file is not there, cannot be read or trusted, is not what was
            recorded when it was fetched, or is no EDM2 network: a tensor is missing, superfluous or of the wrong
            shape (named, with both shapes).
        ValueError: on another dtype.
    """
    path, *others = checkpoints.locate(source)
    model = _load(path, dtype, as_published)
    if unconditional is None:
        return dataclasses.replace(model, unconditional=None)
    if not model.config.label_dim:
        return model
    if unconditional == "sibling":
        beside = others[0] if others else checkpoints.sibling(path)
    else:
        beside = checkpoints.locate(unconditional)[0]
    return model if beside is None else model.with_unconditional(_load(beside, dtype, as_published))


def _load(path: Path, dtype: DTypeLike, as_published: bool) -> EDM2:
    checkpoints.verify(path)
    checkpoint = checkpoints.read(path)
    try:
        check_network(checkpoint)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    options = checkpoint.attributes.get("init_kwargs")
    model = from_tensors(checkpoint.tensors, options, dtype=dtype, as_published=as_published)
    return model.with_unconditional(model) if checkpoint.attributes.get(ZERO_LABEL) is True else model


def check_network(checkpoint: Checkpoint) -> Config:
    """The sizes of the network that a checkpoint holds.

    Raises:
        ValueError: when it holds no EDM2 network, see `read_config`; tensors must be of floating type.
    """
    options = checkpoint.attributes.get("init_kwargs")
    if options is not None and not isinstance(options, dict):
        raise ValueError(f"init_kwargs must be a dictionary, got {type(options).__name__}")
    for name, tensor in checkpoint.tensors.items():
        if not jnp.issubdtype(tensor.dtype, np.floating):
            raise ValueError(f"tensor {name} must hold floating-point numbers, got {tensor.dtype}")
    return read_config({name: tensor.shape for name, tensor in checkpoint.tensors.items()}, options)
