"""Distances between sets of images, measured on features: Fréchet distance, precision, recall, density, coverage.

All five depend on the number of images, not on the images alone: `jackknife` says by how much, with a standard error,
from parts of both sets that are left out in turn (Efron and Stein 1981). Where features have more dimensions than a set
has images, the Fréchet distance is that of two Gaussians on different hyperplanes, and no correction helps.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, ArrayLike, Float

from gmm.checks import check_finite
from gmm.distances import matmul

NEIGHBOURS = 3
"""Neighbours of precision and recall in Kynkäänniemi et al. 2019; Naeem et al. 2020 take 5 for density and coverage."""
GROUPS = 10
ROWS = 1024
"""Points whose distances to all others are held at a time."""

Features = Float[np.ndarray, "n F"]


class Moments(NamedTuple):
    """A Gaussian fitted to features.

    Attributes:
        mean: (F,).
        covariance: (F, F), divided by count - 1.
        count: number of images.
    """

    mean: Float[np.ndarray, " F"]
    covariance: Float[np.ndarray, "F F"]
    count: int


@dataclasses.dataclass(frozen=True)
class Distance:
    """A number that was measured on finite sets of images.

    Attributes:
        value: as defined, of the whole sets.
        stderr: its standard error over other sets of as many images.
        bias: by how much it exceeds on average the value of infinitely many images, to first order in 1/n.
    """

    value: float
    stderr: float
    bias: float

    @property
    def corrected(self) -> float:
        """The value without its bias."""
        return self.value - self.bias


def moments(features: Float[ArrayLike, "n F"]) -> Moments:
    """Mean and covariance in float64.

    Raises:
        ValueError: on fewer than two rows, or numbers that are not finite.
    """
    x = _checked("features", features, least=2)
    mean = x.mean(axis=0)
    centred = x - mean
    return Moments(mean, centred.T @ centred / (len(x) - 1), len(x))


def frechet_distance(a: Float[ArrayLike, "n F"] | Moments, b: Float[ArrayLike, "m F"] | Moments) -> float:
    """The squared Fréchet distance of the Gaussians fitted to two sets of features (Heusel et al. 2017, eq. 6).

    ‖μ_a - μ_b‖² + tr(C_a + C_b - 2 (C_a C_b)^{1/2}), in float64. The last trace is the sum of the singular values of
    A_aᵀA_b for any roots C = A Aᵀ: the centred features themselves where they are fewer than their dimensions,
    symmetric roots by eigenvalues otherwise. Both are exact for singular covariances, too.

    Args:
        a: features (n, F) of images, n >= 2, or their `Moments`.
        b: the same of the other set.

    Raises:
        ValueError: when dimensions differ, a set has fewer than two rows or a number is not finite.
    """
    first, second = _root(a), _root(b)
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            f"a and b must have features of one dimension, got {len(first.mean)} and {len(second.mean)}"
        )
    shared = np.linalg.svd(first.factor.T @ second.factor, compute_uv=False).sum()
    gap = float(np.sum((first.mean - second.mean) ** 2))
    return gap + first.trace + second.trace - 2 * float(shared)


def precision_recall(
    real: Float[ArrayLike, "n F"], made: Float[ArrayLike, "m F"], neighbours: int = NEIGHBOURS
) -> dict[str, float]:
    """Precision, recall, density and coverage of generated features against real ones.

    Around every real point stands a ball that reaches to its k-th nearest neighbour. Precision: the share of generated
    points in some ball. Recall: the same with the roles exchanged (Kynkäänniemi et al. 2019, eqs. 1-2). Density: the
    number of balls around a generated point, over k; coverage: the share of balls that hold a generated point (Naeem et
    al. 2020, eqs. 4-5).

    Raises:
        ValueError: when dimensions differ or a set has not more than `neighbours` points.
    """
    x, y = _checked("real", real, neighbours + 1), _checked("made", made, neighbours + 1)
    if x.shape[1] != y.shape[1] or neighbours < 1:
        raise ValueError(
            f"real and made must have features of one dimension, neighbours at least 1; got {x.shape[1]}, "
            f"{y.shape[1]} and {neighbours}"
        )
    # Squares of distances in float32 lose what the points share.
    centre = x.mean(axis=0)
    x, y = (np.asarray(z - centre, np.float32) for z in (x, y))
    radii, other_radii = _radii(x, neighbours), _radii(y, neighbours)
    inside = np.zeros(len(y), int)
    covered, recalled = np.zeros(len(x), bool), np.zeros(len(x), bool)
    for start, squares in _in_rows(x, y):
        rows = slice(start, start + len(squares))
        held = squares <= radii[rows, None]
        inside += held.sum(axis=0)
        covered[rows] = held.any(axis=1)
        recalled[rows] = (squares <= other_radii).any(axis=1)
    return {
        "precision": float((inside > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(inside.mean() / neighbours),
        "coverage": float(covered.mean()),
    }


def jackknife(
    measure: Callable[[Features, Features], float],
    a: Float[ArrayLike, "n F"],
    b: Float[ArrayLike, "m F"],
    *,
    groups: int = GROUPS,
    order: np.random.Generator | None = None,
) -> Distance:
    """A measure of two sets with its standard error and bias, from groups of both that are left out in turn.

    Args:
        measure: of features (n, F) and (m, F), e.g. `frechet_distance`.
        a: (n, F) features of images, in an order that means nothing.
        b: (m, F) the same of the other set.
        groups: that each set is cut into; the measure is computed once more for each.
        order: shuffles the rows first, for files that are sorted by class.

    Raises:
        ValueError: when a set has fewer rows than twice the groups.
    """
    return jackknife_each(lambda x, y: {"": measure(x, y)}, a, b, groups=groups, order=order)[""]


def jackknife_each(
    measures: Callable[[Features, Features], Mapping[str, float]],
    a: Float[ArrayLike, "n F"],
    b: Float[ArrayLike, "m F"],
    *,
    groups: int = GROUPS,
    order: np.random.Generator | None = None,
) -> dict[str, Distance]:
    """`jackknife` of several measures that are computed together, by their names."""
    x, y = _checked("a", a, 2 * groups), _checked("b", b, 2 * groups)
    if order is not None:
        x, y = x[order.permutation(len(x))], y[order.permutation(len(y))]
    whole = measures(x, y)
    parts = [
        measures(*(np.delete(z, np.s_[group::groups], axis=0) for z in (x, y))) for group in range(groups)
    ]
    return {name: _distance(value, np.array([part[name] for part in parts])) for name, value in whole.items()}


def _distance(whole: float, parts: Float[np.ndarray, " groups"]) -> Distance:
    groups, mean = len(parts), parts.mean()
    spread = (groups - 1) / groups * np.sum((parts - mean) ** 2)
    return Distance(float(whole), float(np.sqrt(spread)), float((groups - 1) * (mean - whole)))


class _Root(NamedTuple):
    mean: Float[np.ndarray, " F"]
    factor: Float[np.ndarray, "F r"]
    trace: float


def _root(given: Float[ArrayLike, "n F"] | Moments) -> _Root:
    """A root A of the covariance A Aᵀ, of as few columns as there are."""
    if not isinstance(given, Moments):
        x = _checked("features", given, least=2)
        if len(x) <= x.shape[1]:
            mean = x.mean(axis=0)
            factor = (x - mean).T / np.sqrt(len(x) - 1)
            return _Root(mean, factor, float(np.sum(factor**2)))
        given = moments(x)
    check_finite("covariance", given.covariance)
    values, vectors = scipy.linalg.eigh(given.covariance)
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    return _Root(np.asarray(given.mean, np.float64), factor, float(np.trace(given.covariance)))


def _radii(x: Float[np.ndarray, "n F"], neighbours: int) -> Float[np.ndarray, " n"]:
    """Squared distance of every point to its k-th nearest other one."""
    found = np.empty(len(x), np.float32)
    for start, squares in _in_rows(x, x):
        rows = np.arange(len(squares))
        squares[rows, start + rows] = np.inf
        found[start + rows] = np.partition(squares, neighbours - 1, axis=1)[:, neighbours - 1]
    return found


def _in_rows(
    x: Float[np.ndarray, "n F"], y: Float[np.ndarray, "m F"]
) -> Iterator[tuple[int, Float[np.ndarray, "rows m"]]]:
    """Some rows of squared distances at a time, with the number of the first."""
    for start in range(0, len(x), ROWS):
        yield start, np.array(_squares(x[start : start + ROWS], y))


@jax.jit
def _squares(x: Float[Array, "n F"], y: Float[Array, "m F"]) -> Float[Array, "n m"]:
    """‖x - y‖² of centred features; only their order matters, so that `gmm.distances`' care for small ones is saved."""
    norms, others = jnp.sum(x * x, axis=1), jnp.sum(y * y, axis=1)
    return jnp.maximum(norms[:, None] + others[None] - 2 * matmul(x, y.T), 0)


def _checked(name: str, features: Float[ArrayLike, "n F"], least: int) -> Features:
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < least or not x.shape[1]:
        raise ValueError(f"{name} must have shape (n, F) with n >= {least}, got {x.shape}")
    check_finite(name, x)
    return x
