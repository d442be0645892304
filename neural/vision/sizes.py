"""Sizes of vision networks, read off the shapes of their tensors and off their configuration."""

import math
import re
from collections.abc import Mapping
from typing import Any

from neural.checkpoints import CheckpointError
from neural.checkpoints.shapes import check_shapes
from neural.vision import inception
from neural.vision.names import Tensors
from neural.vision.transformer import TransformerConfig

HEAD_WIDTH = 64
"""Channels of an attention head in the published networks whose files do not say how many there are."""
MAX_DEPTH = 1000
Options = Mapping[str, Any]
# Entries of a configuration that change what is computed, and the only value that is computed here.
_FIXED = {"num_channels": 3, "qkv_bias": True, "apply_layernorm": True}
_ACTIVATIONS = {
    "dinov2": {"gelu": "gelu"},
    "clip": {"quick_gelu": "quick_gelu", "gelu": "gelu"},
}


def read_transformer(tensors: Tensors, layout: str, options: Options) -> TransformerConfig:
    """The sizes of a vision transformer.

    Args:
        tensors: by this project's names.
        layout: of the file that they come from; it decides how positions are interpolated.
        options: entries of the configuration, empty where there is none.

    Raises:
        CheckpointError: naming the tensor that is missing, superfluous or of the wrong shape, or the entry of the
            configuration that is not supported.
    """
    family = layout.split("-")[0]
    for key, value in _FIXED.items():
        if options.get(key, value) != value:
            raise CheckpointError(f"{key} must be {value!r}, the configuration says {options[key]!r}")
    width, depth = _axis(tensors, "class_token", 0), _depth(tensors)
    config = TransformerConfig(
        width=width,
        depth=depth,
        heads=_number(options, "num_attention_heads", max(1, width // HEAD_WIDTH)),
        patch=_axis(tensors, "patch.weight", 2),
        grid=math.isqrt(max(_axis(tensors, "positions", 0) - 1, 1)),
        registers=tensors["registers"].shape[0] if "registers" in tensors else 0,
        epsilon=_epsilon(options, 1e-5 if family == "clip" else 1e-6),
        activation=_activation(tensors, family, options),
        interpolation=_interpolation(tensors, layout),
    )
    if config.grid**2 + 1 != tensors["positions"].shape[0] or width % config.heads:
        raise CheckpointError(
            f"{tensors['positions'].shape[0]} positions must be one and a square, and width {width} a multiple of "
            f"{config.heads} heads"
        )
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    try:
        check_shapes(shapes, _shapes(config, tensors, family), optional=lambda name: name.startswith("head."))
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return config


def check_inception(tensors: Tensors) -> None:
    """Raise CheckpointError, naming the tensor, unless convolutions have their kernels and fit one another."""
    channels = 3
    for name, kind in inception.STEM.items():
        channels = channels if kind == "max" else _convolved(tensors, name, kind, channels)
    for name, block in inception.BLOCKS.items():
        channels = _through_block(tensors, name, block, channels)
    if "fc.weight" in tensors and tensors["fc.weight"].shape[1:] != (channels,):
        raise CheckpointError(
            f"tensor fc.weight has shape {tensors['fc.weight'].shape}, it must read {channels}"
        )


def _through_block(tensors: Tensors, name: str, block: Mapping[str, str], channels: int) -> int:
    """Channels of a block's output."""
    total = channels if "branch_pool" not in block else 0
    for branch in inception.branches(block):
        width, ends = channels, []
        for part in branch:
            out = _convolved(tensors, f"{name}.{part}", block[part], width)
            # Two convolutions that share their input end a branch side by side.
            width, ends = (width, [*ends, out]) if part[-1] in "ab" else (out, [])
        total += sum(ends) or width
    return total


def _convolved(tensors: Tensors, name: str, kind: str, channels: int) -> int:
    """Output channels of a convolution, held to its kernel and to the channels that arrive."""
    shape = tensors[f"{name}.weight"].shape
    if len(shape) != 4 or shape[1:] != (channels, *inception.kernel(kind)) or 0 in shape:
        raise CheckpointError(
            f"tensor {name}.conv.weight has shape {shape}; {channels} channels and a kernel of {kind} are expected"
        )
    for part in ("scale", "shift"):
        if tensors[f"{name}.{part}"].shape != shape[:1]:
            raise CheckpointError(f"the batch normalisation of {name} does not have {shape[0]} channels")
    return shape[0]


def _shapes(config: TransformerConfig, tensors: Tensors, family: str) -> dict[str, tuple[int, ...]]:
    width = config.width
    vector, square = (width,), (width, width)
    shapes: dict[str, tuple[int, ...]] = {
        "patch.weight": (width, 3, config.patch, config.patch),
        "class_token": vector,
        "positions": (config.grid**2 + 1, width),
        "norm.weight": vector,
        "norm.bias": vector,
    }
    if config.registers:
        shapes["registers"] = (config.registers, width)
    if family == "clip":
        shapes |= {"pre_norm.weight": vector, "pre_norm.bias": vector}
        shapes["projection.weight"] = (_axis(tensors, "projection.weight", 0), width)
    else:
        shapes["patch.bias"] = vector
    hidden = _axis(tensors, "layers.0.up.weight", 0)
    inner = hidden // 2 if config.activation == "swiglu" else hidden
    for index in range(config.depth):
        layer = {f"{part}.weight": square for part in ("q", "k", "v", "out")}
        layer |= {f"{part}.bias": vector for part in ("q", "k", "v", "out", "norm1", "norm2", "down")}
        layer |= {
            "norm1.weight": vector,
            "norm2.weight": vector,
            "up.weight": (hidden, width),
            "up.bias": (hidden,),
        }
        layer |= {"down.weight": (width, inner)}
        layer |= {"scale1": vector, "scale2": vector} if family == "dinov2" else {}
        shapes |= {f"layers.{index}.{name}": shape for name, shape in layer.items()}
    if "head.weight" in tensors:
        classes = _axis(tensors, "head.weight", 0)
        shapes |= {"head.weight": (classes, _head_inputs(tensors, width)), "head.bias": (classes,)}
    return shapes


def head_layers(tensors: Tensors, width: int) -> int:
    """How many layers' class tokens a linear head reads: 1 or 4 in the published ones."""
    return _head_inputs(tensors, width) // width - 1


def _head_inputs(tensors: Tensors, width: int) -> int:
    inputs = _axis(tensors, "head.weight", 1)
    if inputs % width or not 2 <= inputs // width <= 1 + _depth(tensors):
        raise CheckpointError(
            f"the linear head reads {inputs} numbers, which are not class tokens and patches of width {width}"
        )
    return inputs


def _depth(tensors: Tensors) -> int:
    layers = {int(m[1]) for m in map(re.compile(r"layers\.(\d{1,4})\.").match, tensors) if m}
    if not layers or max(layers) >= min(MAX_DEPTH, len(tensors)):
        raise CheckpointError("no layers, or more than their tensors can fill")
    return max(layers) + 1


def _axis(tensors: Tensors, name: str, axis: int) -> int:
    shape = tensors[name].shape if name in tensors else ()
    if axis >= len(shape) or 0 in shape:
        shown = f"of shape {shape}" if name in tensors else "missing"
        raise CheckpointError(f"tensor {name} is {shown}, so the sizes cannot be read")
    return shape[axis]


def _number(options: Options, key: str, default: int) -> int:
    value = options.get(key, default)
    if type(value) is not int or value < 1:
        raise CheckpointError(f"{key} must be a positive integer, got {value!r}")
    return value


def _epsilon(options: Options, default: float) -> float:
    value = options.get("layer_norm_eps", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise CheckpointError(f"layer_norm_eps must lie between 0 and 1, got {value!r}")
    return float(value)


def _activation(tensors: Tensors, family: str, options: Options) -> Any:
    if family == "dinov2" and _axis(tensors, "layers.0.up.weight", 0) != _axis(
        tensors, "layers.0.down.weight", 1
    ):
        return "swiglu"
    known = _ACTIVATIONS[family]
    named = options.get("hidden_act", next(iter(known)))
    if not isinstance(named, str) or named not in known:
        raise CheckpointError(
            f"hidden_act must be one of {', '.join(known)}; the configuration says {named!r}"
        )
    return known[named]


def _interpolation(tensors: Tensors, layout: str) -> Any:
    if "registers" in tensors:
        return "antialias"
    return "offset" if layout == "dinov2-original" else "size"
