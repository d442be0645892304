"""Families of mixtures: pairs, simplices, trees, Gram matrices, and mixtures made from labelled data.

One scale everywhere: within-class variance 1, and class means whose average squared norm after (uniform)
centring is dim · separation², separation 1. `reduced=True` builds a family from its Gram matrix in as many
coordinates as that has rank and allocates nothing of size dim: dim = 10^12 is a number like any other.
"""

import math
from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jaxtyping import ArrayLike, Float, PRNGKeyArray, Shaped

from gmm.checks import check_finite, check_values, choose
from gmm.covariance import Covariance, Diagonal, Full, Isotropic
from gmm.mixture import Mixture, check_key
from gmm.partition import Partition

MEANS_LIMIT = 2**30  # bytes; above it a person surely wants the reduced form
# Eigenvalues of a Gram matrix below this share of the largest are rounding.
RANK_TOLERANCE = 1e-12
COVARIANCES = ("full", "diagonal", "isotropic", "shared")


def pair(
    dim: int,
    *,
    separation: float = 1.0,
    variance: float = 1.0,
    weights: ArrayLike | None = None,
    reduced: bool = False,
) -> Mixture:
    """Two classes at ±m, ‖m‖² = dim · separation².

    Args:
        dim: dimension d.
        separation: root mean square of a coordinate of m.
        variance: within-class variance.
        weights: (2,) priors; None for equal ones.
        reduced: one coordinate instead of dim.

    Raises:
        ValueError: on a dimension below one, a non-positive separation, a negative variance, or means that
            would not fit in memory.
    """
    energy = _energy(dim, separation)
    return _mixture(energy * np.array([[1.0, -1.0], [-1.0, 1.0]]), dim, variance, weights, reduced)


def simplex(
    classes: int,
    dim: int,
    *,
    separation: float = 1.0,
    variance: float = 1.0,
    weights: ArrayLike | None = None,
    reduced: bool = False,
) -> Mixture:
    """K classes at the vertices of a centred regular simplex, ‖vertex‖² = dim · separation².

    Arguments and errors as in `pair`; more than dim + 1 classes cannot exist.
    """
    _check_room("simplex", classes, dim, dim + 1)
    centred = np.eye(classes) - 1 / classes
    gram = _energy(dim, separation) * classes / max(classes - 1, 1) * centred
    return _mixture(gram, dim, variance, weights, reduced)


def orthogonal(
    classes: int,
    dim: int,
    *,
    separation: float = 1.0,
    variance: float = 1.0,
    weights: ArrayLike | None = None,
    reduced: bool = False,
) -> Mixture:
    """K classes with orthogonal means, not centred.

    ‖mean‖² = dim · separation² · K/(K-1), so that the means have the common scale once centred, when they are
    a simplex.

    Arguments and errors as in `pair`; more than dim classes cannot exist.
    """
    _check_room("orthogonal", classes, dim, dim)
    energy = _energy(dim, separation) * classes / max(classes - 1, 1)
    return _mixture(energy * np.eye(classes), dim, variance, weights, reduced)


def random(
    key: PRNGKeyArray,
    classes: int,
    dim: int,
    *,
    separation: float = 1.0,
    variance: float = 1.0,
    weights: ArrayLike | None = None,
    reduced: bool = False,
) -> Mixture:
    """K classes in independent Gaussian directions, centred, and rescaled together to the common scale.

    The reduced form draws the Gram matrix itself, by the Bartlett decomposition of the Wishart law: the same
    distribution, without the directions. Arguments and errors as in `pair`.
    """
    _check_room("random", classes, dim, math.inf)
    seeds = jax.random.key_data(check_key(key)) if _typed(key) else key
    rng = np.random.default_rng(np.asarray(seeds))
    energy = _energy(dim, separation)
    if reduced and dim > classes:
        directions = np.tril(rng.normal(size=(classes, classes)), -1)
        directions += np.diag(np.sqrt(rng.chisquare(dim - np.arange(classes, dtype=float))))
    else:
        _check_memory(classes, dim)
        directions = rng.normal(size=(classes, dim))
    directions -= directions.mean(axis=0, keepdims=True)
    directions *= np.sqrt(energy * classes / max(np.sum(directions**2), np.finfo(float).tiny))
    if reduced:
        return _mixture(directions @ directions.T, dim, variance, weights, reduced)
    return Mixture(_weights(weights, classes), directions, Isotropic(variance))


