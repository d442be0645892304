"""Many classes: where the criteria of speciation part ways."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gmm
from paper_figures.drawing.style import View, letter_panels, new_figure, power_label, sequence
from paper_figures.figures.settings import Settings
from paper_figures.formats.numbers import Number, attach, number
from theory import (
    orthogonal_clone_agreement,
    orthogonal_entropy,
    speciation_time,
)

CAPTION = """
K classes with orthogonal means of equal norm, K = 2 to 10^12, by quadrature; ρ = α²E/v is the
signal-to-noise ratio of one mean. (a) Posterior entropy in units of log K against ρ/(2 log K): a ramp 1 -
ρ/(2 log K) with a kink as K grows. (b) The probability that two reverse paths cloned at ρ end in one
class: a step at the kink. (c) The ρ at which each criterion places speciation. Those that look at the
centre of the distribution, its curvature or the drift of the reverse process, follow the largest
eigenvalue of the between-class covariance and need ρ ~ K; half entropy and cloning happen at ρ ~ log K
and 2 log K, where samples are. (d) The same as times of the variance-preserving process: shifts of -½ log
K against -½ log log K. At K = 2 the criteria are one family; they are not across K.
"""

CLASSES = (2, 4, 10, 100, 1000, 10**6, 10**9, 10**12)
# An independent quadrature: K -> H/log K at ρ = 2 log K, ρ at half entropy, ρ at clone midpoint.
TABLE = {
    2: (0.62535, 2.08803, 1.70169),
    4: (0.47045, 2.54830, 2.56462),
    10: (0.36291, 3.22192, 3.96721),
    100: (0.24663, 5.14433, 8.18781),
    1000: (0.19780, 7.24908, 12.71532),
    10**6: (0.13880, 13.92540, 26.47266),
    10**12: (0.09911, 27.64648, 54.05342),
}
CRITERIA = {"half-entropy": "half entropy", "cloning": "cloning", "entropy-rate": "fastest decision"}


def compute(settings: Settings) -> xr.Dataset:
    """H/log K and agreement on one scaled axis, and the threshold of every criterion."""
    scaled = np.linspace(0.02, 2.5, settings.size(120, 40))
    counts = np.array(CLASSES, float)
    entropy = [orthogonal_entropy(k, scaled * 2 * np.log(k)) / np.log(k) for k in CLASSES]
    agreement = [orthogonal_clone_agreement(k, scaled * 2 * np.log(k)) for k in CLASSES]
    at_kink = [orthogonal_entropy(k, 2 * np.log(k)) / np.log(k) for k in CLASSES]
    dataset = xr.Dataset(
        {
            "entropy_share": (("classes", "scaled_rho"), np.array(entropy)),
            "clone_agreement": (("classes", "scaled_rho"), np.array(agreement)),
            "entropy_share_at_kink": ("classes", np.array(at_kink)),
            "threshold": (("criterion", "classes"), [_thresholds(c) for c in CRITERIA]),
            # The centre's curvature turns at α²λ = v with λ = E/K, the top between-class eigenvalue.
            "curvature_threshold": ("classes", counts),
        },
        coords={"classes": counts, "scaled_rho": scaled, "criterion": list(CRITERIA)},
    )
    return attach(dataset, _numbers(dataset))


def _thresholds(criterion: str) -> list[float]:
    """The ρ at which a criterion places speciation, for each K: E e^{-2t} under VP with variance 1."""
    process = gmm.vp()

    def at(classes: int) -> float:
        # Enough energy that the time is well inside t > 0.
        energy = 1e4 * np.log(2.0 * classes)
        time = speciation_time(process, energy, classes=classes, family="orthogonal", criterion=criterion)
        return float(energy * np.exp(-2 * np.asarray(time)))

    return [at(classes) for classes in CLASSES]


def _numbers(dataset: xr.Dataset) -> list[Number]:
    numbers = []
    for classes, (share, half, clone) in TABLE.items():
        at = dataset.sel(classes=float(classes))
        name = f"K = {classes:.0e}" if classes > 1000 else f"K = {classes}"
        numbers += [
            number(f"{name}: H/log K at ρ = 2 log K", at.entropy_share_at_kink, expected=share),
            number(f"{name}: ρ at half entropy", at.threshold.sel(criterion="half-entropy"), expected=half),
            number(f"{name}: ρ at clone midpoint", at.threshold.sel(criterion="cloning"), expected=clone),
        ]
    largest = dataset.isel(classes=-1)
    log_classes = np.log(largest.classes)
    for criterion, limit in (("half-entropy", 1.0), ("cloning", 2.0)):
        ratio = largest.threshold.sel(criterion=criterion) / log_classes
        numbers.append(number(f"ρ / log K at K = 10^12, {criterion} (limit K → ∞)", ratio, expected=limit))
    return numbers


def draw(dataset: xr.Dataset, _view: View) -> Figure:
    """Curves above, thresholds below."""
    figure, axes = new_figure(2, 2, height=4.8)
    for classes, line in zip(dataset.classes.values, sequence(dataset.sizes["classes"]), strict=True):
        part = dataset.sel(classes=classes)
        axes[0, 0].plot(part.scaled_rho, part.entropy_share, label=power_label(classes), **line)
        axes[0, 1].plot(part.scaled_rho, part.clone_agreement, **line)
    axes[0, 0].plot([0, 1, 2.5], [1, 0, 0], color="k", linewidth=0.8, linestyle="-", label=r"$\infty$")
    axes[0, 1].step([0, 1, 2.5], [0, 0, 1], color="k", linewidth=0.8, linestyle="-")
    axes[0, 1].legend(*axes[0, 0].get_legend_handles_labels(), title="$K$", ncols=2, loc="lower right")
    axes[0, 0].set_ylabel(r"$H[Z\,|\,X_t]\,/\,\log K$")
    axes[0, 1].set_ylabel("clone agreement")
    for ax in axes[0]:
        ax.set_xlabel(r"$\rho\,/\,(2\log K)$")
    _draw_thresholds(axes[1, 0], dataset)
    _draw_shifts(axes[1, 1], dataset)
    names = ("entropy: a ramp with a kink", "agreement: a step", "thresholds", "the same as times")
    letter_panels(axes.flat, names)
    return figure


_MARKERS = {"half-entropy": "o", "cloning": "s", "entropy-rate": "^"}


def _draw_thresholds(ax: Axes, dataset: xr.Dataset) -> None:
    k = dataset.classes.values
    for criterion, label in CRITERIA.items():
        ax.plot(k, dataset.threshold.sel(criterion=criterion), marker=_MARKERS[criterion], label=label)
    ax.plot(k, dataset.curvature_threshold, marker="D", label="curvature at the centre")
    ax.set(xscale="log", yscale="log", xlabel="$K$", ylabel=r"threshold $\rho$", ylim=(1, 3e3))
    ax.legend()


def _draw_shifts(ax: Axes, dataset: xr.Dataset) -> None:
    k = dataset.classes.values
    for criterion in CRITERIA:
        threshold = dataset.threshold.sel(criterion=criterion)
        ax.plot(k, -0.5 * np.log(threshold), marker=_MARKERS[criterion])
    ax.plot(k, -0.5 * np.log(dataset.curvature_threshold), marker="D")
    guide = np.geomspace(1e3, k[-1], 50)
    ax.plot(guide, -0.5 * np.log(2 * np.log(guide)) - 0.5, color="0.5", linewidth=0.8, linestyle="-")
    ax.annotate(r"$-\frac{1}{2}\log\log K$", (1e6, -3.6), color="0.35", fontsize=7)
    ax.annotate(r"$-\frac{1}{2}\log K$", (1e2, -8), color="0.35", fontsize=7)
    ax.set(xscale="log", xlabel="$K$", ylabel=r"$t_s-\frac{1}{2}\log E$")
