"""LoRA: low-rank changes of weights (Hu et al. 2021, arXiv 2106.09685), added to the weights at load.

A file holds for some layers two factors, "down" of shape (r, in, ...) and "up" of shape (out, r, ...). The weight
becomes W + scale · (α/r) · up · down; α is r where the file has none. Three spellings are read: that of kohya's
scripts (``lora_unet_..._to_q.lora_down.weight``), of diffusers (``unet....to_q.lora.down.weight``, and with
attention processors ``unet....processor.to_q_lora.down.weight``), and of PEFT (``....to_q.lora_A.weight``).
"""

import dataclasses
import functools
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neural import checkpoints
from neural.checkpoints import Checkpoint, CheckpointError
from neural.checkpoints.checkpoint import quoted
from neural.stable_diffusion.files import Lazy, Network, not_ours, read_json
from neural.stable_diffusion.kinds import check_file_name, other_model, unsupported_change
from neural.stable_diffusion.names import TEXT, UNET, original_names, unwrapped
from neural.stable_diffusion.settings import ADAPTER_SETTINGS, check_settings

Source = str | os.PathLike[str]
ADAPTER_CONFIG = "adapter_config.json"
METADATA = "lora_adapter_metadata"
FILES = tuple(
    f"{stem}.{ending}"
    for ending in ("safetensors", "bin")
    for stem in ("pytorch_lora_weights", "adapter_model")
)

DOWN, UP = "down", "up"
_FACTORS = {"lora_down": DOWN, "lora_up": UP, "lora.down": DOWN, "lora.up": UP, "lora_A": DOWN, "lora_B": UP}
_FACTOR = re.compile(r"(.+)\.(lora_down|lora_up|lora\.down|lora\.up|lora_A|lora_B)(?:\.[A-Za-z]\w*)?\.weight")
_PROCESSOR = re.compile(
    r"(.+?)(?:\.processor)?\.(to_q|to_k|to_v|to_out|q_proj|k_proj|v_proj|out_proj)_lora\.(down|up)\.weight"
)
_LINEAR = re.compile(r"(.+)\.lora_linear_layer\.(down|up)\.weight")
_ALPHA = re.compile(r"(.+)\.alpha")
_PARTS = {
    "lora_unet_": UNET,
    "lora_te_": TEXT,
    "unet.": UNET,
    "text_encoder.": TEXT,
    "base_model.model.": None,
}
_TEXT_NAMES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


@dataclasses.dataclass(frozen=True, eq=False)
class Change:
    """The change of one layer: scale · up · down is added to its weight."""

    down: np.ndarray
    up: np.ndarray
    scale: float

    def of(self, weight: np.ndarray) -> np.ndarray:
        """The change, in the shape of the weight."""
        rank = len(self.down)
        product = self.up.reshape(-1, rank).astype(np.float32) @ self.down.reshape(rank, -1).astype(
            np.float32
        )
        return np.float32(self.scale) * product.reshape(weight.shape)


def with_lora(
    networks: Mapping[str, Network], sources: Sequence[Source | tuple[Source, float]]
) -> Mapping[str, Network]:
    """Networks with the changes of some LoRA files added to their weights.

    Args:
        networks: by part.
        sources: files, or pairs of a file and its scale; added in this order.

    Raises:
        CheckpointError: when a file is not a LoRA of these networks: a layer that they do not have or a wrong
            shape, by name, or a kind of change that is not supported.
        ValueError: when a scale is not a finite number.
    """
    if isinstance(sources, str | os.PathLike):
        raise ValueError(f"lora must be a list of files or of pairs (file, scale), got {str(sources)!r}")
    layers = _layers(networks)
    for source in sources:
        path, scale = source if isinstance(source, tuple) else (source, 1.0)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
            raise ValueError(f"the scale of a LoRA must be a finite number, got {scale!r}")
        try:
            changes = _read(Path(path), layers, networks, float(scale))
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
        networks = {part: _changed(network, changes.get(part, {})) for part, network in networks.items()}
    return networks


