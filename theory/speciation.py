r"""Speciation times: every definition of when a class is decided.

Classes of energy E and within-class variance s² are seen at noise level γ = α²/σ² with

    ρ = α²E/v = Eγ/(1+γs²),    v = α²s² + σ²,    ρ < E/s²,

E the squared norm of one mean (the pair's, an orthogonal one, a simplex vertex). Each criterion is a
condition on ρ, some also on the process's clock. Where K classes are seen from their centre, what counts is
the largest eigenvalue λ of the between-class covariance: E for the pair, E/K for orthogonal means, E/(K-1)
for a simplex, and ρ_λ = α²λ/v.

Sources: [H] Handke et al., arXiv 2602.09651; [B] Biroli, Bonnaire, de Bortoli, Mezard, Nat. Commun. 2024;
[R] Raya, Ambrogioni, 2023; [A] Achilli, Benedetti, Biroli, Mezard, arXiv 2602.04404, whose criterion is here for
classes of one variance, and in `theory.pair_speciation_time` for any two Gaussians.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.optimize import brentq
from scipy.special import entr

from gmm.checks import check_values, choose, padded
from gmm.clock import Times, noise_at, schedule, times_at
from gmm.curve import EntropyCurve, versions
from gmm.process import DDPM, Process
from theory import channel
from theory.noise import shares

FAMILIES = ("pair", "orthogonal", "simplex")
# Tolerance of every root, in log-SNR: a millionth of a unit of time and far finer than any estimate of it.
_TOLERANCE = 1e-12
_ROUNDING = 1e-13  # of the terms of a sum, what their rounding leaves
_SCAN = 150  # log-SNR points between which roots and maxima are bracketed


@dataclasses.dataclass(frozen=True)
class Problem:
    """One decision under one process.

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

    def entropy_second(self, rho: ArrayLike) -> np.ndarray:
        """d²H/dρ² at ρ, in nats."""
        return channel.entropy_second(self.classes, rho, simplex=self.family != "orthogonal")

    def clone_agreement(self, rho: ArrayLike) -> np.ndarray:
        """E Σp² at ρ."""
        return self._of("clone_agreement", rho)

    @property
    def _pair_rho(self) -> float:
        """ρ of the pair that two classes form, divided by the ρ of their family."""
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
        """ρ at a noise level."""
        return self.energy * shares(log_snr, self.variance)[0]

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
        last, first = self.visited()
        return max(ends[0], last), min(high, first)

    def time(self, log_snr: float) -> float:
        """The process's time at a noise level; NaN outside what the process visits."""
        return float(self.times(np.array([log_snr]))[0])

    def times(self, log_snr: np.ndarray) -> np.ndarray:
        """The process's times at noise levels (n,); NaN outside what the process visits."""
        last, first = self.visited()
        visits = (last <= log_snr) & (log_snr <= first)
        return np.where(visits, times_at(self.process, -0.5 * np.where(visits, log_snr, first)), np.nan)

    def visited(self) -> tuple[float, float]:
        """log_snr at the end and at the start of the process."""
        last, first = (
            -2 * float(noise_at(self.process, t)) for t in (self.process.t_max, self.process.t_min)
        )
        return last, first

    def clock(self, log_snr: ArrayLike) -> "Clock":
        """The process's clock at noise levels (...), in float64."""
        levels = np.asarray(log_snr, np.float64)
        with jax.enable_x64(True):
            values = _clock(self.process, jnp.asarray(padded(levels)))
        return Clock(*(np.asarray(value)[: levels.size].reshape(levels.shape) for value in values))


class Clock(NamedTuple):
    """The clock of a process at noise levels: dλ/dt, d²λ/dt² and d log σ/dt, λ = log_snr."""

    slope: np.ndarray
    bend: np.ndarray
    noise_growth: np.ndarray


