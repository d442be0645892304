"""Training a small denoiser, and what it is worth: losses at every noise level, and samples judged by their class."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import gmm
from gmm.curve import load_dataset, versions
from gmm.datasets import LabelledData
from gmm.files import alone_in
from neural.models.trained import IMAGE_RANGE
from neural.progress import Progress
from neural.samplers import edm_times, heun
from neural.training import Plan, TrainingState, level_losses, mixture_optimum, nearest_class, train
from neural.training.evaluation import PREDICTIONS
from paper_figures.files import ensure_writable, save_dataset
from paper_figures.studies.cost import operations_per_second
from paper_figures.studies.training_request import Request

FORMAT = "speciation-training/1"
# What a file must hold to be described and drawn.
NAMES = (
    "step_loss", "sigma", "loss", "stderr", "optimum", "excess", "excess_stderr", "points", "prediction",
    "sample_class", "sample_judged", "sample_judged_guided", "command",
    "network", "parameters", "judge_accuracy", "versions",
)  # fmt: skip
EVALUATED = 2048  # points that losses are taken on
CHECKED = 500  # of them, points on which the judge itself is checked
LEVELS = 25
SAMPLES_OF_A_CLASS = 32
SAMPLER_STEPS = 24
GUIDED = 2.0  # guidance scale of the samples that are judged beside the plain ones
STATE, MODEL, RESULT = "state.safetensors", "model.safetensors", "training.nc"
# Share of the rate of large matrix products that training reaches on a CPU.
EFFICIENCY = 0.5


class Samples(NamedTuple):
    """Samples of the network, class by class.

    Attributes:
        states: (n, ...) as the network makes them.
        labels: (n,) the class asked for.
        judged: (n,) the class of the nearest data point, or of the greatest exact posterior.
        judged_guided: (n,) the same of samples from the same noise under the guidance scale `GUIDED`.
        judge_accuracy: share of held-out points whose class the judge finds.
    """

    states: np.ndarray
    labels: np.ndarray
    judged: np.ndarray
    judged_guided: np.ndarray
    judge_accuracy: float


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What a training leaves beside its files: its plan, its results and samples of its network."""

    plan: Plan
    results: xr.Dataset
    samples: Samples


def carry_out(request: Request, folder: Path, command: str, progress: Progress | None = None) -> Trained:
    """Train and evaluate; leave the weights and the results in `folder`.

    Args:
        request: what is trained.
        folder: where files go; a run that was stopped there goes on.
        command: what makes the same again, for the files to name.
        progress: called with the steps that are done and all steps.

    Raises:
        ValueError: for a request out of range, a folder that cannot be written, or one that holds another run.
    """
    plan = request.plan()
    ensure_writable(folder)
    with alone_in(folder):
        return _gone_on_with(request, plan, folder, command, progress)


def _gone_on_with(
    request: Request, plan: Plan, folder: Path, command: str, progress: Progress | None
) -> Trained:
    state, losses = train(plan.task, plan.recipe, kept=folder / STATE, describe=plan.facts, progress=progress)
    dtype = np.dtype(request.store)
    plan.write(folder / MODEL, state.ema, dtype=dtype, command=command, seed=request.seed)
    denoiser = plan.denoiser(_as_stored(state, dtype))
    samples = sampled(plan, denoiser, jax.random.fold_in(jax.random.key(request.seed), 1))
    dataset = _results(plan, request.seed, denoiser, losses, samples).assign_attrs(command=command)
    save_dataset(dataset, folder / RESULT)
    return Trained(plan, load_dataset(folder / RESULT), samples)


def _as_stored(state: TrainingState, dtype: np.dtype) -> dict[str, jax.Array]:
    """The weights as a reader of the file will have them."""
    return {name: jnp.asarray(np.asarray(a).astype(dtype), a.dtype) for name, a in state.ema.items()}


def sampled(plan: Plan, denoiser: Any, key: jax.Array) -> Samples:
    """Samples of every class by Heun's sampler, and the class that the judge gives each."""
    labels = np.repeat(np.arange(len(denoiser.conditions)), SAMPLES_OF_A_CLASS)
    drawing, points = jax.random.split(key)
    noise = jax.random.normal(drawing, (len(labels), *denoiser.state_shape))
    low, high = _range(plan)
    times = edm_times(denoiser.process, SAMPLER_STEPS, sigma_min=low, sigma_max=min(high, 80.0))
    states, guided = (
        np.asarray(heun(denoiser, noise, jnp.asarray(labels), times=times, guide=denoiser, guidance_scale=w))
        for w in (1.0, GUIDED)
    )
    x0, truth = _held_out(plan, points)
    accuracy = float(np.mean(_judged(plan, x0[:CHECKED]) == truth[:CHECKED]))
    return Samples(states, labels, _judged(plan, states), _judged(plan, guided), accuracy)


