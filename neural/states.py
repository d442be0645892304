"""Between the points of a data set and the states that a network works on.

States are points shifted by one number and divided by another, so that the mean variance of a coordinate is one:
the same scale as `LabelledData.standardised`, and so the same noise levels. Images may be folded, each patch of p x p
pixels into the channels of one: a permutation, which changes no density and no entropy, and saves a network the
costly layers at full resolution.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from gmm.datasets import LabelledData
from gmm.schema import PlainForm


@dataclasses.dataclass(frozen=True)
class StateMap(PlainForm):
    """The affine map and the folding.

    Attributes:
        shape: of one point: (d,), (height, width) or (height, width, channels).
        shift: subtracted from every coordinate.
        scale: every coordinate is divided by it.
        patch: pixels along a side of a patch; 1 folds nothing.
    """

    shape: tuple[int, ...]
    shift: float
    scale: float
    patch: int

    def __post_init__(self) -> None:
        sizes_fit = 1 <= len(self.shape) <= 3 and all(type(n) is int and n > 0 for n in self.shape)
        if not sizes_fit or type(self.patch) is not int or self.patch < 1:
            raise ValueError(
                f"shape must be (d,), (H, W) or (H, W, C) and patch >= 1, got {self.shape}, {self.patch}"
            )
        if not (math.isfinite(self.shift) and 0 < self.scale < math.inf):
            raise ValueError(
                f"shift must be finite and scale positive, got {self.shift:g} and {self.scale:g}"
            )
        if any(n % self.patch for n in self.shape[:2]):
            raise ValueError(
                f"patch must divide the sides of an image of shape {self.shape}, got {self.patch}"
            )

    @classmethod
    def fitted(cls, data: LabelledData, patch: int = 1) -> "StateMap":
        """The map that gives `data` overall mean 0 and mean variance 1 of a coordinate.

        Raises:
            ValueError: when all points are the same, or patch does not fit.
        """
        variance = float(np.mean(np.var(data.x, axis=0, dtype=np.float64)))
        if variance == 0:
            raise ValueError(f"{data.name} must hold points that differ; all are the same")
        shift = float(np.mean(data.x, dtype=np.float64))
        return cls(tuple(map(int, data.shape)), shift, math.sqrt(variance), patch)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Of one state: (d,), or (H/p, W/p, C·p²)."""
        if len(self.shape) == 1:
            return self.shape
        height, width, *channels = self.shape
        return height // self.patch, width // self.patch, self.patch**2 * math.prod(channels)

    def to_states(self, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n ..."]:
        """(n, d) points as (n, *state_shape) float32 states."""
        scaled = ((np.asarray(points, np.float64) - self.shift) / self.scale).astype(np.float32)
        if len(self.shape) > 1:
            p, (height, width, _) = self.patch, self.state_shape
            scaled = scaled.reshape(len(scaled), height, p, width, p, -1).transpose(0, 1, 3, 2, 4, 5)
        return scaled.reshape(-1, *self.state_shape)

    def to_points(self, states: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n d"]:
        """The way back, (n, d)."""
        states = np.asarray(states, np.float64)  # a large shift would hide them in float32
        if len(self.shape) > 1:
            p, (height, width, channels) = self.patch, self.state_shape
            tiles = states.reshape(-1, height, width, p, p, channels // p**2)
            states = tiles.transpose(0, 1, 3, 2, 4, 5)
        return states.reshape(len(states), math.prod(self.shape)) * self.scale + self.shift

    def in_states(self, data: LabelledData) -> LabelledData:
        """A data set in the coordinates of the states.

        Raises:
            ValueError: when its points are of another shape.
        """
        if tuple(data.shape) != self.shape:
            raise ValueError(
                f"{data.name} must hold points of shape {self.shape}, as the network was trained on; got {data.shape}"
            )
        states = self.to_states(data.x)
        return dataclasses.replace(data, x=states.reshape(len(states), -1), shape=self.state_shape)
