"""Pipelines of diffusers as denoisers: `from_diffusers`.

diffusers is imported when `from_diffusers` is called (extra `diffusers`). `neural.adapters.diffusers_networks` says how
each family of networks is called, `neural.adapters.schedules` what a scheduler's configuration means.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gmm.checks import check_count
from gmm.outside_files import read_outside
from neural.adapters.diffusers_networks import Family, family_of
from neural.adapters.schedules import NoiseSchedule, read_schedule
from neural.denoiser import FunctionDenoiser, State

_MAX_BYTES = 1 << 20
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclasses.dataclass(frozen=True, eq=False)
class DiffusersDenoiser(FunctionDenoiser):
    """A pipeline of diffusers as a denoiser of its latents, NHWC; made by `from_diffusers`.

    `denoise` takes conditions as they were given (prompts or classes) or as `encode` returns them. None stands for the
    empty prompt, or for the null class.

    Attributes:
        pipeline: the pipeline.
        family: how its network is called.
        schedule: its scheduler's noise levels.
        inputs: the network's input for every condition seen so far, by the condition.
    """

    pipeline: Any = None
    family: Any = None
    schedule: Any = None
    inputs: Any = None

    def encode(self, conditions: Sequence[Any]) -> Int[Array, " K"]:
        """Numbers of conditions; each new prompt is encoded once by the pipeline's own text encoders."""
        for condition in conditions:
            if condition not in self.inputs:
                self.inputs[condition] = self.family.encode(self.pipeline, condition)
        known = list(self.inputs)
        return jnp.asarray([known.index(condition) for condition in conditions])

    def denoise(self, x: State, t: Any, condition: Any = None) -> State:
        """E[x_0 | x_t, condition] of latents (n, H, W, C) at the process's time t."""
        return self.to_x0(x, t, self.output(x, t, self._numbers(condition)))

    def denoise_classes(self, x: State, t: Any, conditions: Int[Array, " K"]) -> Float[Array, "n K ..."]:
        """E[x_0 | x_t, condition] of every state under each of K conditions, in one batch of n·K rows."""
        count, t = len(conditions), jnp.asarray(t)
        rows, numbers = jnp.repeat(x, count, axis=0), jnp.tile(conditions, len(x))
        times = jnp.repeat(t, count) if t.ndim else t
        denoised = self.to_x0(rows, times, self.output(rows, times, numbers))
        return denoised.reshape(len(x), count, *x.shape[1:])

    def pictures(self, x: State) -> np.ndarray:
        """Pictures (n, H, W, 3) in [0, 1] of latents (n, H, W, C), by the pipeline's own autoencoder."""
        torch = importlib.import_module("torch")
        vae = self.pipeline.vae
        parameter, config = next(vae.parameters()), vae.config
        latents = torch.from_numpy(np.array(x, np.float32)).permute(0, 3, 1, 2)
        latents = latents.to(parameter.device, parameter.dtype) / config.scaling_factor
        with torch.no_grad():
            raw = vae.decode(latents + (getattr(config, "shift_factor", None) or 0.0), return_dict=False)[0]
        return np.clip(raw.permute(0, 2, 3, 1).to("cpu", torch.float32).numpy() / 2 + 0.5, 0, 1)

    def _numbers(self, condition: Any) -> Any:
        if condition is None or isinstance(condition, str):
            return self.encode([self.family.null if condition is None else condition])[0]
        if isinstance(condition, Sequence):
            return self.encode(condition)
        return condition


