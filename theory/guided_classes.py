r"""Guidance among exponentially many classes: a distortion that remains in every dimension.

K = e^{κd} class means, independent N(0, μ²I), within-class variance s², one of them, m, the target. Let q be the
state's distance from αm in standard deviations √v of p_t(x|m), v = α²s² + σ², and ρ = α²μ²/v. As d → ∞ with κ fixed,
(q·m/μ)/d → u and (‖q‖²/d minus u²) → b, and D_0 is that of one of two laws:

* **the rest**, e^{κd} means of which only their law is known: D_c - D_0 = (σ²/v)(m - c x), where c x is
  the mean class mean that the rest puts forward. The sum over the rest is Gaussian as long as the means that dominate
  it are many; where they would be fewer than one (a random energy model below its own condensation) their weights
  are those of the inverse temperature β < 1 at which there is just one: α c = θ = βρ/(1+βρ), with β = 1 above;
* **the target**, as soon as its weight -‖q‖²/2 exceeds that of the rest: then D_0 = D_c, and guidance has no effect.

With κ' = ½ log ρ as the clock (compare `theory.guidance`)::

    reverse SDE        du = [-u + 2(w-1)(√ρ - θ(√ρ+u))] dκ'     db = [2 - 2b - 4(w-1) θ b] dκ'
    probability flow   du =       (w-1)(√ρ - θ(√ρ+u))  dκ'      db =         - 2(w-1) θ b  dκ'

until the target wins, and with w = 1 from there to the data. Both u and 1 - b stay of order one: every coordinate is
distorted, whatever d. At fixed K (κ → 0) the target wins while ρ is still small, and u = b - 1 = 0. Ventura et al.
2026 (arXiv 2602.00716) find that distortions come with exponentially many classes; the equations above are our own
derivation.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from gmm.checks import check_values, choose
from gmm.samplers import SAMPLERS, SMALLEST_RHO, Sampler
from theory.many_classes import check_density

TOLERANCE = 1e-8


class Distortion(NamedTuple):
    """Distortion of the guided law of clean data, as d → ∞.

    Attributes:
        shift: u: E(x-m)·m/(d μ s), the shift of every coordinate along m in standard deviations.
        variance: b: variance of a coordinate over s².
        decided: ρ at which the target wins.
    """

    shift: float
    variance: float
    decided: float


def guided_many_classes(
    kappa: float,
    w: float,
    *,
    mean_variance: float = 1.0,
    variance: float = 1.0,
    sampler: Sampler = "sde",
) -> Distortion:
    """Distortion of classifier-free guidance towards one of e^{κd} classes, d → ∞.

    Args:
        kappa: log K / d.
        w: guidance weight >= 1.
        mean_variance: variance μ² of a coordinate of a class mean.
        variance: within-class variance s² > 0.
        sampler: "sde" or "flow".

    Raises:
        ValueError: when a value is outside its range, or the target does not win before the data are clean.
    """
    choose("sampler", sampler, SAMPLERS)
    check_density(kappa, mean_variance, variance)
    check_values("w", w, "finite and >= 1", lambda a: np.isfinite(a) & (a >= 1))
    check_values("variance", variance, "positive", lambda a: a > 0)
    last = 0.5 * math.log(mean_variance / variance)

    def wins(clock: float, state: np.ndarray) -> float:
        rho, (u, b) = math.exp(2 * clock), state
        return -0.5 * (u**2 + b) - _other_classes(rho, (math.sqrt(rho) + u) ** 2 + b, kappa)[0]

    wins.terminal, wins.direction = True, 1.0  # type: ignore[attr-defined]

    def drift(clock: float, state: np.ndarray) -> list[float]:
        rho, (u, b) = math.exp(2 * clock), state
        theta = _other_classes(rho, (math.sqrt(rho) + u) ** 2 + b, kappa)[1]
        push, pull = (w - 1) * (math.sqrt(rho) - theta * (math.sqrt(rho) + u)), 2 * (w - 1) * theta * b
        return [-u + 2 * push, 2 - 2 * b - 2 * pull] if sampler == "sde" else [push, -pull]

    # Near the start both samplers follow u = (w-1) √ρ.
    first, start = 0.5 * math.log(SMALLEST_RHO), [(w - 1) * math.sqrt(SMALLEST_RHO), 1.0]
    options = {"rtol": TOLERANCE, "atol": TOLERANCE, "method": "LSODA"}
    solution = solve_ivp(drift, (first, last), start, events=wins, **options)
    if not len(solution.t_events[0]):
        raise ValueError(
            f"kappa must be small enough for the class to be known on clean data, got {kappa:g}: "
            f"at w = 1 that is below ½ log(1 + μ²/s²) = {0.5 * math.log1p(mean_variance / variance):.4g}"
        )
    clock, (u, b) = float(solution.t_events[0][0]), solution.y_events[0][0]
    left = math.exp(clock - last) if sampler == "sde" else 1.0  # what the plain dynamics leave of u
    return Distortion(float(u * left), float(1 + (b - 1) * left**2), math.exp(2 * clock))


def _other_classes(rho: float, size: float, kappa: float) -> tuple[float, float]:
    """The rest's log weight per dimension and θ, at a state of squared length `size` d in units of √v."""
    theta = lambda beta: beta * rho / (1 + beta * rho)

    def needed(beta: float) -> float:
        """log of one over the share of means that this temperature singles out, per dimension."""
        kept = 1 / (1 + beta * rho)
        return 0.5 * (kept + theta(beta) ** 2 * size / rho - 1 + math.log1p(beta * rho))

    beta = 1.0 if needed(1.0) <= kappa else float(brentq(lambda b: needed(b) - kappa, 0.0, 1.0, xtol=1e-13))  # type: ignore[arg-type]
    distance = size / (1 + beta * rho) ** 2 + rho / (1 + beta * rho)
    return kappa - needed(beta) - 0.5 * distance, theta(beta)
