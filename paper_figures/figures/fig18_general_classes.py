"""Classes that differ in their means, in their covariances, or in both."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gmm
from gmm.curve import EntropyCurve
from paper_figures.drawing.style import View, draw_entropy, kinds, letter_panels, new_figure, sequence
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import stack, unstack
from paper_figures.formats.numbers import Number, attach, number
from theory import exact_curve, fit_slope, pair_speciation_time, weak_signal_noise

CAPTION = """
Two equally likely Gaussian classes under the variance-preserving process, without sampling: every point is one line
integral. (a) One mean, variances 1 and 1.5, d = 10² to 10^6: the curves collapse against t - ¼ log d. (b) Time of
half entropy against d: means alone (‖Δ‖² = d) grow as ½ log d, variances 1 and 1.5 as ¼ log d, both together as the
means. Spectra i^{-a} whose classes differ by a factor of 2 (a = ¼) grow as ⅛ log d, by a factor of 20 (a = 1) not at
all: a few directions decide. Dotted, the law of many weak coordinates, ‖Δ‖²/(4τ) + tr E²/(8τ²) = 1.044 with τ = σ²/α²
and E the difference of the covariances; it does not hold for a = 1. (c) Spectra as those of images, i^{-1} and
i^{-1.2} times 10 in d = 784, with one mean, with means ‖Δ‖² = 4, and the means alone with the first spectrum: bars
mark half entropy. (d) Criteria for the classes of (a): where the log-likelihood ratio's mean equals its standard
deviation (free entropies), half entropy and cloning all grow as ¼ log d; ½ log Λ, with Λ the largest variance of the
data, does not see the classes, and the curvature at the centre never changes sign.
"""

RATIO = 1.5
DIMS = 10.0 ** np.arange(1, 7)
STRUCTURES = ("means", "covariances", "both", "power law ¼", "power law 1")
CRITERIA = ("half-entropy", "free-entropy", "cloning")
IMAGE_DIM, EXPONENTS, SCALE, IMAGE_SHIFT = 784, (1.0, 1.2), 10.0, 4.0
IMAGES = ("one mean", "means apart", "means alone")
# Growth of t with log d as d → ∞.
GROWTH = {"means": 0.5, "covariances": 0.25, "both": 0.5, "power law ¼": 0.125, "power law 1": 0.0}


def compute(settings: Settings) -> xr.Dataset:
    """Curves, times of half entropy, criteria."""
    process = gmm.vp()
    shifted = np.linspace(-2.2, 1.6, settings.size(120, 40))
    dims = DIMS[1:]
    curves = [
        exact_curve(structure("covariances", d), process, np.maximum(shifted + 0.25 * np.log(d), 0.01))
        for d in dims
    ]
    few = DIMS[: settings.size(6, 4)]
    times = [[pair_speciation_time(structure(name, d), process) for d in few] for name in STRUCTURES]
    laws = [[_law(structure(name, d)) for d in few] for name in STRUCTURES]
    criteria = [
        [pair_speciation_time(structure("covariances", d), process, name) for d in DIMS] for name in CRITERIA
    ]
    images = [
        exact_curve(image_pair(name), process, np.linspace(0.02, 3.0, settings.size(150, 40)))
        for name in IMAGES
    ]
    dataset = xr.merge(
        [
            stack(curves, "dim", dims),
            stack(images, "image", list(IMAGES), prefix="image_"),
            xr.Dataset(
                {
                    "half": (("structure", "grown"), times),
                    "law": (("structure", "grown"), laws),
                    "criterion_time": (("criterion", "all_dims"), criteria),
                    "image_half": (
                        "image",
                        [pair_speciation_time(image_pair(name), process) for name in IMAGES],
                    ),
                },
                {"structure": list(STRUCTURES), "grown": few, "criterion": list(CRITERIA), "all_dims": DIMS},
            ),
        ]
    )
    return attach(dataset, _numbers(dataset))


def structure(name: str, dim: float) -> gmm.Mixture:
    """Two classes that differ in what `name` says, in d dimensions."""
    size = int(dim)
    means = np.zeros((2, size))
    if name in ("means", "both"):
        means[1, 0] = np.sqrt(size)
    if name.startswith("power"):
        exponent, factor = {"power law ¼": (0.25, 2.0), "power law 1": (1.0, 20.0)}[name]
        spectrum = np.arange(1.0, size + 1) ** -exponent
        return gmm.Mixture(np.full(2, 0.5), means, gmm.Diagonal(np.stack([spectrum, factor * spectrum])))
    var = np.array([1.0, 1.0 if name == "means" else RATIO])
    return gmm.Mixture(np.full(2, 0.5), means, gmm.Isotropic(var))


def image_pair(name: str) -> gmm.Mixture:
    """Two classes with spectra that fall as those of images do."""
    spectra = SCALE * np.arange(1.0, IMAGE_DIM + 1) ** -np.array(EXPONENTS)[:, None]
    if name == "means alone":
        spectra = np.stack([spectra[0], spectra[0]])
    means = np.zeros((2, IMAGE_DIM))
    if name != "one mean":
        means[1] = np.sqrt(IMAGE_SHIFT * spectra[0] / spectra[0].sum())
    return gmm.Mixture(np.full(2, 0.5), means, gmm.Diagonal(spectra))


def _law(mixture: gmm.Mixture) -> float:
    """The time that the law of many weak coordinates gives."""
    means, var = np.asarray(mixture.means), np.asarray(mixture.covariance.eigenvalues(mixture.dim))
    noise = weak_signal_noise(((means[1] - means[0]) ** 2).sum(), ((var[1] - var[0]) ** 2).sum())
    return 0.5 * float(np.log1p(noise))


def _numbers(dataset: xr.Dataset) -> list[Number]:
    logs = np.log(dataset.grown.values)
    numbers = []
    for name, growth in GROWTH.items():
        slope = fit_slope(logs[-3:], dataset.half.sel(structure=name).values[-3:])
        numbers.append(
            number(f"slope of half entropy against log d, {name}", slope.value, slope.stderr, growth)
        )
    gap = dataset.half.sel(structure="covariances") - dataset.law.sel(structure="covariances")
    numbers.append(
        number(
            "covariances: exact time less its limit, the law, at the largest d", gap.values[-1], expected=0.0
        )
    )
    for name in CRITERIA:
        times = dataset.criterion_time.sel(criterion=name).values
        numbers.append(number(f"{name} - ¼ log d, d = 10^6", times[-1] - 0.25 * np.log(DIMS[-1])))
    return numbers + [
        number(f"t at half entropy, images, {name}", value)
        for name, value in zip(IMAGES, dataset.image_half.values, strict=True)
    ]


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Collapse, growth, images and criteria."""
    figure, axes = new_figure(2, 2, height=4.8)
    _draw_collapse(axes[0, 0], dataset)
    _draw_growth(axes[0, 1], dataset)
    _draw_images(axes[1, 0], dataset, view)
    _draw_criteria(axes[1, 1], dataset)
    letter_panels(axes.flat, ("covariances alone", "growth with d", "spectra of images", "criteria"))
    return figure


