r"""Exact projection of a mixture with shared covariance to the few dimensions that its posteriors depend on.

Under α, σ the posterior depends on x only through Σ_t⁻¹ m_k, Σ_t = α²C + σ²I. In each eigenspace of C, Σ_t is a
number, so the span of the centred means' parts in that eigenspace is all that matters there, at every noise
level at once. Isotropic C leaves at most K-1 coordinates, rank r plus isotropic at most K-1+r (one for each
eigenvector, K-1 for the rest); d different eigenvalues leave d. What is orthogonal to them is Gaussian noise, the
same for every class.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm.axes import EIGENVALUE_ROUNDING, axes_of, equal_groups
from gmm.checks import check_rounding
from gmm.covariance import Covariance, Diagonal, Isotropic, matmul
from gmm.mixture import Mixture
from gmm.pytree import build

# What is left of a mean counts as rounding below this many eps of the largest mean: of the means, which moves each
# by about one eps whatever K and d are, and of the decomposition.
RANK_ROUNDING = 64
_WAY_OUT = "move the means towards the origin, or use float64"
# Given variances are equal if they are copies, or one function of copies (vectorised code may differ in the
# last digit).
VARIANCE_ROUNDING = 4


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
        ValueError: when covariances differ between components: then the posterior depends even on the
            norm of the part orthogonal to the means, and no projection is exact. Also when means are so long that
            rounding would move classes against one another.
    """
    if not mixture.covariance.shared:
        raise ValueError(
            "mixture must share one covariance to be reduced, got one for each component; sample it in full, or "
            "fit it with covariance='shared'"
        )
    eps = float(jnp.finfo(mixture.dtype).eps)
    weights, means = np.asarray(mixture.weights, float), np.asarray(mixture.means, float)
    # Measured from one of them first: coordinates in which all means agree become exactly zero.
    centred = means - means[:1]
    centred = centred - weights @ centred
    spaces = list(_eigenspaces(mixture.covariance, centred, eps))
    spans = [_span(space, eps) for space in spaces]
    if not any(span.shape[1] for span in spans):  # coincident means: any direction is as empty as any other
        spans[0] = np.eye(spans[0].shape[0], 1)
    basis = _basis(mixture.dim, spaces, spans)
    spectrum = np.repeat([space.value for space in spaces], [span.shape[1] for span in spans])
    exact = centred @ basis
    reduced = jnp.asarray(exact, mixture.dtype)
    check_rounding("means", exact, np.asarray(reduced) - exact, math.sqrt(max(spectrum.min(), 0)), _WAY_OUT)
    isotropic = len(set(spectrum.tolist())) == 1
    small = build(
        Mixture,
        log_weights=mixture.log_weights,
        means=reduced,
        covariance=jax.tree.map(
            lambda leaf: leaf.astype(mixture.dtype),
            Isotropic(spectrum[0]) if isotropic else Diagonal(spectrum),
        ),
    )
    origin = jnp.asarray(weights @ means, mixture.dtype)
    return Reduction(small, jnp.asarray(basis, mixture.dtype), origin)


class _Eigenspace(NamedTuple):
    """All eigenvectors of one eigenvalue.

    Attributes:
        value: the eigenvalue.
        frame: coordinates to pick, or (d, g) orthonormal columns, that contain the eigenspace.
        means: (K, g) the centred means' parts in the eigenspace, in that frame.
        rounding: length below which a singular value of `means` is rounding, whatever the others are.
    """

    value: float
    frame: slice | np.ndarray
    means: np.ndarray
    rounding: float = 0.0


def _eigenspaces(covariance: Covariance, centred: np.ndarray, eps: float) -> Iterator[_Eigenspace]:
    """The eigenspaces of a shared covariance, with the centred means (K, d) in them."""
    if isinstance(covariance, Isotropic):
        yield _Eigenspace(float(covariance.var), slice(None), centred)
        return
    if isinstance(covariance, Diagonal):
        var = np.asarray(covariance.var, float)
        for value, index in equal_groups(var, VARIANCE_ROUNDING * eps * var):
            yield _Eigenspace(value, index, centred[:, index])
        return
    basis, values = np.asarray(covariance.basis, float), np.asarray(covariance.values, float)  # type: ignore
    rest = float(covariance.rest)  # type: ignore[attr-defined]
    complete = basis.shape[0] == basis.shape[1]
    slack = EIGENVALUE_ROUNDING * eps * max(values.max(initial=0), 0 if complete else rest)
    if not complete:  # columns with the eigenvalue of the complement belong to it
        other = np.abs(values - rest) > slack
        basis, values = basis[:, other], values[other]
    inside = centred @ basis
    # The rotation to eigenvectors leaves rounding of the size of the means in every coordinate.
    rounding = RANK_ROUNDING * eps * float(np.linalg.norm(centred))
    for value, index in equal_groups(values, np.full_like(values, slack)):
        yield _Eigenspace(value, basis[:, index], inside[:, index], rounding)
    if not complete:
        yield _Eigenspace(rest, slice(None), centred - inside @ basis.T, rounding)


def _span(space: _Eigenspace, eps: float) -> np.ndarray:
    """(g, r) orthonormal basis of the means (K, g) in an eigenspace; nothing of size g x g is built.

    Rounding is judged coordinate by coordinate: a short difference in a coordinate where all means are small is not
    the rounding of a long one in another coordinate.
    """
    rows = space.means
    exact = RANK_ROUNDING * np.finfo(float).eps * np.linalg.norm(rows, axis=1).max()
    least = max(exact, space.rounding)
    rounded = np.maximum(RANK_ROUNDING * eps * np.abs(rows).max(axis=0), least)
    axes, rest = np.zeros((rows.shape[1], 0)), rows
    while (np.abs(rest) > rounded[None, :]).any():
        longest = np.linalg.norm(rest, axis=1).max()
        axes = np.concatenate([axes, axes_of(rest, max(RANK_ROUNDING * eps * longest, least))], axis=1)
        rest = rows - (rows @ axes) @ axes.T
        rest = rest - (rest @ axes) @ axes.T  # what is left is short: rounding must not tilt the next axes
    check_rounding("means", rows, rest, math.sqrt(max(space.value, 0)), _WAY_OUT)
    return axes


def _basis(dim: int, spaces: list[_Eigenspace], spans: list[np.ndarray]) -> np.ndarray:
    """(d, r) the spans' columns side by side."""
    basis = np.zeros((dim, sum(span.shape[1] for span in spans)))
    done = 0
    for space, span in zip(spaces, spans, strict=True):
        columns = slice(done, done + span.shape[1])
        if isinstance(space.frame, np.ndarray) and space.frame.ndim == 2:
            basis[:, columns] = space.frame @ span
        else:
            basis[space.frame, columns] = span
        done = columns.stop
    return basis
