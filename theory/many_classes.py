r"""Exponentially many classes, K = e^{κd}: condensation instead of a smooth decision.

Class means are independent N(0, μ²I) in d dimensions, within-class variance s². With
I(t) = ½ log(1 + α²μ²/v), v = α²s² + σ², the capacity of the channel per dimension::

    H/d → max(0, κ - I)        as d → ∞ at fixed κ

(the random-coding theorem; random energy model in the language of physics). The posterior condenses on the
true class when I exceeds κ, which happens at some noise level only if κ < ½ log(1 + μ²/s²). With s = 0, μ²
the variance of the data and n = e^{κd} points this is the collapse on training points of Biroli, Bonnaire, de
Bortoli, Mezard (Nat. Commun. 2024), t_c = ½ log(1 + μ²/(n^{2/d} - 1)) in OU time: collapse is the speciation
of the finest partition.
"""

import math

import numpy as np
from jaxtyping import ArrayLike, Float

from gmm.checks import check_values
from gmm.clock import noise_at, times_at
from gmm.process import Process
from theory.noise import shares


def check_density(kappa: ArrayLike, mean_variance: float, variance: float) -> None:
    """Raise ValueError unless κ and the variances are in range."""
    check_values("kappa", kappa, "positive", lambda a: (a > 0) & np.isfinite(a))
    check_values("mean_variance", mean_variance, "positive", lambda a: (a > 0) & np.isfinite(a))
    check_values("variance", variance, "finite and >= 0", lambda a: (a >= 0) & np.isfinite(a))


def entropy_density(
    log_snr: Float[ArrayLike, "..."], kappa: float, *, mean_variance: float = 1.0, variance: float = 1.0
) -> Float[np.ndarray, "..."]:
    """Limit of H[Z|X_t]/d as d → ∞, in nats per dimension.

    At d dimensions the kink is rounded over a width O(1/√d).

    Args:
        log_snr: (...) noise level.
        kappa: log K / d.
        mean_variance: variance μ² of a coordinate of a class mean.
        variance: within-class variance s².

    Raises:
        ValueError: when kappa or mean_variance is not positive, or variance is negative.
    """
    check_density(kappa, mean_variance, variance)
    ratio = mean_variance * shares(log_snr, variance)[0]
    return np.maximum(0.0, kappa - 0.5 * np.log1p(ratio))


def condensation_time(
    process: Process, kappa: Float[ArrayLike, "..."], *, mean_variance: float = 1.0, variance: float = 1.0
) -> Float[np.ndarray, "..."]:
    """The time at which I(t) = κ, below which the class is known.

    Returns:
        (...) times of the process; NaN where κ >= ½ log(1 + μ²/s²), when even clean data leave it open, and
        where the process does not visit that noise level.

    Raises:
        ValueError: as `entropy_density`.
    """
    check_density(kappa, mean_variance, variance)
    inverse_snr = mean_variance / np.expm1(2 * np.asarray(kappa, float)) - variance
    reachable = inverse_snr > 0
    level = -np.log(np.where(reachable, inverse_snr, 1.0))
    t = times_at(process, -0.5 * level)
    back = -2 * noise_at(process, t)
    visited = (t >= process.t_min) & (t <= process.t_max)
    visited &= np.abs(back - level) < 1e-6 * np.maximum(1, np.abs(level))
    return np.where(reachable & visited, t, math.nan)[()]


def collapse_time(
    process: Process, points: float, dim: float, *, data_variance: float = 1.0
) -> Float[np.ndarray, ""]:
    """The time at which a diffusion of `points` training points in `dim` dimensions collapses on one of them.

    Biroli et al. 2024: `condensation_time` with κ = log n / d and zero within-class variance.

    Raises:
        ValueError: when points <= 1 or dim <= 0.
    """
    check_values("points", points, "above one", lambda a: (a > 1) & np.isfinite(a))
    check_values("dim", dim, "positive", lambda a: (a > 0) & np.isfinite(a))
    return condensation_time(process, math.log(points) / dim, mean_variance=data_variance, variance=0.0)