def _draw_collapse(ax: Axes, dataset: xr.Dataset) -> None:
    curves = unstack(dataset, "dim")
    for curve, dim, line in zip(curves, dataset.dim.values, sequence(len(curves)), strict=True):
        shifted = curve.t - 0.25 * np.log(dim)
        ax.plot(shifted, curve.entropy, label=f"$10^{{{round(np.log10(dim))}}}$", **line)
    ax.set(xlabel=r"$t-\frac{1}{4}\log d$", ylabel=r"$H[Z\,|\,X_t]$ (nat)")
    ax.legend(title="d")


def _draw_growth(ax: Axes, dataset: xr.Dataset) -> None:
    for name, line in zip(STRUCTURES, kinds(len(STRUCTURES)), strict=True):
        drawn = ax.plot(dataset.grown, dataset.half.sel(structure=name), marker="o", label=name, **line)
        if not name.endswith("1"):
            ax.plot(dataset.grown, dataset.law.sel(structure=name), color=drawn[0].get_color(), linestyle=":")
    ax.set(xscale="log", xlabel="d", ylabel="t at half entropy")
    ax.legend()


def _draw_images(ax: Axes, dataset: xr.Dataset, view: View) -> None:
    axis = view.on("t")
    curves: list[EntropyCurve] = unstack(dataset, "image", "image_")
    for curve, name, half, line in zip(
        curves, IMAGES, dataset.image_half.values, kinds(len(IMAGES)), strict=True
    ):
        draw_entropy(ax, curve, view, axis, label=name, **line)
        if axis == "t" and np.isfinite(half):
            ax.axvline(half, color=line.get("color"), linewidth=0.6)
    ax.legend()


def _draw_criteria(ax: Axes, dataset: xr.Dataset) -> None:
    for name, line in zip(CRITERIA, kinds(len(CRITERIA)), strict=True):
        ax.plot(dataset.all_dims, dataset.criterion_time.sel(criterion=name), marker="o", label=name, **line)
    largest = 0.5 * np.log(0.5 * (1 + RATIO))
    ax.axhline(largest, color="0.55", linestyle="--", label=r"$\frac{1}{2}\log\Lambda$")
    ax.set(xscale="log", xlabel="d", ylabel="t")
    ax.legend()
