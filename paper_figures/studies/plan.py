"""What an experiment costs: evaluations, operations and memory follow from its sizes, without the weights at hand."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from neural import edm2, imagenet
from neural.checkpoints import locate
from neural.checkpoints.checkpoint import CheckpointError
from neural.edm2 import EDM2
from neural.models import Model, load_model
from neural.models import edm2 as edm2_models
from neural.models import sd15 as sd15_models
from neural.stable_diffusion import SD15
from neural.stable_diffusion.architecture import UNetConfig, tensor_shapes, unet_multiply_adds
from neural.training.plans import edm2_multiply_adds

BYTES = 4  # of a float32
# Channels of the first level of the published EDM2 networks for ImageNet-512; the other constants are the same.
EDM2_CHANNELS = {"xs": 128, "s": 192, "m": 256, "l": 320, "xl": 384, "xxl": 448}
LATENTS = 64


class Network(NamedTuple):
    """A network's size.

    Attributes:
        name: as the user gave it.
        multiply_adds: of one evaluation on one state.
        parameters: number of weights.
    """

    name: str
    multiply_adds: int
    parameters: int


class Cost(NamedTuple):
    """One line of a plan.

    Attributes:
        what: what is measured.
        curves: number of curves.
        paths: trajectories of each.
        evaluations: of the network, for all of them.
    """

    what: str
    curves: int
    paths: int
    evaluations: int


class Plan(NamedTuple):
    """What an experiment will compute.

    Attributes:
        network: the size of the network that is asked.
        costs: of its evaluations.
        besides: what is not counted, in words.
    """

    network: Network
    costs: Sequence[Cost]
    besides: str = ""

    @property
    def evaluations(self) -> int:
        """Evaluations of the network in all."""
        return sum(cost.evaluations for cost in self.costs)

    @property
    def operations(self) -> float:
        """Floating-point operations in all: two for each multiply-add."""
        return 2.0 * self.network.multiply_adds * self.evaluations

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights in float32; states and activations come on top."""
        return BYTES * self.network.parameters


def network_of(weights: str) -> Network:
    """The size of a network: of its file where it is there, else of the published architecture of that name.

    Raises:
        ValueError: when neither is known.
    """
    try:
        locate(weights)
    except CheckpointError:
        published = published_network(weights)
        if published is None:
            raise
        return published
    denoiser = load_model(weights).denoiser
    if isinstance(denoiser, EDM2):
        return _edm2(weights, denoiser.config)
    if isinstance(denoiser, SD15):
        return _sd15(weights, denoiser.config.unet, denoiser.state_shape[0])
    raise ValueError(f"weights must be those of an EDM2 or Stable Diffusion network, got {weights}")


def published_network(name: str) -> Network | None:
    """The size of a published network by its preset's name; None for other names."""
    if name == "sd15":
        return _sd15(name, UNetConfig(), LATENTS)
    size = name.removeprefix("edm2-")
    if size == name or size not in EDM2_CHANNELS:
        return None
    channels = EDM2_CHANNELS[size]
    widths = tuple(channels * factor for factor in (1, 2, 3, 4))
    return _edm2(name, edm2.Config(LATENTS, 4, 1000, widths, 3, (16, 8), channels, 4 * channels))


def stand_in(weights: str) -> Model:
    """A model with everything of a published network but its weights, with which questions can be counted.

    Raises:
        ValueError: when `weights` is no preset of a published network.
    """
    if published_network(weights) is None:
        raise ValueError(f"weights must be a preset of a published network, got {weights!r}")
    size = {"shape": (LATENTS, LATENTS, 4), "denoiser": None, "unconditional": "not loaded"}
    if weights == sd15_models.NAME:
        named = {"conditions": None, "names": (), "grid": sd15_models.GRID, "kind": sd15_models.NAME}
    else:
        classes = edm2_models.named(imagenet.CLASSES)
        conditions = tuple(range(imagenet.CLASSES))
        named = {"conditions": conditions, **classes, "grid": edm2_models.GRID, "kind": "edm2"}
    return Model(name=weights, **size, **named)  # type: ignore[arg-type]


def model_or_stand_in(weights: str) -> Model:
    """The model, or what stands in for a published one whose weights are not on this machine."""
    try:
        locate(weights)
    except CheckpointError:
        return stand_in(weights)
    return load_model(weights)


def _edm2(name: str, config: edm2.Config) -> Network:
    parameters = sum(math.prod(shape) for shape in edm2.tensor_shapes(config).values())
    # The unconditional network is one of its own, but for the embedding of the classes.
    return Network(name, edm2_multiply_adds(config), 2 * parameters)


def _sd15(name: str, config: UNetConfig, side: int) -> Network:
    parameters = sum(math.prod(shape) for shape in tensor_shapes(config).values())
    return Network(name, unet_multiply_adds(config, side), parameters)
