"""The chain of noise levels that a scheduler's configuration describes, and what its network predicts.

The tables of betas are those of diffusers' schedulers, in float64. Which scheduler it is matters only through its
kind: schedulers of one chain of betas differ in how they step, not in what x_t is. Schedulers of other kinds
(flow matching, EDM, consistency models) have other states x_t or other networks, and are refused by name.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gmm.process import DDPM, ddpm, scaled_linear_betas
from neural.stable_diffusion.settings import SCHEDULER_SETTINGS, check_settings

EPSILON, VELOCITY, SAMPLE = "epsilon", "v", "sample"
PREDICTIONS = (EPSILON, VELOCITY, SAMPLE)
"""What a network may predict: the noise ε, v = α ε - σ x_0 (Salimans & Ho 2022, arXiv 2202.00512), or x_0."""
SPELLINGS = {
    "epsilon": EPSILON, "eps": EPSILON,
    "v_prediction": VELOCITY, "v": VELOCITY, "v-prediction": VELOCITY, "velocity": VELOCITY,
    "sample": SAMPLE, "x0": SAMPLE,
}  # fmt: skip
"""How files spell them."""

_LINEAR = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
_NARROW = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""Where no scheduler is named."""
CHAINS: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(
        (
            "DDIMInverseScheduler", "DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler",
            "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepInverseScheduler",
            "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler",
            "EulerDiscreteScheduler", "LMSDiscreteScheduler", "PNDMScheduler", "SASolverScheduler",
            "UniPCMultistepScheduler",
        ),
        _LINEAR,
    ),
    **dict.fromkeys(
        (
            "DPMSolverSDEScheduler", "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
            "KDPM2DiscreteScheduler",
        ),
        _NARROW,
    ),
}  # fmt: skip
"""Schedulers of one chain of betas, with the values that diffusers gives to settings that the file leaves out."""

NEARLY_ZERO = 2.0**-48
"""ᾱ of the last step where its SNR is zero: the log SNR stays finite, and float32 results are those of zero."""
NEARLY_ZERO_SIGMA = 2.0**-24
"""The same for the schedulers that step in σ/α, whose code takes this value."""
SIGMA_SCHEDULERS = (
    "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler",
    "UniPCMultistepScheduler",
)  # fmt: skip
STEPS = 1000
MAX_STEPS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Noise:
    """The forward process of a checkpoint, and which of `PREDICTIONS` its network makes."""

    process: DDPM
    prediction: str


def read_scheduler(options: Mapping[str, Any], prediction: str | None = None) -> Noise:
    """The process and the prediction of a scheduler's configuration.

    Args:
        options: entries of the configuration; empty where there is none.
        prediction: of the network, in place of what the configuration says.

    Raises:
        ValueError: for a scheduler of another kind or a setting that is not supported, by name.
    """
    cls = options.get("_class_name")
    if cls is not None and cls not in CHAINS:
        raise ValueError(f"the scheduler is {_described(cls)}; {_ALLOWED}")
    check_settings("scheduler", options, SCHEDULER_SETTINGS)
    said = options.get("prediction_type") or EPSILON
    chosen = prediction or (SPELLINGS.get(said) if isinstance(said, str) else None)
    if chosen not in PREDICTIONS:
        raise ValueError(f"scheduler: prediction_type must be epsilon, v_prediction or sample, got {said!r}")
    full = {**CHAINS.get(str(cls), STABLE_DIFFUSION), **options}
    try:
        betas = _betas(full)
        if options.get("rescale_betas_zero_snr"):
            if chosen == EPSILON:
                raise ValueError(
                    "scheduler: rescale_betas_zero_snr needs prediction_type v_prediction or sample, because the "
                    "noise does not determine x_0 where the SNR is zero; got epsilon"
                )
            last = NEARLY_ZERO_SIGMA if cls in SIGMA_SCHEDULERS else NEARLY_ZERO
            betas = zero_terminal_snr(betas, last)
        return Noise(ddpm(betas), chosen)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"the scheduler's betas are no table: {error}") from error


