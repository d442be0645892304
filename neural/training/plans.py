"""Plans of training: from a mixture or a data set to a task and a recipe, and from trained weights to a file."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

import gmm
from gmm.curve import versions
from gmm.datasets import LabelledData
from neural import checkpoints, edm2, mlp
from neural.edm2.loading import ZERO_LABEL
from neural.families import MEANS, FamilySpec
from neural.states import StateMap
from neural.training.tasks import ImageTask, VectorTask
from neural.training.trainer import Params, Recipe

TRAINED = "trained"  # attribute of a checkpoint: what it was trained on, and how
# Noise levels that an MLP is made for, in units of the within-class deviation, and of the norm of a class mean:
# there a class is as good as gone.
LEAST_NOISE, MOST_NOISE = 0.02, 10.0
HEAD = 32  # width of an attention head of a small network


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A training run: what is learned, how, and the facts that its files hold.

    Attributes:
        task, recipe: for `neural.training.train`.
        facts: of data and network, in JSON's types; kept with a run's state and with its weights.
        family: the mixture that is learned, if it is one of a family.
        data, held_out: points of training and others, in the network's coordinates, if it is a data set.
        state_map: between the data set's coordinates and those.
    """

    task: VectorTask | ImageTask
    recipe: Recipe
    facts: Mapping[str, Any]
    family: FamilySpec | None = None
    data: LabelledData | None = None
    held_out: LabelledData | None = None
    state_map: StateMap | None = None

    @property
    def is_image(self) -> bool:
        """Whether the network is an EDM2 network."""
        return isinstance(self.task, ImageTask)

    def denoiser(self, params: Params) -> mlp.MLP | edm2.EDM2:
        """The network with these weights."""
        if isinstance(self.task, VectorTask):
            return mlp.MLP(params, self.task.config)
        return _null_trained(edm2.from_tensors(_arrays(params), _options(self.task.config)))

    def write(
        self, path: str | os.PathLike[str], params: Params, *, dtype: DTypeLike = np.float32, **more: Any
    ) -> None:
        """Write weights as a checkpoint that `load_edm2` or `load_mlp` reads.

        Args:
            path: a .safetensors file.
            params: the weights.
            dtype: to store them in.
            more: further facts about the training, in JSON's types.
        """
        tensors = {name: array.astype(dtype) for name, array in _arrays(params).items()}
        if self.family is not None and isinstance(self.task, VectorTask):
            tensors[MEANS] = np.asarray(self.task.mixture.means)
        trained = {**self.facts, "recipe": dataclasses.asdict(self.recipe), "versions": versions(), **more}
        if isinstance(self.task, VectorTask):
            options = dataclasses.asdict(self.task.config)
            kind = mlp.KIND
        else:
            options, kind = _options(self.task.config), "edm2"
        about = {"architecture": kind, "init_kwargs": options, ZERO_LABEL: True, TRAINED: trained}
        checkpoints.write_safetensors(path, tensors, about)

    def multiply_adds(self) -> int:
        """Multiply-adds of one evaluation of the network on one state; a step takes three times as many a sample."""
        if isinstance(self.task, VectorTask):
            shapes = mlp.tensor_shapes(self.task.config)
            rows = {"emb.label", "affine.shift"}  # looked up, not multiplied
            return sum(math.prod(shape) for name, shape in shapes.items() if name not in rows)
        return edm2_multiply_adds(self.task.config)


def mixture_plan(
    family: FamilySpec, recipe: Recipe, *, width: int = 192, depth: int = 3, dropout: float = 0.5
) -> Plan:
    """An MLP on fresh samples of a mixture family; its classes are the components.

    Raises:
        ValueError: when the family or a size is out of range.
    """
    mixture = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), family.mixture())
    energy = float(jnp.sum(jnp.var(mixture.means, axis=0)))
    within = math.sqrt(family.variance) or math.sqrt(energy / family.dim)
    config = mlp.Config(
        family.dim, mixture.components, width, depth, sigma_data=within,
        sigma_min=LEAST_NOISE * within, sigma_max=MOST_NOISE * math.sqrt(energy),
    )  # fmt: skip
    facts = {
        "family": family.as_dict(), "dropout": dropout, "network": dataclasses.asdict(config),
        # A run that was begun in other coordinates must not go on in these.
        "coordinates": "closed form",
    }  # fmt: skip
    labels = jnp.arange(mixture.components)
    return Plan(VectorTask(mixture, labels, config, dropout), recipe, facts, family=family)


