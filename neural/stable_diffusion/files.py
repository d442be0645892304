"""The files of a Stable Diffusion checkpoint, in every layout that they are published in.

- A folder as diffusers writes it: ``unet``, ``vae`` and ``text_encoder``, each with a configuration and weights
  (safetensors or torch, whole or in shards, in float32 or float16), beside ``tokenizer`` and ``scheduler``.
- A single file, safetensors or ``.ckpt``, under the original names.
- One network alone: its folder, or a file of its tensors.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neural import checkpoints
from neural.checkpoints import Checkpoint, CheckpointError
from neural.checkpoints.checkpoint import quoted
from neural.checkpoints.other_files import other_kind
from neural.stable_diffusion import sizes
from neural.stable_diffusion.architecture import Shape, TextConfig, UNetConfig, VAEConfig
from neural.stable_diffusion.hints import Hints, read_hints
from neural.stable_diffusion.kinds import (
    READ_HERE,
    WITH_DIFFUSERS,
    check_file_name,
    network_alone,
    of_diffusers,
    other_model,
)
from neural.stable_diffusion.names import (
    PARTS,
    PREFIXES,
    TEXT,
    UNET,
    VAE,
    original_names,
    split_single_file,
    translated,
    unwrapped,
)
from neural.stable_diffusion.scheduler import CHAINS
from neural.stable_diffusion.settings import PIPELINE_SETTINGS, check_settings

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
# Full precision before half, then safetensors before torch.
ENDINGS = (
    *(ending for suffix in ("safetensors", "bin") for ending in (suffix, f"{suffix}.index.json")),
    *(
        ending
        for variant in ("fp16", "bf16")
        for suffix in ("safetensors", "bin")
        for ending in (
            f"{variant}.{suffix}", f"{suffix}.index.{variant}.json", f"{variant}.{suffix}.index.json",
        )
    ),
)  # fmt: skip
MAX_JSON = 1 << 24
SHOWN_FILES = 5
START = 1000
"""Bytes by which a file of another kind is recognised."""
# Pipelines of diffusers that hold the networks of Stable Diffusion 1.x and no other network that changes them.
PIPELINES = (
    *(
        f"StableDiffusion{name}Pipeline"
        for name in (
            "", "AttendAndExcite", "DiffEdit", "Img2Img", "Inpaint", "KDiffusion", "ModelEditing", "PAG",
            "PAGImg2Img", "PAGInpaint", "Panorama", "Paradigms", "Pix2PixZero", "SAG",
        )
    ),
    "CycleDiffusionPipeline", "StableDiffusionInpaintPipelineLegacy", "StableDiffusionPipelineSafe",
)  # fmt: skip

Config = UNetConfig | VAEConfig | TextConfig
READERS = {UNET: sizes.read_unet, VAE: sizes.read_vae, TEXT: sizes.read_text}


class Lazy(Mapping[str, np.ndarray]):
    """Tensors by name, each made when it is asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> np.ndarray:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def renamed(tensors: Mapping[str, np.ndarray], names: Mapping[str, str]) -> Lazy:
    """Tensors under other names.

    Args:
        tensors: by their names.
        names: those names by the new ones.
    """
    return Lazy({new: functools.partial(tensors.__getitem__, old) for new, old in names.items()})


def _under_our_names(part: str, tensors: Mapping[str, np.ndarray], names: Mapping[str, str]) -> Lazy:
    """As `renamed`, with layers that files store as 1x1 convolutions or as matrices in the form used here."""

    def one(new: str, old: str) -> np.ndarray:
        tensor = tensors[old]
        if part == VAE and ".attentions." in new and tensor.shape[2:] == (1, 1):
            return tensor.reshape(tensor.shape[:2])
        if part == UNET and new.endswith((".proj_in.weight", ".proj_out.weight")) and tensor.ndim == 2:
            return tensor.reshape(*tensor.shape, 1, 1)
        return tensor

    return Lazy({new: functools.partial(one, new, old) for new, old in names.items()})


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of a checkpoint: its sizes, its configuration file and its tensors under our names."""

    config: Any
    options: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]

    def only(self, names: Iterable[str]) -> "Network":
        """The same with those tensors alone."""
        return dataclasses.replace(self, tensors=renamed(self.tensors, {name: name for name in names}))


@dataclasses.dataclass(frozen=True)
class Files:
    """What a checkpoint holds.

    Attributes:
        networks: by part.
        scheduler: entries of the scheduler's configuration; empty where there is none.
        tokenizer: folder of the tokenizer's files, if there is one.
        clip_skip: layers of the text encoder to leave out, by the file.
    """

    networks: Mapping[str, Network]
    scheduler: Mapping[str, Any]
    tokenizer: Path | None
    clip_skip: int = 0


def read_files(
    path: Path,
    parts: Sequence[str] = PARTS,
    *,
    ema: bool = False,
    prediction: str | None = None,
    options: Mapping[str, Mapping[str, Any]] = {},
) -> Files:
    """Read the networks of a checkpoint, as views of its files.

    Args:
        path: a folder or a file.
        parts: the networks wanted.
        ema: of a single file that has both, take the U-Net averaged over training.
        prediction: what the network predicts, in place of what a single file says.
        options: of a file, which has no configuration: its entries by part, where they are not those of Stable
            Diffusion 1.5.

    Raises:
        CheckpointError: when a file is missing or cannot be read or trusted, a tensor is missing, superfluous
            or of the wrong shape, or it is another model.
    """
    try:
        if path.is_dir():
            return _read_folder(path, parts, ema)
        return _read_file(path, parts, ema, prediction, options)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_folder(path: Path, parts: Sequence[str], ema: bool) -> Files:
    index = read_json(path / "model_index.json")
    pipeline = index.get("_class_name")
    if pipeline is not None and pipeline not in PIPELINES:
        raise CheckpointError(f"{path}: {not_ours(f'a {quoted(str(pipeline))}')}")
    if len(parts) > 1:
        check_settings("model_index.json", index, PIPELINE_SETTINGS)
    if ema:
        raise CheckpointError(f"{path}: ema is for single files that hold both; a folder holds one U-Net")
    alone = len(parts) == 1 and not (path / parts[0]).is_dir()
    networks = {part: _read_part(path if alone else path / part, part) for part in parts}
    tokenizer = path / "tokenizer"
    return Files(networks, _scheduler(path, index), tokenizer if tokenizer.is_dir() else None)


def _scheduler(path: Path, index: Mapping[str, Any]) -> dict[str, Any]:
    """The scheduler's entries. Its class is that of the pipeline, which is what diffusers loads."""
    options = read_json(path / "scheduler" / "scheduler_config.json")
    listed = index.get("scheduler")
    for cls in (options.get("_class_name"), listed[-1] if isinstance(listed, list) and listed else None):
        if cls is not None:
            options["_class_name"] = cls
            if cls not in CHAINS:
                break
    return options


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
    present = sorted(path.name for path in folder.iterdir() if path.suffix != ".json")[:SHOWN_FILES]
    beside = f"; it holds {', '.join(map(quoted, present))}" if present else ""
    raise CheckpointError(
        f"{folder} holds no weights ({', '.join(f'{stem}.safetensors' for stem in STEMS)}){beside}"
    )


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
    return Lazy({name: functools.partial(tensors.__getitem__, name) for name, tensors in places.items()})


