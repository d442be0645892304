"""Families of mixtures: pairs, simplices, trees, Gram matrices, and mixtures made from labelled data.

All families have one scale: within-class variance 1, and class means whose average squared norm after (uniform)
centring is dim · separation², with separation 1. `reduced=True` builds a family in as many coordinates as its means
need and allocates nothing of size dim: dim = 10^12 is a number like any other.

Coordinates are closed forms, or follow the data as `gmm.axes` describes: the same call gives the same means on every
machine.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.fft
from jaxtyping import ArrayLike, Float, PRNGKeyArray, Shaped

from gmm.axes import axes_of, first_longest
from gmm.checks import MOST_MOVED, check_count, check_finite, check_rounding, check_values, choose
from gmm.covariance import Covariance, Diagonal, Full, Isotropic
from gmm.keys import check_key, key_numbers
from gmm.mixture import Mixture
from gmm.partition import Partition
from gmm.pytree import build

FAMILIES = ("pair", "simplex", "orthogonal", "random", "tree")
MEANS_LIMIT = 2**30  # bytes; larger means are refused, since the reduced form is certainly what is wanted
# What is left of an inner product counts as rounding below this many eps of it, for each class.
GRAM_ROUNDING = 8
# A Gram matrix may be this far from symmetric and positive semi-definite, relative to its largest entry.
GRAM_SLACK = 1e-9
# Our names and scikit-learn's; "shared" is fitted class by class and averaged over the classes.
SKLEARN_COVARIANCES = {"full": "full", "diagonal": "diag", "isotropic": "spherical", "shared": "tied"}
# Added to every fitted variance, in units of the mean variance of a coordinate: some pixels never change.
VARIANCE_FLOOR = 1e-6
MAX_EM_STEPS = 1000  # scikit-learn warns about a fit that has not converged by then


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
        reduced: whether to use as few coordinates as the means need (here one) instead of dim.

    Raises:
        ValueError: for a dimension below one, a separation that is not positive, a negative variance, or means
            that would not fit in memory.
    """
    points = math.sqrt(_energy(dim, separation)) * np.array([[1.0], [-1.0]])
    return _mixture(points, dim, variance, weights, reduced)


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
    _check_count("simplex", classes, dim, dim + 1)
    _check_square(classes)
    energy = _energy(dim, separation) * classes / (classes - 1)
    return _mixture(math.sqrt(energy) * contrasts(classes), dim, variance, weights, reduced)


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

    ‖mean‖² = dim · separation² · K/(K-1), so that the means have the common scale once they are centred, when
    they are a simplex.

    Arguments and errors as in `pair`; more than dim classes cannot exist.
    """
    _check_count("orthogonal", classes, dim, dim)
    _check_square(classes)
    energy = _energy(dim, separation) * classes / (classes - 1)
    return _mixture(math.sqrt(energy) * np.eye(classes), dim, variance, weights, reduced)


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

    The reduced form draws a triangular factor of the Gram matrix, by the Bartlett decomposition of the Wishart law:
    the same distribution without the directions. Arguments and errors as in `pair`.
    """
    _check_count("random", classes, dim, math.inf)
    rng = np.random.default_rng(key_numbers(check_key(key)))
    energy = _energy(dim, separation)
    if reduced:
        _check_square(classes)
    if reduced and dim > classes:
        directions = np.tril(rng.normal(size=(classes, classes)), -1)
        directions += np.diag(np.sqrt(rng.chisquare(dim - np.arange(classes, dtype=float))))
    else:
        _check_memory(classes, dim)
        directions = rng.normal(size=(classes, int(dim)))
    directions -= directions.mean(axis=0, keepdims=True)
    directions *= np.sqrt(energy * classes / max(np.sum(directions**2), np.finfo(float).tiny))
    if reduced:
        rounding = GRAM_ROUNDING * classes * np.finfo(float).eps * math.sqrt(energy * classes)
        directions = directions @ axes_of(directions, rounding)
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
    """Hierarchical classes: a leaf's mean is the centred sum of one orthogonal increment for each level.

    Args:
        branching: number of children of each node of a level, coarsest level first; the leaves are the
            components, in order.
        dim: dimension d.
        energies: relative energy of an increment of each level; None for equal ones.
        separation: as in `pair`, for the centred leaves.
        variance: within-class variance.
        weights: (leaves,) priors; None for equal ones.
        reduced: as in `pair`.

    Raises:
        ValueError: as `pair`, when branching or energies are not of that form, and when rounding would move
            classes of a fine level noticeably (the reduced form keeps any level exactly).
    """
    points = _tree_points(branching, energies)
    leaves, total = len(points), np.sum(points**2)
    _check_count("tree", leaves, dim, dim + 1)
    if total <= 0:
        raise ValueError(f"energies must separate some of the {leaves} leaves, got {energies}")
    scale = math.sqrt(_energy(dim, separation) * leaves / total)
    return _mixture(scale * points, dim, variance, weights, reduced)


