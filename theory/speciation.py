r"""When a class is decided: every definition of a speciation time, and the window of a curve.

Classes of energy E and within-class variance s² are seen at noise level γ = α²/σ² with

    ρ = α²E/v = Eγ/(1+γs²),    v = α²s² + σ²,    ρ < E/s²,

E the squared norm of one mean (the pair's, an orthogonal one, a simplex vertex). Each criterion is a
condition on ρ, some also on the process's clock. Where K classes are seen from their centre, what counts is the largest
eigenvalue λ of the between-class covariance, ρ_λ = α²λ/v: λ is E for the pair, E/K for orthogonal means and
E/(K-1) for a simplex.

Sources: [H] Handke et al., arXiv 2602.09651; [B] Biroli, Bonnaire, de Bortoli, Mezard, Nat. Commun. 2024;
[R] Raya, Ambrogioni, 2023.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.optimize import brentq, minimize_scalar

from gmm.checks import check_values, choose
from gmm.curve import EntropyCurve, versions
from gmm.entropy import schedule
from gmm.process import Process
from theory import channel

FAMILIES = ("pair", "orthogonal", "simplex")
# Tolerance of every root, in log-SNR: a millionth of a unit of time and far finer than any estimate of it.
_TOLERANCE = 1e-12
_SCAN = 150  # log-SNR points between which roots and maxima are bracketed


@dataclasses.dataclass(frozen=True)
class Problem:
    """One decision, seen through one process.

    Attributes:
        process: forward process.
        energy: squared norm of one mean, > 0.
        variance: within-class variance s², >= 0.
        classes: number of classes K.
        family: "pair", "orthogonal" or "simplex".

    Raises:
        ValueError: when an argument is outside its range.
    """

    process: Process
    energy: float
    variance: float = 1.0
    classes: float = 2
    family: str = "simplex"

    def __post_init__(self) -> None:
        choose("family", self.family, FAMILIES)
        check_values("energy", self.energy, "finite and positive", lambda a: (a > 0) & np.isfinite(a))
        check_values("variance", self.variance, "finite and >= 0", lambda a: (a >= 0) & np.isfinite(a))
        check_values("classes", self.classes, "a number >= 2", lambda a: (a >= 2) & np.isfinite(a))
        if self.family == "pair" and self.classes != 2:
            raise ValueError(f"classes must be 2 for a pair, got {self.classes:g}; a simplex has any number")

    def entropy(self, rho: ArrayLike) -> np.ndarray:
        """H at ρ, in nats."""
        return self._of("entropy", rho)

    def entropy_rate(self, rho: ArrayLike) -> np.ndarray:
        """dH/dρ at ρ, in nats."""
        return self._of("entropy_rate", rho) * (self._pair_rho if self.classes == 2 else 1)

    def clone_agreement(self, rho: ArrayLike) -> np.ndarray:
        """E Σp² at ρ."""
        return self._of("clone_agreement", rho)

    @property
    def _pair_rho(self) -> float:
        """ρ of the pair that two classes are, per ρ of their family."""
        return 0.5 if self.family == "orthogonal" else 1.0

    def _of(self, name: str, rho: ArrayLike) -> np.ndarray:
        if self.classes == 2:  # the two-class quadrature is a hundred times cheaper
            return getattr(channel, f"binary_{name}")(np.asarray(rho) * self._pair_rho)
        return getattr(channel, f"{self.family}_{name}")(self.classes, rho)

    @property
    def between(self) -> float:
        """Largest eigenvalue λ of the between-class covariance."""
        return self.energy / {"pair": 1, "orthogonal": self.classes, "simplex": self.classes - 1}[self.family]

    def rho(self, log_snr: ArrayLike) -> np.ndarray:
        """ρ at a noise level; written so that neither end overflows."""
        return self.energy / (np.exp(-np.asarray(log_snr, float)) + self.variance)

    def log_snr_at(self, rho: float) -> float:
        """The noise level of ρ, or NaN when even clean data do not reach it (ρ >= E/s²)."""
        left = self.energy / rho - self.variance
        return -math.log(left) if left > 0 else math.nan

    def log_snr_range(self) -> tuple[float, float]:
        """Noise levels from nothing decided to all decided, cut to what the process visits."""
        depth = 3000.0 + 4 * math.log(self.classes)
        ends = [self.log_snr_at(rho) for rho in (1e-6, depth)]
        clean = math.log(1e6 * max(self.energy, 1e-12) / self.variance) if self.variance > 0 else math.inf
        high = ends[1] if math.isfinite(ends[1]) else clean
        with jax.enable_x64(True):
            first = float(self.process.log_snr(jnp.asarray(self.process.t_min, float)))
            last = float(self.process.log_snr(jnp.asarray(self.process.t_max, float)))
        return max(ends[0], last), min(high, first)

    def time(self, log_snr: float) -> float:
        """The process's time at a noise level; NaN outside what the process visits."""
        if not math.isfinite(log_snr):
            return math.nan
        with jax.enable_x64(True):
            t = float(self.process.time_at_log_snr(jnp.asarray(log_snr)))
            # A table answers with its end where it does not reach.
            reached = float(self.process.log_snr(jnp.asarray(t)))
        inside = self.process.t_min <= t <= self.process.t_max
        return t if inside and abs(reached - log_snr) < 1e-6 * max(1, abs(log_snr)) else math.nan

    def clock(self, log_snr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Drift f, diffusion g² and noise variance σ² at noise levels (n,), each (n,)."""
        with jax.enable_x64(True):
            t = self.process.time_at_log_snr(jnp.asarray(log_snr))
            parts = (self.process.drift(t), self.process.diffusion(t) ** 2, self.process.sigma(t) ** 2)
        drift, diffusion2, sigma2 = (np.asarray(part) for part in parts)
        return drift, diffusion2, sigma2


def _curvature(problem: Problem) -> float:
    """Density turns from one hump to several at the centre: ρ_λ = 1."""
    return dataclasses.replace(problem, energy=problem.between, classes=2, family="pair").log_snr_at(1.0)


def _instability(problem: Problem, share: float) -> float:
    """Reverse drift -f x + share·g²∇log p turns unstable at the centre: share (ρ_λ - 1) g²/v = f."""

    def excess(log_snr: np.ndarray) -> np.ndarray:
        drift, diffusion2, sigma2 = problem.clock(log_snr)
        gamma = np.exp(log_snr)
        v = sigma2 * (1 + gamma * problem.variance)
        rho = problem.between / (1 / gamma + problem.variance)
        return rho - 1 - drift * v / (share * diffusion2)

    low, high = problem.log_snr_range()
    grid = np.linspace(low, high, _SCAN)
    values = excess(grid)
    if not np.isfinite(values[0]) or values[0] > 0:  # unstable however much noise: no threshold
        return math.nan
    above = np.flatnonzero(values > 0)
    if not len(above):
        return math.nan
    bracket = grid[above[0] - 1], grid[above[0]]
    return _root(lambda x: float(excess(np.array([x]))[0]), *map(float, bracket))


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(excess, low, high, xtol=_TOLERANCE))  # type: ignore[arg-type]


def _root_in_rho(problem: Problem, excess: Callable[[float], float]) -> float:
    """Noise level at which `excess`, decreasing in ρ, crosses zero; NaN when clean data do not reach it."""
    low, high = 1e-9, 2800 + 4 * math.log(problem.classes)
    if problem.variance > 0:
        high = min(high, float(problem.energy / problem.variance))
    if excess(high) > 0:
        return math.nan
    log_rho = _root(lambda x: excess(math.exp(x)), math.log(low), math.log(high))
    return problem.log_snr_at(math.exp(log_rho))


def _half_entropy(problem: Problem) -> float:
    """H = ½ H[Z]."""
    half = 0.5 * math.log(problem.classes)
    return _root_in_rho(problem, lambda rho: float(problem.entropy(rho)) - half)


def _cloning(problem: Problem) -> float:
    """E Σp² midway between Σπ² = 1/K and its limit on clean data [B]."""
    clean = problem.energy / problem.variance if problem.variance > 0 else math.inf
    limit = float(problem.clone_agreement(clean))
    middle = 0.5 * (1 / problem.classes + limit)
    return _root_in_rho(problem, lambda rho: middle - float(problem.clone_agreement(rho)))


def _covariance(problem: Problem) -> float:
    """α² Λ = α² + σ², Λ = λ + s² the top eigenvalue of the data covariance: t = ½ log Λ in OU time [B]."""
    excess = problem.between + problem.variance - 1
    return -math.log(excess) if excess > 0 else math.nan


def _entropy_rate(problem: Problem) -> float:
    """Maximum of dH/dt in the process's own time [H]."""
    low, high = problem.log_snr_range()

    def log_rate(log_snr: ArrayLike) -> np.ndarray:
        level = np.atleast_1d(np.asarray(log_snr, float))
        _, diffusion2, sigma2 = problem.clock(level)
        rho = problem.rho(level)
        # dρ/dλ = ρ/(1+γs²) and dλ/dt = -g²/σ².
        slope = rho / (1 + np.exp(level) * problem.variance) * diffusion2 / sigma2
        return np.log(np.maximum(-problem.entropy_rate(rho) * slope, 1e-300))

    grid = np.linspace(low, high, _SCAN)
    values = log_rate(grid)
    best = int(np.argmax(values))
    if best in (0, _SCAN - 1):  # the rate still grows where the process or the data end
        return math.nan
    bracket = tuple(grid[best - 1 : best + 2])
    found = minimize_scalar(lambda x: -float(log_rate(x)[0]), bracket=bracket, tol=1e-9)
    return float(found.x)  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True)
