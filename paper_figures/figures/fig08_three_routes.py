"""Three routes to one curve, and what each costs."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gmm
from gmm.curve import EntropyCurve
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import join, stack, unstack
from paper_figures.formats.numbers import Number, attach, number
from theory import entropy_curve

CAPTION = """
Five classes, means the corners of a regular simplex with ‖mean‖² = d, within-class variance 1, under the
variance-preserving process. (a) Posterior entropy at d = 200 by quadrature (line), by sampling in the
four reduced coordinates and by sampling in all 200 dimensions (points, bars two standard errors). (b) Its
rate: quadrature differentiates the entropy, sampling averages the squared denoiser gap (I-MMSE) and
differences nothing. (c) Sampled minus quadrature in standard errors, the noise drawn anew for every
point: 95% belong inside the band. (d) Seconds for one noise level at the same number of samples, after
compilation, measured where the data were made: reduced sampling does not know the dimension, quadrature
neither.
"""

CLASSES, DIM = 5, 200
ROUTES = ("reduced", "full")
# Dimensions at which the cost is measured: full sampling stops where it would take the figure's whole budget.
FULL_DIMS = (20, DIM, 2000)
EVERY_DIM = (20, 2000, 10**6, 10**9)
COST_DIMS = {"quadrature": EVERY_DIM, "reduced": EVERY_DIM, "full": FULL_DIMS}
REPEATS = 3


def compute(settings: Settings) -> xr.Dataset:
    """One curve by each route at d = 200, and the cost of each against d."""
    process = gmm.vp()
    samples = settings.size(8192, 2048)
    times = 0.5 * np.log(DIM) + np.linspace(-2.2, 2.5, settings.size(24, 12))
    fine = np.linspace(times[0], times[-1], 300)
    exact = entropy_curve(process, fine, DIM, classes=CLASSES)
    at_times = entropy_curve(process, times, DIM, classes=CLASSES)
    keys = jax.random.split(settings.key(), len(ROUTES))
    sampled = [
        _independent(_mixture(DIM, route), process, times, key, samples)
        for route, key in zip(ROUTES, keys, strict=True)
    ]
    dataset = xr.merge(
        [
            stack(sampled, "route", ROUTES),
            stack([exact], "exact", ["quadrature"], prefix="exact_"),
            _costs(settings, samples),
        ]
    ).assign(
        z_entropy=(("route", "point"), [_z(c.entropy - at_times.entropy, c.entropy_stderr) for c in sampled]),
        z_rate=(("route", "point"), [_z(c.rate - at_times.rate, c.rate_stderr) for c in sampled]),
    )
    return attach(dataset.assign_attrs(samples=samples), _numbers(dataset))


def _independent(
    mixture: gmm.Mixture, process: gmm.Process, times: np.ndarray, key: PRNGKeyArray, samples: int
) -> EntropyCurve:
    """A curve whose points share no noise, so that their deviations can be judged together."""
    parts = [
        gmm.class_entropy(mixture, process, times[i : i + 1], key=jax.random.fold_in(key, i), samples=samples)
        for i in range(len(times))
    ]
    return join(parts)


def _mixture(dim: int, route: str) -> gmm.Mixture:
    return gmm.families.simplex(CLASSES, dim, reduced=route == "reduced")


def _z(gap: np.ndarray, stderr: np.ndarray) -> np.ndarray:
    """Deviation in standard errors; zero where both vanish."""
    return np.divide(gap, stderr, out=np.zeros_like(gap), where=stderr > 0)


def _costs(settings: Settings, samples: int) -> xr.Dataset:
    """Seconds for one noise level, dimension by dimension; NaN where a route was not measured."""
    dims = sorted({dim for values in COST_DIMS.values() for dim in values})
    if settings.fast:
        dims.remove(FULL_DIMS[0])
    process, seconds = gmm.vp(), []
    for route, measured in COST_DIMS.items():
        row = []
        for dim in dims:
            time_at = np.array([0.5 * np.log(dim)])
            row.append(_best(_job(route, dim, time_at, process, samples)) if dim in measured else np.nan)
        seconds.append(row)
    return xr.Dataset(
        {"seconds": (("way", "cost_dim"), seconds)},
        coords={"way": list(COST_DIMS), "cost_dim": np.array(dims, float)},
    )


def _job(
    route: str, dim: int, times: np.ndarray, process: gmm.Process, samples: int
) -> Callable[[], EntropyCurve]:
    if route == "quadrature":
        return lambda: entropy_curve(process, times, float(dim), classes=CLASSES)
    mixture, key = _mixture(dim, route), jax.random.key(0)
    return lambda: gmm.class_entropy(mixture, process, times, key=key, samples=samples)


def _best(job: Callable[[], EntropyCurve]) -> float:
    """Least wall time of a few calls, the first of which compiles and is not counted."""
    job()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _numbers(dataset: xr.Dataset) -> list[Number]:
    numbers = []
    for route in ROUTES:
        for name, what in (("z_entropy", "entropy"), ("z_rate", "rate")):
            z = dataset[name].sel(route=route).values
            used = z[z != 0]
            spread = np.sqrt(2 / len(used))
            numbers.append(number(f"{route}, {what}: mean z²", np.mean(used**2), spread, 1.0))
            numbers.append(number(f"{route}, {what}: largest |z| of {len(used)}", np.abs(used).max()))
    cost = dataset.seconds
    for dim in FULL_DIMS[1:]:
        label = f"seconds a noise level, full, d = {dim}"
        numbers.append(number(label, cost.sel(way="full", cost_dim=dim)))
    for dim in EVERY_DIM[1::2]:
        label = f"seconds a noise level, reduced, d = {dim:.0e}"
        numbers.append(number(label, cost.sel(way="reduced", cost_dim=dim)))
    return numbers


_MARKERS = {"reduced": ("o", "#1f4e9e"), "full": ("s", "#b3341f"), "quadrature": ("^", "#1b1b1b")}


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Curves, deviations and costs."""
    figure, axes = style.new_figure(2, 2, height=4.6)
    axis = view.on("t")
    exact = unstack(dataset, "exact", "exact_")[0]
    style.draw_entropy(axes[0, 0], exact, view, axis, color="k", label="quadrature")
    style.draw_rate(axes[0, 1], exact, view, axis, color="k")
    for route, curve in zip(dataset.route.values, unstack(dataset, "route"), strict=True):
        _draw_points(axes, dataset, str(route), curve, view, axis)
    axes[0, 0].legend()
    axes[1, 0].axhspan(-style.BAND_STDERRS, style.BAND_STDERRS, color="0.93", zorder=0)
    axes[1, 0].set(ylabel="deviation / standard error", ylim=(-4.5, 4.5))
    axes[1, 0].legend(ncols=2)
    style.noise_axis(axes[1, 0], axis)
    _draw_costs(axes[1, 1], dataset)
    names = ("entropy, $d=200$", "rate", "agreement", "cost of one noise level")
    style.letter_panels(axes.flat, names)
    return figure


