r"""Guided paths of isotropic classes in coordinates that change only by guidance, without a process or matrices.

Classes N(√E m_k, s²I), ρ = α²E/v, v = α²s² + σ². Let q be the distance of the state from the target's mean in standard
deviations √v, so that q ~ N(0, I) without guidance, and p the posterior at q + √ρ m_target. Every process is::

    reverse SDE          dq = [-q + 2 (w-1) √ρ (m_target - Σ_k p_k m_k)] dκ + √2 dW        κ = ½ log ρ
    probability flow     dq =         (w-1) √ρ (m_target - Σ_k p_k m_k)  dκ

For orthonormal m_k a step of a path costs K operations where `gmm.guided` needs K², and nothing is compiled, so that a
thousand classes are cheap. `gmm.guided` covers every other covariance, prior and reference.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from gmm.checks import check_count, check_finite, check_values, choose
from gmm.estimate import Estimate, mean_of
from gmm.guidance import Guidance, cfg, exact_weight
from gmm.keys import check_key, key_numbers
from gmm.samplers import FIRST_RHO, SAMPLERS, Sampler, runge_kutta_step

# Nats: an undecided path has up to log K. Below this sum a few that were not seen would change the mean by more than
# its stated error.
_LEAST_SUM = 5.0


class Whitened(NamedTuple):
    """Averages over paths; differences are from the same paths without guidance.

    Attributes:
        rho: (T,) signal-to-noise ratios.
        entropy, surprise: (T,) E H(p) and E[-log p_target] there, p the unguided posterior; nats.
        accuracy: (T,) E p_target there.
        shift: of the final mean along the line from the centre of all to that of the target, in standard deviations.
        narrowing: 1 - final variance along that line.
        diversity: final variance over all coordinates, over what it is without guidance.
        states, plain: (samples, r) final q, and without guidance.
    """

    rho: np.ndarray
    entropy: Estimate
    surprise: Estimate
    accuracy: Estimate
    shift: Estimate
    narrowing: Estimate
    diversity: Estimate
    states: np.ndarray
    plain: np.ndarray


def guided_whitened(
    classes: int | Float[ArrayLike, "K r"],
    rho: Sequence[float] | Float[np.ndarray, " T"],
    guidance: Guidance | float,
    *,
    key: PRNGKeyArray,
    samples: int,
    steps: int,
    sampler: Sampler = "sde",
    target: int = 0,
    energy: float | None = None,
    variance: float = 1.0,
) -> Whitened:
    """Averages over guided paths of equally likely isotropic classes.

    Entropy, surprise and accuracy are plain averages over paths. Where the class is still uncertain on fewer than about
    thirty paths, the values of entropy and surprise are too small, and their errors are unknown (NaN):
    `theory.guided_pair` has no such limit.

    Args:
        classes: K, for orthonormal means (orthogonal classes of energy E); or (K, r) means in units of √E.
        rho: (T,) signal-to-noise ratios of the results, in any order; the final states are those at the largest.
        guidance: schedule, or a constant weight.
        key: JAX random key.
        samples: paths, >= 2.
        steps: steps in log ρ, >= 1; `rho` and jumps of the schedule come on top.
        sampler: "sde" or "flow".
        target: class to guide towards.
        energy: E, needed to convert ρ to a level σ/α; by default the largest ρ is that of clean data, E = s² ρ.
        variance: s².

    Raises:
        ValueError: when a value is outside its range.
    """
    choose("sampler", sampler, SAMPLERS)
    means = None if isinstance(classes, int) else np.asarray(classes, np.float64)
    count = classes if isinstance(classes, int) else np.shape(classes)[0]
    rho = np.asarray(rho, np.float64)
    schedule = guidance if isinstance(guidance, Guidance) else cfg(guidance)
    _check(means, count, target, samples, steps, schedule)
    first = FIRST_RHO[sampler]
    check_values("rho", rho, f"above {first:g}", lambda a: np.isfinite(a) & (a > first))
    scale = variance * rho.max() if energy is None else energy
    law = _Law(means, target, schedule, float(scale), variance, count)
    rng = np.random.default_rng(key_numbers(check_key(key)))
    start = rng.standard_normal((samples, law.width))
    # These products are small: threads that wait for one another would cost eight times what they compute.
    with threadpool_limits(1, "blas"), jax.enable_x64(True):
        final, plain, statistics = _follow(law, start, _nodes(law, rho, steps, first), rho, sampler, rng)
    return Whitened(
        rho,
        *(mean_of(values, _LEAST_SUM) for values in statistics),
        **_final_law(law, final, plain),
        states=final,
        plain=plain,
    )


def _follow(
    law: "_Law",
    start: np.ndarray,
    nodes: np.ndarray,
    rho: np.ndarray,
    sampler: Sampler,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Final states with and without guidance (n, r), and entropy, surprise and accuracy of the paths (3, T, n)."""
    guided = plain = start
    at_rho = {}
    for before, after in itertools.pairwise(nodes):
        if sampler == "sde":
            guided, plain = _sde_step(law, guided, plain, before, after, rng)
        else:
            guided = _flow_step(law, guided, before, after)
        if after in rho:
            at_rho[after] = law.statistics(guided, after)
    return guided, plain, np.array([at_rho[value] for value in rho]).transpose(1, 0, 2)


def _final_law(law: "_Law", guided: np.ndarray, plain: np.ndarray) -> dict[str, Estimate]:
    """Shift, narrowing and diversity of the final states; see `Whitened`."""
    along = [states @ law.direction for states in (guided, plain)]
    squares = [(a - a.mean()) ** 2 for a in along]
    variances = [np.mean((states - states.mean(axis=0)) ** 2, axis=1) for states in (guided, plain)]
    change = _mean(variances[0] - variances[1])
    return {
        "shift": _mean(along[0] - along[1]),
        "narrowing": _mean(squares[1] - squares[0]),
        "diversity": Estimate(1 + change.value, change.stderr),
    }