class Criterion:
    """One definition of a speciation time.

    Attributes:
        log_snr: problem -> noise level, NaN where there is none.
        description: one line.
        condition: the condition as a formula.
        can_fail: why there may be none.
    """

    log_snr: Callable[[Problem], float]
    description: str
    condition: str
    can_fail: str


_UNREACHED = "even clean data do not separate the classes that far"

CRITERIA: dict[str, Criterion] = {
    "entropy-rate": Criterion(
        _entropy_rate,
        "the class entropy falls fastest, in the process's own time",
        "argmax dH/dt",
        "the rate is largest where the process or the data end",
    ),
    "half-entropy": Criterion(_half_entropy, "half of the class is known", "H = H[Z]/2", _UNREACHED),
    "cloning": Criterion(
        _cloning,
        "clones of a state agree halfway between chance and certainty",
        "E Σp² = (Σπ² + its limit)/2",
        _UNREACHED,
    ),
    "curvature": Criterion(
        _curvature, "the density at the centre splits into several humps", "ρ_λ = 1", _UNREACHED
    ),
    "sde-instability": Criterion(
        functools.partial(_instability, share=1.0),
        "the centre turns unstable under the reverse SDE",
        "ρ_λ = 1 + f v/g²",
        "the centre is unstable, or stable, at every noise level",
    ),
    "flow-instability": Criterion(
        functools.partial(_instability, share=0.5),
        "the centre turns unstable under the probability flow",
        "ρ_λ = 1 + 2 f v/g²",
        "the centre is unstable, or stable, at every noise level (VP data of variance >= 1 always)",
    ),
    "covariance": Criterion(
        _covariance,
        "noise drowns the largest eigenvalue of the data covariance",
        "α² Λ = α² + σ²",
        "the largest eigenvalue is below one",
    ),
}


