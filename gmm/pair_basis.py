r"""Two diffused Gaussians in the basis in which both covariances are diagonal.

In the generalised eigenbasis S of the covariances Σ_0 and Σ_1 (SᵀΣ̄S = I with Σ̄ = ½(Σ_0 + Σ_1)) coordinate i has
the variances low_i = 1 - μ_i and high_i = 1 + μ_i, -1 < μ_i < 1. Everything that a Chernoff integral needs is
then a sum over coordinates of a function of μ_i, with weights. Under α and σ both covariances are α²Σ_k + σ²I:

* isotropic, diagonal and shared covariances keep one basis for all noise levels;
* low rank + isotropic: the span of both factors holds all that does not commute, and the rest of the space is
  one coordinate that counts many times;
* full covariances: the eigenbasis of Σ̄ is computed once, so that every noise level costs one symmetric
  eigendecomposition.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import ArrayLike, Float

from gmm.covariance import Covariance, Diagonal, Isotropic
from gmm.mixture import Mixture

Array = np.ndarray
# A line integral is followed until its integrand has fallen to e^{-40} of its largest value, at FAR at the latest:
# |π/sin(πa)| alone falls that much until there.
LEFT_OUT, FAR = 40.0, 14.0
# Coordinates above this number are gathered at interpolation nodes; below, summing them directly is as fast.
DIRECT_COORDINATES = 4096
# Gathered coordinates have |z μ| below this for every z in use: functions of μ then need few nodes.
_GATHERED = 0.25
# Absolute error of an interpolated sum over coordinates.
_INTERPOLATION_ERROR = 1e-16
_BLOCK = 2**14
_APART = 4000.0  # log C(½) is below -bend/4, where float64 holds e^{-745}


class DenseParts(NamedTuple):
    """Additional values for a basis S that is not orthogonal up to scale, exact from the spectrum of each class.

    Where a class is nearly singular, rounding leaves few digits of 1 ± μ, but its own eigenvalues keep all.

    Attributes:
        gram: (m, m) σ² SᵀS.
        step: (m,) difference of the means in the basis.
        log_dets: (2,) sums of log(1 - μ) and of log(1 + μ).
        traces: (2,) σ² times the traces of the two inverse covariances.
    """

    gram: Array
    step: Array
    log_dets: Array
    traces: Array


class Coordinates(NamedTuple):
    """Weighted coordinates of two Gaussians; sums over coordinates of functions of μ are all that is used.

    Attributes:
        mu: (m,) half the difference of the two variances, relative to their mean.
        low, high: (m,) variances 1 - μ and 1 + μ of the two classes, relative to their mean.
        count: (m,) how many coordinates each stands for.
        shift: (m,) squared difference of the two means, in units of the mean variance.
        count_noise: (m,) σ² times the sum of the coordinates' inverse mean variances.
        shift_noise: (m,) σ² shift over the mean variance; unused where `gram` is given.
        far: largest |Im a| at which the sums hold.
        gathered: how many of the first entries are interpolation nodes, whose weights carry the rounding of all.
        dense: what is known besides where the basis changes with the noise, else None.
    """

    mu: Array
    low: Array
    high: Array
    count: Array
    shift: Array
    count_noise: Array
    shift_noise: Array
    far: float = FAR
    gathered: int = 0
    dense: "DenseParts | None" = None

    def rounding(self, terms: Array, weights: Array) -> float:
        """Rounding error of a sum of terms, the products of weights and a function of μ, in units of float64's."""
        size = float(np.linalg.norm(terms))
        if not self.gathered:
            return size
        weight_sizes, term_sizes = np.abs(weights[: self.gathered]), np.abs(terms[: self.gathered])
        return size + 4 * float(
            weight_sizes.sum() * (term_sizes / np.where(weight_sizes > 0, weight_sizes, 1)).max()
        )

    @property
    def log_sides(self) -> Array:
        """(2, m) log(1 - μ) and log(1 + μ), to full precision for small μ and for μ near ±1; -inf at ±1."""
        with np.errstate(divide="ignore"):
            small = np.abs(self.mu) < 0.5
            inside = np.where(small, self.mu, 0.0)
            low = np.where(small, np.log1p(-inside), np.log(self.low))
            return np.stack([low, np.where(small, np.log1p(inside), np.log(self.high))])

    @property
    def log_overlap(self) -> float:
        """log C(½), of the Bhattacharyya coefficient: -inf where no point belongs to both classes."""
        return 0.25 * float(self.log_dets.sum()) - 0.125 * float(self.shift.sum())

    @property
    def log_dets(self) -> Array:
        """(2,) sums of log(1 - μ) and of log(1 + μ)."""
        if self.dense is not None:
            return self.dense.log_dets
        return self.log_sides @ self.count