def _changed(network: Network, changes: Mapping[str, Change]) -> Network:
    def one(name: str, change: Change) -> np.ndarray:
        weight = np.asarray(network.tensors[name], np.float32)
        return weight + change.of(weight)

    makers: dict[str, Callable[[], np.ndarray]] = {
        name: functools.partial(one, name, changes[name])
        if name in changes
        else functools.partial(network.tensors.__getitem__, name)
        for name in network.tensors
    }
    return dataclasses.replace(network, tensors=Lazy(makers)) if changes else network


# From the names of a file to layers.

Layer = tuple[str, str]
"""A network and the name of a weight in it."""


def _layers(networks: Mapping[str, Network]) -> dict[tuple[str, str], Layer]:
    """Layers by network and by their name with underscores for dots, in every spelling."""
    layers: dict[tuple[str, str], Layer] = {}
    for part in (UNET, TEXT):
        # Its tensors may be of more layers than are used.
        text = {name: name for name in networks[TEXT].tensors}
        for ours, original in (text if part == TEXT else original_names(networks[part].config)).items():
            if not ours.endswith(".weight"):
                continue
            for name in (ours, original, ours.removeprefix("text_model.")):
                layers[part, _flat(name.removesuffix(".weight"))] = (part, ours)
    return layers


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _read(
    path: Path, layers: Mapping[tuple[str, str], Layer], networks: Mapping[str, Network], scale: float
) -> dict[str, dict[str, Change]]:
    checkpoint, settings = _opened(path)
    tensors = {plain: checkpoint.tensors[name] for plain, name in unwrapped(checkpoint.tensors).items()}
    if other := unsupported_change(tensors) or _other(tensors):
        raise ValueError(not_ours(other))
    factors, alphas = _factors(tensors)
    changes: dict[str, dict[str, Change]] = {}
    for name, pair in factors.items():
        part, weight = layer = _layer(name, layers)
        if pair.keys() != {DOWN, UP}:
            raise ValueError(f"layer {quoted(name)} has only one of its two factors")
        rank = len(pair[DOWN])
        alpha = alphas.pop(name, None)
        factor = settings.factor(part, name, rank) if alpha is None else alpha / rank
        _check_shapes(name, pair, networks[part].tensors[weight].shape)
        if weight in changes.setdefault(part, {}):
            raise ValueError(f"layer {quoted(weight)} is changed twice")
        changes[layer[0]][weight] = Change(pair[DOWN], pair[UP], scale * factor)
    if alphas:
        raise ValueError(f"layer {quoted(min(alphas))} has an alpha, but no factors")
    return changes


def _opened(path: Path) -> tuple[Checkpoint, "AdapterSettings"]:
    """The tensors of a file or of a folder, and the settings that come with them."""
    if path.is_dir():
        files = [path / name for name in FILES if (path / name).is_file()]
        if not files:
            raise ValueError(f"the folder holds none of {', '.join(FILES)}")
        path = files[0]
    check_file_name(path)
    checkpoint = checkpoints.read(path)
    metadata = checkpoint.attributes.get(METADATA)
    if isinstance(metadata, dict):
        return checkpoint, AdapterSettings(metadata, prefixed=True)
    beside = path.with_name(ADAPTER_CONFIG)
    named = any(name.startswith("base_model.model.") for name in checkpoint.tensors)
    if named and not beside.is_file():
        raise ValueError(
            f"a LoRA in the spelling of PEFT needs {ADAPTER_CONFIG} beside it, which has its alpha"
        )
    return checkpoint, AdapterSettings(read_json(beside) if named else {}, prefixed=False)