def speciation_time(
    process: Process,
    energy: Float[ArrayLike, "..."],
    *,
    variance: float = 1.0,
    classes: float = 2,
    family: str = "simplex",
    criterion: str = "entropy-rate",
) -> Float[np.ndarray, "..."]:
    """The time at which a class is decided, in the process's own time; float64.

    Args:
        process: forward process.
        energy: (...) squared norm of one mean.
        variance: within-class variance s².
        classes: number of classes K.
        family: "pair", "orthogonal" or "simplex".
        criterion: one of `CRITERIA`.

    Returns:
        (...) times; NaN where the criterion has no solution that the process visits (`why_none` tells why).

    Raises:
        ValueError: on an unknown criterion or family, or arguments outside their range.
    """
    rule = CRITERIA[choose("criterion", criterion, tuple(CRITERIA))]

    def one(value: float) -> float:
        problem = Problem(process, float(value), variance, classes, family)
        return problem.time(rule.log_snr(problem))

    values = np.asarray(energy, float)
    return np.array([one(value) for value in values.reshape(-1)]).reshape(values.shape)[()]


def why_none(problem: Problem, criterion: str) -> str:
    """Why `speciation_time` is NaN for this problem; empty when it is not."""
    rule = CRITERIA[choose("criterion", criterion, tuple(CRITERIA))]
    level = rule.log_snr(problem)
    if not math.isfinite(level):
        return rule.can_fail
    if math.isnan(problem.time(level)):
        return f"{problem.process.name} does not visit log-SNR {level:.3g}"
    return ""