class PairBasis(Protocol):
    """Two Gaussians, ready to be diffused."""

    def at(self, alpha: float, sigma: float, far: float | None = None) -> Coordinates:
        """Their coordinates at a noise level.

        Args:
            alpha: signal scale.
            sigma: noise standard deviation.
            far: |Im a| up to which sums have to hold; None for a guess.
        """
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Commuting:
    """Covariances with common eigenvectors.

    Attributes:
        first, second: (m,) clean variances of the two classes along each eigenvector.
        count: (m,) multiplicities.
        squares: (m,) squared difference of the clean means, summed over each multiplicity.
    """

    first: Float[Array, " m"]
    second: Float[Array, " m"]
    count: Float[Array, " m"]
    squares: Float[Array, " m"]

    def at(self, alpha: float, sigma: float, far: float | None = None) -> Coordinates:
        if len(self.count) <= DIRECT_COORDINATES:
            return self.part(alpha, sigma, slice(None))
        survey = _survey(self, alpha, sigma)
        if not survey.bend < _APART:
            return _NOTHING_COMMON
        if far is None:
            far = _first_guess(self, alpha, sigma, survey)
        return _gathered(self, alpha, sigma, far, survey.largest)

    def blocks(self) -> Iterator[slice]:
        """The coordinates one block at a time, so that temporary arrays stay in the cache."""
        return (slice(start, start + _BLOCK) for start in range(0, len(self.count), _BLOCK))

    def weights(self, alpha: float, sigma: float, part: slice | Array) -> tuple[Array, Array, Array]:
        """mu (m,), (count, shift, count_noise, shift_noise) (4, m), and the inverse mean variances (m,) of a part."""
        signal, noise = alpha**2, sigma**2
        first, second, squares = self.first[part], self.second[part], self.squares[part]
        inverse = first + second
        inverse *= 0.5 * signal
        inverse += noise
        flat = inverse == 0 if noise == 0 else np.zeros(0, bool)
        if flat.any():
            inverse[flat] = 1.0
        np.divide(1.0, inverse, out=inverse)
        mu = second - first
        mu *= inverse
        mu *= 0.5 * signal
        weights = np.empty((4, len(mu)))
        weights[0] = self.count[part]
        np.multiply(squares, inverse, out=weights[1])
        weights[1] *= signal
        np.multiply(weights[:2], inverse, out=weights[2:])
        weights[2:] *= noise
        if flat.any():
            # Neither class has any width here: where the means differ, the ratio of signal to noise is infinite.
            weights[1, flat & (squares > 0)] = np.inf
        return mu, weights, inverse

    def part(self, alpha: float, sigma: float, part: slice | Array) -> Coordinates:
        mu, weights, inverse = self.weights(alpha, sigma, part)
        low, high = ((alpha**2 * var[part] + sigma**2) * inverse for var in (self.first, self.second))
        if sigma == 0:
            flat = (low == 0) & (high == 0)
            low, high = np.where(flat, 1.0, low), np.where(flat, 1.0, high)
        return Coordinates(mu, low, high, *weights)


