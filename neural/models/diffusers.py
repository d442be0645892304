"""Pipelines of diffusers as models: ``diffusers:FOLDER``; their conditions are prompts, or class labels of DiT.

``diffusers:FOLDER@HEIGHTxWIDTH`` chooses the size of the images in pixels, in the place of the pipeline's own.
"""

import json
import re
from pathlib import Path
from typing import Any

from gmm.outside_files import read_outside
from neural.models.grids import Grid
from neural.models.model import Model
from neural.models.registry import Kind
from neural.pictures import from_unit

PREFIX = "diffusers:"
_NOTHING = ""
_MAX_BYTES = 1 << 20
_FORM = re.compile(r"(?P<folder>.*?)(@(?P<height>\d{1,5})x(?P<width>\d{1,5}))?", re.DOTALL)


def load(source: str, dtype: str) -> Model:
    """The model of a folder that `DiffusionPipeline.from_pretrained` reads.

    Raises:
        ValueError: as `neural.from_diffusers`; when the extra `diffusers` is not installed.
    """
    from neural.adapters.diffusers_pipelines import from_diffusers

    folder, size = _parts(source)
    try:
        classes = _classes(folder)
        conditions = range(classes) if classes else [_NOTHING]
        denoiser = from_diffusers(folder, conditions, dtype=_torch_dtype(dtype), **size)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{source} needs diffusers; run: python -m pip install diffusers transformers torch"
        ) from error
    flow = denoiser.schedule.prediction == "velocity"
    return Model(
        name=source,
        kind="diffusers",
        denoiser=denoiser,
        shape=denoiser.state_shape,
        conditions=tuple(range(classes)) if classes else None,
        names=tuple(map(str, range(classes))),
        grid=Grid("edm", sigma_min=0.01) if flow else Grid("time", steps=50, sigma_min=1e-3, sigma_max=1e3),
        unconditional=denoiser,
        tokenize=None if classes else denoiser.encode,
        pictures=lambda x: from_unit(denoiser.pictures(x)),
        facts={"files": [folder], "network": type(denoiser.family).__name__},
    )


def _parts(source: str) -> tuple[str, dict[str, Any]]:
    """The folder, and the size of the images where the name chooses one."""
    match = _FORM.fullmatch(source.removeprefix(PREFIX))
    assert match is not None  # every text has this form
    folder = match["folder"]
    if not Path(folder).expanduser().is_dir():
        raise ValueError(f"model must be {PREFIX}FOLDER with a folder that exists, got {source!r}")
    return folder, {side: int(match[side]) for side in ("height", "width") if match[side] is not None}


def _classes(folder: str) -> int:
    """Number of classes of a DiT folder; 0 for pipelines of prompts."""
    path = Path(folder).expanduser() / "transformer" / "config.json"
    if not path.is_file():
        return 0
    config = json.loads(read_outside(path, _MAX_BYTES))
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(config).__name__}")
    return (
        int(config.get("num_embeds_ada_norm") or 0)
        if config.get("_class_name") == "DiTTransformer2DModel"
        else 0
    )


def _torch_dtype(dtype: str) -> Any:
    import torch  # pyright: ignore[reportMissingImports]

    return getattr(torch, dtype)


KIND = Kind(name="diffusers", names={}, load=load, answers=lambda name: name.startswith(PREFIX), half=True)
