r"""Guided paths of isotropic classes in the coordinates where nothing but guidance acts: no process, no matrices.

Classes N(√E m_k, s²I), ρ = α²E/v, v = α²s² + σ². Let q be the distance of the state from the target's mean in standard
deviations √v, so that q ~ N(0, I) without guidance, and p the posterior at q + √ρ m_target. Every process is::

    reverse SDE          dq = [-q + 2 (w-1) √ρ (m_target - Σ_k p_k m_k)] dκ + √2 dW        κ = ½ log ρ
    probability flow     dq =         (w-1) √ρ (m_target - Σ_k p_k m_k)  dκ

For orthonormal m_k a step of a path costs K operations where `gmm.guided` needs K², and nothing is compiled: this is
what makes a thousand classes cheap. Weights depend on ρ alone; `gmm.guided` is for every other schedule and covariance.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from gmm.checks import check_finite, check_values, choose
from gmm.estimate import Estimate
from gmm.mixture import check_key

SAMPLERS = ("sde", "flow")
# As of `gmm.guided`: what guidance would have done before.
FIRST_RHO = {"sde": 1e-4, "flow": 1e-8}

Push = Callable[[np.ndarray, float], np.ndarray]


class Whitened(NamedTuple):
    """Averages over paths; differences are from the same paths without guidance.

    Attributes:
        rho: (T,) signal-to-noise ratios.
        entropy, surprise: (T,) E H(p) and E[-log p_target] there, p the unguided posterior; nats.
        shift: of the final mean along the line from the centre of all to that of the target, in standard deviations.
        narrowing: 1 - final variance along that line.
    """

    rho: np.ndarray
    entropy: Estimate
    surprise: Estimate
    shift: Estimate
    narrowing: Estimate


def guided_whitened(
    classes: int | Float[ArrayLike, "K r"],
    rho: Sequence[float] | Float[np.ndarray, " T"],
    w: float | Callable[[float], float],
    *,
    key: PRNGKeyArray,
    samples: int,
    steps: int,
    sampler: Literal["sde", "flow"] = "sde",
    target: int = 0,
) -> Whitened:
    """Guided paths of equally likely isotropic classes.

    Args:
        classes: K, for orthonormal means (orthogonal classes of energy E); or (K, r) means in units of √E.
        rho: (T,) signal-to-noise ratios to look at, in any order; the largest is that of clean data.
        w: guidance weight, or a function of ρ.
        key: JAX random key.
        samples: paths, >= 2.
        steps: steps in log ρ, >= 1; `rho` come on top.
        sampler: "sde" or "flow".
        target: class to guide towards.

    Raises:
        ValueError: when a value is outside its range.
    """
    choose("sampler", sampler, SAMPLERS)
    means = None if isinstance(classes, int) else np.asarray(classes, np.float64)
    count = classes if isinstance(classes, int) else np.shape(classes)[0]
    _check(means, count, target, samples, steps)
    rho = np.asarray(rho, np.float64)
    check_values(
        "rho", rho, f"above {FIRST_RHO[sampler]:g}", lambda a: np.isfinite(a) & (a > FIRST_RHO[sampler])
    )
    weight = w if callable(w) else lambda _: w
    rng = np.random.default_rng(np.asarray(jax.random.key_data(check_key(key))))
    width = count if means is None else means.shape[1]
    law = _Law(means, target)
    push = lambda q, rho: (weight(rho) - 1) * np.sqrt(rho) * law.pull(q, rho)  # noqa: E731
    nodes = np.unique(np.append(np.geomspace(FIRST_RHO[sampler], rho.max(), steps + 1), rho))
    q = plain = rng.standard_normal((samples, width))
    seen = {}
    # These products are small: threads that wait for one another would cost eight times what they compute.
    with threadpool_limits(1, "blas"):
        for before, after in itertools.pairwise(nodes):
            if sampler == "sde":
                q, plain = _sde_step(q, plain, push, before, after, rng)
            else:
                q = _flow_step(q, push, before, after)
            if after in rho:
                seen[after] = law.surprises(q, after)
    found = np.array([seen[one] for one in rho])  # (T, 2, n)
    entropy, surprise = (Estimate(f.mean(axis=1), _stderr(f)) for f in found.transpose(1, 0, 2))
    along = [states @ law.direction(width) for states in (q, plain)]
    squares = [(a - a.mean()) ** 2 for a in along]
    return Whitened(rho, entropy, surprise, _mean(along[0] - along[1]), _mean(squares[1] - squares[0]))


class _Law(NamedTuple):
    means: np.ndarray | None
    target: int

    def logits(self, q: np.ndarray, rho: float) -> np.ndarray:
        """(n, K) log joint of classes at q + √ρ m_target, up to what they share."""
        if self.means is None:
            logits = np.sqrt(rho) * q
            logits[:, self.target] += rho
            return logits
        logits = (np.sqrt(rho) * (q + np.sqrt(rho) * self.means[self.target])) @ self.means.T
        logits -= 0.5 * rho * np.sum(self.means**2, axis=1)
        return logits

    def pull(self, q: np.ndarray, rho: float) -> np.ndarray:
        """m_target - Σ p m."""
        p = self.logits(q, rho)
        # In place: what these arrays cost is the passes over them.
        p -= p.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        total = p.sum(axis=1, keepdims=True)
        if self.means is not None:
            return self.means[self.target] - (p @ self.means) / total
        p /= -total
        p[:, self.target] += 1
        return p

    def surprises(self, q: np.ndarray, rho: float) -> tuple[np.ndarray, np.ndarray]:
        """H(p) and -log p_target of every path."""
        logits = self.logits(q, rho)
        log_p = logits - logsumexp(logits, axis=1, keepdims=True)
        return -np.sum(np.exp(log_p) * log_p, axis=1), -log_p[:, self.target]

    def direction(self, width: int) -> np.ndarray:
        away = np.eye(1, width, self.target)[0] - 1 / width
        if self.means is not None:
            away = self.means[self.target] - self.means.mean(axis=0)
        return away / np.linalg.norm(away)


def _sde_step(
    q: np.ndarray, plain: np.ndarray, push: Push, before: float, after: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The exact step without guidance, and what that adds by the trapezoid rule."""
    h = 0.5 * np.log(after / before)
    keep, noise = np.exp(-h), np.sqrt(-np.expm1(-2 * h)) * rng.standard_normal(q.shape)
    first = 2 * keep * push(q, before)
    ahead = keep * q + noise
    return ahead + 0.5 * h * (first + 2 * push(ahead + h * first, after)), keep * plain + noise


def _flow_step(q: np.ndarray, push: Push, before: float, after: float) -> np.ndarray:
    """Classical Runge-Kutta in κ."""
    h, middle = 0.5 * np.log(after / before), np.sqrt(before * after)
    k1 = push(q, before)
    k2 = push(q + 0.5 * h * k1, middle)
    k3 = push(q + 0.5 * h * k2, middle)
    k4 = push(q + h * k3, after)
    return q + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _check(means: np.ndarray | None, count: int, target: int, samples: int, steps: int) -> None:
    if means is not None:
        if means.ndim != 2:
            raise ValueError(f"classes must be a number or means (K, r), got shape {means.shape}")
        check_finite("classes", means)
    if count < 2 or not 0 <= target < count:
        raise ValueError(
            f"classes must be at least 2 with target among them, got {count} and target {target}"
        )
    if samples < 2 or steps < 1:
        raise ValueError(f"samples must be >= 2 and steps >= 1, got {samples} and {steps}")


def _stderr(values: np.ndarray) -> np.ndarray:
    return values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])


def _mean(values: np.ndarray) -> Estimate:
    return Estimate(values.mean(), _stderr(values))
