r"""How the time and the width of the decision depend on the dimension and the number of classes.

With ‖mean‖² = d·μ² every criterion of `theory.speciation` fixes ρ = α²dμ²/v, hence (Handke et al., arXiv
2602.09651, section 3)::

    VP (OU time):   t_s = ½ log d + const     curves collapse against t - ½ log d, sharpen against t/t_s
    EDM, σ = t:     t_s ~ √d                  curves collapse against √((s²+σ²)/d), and never sharpen there
    VE,  σ = √t:    t_s ~ d
    flow matching:  1 - t_s ~ 1/√d

all of which is one statement: log(σ/α) at the decision grows as ½ log d. In the class count, criteria that
follow the centre (curvature, drift, covariance) need ρ ~ K and move by -½ log K, criteria that follow the
samples (entropy, half entropy, cloning) need ρ ~ log K and move by -½ log log K.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import ArrayLike, Float

from gmm.checks import check_values, choose
from gmm.clock import noise_at
from gmm.curve import EntropyCurve
from gmm.process import Process, vp
from theory.speciation import CRITERIA, Problem, entropy_curve, speciation_time

COORDINATES = ("shifted", "relative", "noise", "total-noise")


def collapse_coordinate(
    process: Process,
    t: Float[ArrayLike, "..."],
    dim: float,
    coordinate: str,
    *,
    variance: float = 1.0,
    speciation: float | None = None,
) -> Float[np.ndarray, "..."]:
    """Times on an axis on which curves of different dimension may coincide.

    Args:
        process: forward process.
        t: (...) times.
        dim: dimension d.
        coordinate: "shifted", t - ½ log d (collapse of VP in OU time); "relative", t/t_s; "noise", (σ/α)/√d
            (collapse for s² ≪ σ²); "total-noise", √((s² + σ²/α²)/d) (exact collapse of any process).
        variance: within-class variance s².
        speciation: t_s for "relative".

    Raises:
        ValueError: on an unknown coordinate, dim <= 0, or "relative" without a speciation time.
    """
    choose("coordinate", coordinate, COORDINATES)
    check_values("dim", dim, "positive", lambda a: (a > 0) & np.isfinite(a))
    times = np.asarray(t, float)
    if coordinate == "shifted":
        return times - 0.5 * math.log(dim)
    if coordinate == "relative":
        if speciation is None:
            raise ValueError("speciation must be given for the coordinate 'relative'")
        return times / speciation
    noise2 = np.exp(2 * noise_at(process, times))
    return np.sqrt((noise2 + (variance if coordinate == "total-noise" else 0.0)) / dim)


@dataclasses.dataclass(frozen=True)
class Peak:
    """The maximum of dH/dt of a family, and its width.

    Attributes:
        t: time of the maximum.
        height: dH/dt there, nats per unit of t.
        entropy: H there, nats.
        width: full width at half height, in t.
        log_width: the same interval in log(σ/α).
    """

    t: float
    height: float
    entropy: float
    width: float
    log_width: float

    @property
    def relative_width(self) -> float:
        """Width over time: falls as 1/log d for VP, stays for VE and EDM."""
        return self.width / self.t


def peak(
    process: Process, energy: float, *, variance: float = 1.0, classes: float = 2, family: str = "simplex"
) -> Peak:
    """The maximum of dH/dt by quadrature.

    Raises:
        ValueError: as `speciation_time`, and when the rate has no maximum, or no half height, inside the
            process's range.
    """
    top = float(speciation_time(process, energy, variance=variance, classes=classes, family=family))
    if math.isnan(top):
        raise ValueError(f"dH/dt has no maximum inside the range of {process.name} for energy {energy:g}")
    problem = Problem(process, energy, variance, classes, family)

    def curve(times: np.ndarray) -> EntropyCurve:
        return entropy_curve(process, times, energy, variance=variance, classes=classes, family=family)

    at_top = curve(np.array([top]))
    height = float(at_top.rate[0])
    sides = _sides(_around(problem, top), top)
    right, left = (_half_height(lambda t: np.asarray(curve(t).rate), t, height) for t in sides)
    log_width = float(noise_at(process, right) - noise_at(process, left))
    return Peak(top, height, float(at_top.entropy[0]), right - left, log_width)


def _around(problem: Problem, top: float) -> np.ndarray:
    """Times within e^±12 of the signal-to-noise ratio at `top`, as far as the process goes."""
    low, high = problem.log_snr_range()
    centre = -2 * float(noise_at(problem.process, top))
    levels = np.linspace(max(low, centre - 12), min(high, centre + 12), 241)
    times = problem.times(np.append(levels, centre))
    return times[np.isfinite(times)]


def _sides(t: np.ndarray, top: float) -> tuple[np.ndarray, np.ndarray]:
    """The times after and before the maximum, each going away from it."""
    t = np.sort(t)
    return t[t >= top], t[t <= top][::-1]


def _half_height(rate_at: Callable[[np.ndarray], np.ndarray], t: np.ndarray, height: float) -> float:
    """The time at which the rate first falls to half its height: a coarse search along `t`, then a fine one."""
    below = np.flatnonzero(rate_at(t) < 0.5 * height)
    if not len(below):
        raise ValueError("dH/dt does not fall to half its height inside the process's range")
    i = int(below[0])
    fine = np.linspace(t[i - 1], t[i], 65)
    return float(np.interp(-0.5 * height, -rate_at(fine), fine))


@dataclasses.dataclass(frozen=True)
class Slope:
    """A least-squares line y = value·x + intercept; stderr is that of the value, from the residuals."""

    value: float
    stderr: float
    intercept: float


def fit_slope(x: Float[ArrayLike, " n"], y: Float[ArrayLike, " n"]) -> Slope:
    """Least-squares slope of y in x with its standard error; points that are NaN are left out.

    Raises:
        ValueError: when fewer than three points remain.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < 3:
        raise ValueError(f"x and y must share at least 3 finite points, got {len(x)}")
    centred = x - x.mean()
    value = centred @ y / (centred @ centred)
    residual = y - y.mean() - value * centred
    stderr = math.sqrt(residual @ residual / (len(x) - 2) / (centred @ centred))
    return Slope(float(value), stderr, float(y.mean() - value * x.mean()))


def class_offset(classes: float, criterion: str, *, family: str = "orthogonal") -> float:
    """t_s - ½ log E in OU time, at s = 1 and large energy E: how a criterion moves with K.

    -½ log K for criteria at the centre (curvature, instability, covariance), -½ log log K for
    those that follow the samples (cloning, half entropy, entropy rate).

    Args:
        classes: number of classes K.
        criterion: one of `CRITERIA`.
        family: "pair", "orthogonal" or "simplex".

    Returns:
        The offset; NaN where the criterion has no threshold.

    Raises:
        ValueError: on an unknown criterion or family, or classes < 2.
    """
    # Corrections are of relative order K/E.
    energy = 1e12 * classes
    options = {
        "classes": classes,
        "family": family,
        "criterion": choose("criterion", criterion, tuple(CRITERIA)),
    }
    return float(speciation_time(vp(), energy, **options)) - 0.5 * math.log(energy)
