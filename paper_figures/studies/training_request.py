"""A request for a training, and the plan that it stands for."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from gmm.datasets import BUILT_IN, LabelledData, load_data
from neural.families import FamilySpec
from neural.models.trained import find_data
from neural.training import Plan, Recipe, data_plan, mixture_plan
from paper_figures.formats.words import integers, numbers, tree_shape

HELD_OUT_SHARE = 1 / 6


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be trained, on what, and how; None leaves a size to the kind of data.

    Attributes:
        data: name or place of a data set; family: of a Gaussian mixture. One of the two is given.
        dim, classes, branching, energies, separation, variance: of the mixture; the shape of a tree is a text such
            as "2x2x2", the energies of its levels one such as "36,6,1".
        held_out: points kept out of training; None for the test set of the data or a sixth.
        patch, channels, blocks: of an image network; channels a text such as "64,128".
        width, depth: of an MLP.
        steps, batch, learning_rate, ema: of the training.
        label_dropout: share of labels that is dropped, from which the null condition is learned.
        store: precision that the weights are stored in.
        seed: seed of every random number.
    """

    data: str | None = None
    family: str | None = None
    dim: int = 64
    classes: int | None = None
    branching: str | None = None
    energies: str | None = None
    separation: float = 1.0
    variance: float = 1.0
    held_out: int | None = None
    patch: int = 1
    channels: str = "64"
    blocks: int = 1
    width: int = 192
    depth: int = 3
    steps: int = 6000
    batch: int = 512
    learning_rate: float | None = None
    label_dropout: float | None = None
    ema: float = 0.05
    store: str = "float32"
    seed: int = 0

    def plan(self) -> Plan:
        """The task, the recipe and the facts of the training.

        Raises:
            ValueError: when arguments contradict each other or are out of range.
        """
        if (self.data is None) == (self.family is None):
            raise ValueError("give either `data` or `family`: what is to be learned")
        if self.label_dropout is not None and not 0 < self.label_dropout < 1:
            raise ValueError(f"label_dropout must be between 0 and 1, got {self.label_dropout:g}")
        if self.family is not None:
            dropout = 0.5 if self.label_dropout is None else self.label_dropout
            sizes = {"width": self.width, "depth": self.depth}
            return mixture_plan(self._family(), self._recipe(2e-3), dropout=dropout, **sizes)
        return self._data_plan()

    def _family(self) -> FamilySpec:
        branching = tree_shape("branching", self.branching, least=1) if self.branching else ()
        energies = tuple(numbers("energies", [self.energies])) if self.energies else ()
        leaves = math.prod(branching) if branching else 2
        classes = leaves if self.classes is None else self.classes
        if branching and classes != leaves:
            raise ValueError(f"classes must be left out for a tree or be its {leaves} leaves, got {classes}")
        if self.family == "tree" and not branching:
            raise ValueError("`family` tree needs its shape; give `branching`, such as 2x2x2")
        assert self.family is not None
        return FamilySpec(
            self.family, self.dim, classes, branching, energies, self.separation, self.variance, self.seed
        )

    def _data_plan(self) -> Plan:
        assert self.data is not None
        data, held_out = _split(self.data, self.held_out)
        channels = tuple(integers("channels", [self.channels]))
        return data_plan(
            data, held_out, self._recipe(1e-2 if len(data.shape) > 1 else 2e-3), source=self.data, patch=self.patch,
            channels=channels, blocks=self.blocks, width=self.width, depth=self.depth, dropout=self.label_dropout,
        )  # fmt: skip

    def _recipe(self, learning_rate: float) -> Recipe:
        rate = learning_rate if self.learning_rate is None else self.learning_rate
        return Recipe(self.steps, self.batch, rate, self.ema, self.seed)


def _split(source: str, held_out: int | None) -> tuple[LabelledData, LabelledData]:
    """Points of training and others: the test set where there is one, else the end of a fixed shuffle."""
    place = find_data(source)
    data = load_data(place)
    if place != BUILT_IN and Path(place).is_dir():
        left_out = load_data(place, split="test")
        return data, left_out if held_out is None else left_out.subset(held_out)
    count = round(len(data.x) * HELD_OUT_SHARE) if held_out is None else held_out
    if not 0 < count < len(data.x):
        raise ValueError(f"held_out must leave points on both sides of {len(data.x)}, got {count}")
    kept = data.subset(len(data.x) - count)
    chosen = np.random.default_rng(0).permutation(len(data.x))[len(data.x) - count :]
    return kept, dataclasses.replace(data, x=data.x[np.sort(chosen)], y=data.y[np.sort(chosen)])
