"""Every definition of a speciation time, side by side, and the published clone agreements."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gmm
from paper_figures.drawing.style import View, letter_panels, new_figure, noise_axis, power_label, sequence
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import stack, unstack
from paper_figures.formats.numbers import Number, attach, number
from theory import CRITERIA, binary_clone_agreement, entropy_curve, fit_slope, speciation_time

CAPTION = """
Means ±m with ‖m‖² = d, within-class variance 1, by quadrature. (a) Speciation time on the
variance-preserving clock by every criterion; slopes against log d are among the numbers. The probability
flow has no threshold: at the centre it is unstable at every t; free entropies differ by as much as they fluctuate
(Achilli et al., arXiv 2602.04404) where the curvature changes sign. (b) The same minus ½ log d: the criteria
differ by constants. (c) Probability that two reverse paths cloned at t end in the same class, with the
points that Biroli et al. (Nat. Commun. 2024; 10,000 pairs each, read from their published arrays) found
by simulation, bars two binomial standard errors. (d) Where each criterion lies in log noise at d = 1000,
process by process: half entropy, cloning and curvature are properties of the noisy state and do not move;
thresholds of the drift depend on how a process scales x, and the maximum of dH/dt on its clock.
"""

DIMS = 10.0 ** np.arange(1, 9)
FIT_FROM = 100.0
PROCESSES = {"vp": gmm.vp, "vp_linear": gmm.vp_linear, "edm": gmm.edm, "ve": gmm.ve, "flow": gmm.flow}
PROCESS_DIM = 1000.0
# Offsets from ½ log d at s = 1 (VP), derived in closed form or solved to 30 digits.
OFFSETS = {
    "curvature": 0.0,
    "free-entropy": 0.0,
    "sde-instability": 0.5 * np.log(2),
    "cloning": 0.0808,
    "half-entropy": -0.0215,
    "entropy-rate": -0.2055,
    "covariance": 0.0,
}
# Biroli, Bonnaire, de Bortoli, Mezard (arXiv 2402.18491): share of 10,000 cloned pairs that agree.
PUBLISHED_TIMES = (2.0, 2.5, 3.0, 3.5, 4.0)
PUBLISHED_PAIRS = 10_000
PUBLISHED = {
    256: (0.9775, 0.862, 0.7012, 0.5925, 0.5343),
    1024: (1.0, 0.9944, 0.9122, 0.7651, 0.6216),
    4096: (1.0, 1.0, 0.9984, 0.9575, 0.8217),
    16384: (1.0, 1.0, 1.0, 1.0, 0.9854),
}
STYLES = {
    "entropy-rate": {"color": "#b3341f", "marker": "^", "linestyle": "-."},
    "half-entropy": {"color": "#1f4e9e", "marker": "o", "linestyle": "--"},
    "cloning": {"color": "#2a7f62", "marker": "s", "linestyle": ":"},
    "free-entropy": {"color": "#4fa3c7", "marker": "1", "linestyle": (0, (1, 3))},
    "curvature": {"color": "#1b1b1b", "marker": "D", "linestyle": "-"},
    "sde-instability": {"color": "#8a5fb0", "marker": "v", "linestyle": "-"},
    "flow-instability": {"color": "#c98a1b", "marker": "x", "linestyle": "--"},
    "covariance": {"color": "#9a9a9a", "marker": "+", "linestyle": "-."},
}


def compute(settings: Settings) -> xr.Dataset:
    """Times of every criterion against d and process, and clone agreements at the published dimensions."""
    criteria = list(CRITERIA)
    times = [speciation_time(gmm.vp(), DIMS, criterion=name) for name in criteria]
    noise = [[_log_noise(make(), name) for make in PROCESSES.values()] for name in criteria]
    grid = np.linspace(0.5, 6.5, settings.size(240, 100))
    curves = [entropy_curve(gmm.vp(), grid, float(d)) for d in PUBLISHED]
    exact = [binary_clone_agreement(d * np.exp(-2 * np.array(PUBLISHED_TIMES))) for d in PUBLISHED]
    dataset = stack(curves, "published_dim", list(PUBLISHED)).assign_coords(
        criterion=criteria, dim=DIMS, process=list(PROCESSES), published_time=list(PUBLISHED_TIMES)
    )
    dataset = dataset.assign(
        time=(("criterion", "dim"), np.array(times)),
        relative_log_noise=(("criterion", "process"), np.array(noise)),
        published_agreement=(("published_dim", "published_time"), list(PUBLISHED.values())),
        exact_agreement=(("published_dim", "published_time"), np.array(exact)),
    )
    return attach(dataset, _numbers(dataset))


def _log_noise(process: gmm.Process, criterion: str) -> float:
    """log(σ/α) - ½ log d where the criterion places speciation; NaN where it has no threshold."""
    time = speciation_time(process, PROCESS_DIM, criterion=criterion)
    return float(-0.5 * process.log_snr(time) - 0.5 * np.log(PROCESS_DIM))


def _numbers(dataset: xr.Dataset) -> list[Number]:
    large = dataset.sel(dim=slice(FIT_FROM, None))
    logs, numbers = np.log(large.dim.values), []
    for name in dataset.criterion.values:
        times = large.time.sel(criterion=name).values
        if np.isnan(times).all():
            numbers.append(number(f"{name}: slope against log d (no threshold)", np.nan))
            continue
        slope = fit_slope(logs, times)
        numbers.append(number(f"{name}: slope against log d, d ≥ 100", slope.value, slope.stderr, 0.5))
        offset = times[-1] - 0.5 * logs[-1]
        numbers.append(number(f"{name}: t - ½ log d at d = 10^8", offset, expected=OFFSETS[str(name)]))
    gap = np.abs(dataset.published_agreement - dataset.exact_agreement).values
    numbers.append(number("published clone agreement, largest distance from quadrature", gap.max()))
    crossing = binary_clone_agreement(1.0)
    return [*numbers, number("agreement at ρ = 1 (published mark: 0.775)", crossing, expected=0.775)]


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Times, offsets, agreements, processes."""
    figure, axes = new_figure(2, 2, height=5.0)
    half_log = 0.5 * np.log(dataset.dim)
    for name in dataset.criterion.values:
        times = dataset.time.sel(criterion=name)
        label = str(name) + (" (none)" if np.isnan(times).all() else "")
        axes[0, 0].plot(dataset.dim, times, label=label, **STYLES[str(name)])
        axes[0, 1].plot(dataset.dim, times - half_log, **STYLES[str(name)])
    axes[0, 0].set(xscale="log", xlabel="$d$", ylabel="$t_s$")
    axes[0, 0].legend()
    axes[0, 1].set(xscale="log", xlabel="$d$", ylabel=r"$t_s-\frac{1}{2}\log d$")
    _draw_agreement(axes[1, 0], dataset, view)
    _draw_processes(axes[1, 1], dataset)
    names = ("speciation time", "criteria differ by constants", "clone agreement", "process by process")
    letter_panels(axes.flat, names)
    return figure


