r"""Speciation times of two Gaussian classes of any means and covariances, and their growth with the dimension.

A log-likelihood ratio of many weak coordinates is nearly Gaussian, and the classes are then a pair with
ρ = -2 log C(½), C(½) their Bhattacharyya coefficient. With τ = σ²/α² large beside both spectra, Δ the difference of
the means and E that of the covariances,

    ρ ≈ ‖Δ‖²/(4τ) + tr E²/(8τ²).

Half entropy is at ρ = ρ_½ = 1.044. On the OU clock τ = e^{2t} - 1: means with ‖Δ‖² ∝ d are decided at
t = ½ log d + const, covariances with tr E² ∝ d at ¼ log d + const, and a spectrum s_i = i^{-a} whose classes
differ by a factor has tr E² ∝ d^{1-2a}: (1-2a)/4 · log d for a < ½, and a time that does not grow for a > ½, where a
few leading directions decide.

Achilli, Benedetti, Biroli, Mézard (arXiv 2602.04404) place speciation where the mean difference of the classes' free
entropies balances its fluctuations, and find ½ log d and ¼ log d. For two Gaussians the free entropies' difference is
the log-likelihood ratio: "free-entropy" is where its mean, averaged over the two classes, equals its standard
deviation. For a shift of means that is ρ = 1.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.optimize import brentq

from gmm.checks import check_values, choose
from gmm.chernoff import pair_values
from gmm.mixture import Mixture
from gmm.pair_basis import Coordinates, PairBasis, pair_basis
from gmm.process import Process, edm
from theory.labelled import times_of
from theory.speciation import speciation_time

PAIR_CRITERIA = ("half-entropy", "cloning", "free-entropy", "overlap")
_LOG_SNR_RANGE = (-60.0, 60.0)
_TOLERANCE = 1e-9


class LogRatio(NamedTuple):
    """Mean and variance of log p(x|z)/p(x|other) under each of two classes.

    Attributes:
        mean: (2,) the Kullback-Leibler distances.
        variance: (2,).
    """

    mean: Float[np.ndarray, " 2"]
    variance: Float[np.ndarray, " 2"]


def log_ratio(coordinates: Coordinates) -> LogRatio:
    """The log-likelihood ratio of two noisy Gaussians, from their common coordinates."""
    sides = np.stack([coordinates.low, coordinates.high])
    ratio = sides / sides[::-1]
    excess = 2 * coordinates.mu * np.array([[-1.0], [1.0]]) / sides[::-1]  # ratio - 1
    count, shift = coordinates.count, coordinates.shift
    # x - log(1+x), by its series where the difference would cancel.
    small = np.abs(excess) < 1e-3
    series = excess**2 * (1 / 2 - excess * (1 / 3 - excess * (1 / 4 - excess / 5)))
    widths = np.where(small, series, excess - np.log(ratio))
    mean = 0.5 * (count * widths + shift / sides[::-1]).sum(axis=1)
    variance = (0.5 * count * excess**2 + shift * ratio / sides[::-1]).sum(axis=1)
    return LogRatio(mean, variance)


def pair_speciation_time(mixture: Mixture, process: Process, criterion: str = "half-entropy") -> float:
    """The time at which two Gaussian classes are decided; NaN where they never are, or the process does not reach it.

    Args:
        mixture: two components of any covariances.
        process: forward process.
        criterion: "half-entropy": H = ½ H[Z]. "cloning": E Σp² midway between Σπ² and 1. "free-entropy": mean and
            standard deviation of the log-likelihood ratio are equal (arXiv 2602.04404). "overlap": -2 log C(½) is
            the ρ of half entropy, which is half entropy while the ratio is Gaussian.

    Raises:
        ValueError: when there are not two components, or on an unknown criterion.
    """
    choose("criterion", criterion, PAIR_CRITERIA)
    basis, log_prior = pair_basis(mixture), np.asarray(mixture.log_weights, np.float64)
    if not np.isfinite(log_prior).all():
        return math.nan
    decided = functools.partial(_DECIDED[criterion], basis, log_prior)
    low, high = _LOG_SNR_RANGE
    if not decided(high) > 0:
        return math.nan
    log_snr = brentq(decided, low, high, xtol=_TOLERANCE)
    return float(times_of(process, np.array([log_snr]))[0])


def _at(log_snr: float) -> tuple[float, float]:
    """α and σ of a noise level, with α² + σ² = 1."""
    return math.sqrt(1 / (1 + math.exp(-log_snr))), math.sqrt(1 / (1 + math.exp(log_snr)))


def _half_entropy(basis: PairBasis, log_prior: np.ndarray, log_snr: float) -> float:
    prior_entropy = -float(np.exp(log_prior) @ log_prior)
    return 0.5 - pair_values(basis, *_at(log_snr), log_prior)[0].entropy / prior_entropy


def _cloning(basis: PairBasis, log_prior: np.ndarray, log_snr: float) -> float:
    first = 1 - float(np.exp(2 * log_prior).sum())
    return 0.5 - pair_values(basis, *_at(log_snr), log_prior)[0].disagreement / first


def _free_entropy(basis: PairBasis, _log_prior: np.ndarray, log_snr: float) -> float:
    ratio = log_ratio(basis.at(*_at(log_snr), far=1.0))
    return float(ratio.mean.mean() - np.sqrt(ratio.variance.mean()))


def _overlap(basis: PairBasis, _log_prior: np.ndarray, log_snr: float) -> float:
    return -2 * basis.at(*_at(log_snr), far=1.0).log_overlap - half_decided_rho()


_DECIDED: dict[str, Callable[[PairBasis, np.ndarray, float], float]] = {
    "half-entropy": _half_entropy,
    "cloning": _cloning,
    "free-entropy": _free_entropy,
    "overlap": _overlap,
}


@functools.cache
def half_decided_rho() -> float:
    """ρ at which two equally likely classes are half decided, 1.0440133."""
    return float(speciation_time(edm(), 1.0, variance=0.0, criterion="half-entropy")) ** -2


def weak_signal_noise(
    shift: Float[ArrayLike, "..."], change: Float[ArrayLike, "..."], rho: float | None = None
) -> Float[np.ndarray, "..."]:
    """σ²/α² at which ‖Δ‖²/(4τ) + tr E²/(8τ²) = ρ: the law of many weak coordinates.

    Args:
        shift: squared distance ‖Δ‖² of the means, >= 0.
        change: tr (Σ_1 - Σ_0)², >= 0.
        rho: the threshold; None for half entropy.

    Raises:
        ValueError: on negative arguments.
    """
    for name, value in (("shift", shift), ("change", change)):
        check_values(name, value, "finite and >= 0", lambda a: (a >= 0) & np.isfinite(a))
    rho = half_decided_rho() if rho is None else rho
    square, spread = np.asarray(shift, float), np.asarray(change, float)
    return (square + np.sqrt(square**2 + 8 * rho * spread)) / (8 * rho)
