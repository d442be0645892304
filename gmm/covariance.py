r"""Within-class covariances for which scaling and adding noise is cheap.

Each type is a symmetric operator A with known eigenvectors, one for all components ("shared") or one per
component. `map(f)` applies f to the eigenvalues and keeps the eigenvectors, so that everything a diffused
mixture needs is a map of the clean covariance C::

    Σ_t = α²C + σ²I      precision Σ_t⁻¹      gain C Σ_t⁻¹      square root Σ_t^{1/2}

Nothing is decomposed twice, nothing dense is formed, and no array of size n·K·d is built: products run as
matrix products, per-component bases one component at a time.
"""

import abc
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int

from gmm.axes import eigenvectors, left_singular_vectors
from gmm.checks import as_float, check_finite, check_values, is_concrete
from gmm.distances import (
    DIRECT_DIM,
    alignments,
    if_harmful,
    matmul,
    one_by_one,
    recomputed,
    rounding,
    squared_distances,
    weighted_differences,
)
from gmm.pytree import build, pytree, set_fields

Eigenvalues = Float[Array, "..."]


class Covariance(abc.ABC):
    """A symmetric positive semi-definite operator, or one per component, closed under spectral maps."""

    @property
    @abc.abstractmethod
    def components(self) -> int | None:
        """K when there is one operator per component, None when one is shared."""

    @property
    @abc.abstractmethod
    def dim(self) -> int | None:
        """The dimension d that the operator is bound to, None for isotropic ones."""

    @abc.abstractmethod
    def map(self, f: Callable[[Eigenvalues], Eigenvalues]) -> "Covariance":
        """The operator with the same eigenvectors and eigenvalues f(λ); f works elementwise."""

    @abc.abstractmethod
    def eigenvalues(self, dim: int) -> Float[Array, "... d"]:
        """([K,] d) eigenvalues with their multiplicities."""

    @abc.abstractmethod
    def log_det(self, dim: int) -> Float[Array, "..."]:
        """([K]) log determinant in dimension `dim`."""

    @abc.abstractmethod
    def quadratic(self, x: Float[Array, "n d"], means: Float[Array, "K d"]) -> Float[Array, "n K"]:
        """(x_n - μ_k)ᵀ A_k (x_n - μ_k) for every pair."""

    @abc.abstractmethod
    def alignment(
        self, x: Float[Array, "n d"], means: Float[Array, "K d"], longest: Float[Array, ""] | None = None
    ) -> Float[Array, "n K"]:
        """-½ `quadratic` of a shared operator up to a term in x alone, which keeps digits; see `alignments`.

        `longest` is the largest of `lengths` of all means where these are one block of them.
        """

    @abc.abstractmethod
    def lengths(self, means: Float[Array, "K d"]) -> Float[Array, " K"]:
        """(K,) squared lengths as `alignments` measures them."""

    @abc.abstractmethod
    def weighted_apply(
        self, weights: Float[Array, "n K"], x: Float[Array, "n d"], means: Float[Array, "K d"]
    ) -> Float[Array, "n d"]:
        """Σ_k w_nk A_k (μ_k - x_n)."""

    @abc.abstractmethod
    def apply(self, x: Float[Array, "n d"], component: Int[Array, " n"] | None = None) -> Float[Array, "n d"]:
        """A x_n, or A_k x_n with k = component[n] when there is one operator per component."""

    @abc.abstractmethod
    def dense(self, dim: int) -> Float[Array, "... d d"]:
        """([K,] d, d) matrix form, for small d."""

    @property
    def shared(self) -> bool:
        """Whether all components have the same covariance."""
        return self.components is None

    def take(self, index: Int[Array, "..."]) -> "Covariance":
        """The operators of the chosen components; a shared one stays as it is."""
        return self if self.shared else jax.tree.map(lambda leaf: leaf[index], self)

    def diffused(self, alpha: Float[ArrayLike, ""], sigma: Float[ArrayLike, ""]) -> "Covariance":
        """Σ_t = α²C + σ²I."""
        signal, noise = jnp.asarray(alpha) ** 2, jnp.asarray(sigma) ** 2
        return self.map(lambda value: signal * value + noise)


