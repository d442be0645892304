r"""Guidance schedules: the guidance scale w as a function of the noise level, for mixtures and for networks.

With D_c the denoiser under the condition and D_0 a reference (usually the unconditional denoiser)::

    D_w = D_0 + w (D_c - D_0) = D_c + (w - 1)(D_c - D_0)

A schedule gives w. It may depend on the noise level σ/α, on the log likelihood ratio ℓ = log p(x_t|c) - log p(x_t),
which is exact for mixtures and tracked from step to step by samplers of networks, and on the length of the guidance
vector. It never depends on the process or on what is guided. w = 1 is the plain conditional dynamics, w = 0 the
reference's; the second form above makes w = 1 exact to the bit.

Every schedule is a frozen pytree whose leaves are its numbers: jit compiles once for all weights of a kind.
"""

import abc
import dataclasses
import math
import typing
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from gmm.checks import as_float, choose, is_concrete
from gmm.curve import EntropyCurve
from gmm.pytree import pytree
from gmm.windows import window

Values = Float[ArrayLike, "..."]
SHAPES = ("interval", "profile")
# Koulischer et al. 2025 bound the tracked ratio from above by this, so that a chain can still be guided back.
LARGEST_LOG_RATIO = 3.0


def steer(denoised: Array, reference: Array, weight: Values) -> Array:
    """D_w from D_c, D_0 and w; `weight` is () or (n,) for states (n, ...). At w = 1 it is D_c to the bit."""
    weight = jnp.asarray(weight, denoised.dtype)
    weight = weight.reshape(weight.shape + (1,) * (denoised.ndim - weight.ndim if weight.ndim else 0))
    return denoised + (weight - 1) * (denoised - reference)


def gap_of(denoised: Array, reference: Array, level: Values) -> Float[Array, " n"]:
    """‖D_c - D_0‖ α/σ of states (n, ...) at one level: the distance between the two predicted noises."""
    difference = (denoised - reference).reshape(denoised.shape[0], -1)
    return jnp.linalg.norm(difference, axis=1) / jnp.asarray(level, denoised.dtype)


def exact_weight(
    guidance: "Guidance", level: np.ndarray | float, log_ratio: np.ndarray | float, gap: np.ndarray | float
) -> np.ndarray:
    """The weights of `Guidance.weight_of_exact` in float64, for solvers that compute with NumPy."""
    with jax.enable_x64(True):
        return np.asarray(_exact_weight(guidance, level, log_ratio, gap))


@jax.jit
def _exact_weight(guidance: "Guidance", level: Array, log_ratio: Array, gap: Array) -> Array:
    return guidance.weight_of_exact(level, log_ratio, gap)


