"""Quadratures of two Gaussian classes of any priors, which share no code with the samplers."""

import numpy as np
from scipy import integrate, stats


def surprise(rho, own, other):
    """E[-log p(own|X) | own] of two classes by quadrature; the log odds are Gaussian."""
    log_odds, slope = np.log(own / other) + 2 * rho, 2 * np.sqrt(rho)

    def integrand(u):
        return stats.norm.pdf(u) * np.logaddexp(0, -(log_odds + slope * u))

    breaks = sorted({0.0, max(-slope, -38.0), max(-log_odds / slope, -38.0)})
    return integrate.quad(integrand, -40, 40, points=breaks, limit=2000, epsabs=0, epsrel=1e-9)[0]
