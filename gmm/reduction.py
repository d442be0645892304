r"""Dimension drops out: exact projection of a mixture with shared covariance.

Under α, σ the posterior depends on x only through Σ_t⁻¹ m_k, Σ_t = α²C + σ²I. In each eigenspace of C, Σ_t is a
number, so the span of the centred means' parts in that eigenspace is all that matters there, at every noise
level at once. Isotropic C leaves at most K-1 coordinates, rank r plus isotropic at most (K-1)(r+1), and no more
than d. What is orthogonal to them is Gaussian noise, the same for every class.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm.covariance import Diagonal, Isotropic, LowRank, matmul
from gmm.mixture import Mixture

# Singular values below this share of the largest are rounding; eigenvalues this close are one eigenspace.
TOLERANCE = {"float32": 1e-5, "float64": 1e-11}


@dataclasses.dataclass(frozen=True, eq=False)
class Reduction:
    """An exact projection.

    Attributes:
        mixture: the mixture in r coordinates; its posteriors, entropies, rates and dynamics are those of the
            full one, at every noise level.
        basis: (d, r) orthonormal columns.
        origin: (d,) prior mean, which becomes the origin.
    """

    mixture: Mixture
    basis: Float[Array, "d r"]
    origin: Float[Array, " d"]

    def project(self, x: Float[Array, "... d"], alpha: float = 1.0) -> Float[Array, "... r"]:
        """Coordinates of noisy states x whose signal is scaled by `alpha`."""
        shifted = x - jnp.reshape(alpha * self.origin, (1,) * (x.ndim - 1) + (-1,))
        return matmul(shifted, self.basis)

    def lift(self, y: Float[Array, "... r"], alpha: float = 1.0) -> Float[Array, "... d"]:
        """The points of the reduced space in the full one: what is orthogonal is left at the prior mean."""
        return matmul(y, self.basis.T) + jnp.reshape(alpha * self.origin, (1,) * (y.ndim - 1) + (-1,))


def reduce(mixture: Mixture) -> Mixture:
    """The mixture in as few coordinates as its posteriors need; see `reduction`."""
    return reduction(mixture).mixture


def reduction(mixture: Mixture) -> Reduction:
    """Exact projection of a mixture with a shared covariance.

    Args:
        mixture: mixture whose components share one covariance.

    Raises:
        ValueError: when covariances differ between components: then even the norm of what is orthogonal to
            the means tells classes apart, and no projection is exact.
    """
    if not mixture.covariance.shared:
        raise ValueError(
            "mixture must share one covariance to be reduced, got one for each component; sample it in full, or "
            "fit it with covariance='shared'"
        )
    tolerance = TOLERANCE[str(mixture.dtype)]
    origin = matmul(mixture.weights[None, :], mixture.means)[0]
    centred = mixture.means - origin[None, :]
    scale = max(float(jnp.linalg.norm(centred)), float(np.finfo(np.float32).tiny))
    columns, values = [], []
    for value, part in _parts(mixture, centred, tolerance):
        basis = _span(part, tolerance * scale)
        columns.append(basis)
        values.append(np.full(basis.shape[1], value))
    basis, spectrum = jnp.concatenate(columns, axis=1), np.concatenate(values)
    if basis.shape[1] == 0:  # coincident means: any direction is as empty as any other
        basis = jnp.zeros((mixture.dim, 1), mixture.dtype).at[0, 0].set(1)
        spectrum = np.asarray(mixture.covariance.eigenvalues(mixture.dim))[:1]
    isotropic = len(set(spectrum.tolist())) == 1
    covariance = Isotropic(spectrum[0]) if isotropic else Diagonal(spectrum)
    reduced = Mixture(mixture.weights, matmul(centred, basis), covariance, normalise=True)
    return Reduction(jax.tree.map(lambda leaf: leaf.astype(mixture.dtype), reduced), basis, origin)


def _parts(
    mixture: Mixture, centred: Float[Array, "K d"], tolerance: float
) -> list[tuple[float, Float[Array, "K d"]]]:
    """Each distinct eigenvalue of C with the means' parts in its eigenspace."""
    covariance = mixture.covariance
    if isinstance(covariance, Isotropic):
        return [(float(covariance.var), centred)]
    if isinstance(covariance, Diagonal):
        values = np.asarray(covariance.var)
        groups = _groups(values, tolerance)
        return [
            (values[g].mean(), centred * jnp.zeros(mixture.dim, centred.dtype).at[g].set(1)[None])
            for g in groups
        ]
    values, basis = np.asarray(covariance.values), covariance.basis  # type: ignore[attr-defined]
    inside = matmul(centred, basis)
    found = [(values[g].mean(), matmul(inside[:, g], basis[:, g].T)) for g in _groups(values, tolerance)]
    if isinstance(covariance, LowRank) and basis.shape[1] < mixture.dim:
        found.append((float(covariance.rest), centred - matmul(inside, basis.T)))
    return found


def _groups(values: np.ndarray, tolerance: float) -> list[np.ndarray]:
    """Indices of eigenvalues that are equal up to rounding."""
    order = np.argsort(values)
    gaps = np.diff(values[order]) > tolerance * max(float(values.max()), np.finfo(np.float32).tiny)
    return np.split(order, np.flatnonzero(gaps) + 1)


def _span(rows: Float[Array, "K d"], smallest: float) -> Float[Array, "d r"]:
    """Orthonormal basis of the rows, by a thin decomposition: nothing of size d x d."""
    _, singular, basis = jnp.linalg.svd(rows, full_matrices=False)
    return basis[np.flatnonzero(np.asarray(singular) > smallest)].T