def _check_variance(name: str, value: Array) -> None:
    check_finite(name, value)
    check_values(name, value, "a variance >= 0", lambda a: a >= 0)


@pytree("var")
class Isotropic(Covariance):
    """A = var · I.

    Args:
        var: () shared or (K,) one variance per component; 0 is allowed (a point), though only the diffused
            density of a point exists.

    Raises:
        ValueError: when var is negative, not finite or of another shape.
    """

    var: Float[Array, "..."]

    def __init__(self, var: Float[ArrayLike, "..."]) -> None:
        array = as_float(var)
        if array.ndim > 1:
            raise ValueError(f"var must have shape () or (K,), got {array.shape}")
        _check_variance("var", array)
        set_fields(self, var=array)

    @property
    def components(self) -> int | None:
        return self.var.shape[0] if self.var.ndim else None

    @property
    def dim(self) -> int | None:
        return None

    def map(self, f: Callable[[Eigenvalues], Eigenvalues]) -> "Isotropic":
        return build(Isotropic, var=f(self.var))

    def eigenvalues(self, dim: int) -> Float[Array, "... d"]:
        return jnp.broadcast_to(self.var[..., None], (*self.var.shape, dim))

    def log_det(self, dim: int) -> Float[Array, "..."]:
        return dim * jnp.log(self.var)

    def quadratic(self, x: Float[Array, "n d"], means: Float[Array, "K d"]) -> Float[Array, "n K"]:
        return squared_distances(x, means, self.var)

    def alignment(
        self, x: Float[Array, "n d"], means: Float[Array, "K d"], longest: Float[Array, ""] | None = None
    ) -> Float[Array, "n K"]:
        return alignments(x, means, self.var, longest)

    def lengths(self, means: Float[Array, "K d"]) -> Float[Array, " K"]:
        return jnp.sum(means**2, axis=-1)

    def weighted_apply(
        self, weights: Float[Array, "n K"], x: Float[Array, "n d"], means: Float[Array, "K d"]
    ) -> Float[Array, "n d"]:
        scaled = weights * jnp.atleast_1d(self.var)[None, :]
        return matmul(scaled, means) - jnp.sum(scaled, axis=-1, keepdims=True) * x

    def apply(self, x: Float[Array, "n d"], component: Int[Array, " n"] | None = None) -> Float[Array, "n d"]:
        return self.var * x if self.shared else self.var[component][:, None] * x

    def dense(self, dim: int) -> Float[Array, "... d d"]:
        identity = jnp.eye(dim, dtype=self.var.dtype)
        return self.var[..., None, None] * jnp.broadcast_to(identity, (*self.var.shape, dim, dim))