class Guidance(abc.ABC):
    """A guidance schedule.

    Attributes:
        kind: its name in files.
        reference: what D_0 is: "unconditional", or "guide" for a second network (or mixture) under the
            same condition.
        needs_ratio: whether w depends on ℓ; a sampler then tracks it.
        needs_gap: whether w depends on the length of the guidance vector.
    """

    kind: ClassVar[str]
    reference: ClassVar[str] = "unconditional"
    needs_ratio: ClassVar[bool] = False
    needs_gap: ClassVar[bool] = False

    @abc.abstractmethod
    def weight(self, level: Values, log_ratio: Values = 0.0, gap: Values = 0.0) -> Float[Array, "..."]:
        """The weight w; arguments broadcast together.

        Args:
            level: noise levels σ/α.
            log_ratio: ℓ as the schedule keeps it, see `tracked` and `of_exact`; nats.
            gap: length of the guidance vector, ‖D_c - D_0‖ α/σ: that of the difference of the two predicted
                noises, which no scaling of x changes.
        """

    @property
    def is_plain(self) -> bool:
        """Whether w is one everywhere, so that no reference is needed."""
        return False

    @property
    def of_state(self) -> bool:
        """Whether w depends on more than the noise level."""
        return (self.needs_ratio or self.needs_gap) and not self.is_plain

    @property
    def jumps(self) -> tuple[float, ...]:
        """Levels σ/α at which w jumps: exact solvers put steps there."""
        return ()

    def tracked(self, log_ratio: Values, increment: Values) -> Array:
        """ℓ after a step of a sampler over which log p(x|c)/p(x) grew by `increment`; it starts at zero."""
        return jnp.asarray(log_ratio) + increment

    def of_exact(self, log_ratio: Values, steps: Values) -> Values:
        """What takes the place of the tracked ℓ where log p(x_t|c)/p(x_t) itself is known, after `steps` steps."""
        del steps
        return log_ratio

    def weight_of_exact(
        self, level: Values, log_ratio: Values, gap: Values, steps: Values = 0
    ) -> Float[Array, "..."]:
        """The weight where log p(x_t|c)/p(x_t) itself is known, after `steps` steps; see `weight`."""
        return self.weight(level, self.of_exact(log_ratio, steps), gap)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `gmm.guidance_specs.from_dict` is the inverse."""
        fields = {field.name: np.asarray(getattr(self, field.name)).tolist() for field in _fields(self)}
        # JSON has no infinity: an interval without an upper end has null there.
        return {"kind": self.kind} | {k: None if v == math.inf else v for k, v in fields.items()}


G = TypeVar("G", bound=Guidance)


@typing.dataclass_transform(frozen_default=True)
def _schedule(cls: type[G]) -> type[G]:
    """Make `cls` a frozen dataclass and a pytree whose leaves are its fields, see `gmm.process`."""
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    return pytree(*(field.name for field in _fields(cls)))(cls)


def _fields(schedule: Any) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(schedule)


def _is_one(*weights: Any) -> bool:
    return is_concrete(*weights) and all(bool(np.all(np.asarray(w) == 1)) for w in weights)


def _like(level: Values, weight: Any, *others: Values) -> Array:
    """The weight in the precision of the levels, in the shape to which all arguments broadcast."""
    level = as_float(level)
    shape = jnp.broadcast_shapes(*map(jnp.shape, (level, weight, *others)))
    return jnp.broadcast_to(jnp.asarray(weight, level.dtype), shape)


@_schedule
class Unguided(Guidance):
    """w = 1: the plain conditional dynamics."""

    kind: ClassVar[str] = "none"

    @property
    def is_plain(self) -> bool:
        return True

    def weight(self, level: Values, log_ratio: Values = 0.0, gap: Values = 0.0) -> Array:
        return _like(level, 1.0)


@_schedule
class Constant(Guidance):
    """The same w at every level; see `cfg`."""

    kind: ClassVar[str] = "cfg"
    w: float

    @property
    def is_plain(self) -> bool:
        return _is_one(self.w)

    def weight(self, level: Values, log_ratio: Values = 0.0, gap: Values = 0.0) -> Array:
        return _like(level, self.w)


@_schedule
class Autoguidance(Constant):
    """The same w at every level, away from a worse model of the same condition; see `autoguidance`."""

    kind: ClassVar[str] = "auto"
    reference: ClassVar[str] = "guide"


@_schedule
class LimitedInterval(Guidance):
    """w for low < σ/α <= high, else one; see `limited_interval`."""

    kind: ClassVar[str] = "interval"
    w: float
    low: float
    high: float

    @property
    def is_plain(self) -> bool:
        return _is_one(self.w)

    @property
    def jumps(self) -> tuple[float, ...]:
        return float(self.low), float(self.high)

    def weight(self, level: Values, log_ratio: Values = 0.0, gap: Values = 0.0) -> Array:
        inside = (jnp.asarray(level) > self.low) & (jnp.asarray(level) <= self.high)
        return jnp.where(inside, _like(level, self.w), 1)


@_schedule
class Profile(Guidance):
    """w as a function of log(σ/α), linear between nodes and one outside them; see `entropy_timed`."""

    kind: ClassVar[str] = "profile"
    log_level: Float[np.ndarray, " n"]
    w: Float[np.ndarray, " n"]

    @property
    def is_plain(self) -> bool:
        return _is_one(self.w)

    @property
    def jumps(self) -> tuple[float, ...]:
        return tuple(np.exp(np.asarray(self.log_level)[[0, -1]]).tolist())

    def weight(self, level: Values, log_ratio: Values = 0.0, gap: Values = 0.0) -> Array:
        return jnp.interp(jnp.log(jnp.asarray(level)), self.log_level, self.w, left=1.0, right=1.0)


class _OfRatio(Guidance):
    """Schedules of a tracked ratio ℓ that is scaled, shifted at every step, and kept within bounds."""

    needs_ratio: ClassVar[bool] = True
    temperature: float
    offset: float

    @abc.abstractmethod
    def _clamped(self, log_ratio: Values) -> Array:
        """ℓ within its bounds."""

    def tracked(self, log_ratio: Values, increment: Values) -> Array:
        return self._clamped(log_ratio + self.temperature * jnp.asarray(increment) + self.offset)

    def of_exact(self, log_ratio: Values, steps: Values) -> Values:
        ratio = as_float(log_ratio)
        return self.temperature * ratio + self.offset * jnp.asarray(steps, ratio.dtype)


@_schedule
class Feedback(_OfRatio):
    """w = e^ℓ/(e^ℓ - (1-π)): strong where the condition does not hold yet; see `feedback`."""

    kind: ClassVar[str] = "feedback"
    pi: float
    temperature: float
    offset: float
    max_weight: float
    max_log_ratio: float

    def _clamped(self, log_ratio: Values) -> Array:
        # The ℓ at which w is max_weight.
        low = jnp.log1p(-jnp.asarray(self.pi)) - jnp.log1p(-1 / jnp.asarray(self.max_weight))
        return jnp.clip(jnp.asarray(log_ratio), low, self.max_log_ratio)

    def weight(self, level: Values, log_ratio: Values = 0.0, gap: Values = 0.0) -> Array:
        clamped = self._clamped(log_ratio)
        return _like(clamped, -1 / jnp.expm1(jnp.log1p(-self.pi) - clamped), level)


@_schedule
class PowerLaw(Guidance):
    """w = 1 + ω ‖guidance vector‖^a; see `power_law`."""

    kind: ClassVar[str] = "power"
    needs_gap: ClassVar[bool] = True
    omega: float
    exponent: float

    @property
    def is_plain(self) -> bool:
        return is_concrete(self.omega) and bool(np.all(np.asarray(self.omega) == 0))

    def weight(self, level: Values, log_ratio: Values = 0.0, gap: Values = 0.0) -> Array:
        gap = jnp.asarray(gap)
        # A guidance vector of length zero has no effect, whatever its weight; its infinite power must not appear.
        strength = jnp.where(gap > 0, jnp.where(gap > 0, gap, 1) ** self.exponent, 0)
        return _like(gap, 1 + self.omega * strength, level)


@_schedule
class DynamicNegative(_OfRatio):
    """w = -scale P/(1-P), P the posterior of the unwanted condition; see `dynamic_negative`."""

    kind: ClassVar[str] = "dynamic-negative"
    pi: float
    scale: float
    temperature: float
    offset: float
    max_posterior: float

    def _clamped(self, log_ratio: Values) -> Array:
        return jnp.minimum(jnp.asarray(log_ratio), jnp.log(self.max_posterior) - jnp.log(self.pi))

    def weight(self, level: Values, log_ratio: Values = 0.0, gap: Values = 0.0) -> Array:
        clamped = self._clamped(log_ratio)
        posterior = self.pi * jnp.exp(clamped)
        return _like(clamped, -self.scale * posterior / (1 - posterior), level)


# ------------------------------------------------------------------------------------------ constructors of schedules


def unguided() -> Guidance:
    """No guidance, w = 1."""
    return Unguided()


def cfg(w: float) -> Guidance:
    """Classifier-free guidance, the same w at every noise level (Ho, Salimans 2022, eq. 6 with w for 1 + w).

    What image generators call a negative prompt is this schedule with that prompt in the place of the null
    condition: pass its denoiser as the reference (`guide`) of the sampler.

    Args:
        w: any finite number; 1 is the conditional dynamics, 0 the unconditional.

    Raises:
        ValueError: when w is not finite.
    """
    return Constant(_number("w", w))


def negative(w: float) -> Guidance:
    """Guidance away from the condition, D_0 - w (D_c - D_0), at every level (see Koulischer et al. 2024).

    Args:
        w: strength >= 0.

    Raises:
        ValueError: when w is negative or not finite.
    """
    return Constant(-_number("w", w, "finite and >= 0", lambda v: v >= 0))


def autoguidance(w: float) -> Guidance:
    """Guidance by a worse version of the model under the same condition (Karras et al. 2024, arXiv 2406.02507).

    Args:
        w: any finite number; 1 is the model itself.

    Raises:
        ValueError: when w is not finite.
    """
    return Autoguidance(_number("w", w))


def limited_interval(w: float, low: float, high: float) -> Guidance:
    """Guidance for low < σ/α <= high only, else w = 1 (Kynkäänniemi et al. 2024, arXiv 2404.07724).

    Args:
        w: weight inside.
        low: lower end in σ/α, >= 0.
        high: upper end in σ/α, > low; may be infinite.

    Raises:
        ValueError: on a negative level, an empty interval or a weight that is not finite.
    """
    low, high = (_level(name, value) for name, value in (("low", low), ("high", high)))
    if not low < high:
        raise ValueError(f"interval must have low < high (in σ/α), got {low:g} and {high:g}: it is empty")
    return LimitedInterval(_number("w", w), low, high)


def feedback(
    pi: float = 0.9,
    *,
    temperature: float = 1.0,
    offset: float = 0.0,
    max_weight: float = 10.0,
    max_log_ratio: float = LARGEST_LOG_RATIO,
) -> Guidance:
    """Feedback guidance, w = e^ℓ/(e^ℓ - (1-π)) (Koulischer et al. 2025, arXiv 2506.06085).

    The model's conditional law is taken to be p_θ(x|c) = π p(x|c) + (1-π) p(x), and w undoes the admixture. ℓ
    starts at zero, hence w at 1/π, and is tracked as ℓ ← ℓ + temperature · increment + offset, kept between the
    value at which w is `max_weight` and `max_log_ratio`. The offset is one a step, as published: with it a
    schedule belongs to a number of steps.

    Args:
        pi: share of the condition in p_θ, in (0, 1); the published settings have 0.999.
        temperature: factor of every increment, > 0.
        offset: added at every step; negative values strengthen guidance as time goes by.
        max_weight: largest w, > 1/pi.
        max_log_ratio: largest ℓ, > 0.

    Raises:
        ValueError: when a value is outside its range.
    """
    pi = _share("pi", pi)
    least = 1 / pi
    return Feedback(
        pi,
        _number("temperature", temperature, "finite and > 0", lambda v: v > 0),
        _number("offset", offset),
        _number("max_weight", max_weight, f"above 1/pi = {least:g}, where w starts", lambda v: v > least),
        _number("max_log_ratio", max_log_ratio, "finite and > 0", lambda v: v > 0),
    )


def power_law(omega: float, exponent: float = 1.0) -> Guidance:
    """w = 1 + ω g^a, g the length of the guidance vector (Pavasovic et al. 2025, arXiv 2502.07849).

    g = ‖D_c - D_0‖ α/σ, the distance between the two predicted noises. For a > 0 guidance becomes weak where
    the two agree; a = 0 is classifier-free guidance of weight 1 + ω.

    Args:
        omega: ω >= 0.
        exponent: a > -1.

    Raises:
        ValueError: when a value is outside its range.
    """
    omega = _number("omega", omega, "finite and >= 0", lambda v: v >= 0)
    return PowerLaw(omega, _number("exponent", exponent, "finite and > -1", lambda v: v > -1))


def dynamic_negative(
    pi: float,
    *,
    scale: float = 1.0,
    temperature: float = 1.0,
    offset: float = 0.0,
    max_posterior: float = 0.8,
) -> Guidance:
    """Dynamic negative guidance, w = -scale P/(1-P), P = π e^ℓ (Koulischer et al. 2024, arXiv 2410.14398).

    P is the posterior of the unwanted condition. With exact ℓ, scale 1 and no bound on P this is the score of
    everything else, p(x | not c) = (p(x) - π p(x|c))/(1-π): where P is small, guidance is weak.

    Args:
        pi: prior of the unwanted condition, in (0, 1).
        scale: factor of the weight, >= 0.
        temperature: factor of every increment of ℓ, > 0.
        offset: added to ℓ at every step.
        max_posterior: largest P, in (pi, 1).

    Raises:
        ValueError: when a value is outside its range.
    """
    pi = _share("pi", pi)
    return DynamicNegative(
        pi,
        _number("scale", scale, "finite and >= 0", lambda v: v >= 0),
        _number("temperature", temperature, "finite and > 0", lambda v: v > 0),
        _number("offset", offset),
        _number("max_posterior", max_posterior, f"in (pi, 1) = ({pi:g}, 1)", lambda v: pi < v < 1),
    )


def entropy_timed(curve: EntropyCurve, w: float, *, share: float = 0.8, shape: str = "interval") -> Guidance:
    """Guidance in the noise interval in which, by a measured curve, the class is decided.

    Args:
        curve: measured entropy curve of the decision, from whatever source.
        w: weight inside the interval, or at the peak of the profile.
        share: central share of the information that the interval holds, in (0, 1); see `gmm.window`.
        shape: "interval" guides by w inside the window and not outside; "profile" by 1 + (w-1) r/max r with
            r = dH/d log(σ/α), the information gained per noise interval.

    Raises:
        ValueError: when w is not finite, share or shape is unknown, or the curve does not cover its decision.
    """
    w = _number("w", w)
    if choose("shape", shape, SHAPES) == "interval":
        low, _, high = window(curve, share).sigma
        return LimitedInterval(w, low, high)
    order = np.argsort(-curve.log_snr)
    rate = np.maximum(curve.rate_per_log_noise()[0][order], 0)
    if not np.isfinite(rate).all() or rate.max() <= 0:
        raise ValueError(
            "curve must have a finite rate that is positive somewhere for a profile; use shape='interval'"
        )
    return weight_profile(-0.5 * curve.log_snr[order], 1 + (w - 1) * rate / rate.max())


def weight_profile(log_level: Float[ArrayLike, " n"], w: Float[ArrayLike, " n"]) -> Guidance:
    """Any weight as a function of log(σ/α): linear between nodes, one outside them.

    Args:
        log_level: (n,) rising nodes log(σ/α).
        w: (n,) weights there.

    Raises:
        ValueError: on fewer than two nodes, other shapes, values that are not finite or nodes that do not rise.
    """
    nodes, weights = np.array(log_level, np.float64), np.array(w, np.float64)
    if nodes.ndim != 1 or nodes.shape != weights.shape or nodes.size < 2:
        raise ValueError(
            f"log_level and w must have one shape (n,), n >= 2, got {nodes.shape} and {weights.shape}"
        )
    if not (np.isfinite(nodes).all() and np.isfinite(weights).all() and (np.diff(nodes) > 0).all()):
        raise ValueError("log_level and w must be finite and log_level must rise")
    return Profile(nodes, weights)


def _number(
    name: str, value: float, allowed: str = "finite", ok: Callable[[float], bool] = math.isfinite
) -> float:
    if not is_concrete(value):
        return value
    number = float(value)
    if not (math.isfinite(number) and ok(number)):
        raise ValueError(f"{name} must be {allowed}, got {number:g}")
    return number


def _share(name: str, value: float) -> float:
    return _number(name, value, "in (0, 1)", lambda v: 0 < v < 1)


def _level(name: str, value: float) -> float:
    number = float(value)
    if not number >= 0:
        raise ValueError(f"{name} must be a noise level σ/α >= 0, got {number:g}")
    return number