def from_diffusers(
    source: Any,
    conditions: Sequence[Any],
    *,
    height: int | None = None,
    width: int | None = None,
    embedded_guidance: float = 1.0,
    device: Any = None,
    dtype: Any = None,
    batch: int | None = None,
    data_range: tuple[float, float] | None = None,
) -> DiffusersDenoiser:
    """A denoiser from a pipeline of diffusers: Stable Diffusion 1.x and 2.x, SDXL, SD3, Flux, PixArt or DiT.

    States are the latents that the network works on, NHWC. The process follows from the scheduler's configuration
    (prediction type, betas, zero terminal SNR; flow matching): t is the timestep 0..N-1 of chains, and 0..1 of flow
    matching, where the network's timestep is 1000 t whatever the `shift`, which only places the sampler's steps
    (`denoiser.schedule.times(steps)`). At zero terminal SNR the last timestep, where nothing of the image is left, is
    not part of the process.

    Args:
        source: a pipeline; a folder that `DiffusionPipeline.from_pretrained` reads; or the name of one on the Hugging
            Face hub, "owner/name", which diffusers downloads unless it is there already. Weights are read from
            safetensors alone.
        conditions: prompts, or class labels for DiT.
        height: of the images in pixels; by default that of the pipeline.
        width: likewise.
        embedded_guidance: of distilled networks (Flux), which take a guidance scale as an input: E[x_0 | x_t] is then
            that of the guided law which the network was distilled from, and its posterior is that law's.
        device: torch device to move the pipeline to; by default as it is.
        dtype: torch dtype, likewise.
        batch: largest number of rows in one call of the network; by default all.
        data_range: (low, high) to clip E[x_0 | x_t] to; see `neural.from_function`.

    Raises:
        ValueError: for a pipeline or a scheduler that is none of these, with the way out; for conditions of another
            kind.
        ModuleNotFoundError: when diffusers is not installed.
    """
    pipeline = _load(source, dtype)
    if device is not None:
        pipeline.to(device)
    if batch is not None:
        check_count("batch", batch)
    family = family_of(pipeline, height, width, embedded_guidance)
    schedule = read_schedule(dict(pipeline.scheduler.config))
    conditions = list(conditions)
    if not conditions:
        raise ValueError("conditions must name at least one condition, got none")
    inputs = {c: family.encode(pipeline, c) for c in dict.fromkeys([*conditions, family.null])}
    return DiffusersDenoiser(
        function=_host_function(pipeline, family, schedule, inputs, batch),
        process=schedule.process,
        conditions=tuple(conditions),
        state_shape=family.state_shape,
        traceable=False,
        has_unconditional=True,
        prediction=schedule.prediction,
        data_range=data_range,
        pipeline=pipeline,
        family=family,
        schedule=schedule,
        inputs=inputs,
    )


def _load(source: Any, dtype: Any) -> Any:
    if not isinstance(source, str | os.PathLike):
        return source if dtype is None else source.to(dtype)
    try:
        diffusers = importlib.import_module("diffusers")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "from_diffusers needs diffusers; run: python -m pip install diffusers transformers torch"
        ) from error
    path = Path(source).expanduser()
    if not path.exists() and isinstance(source, str) and _HUB_NAME.fullmatch(source):
        path = _downloaded(diffusers, source)
    if not (path / "model_index.json").is_file():
        raise ValueError(
            "source must be a pipeline, a folder with model_index.json or a name of the Hugging Face hub "
            f"(owner/name), got {os.fspath(source)!r}"
        )
    options = {} if dtype is None else {"torch_dtype": dtype}
    # Parts that a folder leaves out (SD3 without T5) are named as None; weights in pickles are not read.
    index = json.loads(read_outside(path / "model_index.json", _MAX_BYTES))
    options |= {name: None for name, part in index.items() if part == [None, None]}
    options |= {"local_files_only": True, "use_safetensors": True}
    with _quiet():
        return diffusers.DiffusionPipeline.from_pretrained(str(path), **options)


def _downloaded(diffusers: Any, name: str) -> Path:
    """The folder of a pipeline of the Hugging Face hub."""
    try:
        return Path(diffusers.DiffusionPipeline.download(name, use_safetensors=True))
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"source {name!r} is no folder, and diffusers cannot get it: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of loading, and what diffusers and transformers say of their own later releases."""
    logging = [importlib.import_module(f"{name}.utils.logging") for name in ("diffusers", "transformers")]
    shown = [module.is_progress_bar_enabled() for module in logging]
    for module in logging:
        module.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for module, was in zip(logging, shown, strict=True):
            if was:
                module.enable_progress_bar()


def _host_function(
    pipeline: Any, family: Family, schedule: NoiseSchedule, inputs: Any, batch: int | None
) -> Any:
    """The network as a function of NumPy arrays x (n, H, W, C), t () or (n,) and numbers of conditions."""
    torch = importlib.import_module("torch")
    network = family.network(pipeline)
    network.eval()
    parameter = next(network.parameters())

    def call(x: np.ndarray, t: np.ndarray, number: np.ndarray) -> np.ndarray:
        known, n = list(inputs.values()), len(x)
        numbers = np.broadcast_to(number, n)
        states = (
            torch.from_numpy(np.array(x))
            .permute(0, 3, 1, 2)
            .contiguous()
            .to(parameter.device, parameter.dtype)
        )
        times = torch.from_numpy(np.broadcast_to(t, n).astype(np.float32) * schedule.timestep_scale)
        times = times.to(parameter.device)
        outputs, size = [], n if batch is None else batch
        with torch.no_grad():
            for start in range(0, n, size):
                rows = slice(start, start + size)
                chosen = [known[i] for i in numbers[rows]]
                outputs.append(family.call(network, states[rows], times[rows], chosen))
        return torch.cat(outputs).permute(0, 2, 3, 1).to("cpu", torch.float32).numpy()

    return call