def entropy_curve(
    process: Process,
    times: Float[ArrayLike, " T"],
    energy: float,
    *,
    variance: float = 1.0,
    classes: float = 2,
    family: str = "simplex",
) -> EntropyCurve:
    """The exact curve of a family, by quadrature: standard errors are zero.

    Args:
        process: forward process.
        times: (T,) times where log_snr is finite.
        energy: squared norm of one mean.
        variance: within-class variance s².
        classes: number of classes K.
        family: "pair", "orthogonal" or "simplex".

    Raises:
        ValueError: on times outside the process's range or arguments outside theirs.
    """
    problem = Problem(process, energy, variance, classes, family)
    grid = schedule(process, times)
    rho = problem.rho(grid.log_snr)
    facts = {"energy": energy, "variance": variance, "classes": classes, "family": family}
    return _exact_curve(
        grid,
        entropy=problem.entropy(rho),
        # dρ/dt = dρ/dλ dλ/dt, both signs negative in the end: H grows with t.
        rate=problem.entropy_rate(rho) * rho / (1 + np.exp(grid.log_snr) * variance) * grid.log_snr_slope,
        prior_entropy=math.log(classes),
        clone_agreement=problem.clone_agreement(rho),
        metadata={"source": "quadrature", "process": process.describe(), **facts, **versions()},
    )


def tree_curves(
    process: Process,
    times: Float[ArrayLike, " T"],
    branching: tuple[int, ...],
    energies: Float[ArrayLike, " L"],
    *,
    variance: float = 1.0,
) -> list[EntropyCurve]:
    """The exact curve of each level of a tree (levels 1..j together), coarsest first; by quadrature.

    Args:
        process: forward process.
        times: (T,) times where log_snr is finite.
        branching: children per node of each level, coarsest first.
        energies: (L,) energy of one increment of each level.
        variance: within-class variance s².

    Raises:
        ValueError: as `entropy_curve`, or when energies and branching differ in length.
    """
    energies = np.asarray(energies, float)
    grid = schedule(process, times)
    shape = 1 / (np.exp(-grid.log_snr) + variance)
    rhos = energies[:, None] * shape[None, :]
    entropy, slopes = channel.tree_entropy_slopes(branching, rhos, rhos)
    # All ρ_l move together: dρ_l/dλ = ρ_l/(1+γs²).
    rate = slopes / (1 + np.exp(grid.log_snr) * variance) * grid.log_snr_slope
    facts = {"branching": list(branching), "energies": energies.tolist(), "variance": variance}
    return [
        _exact_curve(
            grid,
            entropy=entropy[level],
            rate=rate[level],
            prior_entropy=math.log(math.prod(branching[: level + 1])),
            metadata={
                "source": "quadrature",
                "process": process.describe(),
                "level": level + 1,
                **facts,
                **versions(),
            },
        )
        for level in range(len(branching))
    ]


def _exact_curve(grid: object, **fields: object) -> EntropyCurve:
    zero = np.zeros_like(grid.t)  # type: ignore[attr-defined]
    places = {name: getattr(grid, name) for name in ("t", "log_snr", "log_snr_slope")}
    errors = {"entropy_stderr": zero, "rate_stderr": zero}
    if "clone_agreement" in fields:
        errors["clone_agreement_stderr"] = zero
    return EntropyCurve(**places, **errors, **fields)  # type: ignore[arg-type]