class _Law(NamedTuple):
    """The classes and the schedule: means (K, r) in units of √E, or None for K orthonormal ones."""

    means: np.ndarray | None
    target: int
    schedule: Guidance
    energy: float
    variance: float
    count: int

    @property
    def width(self) -> int:
        """Number of coordinates r."""
        return self.count if self.means is None else self.means.shape[1]

    @property
    def direction(self) -> np.ndarray:
        """(r,) unit vector from the centre of all means to that of the target."""
        offset = np.eye(1, self.width, self.target)[0] - 1 / self.width
        if self.means is not None:
            offset = self.means[self.target] - self.means.mean(axis=0)
        return offset / np.linalg.norm(offset)

    def level(self, rho: float) -> float:
        """σ/α at ρ."""
        return math.sqrt(max(self.energy / rho - self.variance, 0))

    def logits(self, q: np.ndarray, rho: float) -> np.ndarray:
        """(n, K) log joint of classes at q + √ρ m_target, up to what they share."""
        if self.means is None:
            logits = np.sqrt(rho) * q
            logits[:, self.target] += rho
            return logits
        logits = (np.sqrt(rho) * (q + np.sqrt(rho) * self.means[self.target])) @ self.means.T
        logits -= 0.5 * rho * np.sum(self.means**2, axis=1)
        return logits

    def push(self, q: np.ndarray, rho: float, middle: float) -> np.ndarray:
        """(w-1) √ρ (m_target - Σ p m); the weight is that at the level of `middle`."""
        p = self.logits(q, rho)
        # In place: what these arrays cost is the passes over them.
        p -= p.max(axis=1, keepdims=True)
        top = p[:, self.target].copy()
        np.exp(p, out=p)
        total = p.sum(axis=1, keepdims=True)
        if self.means is not None:
            pull = self.means[self.target] - (p @ self.means) / total
        else:
            pull = np.divide(p, -total, out=p)
            pull[:, self.target] += 1
        pull *= np.sqrt(rho) * (self.weight(pull, top - np.log(total[:, 0]), rho, middle) - 1)
        return pull

    def weight(self, pull: np.ndarray, log_p: np.ndarray, rho: float, middle: float) -> Any:
        """w: one number, or (n, 1) where it depends on the state."""
        level = self.level(middle)
        if not self.schedule.of_state:
            return float(exact_weight(self.schedule, level, 0.0, 0.0))
        ratio = log_p + math.log(self.count)
        gap = np.linalg.norm(pull, axis=1) * rho * level / math.sqrt(self.energy)
        return exact_weight(self.schedule, level, ratio, gap)[:, None]

    def statistics(self, q: np.ndarray, rho: float) -> tuple[np.ndarray, ...]:
        """H(p), -log p_target and p_target of every path."""
        logits = self.logits(q, rho)
        log_p = logits - logsumexp(logits, axis=1, keepdims=True)
        log_target = log_p[:, self.target]
        return -np.sum(np.exp(log_p) * log_p, axis=1), -log_target, np.exp(log_target)


def _nodes(law: _Law, rho: np.ndarray, steps: int, first: float) -> np.ndarray:
    """Rising ρ of all steps, with those of the results and those at which the weight jumps among them."""
    jumps = np.array([level for level in law.schedule.jumps if math.isfinite(level)])
    at = law.energy / (law.variance + jumps**2)
    grid = np.geomspace(first, rho.max(), steps + 1)
    return np.unique(np.concatenate([grid[:-1], rho, at[(at > first) & (at < rho.max())]]))


def _sde_step(
    law: _Law, q: np.ndarray, plain: np.ndarray, before: float, after: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The exact step without guidance, plus what guidance adds, by the trapezoid rule."""
    h, middle = 0.5 * np.log(after / before), np.sqrt(before * after)
    keep, noise = np.exp(-h), np.sqrt(-np.expm1(-2 * h)) * rng.standard_normal(q.shape)
    first = 2 * keep * law.push(q, before, middle)
    ahead = keep * q + noise
    return ahead + 0.5 * h * (first + 2 * law.push(ahead + h * first, after, middle)), keep * plain + noise


def _flow_step(law: _Law, q: np.ndarray, before: float, after: float) -> np.ndarray:
    """A Runge-Kutta step in κ."""
    step, middle = 0.5 * np.log(after / before), np.sqrt(before * after)
    return runge_kutta_step(lambda q, rho: law.push(q, rho, middle), q, step, before, middle, after)


def _check(
    means: np.ndarray | None, count: int, target: int, samples: int, steps: int, schedule: Guidance
) -> None:
    if means is not None:
        if means.ndim != 2:
            raise ValueError(f"classes must be a number or means (K, r), got shape {means.shape}")
        check_finite("classes", means)
    if count < 2 or not 0 <= target < count:
        raise ValueError(
            f"classes must be at least 2 with target among them, got {count} and target {target}"
        )
    check_count("samples", samples, 2)
    check_count("steps", steps)
    if schedule.reference != "unconditional":
        raise ValueError(
            f"guidance of kind {schedule.kind!r} needs a second mixture; use `gmm.guided_samples`"
        )


def _stderr(values: np.ndarray) -> np.ndarray:
    return values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])


def _mean(values: np.ndarray) -> Estimate:
    return Estimate(values.mean(), _stderr(values))
