"""Guidance schedules in a diffusers pipeline: `guide_pipeline`."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gmm.guidance import Guidance, cfg

# A pipeline switches its unconditional evaluation off at scales of 1 or less, and then expects other embeddings.
_LEAST = 1 + 1e-6


def guide_pipeline(
    pipeline: Any, guidance: Guidance | float | Callable[[float], float], steps: int
) -> dict[str, Any]:
    """Keyword arguments for a call of a pipeline, which then guides by a schedule: ``pipe(prompt, **arguments)``.

    The scale of the first step is set at once, that of each further step by the callback at the end of the step before.
    Works for pipelines with classifier-free guidance whose scheduler is a chain of betas (Stable Diffusion, SDXL) or
    flow matching (SD3). A scale below 1 becomes 1.000001.

    Args:
        pipeline: the pipeline.
        guidance: a schedule of `gmm` (`gmm.limited_interval`, `gmm.entropy_timed`, one of `gmm.load_guidance`), a
            number, or a function of the level σ/α.
        steps: number of steps.

    Raises:
        ValueError: when the weight depends on the state, which a callback does not see; when the pipeline has no
            callback at the end of a step, or its network is distilled and takes the scale as an input.
    """
    schedule = guidance if isinstance(guidance, Guidance) or callable(guidance) else cfg(guidance)
    if isinstance(schedule, Guidance) and (schedule.needs_ratio or schedule.needs_gap):
        raise ValueError(
            f"guidance must be a function of the noise level alone in a pipeline, got {guidance}"
        )
    if "callback_on_step_end" not in inspect.signature(type(pipeline).__call__).parameters:
        raise ValueError(f"pipeline must have callback_on_step_end, and {type(pipeline).__name__} has not")
    network = getattr(pipeline, "transformer", None)
    if getattr(getattr(network, "config", None), "guidance_embeds", None) is not None:
        raise ValueError(
            f"{type(pipeline).__name__} takes its guidance scale as an input of the network, once for all steps; it "
            "has no classifier-free guidance to schedule"
        )
    weight = schedule.weight if isinstance(schedule, Guidance) else schedule

    def scale(index: int) -> float:
        return max(float(weight(np.float64(_level(pipeline.scheduler, index)))), _LEAST)

    def after_step(pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if index + 1 < len(pipe.scheduler.timesteps):
            pipe._guidance_scale = scale(index + 1)
        return tensors

    first = math.inf
    if _is_chain(pipeline.scheduler):
        pipeline.scheduler.set_timesteps(steps)
        first = _level(pipeline.scheduler, 0)
    return {
        "num_inference_steps": steps,
        "guidance_scale": max(float(weight(np.float64(first))), _LEAST),
        "callback_on_step_end": after_step,
    }


def _is_chain(scheduler: Any) -> bool:
    return getattr(scheduler, "alphas_cumprod", None) is not None


def _level(scheduler: Any, index: int) -> float:
    """σ/α of a step of the sampler; infinite where nothing of the image is left."""
    if not _is_chain(scheduler):
        sigma = float(scheduler.sigmas[index])
        return sigma / (1 - sigma) if sigma < 1 else math.inf
    table = np.asarray(scheduler.alphas_cumprod, np.float64)
    alpha_bar = float(np.interp(float(scheduler.timesteps[index]), np.arange(len(table)), table))
    return math.sqrt((1 - alpha_bar) / alpha_bar) if alpha_bar > 0 else math.inf