_ALLOWED = "a chain of betas is needed (DDPM, DDIM, PNDM, Euler, DPM-Solver, UniPC, ...)"
_KINDS = {
    "Flow": "which is for flow matching: x_t = (1 - σ) x_0 + σ ε",
    "EDM": "which is for networks preconditioned as in EDM",
    "Cosine": "which is for networks preconditioned as in EDM",
    "LCM": "which is for consistency models, whose output is no mean of x_0",
    "TCD": "which is for consistency models, whose output is no mean of x_0",
    "CM": "which is for consistency models, whose output is no mean of x_0",
}


def _described(cls: object) -> str:
    name = ascii(cls)[:60].strip("'")
    return next((f"{name}, {kind}" for start, kind in _KINDS.items() if name.startswith(start)), name)


def _betas(options: Mapping[str, Any]) -> np.ndarray:
    steps = options.get("num_train_timesteps", STEPS)
    if type(steps) is not int or not 2 <= steps <= MAX_STEPS:
        raise ValueError(
            f"scheduler: num_train_timesteps must be an integer in 2..{MAX_STEPS}, got {steps!r}"
        )
    trained = options.get("trained_betas")
    if trained is not None:
        betas = np.asarray(trained, np.float64)
        if betas.shape != (steps,):
            raise ValueError(
                f"scheduler: trained_betas must be {steps} numbers, as num_train_timesteps, got shape {betas.shape}"
            )
        return betas
    schedule = options["beta_schedule"]
    make = SCHEDULES.get(schedule) if isinstance(schedule, str) else None
    if make is None:
        raise ValueError(f"scheduler: beta_schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    return make(_number("beta_start", options), _number("beta_end", options), steps)


def _number(name: str, options: Mapping[str, Any]) -> float:
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError(f"scheduler: {name} must be a number in (0, 1), got {value!r}")
    return float(value)


def _sigmoid(start: float, stop: float, steps: int) -> np.ndarray:
    return start + (stop - start) / (1 + np.exp(-np.linspace(-6, 6, steps)))


def _from_alpha_bar(alpha_bar: Callable[[float], float]) -> Callable[[float, float, int], np.ndarray]:
    """Betas of at most 0.999 from a function ᾱ on [0, 1] (Nichol & Dhariwal 2021, arXiv 2102.09672)."""

    def make(_start: float, _stop: float, steps: int) -> np.ndarray:
        values = np.array([alpha_bar(step / steps) for step in range(steps + 1)])
        return np.minimum(1 - values[1:] / values[:-1], 0.999)

    return make


def _cosine(t: float) -> float:
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2


def _laplace(t: float) -> float:
    log_snr = -0.5 * math.copysign(1, 0.5 - t) * math.log(1 - 2 * abs(0.5 - t) + 1e-6)
    return math.sqrt(1 / (1 + math.exp(-log_snr)))


SCHEDULES: Mapping[str, Callable[[float, float, int], np.ndarray]] = {
    "scaled_linear": scaled_linear_betas,
    "linear": np.linspace,
    "squaredcos_cap_v2": _from_alpha_bar(_cosine),
    "sigmoid": _sigmoid,
    "laplace": _from_alpha_bar(_laplace),
    "exp": _from_alpha_bar(lambda t: math.exp(-12 * t)),
}


def zero_terminal_snr(betas: np.ndarray, last: float = NEARLY_ZERO) -> np.ndarray:
    """Betas shifted so that the last state is noise alone, its ᾱ equal to `last` (Lin et al. 2024, arXiv 2305.08891).

    √ᾱ is moved down by its last value, then scaled so that its first value is what it was.
    """
    root = np.sqrt(np.cumprod(1 - betas))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = np.append(root[:-1] ** 2, last)
    return 1 - alpha_bar / np.append(1, alpha_bar[:-1])
