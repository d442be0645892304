"""A diffusers scheduler's configuration as a forward process, what the network predicts, and the sampler's times."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

import gmm
from gmm.process import DDPM, Process

_PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0", "flow_prediction": "velocity"}
_LARGEST_BETA = 0.999  # of the cosine schedule


@dataclasses.dataclass(frozen=True)
class NoiseSchedule:
    """What a scheduler's configuration says.

    Attributes:
        process: forward process.
        prediction: what the network predicts, one of `neural.predictions.PREDICTIONS`.
        timestep_scale: the network's timestep in units of the process's time.
        shift: of flow matching: a sampler's equal steps u become shift u/(1 + (shift - 1) u).
    """

    process: Process
    prediction: str
    timestep_scale: float
    shift: float = 1.0

    def times(self, steps: int) -> np.ndarray:
        """(steps,) falling times: equal steps of the process's time; shifted, and without t = 0, for flow matching."""
        first, last = self.process.t_max, self.process.t_min
        if not isinstance(self.process, DDPM):
            grid = np.linspace(first, last, steps + 1)[:-1]
            shifted = self.shift * grid / (1 + (self.shift - 1) * grid)
            return np.minimum(shifted, 1 - 1 / 1000)
        return np.linspace(first, last, steps)


def read_schedule(config: Mapping[str, Any]) -> NoiseSchedule:
    """The schedule of a scheduler's configuration.

    Raises:
        ValueError: for a configuration that is neither a chain of betas nor flow matching; for "epsilon" at zero
            terminal SNR, where a network's output does not determine x_0.
    """
    is_chain = "beta_schedule" in config or config.get("trained_betas") is not None
    by_flow = config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction"
    if by_flow or (not is_chain and "shift" in config):
        return NoiseSchedule(gmm.flow(), "velocity", 1000.0, _shift(config))
    if not is_chain:
        raise ValueError(
            "the scheduler must have betas or be one of flow matching; wrap the network with neural.from_torch, got "
            f"{config.get('_class_name', sorted(config))}"
        )
    prediction = _PREDICTIONS.get(config.get("prediction_type") or "epsilon")
    if prediction is None:
        raise ValueError(
            f"prediction_type must be one of {', '.join(_PREDICTIONS)}, got {config['prediction_type']!r}"
        )
    betas = _betas(config)
    if not config.get("rescale_betas_zero_snr"):
        return NoiseSchedule(gmm.ddpm(betas), prediction, 1.0)
    if prediction == "eps":
        raise ValueError(
            'rescale_betas_zero_snr with prediction_type "epsilon": at zero signal-to-noise ratio an eps-prediction '
            "does not determine x_0; use the scheduler that the network was trained with"
        )
    log_alpha_bar = 2 * np.log(_without_signal(betas)[:-1])
    return NoiseSchedule(DDPM(jnp.asarray(log_alpha_bar - np.log(-np.expm1(log_alpha_bar)))), prediction, 1.0)


def _shift(config: Mapping[str, Any]) -> float:
    """The static shift; a dynamic one at the configuration's base length of the sequence."""
    if config.get("use_dynamic_shifting"):
        return math.exp(config.get("base_shift", 0.5))
    return float(config.get("shift", config.get("flow_shift", 1.0)) or 1.0)


def _betas(config: Mapping[str, Any]) -> np.ndarray:
    if config.get("trained_betas") is not None:
        return np.asarray(config["trained_betas"], np.float64)
    kind, steps = config["beta_schedule"], int(config.get("num_train_timesteps", 1000))
    start, stop = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    if kind == "linear":
        return np.linspace(start, stop, steps)
    if kind == "scaled_linear":
        return gmm.scaled_linear_betas(start, stop, steps)
    if kind == "squaredcos_cap_v2":
        # Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17.
        t = np.arange(steps + 1) / steps
        alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], _LARGEST_BETA)
    raise ValueError(f"beta_schedule must be linear, scaled_linear or squaredcos_cap_v2, got {kind!r}")


def _without_signal(betas: np.ndarray) -> np.ndarray:
    """√ᾱ shifted and scaled to end at zero and begin where it did (Lin et al. 2024, arXiv 2305.08891, algorithm 1)."""
    root = np.exp(0.5 * np.cumsum(np.log1p(-betas)))
    return (root - root[-1]) * root[0] / (root[0] - root[-1])