@dataclasses.dataclass(frozen=True, eq=False)
class Dense:
    """Covariances without common eigenvectors, in the eigenbasis of their mean.

    Attributes:
        spectra: (2, r) eigenvalues of the two clean covariances.
        middle: (r,) those of their mean.
        half: (r, r) half their difference in that basis.
        step: (r,) difference of the clean means in it.
        rest: what is orthogonal to the basis.
    """

    spectra: Float[Array, "2 r"]
    middle: Float[Array, " r"]
    half: Float[Array, "r r"]
    step: Float[Array, " r"]
    rest: Commuting

    def at(self, alpha: float, sigma: float, far: float | None = None) -> Coordinates:
        signal, noise = alpha**2, sigma**2
        scale = 1 / np.sqrt(signal * self.middle + noise)
        mu, vectors = np.linalg.eigh(signal * scale[:, None] * self.half * scale)
        mu = np.clip(mu, -1, 1)
        basis = scale[:, None] * vectors
        step = alpha * (self.step @ basis)
        rest = self.rest.at(alpha, sigma)
        extra = len(rest.count)
        gram = np.zeros((len(mu) + extra, len(mu) + extra))
        gram[: len(mu), : len(mu)] = noise * (basis.T @ basis)
        gram[len(mu) :, len(mu) :] = np.diag(rest.count_noise / rest.count)
        return Coordinates(
            mu=np.append(mu, rest.mu),
            low=np.append(1 - mu, rest.low),
            high=np.append(1 + mu, rest.high),
            count=np.append(np.ones_like(mu), rest.count),
            shift=np.append(step**2, rest.shift),
            count_noise=np.append(np.diagonal(gram)[: len(mu)], rest.count_noise),
            shift_noise=np.append(np.zeros_like(mu), rest.shift_noise),
            dense=self._parts(alpha, sigma, gram, np.append(step, np.sqrt(rest.shift)), rest),
        )

    def _parts(self, alpha: float, sigma: float, gram: Array, step: Array, rest: Coordinates) -> DenseParts:
        noisy = alpha**2 * self.spectra + sigma**2
        middle = alpha**2 * self.middle + sigma**2
        with np.errstate(divide="ignore"):
            log_dets = np.log(noisy).sum(axis=1) - np.log(middle).sum()
        traces = (sigma**2 / noisy).sum(axis=1) if sigma > 0 else np.zeros(2)
        sides = np.stack([rest.low, rest.high])
        return DenseParts(
            gram, step, log_dets + rest.log_dets, traces + (rest.count_noise / sides).sum(axis=1)
        )


def pair_basis(mixture: Mixture) -> PairBasis:
    """The basis of the two components of `mixture`, in float64.

    Raises:
        ValueError: when the mixture does not have two components.
    """
    if mixture.components != 2:
        raise ValueError(f"mixture must have two components, got {mixture.components}")
    means = np.asarray(mixture.means, np.float64)
    step = means[0] - means[1]
    covariance = mixture.covariance
    if isinstance(covariance, Isotropic | Diagonal):
        var = np.asarray(covariance.var, np.float64)
        first, second = (np.atleast_1d(var if covariance.shared else var[k]) for k in (0, 1))
        if isinstance(covariance, Isotropic):
            return Commuting(first, second, np.full(1, float(mixture.dim)), np.full(1, step @ step))
        return Commuting(first, second, np.broadcast_to(1.0, mixture.dim), step**2)
    if covariance.shared:
        return _shared_spectrum(covariance, step)
    return _dense(covariance, step)


class Spectrum(NamedTuple):
    """U diag(values) Uᵀ + rest (I - UUᵀ) on the host, U's columns orthonormal to float64's precision."""

    basis: Float[Array, "d r"]
    values: Float[Array, " r"]
    rest: float


def spectrum_of(covariance: Covariance, component: int | None = None) -> Spectrum:
    """The eigendecomposition of one low-rank or full covariance, from float32 or float64."""

    def pick(leaf: ArrayLike) -> Array:
        return np.asarray(leaf, np.float64) if component is None else np.asarray(leaf, np.float64)[component]

    basis = pick(covariance.basis)  # type: ignore[attr-defined]
    for _ in range(2):  # towards the nearest orthonormal columns: float32 leaves them 1e-7 away
        basis = 1.5 * basis - 0.5 * basis @ (basis.T @ basis)
    return Spectrum(basis, pick(covariance.values), float(pick(covariance.rest)))  # type: ignore[attr-defined]


