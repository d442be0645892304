"""Signal and noise in units of the variance of x_t within a class, v = α² s² + σ²; both ends of time in float64."""

import numpy as np
from jaxtyping import ArrayLike, Float


def shares(
    log_snr: Float[ArrayLike, "..."], variance: Float[ArrayLike, "..."]
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """(α²/v, σ²/v) at noise levels, (...) each.

    The first times a squared distance E of means is ρ = α²E/v; the second is d log ρ/d log γ, γ = α²/σ².

    Args:
        log_snr: (...) log γ.
        variance: variance s² of a class; broadcasts with log_snr.
    """
    level = np.asarray(log_snr, float)
    # α² and σ² in units of the larger of the two: neither overflows.
    signal, noise = np.exp(np.minimum(level, 0)), np.exp(-np.maximum(level, 0))
    total = signal * variance + noise
    with np.errstate(divide="ignore"):  # no variance and, in float64, no noise: ρ is infinite
        return signal / total, np.where(total > 0, noise / np.where(total > 0, total, 1), 0.0)