def tree(
    branching: Sequence[int],
    dim: int,
    *,
    energies: Sequence[float] | None = None,
    separation: float = 1.0,
    variance: float = 1.0,
    weights: ArrayLike | None = None,
    reduced: bool = False,
) -> Mixture:
    """Hierarchical classes: a leaf's mean is the sum of one orthogonal increment a level, centred.

    Args:
        branching: children per node of each level, coarsest first; the leaves are the components, in order.
        dim: dimension d.
        energies: relative energy of an increment of each level; None for equal ones.
        separation: as in `pair`, for the centred leaves.
        variance: within-class variance.
        weights: (leaves,) priors; None for equal ones.
        reduced: as in `pair`.

    Raises:
        ValueError: as `pair`, and when branching or energies are not of that form.
    """
    gram = tree_gram(branching, energies)
    leaves = len(gram)
    _check_room("tree", leaves, dim, dim + 1)
    scale = _energy(dim, separation) * leaves / max(np.trace(gram), np.finfo(float).tiny)
    return _mixture(scale * gram, dim, variance, weights, reduced)


def tree_gram(branching: Sequence[int], energies: Sequence[float] | None = None) -> np.ndarray:
    """(leaves, leaves) centred Gram matrix of a tree's leaves: energy of the shared increments, centred.

    Raises:
        ValueError: when branching or energies are not of the form that `tree` takes.
    """
    sizes = np.asarray(branching)
    whole = sizes.ndim == 1 and sizes.size > 0 and np.issubdtype(sizes.dtype, np.integer)
    if not whole or (sizes < 1).any():
        raise ValueError(f"branching must list whole numbers >= 1, coarsest first; got {list(branching)}")
    levels = np.ones(len(sizes)) if energies is None else np.asarray(energies, float)
    if levels.shape != sizes.shape or not (levels >= 0).all() or not np.isfinite(levels).all():
        raise ValueError(f"energies must be {len(sizes)} numbers >= 0 like branching, got {energies}")
    gram = np.zeros((math.prod(map(int, sizes)),) * 2)
    for energy, partition in zip(levels, tree_partitions(branching), strict=True):
        gram += energy * (partition.labels[:, None] == partition.labels[None, :])
    return _centred(gram)