def data_plan(
    data: LabelledData,
    held_out: LabelledData,
    recipe: Recipe,
    *,
    source: str,
    patch: int = 1,
    channels: tuple[int, ...] = (64,),
    blocks: int = 1,
    width: int = 192,
    depth: int = 3,
    dropout: float | None = None,
) -> Plan:
    """An EDM2 network on images, or an MLP on vectors.

    Args:
        data: what is learned; of shape (d,), (H, W) or (H, W, C).
        held_out: points that the losses are taken on.
        recipe: how to train.
        source: what the data are called in the file of weights, which reads them again by that name; of an
            absolute path only the last part is kept.
        patch: pixels along a side of the patches that are folded into channels.
        channels: of each resolution of an image network, finest first; each halves the one before.
        blocks: residual blocks per resolution.
        width: of an MLP.
        depth: of an MLP.
        dropout: share of labels that is dropped; default 0.15 for images, 0.5 for vectors.

    Raises:
        ValueError: when images are not square, cannot be halved that often, or sizes do not fit.
    """
    state_map = StateMap.fitted(data, patch)
    inside = state_map.in_states(data)
    deviation = round(float(np.sqrt(np.mean(inside.x.astype(np.float64) ** 2))), 6)
    about = {
        "source": checkpoints.portable(source), "name": data.name, "points": len(data.x), "held_out": len(held_out.x),
        "classes": list(data.classes), "states": state_map.as_dict(), "sum": float(np.sum(data.x, dtype=float)),
        "range": [float(data.x.min()), float(data.x.max())],
    }  # fmt: skip
    if len(state_map.shape) == 1:
        task = _vector_task(inside, width, depth, 0.5 if dropout is None else dropout)
    else:
        config = _image_config(state_map, len(data.classes), channels, blocks, deviation)
        x0 = jnp.asarray(inside.x.reshape(-1, *state_map.state_shape))
        task = ImageTask(x0, jnp.asarray(inside.y), config, 0.15 if dropout is None else dropout)
    facts = {"data": about, "dropout": task.dropout, "network": dataclasses.asdict(task.config)}
    left_out = state_map.in_states(held_out)
    return Plan(task, recipe, facts, data=inside, held_out=left_out, state_map=state_map)


def _vector_task(data: LabelledData, width: int, depth: int, dropout: float) -> VectorTask:
    mixture, _ = gmm.families.empirical(data.x)
    spread = np.mean([np.var(data.x[data.y == c], axis=0).mean() for c in range(len(data.classes))])
    within = max(float(np.sqrt(spread)), 0.1)
    config = mlp.Config(
        data.x.shape[1], len(data.classes), width, depth, sigma_data=within,
        sigma_min=LEAST_NOISE * within, sigma_max=MOST_NOISE * math.sqrt(data.x.shape[1]),
    )  # fmt: skip
    return VectorTask(mixture, jnp.asarray(data.y), config, dropout)


def _image_config(
    state_map: StateMap, classes: int, channels: tuple[int, ...], blocks: int, deviation: float
) -> edm2.Config:
    side, other, depth = state_map.state_shape
    levels = 2 ** (len(channels) - 1)
    if side != other or side % levels:
        raise ValueError(
            f"images of {side}x{other} (in patches of {state_map.patch}) must be square and divisible by {levels}, "
            f"as {len(channels)} numbers of channels require; give fewer channels or another patch"
        )
    if any(width < 1 or width % HEAD for width in channels) or blocks < 1:
        raise ValueError(
            f"channels must be multiples of {HEAD} and blocks >= 1, got {list(channels)} and {blocks}"
        )
    return edm2.Config(
        img_resolution=side, img_channels=depth, label_dim=classes, channels=channels, num_blocks=blocks,
        attn_resolutions=(), noise_channels=32, emb_channels=128, logvar_channels=32, channels_per_head=HEAD,
        sigma_data=deviation,
    )  # fmt: skip


def edm2_multiply_adds(config: edm2.Config) -> int:
    """Multiply-adds of one evaluation on one image: every weight at every pixel of its resolution, and attention."""
    total = 0
    for name, shape in edm2.tensor_shapes(config).items():
        side = 1
        if len(shape) == 4:
            where = name.split(".")[2].split("x")[0]  # unet.enc.14x14_block0.conv_res0.weight
            side = int(where) if where.isdecimal() else config.img_resolution
        total += math.prod(shape) * side**2 if shape else 0
    blocks = (*config.encoder(), *config.decoder())
    return total + sum(2 * block.channels_out * block.resolution**4 for block in blocks if block.heads)


def _options(config: edm2.Config) -> dict[str, Any]:
    """The keyword arguments that do not follow from shapes, as in EDM2's files."""
    names = (
        "img_resolution", "img_channels", "label_dim", "num_blocks", "logvar_channels", "channels_per_head",
        "sigma_data", "label_balance", "concat_balance", "res_balance", "attn_balance", "clip_act",
    )  # fmt: skip
    return {name: getattr(config, name) for name in names}


def _null_trained(network: edm2.EDM2) -> edm2.EDM2:
    """The network as its own unconditional one, since its zero label is trained."""
    return network.with_unconditional(network)


def _arrays(params: Params) -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in params.items()}
