"""EDM2 networks as models: from the published names, or from a file."""

from pathlib import Path
from typing import Any

from neural import checkpoints, imagenet
from neural.checkpoints.presets import PRESETS, published, sibling
from neural.models.grids import Grid
from neural.models.model import Model
from neural.models.registry import Candidate, Kind
from neural.pictures import from_rgb

RGB = 3
# The official generator's default: 32 Heun steps from 80 to 0.002.
GRID = Grid("edm", steps=32, sigma_min=0.002, sigma_max=80.0)


def load(source: str, dtype: str) -> Model:
    """The model of a preset, official name or file, with its unconditional sibling if that file exists."""
    from neural.edm2 import load_edm2

    network = load_edm2(source, dtype=dtype)
    classes = network.config.label_dim
    if not classes:
        raise ValueError(f"{source} is an unconditional network without classes; pass the conditional one")
    return Model(
        name=source,
        kind="edm2",
        denoiser=network,
        shape=network.config.image_shape,
        conditions=tuple(range(classes)),
        **named(classes),
        grid=GRID,
        unconditional=network.unconditional,
        # Latents need the autoencoder, which is a file of its own: `neural.pictures.decoded`.
        pictures=from_rgb if network.config.img_channels == RGB else None,
        files=_files(source),
        facts={"network": repr(network)},
    )


def _files(source: str) -> tuple[Path, ...]:
    """The network's file, and that of its unconditional sibling where there is one."""
    located = checkpoints.locate(source)
    other = sibling(located[0]) if len(located) == 1 else None
    return located if other is None else (*located, other)


def named(classes: int) -> dict[str, Any]:
    """Names of the classes as fields of `Model`: ImageNet's for 1000 of them, else numbers; checkpoints store none."""
    if classes != imagenet.CLASSES:
        return {"names": tuple(map(str, range(classes)))}
    return {
        "names": imagenet.names(),
        "aliases": imagenet.aliases(),
        "groups": imagenet.groups(),
        "classes_of": "imagenet",
    }


def _recognises(candidate: Candidate) -> bool:
    checkpoint = candidate.checkpoint
    return checkpoint is not None and (
        "unet.out_gain" in checkpoint.tensors or checkpoint.attributes.get("class_name") == "Precond"
    )


KIND = Kind(
    name="edm2",
    names={name: preset.about for name, preset in PRESETS.items() if name.startswith("edm2")},
    load=load,
    recognises=_recognises,
    answers=lambda name: name.startswith("edm2-") and published(name) is not None,
    half=True,
)
