r"""Three and more diffused Gaussians, as the integrals of `gmm.cluster` need them.

C(a) = ∫ Π_k p_k^{a_k} dx on Σ a_k = 1. On a = c + iu with real c and Σ u_k = 0 the precision Σ_k a_k Σ_k⁻¹ is
Ā^{1/2}(I + iX)Ā^{1/2} with Ā = Σ_k c_kΣ_k⁻¹ and a real symmetric X that is linear in u, and so, with means measured
from the minimum of Σ_k c_k (x-m_k)ᵀΣ_k⁻¹(x-m_k),

    log C(c + iu) = log C(c) + i l·u - ½ Σ_i log(1 + ix_i) - ½ Σ_i y_i²/(1 + ix_i),    l_k real,

x_i the eigenvalues of X, y real and linear in u before it is turned to X's eigenvectors: every logarithm is on its
principal branch.
"""

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Complex, Float

from gmm.covariance import Diagonal, Isotropic
from gmm.mixture import Mixture
from gmm.pair_basis import common_frame, inside_frame, spectrum_of

Array = np.ndarray


class Expansion(NamedTuple):
    """log C and its first and second derivatives in c, on the real simplex."""

    value: float
    slope: Float[Array, " S"]
    bend: Float[Array, "S S"]


class Subset(Protocol):
    """Some of the components at one noise level."""

    @property
    def width(self) -> int:
        """Numbers in temporary arrays for one node."""
        ...

    def expand(self, c: Float[Array, " S"]) -> Expansion:
        """log C(c) with derivatives; each is right up to what a multiple of (1, ..., 1) adds."""
        ...

    def along(
        self, c: Float[Array, " S"], u: Float[Array, "n S"], rates: bool
    ) -> tuple[Complex[Array, " n"], Complex[Array, " n"] | None]:
        """log C(c+iu) - log C(c), and d log C/d log(σ²/α²) if `rates`."""
        ...


class ClusterBasis(Protocol):
    """The components of a mixture, ready to be diffused."""

    def at(self, alpha: float, sigma: float) -> "Noisy":
        """The components at a noise level."""
        ...