@jax.jit
def _clock(process: Process, log_snr: jax.Array) -> tuple[jax.Array, ...]:
    """Slope, bend and noise growth."""

    def at(level: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        t = process.time_at_log_snr(level)
        slope = jax.grad(process.log_snr)
        return slope(t), jax.grad(slope)(t), jax.grad(lambda time: jnp.log(process.sigma(time)))(t)

    return jax.vmap(at)(log_snr)


def _curvature(problem: Problem) -> float:
    """Density turns from one hump to several at the centre: ρ_λ = 1."""
    return dataclasses.replace(problem, energy=problem.between, classes=2, family="pair").log_snr_at(1.0)


def _instability(problem: Problem, share: float) -> float:
    """Reverse drift -f x + share·g²∇log p becomes unstable at the centre: share (ρ_λ - 1) g²/v = f."""

    def excess(log_snr: np.ndarray) -> np.ndarray:
        # ρ_λ - 1 - f v/(share g²), with f = (log σ)' + λ'/2 so that no term of order one is left to cancel.
        clock = problem.clock(log_snr)
        ratio = np.exp(log_snr) * problem.variance
        terms = (
            problem.between * shares(log_snr, problem.variance)[0],
            (ratio + (1 - 2 * share)) / (2 * share),
            (1 + ratio) / share * clock.noise_growth / clock.slope,
        )
        # A difference of rounding size is none: at the clean end a centre may be marginal.
        return np.sum(terms, axis=0) - _ROUNDING * np.sum(np.abs(terms), axis=0)

    grid = _drift_grid(problem)
    with np.errstate(all="ignore"):
        values = excess(grid)
    # Closer to the end of the process than float64 resolves (1 - t < 1e-16 for flow matching) there is no answer.
    grid, values = grid[np.isfinite(values)], values[np.isfinite(values)]
    above = np.flatnonzero(values > 0)
    if not len(above) or above[0] == 0:  # stable throughout, or unstable however much noise
        return math.nan
    low, high = grid[above[0] - 1 : above[0] + 1].tolist()
    return _root(lambda x: float(excess(np.array([x]))[0]), low, high)


def _drift_grid(problem: Problem) -> np.ndarray:
    """Noise levels at which a drift may turn: flow matching turns as late as σ²/α² ~ (λ+s²)²."""
    scale = problem.between + problem.variance
    low, high = -2 * math.log1p(scale) - 10, max(problem.log_snr_range()[1], 30.0)
    last, first = problem.visited()
    return np.linspace(max(low, last), min(high, first), 8 * _SCAN)


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


def _free_entropy(problem: Problem) -> float:
    """Mean and standard deviation of the log-likelihood ratio of two classes are equal: D²/2 = D [A].

    D² is the squared distance of two means over v: 4ρ for the pair, 2ρ for orthogonal means, 2ρK/(K-1) for a simplex.
    """
    classes = problem.classes
    squared = {"pair": 4.0, "orthogonal": 2.0, "simplex": 2 * classes / (classes - 1)}[problem.family]
    return problem.log_snr_at(4 / squared)


def _covariance(problem: Problem) -> float:
    """α² Λ = α² + σ², Λ = λ + s² the top eigenvalue of the data covariance: t = ½ log Λ in OU time [B]."""
    excess = problem.between + problem.variance - 1
    return -math.log(excess) if excess > 0 else math.nan


def _entropy_rate(problem: Problem) -> float:
    """Maximum of dH/dt in the process's own time [H]."""
    low, high = problem.log_snr_range()
    if not low < high:  # the process ends before anything is decided, or starts after
        return math.nan
    if isinstance(problem.process, DDPM):
        return _peak_of_table(problem, problem.process)

    def log_rate(log_snr: np.ndarray) -> np.ndarray:
        return _log_rate_in_noise(problem, log_snr) + np.log(-problem.clock(log_snr).slope)

    def slope(log_snr: float) -> float:
        clock = problem.clock(log_snr)
        return _log_rate_slope(problem, log_snr) - float(clock.bend / clock.slope**2)

    top = _top(log_rate, slope, low, high)
    # The rate may still grow where the process or the data end.
    return top if math.isfinite(top) else math.nan


def _top(
    values: Callable[[np.ndarray], np.ndarray], slope: Callable[[float], float], low: float, high: float
) -> float:
    """Noise level of the largest value; -inf or inf where the values still grow at `low` or at `high`.

    Args:
        values: noise levels -> values, which have one maximum.
        slope: noise level -> slope of the values in log(σ²/α²), the opposite of log-SNR.
        low: the noisiest level.
        high: the cleanest level.
    """
    grid = np.linspace(low, high, _SCAN)
    best = int(np.argmax(values(grid)))
    noisier, cleaner = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _SCAN - 1)])
    # A root of the slope is found to rounding, a maximum of the values only to its square root.
    if best == 0 and not slope(noisier) < 0:  # a slope of values that underflow is NaN
        return -math.inf
    if best == _SCAN - 1 and not slope(cleaner) > 0:
        return math.inf
    return _root(slope, noisier, cleaner)


def _log_rate_in_noise(problem: Problem, log_snr: np.ndarray) -> np.ndarray:
    """log of -dH/dλ, the rate that does not depend on the clock."""
    signal, moved = shares(log_snr, problem.variance)
    rho = problem.energy * signal
    slope = -problem.entropy_rate(rho) * rho * moved
    return np.log(np.maximum(slope, 1e-300))


def _log_rate_slope(problem: Problem, log_snr: float) -> float:
    """d log(-dH/dλ) / d log(σ²/α²), from d²H/dρ²."""
    rho = problem.rho(log_snr)
    moved = float(shares(log_snr, problem.variance)[1])  # -d log ρ / d log(σ²/α²)
    with np.errstate(invalid="ignore"):  # both may underflow
        relative = rho * problem.entropy_second(rho) / problem.entropy_rate(rho)
    return float(1 - moved * (2 + relative))