def _draw_agreement(ax: Axes, dataset: xr.Dataset, view: View) -> None:
    axis = view.on("t")
    curves = unstack(dataset, "published_dim")
    for curve, d, line in zip(curves, dataset.published_dim.values, sequence(len(curves)), strict=True):
        noise = curve.axis(axis)
        ax.plot(noise, np.asarray(curve.clone_agreement), label=f"{d}", **line)
        agreement = dataset.published_agreement.sel(published_dim=d)
        bars = 2 * np.sqrt(agreement * (1 - agreement) / PUBLISHED_PAIRS)
        places = np.interp(dataset.published_time, curve.t, noise)
        ax.errorbar(places, agreement, bars, fmt="o", markersize=3.5, color=line["color"], mfc="white")
    ax.axhline(0.775, color="0.6", linewidth=0.7, linestyle="-")
    noise_axis(ax, axis)
    ax.set_ylabel("clone agreement")
    ax.legend(title="$d$")


def _draw_processes(ax: Axes, dataset: xr.Dataset) -> None:
    places = np.arange(dataset.sizes["process"])
    top = 0.75
    for name in dataset.criterion.values:
        values = dataset.relative_log_noise.sel(criterion=name).values
        style: dict[str, Any] = STYLES[str(name)] | {"linestyle": "none"}
        ax.plot(places, values, **style)
        for place in places[values > top]:
            label = f"{name}: {values[place]:.2f}"
            ax.annotate(label, (place, top), color=style["color"], fontsize=6.5, ha="right", va="top")
    ax.set_ylim(-top, top)
    ax.set_xticks(places, [str(name) for name in dataset.process.values])
    ax.set_ylabel(rf"$\log\,(\sigma_s/\alpha_s)-\frac{{1}}{{2}}\log d$, $d$ = {power_label(PROCESS_DIM)}")
