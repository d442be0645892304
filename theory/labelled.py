r"""Speciation times of a labelled data set, from means and covariances alone.

A data set's Gaussian surrogate has its class means m_c, priors π_c, and one within-class covariance W. With B the
between-class covariance Σ_c π_c (m_c - m)(m_c - m)ᵀ, whose nonzero eigenvalues are those of the Gram matrix
√(π_c π_c') (m_c - m)·(m_c' - m), and Σ_t = α²W + σ²I:

* The density's curvature at the centre, to leading order in the signal, is Σ_t⁻¹(α²B - Σ_t)Σ_t⁻¹. A direction u
  opens where α²B u = Σ_t u, that is (B - W) u = (σ²/α²) u: the positive eigenvalues of B - W are the noise levels
  σ²/α² at which directions speciate, one by one, at most C - 1 of them. With W = s²I this is ρ = 1 of
  `theory.speciation`.
* Two classes are distinguished by ρ = ¼ α² (m_i - m_j)ᵀ Σ_t⁻¹ (m_i - m_j), which grows with the signal.
* Biroli, Bonnaire, de Bortoli, Mezard (Nat. Commun. 2024): α²Λ = α² + σ², Λ the largest eigenvalue of the data
  covariance B + W; ½ log Λ on the OU clock up to e^{-2t}.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from gmm.axes import eigenvectors
from gmm.process import Process, edm
from theory.noise import shares
from theory.speciation import Problem, speciation_time

# Bisection of a noise level between these, to float64's resolution of them.
_LOG_SNR_RANGE, _HALVINGS = (-100.0, 100.0), 60
_BLOCK = 2**22  # entries of the largest temporary array


@dataclasses.dataclass(frozen=True, eq=False)
class ClassMoments:
    """First and second moments of a labelled data set.

    Attributes:
        prior: (C,) class frequencies.
        means: (C, d) class means.
        within: (d, d) covariance inside the classes, one for all.
    """

    prior: Float[np.ndarray, " C"]
    means: Float[np.ndarray, "C d"]
    within: Float[np.ndarray, "d d"]

    @property
    def centred(self) -> Float[np.ndarray, "C d"]:
        """Class means measured from the mean of all points."""
        return self.means - self.prior @ self.means

    @property
    def gram(self) -> Float[np.ndarray, "C C"]:
        """Inner products of the centred class means."""
        centred = self.centred
        return centred @ centred.T

    @property
    def between(self) -> Float[np.ndarray, " C"]:
        """(C,) eigenvalues of the between-class covariance, largest first, from the Gram matrix."""
        roots = np.sqrt(self.prior)
        return np.maximum(np.linalg.eigvalsh(roots[:, None] * self.gram * roots)[::-1], 0)

    @property
    def variance(self) -> float:
        """Mean within-class variance of a coordinate."""
        return float(np.trace(self.within)) / len(self.within)

    def total(self) -> Float[np.ndarray, "d d"]:
        """(d, d) covariance of all points, B + W."""
        weighted = np.sqrt(self.prior)[:, None] * self.centred
        return self.within + weighted.T @ weighted


@dataclasses.dataclass(frozen=True, eq=False)
class Directions:
    """Directions in which the density opens as noise falls, first to open first.

    Attributes:
        log_snr: (r,) where each opens.
        vectors: (r, d) unit vectors; the largest entry of each is positive.
    """

    log_snr: Float[np.ndarray, " r"]
    vectors: Float[np.ndarray, "r d"]


def opening_directions(moments: ClassMoments) -> Directions:
    """Eigenvectors of B - W with positive eigenvalues; the others never open."""
    values, vectors = eigenvectors(moments.total() - 2 * moments.within)
    opening = np.flatnonzero(values > 0)[::-1]
    return Directions(-np.log(values[opening]), vectors[:, opening].T)


def covariance_log_snr(largest: float) -> float:
    """Log-SNR at which noise exceeds the largest eigenvalue Λ of the data covariance: α²Λ = α² + σ²; NaN if Λ <= 1."""
    return -math.log(largest - 1) if largest > 1 else math.nan


def pair_log_snr(moments: ClassMoments) -> Float[np.ndarray, "C C"]:
    """Log-SNR at which each pair of classes, alone and equally likely, is half decided.

    Returns:
        (C, C) log-SNR, symmetric; NaN on the diagonal, and for pairs that overlap too much to be half
        decided even on clean data.
    """
    spectrum, frame = np.linalg.eigh(moments.within)
    coordinates = moments.centred @ frame
    first, second = np.triu_indices(len(coordinates), 1)
    log_snr = np.full((len(coordinates),) * 2, np.nan)
    size = max(1, _BLOCK // len(spectrum))
    for start in range(0, len(first), size):
        i, j = first[start : start + size], second[start : start + size]
        log_snr[i, j] = _half_decided((coordinates[i] - coordinates[j]) ** 2, np.maximum(spectrum, 0))
    return np.fmax(log_snr, log_snr.T)


def _half_decided(
    squares: Float[np.ndarray, "p d"], spectrum: Float[np.ndarray, " d"]
) -> Float[np.ndarray, " p"]:
    """Log-SNR at which ¼ Σ_k squares_k/(1/γ + spectrum_k) reaches the ρ of half entropy, by bisection."""
    half_rho = _half_rho()

    def rho(log_snr: np.ndarray) -> np.ndarray:
        return 0.25 * np.sum(squares * shares(log_snr[:, None], spectrum)[0], axis=1)

    low, high = (np.full(len(squares), end) for end in _LOG_SNR_RANGE)
    never = rho(high) < half_rho
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        reached = rho(middle) >= half_rho
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.where(never, np.nan, 0.5 * (low + high))


def _half_rho() -> float:
    """ρ at which two equal classes are half decided."""
    # σ = t and no width: ρ = energy/t².
    return float(speciation_time(edm(), 1.0, variance=0.0, criterion="half-entropy")) ** -2


def times_of(process: Process, log_snr: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The process's times at noise levels; NaN where there is none or the process does not visit it."""
    levels = np.asarray(log_snr, float)
    safe = np.where(np.isfinite(levels), levels, 0.0)
    times = Problem(process, 1.0).times(safe.reshape(-1)).reshape(levels.shape)
    return np.where(np.isfinite(levels), times, np.nan)