def _read_file(
    path: Path,
    parts: Sequence[str],
    ema: bool,
    prediction: str | None,
    options: Mapping[str, Mapping[str, Any]],
) -> Files:
    check_file_name(path)
    checkpoint = checkpoints.read(path)
    hints = (
        read_hints(path, checkpoint, prediction) if is_single_file(unwrapped(checkpoint.tensors)) else Hints()
    )
    joined = {part: {**hints.options.get(part, {}), **options.get(part, {})} for part in parts}
    networks = networks_of(checkpoint, parts, ema=ema, options=joined)
    beside = path.with_name("tokenizer")
    return Files(networks, hints.scheduler, beside if beside.is_dir() else None, hints.clip_skip)


def is_single_file(names: Iterable[str]) -> bool:
    """Whether tensors go by the names of Stable Diffusion's single file."""
    return any(name.startswith(prefix) for name in names for prefix in PREFIXES.values())


def networks_of(
    checkpoint: Checkpoint,
    parts: Sequence[str] = PARTS,
    *,
    ema: bool = False,
    options: Mapping[str, Mapping[str, Any]] = {},
) -> dict[str, Network]:
    """The networks in one file: all of the single file, or one network's tensors alone.

    Raises:
        ValueError: as `read_files`.
    """
    tensors = renamed(checkpoint.tensors, unwrapped(checkpoint.tensors))
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if other := other_model(shapes):
        raise ValueError(not_ours(other))
    if not is_single_file(shapes):
        if len(parts) > 1:
            raise ValueError(_not_a_checkpoint(shapes))
        return {parts[0]: _network(parts[0], tensors, options.get(parts[0], {}))}
    split = split_single_file(shapes, ema=ema)
    if split[""] and len(parts) > 1:
        raise ValueError(
            f"{len(split[''])} tensor(s) that belong to no network: {quoted(min(split['']))}, ..."
        )
    networks = {}
    for part in parts:
        if not split[part]:
            raise ValueError(f"no tensor is named like {PREFIXES[part]}...: the file has no {part}")
        networks[part] = _network(part, renamed(tensors, split[part]), options.get(part, {}))
    return networks


def _not_a_checkpoint(shapes: Mapping[str, Shape]) -> str:
    alone = network_alone(shapes)
    if alone is None:
        return f"not Stable Diffusion: no tensor is named like {PREFIXES[UNET]}..."
    return (
        f"this is {alone}; load_sd15 needs all three networks: a folder with {', '.join(PARTS)}, or a single file "
        f"whose tensors are named like {PREFIXES[UNET]}..."
    )


def _network(part: str, tensors: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> Network:
    tensors = renamed(tensors, unwrapped(tensors))
    shapes: dict[str, Shape] = {name: tensors[name].shape for name in tensors}
    if other := other_model(shapes):
        raise ValueError(not_ours(other))
    ours = _under_our_names(part, tensors, translated(part, shapes, _plan(part, shapes)))
    for name, tensor in ours.items():
        if tensor.dtype.kind != "f" and tensor.dtype.name != "bfloat16":
            raise ValueError(f"{part}: tensor {name} must hold floating-point numbers, got {tensor.dtype}")
    config = READERS[part]({name: tensor.shape for name, tensor in ours.items()}, options)
    return Network(config, options, ours)


def _plan(part: str, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Our names by the original ones, for the layout that these tensors have."""
    if part == UNET and "input_blocks.0.0.weight" in shapes:
        config: Config = sizes.original_unet(shapes)
    elif part == VAE and any(".mid.attn_1." in name for name in shapes):
        config = sizes.original_vae(shapes)
    else:
        return {}
    return {theirs: ours for ours, theirs in original_names(config).items()}


def not_ours(model: str) -> str:
    """What to say of a file that is something else; its own way out comes first."""
    if ";" in model:
        return f"this is {model}"
    way_out = f"; {WITH_DIFFUSERS}" if of_diffusers(model) else ""
    return f"this is {model}; {READ_HERE}{way_out}"


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
        raw = path.read_bytes()
        contents = json.loads(raw.decode("utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is {other_kind(raw[:START]) or 'not JSON'}") from error
    if not isinstance(contents, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return contents