def tree_partitions(branching: Sequence[int]) -> tuple[Partition, ...]:
    """The decision of each level of a tree (the node that a leaf lies below), coarsest first."""
    leaves = np.arange(math.prod(branching))
    below = [math.prod(branching[level + 1 :]) for level in range(len(branching))]
    return tuple(Partition(leaves // size) for size in below)


def from_gram(
    gram: Float[ArrayLike, "K K"], *, variance: float = 1.0, weights: ArrayLike | None = None
) -> Mixture:
    """Isotropic classes whose means have the given inner products, in as few coordinates as those need.

    Args:
        gram: (K, K) symmetric, positive semi-definite.
        variance: within-class variance.
        weights: (K,) priors; None for equal ones.

    Raises:
        ValueError: when gram is not such a matrix.
    """
    return Mixture(_weights(weights, len(np.asarray(gram))), coordinates(gram), Isotropic(variance))


def fitted(
    x: Float[ArrayLike, "n d"],
    y: Shaped[ArrayLike, " n"] | Sequence[Hashable],
    *,
    components: int = 1,
    covariance: str = "full",
    shrinkage: float | str = "auto",
    seed: int = 0,
) -> tuple[Mixture, Partition]:
    """Gaussians fitted to labelled data; class frequencies are the priors.

    With n points a class an unequal full fit shows spurious information of about d²/8n nat: keep n ≫ d²,
    shrink, or share the covariance.

    Args:
        x: (n, d) points.
        y: (n,) labels of any sortable kind.
        components: Gaussians a class; above one fitted by scikit-learn's EM.
        covariance: "full", "diagonal", "isotropic" (one each), or "shared" (one full matrix for all).
        shrinkage: share of the covariance replaced by its isotropic part, or "auto" for Ledoit and Wolf's
            (full and shared; of others only the number is used). Never less than 1e-6 of the total
            variance, so that constant coordinates stay harmless.
        seed: of the EM start.

    Returns:
        The mixture and the partition of its components by class, classes in sorted order.

    Raises:
        ValueError: on wrong shapes, unknown options, non-finite points, or a class with too few points.
    """
    points, labels, names = _labelled(x, y)
    choose("covariance", covariance, COVARIANCES)
    if components < 1:
        raise ValueError(f"components must be >= 1, got {components}")
    if shrinkage != "auto" and not (isinstance(shrinkage, (int, float)) and 0 <= shrinkage <= 1):
        raise ValueError(f"shrinkage must be 'auto' or a share in [0, 1], got {shrinkage!r}")
    counts = np.bincount(labels)
    if counts.min() < max(2, components):
        rare = names[int(np.argmin(counts))]
        raise ValueError(
            f"every class needs at least {max(2, components)} points, {rare!r} has {counts.min()}"
        )
    groups = [_responsibilities(points[labels == c], components, covariance, seed) for c in range(len(names))]
    weights, means = [], []
    for c, shares in enumerate(groups):
        own = points[labels == c]
        weights.append(shares.sum(axis=0) / len(points))
        means.append(shares.T @ own / shares.sum(axis=0)[:, None])
    order = np.repeat(np.arange(len(names)), components)
    scatter = [
        (np.sqrt(share)[:, None] * (points[labels == c] - mean), share.sum())
        for c, shares in enumerate(groups)
        for share, mean in zip(shares.T, means[c], strict=True)
    ]
    floor = 1e-6 * points.var(axis=0).mean()
    within = _within(scatter, covariance, shrinkage, floor)
    return Mixture(np.concatenate(weights), np.concatenate(means), within, normalise=True), Partition(order)


def empirical(
    x: Float[ArrayLike, "n d"], y: Shaped[ArrayLike, " n"] | Sequence[Hashable] | None = None
) -> tuple[Mixture, Partition]:
    """The data themselves: a zero-variance component a point, and the partition of points by label.

    Args:
        x: (n, d) points.
        y: (n,) labels; None makes every point its own cell.

    Raises:
        ValueError: on wrong shapes or non-finite points.
    """
    points = np.asarray(x)
    points, labels, _ = _labelled(points, np.arange(len(points)) if y is None else y, points.dtype)
    mixture = Mixture(np.full(len(points), 1 / len(points)), points, Isotropic(0.0), normalise=True)
    return mixture, Partition(labels)


def coordinates(gram: Float[ArrayLike, "K K"]) -> Float[np.ndarray, "K r"]:
    """(K, r) points with the given inner products, r the numerical rank (at least one); float64.

    Raises:
        ValueError: when gram is not a finite symmetric positive semi-definite matrix.
    """
    matrix = np.asarray(gram, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"gram must have shape (K, K), got {matrix.shape}")
    check_finite("gram", matrix)
    scale = max(float(np.abs(matrix).max()), np.finfo(float).tiny)
    if np.abs(matrix - matrix.T).max() > 1e-9 * scale:
        raise ValueError("gram must be symmetric, got a matrix that is not")
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    if values[0] < -1e-9 * scale * len(matrix):
        raise ValueError(f"gram must be positive semi-definite, got an eigenvalue {values[0]:.3g}")
    kept = values > RANK_TOLERANCE * len(matrix) * max(values[-1], 0)
    kept[-1] = True  # coincident means: one coordinate, all zero
    return vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0))


# ---------------------------------------------------------------------------------------------- inner parts


def _typed(key: PRNGKeyArray) -> bool:
    return jnp.issubdtype(check_key(key).dtype, jax.dtypes.prng_key)


def _energy(dim: int, separation: float) -> float:
    check_values("dim", dim, "a whole number >= 1", lambda a: (a >= 1) & (a % 1 == 0))
    check_values("separation", separation, "finite and positive", lambda a: (a > 0) & np.isfinite(a))
    return float(dim) * separation**2


def _check_room(name: str, classes: int, dim: int, most: float) -> None:
    check_values("classes", classes, "a whole number >= 2", lambda a: (a >= 2) & (a % 1 == 0))
    if classes > most:
        raise ValueError(f"classes of a {name} family must be <= {most:g} in dim={dim:g}, got {classes}")