class Noisy(Protocol):
    """The components at one noise level."""

    def take(self, subset: tuple[int, ...]) -> Subset:
        """Some of them."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class SharedBasis:
    """Components with one covariance: only distances between the means count.

    Attributes:
        means: (K, m) along the covariance's eigenvectors, of all that is outside them one column a coordinate.
        var: (m,) eigenvalues.
    """

    means: Float[Array, "K m"]
    var: Float[Array, " m"]

    def at(self, alpha: float, sigma: float) -> "SharedNoisy":
        var = alpha**2 * self.var + sigma**2
        means = alpha * self.means
        return SharedNoisy(_squared_distances(means, 1 / var), _squared_distances(means, sigma**2 / var**2))


def _squared_distances(means: Float[Array, "K m"], weights: Float[Array, " m"]) -> Float[Array, "K K"]:
    return np.array([((means - mean) ** 2) @ weights for mean in means])


@dataclasses.dataclass(frozen=True, eq=False)
class SharedNoisy:
    """C(a) = exp(-½ Σ_{j<k} a_j a_k D²_jk).

    Attributes:
        squares: (K, K) squared distances D² of the means in units of the covariance.
        change: (K, K) -d D²/d log(σ²/α²).
    """

    squares: Float[Array, "K K"]
    change: Float[Array, "K K"]

    def take(self, subset: tuple[int, ...]) -> "SharedNoisy":
        index = np.ix_(subset, subset)
        return SharedNoisy(self.squares[index], self.change[index])

    @property
    def width(self) -> int:
        return len(self.squares)

    def expand(self, c: Float[Array, " S"]) -> Expansion:
        slope = -0.5 * self.squares @ c
        return Expansion(0.5 * float(c @ slope), slope, -0.5 * self.squares)

    def along(
        self, c: Float[Array, " S"], u: Float[Array, "n S"], rates: bool
    ) -> tuple[Complex[Array, " n"], Complex[Array, " n"] | None]:
        quadratic = 0.25 * np.einsum("ns,ns->n", u @ self.squares, u)
        phase = u @ (-0.5 * self.squares @ c)
        if not rates:
            return quadratic + 1j * phase, None
        constant = 0.25 * float(c @ self.change @ c) - 0.25 * np.einsum("ns,ns->n", u @ self.change, u)
        return quadratic + 1j * phase, constant + 0.5j * (u @ (self.change @ c))


@dataclasses.dataclass(frozen=True, eq=False)
class DiagonalBasis:
    """Components whose covariances have common eigenvectors.

    Attributes:
        means, var: (K, m) clean means and variances along them.
        count: (m,) multiplicities.
    """

    means: Float[Array, "K m"]
    var: Float[Array, "K m"]
    count: Float[Array, " m"]

    def at(self, alpha: float, sigma: float) -> "DiagonalNoisy":
        noise = sigma**2
        return DiagonalNoisy(alpha * self.means, 1 / (alpha**2 * self.var + noise), self.count, noise)


@dataclasses.dataclass(frozen=True, eq=False)
class DiagonalNoisy:
    """The components of a `DiagonalBasis` at one noise level.

    Attributes:
        means: (K, m).
        precision: (K, m) inverse variances.
        count: (m,) multiplicities.
        noise: σ².
    """

    means: Float[Array, "K m"]
    precision: Float[Array, "K m"]
    count: Float[Array, " m"]
    noise: float

    def take(self, subset: tuple[int, ...]) -> "DiagonalNoisy":
        index = list(subset)
        return dataclasses.replace(self, means=self.means[index], precision=self.precision[index])

    @property
    def width(self) -> int:
        return max(1, len(self.count))

    def _centred(self, c: Float[Array, " S"]) -> tuple[Array, Array, Array, Array]:
        """Ā (m,), X (S, m), the means from their centre in units of Ā, and l (S,)."""
        middle = c @ self.precision
        x = self.precision / middle
        means = (self.means - (c[:, None] * x * self.means).sum(axis=0)) * np.sqrt(middle)
        return middle, x, means, 0.5 * np.log(x) @ self.count - 0.5 * (x * means**2).sum(axis=1)

    def expand(self, c: Float[Array, " S"]) -> Expansion:
        _, x, means, linear = self._centred(c)
        bend = 0.5 * (x * self.count) @ x.T + (x * means) @ (x * means).T
        return Expansion(float(c @ linear), linear - 0.5 * x @ self.count, bend)

    def along(
        self, c: Float[Array, " S"], u: Float[Array, "n S"], rates: bool
    ) -> tuple[Complex[Array, " n"], Complex[Array, " n"] | None]:
        middle, relative, means, linear = self._centred(c)
        x, y = u @ relative, u @ (relative * means)
        square = x * x
        fall = 1 / (1 + square)
        turned = x * fall  # 1/(1+ix) = fall - i turned
        pulled, pushed = y * fall, y * turned
        real = -0.25 * np.log1p(square) @ self.count - 0.5 * np.einsum("ni,ni->n", y, pulled)
        imaginary = u @ linear - 0.5 * np.arctan(x) @ self.count + 0.5 * np.einsum("ni,ni->n", y, pushed)
        if not rates:
            return real + 1j * imaginary, None
        return real + 1j * imaginary, self._growth(
            c, u, (middle, relative, means), (fall, turned, pulled, pushed)
        )

    def _growth(
        self, c: Array, u: Array, centred: tuple[Array, ...], fields: tuple[Array, ...]
    ) -> Complex[Array, " n"]:
        """½σ²Σ[count Var_a(w)/A + Σ_k a_k w_k² (m_k - m̂)²], w the precisions, A = Σ a_k w_k, m̂ the complex centre.

        Σ_k a_k = 1 moves what is the same for all components into the sum over k, which then is a product of
        matrices for every function of the coordinates.
        """
        middle, relative, means = centred
        fall, turned, pulled, pushed = fields
        weight = 0.5 * self.noise * middle
        counted = weight * self.count
        spread, first, second = (
            counted * relative * (relative - 2),
            weight * relative**2 * means,
            weight * relative**2,
        )
        slope = (first * means).sum(axis=1) - 2 * (pushed @ first.T) - (pulled**2 - pushed**2) @ second.T
        turn = 2 * ((pulled * pushed) @ second.T - pulled @ first.T) - turned @ spread.T
        growth = np.einsum("ns,ns->n", c + 1j * u, slope + fall @ spread.T + 1j * turn)
        return growth + counted.sum() - 1j * (u @ (relative @ counted))


@dataclasses.dataclass(frozen=True, eq=False)
class DenseBasis:
    """Components whose covariances have no common eigenvectors.

    Attributes:
        means: (K, r) clean means in a frame outside of which all covariances are isotropic.
        covariances: (K, r, r) clean covariances in it.
        rest: what is outside.
    """

    means: Float[Array, "K r"]
    covariances: Float[Array, "K r r"]
    rest: DiagonalBasis

    def at(self, alpha: float, sigma: float) -> "DenseNoisy":
        noise = sigma**2
        identity = np.eye(self.means.shape[1])
        precision = np.linalg.inv(alpha**2 * self.covariances + noise * identity)
        return DenseNoisy(alpha * self.means, precision, self.rest.at(alpha, sigma), noise)


@dataclasses.dataclass(frozen=True, eq=False)
class DenseNoisy:
    """The components of a `DenseBasis` at one noise level: means, precisions (K, r, r), the rest, σ²."""

    means: Float[Array, "K r"]
    precision: Float[Array, "K r r"]
    rest: DiagonalNoisy
    noise: float

    def take(self, subset: tuple[int, ...]) -> "DenseNoisy":
        index = list(subset)
        return DenseNoisy(self.means[index], self.precision[index], self.rest.take(subset), self.noise)

    @property
    def width(self) -> int:
        return max(1, self.means.shape[1] ** 2)

    def _centred(self, c: Float[Array, " S"]) -> tuple[Array, Array, Array, Array]:
        """L⁻¹ with Ā = LLᵀ, X (S, r, r), L⁻¹P_k(m_k - centre) (S, r), and l (S,)."""
        middle = np.tensordot(c, self.precision, 1)
        weighted = np.einsum("kij,kj->ki", self.precision, self.means)
        offset = self.means - np.linalg.solve(middle, c @ weighted)
        root = np.linalg.inv(np.linalg.cholesky(middle))
        x = root @ self.precision @ root.T
        pulled = np.einsum("kij,kj->ki", self.precision, offset)
        linear = 0.5 * np.linalg.slogdet(x)[1] - 0.5 * np.einsum("ki,ki->k", pulled, offset)
        return root, x, pulled @ root.T, linear

    def expand(self, c: Float[Array, " S"]) -> Expansion:
        _, x, y, linear = self._centred(c)
        flat = x.reshape(len(c), -1)
        rest = self.rest.expand(c)
        bend = 0.5 * flat @ flat.T + y @ y.T + rest.bend
        slope = linear - 0.5 * np.trace(x, axis1=1, axis2=2) + rest.slope
        return Expansion(float(c @ linear) + rest.value, slope, bend)

    def along(
        self, c: Float[Array, " S"], u: Float[Array, "n S"], rates: bool
    ) -> tuple[Complex[Array, " n"], Complex[Array, " n"] | None]:
        root, relative, steps, linear = self._centred(c)
        x, vectors = np.linalg.eigh(np.tensordot(u, relative, 1))
        y = np.einsum("nij,ni->nj", vectors, u @ steps)
        inverse = 1 / (1 + 1j * x)
        value, growth = self.rest.along(c, u, rates)
        value = value + 1j * (u @ linear) - (0.25 * np.log1p(x * x) + 0.5j * np.arctan(x)).sum(axis=1)
        value -= 0.5 * (y * y * inverse).sum(axis=1)
        if not rates:
            return value, None
        assert growth is not None
        return value, growth + self._growth(c, u, root, vectors, y, inverse)

    def _growth(self, c: Array, u: Array, root: Array, vectors: Array, y: Array, inverse: Array) -> Array:
        """½σ²[tr A⁻¹Σa_kP_k² - tr A] + ½σ²Σ a_k (m_k - m̂)ᵀP_k²(m_k - m̂), A = Σ a_kP_k."""
        a = c + 1j * u
        squares = root @ (self.precision @ self.precision) @ root.T
        turned = np.einsum("nij,kil,nlj->nkj", vectors, squares, vectors, optimize=True)
        growth = np.einsum("nk,nkj,nj->n", a, turned, inverse)
        growth -= a @ np.trace(self.precision, axis1=1, axis2=2)
        centre = np.einsum("nij,nj->ni", vectors, 1j * y * inverse) @ root
        weighted = np.einsum("kij,kj->ki", self.precision, self.means)
        start = np.linalg.solve(np.tensordot(c, self.precision, 1), c @ weighted)
        for k, (mean, precision) in enumerate(zip(self.means, self.precision, strict=True)):
            growth += a[:, k] * (((mean - start - centre) @ precision) ** 2).sum(axis=1)
        return 0.5 * self.noise * growth


def cluster_basis(mixture: Mixture) -> ClusterBasis:
    """All components of a mixture in float64, in coordinates that make the covariances diagonal if possible."""
    means = np.asarray(mixture.means, np.float64)
    means = means - means.mean(axis=0)
    covariance = mixture.covariance
    if isinstance(covariance, Isotropic):
        return _isotropic(means, np.asarray(covariance.var, np.float64))
    if isinstance(covariance, Diagonal):
        var = np.asarray(covariance.var, np.float64)
        return (
            SharedBasis(means, var) if covariance.shared else DiagonalBasis(means, var, np.ones(mixture.dim))
        )
    if covariance.shared:
        part = spectrum_of(covariance)
        inside = means @ part.basis
        outside = means - inside @ part.basis.T
        if part.basis.shape[0] == part.basis.shape[1]:
            return SharedBasis(inside, part.values)
        var = np.append(part.values, np.full(means.shape[1], part.rest))
        return SharedBasis(np.concatenate([inside, outside], axis=1), var)
    return _dense(mixture, means)


def _isotropic(means: Float[Array, "K d"], var: Array) -> ClusterBasis:
    classes, dim = means.shape
    if var.ndim == 0:
        return SharedBasis(means, np.full(dim, float(var)))
    spanned = means @ _span(means)
    rest = dim - spanned.shape[1]
    padded = np.concatenate([spanned, np.zeros((classes, 1 if rest else 0))], axis=1)
    count = np.append(np.ones(spanned.shape[1]), np.full(1 if rest else 0, float(rest)))
    return DiagonalBasis(padded, np.broadcast_to(var[:, None], padded.shape), count)


def _span(means: Float[Array, "K d"]) -> Float[Array, "d r"]:
    """Orthonormal columns that span centred means."""
    return np.linalg.svd(means, full_matrices=False)[2][: max(1, min(len(means) - 1, means.shape[1]))].T


def _dense(mixture: Mixture, means: Float[Array, "K d"]) -> DenseBasis:
    parts = [spectrum_of(mixture.covariance, component) for component in range(mixture.components)]
    frame = common_frame([*(part.basis for part in parts), _span(means)])
    covariances = np.stack([inside_frame(part, frame) for part in parts])
    inside = means if frame is None else means @ frame
    rest = means.shape[1] - inside.shape[1]
    size = 1 if rest else 0
    var = np.array([[part.rest] for part in parts])[:, :size]
    outside = DiagonalBasis(np.zeros_like(var), var, np.full(size, float(rest)))
    return DenseBasis(inside, covariances, outside)