class AdapterSettings:
    """What a LoRA's configuration says: PEFT's, alone or by network inside the metadata of diffusers."""

    def __init__(self, entries: Mapping[str, Any], *, prefixed: bool) -> None:
        self._parts: dict[str, dict[str, Any]] = {}
        for part in (UNET, TEXT):
            mine = {
                key.removeprefix(f"{part}."): value
                for key, value in entries.items()
                if key.startswith(f"{part}.")
            }
            self._parts[part] = mine if prefixed else dict(entries)
            check_settings("the LoRA's configuration", self._parts[part], ADAPTER_SETTINGS)

    def factor(self, part: str, name: str, rank: int) -> float:
        """What the product of a layer's factors is multiplied by: α/r, or α/√r."""
        entries = self._parts[part]
        alpha = entries.get("lora_alpha", rank)
        patterns = entries.get("alpha_pattern") or {}
        for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
            if re.search(r"[^\w.]", pattern):
                raise ValueError(
                    f"alpha_pattern must name layers, got the regular expression {quoted(pattern)}"
                )
            alpha = value if f".{name}".endswith(f".{pattern}") else alpha
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise ValueError(f"lora_alpha must be a number, got {alpha!r}")
        return alpha / (math.sqrt(rank) if entries.get("use_rslora") else rank)


def _other(tensors: Mapping[str, np.ndarray]) -> str | None:
    """What else than a LoRA the tensors are."""
    if any(map(_FACTOR.fullmatch, tensors)) or any(map(_PROCESSOR.fullmatch, tensors)):
        return None
    return other_model({name: tensor.shape for name, tensor in tensors.items()})


def _factors(
    tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """The two factors of every layer and its alpha, by the layer's name in the file."""
    factors: dict[str, dict[str, np.ndarray]] = {}
    alphas: dict[str, float] = {}
    for name, tensor in tensors.items():
        if match := _ALPHA.fullmatch(name):
            alphas[match[1]] = _scalar(name, tensor)
            continue
        if match := _PROCESSOR.fullmatch(name):
            layer, factor = _attention_layer(match[1], match[2]), match[3]
        elif match := _LINEAR.fullmatch(name):
            layer, factor = match[1], match[2]
        elif match := _FACTOR.fullmatch(name):
            layer, factor = match[1], _FACTORS[match[2]]
        else:
            raise ValueError(
                f"tensor {quoted(name)} is no part of a LoRA in the spelling of diffusers, PEFT or kohya"
            )
        if factor in factors.setdefault(layer, {}):
            raise ValueError(f"layer {quoted(layer)} has the factor {factor} twice")
        factors[layer][factor] = tensor
    if not factors:
        raise ValueError("the file has no factors of a LoRA")
    return factors, alphas


def _attention_layer(attention: str, part: str) -> str:
    if attention.endswith("self_attn"):
        return f"{attention}.{_TEXT_NAMES.get(part, part)}"
    return f"{attention}.to_out.0" if part == "to_out" else f"{attention}.{part}"


def _scalar(name: str, tensor: np.ndarray) -> float:
    values = np.asarray(tensor, np.float64).reshape(-1)
    if len(values) != 1 or not np.isfinite(values[0]):
        raise ValueError(f"{quoted(name)} must be one finite number, got shape {tensor.shape}")
    return float(values[0])


def _layer(name: str, layers: Mapping[tuple[str, str], Layer]) -> Layer:
    prefix = next((prefix for prefix in _PARTS if name.startswith(prefix)), "")
    part, inner = _PARTS.get(prefix), _flat(name.removeprefix(prefix))
    parts = (UNET, TEXT) if part is None else (part,)
    candidates = [layers[network, inner] for network in parts if (network, inner) in layers]
    if len(candidates) != 1:
        raise ValueError(
            f"it changes the layer {quoted(name)}, which this model does not have; it belongs to another"
        )
    return candidates[0]


def _check_shapes(name: str, pair: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> None:
    down, up = pair[DOWN], pair[UP]
    inside = math.prod(shape[1:])
    rank = down.shape[0] if down.ndim else 0
    fits = down.ndim >= 2 and rank and down.size == rank * inside and up.size == rank * shape[0]
    if not fits or up.shape[:2] != (shape[0], rank):
        raise ValueError(
            f"layer {quoted(name)}: factors of shapes {down.shape} and {up.shape} do not fit a weight of shape "
            f"{shape}; the LoRA belongs to another model"
        )
