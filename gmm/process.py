r"""Forward processes x_t = α(t) x_0 + σ(t) ε, ε ~ N(0, I).

Notation, used in the whole project::

    γ(t) = α²/σ²            snr, falls as t grows          λ = log γ   log_snr
    dx = f(t) x dt + g(t) dW    f = α'/α  drift,   g² = -σ² dλ/dt  diffusion (g itself)

A posterior entropy depends on t through γ alone, so curves of different processes share the axes λ and
σ/α = e^{-λ/2}. With drift f and diffusion g: α' = fα, (σ²)' = 2fσ² + g² and dγ/dt = -g²α²/σ⁴.
"""

import abc
import dataclasses
import typing
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from gmm.checks import as_float, check_count, check_values, common_dtype, is_concrete, may_be_infinite, padded
from gmm.pytree import pytree

Time = Float[ArrayLike, "..."]
LogSnr = Float[ArrayLike, "..."]
Values = Float[Array, "..."]


class Process(abc.ABC):
    """A forward process; methods take times of any shape and return arrays of that shape.

    Attributes:
        name: the process's name on the command line.
        t_min, t_max: ends of the time range. An end at which log_snr is infinite is a limit: densities
            exist there, points of curves do not.
        time_range: the times at which log_snr is finite, in words.
    """

    name: ClassVar[str]
    time_range: ClassVar[str] = "0 < t < inf"

    @property
    def t_min(self) -> float:
        """Start of the time range."""
        return 0.0

    @property
    def t_max(self) -> float:
        """End of the time range."""
        return float("inf")

    @abc.abstractmethod
    def alpha(self, t: Time) -> Values:
        """Signal scale α(t)."""

    @abc.abstractmethod
    def sigma(self, t: Time) -> Values:
        """Noise standard deviation σ(t)."""

    @abc.abstractmethod
    def log_snr(self, t: Time) -> Values:
        """log γ(t) = 2 log(α/σ), computed without forming γ."""

    @abc.abstractmethod
    def drift(self, t: Time) -> Values:
        """Coefficient f(t) of the drift f(t) x."""

    @abc.abstractmethod
    def diffusion(self, t: Time) -> Values:
        """Diffusion coefficient g(t), a standard deviation per square root of time."""

    @abc.abstractmethod
    def time_at_log_snr(self, v: LogSnr) -> Values:
        """The time at which log_snr equals v: the inverse of `log_snr`."""

    def snr(self, t: Time) -> Values:
        """Signal-to-noise ratio γ(t) = α²/σ²."""
        return jnp.exp(self.log_snr(t))

    @may_be_infinite
    def check_times(self, t: Time, name: str = "times") -> None:
        """Raise ValueError when a concrete time is outside the range or has infinite log_snr."""
        if not is_concrete(t, self):
            return
        times = np.asarray(t, np.float64)
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            inside = (times >= self.t_min) & (times <= self.t_max)
            log_snr = np.asarray(self.log_snr(padded(np.where(inside, times, 1.0))))
        finite = np.isfinite(log_snr[: times.size]).reshape(times.shape)
        usable = np.where(finite & inside, times, np.nan)
        allowed = f"in the range of {self.name}, {self.time_range}"
        check_values(name, times, allowed, lambda a: np.isfinite(usable) & np.isfinite(a))

    def describe(self) -> str:
        """The constructor call, e.g. ``vp_linear(beta_min=0.1, beta_max=20.0)``; kept with results."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        shown = ", ".join(f"{key}={value}" for key, value in fields.items())
        return f"{self.name}({shown})"


P = TypeVar("P", bound="Process")


@typing.dataclass_transform(frozen_default=True)
def _process(cls: type[P]) -> type[P]:
    """Make `cls` a frozen dataclass and a pytree whose leaves are its fields.

    Not by `jax.tree_util.register_dataclass`: the structures of two of its classes with equally many fields
    compare equal (jax 0.10.2), and then jit now and then runs the program of one process for another.

    Each function of time is one compiled program, where evaluating it step by step would compile every step.
    """
    for name in Process.__abstractmethods__:
        setattr(cls, name, jax.jit(getattr(cls, name)))
    cls = dataclasses.dataclass(frozen=True)(cls)
    return pytree(*(field.name for field in dataclasses.fields(cls)))(cls)  # type: ignore[arg-type]


@_process
class VP(Process):
    """Ornstein-Uhlenbeck clock, dx = -x dt + √2 dW: the clock of the logarithmic-time law."""

    name: ClassVar[str] = "vp"

    def alpha(self, t: Time) -> Values:
        return jnp.exp(-as_float(t))

    def sigma(self, t: Time) -> Values:
        return jnp.sqrt(-jnp.expm1(-2 * as_float(t)))

    def log_snr(self, t: Time) -> Values:
        t = as_float(t)
        return -2 * t - jnp.log(-jnp.expm1(-2 * t))

    def drift(self, t: Time) -> Values:
        return -jnp.ones_like(as_float(t))

    def diffusion(self, t: Time) -> Values:
        return jnp.full_like(as_float(t), np.sqrt(2))

    def time_at_log_snr(self, v: LogSnr) -> Values:
        return 0.5 * jax.nn.softplus(-as_float(v))


@_process
class VPLinear(Process):
    """Variance preserving with β(t) = beta_min + (beta_max - beta_min) t on [0, 1]."""

    name: ClassVar[str] = "vp_linear"
    time_range: ClassVar[str] = "0 < t <= 1"
    beta_min: float = 0.1
    beta_max: float = 20.0

    @property
    def t_max(self) -> float:
        return 1.0

    def _beta(self, t: Time) -> Values:
        return self.beta_min + (self.beta_max - self.beta_min) * as_float(t)

    def _integral(self, t: Time) -> Values:
        """∫_0^t β, equal to -2 log α."""
        t = as_float(t)
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    def alpha(self, t: Time) -> Values:
        return jnp.exp(-0.5 * self._integral(t))

    def sigma(self, t: Time) -> Values:
        return jnp.sqrt(-jnp.expm1(-self._integral(t)))

    def log_snr(self, t: Time) -> Values:
        integral = self._integral(t)
        return -integral - jnp.log(-jnp.expm1(-integral))

    def drift(self, t: Time) -> Values:
        return -0.5 * self._beta(t)

    def diffusion(self, t: Time) -> Values:
        return jnp.sqrt(self._beta(t))

    def time_at_log_snr(self, v: LogSnr) -> Values:
        integral = jax.nn.softplus(-as_float(v))
        slope = self.beta_max - self.beta_min
        # The root of ½ slope t² + beta_min t = integral, in the form that does not cancel.
        return 2 * integral / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2 * slope * integral))


@_process
class VE(Process):
    """Variance exploding on Brownian time: α = 1, σ = √t."""

    name: ClassVar[str] = "ve"

    def alpha(self, t: Time) -> Values:
        return jnp.ones_like(as_float(t))

    def sigma(self, t: Time) -> Values:
        return jnp.sqrt(as_float(t))

    def log_snr(self, t: Time) -> Values:
        return -jnp.log(as_float(t))

    def drift(self, t: Time) -> Values:
        return jnp.zeros_like(as_float(t))

    def diffusion(self, t: Time) -> Values:
        return jnp.ones_like(as_float(t))

    def time_at_log_snr(self, v: LogSnr) -> Values:
        return jnp.exp(-as_float(v))


@_process
class EDM(Process):
    """Karras et al. 2022: α = 1 and time is the noise standard deviation, σ = t."""

    name: ClassVar[str] = "edm"

    def alpha(self, t: Time) -> Values:
        return jnp.ones_like(as_float(t))

    def sigma(self, t: Time) -> Values:
        return as_float(t)

    def log_snr(self, t: Time) -> Values:
        return -2 * jnp.log(as_float(t))

    def drift(self, t: Time) -> Values:
        return jnp.zeros_like(as_float(t))

    def diffusion(self, t: Time) -> Values:
        return jnp.sqrt(2 * as_float(t))

    def time_at_log_snr(self, v: LogSnr) -> Values:
        return jnp.exp(-0.5 * as_float(v))


@_process
class Flow(Process):
    """Rectified flow / flow matching: α = 1 - t, σ = t on [0, 1]."""

    name: ClassVar[str] = "flow"
    time_range: ClassVar[str] = "0 < t < 1"

    @property
    def t_max(self) -> float:
        return 1.0

    def alpha(self, t: Time) -> Values:
        return 1 - as_float(t)

    def sigma(self, t: Time) -> Values:
        return as_float(t)

    def log_snr(self, t: Time) -> Values:
        t = as_float(t)
        return 2 * (jnp.log1p(-t) - jnp.log(t))

    def drift(self, t: Time) -> Values:
        return -1 / (1 - as_float(t))

    def diffusion(self, t: Time) -> Values:
        t = as_float(t)
        return jnp.sqrt(2 * t / (1 - t))

    def time_at_log_snr(self, v: LogSnr) -> Values:
        return jax.nn.sigmoid(-0.5 * as_float(v))


@_process
class DDPM(Process):
    """A discrete beta table; t is the index 0..N-1 and log_snr is linear between indices.

    Attributes:
        log_snr_table: (N,) log ᾱ/(1-ᾱ), strictly decreasing. Build it with `ddpm`.
    """

    name: ClassVar[str] = "ddpm"
    time_range: ClassVar[str] = "0 <= t <= N-1"
    log_snr_table: Float[Array, " n"]

    @property
    def t_max(self) -> float:
        return float(self.log_snr_table.shape[0] - 1)

    def _slope(self, t: Time) -> Values:
        """dλ/dt, piecewise constant, continuous from the right."""
        cell = jnp.clip(jnp.floor(as_float(t)).astype(int), 0, self.log_snr_table.shape[0] - 2)
        return jnp.diff(self.log_snr_table)[cell]

    def alpha(self, t: Time) -> Values:
        return jnp.sqrt(jax.nn.sigmoid(self.log_snr(t)))

    def sigma(self, t: Time) -> Values:
        return jnp.sqrt(jax.nn.sigmoid(-self.log_snr(t)))

    def log_snr(self, t: Time) -> Values:
        t = as_float(t)
        table = self.log_snr_table.astype(common_dtype(t, self.log_snr_table))
        cell = jnp.clip(jnp.floor(t).astype(int), 0, table.shape[0] - 2)
        return table[cell] + (t - cell.astype(t.dtype)).astype(table.dtype) * jnp.diff(table)[cell]

    def drift(self, t: Time) -> Values:
        return 0.5 * jax.nn.sigmoid(-self.log_snr(t)) * self._slope(t)

    def diffusion(self, t: Time) -> Values:
        return self.sigma(t) * jnp.sqrt(-self._slope(t))

    def time_at_log_snr(self, v: LogSnr) -> Values:
        table = self.log_snr_table
        index = jnp.arange(table.shape[0], dtype=table.dtype)
        return jnp.interp(as_float(v), table[::-1], index[::-1])

    def describe(self) -> str:
        table = np.asarray(self.log_snr_table)
        return f"ddpm(steps={len(table)}, log_snr={table[0]:.6g}..{table[-1]:.6g})"


def vp() -> VP:
    """The Ornstein-Uhlenbeck process, α = e^{-t}, σ² = 1 - e^{-2t}, t > 0."""
    return VP()


def vp_linear(beta_min: float = 0.1, beta_max: float = 20.0) -> VPLinear:
    """Variance preserving with linear β on [0, 1] (Song et al. 2021).

    Raises:
        ValueError: unless 0 <= beta_min <= beta_max < inf and beta_max > 0.
    """
    if is_concrete(beta_min, beta_max) and not (0 <= beta_min <= beta_max < np.inf and beta_max > 0):
        allowed = "0 <= beta_min <= beta_max < inf and beta_max > 0"
        raise ValueError(f"betas must satisfy {allowed}, got {beta_min} and {beta_max}")
    return VPLinear(beta_min, beta_max)


def ve() -> VE:
    """Variance exploding, α = 1, σ = √t, t > 0."""
    return VE()


def edm() -> EDM:
    """Karras et al.'s process, α = 1, σ = t, t > 0; 0.002..80 is only the samplers' grid."""
    return EDM()


def flow() -> Flow:
    """Rectified flow, α = 1 - t, σ = t on [0, 1]."""
    return Flow()


def ddpm(betas: Float[ArrayLike, " n"]) -> DDPM:
    """A discrete chain ᾱ_n = Π(1-β_i); Stable Diffusion 1.5's is `scaled_linear_betas()`.

    Args:
        betas: (N,), N >= 2, every β in (0, 1).

    Raises:
        ValueError: when betas has another shape or range.
    """
    betas64 = np.asarray(betas, np.float64)
    if betas64.ndim != 1 or betas64.size < 2:
        raise ValueError(f"betas must have shape (N,) with N >= 2, got {betas64.shape}")
    check_values("betas", betas64, "in (0, 1)", lambda b: (b > 0) & (b < 1))
    # float64 on the host: log ᾱ/(1-ᾱ) of a float32 cumulative product loses three digits.
    log_alpha_bar = np.cumsum(np.log1p(-betas64))
    return DDPM(jnp.asarray(log_alpha_bar - np.log(-np.expm1(log_alpha_bar))))


def scaled_linear_betas(start: float = 0.00085, stop: float = 0.012, steps: int = 1000) -> np.ndarray:
    """Stable Diffusion's "scaled linear" table: β linear in its square root."""
    check_count("steps", steps, 2)
    return np.linspace(np.sqrt(start), np.sqrt(stop), steps) ** 2


PROCESSES = {"vp": vp, "vp_linear": vp_linear, "ve": ve, "edm": edm, "flow": flow}
"""Continuous processes by their command-line name."""
