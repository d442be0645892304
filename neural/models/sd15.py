"""Stable Diffusion 1.5 as a model: from the preset, a folder or a single file. Its conditions are prompts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neural import checkpoints
from neural.checkpoints import hashes
from neural.checkpoints.presets import PRESETS
from neural.models.grids import Grid
from neural.models.model import Model
from neural.models.registry import Candidate, Kind
from neural.pictures import from_unit

NAME = "sd15"
FILES = ("lora", "embeddings")
SETTINGS = (*FILES, "prediction", "clip_skip")
# Equal steps of the process's own index, as diffusers samples it; 50 is its default.
GRID = Grid("time", steps=50, sigma_min=1e-3, sigma_max=1e3)


def load(source: str, dtype: str, **settings: Any) -> Model:
    """The model of a preset, a folder or a file; its law without condition is that under the empty prompt.

    Args:
        source: as in `load_sd15`.
        dtype: to compute in.
        settings: as in `load_sd15`: any of `SETTINGS`.
    """
    from neural.stable_diffusion import load_sd15

    network = load_sd15(source, dtype=dtype, **settings)
    facts: dict[str, Any] = {"network": repr(network)}
    if settings:
        facts["settings"] = _portable(settings)
    if source == NAME:
        repository = PRESETS[NAME].repository
        facts |= {"repository": repository and repository.address, "licence": PRESETS[NAME].licence}
    return Model(
        name=source,
        kind=NAME,
        denoiser=network,
        shape=network.state_shape,
        conditions=None,
        names=(),
        grid=GRID,
        unconditional=network.unconditional,
        tokenize=network.tokenize,
        pictures=lambda x: from_unit(network.pictures(x)),
        files=checkpoints.locate(source),
        facts=facts,
    )


def _portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings for results: of a file its name and hash, with its scale or word where there is one."""

    def described(entry: Any) -> list[Any]:
        file, *more = entry if isinstance(entry, tuple) else (entry,)
        return [hashes([Path(file)]), *more]

    files = {name: [described(entry) for entry in settings[name]] for name in FILES if name in settings}
    return {**settings, **files}


def _recognises(candidate: Candidate) -> bool:
    path, checkpoint = candidate.path, candidate.checkpoint
    if path.is_dir():
        return (path / "model_index.json").is_file() or all(
            (path / part).is_dir() for part in ("unet", "vae")
        )
    return checkpoint is not None and any("model.diffusion_model." in name for name in checkpoint.tensors)


KIND = Kind(
    name=NAME,
    names={NAME: PRESETS[NAME].about},
    load=load,
    recognises=_recognises,
    half=True,
    settings=SETTINGS,
)