def _shared_spectrum(covariance: Covariance, step: Float[Array, " d"]) -> Commuting:
    basis, values, rest = spectrum_of(covariance)
    inside = step @ basis
    missing = basis.shape[0] - basis.shape[1]
    if not missing:
        return Commuting(values, values, np.ones_like(values), inside**2)
    outside = step - basis @ inside
    spectrum = np.append(values, rest)
    count = np.append(np.ones_like(values), float(missing))
    return Commuting(spectrum, spectrum, count, np.append(inside**2, outside @ outside))


def _dense(covariance: Covariance, step: Float[Array, " d"]) -> Dense:
    parts = [spectrum_of(covariance, component) for component in (0, 1)]
    frame = common_frame([part.basis for part in parts])
    first, second = (inside_frame(part, frame) for part in parts)
    middle, vectors = np.linalg.eigh(0.5 * (first + second))
    inside = step if frame is None else step @ frame
    half = vectors.T @ (0.5 * (second - first)) @ vectors
    outside = np.zeros_like(step) if frame is None else step - frame @ inside
    spectra = np.maximum([np.linalg.eigvalsh(part) for part in (first, second)], 0)
    missing = len(step) - len(inside)
    size = 1 if missing else 0
    rest = Commuting(
        np.full(size, parts[0].rest),
        np.full(size, parts[1].rest),
        np.full(size, float(missing)),
        np.full(size, outside @ outside),
    )
    return Dense(spectra, np.maximum(middle, 0), 0.5 * (half + half.T), inside @ vectors, rest)


def common_frame(bases: list[Float[Array, "d _"]]) -> Float[Array, "d r"] | None:
    """(d, r) orthonormal columns that span all `bases`; None where that is the whole space."""
    dim = bases[0].shape[0]
    if sum(basis.shape[1] for basis in bases) >= dim:
        return None
    return np.linalg.qr(np.concatenate(bases, axis=1))[0]


def inside_frame(part: Spectrum, frame: Float[Array, "d r"] | None) -> Float[Array, "r r"]:
    """The covariance between the columns of `frame`, of which the basis is a part."""
    missing = part.basis.shape[0] - part.basis.shape[1]
    rest = part.rest if missing else 0.0
    columns = part.basis if frame is None else frame.T @ part.basis
    return columns * (part.values - rest) @ columns.T + rest * np.eye(columns.shape[0])


# Two Gaussians without a common point.
_NOTHING_COMMON = Coordinates(*np.array([[1.0], [0.0], [2.0], [1.0], [0.0], [0.0], [0.0]]))


class _Survey(NamedTuple):
    """Sums that determine which coordinates are gathered.

    Attributes:
        bend: Σ count μ² + ½ shift: the second derivative of log|C(½ + iu)| at u = 0 is minus twice that.
        largest: the largest |μ|.
    """

    bend: float
    largest: float


def _survey(basis: Commuting, alpha: float, sigma: float) -> _Survey:
    bend, largest = 0.0, 1e-150
    for block in basis.blocks():
        mu, weights, _ = basis.weights(alpha, sigma, block)
        bend += float(weights[0] @ mu**2) + 0.5 * float(weights[1].sum())
        largest = max(largest, float(mu.max()), -float(mu.min()))
    return _Survey(bend, largest)


def _first_guess(basis: Commuting, alpha: float, sigma: float, survey: _Survey) -> float:
    """About the u at which C(½ + iu) has fallen by e^{-40}."""
    u = 1.2 * np.sqrt(LEFT_OUT / max(survey.bend, 1e-300))
    while u < FAR:
        # Where all 2uμ are small the fall is Gaussian; else |1 + 2iuμ| is what falls.
        if 2 * u * survey.largest < 0.5 or _fall(basis, alpha, sigma, u) > LEFT_OUT:
            return float(u)
        u *= 1.5
    return FAR