def named(
    family: str,
    sizes: Sequence[int],
    dim: int,
    *,
    key: PRNGKeyArray | None = None,
    energies: Sequence[float] | None = None,
    **options: Any,
) -> Mixture:
    """The family of a name: "pair", "simplex", "orthogonal", "random" or "tree".

    Args:
        family: its name.
        sizes: the number of classes (K,) alone, or the branching of a tree.
        dim: dimension d.
        key: of the directions of "random".
        energies: of a tree.
        options: separation, variance, weights and reduced, as in `pair`.

    Raises:
        ValueError: for an unknown name, sizes that do not fit it, and as the family's own function.
    """
    choose("family", family, FAMILIES)
    if family == "tree":
        return tree(sizes, dim, energies=energies, **options)
    if len(sizes) != 1 or (family == "pair" and sizes[0] != 2):
        allowed = "two classes for a pair" if family == "pair" else f"one number of classes for {family!r}"
        raise ValueError(f"sizes must be {allowed}, got {list(sizes)}; only a tree has several")
    if family == "pair":
        return pair(dim, **options)
    if family == "random":
        return random(check_key(key), sizes[0], dim, **options)
    return {"simplex": simplex, "orthogonal": orthogonal}[family](sizes[0], dim, **options)


def tree_gram(branching: Sequence[int], energies: Sequence[float] | None = None) -> np.ndarray:
    """(leaves, leaves) inner products of a tree's centred leaves, an increment of a level having its energy.

    Raises:
        ValueError: when branching or energies are not of the form that `tree` takes.
    """
    points = _tree_points(branching, energies)
    return points @ points.T


