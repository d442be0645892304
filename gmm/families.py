"""Families of mixtures: pairs, simplices, trees, Gram matrices, and mixtures made from labelled data.

One scale everywhere: within-class variance 1, and class means whose average squared norm after (uniform)
centring is dim · separation², separation 1. `reduced=True` builds a family from its Gram matrix in as many
coordinates as that has rank and allocates nothing of size dim: dim = 10^12 is a number like any other.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jaxtyping import ArrayLike, Float, PRNGKeyArray, Shaped

from gmm.checks import check_finite, check_values, choose
from gmm.covariance import Covariance, Diagonal, Full, Isotropic
from gmm.mixture import Mixture, check_key
from gmm.partition import Partition
from gmm.pytree import build

MEANS_LIMIT = 2**30  # bytes; above it a person surely wants the reduced form
# Eigenvalues of a Gram matrix below this share of the largest are rounding.
RANK_TOLERANCE = 1e-12
# Ours and scikit-learn's names; "shared" is fitted class by class and averaged over the classes.
SKLEARN_COVARIANCES = {"full": "full", "diagonal": "diag", "isotropic": "spherical", "shared": "tied"}
# Added to every fitted variance, in units of the mean variance of a coordinate: some pixels never change.
VARIANCE_FLOOR = 1e-6
MAX_EM_STEPS = 1000  # what has not converged by then is scikit-learn's to warn about


def pair(
    dim: int,
    *,
    separation: float = 1.0,
    variance: float = 1.0,
    weights: ArrayLike | None = None,
    reduced: bool = False,
) -> Mixture:
    """Two classes at ±m, ‖m‖² = dim · separation², the first at +m.

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
    _check_gram(classes)
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
    _check_gram(classes)
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
    if reduced:
        _check_gram(classes)
    if reduced and dim > classes:
        directions = np.tril(rng.normal(size=(classes, classes)), -1)
        directions += np.diag(np.sqrt(rng.chisquare(dim - np.arange(classes, dtype=float))))
    else:
        _check_memory(classes, dim)
        directions = rng.normal(size=(classes, int(dim)))
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
    if np.trace(gram) <= 0:
        raise ValueError(f"energies must separate some of the {leaves} leaves, got {energies}")
    scale = _energy(dim, separation) * leaves / np.trace(gram)
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
    leaves = math.prod(map(int, sizes))
    _check_gram(leaves)
    gram = np.zeros((leaves, leaves))
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
    shrinkage: float | str | None = "auto",
    seed: int = 0,
) -> tuple[Mixture, Partition]:
    """Gaussians fitted to labelled data; class frequencies are the priors.

    With n points a class an unequal full fit shows spurious information of about d²/8n nat: keep n ≫ d²,
    shrink, or share the covariance.

    Args:
        x: (n, d) points.
        y: (n,) labels of any sortable kind.
        components: Gaussians a class, fitted by scikit-learn's EM.
        covariance: "full", "diagonal", "isotropic" (one each), or "shared" (one full matrix for all; with
            several components classes are fitted apart and their matrices averaged).
        shrinkage: share of the covariance replaced by its isotropic part, or "auto" for Ledoit and Wolf's
            (full and shared; of others only the number is used); None for no shrinkage. In any case 1e-6 of
            the mean variance of a coordinate is added to every variance, so that constant ones stay harmless.
        seed: of the EM start.

    Returns:
        The mixture and the partition of its components by class, classes in sorted order.

    Raises:
        ValueError: on wrong shapes, unknown options, non-finite points, or a class with too few points.
    """
    points, labels, names = _labelled(x, y)
    choose("covariance", covariance, tuple(SKLEARN_COVARIANCES))
    if components < 1:
        raise ValueError(f"components must be >= 1, got {components}")
    if shrinkage not in (None, "auto") and not (isinstance(shrinkage, (int, float)) and 0 <= shrinkage <= 1):
        raise ValueError(f"shrinkage must be 'auto' or a share in [0, 1] (None: no share), got {shrinkage!r}")
    counts = np.bincount(labels)
    if counts.min() < max(2, components):
        rare = names.tolist()[int(np.argmin(counts))]  # a Python value: np.int64(3) is no name
        raise ValueError(
            f"every class needs at least {max(2, components)} points, {rare!r} has {counts.min()}"
        )
    floor = VARIANCE_FLOOR * (float(points.var(axis=0).mean()) or 1.0)
    fits = [_fit(points[labels == c], components, covariance, floor, seed) for c in range(len(names))]
    prior = counts / len(points)
    spreads = np.concatenate([fit.spreads for fit in fits])
    residuals = [r for fit in fits for r in fit.residuals]
    if covariance == "shared":
        spreads, residuals = np.average(spreads, axis=0, weights=prior)[None], [np.concatenate(residuals)]
    weights = np.concatenate([p * fit.weights for p, fit in zip(prior, fits, strict=True)])
    means = np.concatenate([fit.means for fit in fits])
    within = _operator(_shrunk(spreads, residuals, covariance, shrinkage), covariance)
    return Mixture(weights, means, within, normalise=True), Partition(
        np.repeat(np.arange(len(names)), components)
    )


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


