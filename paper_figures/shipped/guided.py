"""Guidance on trained networks, measured once and shipped: schedules by what they produce, gain and cost; grids.

    python -m paper_figures.shipped.measure guided-digits
    python -m paper_figures.shipped.measure guided-tree

make the files again.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

import gmm
from gmm.curve import EntropyCurve
from gmm.estimate import Estimate
from gmm.guidance import Guidance
from neural.estimators import online_entropy
from neural.models import Model, load_model
from neural.quality import Judge, judge_of, sample_quality
from neural.samplers import edm_times, heun
from paper_figures.formats.curves import stack

NAMES = ("digits", "tree")
KINDS = ("cfg", "window", "profile", "above", "below", "feedback", "power")
GRIDS = ("edm", "log-snr", "entropic", "mixed")
WEIGHTS = (2.0, 4.0)
GRID_STEPS = (4, 8, 16, 32)
SHOWN = ("none", "cfg 2", "cfg 4", "window 4", "below 4")
# Of the digits' judge: data points need a width; at this one it is the class of the nearest point.
JUDGE_LEVEL = 0.3
CURVE_LEVELS = 40
SIZES = {  # trajectories of a curve, samples of a class, their steps, samples on a grid
    "digits": (128, 32, 32, 256),
    "tree": (384, 96, 96, 1024),
}


def schedules(curve: EntropyCurve, w: float) -> dict[str, Guidance]:
    """One schedule of each kind, of strength w, timed by a measured curve."""
    low, _, high = gmm.window(curve).sigma
    return {
        "cfg": gmm.cfg(w),
        "window": gmm.entropy_timed(curve, w),
        "profile": gmm.entropy_timed(curve, w, shape="profile"),
        "above": gmm.limited_interval(w, high, np.inf),
        "below": gmm.limited_interval(w, 0, low),
        # Starts at w and fades where the class is met.
        "feedback": gmm.feedback(1 / w, max_weight=10 * w),
        "power": gmm.power_law(w - 1, 0.5),
    }


def grid_times(
    name: str, curve: EntropyCurve, process: gmm.Process, steps: int, low: float = 0.002, high: float = 80.0
) -> np.ndarray:
    """Times of one of `GRIDS` between two levels."""
    if name == "edm":
        return edm_times(process, steps, sigma_min=low, sigma_max=high)
    if name == "log-snr":
        first, last = np.asarray(process.time_at_log_snr(-2 * np.log([high, low])), float)
        return gmm.time_grid(process, first, last, steps - 1)
    share = 1.0 if name == "entropic" else 0.5
    return gmm.entropic_times(curve, process, steps, share=share, sigma_min=low, sigma_max=high)


def measure(name: str, seed: int, _folder: Path) -> xr.Dataset:
    """Everything that the figure shows of a network of the zoo."""
    key = jax.random.key(seed)
    model = load_model(f"zoo:{name}")
    data, judge = _law(model, jax.random.fold_in(key, 1))
    keys = jax.random.split(key, 3)
    plain, curves = _curves(model, keys[0], SIZES[name])
    quality = _qualities(model, plain, data, judge, keys[1], SIZES[name])
    grids = _grids(model, plain, data[0], keys[2], SIZES[name][3])
    print(f"{name}: grids measured")
    low, _, high = gmm.window(plain).sigma
    return xr.merge([curves, quality, grids]).assign(window_low=low, window_high=high)


def _law(model: Model, key: jax.Array) -> tuple[tuple[np.ndarray, np.ndarray], Judge]:
    """Points of what the model learned, and the posterior that judges its samples."""
    if model.mixture is not None:
        x, y = gmm.sample(model.mixture, key, 4096)
        return (np.asarray(x), np.asarray(y)), judge_of(model.mixture)
    assert model.data is not None
    data = model.data()
    mixture, partition = gmm.families.empirical(data.x, data.y)
    return (data.x, data.y), judge_of(mixture, partition, level=JUDGE_LEVEL)


def _curves(model: Model, key: jax.Array, sizes: tuple[int, ...]) -> tuple[EntropyCurve, xr.Dataset]:
    times = np.geomspace(min(40.0, model.grid.sigma_max), 0.05, CURVE_LEVELS)
    ask: dict[str, Any] = {"samples": sizes[0], "times": times}
    conditions = model.denoiser.conditions
    plain = online_entropy(model.denoiser, conditions, key=jax.random.clone(key), **ask)
    curves = [plain]
    for shown in SHOWN[1:]:
        kind, w = shown.split()
        schedule = schedules(plain, float(w))[kind]
        more = {"guidance": schedule, "guide": model.unconditional}
        curves.append(online_entropy(model.denoiser, conditions, key=jax.random.clone(key), **ask, **more))
        print(f"{model.name}: entropy under {shown} measured")
    surprise = [plain.entropy, *(c.cross_entropy for c in curves[1:])]
    errors = [plain.entropy_stderr, *(c.cross_entropy_stderr for c in curves[1:])]
    dataset = stack(curves, "shown", SHOWN)
    return plain, dataset.assign(
        surprise=(("shown", "point"), surprise), surprise_stderr=(("shown", "point"), errors)
    )


def _qualities(
    model: Model,
    plain: EntropyCurve,
    data: tuple[np.ndarray, np.ndarray],
    judge: Judge,
    key: jax.Array,
    sizes: tuple[int, ...],
) -> xr.Dataset:
    times = model.grid.times(model.process, sizes[2])

    def one(schedule: Guidance) -> list[Estimate]:
        quality = sample_quality(
            model.denoiser, schedule, data=data, judge=judge, key=jax.random.clone(key), samples=sizes[1],
            times=times, guide=model.unconditional,
        )  # fmt: skip
        return [quality.accuracy, quality.distance, quality.diversity]

    rows = [[one(schedule) for schedule in schedules(plain, w).values()] for w in WEIGHTS]
    print(f"{model.name}: quality measured")
    values, unguided = np.array(rows, float), np.array(one(gmm.unguided()), float)
    measures = ("accuracy", "distance", "diversity")
    data_vars: dict[str, Any] = {}
    for i, measure in enumerate(measures):
        for j, suffix in enumerate(("", "_stderr")):
            data_vars[measure + suffix] = (("w", "kind"), values[:, :, i, j])
            data_vars[f"plain_{measure}{suffix}"] = ((), unguided[i, j])
    return xr.Dataset(data_vars, {"w": list(WEIGHTS), "kind": list(KINDS)})


def _grids(model: Model, plain: EntropyCurve, points: np.ndarray, key: jax.Array, samples: int) -> xr.Dataset:
    """Kernel distance of unconditional samples from the law, by the grid of the sampler (Heun)."""
    noise = jax.random.normal(key, (samples, *model.shape))
    low, high = max(model.grid.sigma_min, 0.02), model.grid.sigma_max
    distances = np.empty((len(GRIDS), len(GRID_STEPS), 2))
    for i, grid in enumerate(GRIDS):
        for j, steps in enumerate(GRID_STEPS):
            times = grid_times(grid, plain, model.process, steps, low, high)
            made = np.asarray(heun(model.unconditional, noise, times=times)).reshape(samples, -1)
            distances[i, j] = gmm.kernel_distance(made, points)
    dims = ("grid", "steps")
    data_vars = {
        "grid_distance": (dims, distances[..., 0]),
        "grid_distance_stderr": (dims, distances[..., 1]),
    }
    return xr.Dataset(data_vars, {"grid": list(GRIDS), "steps": list(GRID_STEPS)})
