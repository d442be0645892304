"""Test mixtures, each with the density that its numbers define, computed without the project's code.

A problem is described by plain arrays. `Problem.mixture` hands them to the project; `Problem.log_joint` is
the oracle: 80-bit arithmetic where covariances are diagonal, 30 digits of mpmath with dense matrices where
they are not. Both see the same numbers, rounded to the precision under test first.
"""

import dataclasses
import functools
from collections.abc import Mapping

import mpmath
import numpy as np

from gmm import Covariance, Diagonal, Full, Isotropic, LowRank, Mixture

TAGS = {
    "symmetric": "two components mirrored at the origin, equal weights",
    "unequal-weights": "the largest weight is more than ten times the smallest",
    "zero-weight": "a component has weight zero",
    "vanishing-weight": "a positive weight is below the range of float32",
    "single": "K = 1",
    "overlapping": "all means within one standard deviation of each other",
    "coincident": "two components are the same",
    "anisotropic": "a covariance is not a multiple of the identity",
    "per-component": "one covariance for each component",
    "points": "variance zero: only the diffused density exists",
    "tiny-variance": "a standard deviation below 1e-3 of the distance between means",
    "huge-variance": "variances above 1e6",
    "offset": "the means lie more than 100 standard deviations from the origin, together",
    "many-classes": "K >= 1000",
    "high-dimension": "d >= 10,000",
    "matrix-products": "d above the dimension below which differences are summed directly",
}
DIGITS = 30


@dataclasses.dataclass(frozen=True)
class Problem:
    """One mixture.

    Attributes:
        slug: name, used as test id.
        tags: what makes it difficult; keys of `TAGS`.
        weights: (K,).
        means: (K, d).
        kind: the covariance type.
        parameters: the arguments of `kind`.
    """

    slug: str
    tags: frozenset[str]
    weights: np.ndarray
    means: np.ndarray
    kind: type[Covariance]
    parameters: Mapping[str, np.ndarray]

    @property
    def components(self) -> int:
        return self.means.shape[0]

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    @property
    def shared(self) -> bool:
        first = next(iter(self.parameters.values()))
        return first.ndim == {Isotropic: 0, Diagonal: 1, LowRank: 2, Full: 2}[self.kind]

    @property
    def diagonal(self) -> bool:
        return self.kind in (Isotropic, Diagonal)

    def mixture(self, dtype=np.float64) -> Mixture:
        return Mixture(self.weights.astype(dtype), self.means.astype(dtype), self.covariance(dtype))

    def covariance(self, dtype=np.float64) -> Covariance:
        return self.kind(**{name: np.asarray(value, dtype) for name, value in self.parameters.items()})

    def rounded(self, name: str, dtype) -> np.ndarray:
        """A parameter in float64 after rounding to `dtype`."""
        return np.asarray(self.parameters[name], dtype).astype(np.float64)

    def variances(self, dtype=np.float64) -> np.ndarray:
        """(K, d) diagonals of isotropic and diagonal covariances."""
        var = self.rounded("var", dtype)
        columns = var[..., None] if self.kind is Isotropic else var
        return np.broadcast_to(columns, self.means.shape)

    def dense(self, dtype=np.float64) -> np.ndarray:
        """(K, d, d) covariance matrices, for small d."""
        identity = np.eye(self.dim)
        if self.diagonal:
            return self.variances(dtype)[..., None] * identity
        if self.kind is Full:
            matrices = self.rounded("cov", dtype)
        else:
            factor, var = self.rounded("factor", dtype), self.rounded("var", dtype)
            matrices = factor @ factor.swapaxes(-1, -2) + var[..., None, None] * identity
        return np.broadcast_to(matrices, (self.components, self.dim, self.dim))

    def log_joint(self, x: np.ndarray, alpha: float, sigma: float, dtype=np.float64) -> np.ndarray:
        """(n, K) log π_k + log N(x_n; α μ_k, α² C_k + σ² I), with every parameter rounded to `dtype`."""
        alpha, sigma = float(dtype(alpha)), float(dtype(sigma))
        weights, means = self.weights.astype(dtype), self.means.astype(dtype).astype(np.float64)
        with np.errstate(divide="ignore"):
            log_weights = np.log(weights.astype(np.longdouble) / weights.astype(np.longdouble).sum())
        law = self._log_density_diagonal if self.diagonal else self._log_density_dense
        return log_weights + law(x.astype(np.float64), means, alpha, sigma, dtype)

    def _log_density_diagonal(self, x, means, alpha, sigma, dtype):
        wide = np.longdouble
        var = wide(alpha) ** 2 * self.variances(dtype).astype(wide) + wide(sigma) ** 2
        constant = np.log(2 * np.pi * var).sum(-1)
        distance = [((row.astype(wide) - wide(alpha) * means) ** 2 / var).sum(-1) for row in x]
        return -0.5 * (constant + np.array(distance))

    def _log_density_dense(self, x, means, alpha, sigma, dtype):
        dense = self.dense(dtype)
        columns = []
        for k in range(self.components):
            lower, log_det = _cholesky(dense[k].tobytes(), self.dim, alpha, sigma)
            columns.append([_log_normal(row, alpha, means[k], lower, log_det) for row in x])
        return np.array(columns, np.longdouble).T

    def points(self, alpha: float, sigma: float, dtype=np.float64, seed: int = 0) -> np.ndarray:
        """(6, d) places to ask about: typical, at a mean, between two, and 15 standard deviations out."""
        rng = np.random.default_rng(seed)
        k, j = rng.integers(self.components, size=2)
        means = alpha * self.means
        spread = lambda z: z * np.sqrt(sigma**2 + alpha**2 * self._mean_variance(k))
        direction = rng.normal(size=self.dim)
        direction /= np.linalg.norm(direction)
        rows = [
            means[k] + spread(rng.normal(size=self.dim)),
            means[j] + spread(rng.normal(size=self.dim)),
            means[k],
            (means[k] + means[j]) / 2,
            means[k] + spread(15 * direction),
            means[j] - spread(15 * direction),
        ]
        return np.array(rows).astype(dtype)

    def _mean_variance(self, k: int) -> float:
        if self.diagonal:
            return self.variances()[k].mean()
        return np.trace(self.dense()[k]) / self.dim


