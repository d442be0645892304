"""Exponentially many classes: a condensation, and collapse on data points as its special case."""

import jax
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gmm
from gmm.curve import EntropyCurve
from paper_figures.drawing.style import View, band, letter_panels, new_figure, noise_axis, sequence
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import axis_positions, stack, unstack
from paper_figures.formats.numbers import Number, attach, number
from theory import collapse_time, condensation_time, entropy_density

CAPTION = """
K = e^{κd} classes with independent means N(0, I), within-class variance 1, under the variance-preserving
process. (a) Limit of the entropy per dimension as d → ∞: max(0, κ - ½ log(1+α²μ²/v)). The class is known
below a condensation time that exists only for κ < ½ log 2; the curve for κ = 0.5 never reaches zero. (b)
Sampled mixtures at κ = 0.1 with d from 20 to 80, one draw of the means each: the kink is rounded over a
width O(1/√d). (c) Entropy per dimension at the condensation time, times √d. (d) Without within-class
variance the classes are data points, n = e^{κd} of them, and condensation is the collapse of a memorising
diffusion model: t_c = ½ log(1+1/(n^{2/d}-1)) (Biroli et al. 2024). Bands and bars are two standard errors
of the sampling, not of the draw of the means.
"""

KAPPAS = (0.05, 0.1, 0.2, 0.3, 0.5)
# Condensation times at μ = s = 1 on the VP clock (quadrature-free closed form, 30 digits).
TABLE = {0.05: 1.1261, 0.1: 0.7539, 0.2: 0.3548, 0.3: 0.0979}
KAPPA = 0.1
POINTS = (100, 1000, 10_000, 10**6)
# Biroli et al. 2024: collapse of n = 20,000 points.
COLLAPSE = {256: 1.2988, 1024: 1.9775, 4096: 2.6671}


def compute(settings: Settings) -> xr.Dataset:
    """Limits, sampled finite sizes, and collapse times."""
    process = gmm.vp()
    times = np.linspace(0.01, 3.0, 300)
    log_snr = -np.log(np.expm1(2 * times))
    dims = settings.size((20, 40, 60, 80), (20, 40))
    # The condensation time itself is one of the sampled times.
    critical = float(condensation_time(process, KAPPA))
    sampled_times = np.sort(np.append(np.linspace(0.1, 2.6, settings.size(24, 9)), critical))
    curves = [_sampled(d, sampled_times, settings) for d in dims]
    data_dims = np.geomspace(16, 16384, 60)
    dataset = stack(curves, "dim", list(dims)).assign_coords(
        kappa=list(KAPPAS), limit_t=times, data_dim=data_dims, points=list(POINTS)
    )
    dataset = dataset.assign(
        limit_log_snr=("limit_t", log_snr),
        limit=(("kappa", "limit_t"), [entropy_density(log_snr, kappa) for kappa in KAPPAS]),
        condensation=("kappa", [condensation_time(process, kappa) for kappa in KAPPAS]),
        collapse=(
            ("points", "data_dim"),
            [[collapse_time(process, n, d) for d in data_dims] for n in POINTS],
        ),
    )
    at = int(np.argmin(np.abs(sampled_times - critical)))
    dataset = dataset.assign(
        critical_entropy=("dim", [c.entropy[at] / d for c, d in zip(curves, dims, strict=True)]),
        critical_stderr=("dim", [c.entropy_stderr[at] / d for c, d in zip(curves, dims, strict=True)]),
    )
    return attach(dataset, _numbers(dataset))


def _sampled(dim: int, times: np.ndarray, settings: Settings) -> EntropyCurve:
    """One draw of e^{κd} means."""
    classes = round(np.exp(KAPPA * dim))
    key_means, key_noise = jax.random.split(jax.random.fold_in(settings.key(), dim))
    mixture = gmm.families.random(key_means, classes, dim)
    samples = settings.size(2048, 512)
    return gmm.class_entropy(mixture, gmm.vp(), times, key=key_noise, samples=samples, boundary=False)


def _numbers(dataset: xr.Dataset) -> list[Number]:
    numbers = [
        number(f"condensation time, κ = {kappa}", dataset.condensation.sel(kappa=kappa), expected=value)
        for kappa, value in TABLE.items()
    ]
    for d in dataset.dim.values:
        at = dataset.sel(dim=d)
        numbers.append(
            number(f"H/d at the condensation time, d = {d}", at.critical_entropy, at.critical_stderr)
        )
    process = gmm.vp()
    for d, value in COLLAPSE.items():
        time = collapse_time(process, 20_000, d)
        numbers.append(number(f"collapse of 20,000 points, d = {d}", time, expected=value))
    return numbers


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Limits, rounding, its size, collapse."""
    figure, axes = new_figure(2, 2, height=4.8)
    axis = view.on("t")
    limit_noise = axis_positions(dataset.limit_t.values, dataset.limit_log_snr.values, axis)
    for kappa, line in zip(dataset.kappa.values, sequence(dataset.sizes["kappa"]), strict=True):
        limit = view.information(dataset.limit.sel(kappa=kappa))
        axes[0, 0].plot(limit_noise, limit, label=f"{kappa:g}", **line)
    axes[0, 0].legend(title=r"$\kappa$", loc="upper right", bbox_to_anchor=(1, 0.93), ncols=3)
    _draw_rounding(axes[0, 1], dataset, view, axis, limit_noise)
    _draw_critical(axes[1, 0], dataset, view)
    for n, line in zip(dataset.points.values, sequence(dataset.sizes["points"]), strict=True):
        axes[1, 1].plot(dataset.data_dim, dataset.collapse.sel(points=n), label=f"{n:,}", **line)
    axes[1, 1].set(xscale="log", xlabel="$d$", ylabel="collapse time $t_c$")
    axes[1, 1].legend(title="points $n$")
    for ax in axes[0]:
        noise_axis(ax, axis)
        ax.set_ylabel(f"$H[Z\\,|\\,X_t]\\,/\\,d$  ({view.unit})")
    names = (
        "limit $d\\to\\infty$",
        rf"finite $d$, $\kappa={KAPPA}$",
        "rounding at $t_c$",
        "collapse on data",
    )
    letter_panels(axes.flat, names)
    return figure


def _draw_rounding(ax: Axes, dataset: xr.Dataset, view: View, axis: str, limit_noise: np.ndarray) -> None:
    curves = unstack(dataset, "dim")
    for d, curve, line in zip(dataset.dim.values, curves, sequence(len(curves)), strict=True):
        shown = curve.in_units(view.units)
        band(ax, curve.axis(axis), shown.entropy / d, shown.entropy_stderr / d, label=f"{d}", **line)
    limit = view.information(dataset.limit.sel(kappa=KAPPA))
    ax.plot(limit_noise, limit, color="0.5", linewidth=0.9, linestyle="-", label=r"$\infty$")
    ax.legend(title="$d$")


def _draw_critical(ax: Axes, dataset: xr.Dataset, view: View) -> None:
    scale = np.sqrt(dataset.dim)
    value = view.information(dataset.critical_entropy * scale)
    ax.errorbar(dataset.dim, value, 2 * view.information(dataset.critical_stderr * scale), fmt="o-")
    ax.set(xlabel="$d$", ylabel=rf"$\sqrt{{d}}\,H/d$ at $t_c$  ({view.unit})", ylim=(0, None))
