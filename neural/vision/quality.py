"""The quality of generated images on a vision network's features, each number with its error and its bias."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import ArrayLike, Float

from gmm.estimate import Estimate
from gmm.guided_quality import kernel_distance
from neural.vision.distances import (
    GROUPS,
    Distance,
    Moments,
    frechet_distance,
    jackknife,
    jackknife_each,
    precision_recall,
)

Features = Float[ArrayLike, "n F"]


@dataclasses.dataclass(frozen=True)
class ImageQuality:
    """How far generated images are from real ones.

    Attributes:
        frechet: squared Fréchet distance: FID on Inception's features, FD-DINOv2 on DINOv2's.
        kernel: squared maximum mean discrepancy under the cubic kernel, unbiased; None without real images.
        neighbours: precision, recall, density and coverage by name; empty without real images.
        made, real: numbers of images; `real` is 0 where the statistics do not say.
        dimensions: of the features.
    """

    frechet: Distance
    kernel: Estimate | None
    neighbours: Mapping[str, Distance]
    made: int
    real: int
    dimensions: int

    @property
    def caveats(self) -> list[str]:
        """What the numbers of images do to the numbers, a line each; empty where they are large enough."""
        lines = []
        for name, count in (("generated", self.made), ("real", self.real)):
            if 0 < count <= self.dimensions:
                lines.append(
                    f"{count} {name} images are fewer than the {self.dimensions} dimensions of the features: the "
                    "Fréchet distance is one of Gaussians in a subspace, far above that of many images, and can only "
                    "be compared with others of as many images"
                )
        return lines


def image_quality(
    made: Features, real: Features | Moments, *, seed: int = 0, groups: int = GROUPS
) -> ImageQuality:
    """The quality of images by their features, in any order.

    Errors and biases are those of the jackknife over groups of images that are left out in turn. With published
    statistics in place of real images, only the Fréchet distance is defined, and its error is that of the generated
    images.

    Args:
        made: (n, F) features of generated images.
        real: (m, F) features of real images, or their `Moments`.
        seed: shuffles both, for files that are sorted.
        groups: that each set is cut into.

    Raises:
        ValueError: when dimensions differ, or a set has fewer images than twice the groups.
    """
    x = np.asarray(made)
    order = np.random.default_rng(seed)
    if isinstance(real, Moments):
        frechet = jackknife(lambda a, _: frechet_distance(a, real), x, x, groups=groups, order=order)
        return ImageQuality(frechet, None, {}, len(x), real.count, x.shape[1])
    y = np.asarray(real)
    return ImageQuality(
        frechet=jackknife(frechet_distance, x, y, groups=groups, order=order),
        kernel=kernel_distance(x[order.permutation(len(x))], y[order.permutation(len(y))]),
        neighbours=jackknife_each(lambda a, b: precision_recall(b, a), x, y, groups=groups, order=order),
        made=len(x),
        real=len(y),
        dimensions=x.shape[1],
    )
