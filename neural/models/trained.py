"""Networks that `speciation train` made, the shipped ones among them, as models."""

import dataclasses
import functools
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gmm.datasets import BUILT_IN, LabelledData, load_data
from gmm.schema import Finite, from_values
from neural import checkpoints, mlp, zoo
from neural.checkpoints import Checkpoint, CheckpointError, cache_folder
from neural.edm2.loading import load_edm2
from neural.families import MEANS, FamilySpec
from neural.models.grids import Grid
from neural.models.model import Model
from neural.models.registry import Candidate, Kind
from neural.pictures import ToPictures, from_unit
from neural.states import StateMap

PREFIX = "zoo:"
TRAINED = "trained"
# Families whose means have always been the same on every machine; files of others need to hold them.
SAME_MEANS = ("pair", "random")
STEPS, IMAGE_STEPS = 64, 40
# Noise levels at which image networks were trained and evaluated: hardly any batch contained a lower level.
IMAGE_RANGE = (0.02, 80.0)
# Environment variables that name the folder with the training data.
DATA_FOLDERS = ("SPECIATION_DATA",)
SYSTEM_FOLDER = Path("/usr/share/datasets")


def load(source: str, dtype: str) -> Model:
    """The model of a shipped network's name, or of a file.

    Raises:
        CheckpointError: (a ValueError) when the file cannot be read or contradicts itself.
    """
    path = zoo.path(source.removeprefix(PREFIX)) if source.startswith(PREFIX) else Path(source)
    checkpoint = checkpoints.read(path)
    try:
        return _model(source, path, checkpoint, dtype)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Data:
    """What a file says about the data that its network was trained on."""

    source: str
    classes: tuple[str, ...]
    states: StateMap
    range: tuple[Finite, Finite] | None = None


@dataclasses.dataclass(frozen=True)
class _Trained:
    """What a file says about the training of its network; more may stand beside it."""

    family: FamilySpec | None = None
    data: _Data | None = None

    def __post_init__(self) -> None:
        if (self.family is None) == (self.data is None):
            raise ValueError(
                "a network is trained on a family of mixtures or on data: one of the two must be named"
            )


def _model(source: str, path: Path, checkpoint: Checkpoint, dtype: str) -> Model:
    trained = checkpoint.attributes[TRAINED]
    network = _network(path, checkpoint, dtype)
    on = from_values(_Trained, trained)
    law = on.family
    means = checkpoint.tensors.get(MEANS)
    about = _of_family(law, means, network, dtype) if law else _of_data(on.data, network)
    config = network.config
    low, high = (config.sigma_min, config.sigma_max) if law else IMAGE_RANGE
    return Model(
        name=source,
        kind="trained",
        denoiser=network,
        shape=network.state_shape,
        conditions=network.conditions,
        grid=Grid("edm", steps=STEPS if law else IMAGE_STEPS, sigma_min=low, sigma_max=high),
        unconditional=network.unconditional,
        files=(path,),
        facts={
            "network": repr(network),
            **{k: trained[k] for k in ("family", "recipe") if k in trained},
        },
        **about,
    )


def _network(path: Path, checkpoint: Checkpoint, dtype: str) -> Any:
    if checkpoint.attributes.get("architecture") != mlp.KIND:
        return load_edm2(path, dtype=dtype)
    network = mlp.from_checkpoint(checkpoint)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), network)


def _of_family(family: FamilySpec, means: np.ndarray | None, network: Any, dtype: str) -> dict[str, Any]:
    sizes, wanted = (family.dim, family.classes), (*network.state_shape, len(network.conditions))
    if sizes != wanted:
        raise ValueError(f"its mixture has dimension and classes {sizes}, its network {wanted}")
    mixture = None
    if means is None and family.family not in SAME_MEANS:
        warnings.warn(
            "the file does not hold the class means that its network was trained on: it is used without the exact "
            "mixture; train the network again to compare the two",
            stacklevel=2,
        )
    else:
        mixture = jax.tree.map(lambda leaf: leaf.astype(dtype), family.mixture(means))
    partitions = family.levels() if family.family == "tree" else ()
    return {
        "names": tuple(map(str, range(family.classes))),
        "mixture": mixture,
        "levels": {f"level {i + 1}": partition for i, partition in enumerate(partitions)},
    }


def _of_data(about: Any, network: Any) -> dict[str, Any]:
    state_map = about.states
    if state_map.state_shape != network.state_shape:
        raise ValueError(
            f"its data give states of shape {state_map.state_shape}, its network takes {network.state_shape}"
        )
    names = about.classes
    if len(names) != len(network.conditions):
        raise ValueError(f"it names {len(names)} classes, its network has {len(network.conditions)}")
    data = functools.partial(_data, about.source, state_map, names)
    return {"names": names, "data": data, "pictures": _pictures(state_map, about.range)}


def _pictures(state_map: StateMap, ends: tuple[float, float] | None) -> ToPictures | None:
    """The map from states to grey or coloured pictures, from the data's darkest value to its brightest."""
    if ends is None or len(state_map.shape) == 1 or state_map.shape[2:] not in ((), (1,), (3,)):
        return None
    low, high = ends
    if not low < high:
        raise ValueError(f"the range of its data must be two rising numbers, got {ends}")
    shape = (*state_map.shape[:2], *(state_map.shape[2:] or (1,)))
    return lambda x: from_unit((state_map.to_points(x).reshape(-1, *shape) - low) / (high - low))


def _data(source: str, state_map: StateMap, names: tuple[str, ...]) -> LabelledData:
    """The data that a network was trained on, in the coordinates of its states."""
    data = state_map.in_states(load_data(find_data(source)))
    if set(data.classes) - set(names):
        raise ValueError(f"{source} must hold the classes {', '.join(names)}; got {', '.join(data.classes)}")
    order = np.array([names.index(name) for name in data.classes], np.int32)
    return LabelledData(data.name, data.x, order[data.y], names, data.shape)


def find_data(source: str) -> str:
    """The path of data: `source` itself, or the folder of that name in $SPECIATION_DATA, the cache, or the system's.

    Raises:
        ValueError: when there is no such folder, with the way to provide it.
    """
    if source == BUILT_IN or Path(source).exists():
        return source
    given = [Path(os.environ[name]) for name in DATA_FOLDERS if name in os.environ]
    places = [folder / source for folder in (*given, cache_folder(), SYSTEM_FOLDER)]
    for place in places:
        if place.exists():
            return str(place)
    raise ValueError(
        f"the data {source!r} of the network's training were not found; put the folder at {places[0]}"
        ", or set SPECIATION_DATA to the folder that holds it"
    )


def _recognises(candidate: Candidate) -> bool:
    checkpoint = candidate.checkpoint
    return checkpoint is not None and isinstance(checkpoint.attributes.get(TRAINED), dict)


KIND = Kind(
    name="trained",
    names={PREFIX + name: about for name, about in zoo.ZOO.items()},
    load=load,
    recognises=_recognises,
)
