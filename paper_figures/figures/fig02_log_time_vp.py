"""The logarithmic-time law under the variance-preserving process."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import gmm
from gmm.curve import EntropyCurve
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import stack, unstack
from paper_figures.formats.numbers import Number, attach, number
from theory import binary_entropy, entropy_curve, fit_slope, peak, speciation_time

CAPTION = """
Two classes in d = 10 to 10^8 dimensions, means ±m with ‖m‖² = d, within-class variance 1, under the variance-
preserving process dx = -x dt + √2 dW, by quadrature. (a) Posterior entropy against time. (b) Entropy rate. (c)
Against t - ½ log d all curves are one: the speciation time grows as ½ log d. (d) Against t/t_s, t_s the maximum
of the rate, the same curves sharpen into a step, because their width in t stays what it is while t_s grows. The
collapse is exact at within-class variance 1; at other variances s² it is approached as 1/d, which the numbers
show for s² = 1/4.
"""

DIMS = 10.0 ** np.arange(1, 9)
# Noise far enough beyond the decision that its entropy is within 1e-3 of log 2.
BEYOND = 3.5
# What quadrature gives for s = 1 (`theory.peak`): offsets from ½ log d, height and full width at half height of dH/dt
# (nat per unit t).
PEAK_OFFSET, HALF_OFFSET, PEAK_HEIGHT, PEAK_WIDTH = -0.2055, -0.0215, 0.47952, 1.3109


def compute(settings: Settings) -> xr.Dataset:
    """A curve for each dimension, its speciation times, and how far the collapse is from exact."""
    process = gmm.vp()
    points = settings.size(600, 150)
    curves = [entropy_curve(process, np.linspace(0.01, 0.5 * np.log(d) + BEYOND, points), d) for d in DIMS]
    dataset = stack(curves, "dim", DIMS).assign(
        t_peak=("dim", [speciation_time(process, d, criterion="entropy-rate") for d in DIMS]),
        t_half=("dim", [speciation_time(process, d, criterion="half-entropy") for d in DIMS]),
        residual=(("variance", "dim"), [_residuals(variance) for variance in (1.0, 0.25)]),
    )
    dataset = dataset.assign_coords(variance=[1.0, 0.25])
    return attach(dataset, _numbers(dataset, curves))


def _residuals(variance: float) -> list[float]:
    """For each d, the largest distance (nat) of H(t - ½ log d) from its limit d → ∞."""
    limit = np.linspace(-3.0, 3.0, 241)

    def at(dim: float) -> float:
        t = limit + 0.5 * np.log(dim)
        t, u = t[t > 0], limit[t > 0]
        decay = np.exp(-2 * t)
        rho = dim * decay / (variance * decay - np.expm1(-2 * t))
        return float(np.abs(binary_entropy(rho) - binary_entropy(np.exp(-2 * u))).max())

    return [at(dim) for dim in DIMS]


def _numbers(dataset: xr.Dataset, curves: list[EntropyCurve]) -> list[Number]:
    logs = np.log(DIMS)
    numbers = []
    for name, what, offset in (
        ("t_peak", "fastest decision", PEAK_OFFSET),
        ("t_half", "half entropy", HALF_OFFSET),
    ):
        fit = fit_slope(logs, dataset[name].values)
        numbers += [
            number(f"slope of the time of {what} against log d", fit.value, fit.stderr, 0.5),
            number(f"time of {what} - ½ log d", np.mean(dataset[name] - 0.5 * logs), expected=offset),
        ]
    widths = {d: peak(gmm.vp(), d).width for d in (1e2, 1e8)}
    times = dict(zip(DIMS, dataset.t_peak.values, strict=True))
    numbers += [
        number("largest dH/dt (nat per unit t)", curves[-1].rate.max(), expected=PEAK_HEIGHT),
        number("full width of dH/dt at half height, d = 10^8", widths[1e8], expected=PEAK_WIDTH),
        number("width / t_s at d = 10^2", widths[1e2] / times[1e2], expected=PEAK_WIDTH / times[1e2]),
        number("width / t_s at d = 10^8", widths[1e8] / times[1e8], expected=PEAK_WIDTH / times[1e8]),
    ]
    for variance in dataset.variance.values:
        worst = float(dataset.residual.sel(variance=variance, dim=1e4))
        numbers.append(number(f"distance from collapse at d = 10^4, s² = {variance:g} (nat)", worst))
    fit = fit_slope(logs[2:], np.log(dataset.residual.sel(variance=0.25)[2:]))
    return [*numbers, number("its exponent in d, s² = 0.25", fit.value, fit.stderr, -1.0)]


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """H and dH/dt against noise, then the two rescalings of t."""
    figure, axes = style.new_figure(2, 2, height=4.6)
    axis = view.on("t")
    dims, curves = dataset.dim.values, unstack(dataset, "dim")
    times = dataset.t_peak.values
    for d, curve, t_peak, line in zip(dims, curves, times, style.sequence(len(dims)), strict=True):
        entropy = curve.in_units(view.units).entropy
        style.draw_entropy(axes[0, 0], curve, view, axis, label=style.power_label(d), **line)
        style.draw_rate(axes[0, 1], curve, view, axis, **line)
        axes[1, 0].plot(curve.t - 0.5 * np.log(d), entropy, **line)
        axes[1, 1].plot(curve.t / t_peak, entropy, **line)
    style.shared_legend(figure, axes[0, 0], "$d$")
    axes[1, 0].set(xlabel=r"$t-\frac{1}{2}\log d$", xlim=(-3, 3.5))
    axes[1, 1].set(xlabel="$t/t_s$", xlim=(0, 2.2))
    for ax in axes[1]:
        ax.set_ylabel(style.entropy_label(view))
    names = ("entropy", "rate", r"collapse: $t_s=\frac{1}{2}\log d+$const", "against $t/t_s$: a step")
    style.letter_panels(axes.flat, names)
    return figure
