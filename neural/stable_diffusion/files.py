"""The files of a Stable Diffusion checkpoint, in every layout that they are published in.

- A folder as diffusers writes it: ``unet``, ``vae`` and ``text_encoder``, each with a configuration and weights
  (safetensors or torch, whole or in shards, in float32 or float16), beside ``tokenizer`` and ``scheduler``.
- A single file, safetensors or ``.ckpt``, under the original names.
- One network alone: its folder, or a file of its tensors.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neural import checkpoints
from neural.checkpoints import Checkpoint, CheckpointError
from neural.checkpoints.checkpoint import quoted
from neural.stable_diffusion import sizes
from neural.stable_diffusion.architecture import Shape, TextConfig, UNetConfig, VAEConfig
from neural.stable_diffusion.names import (
    PARTS,
    PREFIXES,
    TEXT,
    UNET,
    VAE,
    original_names,
    split_single_file,
    translated,
)

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
# Full precision before half, safetensors before torch.
ENDINGS = tuple(
    ending
    for suffix in ("safetensors", "bin")
    for ending in (
        f"{suffix}", f"{suffix}.index.json",
        f"fp16.{suffix}", f"{suffix}.index.fp16.json", f"fp16.{suffix}.index.json",
    )
)  # fmt: skip
MAX_JSON = 1 << 24

Config = UNetConfig | VAEConfig | TextConfig
READERS = {UNET: sizes.read_unet, VAE: sizes.read_vae, TEXT: sizes.read_text}


class Renamed(Mapping[str, np.ndarray]):
    """Tensors of a file under our names, each looked up when it is asked for."""

    def __init__(self, part: str, tensors: Mapping[str, np.ndarray], names: Mapping[str, str]) -> None:
        self._part, self._tensors, self._names = part, tensors, names

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensors[self._names[name]]
        if self._part == VAE and ".attentions." in name and tensor.shape[2:] == (1, 1):
            # The original has 1x1 convolutions where diffusers has linear layers.
            return tensor.reshape(tensor.shape[:2])
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of a checkpoint: its sizes, its configuration file and its tensors under our names."""

    config: Any
    options: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Files:
    """What a checkpoint holds.

    Attributes:
        networks: by part.
        scheduler: entries of the scheduler's configuration; empty where there is none.
        tokenizer: folder of the tokenizer's files, if there is one.
    """

    networks: Mapping[str, Network]
    scheduler: Mapping[str, Any]
    tokenizer: Path | None


def read_files(
    path: Path,
    parts: Sequence[str] = PARTS,
    *,
    ema: bool = False,
    options: Mapping[str, Mapping[str, Any]] = {},
) -> Files:
    """Read the networks of a checkpoint, as views of its files.

    Args:
        path: a folder or a file.
        parts: the networks wanted.
        ema: of a single file that has both, take the U-Net averaged over training.
        options: of a file, which has no configuration: its entries by part, where they are not those of Stable
            Diffusion 1.5.

    Raises:
        CheckpointError: when a file is missing or cannot be read or trusted, a tensor is missing, superfluous
            or of the wrong shape, or it is another model.
    """
    try:
        return _read_folder(path, parts, ema) if path.is_dir() else _read_file(path, parts, ema, options)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_folder(path: Path, parts: Sequence[str], ema: bool) -> Files:
    pipeline = read_json(path / "model_index.json").get("_class_name")
    if isinstance(pipeline, str) and not pipeline.startswith("StableDiffusionPipeline"):
        raise CheckpointError(f"{path}: {_not_ours(f'a {quoted(pipeline)}')}")
    if ema:
        raise CheckpointError(f"{path}: ema is for single files that hold both; a folder holds one U-Net")
    alone = len(parts) == 1 and not (path / parts[0]).is_dir()
    networks = {part: _read_part(path if alone else path / part, part) for part in parts}
    tokenizer = path / "tokenizer"
    return Files(
        networks,
        read_json(path / "scheduler" / "scheduler_config.json"),
        tokenizer if tokenizer.is_dir() else None,
    )


def _read_part(folder: Path, part: str) -> Network:
    if not folder.is_dir():
        raise CheckpointError(f"{folder.parent} has no folder {part}")
    try:
        return _network(part, read_weights(folder), read_json(folder / "config.json"))
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def read_weights(folder: Path) -> Mapping[str, np.ndarray]:
    """The tensors of a folder as diffusers or transformers writes it: one file or shards, full precision first.

    Raises:
        CheckpointError: when the folder holds no weights, or they cannot be read.
    """
    for ending in ENDINGS:
        for stem in STEMS:
            path = folder / f"{stem}.{ending}"
            if path.is_file():
                return _shards(path) if ending.endswith(".json") else checkpoints.read(path).tensors
    raise CheckpointError(f"{folder} holds no weights ({', '.join(f'{stem}.safetensors' for stem in STEMS)})")


