"""What ``speciation weights`` does."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from neural import checkpoints
from neural.checkpoints import PRESETS, Checkpoint, CheckpointError, hub
from neural.checkpoints.presets import cache_folder, known
from neural.edm2 import check_network

_MEGABYTE = 1e6


def show_presets() -> None:
    """Print every preset with its files."""
    out = _console()
    for name, preset in PRESETS.items():
        out.print(f"{name}: {preset.about}")
        for file in preset.files:
            size = "size unknown" if file.size is None else f"about {file.size / _MEGABYTE:.0f} MB"
            out.print(f"  {file.address} ({size}, {'fetched' if file.path.exists() else 'not fetched'})")
    out.print(f"cache folder: {cache_folder()}")


def fetch_preset(name: str) -> None:
    """Bring every file of a preset into the cache and print where it is.

    Raises:
        ValueError: for an unknown name, and as `hub.fetch`.
    """
    for file in known(name):
        with _progress() as bars:
            path = hub.fetch(file, _reporter(bars, file.name))
        _console().print(f"{path} sha256 {hub.recorded(path)}")


def _progress() -> Progress:
    # To standard error: what a command prints can be piped.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _reporter(bars: Progress, name: str) -> Callable[[int, int | None], None]:
    task = bars.add_task(name, total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)


def convert_file(source: Path, target: Path) -> None:
    """Write a checkpoint as safetensors.

    Raises:
        ValueError: when the source cannot be read or trusted, holds the network of EDM2 but does not fit it,
            or the target cannot be written or is no ``.safetensors``.
    """
    if target.suffix != ".safetensors":
        raise ValueError(f"FILE.safetensors must end in .safetensors, got {target}")
    checkpoint = checkpoints.read(source)
    _describe(source, checkpoint)
    checkpoints.write_safetensors(target, checkpoint.tensors, checkpoint.attributes)
    _console().print(f"written: {target}")


def check_file(file: Path) -> None:
    """Print what a checkpoint holds, once it has proved to be whole.

    Raises:
        ValueError: when it cannot be read or trusted, has changed since it was fetched, holds the network of
            EDM2 but does not fit it, or holds numbers that are not finite.
    """
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


def _describe(file: Path, checkpoint: Checkpoint) -> str:
    """What network it is; anything that looks like EDM2 must fit it."""
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
        bad = tensor.size - np.count_nonzero(np.isfinite(tensor))
        if bad:
            raise CheckpointError(f"{file}: tensor {name} holds {bad} value(s) that are not finite")


def _console() -> Console:
    # Paths and addresses are for copying: never wrapped, never coloured.
    return Console(soft_wrap=True, highlight=False, markup=False)