def spread(mixture: Mixture, dim: int) -> Mixture:
    """An isotropic mixture of few coordinates in `dim` dimensions, its means spread over all of them.

    A cosine transform is orthonormal: it spreads the coordinates as those of real class means are, in
    dim log dim operations and without a basis.

    Args:
        mixture: isotropic, in r <= dim coordinates; what `reduced=True` gives.
        dim: dimension d.

    Raises:
        ValueError: when the mixture is not isotropic or has more coordinates than dim.
    """
    if not isinstance(mixture.covariance, Isotropic):
        raise ValueError(f"mixture must have Isotropic covariance, got {type(mixture.covariance).__name__}")
    if mixture.dim > dim:
        raise ValueError(f"dim must be >= {mixture.dim}, the coordinates of the mixture, got {dim}")
    means = np.zeros((mixture.components, dim), mixture.dtype)
    means[:, : mixture.dim] = mixture.means
    for row in means:  # one by one: the transform takes a copy
        row[:] = scipy.fft.idct(row, norm="ortho")
    fields = {"log_weights": mixture.log_weights, "covariance": mixture.covariance}
    return build(Mixture, means=jnp.asarray(means), **fields)


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
    points = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0))
    # Eigenvectors have no sign of their own: the first class that matters is on the positive side.
    large = np.abs(points) >= 0.5 * np.abs(points).max(axis=0, keepdims=True)
    leading = np.take_along_axis(points, np.argmax(large, axis=0)[None, :], axis=0)
    return np.where(leading < 0, -points, points)


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


def _check_gram(classes: int) -> None:
    wanted = 8 * classes**2
    if wanted > MEANS_LIMIT:
        raise ValueError(
            f"{classes} classes would take {wanted / 2**30:.1f} GiB for their inner products, at most "
            f"{MEANS_LIMIT / 2**30:g} is built; the quadratures of the theory package take any number"
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
    low = from_gram(gram, variance=variance, weights=weights)
    if reduced:
        return low
    _check_memory(len(gram), dim)
    return spread(low, int(dim))  # 1e6 is a dimension too


def _labelled(
    x: ArrayLike, y: ArrayLike | Sequence[Hashable], dtype: np.dtype | type = float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = np.asarray(x, dtype)
    names, labels = np.unique(np.asarray(y), return_inverse=True)
    if points.ndim != 2 or labels.shape != points.shape[:1]:
        raise ValueError(f"x and y must have shapes (n, d) and (n,), got {points.shape} and {labels.shape}")
    check_finite("x", points)
    return points, labels, names


class _Fit(NamedTuple):
    """One class.

    Attributes:
        weights: (k,) shares of its components.
        means: (k, d).
        spreads: covariances (k, d, d), variances (k, d) or (k,); (1, d, d) when they are to be shared.
        residuals: k arrays (n, d), weighted by the root of each component's responsibility.
    """

    weights: np.ndarray
    means: np.ndarray
    spreads: np.ndarray
    residuals: list[np.ndarray]


def _fit(own: np.ndarray, components: int, covariance: str, floor: float, seed: int) -> _Fit:
    # Here rather than at the top: importing scikit-learn takes longer than most commands.
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        components,
        covariance_type=SKLEARN_COVARIANCES[covariance],  # type: ignore[arg-type]
        reg_covar=floor,
        max_iter=MAX_EM_STEPS,
        random_state=seed,
    )
    # Some of its covariances are differences of second moments, which cancel far from the origin.
    centre = own.mean(axis=0)
    model.fit(own - centre)
    means, spreads = np.asarray(model.means_), np.asarray(model.covariances_)
    shares = model.predict_proba(own - centre)
    return _Fit(
        weights=np.asarray(model.weights_),
        means=means + centre,
        spreads=spreads[None] if covariance == "shared" else spreads,
        residuals=[
            np.sqrt(share)[:, None] * (own - centre - mean)
            for share, mean in zip(shares.T, means, strict=True)
        ],
    )


def _shrunk(
    spreads: np.ndarray, residuals: list[np.ndarray], covariance: str, shrinkage: float | str | None
) -> np.ndarray:
    """(1-s) C + s tr(C)/d I, the floor included, for each of the covariances C."""
    if shrinkage is None or covariance == "isotropic":
        return spreads
    if covariance == "diagonal":
        share = 0.0 if shrinkage == "auto" else float(shrinkage)
        return (1 - share) * spreads + share * spreads.mean(axis=1, keepdims=True)
    if shrinkage == "auto":
        from sklearn.covariance import ledoit_wolf_shrinkage

        shares = np.array([ledoit_wolf_shrinkage(r, assume_centered=True) for r in residuals])
    else:
        shares = np.full(len(spreads), float(shrinkage))
    dim = spreads.shape[-1]
    round_ones = (np.trace(spreads, axis1=1, axis2=2) / dim)[:, None, None] * np.eye(dim)
    return spreads + shares[:, None, None] * (round_ones - spreads)


def _operator(spreads: np.ndarray, covariance: str) -> Covariance:
    if covariance in ("isotropic", "diagonal"):
        return Isotropic(spreads) if covariance == "isotropic" else Diagonal(spreads)
    # Decomposed in float64: in float32 the floor would drown in the rounding of the largest variance.
    with jax.enable_x64(True):
        operator = Full(spreads[0] if covariance == "shared" else spreads)
    return jax.tree.map(lambda leaf: leaf.astype(jax.dtypes.canonicalize_dtype(float)), operator)