class _Joined(Mapping[str, np.ndarray]):
    """Tensors that lie in several files."""

    def __init__(self, places: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> np.ndarray:
        return self._places[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _shards(index: Path) -> Mapping[str, np.ndarray]:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or any(not isinstance(file, str) for file in listed.values()):
        raise CheckpointError(f"{index}: weight_map must map names to files")
    places: dict[str, Mapping[str, np.ndarray]] = {}
    for file in sorted(set(listed.values())):
        # A name, not a path that leads elsewhere.
        if Path(file).name != file or file in ("", "..", "."):
            raise CheckpointError(f"{index}: {quoted(file)} is no name of a file beside it")
        tensors = checkpoints.read(index.with_name(file)).tensors
        for name in tensors:
            if name in places:
                raise CheckpointError(f"{index}: tensor {quoted(name)} lies in two files")
            places[name] = tensors
    if missing := sorted(listed.keys() - places.keys()):
        raise CheckpointError(f"{index}: {len(missing)} tensor(s) in none of its files: {quoted(missing[0])}")
    return _Joined(places)


def _read_file(
    path: Path, parts: Sequence[str], ema: bool, options: Mapping[str, Mapping[str, Any]]
) -> Files:
    networks = networks_of(checkpoints.read(path), parts, ema=ema, options=options)
    beside = path.with_name("tokenizer")
    return Files(networks, {}, beside if beside.is_dir() else None)


def is_single_file(names: Iterable[str]) -> bool:
    """Whether tensors go by the names of Stable Diffusion's single file."""
    return any(name.startswith(prefix) for name in names for prefix in PREFIXES.values())


def networks_of(
    held: Checkpoint,
    parts: Sequence[str] = PARTS,
    *,
    ema: bool = False,
    options: Mapping[str, Mapping[str, Any]] = {},
) -> dict[str, Network]:
    """The networks in one file: all of the single file, or one network's tensors alone.

    Raises:
        ValueError: as `read_files`.
    """
    shapes = {name: tensor.shape for name, tensor in held.tensors.items()}
    if other := sizes.other_model(shapes):
        raise ValueError(_not_ours(other))
    if not is_single_file(shapes):
        if len(parts) > 1:
            raise ValueError(f"not Stable Diffusion: no tensor is named like {PREFIXES[UNET]}...")
        return {parts[0]: _network(parts[0], held.tensors, options.get(parts[0], {}))}
    split = split_single_file(shapes, ema=ema)
    if split[""] and len(parts) > 1:
        raise ValueError(
            f"{len(split[''])} tensor(s) that belong to no network: {quoted(min(split['']))}, ..."
        )
    networks = {}
    for part in parts:
        if not split[part]:
            raise ValueError(f"no tensor is named like {PREFIXES[part]}...: the file has no {part}")
        networks[part] = _network(part, Renamed(part, held.tensors, split[part]), options.get(part, {}))
    return networks


def _network(part: str, tensors: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> Network:
    shapes: dict[str, Shape] = {name: tensors[name].shape for name in tensors}
    if other := sizes.other_model(shapes):
        raise ValueError(_not_ours(other))
    renamed = Renamed(part, tensors, translated(part, shapes, _plan(part, shapes)))
    for name, tensor in renamed.items():
        if tensor.dtype.kind != "f" and tensor.dtype.name != "bfloat16":
            raise ValueError(f"{part}: tensor {name} must hold floating-point numbers, got {tensor.dtype}")
    config = READERS[part]({name: tensor.shape for name, tensor in renamed.items()}, options)
    return Network(config, options, renamed)


def _plan(part: str, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Our names by the original ones, for the layout that these tensors have."""
    if part == UNET and "input_blocks.0.0.weight" in shapes:
        config: Config = sizes.original_unet(shapes)
    elif part == VAE and any(".mid.attn_1." in name for name in shapes):
        config = sizes.original_vae(shapes)
    else:
        return {}
    return {theirs: ours for ours, theirs in original_names(config).items()}


def _not_ours(model: str | None) -> str:
    return f"this is {model}; load_sd15 reads Stable Diffusion 1.x (text states 768 wide, 4 latent channels)"


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file; empty where there is none.

    Raises:
        CheckpointError: when it is too large or no JSON object.
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_JSON:
        raise CheckpointError(f"{path} has more than {MAX_JSON} bytes")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return found