def _peak_of_table(problem: Problem, chain: DDPM) -> float:
    """Maximum over a chain, whose log-SNR is linear between indices and jumps in slope at each; NaN at its ends.

    Within a cell dH/dt is -dH/dλ times a constant, and -dH/dλ has one maximum: a cell's own is the point
    nearest to it.
    """
    table = np.asarray(chain.log_snr_table, np.float64)
    values = functools.partial(_log_rate_in_noise, problem)
    top = _top(values, functools.partial(_log_rate_slope, problem), *problem.log_snr_range())
    nearest = np.clip(top, table[1:], table[:-1])
    best = int(np.argmax(values(nearest) + np.log(-np.diff(table))))
    at_end = nearest[best] == table[0] or nearest[best] == table[-1]
    return math.nan if at_end else float(nearest[best])


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
    "free-entropy": Criterion(
        _free_entropy,
        "the free entropies of two classes differ by as much as they fluctuate",
        "E log p(x|z)/p(x|other) = its standard deviation",
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
        (...) times; NaN where the criterion has no solution that the process visits (`why_none` gives the reason).

    Raises:
        ValueError: on an unknown criterion or family, or arguments outside their range.
    """
    rule = CRITERIA[choose("criterion", criterion, tuple(CRITERIA))]

    def time_of(value: float) -> float:
        problem = Problem(process, float(value), variance, classes, family)
        return problem.time(rule.log_snr(problem))

    values = np.asarray(energy, float)
    return np.array([time_of(value) for value in values.reshape(-1)]).reshape(values.shape)[()]


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
    times: Times,
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
    signal, moved = shares(grid.log_snr, variance)
    rho = energy * signal
    facts = {"energy": energy, "variance": variance, "classes": classes, "family": family}
    return _exact_curve(
        grid,
        entropy=problem.entropy(rho),
        # dρ/dt = dρ/dλ dλ/dt, both signs negative in the end: H grows with t.
        rate=problem.entropy_rate(rho) * rho * moved * grid.log_snr_slope,
        prior_entropy=math.log(classes),
        clone_agreement=problem.clone_agreement(rho),
        metadata={
            "source": "quadrature",
            "route": family,
            "process": process.describe(),
            **facts,
            **versions(),
        },
    )


def tree_curves(
    process: Process,
    times: Times,
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
    signal, noise = shares(grid.log_snr, variance)
    rhos = energies[:, None] * signal
    entropy = channel.tree_entropy(branching, rhos)
    moved = rhos * noise * grid.log_snr_slope  # all ρ_l move together
    jacobian = channel.tree_entropy_jacobian(branching, rhos)
    rate = (jacobian * moved).sum(axis=1)
    agreement = 1 + 2 * jacobian[-1]
    facts = {"branching": list(branching), "energies": energies.tolist(), "variance": variance}
    return [
        _exact_curve(
            grid,
            entropy=entropy[level],
            rate=rate[level],
            prior_entropy=math.log(math.prod(branching[: level + 1])),
            clone_agreement=agreement[level],
            metadata={
                "source": "quadrature",
                "route": "tree",
                "process": process.describe(),
                "level": level + 1,
                **facts,
                **versions(),
            },
        )
        for level in range(len(branching))
    ]


def unequal_curve(
    process: Process,
    times: Times,
    weights: Float[ArrayLike, " K"],
    energies: Float[ArrayLike, " K"],
    *,
    variance: float = 1.0,
) -> EntropyCurve:
    """The exact curve of classes with orthogonal means, of any priors and energies; by quadrature.

    Posteriors see differences of means only, so a simplex of energy E is this with energy E K/(K-1), and a
    pair the case K = 2.

    Args:
        process: forward process.
        times: (T,) times where log_snr is finite.
        weights: (K,) priors.
        energies: (K,) squared norm of each mean.
        variance: within-class variance s².

    Raises:
        ValueError: as `entropy_curve` and `channel.unequal_entropy`.
    """
    weights, energies = np.asarray(weights, float), np.asarray(energies, float)
    grid = schedule(process, times)
    signal, noise = shares(grid.log_snr, variance)
    rhos = energies * signal[:, None]
    moved = rhos * (noise * grid.log_snr_slope)[:, None]
    slopes = channel.unequal_entropy_rate(weights, rhos)
    facts = {"weights": weights.tolist(), "energies": energies.tolist(), "variance": variance}
    return _exact_curve(
        grid,
        entropy=channel.unequal_entropy(weights, rhos),
        rate=(slopes * moved).sum(axis=-1),
        prior_entropy=float(entr(weights).sum()),
        clone_agreement=1 + 2 * slopes.sum(axis=-1),
        metadata={
            "source": "quadrature",
            "route": "unequal",
            "process": process.describe(),
            **facts,
            **versions(),
        },
    )


def _exact_curve(grid: object, **fields: object) -> EntropyCurve:
    zero = np.zeros_like(grid.t)  # type: ignore[attr-defined]
    places = {name: getattr(grid, name) for name in ("t", "log_snr", "log_snr_slope")}
    errors = {"entropy_stderr": zero, "rate_stderr": zero}
    if "clone_agreement" in fields:
        errors["clone_agreement_stderr"] = zero
    return EntropyCurve(**places, **errors, **fields)  # type: ignore[arg-type]
