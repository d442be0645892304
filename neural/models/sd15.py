"""Stable Diffusion 1.5 as a model: from the preset, a folder or a single file. Its conditions are prompts."""

from neural import checkpoints
from neural.checkpoints.presets import PRESETS
from neural.models.grids import Grid
from neural.models.model import Model
from neural.models.registry import Candidate, Kind
from neural.pictures import from_unit

NAME = "sd15"
# Equal steps of the process's own index, as diffusers samples it; 50 is its default.
GRID = Grid("time", steps=50, sigma_min=1e-3, sigma_max=1e3)


def load(source: str, dtype: str) -> Model:
    """The model of a preset, a folder or a file; its law without condition is that under the empty prompt."""
    from neural.stable_diffusion import load_sd15

    network = load_sd15(source, dtype=dtype)
    facts = {"network": repr(network)}
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


def _recognises(candidate: Candidate) -> bool:
    path, checkpoint = candidate.path, candidate.checkpoint
    if path.is_dir():
        return (path / "model_index.json").is_file() or all(
            (path / part).is_dir() for part in ("unet", "vae")
        )
    return checkpoint is not None and any("model.diffusion_model." in name for name in checkpoint.tensors)


KIND = Kind(name=NAME, names={NAME: PRESETS[NAME].about}, load=load, recognises=_recognises, half=True)