@pytree("var")
class Diagonal(Covariance):
    """A = diag(var).

    Args:
        var: (d,) shared or (K, d) variances >= 0.

    Raises:
        ValueError: when var is negative, not finite or of another shape.
    """

    var: Float[Array, "... d"]

    def __init__(self, var: Float[ArrayLike, "... d"]) -> None:
        array = as_float(var)
        if array.ndim not in (1, 2):
            raise ValueError(f"var must have shape (d,) or (K, d), got {array.shape}")
        _check_variance("var", array)
        set_fields(self, var=array)

    @property
    def components(self) -> int | None:
        return self.var.shape[0] if self.var.ndim == 2 else None

    @property
    def dim(self) -> int | None:
        return self.var.shape[-1]

    def map(self, f: Callable[[Eigenvalues], Eigenvalues]) -> "Diagonal":
        return build(Diagonal, var=f(self.var))

    def eigenvalues(self, dim: int) -> Float[Array, "... d"]:
        return self.var

    def log_det(self, dim: int) -> Float[Array, "..."]:
        return jnp.sum(jnp.log(self.var), axis=-1)

    def quadratic(self, x: Float[Array, "n d"], means: Float[Array, "K d"]) -> Float[Array, "n K"]:
        if x.shape[-1] <= DIRECT_DIM:
            return weighted_differences(x, means, jnp.atleast_2d(self.var))
        centre = jnp.mean(means, axis=0, keepdims=True)
        x, means = x - centre, means - centre
        if self.shared:
            root = jnp.sqrt(self.var)[None, :]
            return squared_distances(x * root, means * root, jnp.ones((), x.dtype))
        pulled = self.var * means
        norms = jnp.sum(pulled * means, axis=-1)

        def product() -> Float[Array, "n K"]:
            features = jnp.concatenate([x * x, x], axis=-1)
            coefficients = jnp.concatenate([self.var, -2 * pulled], axis=-1)
            return jnp.maximum(matmul(features, coefficients.T) + norms[None, :], 0)

        longest = jnp.sum(jnp.max(self.var, axis=0)[None, :] * x**2, axis=-1)
        return if_harmful(rounding(longest, norms), lambda: one_by_one(x, means, self.var), product)

    def alignment(
        self, x: Float[Array, "n d"], means: Float[Array, "K d"], longest: Float[Array, ""] | None = None
    ) -> Float[Array, "n K"]:
        root = jnp.sqrt(self.var)[None, :]
        return alignments(x * root, means * root, jnp.ones((), x.dtype), longest)

    def lengths(self, means: Float[Array, "K d"]) -> Float[Array, " K"]:
        return jnp.sum(self.var[None, :] * means**2, axis=-1)

    def weighted_apply(
        self, weights: Float[Array, "n K"], x: Float[Array, "n d"], means: Float[Array, "K d"]
    ) -> Float[Array, "n d"]:
        if self.shared:
            total = jnp.sum(weights, axis=-1, keepdims=True)
            return self.var[None, :] * (matmul(weights, means) - total * x)
        return matmul(weights, self.var * means) - matmul(weights, self.var) * x

    def apply(self, x: Float[Array, "n d"], component: Int[Array, " n"] | None = None) -> Float[Array, "n d"]:
        return (self.var[None, :] if self.shared else self.var[component]) * x

    def dense(self, dim: int) -> Float[Array, "... d d"]:
        identity = jnp.eye(dim, dtype=self.var.dtype)
        return self.var[..., None] * jnp.broadcast_to(identity, (*self.var.shape, dim))


