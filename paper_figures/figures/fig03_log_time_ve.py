"""Variance-exploding processes: the same decision on clocks that do not compress it."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import gmm
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import stack, unstack
from paper_figures.formats.numbers import Number, attach, number
from theory import binary_entropy, entropy_curve, fit_slope, peak

CAPTION = """
The mixtures of the variance-preserving figure (means ±m, ‖m‖² = d, within-class variance 1) under EDM (σ
= t) and VE on Brownian time (σ² = t), by quadrature. (a, b, e, f) Entropy and rate against time. (c)
Against σ/√d the curves of both processes collapse once σ² exceeds the within-class variance; exactly, for
every d, they collapse against √((1+σ²)/d). (d, g) Against t/t_s, t_s the maximum of the rate, they
collapse as well and never sharpen. (h) Width of dH/dt at half height over t_s: it falls as 1/log d on the
variance-preserving clock and stays what it is on the others. That is a property of the clock: against
log(σ/α) all three are one curve, shifted.
"""

DIMS = 10.0 ** np.arange(1, 9)
PROCESSES = {"edm": gmm.edm, "ve": gmm.ve, "vp": gmm.vp}
# Range of sigma/sqrt(d) that holds the whole decision.
RELATIVE_NOISE = (0.05, 30.0)


def compute(settings: Settings) -> xr.Dataset:
    """A curve for each process and dimension, its speciation time and its width."""
    sigma = np.geomspace(*RELATIVE_NOISE, settings.size(500, 160))
    dataset = xr.Dataset(coords={"dim": DIMS, "process": list(PROCESSES)})
    widths, times = [], []
    for name, make in PROCESSES.items():
        process = make()
        grids = [np.asarray(process.time_at_log_snr(-2 * np.log(sigma * np.sqrt(d)))) for d in DIMS]
        curves = [entropy_curve(process, t, d) for t, d in zip(grids, DIMS, strict=True)]
        dataset = dataset.merge(stack(curves, "dim", DIMS, prefix=f"{name}_"))
        peaks = [peak(process, d) for d in DIMS]
        widths.append([top.width for top in peaks])
        times.append([top.t for top in peaks])
    dataset = dataset.assign(
        width=(("process", "dim"), widths),
        t_peak=(("process", "dim"), times),
        residual=("dim", [_residual(d) for d in DIMS]),
    )
    return attach(dataset, _numbers(dataset))


def _residual(dim: float) -> float:
    """Largest distance (nat) of H at σ = √d·z from its limit d → ∞, over z."""
    z = np.geomspace(*RELATIVE_NOISE, 400)
    return float(np.abs(binary_entropy(1 / (1 / dim + z**2)) - binary_entropy(z**-2.0)).max())


def _numbers(dataset: xr.Dataset) -> list[Number]:
    """Slopes where the law is asymptotic: within-class variance 1 is not small against σ² at d = 10."""
    logs, large = np.log(DIMS), slice(2, None)
    numbers = []
    for name, expected in (("edm", 0.5), ("ve", 1.0)):
        fit = fit_slope(logs[large], np.log(dataset.t_peak.sel(process=name))[large])
        numbers.append(number(f"{name}: exponent of t_s in d, d ≥ 10^3", fit.value, fit.stderr, expected))
    relative = dataset.width / dataset.t_peak
    for name in PROCESSES:
        for d in (1e3, 1e8):
            label = f"{name}: width / t_s at d = 10^{np.log10(d):.0f}"
            numbers.append(number(label, relative.sel(process=name, dim=d)))
    fit = fit_slope(logs[large], np.log(dataset.residual[large]))
    return [
        *numbers,
        number("distance from collapse against σ/√d at d = 10^4 (nat)", dataset.residual.sel(dim=1e4)),
        number("its exponent in d", fit.value, fit.stderr, -1.0),
    ]


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """A row for each clock."""
    figure, axes = style.new_figure(2, 4, height=4.2)
    for row, name in enumerate(("edm", "ve")):
        _draw_clock(axes[row], dataset, view, name)
    _draw_collapse(axes[0, 2], dataset, view)
    _draw_step(axes[0, 3], dataset, view, "edm")
    _draw_step(axes[1, 2], dataset, view, "ve")
    _draw_widths(axes[1, 3], dataset)
    style.shared_legend(figure, axes[0, 0], "$d$")
    names = (
        *("EDM: entropy", "EDM: rate", r"collapse: $\sigma/\sqrt{d}$", "EDM: $t/t_s$"),
        *("VE: entropy", "VE: rate", "VE: $t/t_s$", "relative width"),
    )
    style.letter_panels(axes.flat, names)
    return figure


def _draw_clock(row: np.ndarray, dataset: xr.Dataset, view: View, name: str) -> None:
    axis = view.on("t")
    curves = unstack(dataset, "dim", f"{name}_")
    for d, curve, line in zip(dataset.dim.values, curves, style.sequence(len(curves)), strict=True):
        style.draw_entropy(row[0], curve, view, axis, label=style.power_label(d), **line)
        style.draw_rate(row[1], curve, view, axis, **line)
    if axis == "t":
        for ax in row[:2]:
            ax.set_xscale("log")
        tallest = max(curve.in_units(view.units).rate.max() for curve in curves)
        lowest = min(curve.in_units(view.units).rate.max() for curve in curves)
        row[1].set(yscale="log", ylim=(lowest * 1e-2, tallest * 3))


def _draw_collapse(ax: Axes, dataset: xr.Dataset, view: View) -> None:
    for name in ("edm", "ve"):
        curves = unstack(dataset, "dim", f"{name}_")
        for d, curve, line in zip(dataset.dim.values, curves, style.sequence(len(curves)), strict=True):
            ax.plot(curve.sigma / np.sqrt(d), curve.in_units(view.units).entropy, **line)
    ax.set(xscale="log", xlabel=r"$\sigma/\sqrt{d}$", ylabel=style.entropy_label(view))


def _draw_step(ax: Axes, dataset: xr.Dataset, view: View, name: str) -> None:
    curves = unstack(dataset, "dim", f"{name}_")
    times = dataset.t_peak.sel(process=name).values
    for t_peak, curve, line in zip(times, curves, style.sequence(len(curves)), strict=True):
        ax.plot(curve.t / t_peak, curve.in_units(view.units).entropy, **line)
    ax.set(xlabel="$t/t_s$", xlim=(0, 4 if name == "edm" else 12), ylabel=style.entropy_label(view))


def _draw_widths(ax: Axes, dataset: xr.Dataset) -> None:
    for name, marker in (("ve", "s"), ("edm", "o"), ("vp", "^")):
        relative = (dataset.width / dataset.t_peak).sel(process=name)
        ax.plot(dataset.dim, relative, marker=marker, label=name.upper())
    ax.set(xscale="log", yscale="log", xlabel="$d$", ylabel="width of rate / $t_s$", ylim=(0.02, 6))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(loc="lower left")
