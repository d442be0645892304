"""Weights on this machine: presets are listed and fetched, files converted and checked."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from neural import checkpoints
from neural.checkpoints import PRESETS, Checkpoint, CheckpointError, hub
from neural.checkpoints.hugging_face import fetch_repository
from neural.checkpoints.presets import Repository, cache_folder, published_files
from neural.edm2 import check_network
from paper_figures.progress import bars
from paper_figures.terminal import console

_MEGABYTE = 1e6
_PART = 1 << 22


def show_presets() -> None:
    """Print every preset with its files."""
    out = _console()
    for name, preset in PRESETS.items():
        out.print(f"{name}: {preset.about}")
        if preset.repository is not None:
            repository = preset.repository
            state = "fetched" if not repository.missing() else "not fetched"
            out.print(f"  {repository.address} (about {repository.size / _MEGABYTE:.0f} MB, {state})")
        for file in preset.files:
            size = "size unknown" if file.size is None else f"about {file.size / _MEGABYTE:.0f} MB"
            out.print(f"  {file.address} ({size}, {'fetched' if file.path.exists() else 'not fetched'})")
    out.print(f"cache folder: {cache_folder()}")


def fetch_preset(name: str, revision: str | None = None) -> None:
    """Download every file of a preset into the cache and print where it is.

    Args:
        name: of a preset, or an official EDM2 name.
        revision: another commit, branch or tag than the pinned one, of a repository.

    Raises:
        ValueError: for an unknown name, a revision of what has none, and as `hub.fetch` and `fetch_repository`.
    """
    files = published_files(name)
    if isinstance(files, Repository):
        with _bars() as shown:
            folder = fetch_repository(files, revision, lambda file: _reporter(shown, file.name))
        _console().print(f"{folder} ({files.name} at {revision or files.revision})")
        return
    if revision is not None:
        raise ValueError(
            f"revision must be left out for a file, and {name} is one; only repositories have revisions"
        )
    for file in files:
        with _bars() as shown:
            path = hub.fetch(file, _reporter(shown, file.name))
        _console().print(f"{path} sha256 {hub.recorded(path)}")


def _bars() -> Progress:
    return bars(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())


def _reporter(shown: Progress, name: str) -> Callable[[int, int | None], None]:
    task = shown.add_task(name, total=None)
    return lambda done, total: shown.update(task, completed=done, total=total)


def convert_file(source: Path, target: Path) -> None:
    """Write a checkpoint as safetensors.

    Raises:
        ValueError: when the source cannot be read or trusted, holds EDM2 or Stable Diffusion but does not fit
            it, or the target cannot be written or is no ``.safetensors``.
    """
    if target.suffix != ".safetensors":
        raise ValueError(f"FILE.safetensors must end in .safetensors, got {target}")
    checkpoint = checkpoints.read(source)
    _describe(source, checkpoint)
    checkpoints.write_safetensors(target, checkpoint.tensors, checkpoint.attributes)
    _console().print(f"written: {target}")


def check_file(file: Path) -> None:
    """Check that a checkpoint is whole, and print what it holds.

    Args:
        file: a checkpoint, a folder of Stable Diffusion, or the name of a preset that is one.

    Raises:
        ValueError: when it cannot be read or trusted, has changed since it was fetched, holds EDM2 or Stable
            Diffusion but does not fit it, or holds numbers that are not finite.
    """
    repository = PRESETS[str(file)].repository if str(file) in PRESETS and not file.exists() else None
    if repository is not None or file.is_dir():
        _check_folder(checkpoints.locate(str(file))[0])
        return
    checkpoint = checkpoints.read(file)
    about = _describe(file, checkpoint)
    _check_finite(file, checkpoint)
    tensors = checkpoint.tensors.values()
    dtypes = Counter(tensor.dtype.name for tensor in tensors)
    out = _console()
    out.print(f"{file}: {about}")
    out.print(f"tensors: {len(tensors)} ({', '.join(f'{count} {name}' for name, count in dtypes.items())})")
    out.print(f"values: {sum(math.prod(tensor.shape) for tensor in tensors):,}")
    if checkpoint.ignored:
        out.print(f"left aside, neither looked up nor read: {', '.join(checkpoint.ignored)}")
    recorded = hub.verify(file)
    out.print(
        f"sha256: {recorded} (as recorded)" if recorded else f"sha256: {hub.sha256(file)} (none recorded)"
    )


def _check_folder(folder: Path) -> None:
    from neural.stable_diffusion import files

    alone = (folder / "config.json").is_file()
    contents = files.read_files(folder, (files.VAE,) if alone else files.PARTS)
    out = _console()
    out.print(f"{folder}: {_stable_diffusion(contents.networks)}")
    for part, network in contents.networks.items():
        _check_finite(folder / part, Checkpoint(network.tensors, {}))
        dtypes = Counter(tensor.dtype.name for tensor in network.tensors.values())
        values = sum(math.prod(tensor.shape) for tensor in network.tensors.values())
        kinds = ", ".join(f"{count} {name}" for name, count in dtypes.items())
        out.print(f"{part}: {len(network.tensors)} tensors ({kinds}), {values:,} values")
    for path in sorted(folder.rglob("*.sha256")):
        weights = path.with_suffix("")
        out.print(f"{weights.relative_to(folder)} sha256: {hub.verify(weights)} (as recorded)")
    if not alone:
        out.print(f"tokenizer: {'found' if contents.tokenizer else 'none; prompts need one'}")


def _stable_diffusion(networks: Mapping[str, Any]) -> str:
    if "unet" not in networks:
        return f"the autoencoder of Stable Diffusion, widths {networks['vae'].config.widths}"
    unet = networks["unet"].config
    widths = ", ".join(map(str, unet.widths))
    return f"Stable Diffusion 1.x, widths {widths}, text states {unet.context} wide"


def _describe(file: Path, checkpoint: Checkpoint) -> str:
    """Which network it is, in words; what looks like EDM2 or Stable Diffusion must have its tensors."""
    from neural.stable_diffusion import files

    if files.is_single_file(checkpoint.tensors):
        try:
            return _stable_diffusion(files.networks_of(checkpoint))
        except ValueError as error:
            raise CheckpointError(f"{file}: {error}") from error
    if "unet.out_gain" not in checkpoint.tensors and checkpoint.attributes.get("class_name") != "Precond":
        return "tensors of no network known here"
    try:
        c = check_network(checkpoint)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error
    classes = f"{c.label_dim} classes" if c.label_dim else "unconditional"
    shape = " x ".join(map(str, c.image_shape))
    return f"EDM2 for images of {shape}, {classes}, channels {', '.join(map(str, c.channels))}"


def _check_finite(file: Path, checkpoint: Checkpoint) -> None:
    for name, tensor in checkpoint.tensors.items():
        # A few million numbers at a time: no mask of the tensor's size.
        flat = tensor.reshape(-1)
        parts = (flat[start : start + _PART] for start in range(0, flat.size, _PART))
        bad = tensor.size - sum(int(np.count_nonzero(np.isfinite(part))) for part in parts)
        if bad:
            raise CheckpointError(f"{file}: tensor {name} holds {bad} value(s) that are not finite")


def _console() -> Console:
    # Paths and addresses are for copying: never wrapped, never coloured.
    return console(soft_wrap=True)