def _draw_points(
    axes: np.ndarray, dataset: xr.Dataset, route: str, curve: EntropyCurve, view: View, axis: str
) -> None:
    marker, color = _MARKERS[route]
    look: dict[str, Any] = {
        "marker": marker,
        "color": color,
        "linestyle": "none",
        "markerfacecolor": "none",
    }
    bars = {"label": f"{route} sampling", "elinewidth": 0.8}
    style.mark_entropy(axes[0, 0], curve, view, axis, **look, **bars)
    style.mark_rate(axes[0, 1], curve, view, axis, **look, **bars)
    part, noise = dataset.sel(route=route), curve.axis(axis)
    axes[1, 0].plot(noise, part.z_entropy, label=f"{route}, entropy", **look)
    axes[1, 0].plot(noise, part.z_rate, label=f"{route}, rate", **look | {"markerfacecolor": color})


def _draw_costs(ax: Axes, dataset: xr.Dataset) -> None:
    for way in dataset.way.values:
        seconds = dataset.seconds.sel(way=way).dropna("cost_dim")
        marker, color = _MARKERS[str(way)]
        ax.plot(seconds.cost_dim, seconds, marker=marker, color=color, linestyle="-", label=str(way))
    ax.set(xscale="log", yscale="log", xlabel="$d$", ylabel="seconds")
    ax.legend()