@functools.cache
def _cholesky(matrix: bytes, dim: int, alpha: float, sigma: float):
    """Cholesky factor of α²C + σ²I in mpmath, and its log determinant."""
    entries = np.frombuffer(matrix).reshape(dim, dim)
    with mpmath.workdps(DIGITS):
        noisy = mpmath.mpf(alpha) ** 2 * mpmath.matrix(entries.tolist())
        noisy += mpmath.mpf(sigma) ** 2 * mpmath.eye(dim)
        lower = mpmath.cholesky(noisy)
        return lower, 2 * mpmath.fsum(mpmath.log(lower[i, i]) for i in range(dim))


def _log_normal(x, alpha, mean, lower, log_det) -> np.longdouble:
    dim = len(x)
    with mpmath.workdps(DIGITS):
        white = []
        for i in range(dim):
            known = mpmath.fdot((lower[i, j], white[j]) for j in range(i))
            white.append((mpmath.mpf(x[i]) - mpmath.mpf(alpha) * mpmath.mpf(mean[i]) - known) / lower[i, i])
        square = mpmath.fdot((w, w) for w in white)
        value = -(dim * mpmath.log(2 * mpmath.pi) + log_det + square) / 2
        return np.longdouble(mpmath.nstr(value, 25))


def _uniform(components: int) -> np.ndarray:
    return np.full(components, 1 / components)


def covariance_of(
    kind: str, components: int, dim: int, rng
) -> tuple[type[Covariance], dict[str, np.ndarray]]:
    """Type and arguments of a covariance of the named kind, with eigenvalues of order one."""
    lead = (components,) if kind.endswith("each") else ()
    var = 0.3 + rng.random(lead)
    if kind.startswith("isotropic"):
        return Isotropic, {"var": var}
    if kind.startswith("diagonal"):
        return Diagonal, {"var": 0.3 + rng.random((*lead, dim))}
    if kind.startswith("low-rank"):
        return LowRank, {"factor": rng.normal(size=(*lead, dim, 2)), "var": var}
    root = rng.normal(size=(*lead, dim, dim)) / np.sqrt(dim)
    return Full, {"cov": root @ root.swapaxes(-1, -2) + 0.2 * np.eye(dim)}