def _judged(plan: Plan, states: np.ndarray) -> np.ndarray:
    """(n,) the class of each state: that of the greatest exact posterior, or of the nearest data point."""
    x = states.reshape(len(states), -1)
    if plan.family is not None:
        mixture = plan.task.mixture  # type: ignore[union-attr]
        return np.asarray(jnp.argmax(gmm.log_posterior(mixture, jnp.asarray(x)), axis=-1))
    assert plan.data is not None
    return nearest_class(x, plan.data.x, plan.data.y)


def _held_out(plan: Plan, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """States that training has not seen, and their classes."""
    if plan.family is not None:
        x0, labels = gmm.sample(plan.task.mixture, key, EVALUATED)  # type: ignore[union-attr]
        return np.asarray(x0), np.asarray(labels)
    assert plan.held_out is not None
    return _states(plan, plan.held_out)


def _states(plan: Plan, data: LabelledData) -> tuple[np.ndarray, np.ndarray]:
    assert plan.state_map is not None
    evaluated = data.subset(EVALUATED)
    return evaluated.x.reshape(-1, *plan.state_map.state_shape), evaluated.y


def _range(plan: Plan) -> tuple[float, float]:
    config = plan.task.config
    return IMAGE_RANGE if plan.is_image else (config.sigma_min, config.sigma_max)  # type: ignore[union-attr]


def _results(plan: Plan, seed: int, denoiser: Any, losses: np.ndarray, samples: Samples) -> xr.Dataset:
    """Loss by step, losses by noise level, and how many samples are of their class."""
    points, noise, other = jax.random.split(jax.random.key(seed), 3)
    sigmas = np.geomspace(*_range(plan), LEVELS)
    optimum = None
    if plan.family is not None:
        optimum = mixture_optimum(plan.task.mixture)  # type: ignore[union-attr]
    levels = {
        "held out": level_losses(denoiser, *_held_out(plan, points), sigmas, key=noise, optimum=optimum)
    }
    if plan.data is not None:
        levels["training"] = level_losses(denoiser, *_states(plan, plan.data), sigmas, key=other)
    rates = np.asarray(jax.vmap(plan.recipe.schedule())(jnp.arange(1, len(losses) + 1)))
    data: dict[str, Any] = {
        "step_loss": ("step", losses),
        "learning_rate": ("step", rates),
        "sample_class": ("sample", samples.labels),
        "sample_judged": ("sample", samples.judged),
        "sample_judged_guided": ("sample", samples.judged_guided),
    }
    for name in ("loss", "stderr", "optimum", "excess", "excess_stderr"):
        rows = np.stack([getattr(part, name) for part in levels.values()])
        data[name] = (("points", "prediction", "sigma"), rows)
    coordinates = {"points": list(levels), "prediction": list(PREDICTIONS), "sigma": sigmas}
    return xr.Dataset(data, coordinates).assign_attrs(
        format=FORMAT, seed=seed, facts=json.dumps(dict(plan.facts)),
        judge_accuracy=samples.judge_accuracy, versions=json.dumps(versions()),
        network=repr(denoiser), parameters=parameters(plan),
    )  # fmt: skip


def parameters(plan: Plan) -> int:
    """Number of weights of the network."""
    shapes = jax.eval_shape(plan.task.initial, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def cost(plan: Plan) -> tuple[float, float]:
    """Multiplications and additions of the training, and the seconds that they take on this device."""
    operations = 6 * plan.multiply_adds() * plan.recipe.batch * plan.recipe.steps
    return operations, operations / (EFFICIENCY * operations_per_second())


# ------------------------------------------------------------------------------------------- reading results


def share_of_class(dataset: xr.Dataset, judged: str = "sample_judged") -> tuple[float, float]:
    """Share of the samples that are judged to be of the class asked for, and its standard error."""
    hits = (dataset.sample_class == dataset[judged]).values
    return float(hits.mean()), float(np.sqrt(hits.mean() * (1 - hits.mean()) / len(hits)))


def worst_gap(dataset: xr.Dataset) -> xr.DataArray:
    """Largest excess over the optimum for each prediction; NaN where the optimum is not known."""
    held_out = dataset.sel(points="held out")
    return (held_out.excess / held_out.optimum).max("sigma", skipna=False)
