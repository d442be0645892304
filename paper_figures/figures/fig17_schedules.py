"""Guidance schedules and sampler grids compared where costs are known exactly."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

import gmm
from gmm.curve import EntropyCurve
from gmm.guidance import Guidance
from gmm.samplers import SAMPLERS
from neural.denoiser import mixture_denoiser
from neural.samplers import ddim, heun
from paper_figures.drawing.style import (
    BAND_STDERRS,
    View,
    kinds,
    letter_panels,
    new_figure,
    noise_axis,
    sequence,
)
from paper_figures.figures.settings import Settings
from paper_figures.formats.numbers import Number, attach, number
from paper_figures.shipped.guided import GRIDS, KINDS, grid_times, schedules
from theory import GuidedPair, entropy_curve, guided_pair

CAPTION = """
(a) Weight of every schedule against noise, averaged along guided paths of a pair of classes; the shaded window holds
80% of the information about the class. Autoguidance is constant as cfg is. (b-d) What commitment costs, each line one
schedule with its strength rising from no guidance at the left; lower and further left is better. (b) A pair that
overlaps (‖m‖² = 4), reverse SDE: surprise of the target on clean data against the exact Kullback-Leibler distance from
its class, both from the Fokker-Planck equation. (c, d) Ten orthogonal classes of energy 10: share of posterior mass on
other classes against the sliced Wasserstein distance from the class, reverse SDE and probability flow. "Window"
guides inside the measured window only, "above" and "below" at more and at less noise only; a colour means one schedule
in all of (a-d). (e, f) Exact
Wasserstein error of what an unguided sampler makes of a pair in 64 dimensions (‖m‖² = 64), by the grid of its steps:
along the decision (e) and in all coordinates (f), Heun full, DDIM dashed; "entropic" has equal class information in
every step, "mixed" half of that and half of EDM.
"""

PAIR, ENERGY, CLASSES = 4.0, 10.0, 10
DIM = 64  # of the pair that grids are tried on; its ‖m‖² too
WEIGHTS = (1.5, 2.0, 4.0, 8.0)  # of the sampled classes
PAIR_WEIGHTS = (1.5, 4.0, 8.0)
QUOTED = 4.0
QUANTILES = 4001


def compute(settings: Settings) -> xr.Dataset:
    """Weights, costs of commitment, errors of grids."""
    weights = settings.size(WEIGHTS, (2.0, 4.0))
    parts = [
        _weights(settings),
        _pair(settings.size(PAIR_WEIGHTS, (QUOTED,))),
        _classes(weights, settings.size(2000, 500), settings.size(60, 40), settings.key()),
        _grids(settings.size((4, 8, 16, 32), (4, 16))),
    ]
    dataset = xr.merge(parts)
    return attach(dataset, _numbers(dataset))


def _weights(settings: Settings) -> xr.Dataset:
    curve = _pair_curve(ENERGY)
    every: dict[str, Guidance] = schedules(curve, 4.0)
    every = {name: every[name] for name in ("cfg", "window", "profile", "feedback", "power")}
    every |= {"negative": gmm.negative(1.0), "dynamic negative": gmm.dynamic_negative(0.5)}
    rho = np.geomspace(0.05, 0.995 * ENERGY, settings.size(40, 20))
    weight = [guided_pair(ENERGY, schedule, rho).weight for schedule in every.values()]
    low, _, high = gmm.window(curve).sigma
    data = {"weight": (("schedule", "noise"), weight)}
    coords = {"schedule": list(every), "noise": np.sqrt(ENERGY / rho - 1)}
    return xr.Dataset(data, coords, {"window_low": low, "window_high": high})


def _pair_curve(energy: float) -> EntropyCurve:
    return entropy_curve(gmm.edm(), np.geomspace(0.02, 400, 160), energy, family="pair")


def _pair(weights: tuple[float, ...]) -> xr.Dataset:
    """Surprise and KL of the final law, by the grid."""
    curve = _pair_curve(PAIR)
    finals = [[_final(schedule) for schedule in schedules(curve, w).values()] for w in weights]
    ends = np.array([[(end.cross_entropy[0], end.divergence[0]) for end in row] for row in finals])
    dims = ("pair_w", "kind")
    plain = _final(gmm.cfg(1.0))
    data = {"surprise": (dims, ends[..., 0]), "divergence": (dims, ends[..., 1])}
    data |= {"plain_surprise": ((), plain.cross_entropy[0])}
    return xr.Dataset(data, {"pair_w": list(weights), "kind": list(KINDS)})


def _final(schedule: Guidance) -> GuidedPair:
    return guided_pair(PAIR, schedule, np.array([PAIR]))


def _classes(weights: tuple[float, ...], samples: int, steps: int, key: jax.Array) -> xr.Dataset:
    """Ten classes by sampling."""
    key_path, key_directions = jax.random.split(key)
    # Orthogonal classes are a simplex of (K-1)/K of the energy.
    curve = entropy_curve(
        gmm.edm(), np.geomspace(0.02, 400, 160), ENERGY * (1 - 1 / CLASSES), classes=CLASSES
    )
    rows: dict[str, list] = {"miss": [], "miss_stderr": [], "distance": [], "diversity": [], "shift": []}
    for sampler in SAMPLERS:
        for w in weights:
            for schedule in schedules(curve, w).values():
                call = {
                    "key": jax.random.clone(key_path),
                    "samples": samples,
                    "steps": steps,
                    "sampler": sampler,
                }
                guided = gmm.guided_whitened(CLASSES, [ENERGY], schedule, **call)  # type: ignore[arg-type]
                rows["miss"].append(1 - guided.accuracy.value[0])
                rows["miss_stderr"].append(guided.accuracy.stderr[0])
                rows["distance"].append(
                    gmm.sliced_distance(guided.states, guided.plain, jax.random.clone(key_directions))
                )
                rows["diversity"].append(guided.diversity.value)
                rows["shift"].append(guided.shift.value)
    shape = (len(SAMPLERS), len(weights), len(KINDS))
    data = {f"classes_{name}": (("sampler", "w", "kind"), np.reshape(v, shape)) for name, v in rows.items()}
    plain = gmm.guided_whitened(CLASSES, [ENERGY], 1.0, key=key_path, samples=4 * samples, steps=1)
    data |= {"plain_miss": ((), 1 - plain.accuracy.value[0])}
    return xr.Dataset(data, {"sampler": list(SAMPLERS), "w": list(weights), "kind": list(KINDS)})


def _grids(steps: tuple[int, ...]) -> xr.Dataset:
    """Error of the final law of a pair: its coordinate along m, and the others."""
    process = gmm.edm()
    mixture = gmm.Mixture(
        np.full(2, 0.5), np.sqrt(DIM) * np.array([[1.0, 0.0], [-1.0, 0.0]]), gmm.Isotropic(1.0)
    )
    denoiser = mixture_denoiser(mixture, process)
    curve = _pair_curve(DIM)
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    noise = np.repeat(norm.ppf(levels)[:, None], 2, axis=1)
    true = np.stack([_mixture_quantiles(levels), norm.ppf(levels)], axis=1)
    solvers: dict[str, Callable[..., Any]] = {"heun": heun, "ddim": ddim}
    error = np.empty((len(solvers), len(GRIDS), len(steps), 2))
    for i, solver in enumerate(solvers.values()):
        for j, grid in enumerate(GRIDS):
            for k, n in enumerate(steps):
                made = np.asarray(solver(denoiser, noise, times=grid_times(grid, curve, process, n)))
                # The maps are monotone: quantiles go to quantiles, and this is the Wasserstein distance itself.
                error[i, j, k] = np.mean((made - true) ** 2, axis=0)
    dims = ("solver", "grid", "steps")
    along, others = error[..., 0], error[..., 1]
    data = {"along": (dims, np.sqrt(along)), "in_all": (dims, np.sqrt(along + (DIM - 1) * others))}
    return xr.Dataset(data, {"solver": list(solvers), "grid": list(GRIDS), "steps": list(steps)})


def _mixture_quantiles(levels: np.ndarray) -> np.ndarray:
    far = np.sqrt(DIM)
    x = np.linspace(-far - 6, far + 6, 400_001)
    return np.interp(levels, 0.5 * (norm.cdf(x - far) + norm.cdf(x + far)), x)


def _numbers(dataset: xr.Dataset) -> list[Number]:
    numbers = [number("pair: surprise without guidance, nat", dataset.plain_surprise)]
    w = QUOTED
    for kind in KINDS:
        at = dataset.sel(pair_w=w, kind=kind)
        numbers.append(number(f"pair, {kind} at strength {w:g}: surprise, nat", at.surprise))
        numbers.append(number(f"pair, {kind} at strength {w:g}: KL from the class, nat", at.divergence))
    for s in SAMPLERS:
        for kind in KINDS:
            at = dataset.sel(w=w, kind=kind, sampler=s)
            label = f"ten classes, {s}, {kind} at strength {w:g}"
            numbers.append(number(f"{label}: mass on other classes", at.classes_miss, at.classes_miss_stderr))
            numbers.append(number(f"{label}: sliced distance, s.d.", at.classes_distance))
    for s in SAMPLERS:
        for kind in KINDS[1:]:
            label = f"ten classes, {s}: distance of {kind} over that of cfg 2, both with the same mass on other classes"
            numbers.append(number(label, _same_commitment(dataset, s, kind)))
    for steps in dataset.steps.values:
        for grid in GRIDS:
            at = dataset.sel(steps=steps, grid=grid, solver="heun")
            numbers.append(number(f"Heun, {steps} steps, {grid}: error in all coordinates", at.in_all))
    return numbers


def _same_commitment(dataset: xr.Dataset, sampler: str, kind: str) -> float:
    """Sliced distance of a kind over that of cfg at strength 2, at the strength where both commit alike."""
    here = dataset.sel(sampler=sampler)
    wanted = np.log(float(here.classes_miss.sel(kind="cfg", w=2.0)))
    miss = np.log(np.append(float(here.plain_miss), here.classes_miss.sel(kind=kind)))
    if miss.min() > wanted:
        return float("nan")
    distance = np.append(0.0, here.classes_distance.sel(kind=kind))
    return float(np.interp(-wanted, -miss, distance) / here.classes_distance.sel(kind="cfg", w=2.0))


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Weights; costs; grids."""
    figure, axes = new_figure(2, 3, height=5.0)
    every = dict.fromkeys([*KINDS, *map(str, dataset.schedule.values)])
    looks = zip(kinds(len(every)), _MARKERS[: len(every)], strict=True)
    lines = {
        name: line | {"marker": marker, "markersize": 3}
        for name, (line, marker) in zip(every, looks, strict=True)
    }
    _draw_weights(axes[0, 0], dataset, lines)
    plain = float(view.information(dataset.plain_surprise))
    for kind in KINDS:
        at, line = dataset.sel(kind=kind), lines[kind]
        x = np.append(0, view.information(at.divergence))
        axes[0, 1].plot(x, np.append(plain, view.information(at.surprise)), label=kind, **line)
        for s, ax in zip(SAMPLERS, (axes[0, 2], axes[1, 0]), strict=True):
            part = at.sel(sampler=s)
            y = np.append(float(dataset.plain_miss), part.classes_miss)
            error = np.append(0, BAND_STDERRS * part.classes_miss_stderr)
            ax.errorbar(np.append(0, part.classes_distance), y, error, elinewidth=0.6, **line)
    axes[0, 1].set(
        xlabel=f"KL from the class  ({view.unit})", ylabel=f"surprise on data  ({view.unit})", yscale="log"
    )
    for ax in (axes[0, 2], axes[1, 0]):
        ax.set(xlabel="sliced distance (s.d.)", ylabel="mass on other classes", yscale="log")
    _draw_grids(axes[1, 1:], dataset)
    names = (
        "weight of each schedule", "a pair, reverse SDE", "ten classes, reverse SDE",
        "ten classes, flow", "grids, along the decision", "grids, all coordinates",
    )  # fmt: skip
    letter_panels(axes.flat, names)
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, title="b-d", loc="outside lower center", ncols=len(labels))
    return figure


