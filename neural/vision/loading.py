"""Loading a vision network: a folder, a file or a preset becomes a judge."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from neural import checkpoints
from neural.checkpoints import CheckpointError
from neural.stable_diffusion import sizes as text_sizes
from neural.stable_diffusion.files import read_json, read_weights
from neural.stable_diffusion.tokenizer import has_library, read_tokenizer
from neural.stable_diffusion.vocabulary import has_vocabulary
from neural.stable_diffusion.weights import check_dtype, convert
from neural.vision import names, sizes
from neural.vision.judge import TextTower, VisionJudge
from neural.vision.names import Tensors

ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
Source = str | os.PathLike[str]
_MODELS = {
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2",
    "clip": "clip",
    "clip_vision_model": "clip",
}
"""The layout that a configuration's model_type promises."""


def load_judge(source: Source, *, dtype: DTypeLike = jnp.float32, head: Source | None = None) -> VisionJudge:
    """A vision network that judges images: DINOv2, CLIP's image tower or Inception-v3.

    Args:
        source: a folder as transformers writes it (config.json and weights; CLIP with both towers, or the image tower
            with its projection), a ``.pth`` or ``.safetensors`` file (DINOv2 under its authors' names, Inception-v3
            of the Fréchet inception distance), or a preset that lies in the cache.
        dtype: float32, bfloat16 or float16 to compute in; norms and softmax stay in at least float32.
        head: file of DINOv2's linear head for ImageNet's classes (``weight`` and ``bias``), where it is apart.

    Raises:
        CheckpointError: (a ValueError) when a file is missing, cannot be read or trusted, holds another network, or a
            tensor is missing, superfluous or of the wrong shape.
        ValueError: on another dtype.
    """
    dtype = check_dtype(dtype)
    located = checkpoints.locate(source)
    path, head = located[0], head if head is not None or len(located) < 2 else located[1]
    try:
        return _judge(path, dtype, None if head is None else Path(head))
    except CheckpointError as error:
        named = str(error) if str(path) in str(error) else f"{path}: {error}"
        raise CheckpointError(named) from error


def _judge(path: Path, dtype: np.dtype, head: Path | None) -> VisionJudge:
    tensors, options = _read(path)
    layout = names.layout_of(tensors)
    if layout is None:
        raise CheckpointError(
            "this is none of DINOv2, CLIP's image tower and Inception-v3 by its tensors' names"
        )
    promised = options.get("model_type")
    if promised is not None and _MODELS.get(promised) != layout.split("-")[0]:
        raise CheckpointError(f"config.json says model_type {promised!r}, the tensors are those of {layout}")
    parts = names.translated(tensors, layout)
    if layout == "inception":
        sizes.check_inception(parts)
        return VisionJudge("inception", convert(parts, dtype), None, dtype, int("fc.weight" in parts))
    if head is not None:
        parts |= _head(head)
    vision = options.get("vision_config", options) if layout == "clip" else options
    config = sizes.read_transformer(parts, layout, _mapping(vision))
    layers = sizes.head_layers(parts, config.width) if "head.weight" in parts else 0
    text = _text_tower(path, tensors, options, dtype) if layout == "clip" else None
    return VisionJudge(
        "clip" if layout == "clip" else "dinov2", convert(parts, dtype), config, dtype, layers, text
    )


def _read(path: Path) -> tuple[Tensors, Mapping[str, Any]]:
    """Tensors under their published names, and the entries of the configuration."""
    if not path.is_dir():
        return checkpoints.read(path).tensors, {}
    others = sorted(file for ending in ENDINGS for file in path.glob(f"*{ending}"))
    tensors = checkpoints.read(others[0]).tensors if len(others) == 1 else read_weights(path)
    return tensors, read_json(path / "config.json")


def _head(path: Path) -> dict[str, np.ndarray]:
    tensors = checkpoints.read(path).tensors
    if set(tensors) != {"weight", "bias"}:
        raise CheckpointError(
            f"{path}: a linear head holds the tensors weight and bias, got {sorted(tensors)[:5]}"
        )
    return {f"head.{name}": tensors[name] for name in tensors}


def _mapping(options: Any) -> Mapping[str, Any]:
    if not isinstance(options, Mapping):
        raise CheckpointError(f"vision_config must be a JSON object, got {type(options).__name__}")
    return options


def _text_tower(
    path: Path, tensors: Tensors, options: Mapping[str, Any], dtype: np.dtype
) -> TextTower | None:
    mine = {name: tensors[name] for name in tensors if name.startswith("text_model.")}
    mine = {name: tensor for name, tensor in mine.items() if not name.endswith(".position_ids")}
    if not mine or "text_projection.weight" not in tensors or not path.is_dir():
        return None
    config = text_sizes.read_text(
        {name: tensor.shape for name, tensor in mine.items()}, options.get("text_config")
    )
    projection = tensors["text_projection.weight"]
    image = tensors["visual_projection.weight"].shape if "visual_projection.weight" in tensors else ()
    if projection.ndim != 2 or projection.shape[1] != config.width or image[:1] != projection.shape[:1]:
        raise CheckpointError(
            f"text_projection.weight of shape {projection.shape} does not lead from the text tower's width "
            f"{config.width} to where the images are"
        )
    scale = float(tensors["logit_scale"]) if "logit_scale" in tensors else math.log(100)
    # CLIP clips the temperature so that logits are scaled by at most 100.
    tokenizer = read_tokenizer(path) if has_library() and has_vocabulary(path) else None
    return TextTower(
        convert({**mine, "text_projection.weight": projection}, dtype),
        config,
        math.exp(min(scale, 10.0)),
        tokenizer,
    )