def _fall(basis: Commuting, alpha: float, sigma: float, u: float) -> float:
    """About -log|C(½ + iu)/C(½)|."""
    total = 0.0
    for block in basis.blocks():
        mu, weights, _ = basis.weights(alpha, sigma, block)
        total += 0.25 * float(weights[0] @ np.log1p((2 * u * mu) ** 2)) + 0.5 * u**2 * float(weights[1].sum())
    return total


def _gathered(basis: Commuting, alpha: float, sigma: float, far: float, largest: float) -> Coordinates:
    """Fewer coordinates with the same sums of functions that are analytic around |μ| < 1/(1 + 2 far).

    Coordinates with small |μ| move to Chebyshev nodes, with the weights that polynomial interpolation gives
    them: Σ_i w_i f(μ_i) = Σ_j W_j f(μ_j). The others stay as they are.
    """
    inverse_distance = 1 + 2 * far
    bound = min(
        _GATHERED / inverse_distance, largest
    )  # a wider interval would cost digits where all μ are small
    order = _interpolation_order(bound * inverse_distance, len(basis.count))
    moments = np.zeros((order, 4))
    kept: list[Coordinates] = []
    for block in basis.blocks():
        mu, weights, _ = basis.weights(alpha, sigma, block)
        outside = np.flatnonzero(np.abs(mu) > bound) if bound < largest else np.zeros(0, int)
        if len(outside):
            kept.append(basis.part(alpha, sigma, block.start + outside))
            mu[outside], weights[:, outside] = 0, 0  # a coordinate of weight zero is no coordinate
        mu /= bound
        moments += _moments(mu, weights, order)
    nodes, weights = _from_moments(moments)
    nodes = nodes * bound
    fields = [nodes, 1 - nodes, 1 + nodes, *weights]
    whole = [
        np.concatenate([field, *others])
        for field, *others in zip(fields, *(p[:7] for p in kept), strict=True)
    ]
    return Coordinates(*whole, far=far, gathered=order)


def _interpolation_order(inverse_distance: float, coordinates: int) -> int:
    """Nodes for functions whose nearest singularity is 1/reach half-widths away."""
    distance = min(1 / inverse_distance, 1e12)
    ellipse = distance + np.sqrt(distance**2 - 1)
    return int(np.ceil(np.log(coordinates / _INTERPOLATION_ERROR) / np.log(ellipse))) + 2


def _moments(x: Float[Array, " m"], weights: Float[Array, "w m"], order: int) -> Float[Array, "p w"]:
    """Σ_i w_i T_k(x_i) for k below `order`; the second half of them by T_{n+k} = 2 T_n T_k - T_{n-k}."""
    top = order // 2
    table = _chebyshev(x, top + 1)
    both = np.concatenate([weights, weights * table[top]])
    first, turned = np.split(table @ both.T, 2, axis=1)
    return np.concatenate([first, (2 * turned - first[::-1])[1:]])[:order]


def _chebyshev(x: Float[Array, " m"], order: int) -> Float[Array, "p m"]:
    """T_0(x), ..., T_{p-1}(x) for p of at least two."""
    values = np.empty((order, len(x)))
    values[0], values[1] = 1, x
    twice = 2 * x
    for k in range(2, order):
        np.multiply(twice, values[k - 1], out=values[k])
        values[k] -= values[k - 2]
    return values


def _from_moments(moments: Float[Array, "p w"]) -> tuple[Float[Array, " p"], Float[Array, "w p"]]:
    """Chebyshev nodes on [-1, 1], and the weights there with the given sums of T_k.

    The interpolant through the nodes is ℓ_j(x) = Σ_k (2/p) T_k(x_j) T_k(x), its first term halved.
    """
    order = len(moments)
    angle = (np.arange(order) + 0.5) * np.pi / order
    table = 2 / order * np.cos(np.outer(angle, np.arange(order)))
    table[:, 0] *= 0.5
    return np.cos(angle), (table @ moments).T