def tree_partitions(branching: Sequence[int]) -> tuple[Partition, ...]:
    """The decision of each level of a tree (below which node of that level a leaf lies), coarsest level first."""
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
        ValueError: when gram is not such a matrix, or when its entries are so large that their rounding hides
            the distances between classes (a common offset of the means; give inner products of centred means).
    """
    points = coordinates(gram)
    mixture = Mixture(_weights(weights, len(points)), points, Isotropic(variance))
    _check_resolved(np.asarray(gram, float), variance)
    return mixture


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

    With n points per class, a full fit for each class shows spurious information of about d²/8n nat: keep n ≫ d²,
    shrink, or share the covariance.

    Args:
        x: (n, d) points.
        y: (n,) labels of any sortable kind.
        components: number of Gaussians per class, fitted by scikit-learn's EM.
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
    check_count("components", components)
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
    """The data as a mixture: one component of zero variance per point, and the partition of the points by label.

    Args:
        x: (n, d) points.
        y: (n,) labels; None makes every point a cell of its own.

    Raises:
        ValueError: on wrong shapes or non-finite points.
    """
    points = np.asarray(x)
    points, labels, _ = _labelled(points, np.arange(len(points)) if y is None else y, points.dtype)
    mixture = Mixture(np.full(len(points), 1 / len(points)), points, Isotropic(0.0), normalise=True)
    return mixture, Partition(labels)


def spread(mixture: Mixture, dim: int) -> Mixture:
    """An isotropic mixture of few coordinates in `dim` dimensions, with its means spread over all of them.

    A cosine transform is orthonormal: it spreads the coordinates as those of real class means are, in
    dim log dim operations and without a basis.

    Args:
        mixture: isotropic, in r <= dim coordinates; what `reduced=True` gives.
        dim: dimension d.

    Raises:
        ValueError: when the mixture is not isotropic, has more coordinates than dim, or rounding would move its
            classes noticeably.
    """
    if not isinstance(mixture.covariance, Isotropic):
        raise ValueError(f"mixture must have Isotropic covariance, got {type(mixture.covariance).__name__}")
    if mixture.dim > dim:
        raise ValueError(f"dim must be >= {mixture.dim}, the coordinates of the mixture, got {dim}")
    few = np.asarray(mixture.means, float)
    means, moved = np.empty((len(few), dim), mixture.dtype), np.empty(len(few))
    for k, row in enumerate(few):  # one row at a time: the transform takes a copy
        exact = scipy.fft.idct(row, n=dim, norm="ortho")
        means[k] = exact
        moved[k] = np.linalg.norm(exact - means[k])
    deviation = float(np.sqrt(np.min(mixture.covariance.var)))
    check_rounding("means", few, np.diag(moved), deviation, "use reduced=True or float64")
    fields = {"log_weights": mixture.log_weights, "covariance": mixture.covariance}
    return build(Mixture, means=jnp.asarray(means), **fields)


def coordinates(gram: Float[ArrayLike, "K K"]) -> Float[np.ndarray, "K r"]:
    """(K, r) points with the given inner products, r the numerical rank (at least one); float64.

    The Cholesky factor with pivots: the longest mean lies on the first axis, and so on as in `gmm.axes`. Whether
    something is left of a mean is judged against its own length, so that short means beside long ones are kept.

    Raises:
        ValueError: when gram is not a finite symmetric positive semi-definite matrix.
    """
    matrix = np.asarray(gram, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"gram must have shape (K, K), got {matrix.shape}")
    check_finite("gram", matrix)
    slack = GRAM_SLACK * max(float(np.abs(matrix).max()), np.finfo(float).tiny)
    if np.abs(matrix - matrix.T).max() > slack:
        raise ValueError("gram must be symmetric, got a matrix that is not")
    rest, points, rounding = np.diag(matrix).copy(), np.zeros_like(matrix), _gram_rounding(matrix)
    for column in range(len(matrix)):
        left = rest > rounding
        if not left.any():
            points = points[:, : max(column, 1)]  # coincident means: one coordinate, all zero
            break
        pivot = first_longest(np.where(left, rest, -np.inf), rounding)
        parts = (matrix[:, pivot] - points @ points[pivot]) / np.sqrt(rest[pivot])
        bound = np.sqrt(np.where(left, rest, 0))  # no part of a mean is longer than what is left of it
        points[:, column] = np.clip(parts, -bound, bound)
        rest -= points[:, column] ** 2
        rest[pivot] = 0
    if np.abs(points @ points.T - matrix).max() > slack * len(matrix):
        least = np.linalg.eigvalsh(0.5 * (matrix + matrix.T))[0]
        raise ValueError(f"gram must be positive semi-definite, got an eigenvalue {least:.3g}")
    return points


def contrasts(count: int) -> Float[np.ndarray, "n m"]:
    """(n, n-1) coordinates of n orthonormal points after centring: the Helmert contrasts.

    Column j separates point j from those after it; its entries before j are zero, and the one at j is positive.
    """
    after = np.arange(count - 1, 0, -1.0)  # points after j
    lower = np.tril(np.broadcast_to(-1 / np.sqrt(after * (after + 1)), (count, count - 1)), -1)
    return lower + np.eye(count, count - 1) * np.sqrt(after / (after + 1))


# ---------------------------------------------------------------------------------------------- inner parts


def _tree_points(branching: Sequence[int], energies: Sequence[float] | None) -> np.ndarray:
    """(leaves, r) centred leaves: one block of contrasts for the children of each node, coarsest level first.

    The means of the children's own increments are orthogonal, too: seen from the node above, each child has the
    energy of its increment and that of the mean of the increments below it.
    """
    sizes = np.asarray(branching)
    whole = sizes.ndim == 1 and sizes.size > 0 and np.issubdtype(sizes.dtype, np.integer)
    if not whole or (sizes < 1).any():
        raise ValueError(f"branching must list whole numbers >= 1, coarsest first; got {list(branching)}")
    levels = np.ones(len(sizes)) if energies is None else np.asarray(energies, float)
    if levels.shape != sizes.shape or not (levels >= 0).all() or not np.isfinite(levels).all():
        raise ValueError(f"energies must be {len(sizes)} numbers >= 0 like branching, got {energies}")
    _check_square(math.prod(map(int, sizes)))
    blocks, below, from_below = [], 1, 0.0
    for level in reversed(range(len(sizes))):
        size, energy = int(sizes[level]), levels[level] + from_below
        family = np.repeat(math.sqrt(energy) * contrasts(size), below, axis=0)
        if energy:
            blocks.append(np.kron(np.eye(math.prod(map(int, sizes[:level]))), family))
        below, from_below = below * size, energy / size
    return np.concatenate(blocks[::-1], axis=1) + 0.0 if blocks else np.zeros((below, 1))  # + 0.0: no -0.0


def _gram_rounding(gram: np.ndarray) -> np.ndarray:
    """(K,) squared length below which what is left of a mean is rounding."""
    return GRAM_ROUNDING * len(gram) * np.finfo(float).eps * np.maximum(np.diag(gram), 0)


def _check_resolved(gram: np.ndarray, variance: float) -> None:
    """Raise ValueError when classes at noticeable distances may look coincident because of rounding."""
    lengths, rounding = np.diag(gram), _gram_rounding(gram)
    squares = lengths[:, None] + lengths[None, :] - 2 * gram
    hidden = np.triu(np.where(squares <= (both := rounding[:, None] + rounding[None, :]), both, 0), 1)
    width = variance if variance > 0 else float(np.abs(squares).mean())
    if hidden.max() > MOST_MOVED**2 * width:
        first, second = np.unravel_index(np.argmax(hidden), hidden.shape)
        raise ValueError(
            f"gram must resolve the distances between classes, got {lengths[first]:.3g} for class {first}, whose "
            f"rounding hides its distance from class {second}; give inner products of centred means"
        )


def _energy(dim: int, separation: float) -> float:
    check_values("dim", dim, "a whole number >= 1", lambda a: (a >= 1) & (a % 1 == 0))
    check_values("separation", separation, "finite and positive", lambda a: (a > 0) & np.isfinite(a))
    return float(dim) * separation**2


def _check_count(name: str, classes: int, dim: int, most: float) -> None:
    check_count("classes", classes, 2)
    if classes > most:
        raise ValueError(f"classes of a {name} family must be <= {most:g} in dim={dim:g}, got {classes}")


def _check_memory(classes: int, dim: int) -> None:
    wanted = 8 * classes * dim
    if wanted > MEANS_LIMIT:
        raise ValueError(
            f"dim={dim:g} with {classes} classes would take {wanted / 2**30:.1f} GiB for the means alone; "
            "reduced=True needs nothing of that size and has the same posterior"
        )


def _check_square(classes: int) -> None:
    wanted = 8 * classes**2
    if wanted > MEANS_LIMIT:
        raise ValueError(
            f"{classes} classes would take {wanted / 2**30:.1f} GiB for their inner products, at most "
            f"{MEANS_LIMIT / 2**30:g} is built; the quadratures of the theory package take any number"
        )


def _weights(weights: ArrayLike | None, classes: int) -> np.ndarray:
    return np.full(classes, 1 / classes) if weights is None else np.asarray(weights, float)


def _mixture(
    points: np.ndarray, dim: int, variance: float, weights: ArrayLike | None, reduced: bool
) -> Mixture:
    """Isotropic classes at `points` (K, r), in r coordinates or spread over `dim`."""
    low = Mixture(_weights(weights, len(points)), points, Isotropic(variance))
    if reduced:
        return low
    _check_memory(len(points), dim)
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


def _fit(points: np.ndarray, components: int, covariance: str, floor: float, seed: int) -> _Fit:
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
    centre = points.mean(axis=0)
    model.fit(points - centre)
    means, spreads = np.asarray(model.means_), np.asarray(model.covariances_)
    shares = model.predict_proba(points - centre)
    return _Fit(
        weights=np.asarray(model.weights_),
        means=means + centre,
        spreads=spreads[None] if covariance == "shared" else spreads,
        residuals=[
            np.sqrt(share)[:, None] * (points - centre - mean)
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
    return Full(spreads[0] if covariance == "shared" else spreads)