KINDS = [f"{name}{each}" for name in ("isotropic", "diagonal", "low-rank", "full") for each in ("", " each")]


def _of_every_kind(dim: int, tags: set[str]) -> list[Problem]:
    problems = []
    for kind in KINDS:
        rng = np.random.default_rng(7)
        means = 1.5 * rng.normal(size=(4, dim))
        found = tags | ({"per-component"} if "each" in kind else set())
        found |= set() if "isotropic" in kind else {"anisotropic"}
        slug = f"{kind.replace(' ', '-')}-{dim}d"
        weights = np.array([0.4, 0.3, 0.2, 0.1])
        problems.append(Problem(slug, frozenset(found), weights, means, *covariance_of(kind, 4, dim, rng)))
    return problems


def _single_purpose() -> list[Problem]:
    rng = np.random.default_rng(11)
    corners = 2 * rng.normal(size=(4, 3))
    many = rng.normal(size=(1000, 3)) * 3

    def isotropic(slug, tags, weights, means, var=1.0):
        arrays = np.asarray(weights, float), np.asarray(means, float)
        return Problem(slug, frozenset(tags), *arrays, Isotropic, {"var": np.asarray(var, float)})

    axis = np.array([1.0, -2.0, 0.5])
    skewed = [0.9, 0.0999, 1e-4, 0.0]
    twins = corners[[0, 1, 1, 2]]
    tiny = np.array([1 - 3e-300, 1e-300, 1e-300, 1e-300])
    sphere = rng.normal(size=(3, 10_000))
    full_points = np.zeros((4, 3, 3))
    return [
        isotropic("symmetric-pair", ["symmetric"], [0.5, 0.5], [axis, -axis]),
        isotropic("unequal-weights", ["unequal-weights"], [0.9, 0.09, 0.009, 0.001], corners),
        isotropic("zero-weight", ["zero-weight", "unequal-weights"], skewed, corners),
        isotropic("vanishing-weight", ["vanishing-weight", "unequal-weights"], tiny, corners),
        isotropic("single", ["single"], [1.0], [axis]),
        isotropic("overlapping", ["overlapping"], _uniform(4), 0.1 * corners),
        isotropic("coincident", ["coincident"], [0.1, 0.3, 0.4, 0.2], twins),
        isotropic("points", ["points"], _uniform(4), corners, 0.0),
        isotropic("tiny-variance", ["tiny-variance"], _uniform(4), corners, 1e-8),
        isotropic("huge-variance", ["huge-variance", "overlapping"], _uniform(4), corners, 1e8),
        isotropic("offset", ["offset"], _uniform(4), corners + 1e4),
        isotropic("many-classes", ["many-classes"], _uniform(1000), many),
        isotropic("high-dimension", ["high-dimension", "matrix-products"], [0.2, 0.3, 0.5], sphere),
        Problem(
            "points-each",
            frozenset(["points", "per-component"]),
            _uniform(4),
            corners,
            Full,
            {"cov": full_points},
        ),
        Problem(
            "mixed-scales",
            frozenset(["tiny-variance", "huge-variance", "per-component", "anisotropic"]),
            _uniform(4),
            corners,
            Diagonal,
            {"var": np.array([[1e-8, 1, 1], [1, 1e8, 1], [1, 1, 1], [1e-8, 1e-8, 1e8]])},
        ),
        Problem(
            "offset-full",
            frozenset(["offset", "anisotropic", "matrix-products"]),
            _uniform(4),
            rng.normal(size=(4, 24)) + 1e4,
            *covariance_of("full", 4, 24, rng),
        ),
    ]


PROBLEMS = {
    problem.slug: problem
    for problem in (*_single_purpose(), *_of_every_kind(3, set()), *_of_every_kind(24, {"matrix-products"}))
}


def tagged(*tags: str) -> list[str]:
    """Slugs of the problems that carry every one of `tags`."""
    return [slug for slug, problem in PROBLEMS.items() if problem.tags.issuperset(tags)]


def untagged(*tags: str) -> list[str]:
    """Slugs of the problems that carry none of `tags`."""
    return [slug for slug, problem in PROBLEMS.items() if not problem.tags.intersection(tags)]