_MARKERS = "os^v<D>PX*"


def _draw_weights(ax: Axes, dataset: xr.Dataset, lines: dict[str, dict]) -> None:
    ax.axvspan(dataset.attrs["window_low"], dataset.attrs["window_high"], color="0.9", linewidth=0)
    for name in map(str, dataset.schedule.values):
        ax.plot(dataset.noise, dataset.weight.sel(schedule=name), label=name, markevery=5, **lines[name])
    noise_axis(ax, "sigma")
    ax.set(ylabel="mean weight $w$", ylim=(-2.5, 7.5))
    ax.legend(ncols=2, loc="upper center", fontsize=5.5, handlelength=1.8, columnspacing=0.8)


def _draw_grids(axes: np.ndarray, dataset: xr.Dataset) -> None:
    for ax, name in zip(axes, ("along", "in_all"), strict=True):
        # Shades and marks that no schedule has: a colour means one schedule through all panels.
        for grid, line, marker in zip(GRIDS, sequence(len(GRIDS)), "hPX*", strict=True):
            for solver, dashes in (("heun", "-"), ("ddim", (0, (4, 1.5)))):
                y = dataset[name].sel(grid=grid, solver=solver)
                look = {"color": line["color"], "linestyle": dashes, "marker": marker, "markersize": 4}
                ax.plot(dataset.steps, y, label=grid if solver == "heun" else None, **look)
        ax.set(xscale="log", yscale="log", xlabel="steps", ylabel="Wasserstein error (s.d.)")
        ax.set_xticks(dataset.steps.values, [str(n) for n in dataset.steps.values])
        ax.minorticks_off()
    axes[0].legend()