def _check_memory(classes: int, dim: int) -> None:
    wanted = 8 * classes * dim
    if wanted > MEANS_LIMIT:
        raise ValueError(
            f"dim={dim:g} with {classes} classes would take {wanted / 2**30:.1f} GiB for the means alone; "
            "reduced=True needs nothing of that size and has the same posterior"
        )


def _weights(weights: ArrayLike | None, classes: int) -> np.ndarray:
    return np.full(classes, 1 / classes) if weights is None else np.asarray(weights, float)


def _centred(gram: np.ndarray) -> np.ndarray:
    """Inner products after the uniform mean is moved to the origin."""
    rows = gram - gram.mean(axis=0, keepdims=True)
    return rows - rows.mean(axis=1, keepdims=True)


def _mixture(
    gram: np.ndarray, dim: int, variance: float, weights: ArrayLike | None, reduced: bool
) -> Mixture:
    if reduced:
        return from_gram(gram, variance=variance, weights=weights)
    _check_memory(len(gram), dim)
    # A cosine transform is orthonormal: it spreads the few coordinates over all dimensions, as those of real
    # class means are, in dim log dim operations and without a basis.
    padded = np.zeros((len(gram), dim))
    points = coordinates(gram)
    padded[:, : points.shape[1]] = points
    means = np.asarray(scipy.fft.idct(padded, norm="ortho", axis=1))
    return Mixture(_weights(weights, len(gram)), means, Isotropic(variance))


def _labelled(
    x: ArrayLike, y: ArrayLike | Sequence[Hashable], dtype: np.dtype | type = float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = np.asarray(x, dtype)
    names, labels = np.unique(np.asarray(y), return_inverse=True)
    if points.ndim != 2 or labels.shape != points.shape[:1]:
        raise ValueError(f"x and y must have shapes (n, d) and (n,), got {points.shape} and {labels.shape}")
    check_finite("x", points)
    return points, labels, names


def _responsibilities(own: np.ndarray, components: int, covariance: str, seed: int) -> np.ndarray:
    """(n, components) share of each point in each Gaussian of its class."""
    if components == 1:
        return np.ones((len(own), 1))
    from sklearn.mixture import GaussianMixture

    kind = {"full": "full", "diagonal": "diag", "isotropic": "spherical", "shared": "tied"}[covariance]
    model = GaussianMixture(
        components, covariance_type=kind, random_state=seed, reg_covar=1e-3 * float(own.var(axis=0).mean())
    )
    return model.fit(own).predict_proba(own) + np.finfo(float).tiny


def _within(
    scatter: list[tuple[np.ndarray, float]], covariance: str, shrinkage: float | str, floor: float
) -> Covariance:
    """Within-class covariance from the weighted residuals (n_k, d) and total weight of each component."""
    if covariance == "isotropic":
        return Isotropic(np.array([np.mean(r**2) * len(r) / n + floor for r, n in scatter]))
    if covariance == "diagonal":
        share = 0.0 if shrinkage == "auto" else float(shrinkage)
        rows = np.stack([(r**2).sum(axis=0) / n for r, n in scatter])
        mean = rows.mean(axis=1, keepdims=True)
        return Diagonal((1 - share) * rows + share * mean + floor)
    if covariance == "shared":
        residuals = np.concatenate([r for r, _ in scatter])
        return Full(_shrunk(residuals, sum(n for _, n in scatter), shrinkage, floor))
    return Full(np.stack([_shrunk(r, n, shrinkage, floor) for r, n in scatter]))


def _shrunk(residuals: np.ndarray, weight: float, shrinkage: float | str, floor: float) -> np.ndarray:
    dim = residuals.shape[1]
    if shrinkage == "auto":
        from sklearn.covariance import ledoit_wolf_shrinkage

        share = float(ledoit_wolf_shrinkage(residuals, assume_centered=True))
    else:
        share = float(shrinkage)
    matrix = residuals.T @ residuals / weight
    mean = np.trace(matrix) / dim
    return (1 - share) * matrix + (share * mean + floor) * np.eye(dim)