class _Spectral(Covariance):
    """A = U diag(values) Uᵀ + rest · (I - UUᵀ), U with orthonormal columns.

    Attributes:
        basis: ([K,] d, r) the columns of U.
        values: ([K,] r) eigenvalues in the basis.
        rest: () or (K,) eigenvalue of everything orthogonal to the basis; unused when r = d.
    """

    basis: Float[Array, "... d r"]
    values: Float[Array, "... r"]
    rest: Float[Array, "..."]

    @property
    def components(self) -> int | None:
        return self.basis.shape[0] if self.basis.ndim == 3 else None

    @property
    def dim(self) -> int | None:
        return self.basis.shape[-2]

    @property
    def _complete(self) -> bool:
        return self.basis.shape[-1] == self.basis.shape[-2]

    def map(self, f: Callable[[Eigenvalues], Eigenvalues]) -> "Covariance":
        # Of a complete basis nothing rests, and the zero that stands there has no inverse.
        rest = self.rest if self._complete else f(self.rest)
        return build(type(self), basis=self.basis, values=f(self.values), rest=rest)

    def eigenvalues(self, dim: int) -> Float[Array, "... d"]:
        shape = (*self.values.shape[:-1], dim - self.values.shape[-1])
        return jnp.concatenate([self.values, jnp.broadcast_to(self.rest[..., None], shape)], axis=-1)

    def log_det(self, dim: int) -> Float[Array, "..."]:
        inside = jnp.sum(jnp.log(self.values), axis=-1)
        missing = dim - self.values.shape[-1]
        return inside if self._complete else inside + missing * jnp.log(self.rest)

    def _root_features(self, x: Float[Array, "n d"]) -> Float[Array, "n m"]:
        """A^{1/2} x in coordinates whose squared length is xᵀAx (shared operator)."""
        inside = matmul(x, self.basis)
        scaled = jnp.sqrt(self.values)[None, :] * inside
        if self._complete:
            return scaled
        outside = x - matmul(inside, self.basis.T)
        return jnp.concatenate([scaled, jnp.sqrt(self.rest) * outside], axis=-1)

    def quadratic(self, x: Float[Array, "n d"], means: Float[Array, "K d"]) -> Float[Array, "n K"]:
        if self.shared:
            # Centred before the basis mixes coordinates: a common offset must not cost digits.
            centre = jnp.mean(means, axis=0, keepdims=True)
            features = self._root_features(x - centre), self._root_features(means - centre)
            return squared_distances(*features, jnp.ones((), x.dtype))

        @recomputed
        def one(pair: tuple["_Spectral", Float[Array, " d"]]) -> Float[Array, " n"]:
            operator, mean = pair
            return jnp.sum(operator._root_features(x - mean[None, :]) ** 2, axis=-1)

        return lax.map(one, (self, means)).T

    def alignment(
        self, x: Float[Array, "n d"], means: Float[Array, "K d"], longest: Float[Array, ""] | None = None
    ) -> Float[Array, "n K"]:
        features = self._root_features(x), self._root_features(means)
        return alignments(*features, jnp.ones((), x.dtype), longest)

    def lengths(self, means: Float[Array, "K d"]) -> Float[Array, " K"]:
        return jnp.sum(self._root_features(means) ** 2, axis=-1)

    def weighted_apply(
        self, weights: Float[Array, "n K"], x: Float[Array, "n d"], means: Float[Array, "K d"]
    ) -> Float[Array, "n d"]:
        if self.shared:
            return self.apply(matmul(weights, means) - jnp.sum(weights, axis=-1, keepdims=True) * x)

        @recomputed
        def add(total: Array, term: tuple["_Spectral", Array, Array]) -> tuple[Array, None]:
            operator, mean, weight = term
            return total + weight[:, None] * operator.apply(mean[None, :] - x), None

        return lax.scan(add, jnp.zeros_like(x), (self, means, weights.T))[0]

    def apply(self, x: Float[Array, "n d"], component: Int[Array, " n"] | None = None) -> Float[Array, "n d"]:
        if not self.shared:
            one_by_one = lambda args: self.take(args[1]).apply(args[0][None, :])[0]
            # One (d, r) basis a sample: a few at a time keep the gathered bases small.
            size = max(1, 2**22 // (self.basis.shape[-1] * self.basis.shape[-2]))
            return lax.map(one_by_one, (x, component), batch_size=min(size, x.shape[0]))
        inside = matmul(x, self.basis)
        rest = jnp.zeros_like(self.rest) if self._complete else self.rest
        # With a complete basis the complement is empty: what rounding leaves there must not be scaled.
        shifted = (self.values - rest)[None, :] * inside
        kept = matmul(shifted, self.basis.T)
        return kept if self._complete else kept + rest * x

    def dense(self, dim: int) -> Float[Array, "... d d"]:
        transposed = jnp.swapaxes(self.basis, -1, -2)
        if self._complete:
            return matmul(self.basis * self.values[..., None, :], transposed)
        shifted = self.basis * (self.values - self.rest[..., None])[..., None, :]
        identity = jnp.broadcast_to(jnp.eye(dim, dtype=shifted.dtype), (*self.rest.shape, dim, dim))
        return matmul(shifted, transposed) + self.rest[..., None, None] * identity


@pytree("basis", "values", "rest")
class LowRank(_Spectral):
    """A = factor · factorᵀ + var · I, kept as the thin singular value decomposition of the factor.

    Where singular values are equal, and for the signs of the vectors, `gmm.axes` determines the basis (inside a
    JAX transformation it is the one that the library returns).

    Gradients with respect to the factor need distinct singular values; those with respect to the parts kept
    here do not.

    Args:
        factor: (d, r) shared or (K, d, r) per component.
        var: () or (K,) variance >= 0 of the isotropic part; (K,) makes the operator one per component.

    Raises:
        ValueError: when shapes do not fit or values are not finite or var is negative.
    """

    def __init__(self, factor: Float[ArrayLike, "... d r"], var: Float[ArrayLike, "..."]) -> None:
        given, factor, var = factor, as_float(factor), as_float(var)
        if factor.ndim not in (2, 3):
            raise ValueError(f"factor must have shape (d, r) or (K, d, r), got {factor.shape}")
        leading = factor.shape[:-2] or var.shape  # () or (K,)
        if var.ndim > 1 or var.shape not in ((), leading):
            raise ValueError(f"var must have shape () or (K,), K as in factor, got {var.shape}")
        check_finite("factor", factor)
        _check_variance("var", var)
        if is_concrete(given):
            singular, basis = (
                jnp.asarray(part, factor.dtype) for part in left_singular_vectors(np.asarray(given))
            )
        else:
            basis, singular, _ = jnp.linalg.svd(factor, full_matrices=False)
        rest = jnp.broadcast_to(var, leading).astype(basis.dtype)
        basis = jnp.broadcast_to(basis, (*leading, *basis.shape[-2:]))
        squares = jnp.broadcast_to(singular**2, (*leading, singular.shape[-1]))
        set_fields(self, basis=basis, values=squares + rest[..., None], rest=rest)


@pytree("basis", "values", "rest")
class Full(_Spectral):
    """A = cov, eigendecomposed once here; which eigenvectors are taken is decided as in `LowRank`.

    Gradients with respect to `cov` need distinct eigenvalues; those with respect to the parts kept here do not.

    Args:
        cov: (d, d) shared or (K, d, d) per component, symmetric and positive semi-definite.

    Raises:
        ValueError: when cov is not square, not symmetric, not finite or has a negative eigenvalue (beyond
            rounding: eigenvalues above -1e-6 (float32) or -1e-12 (float64) of the largest count as zero).
    """

    def __init__(self, cov: Float[ArrayLike, "... d d"]) -> None:
        given, cov = cov, as_float(cov)
        if cov.ndim not in (2, 3) or cov.shape[-1] != cov.shape[-2]:
            raise ValueError(f"cov must have shape (d, d) or (K, d, d), got {cov.shape}")
        check_finite("cov", cov)
        if is_concrete(given):
            values, basis = (
                jnp.asarray(part, cov.dtype) for part in self._decomposed(np.asarray(given), cov.dtype)
            )
        else:
            values, basis = jnp.linalg.eigh(cov)
        rest = jnp.zeros(cov.shape[:-2], values.dtype)
        set_fields(self, basis=basis, values=jnp.maximum(values, 0), rest=rest)

    @staticmethod
    def _decomposed(cov: np.ndarray, dtype: jnp.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of valid input in float64: float32 would round small variances to zero."""
        values, basis = eigenvectors(cov)
        scale = np.maximum(np.abs(values).max(-1), np.finfo(np.float32).tiny)
        slack = 1e-6 if dtype == jnp.float32 else 1e-12
        skew = np.abs(cov - np.swapaxes(cov, -1, -2)).max((-1, -2)) / scale
        check_values("asymmetry of cov", skew, f"below {slack:g} of its norm", lambda a: a <= slack)
        check_values(
            "smallest eigenvalue of cov",
            values.min(-1),
            "non-negative (cov must be positive semi-definite)",
            lambda a: a >= -slack * scale,
        )
        return values, basis
