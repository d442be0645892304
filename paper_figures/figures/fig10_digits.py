"""A real labelled data set: speciation and collapse of scikit-learn's digits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gmm
from gmm.curve import EntropyCurve
from gmm.datasets import LabelledData, load_data
from gmm.landmarks import half_entropy
from gmm.partition import cell_log_posterior
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import fastest_time, half_entropy_time, stack, unstack, window_ends
from paper_figures.formats.numbers import Number, attach, number

CAPTION = """
scikit-learn's 1,797 handwritten digits (8x8, ten classes), centred and scaled to mean variance one, three
quarters of them to learn from and the rest held out, under the variance-preserving process. (a) Exact entropies
of the empirical mixture, one point mass an image: the class is decided (speciation) well before the image is
(collapse, the speciation of the finest partition). Each as a share of its prior entropy. (b) Their rates. (c)
Class entropy of the empirical mixture, of one Gaussian for each class (shared covariance) and of one mixture
for each class, with the cross-entropy of held-out images under each (dashed). The empirical entropy falls to
zero whatever the classes are, because it has memorised the images: it says something about digits only where
its held-out cross-entropy agrees, above the time among the numbers; below, the surrogates and the held-out
curves are what to read. (d) Where each speciates: central 80% of the information (bar) and half entropy (mark);
the vertical line is ½ log Λ, Λ the top covariance eigenvalue (Biroli et al. 2024). Bands are two standard
errors.
"""

HELD_OUT_SHARE = 0.25
MIXTURE_COMPONENTS = 4
SHRINKAGE = 0.1
# Nat by which held-out cross-entropy may exceed the entropy before the latter counts as memorisation.
AGREEMENT = 0.05
EMPIRICAL, POINTS = "empirical, class", "empirical, image"
GAUSSIAN, MIXTURE = "a Gaussian a class", "a mixture a class"


class Model(NamedTuple):
    """A mixture that stands for the data, and the partition whose entropy is computed."""

    mixture: gmm.Mixture
    partition: gmm.Partition


def compute(settings: Settings) -> xr.Dataset:
    """Entropies, rates and held-out cross-entropies of four models of the digits."""
    data = load_data("digits").standardised()
    learn, held_out = data.split(HELD_OUT_SHARE, settings.seed)
    times = np.geomspace(0.05, 4.0, settings.size(48, 20))
    key_curves, key_noise = jax.random.split(settings.key())
    laws = models(learn, settings.seed)
    samples = settings.size(2048, 512)
    curves = {
        name: gmm.class_entropy(
            model.mixture,
            gmm.vp(),
            times,
            partition=model.partition,
            key=key_curves,
            samples=samples,
            # Midpoints of far too many pairs to help.
            boundary=False,
        )
        for name, model in laws.items()
    }
    classes = [name for name in laws if name != POINTS]
    noise = jax.random.normal(key_noise, (settings.size(8, 2), *held_out.x.shape))
    scores = [cross_entropy(laws[name], gmm.vp(), times, held_out, noise) for name in classes]
    dataset = stack(list(curves.values()), "model", list(curves)).assign_coords(scored=classes)
    dataset = dataset.assign(
        held_out=(("scored", "point"), [mean for mean, _ in scores]),
        held_out_stderr=(("scored", "point"), [stderr for _, stderr in scores]),
        window=(("model", "end"), [window_ends(curve) for curve in curves.values()]),
        half_log_top_eigenvalue=0.5 * np.log(np.linalg.eigvalsh(np.cov(learn.x.T))[-1]),
    )
    return attach(dataset, _numbers(dataset, curves, len(learn.x)))


def models(learn: LabelledData, seed: int) -> dict[str, Model]:
    """The empirical mixture with partitions into classes and into images, and two surrogates with classes."""
    x, y = learn.x.astype(np.float64), learn.y
    empirical, labels = gmm.families.empirical(x, y)
    gaussian = gmm.families.fitted(x, y, covariance="shared", seed=seed)
    mixture = gmm.families.fitted(
        x, y, components=MIXTURE_COMPONENTS, covariance="full", shrinkage=SHRINKAGE, seed=seed
    )
    return {
        EMPIRICAL: Model(empirical, labels),
        POINTS: Model(empirical, gmm.Partition(np.arange(len(x)))),
        GAUSSIAN: Model(*gaussian),
        MIXTURE: Model(*mixture),
    }


def cross_entropy(
    model: Model,
    process: gmm.Process,
    times: np.ndarray,
    data: LabelledData,
    noise: Float[Array, "draws n d"],
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of -log p(y|x_t) over data noised forward, and its standard error, (T,) each (nats).

    Args:
        model: what gives p(class|x_t).
        process: forward process.
        times: (T,) times.
        data: labelled points that the model has not seen.
        noise: standard normal; the same serves all times, and draws are averaged before points are compared.
    """
    labels, cells = jnp.asarray(model.partition.labels), model.partition.cells
    x0, y = jnp.asarray(data.x, model.mixture.dtype), jnp.asarray(data.y)

    @jax.jit
    def surprise(alpha: Float[Array, ""], sigma: Float[Array, ""]) -> Float[Array, " n"]:
        noisy = gmm.diffuse(model.mixture, alpha, sigma)
        by_class = cell_log_posterior(
            gmm.log_posterior(noisy, alpha * x0[None] + sigma * noise), labels, cells
        )
        return -jnp.take_along_axis(by_class, y[None, :, None], axis=-1)[..., 0].mean(axis=0)

    surprises = np.stack([np.asarray(surprise(process.alpha(t), process.sigma(t))) for t in times])
    return surprises.mean(axis=1), surprises.std(axis=1, ddof=1) / np.sqrt(surprises.shape[1])


def _numbers(dataset: xr.Dataset, curves: dict[str, EntropyCurve], points: int) -> list[Number]:
    numbers = []
    for name, curve in curves.items():
        numbers.append(number(f"{name}: t at half entropy", half_entropy_time(gmm.vp(), curve)))
        numbers.append(number(f"{name}: t of fastest decision", fastest_time(gmm.vp(), curve)))
    numbers.append(number("½ log Λ, Λ the top covariance eigenvalue", dataset.half_log_top_eigenvalue))
    # Biroli et al. 2024, isotropic Gaussian data of variance 1: n = e^{κd} points.
    spread = np.expm1(2 * np.log(points) / 64)
    numbers.append(number("collapse time of as many isotropic Gaussian points", 0.5 * np.log1p(1 / spread)))
    for name in dataset.scored.values:
        scored = dataset.sel(scored=name)
        excess = scored.held_out - curves[str(name)].entropy
        agree = curves[str(name)].t[np.flatnonzero(excess.values > AGREEMENT)]
        label = f"{name}: held-out cross-entropy exceeds entropy by {AGREEMENT} nat below t"
        numbers.append(number(label, agree.max() if len(agree) else 0.0))
        best = int(np.argmin(scored.held_out.values))
        label = f"{name}: least held-out cross-entropy (nat)"
        numbers.append(number(label, scored.held_out[best], scored.held_out_stderr[best]))
    return numbers


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Speciation and collapse, rates, surrogates, and times."""
    figure, axes = style.new_figure(2, 2, height=5.0)
    axis = view.on("t")
    curves = dict(zip(dataset.model.values, unstack(dataset, "model"), strict=True))
    lines = dict(zip(curves, style.sequence(len(curves)), strict=True))
    for name in (EMPIRICAL, POINTS):
        curve = curves[name]
        share, stderr = curve.entropy / curve.prior_entropy, curve.entropy_stderr / curve.prior_entropy
        style.band(axes[0, 0], curve.axis(axis), share, stderr, label=name, **lines[name])
        style.draw_rate(axes[0, 1], curve, view, axis, label=name, **lines[name])
    _draw_surrogates(axes[1, 0], dataset, curves, lines, view, axis)
    _draw_times(axes[1, 1], dataset, curves, lines, axis)
    axes[0, 0].set_ylabel("$H\\,/\\,H[Z]$")
    axes[0, 0].legend()
    style.noise_axis(axes[0, 0], axis)
    names = ("class and image", "rates", "surrogates and held-out images", "where each speciates")
    style.letter_panels(axes.flat, names)
    return figure


def _draw_surrogates(
    ax: Axes,
    dataset: xr.Dataset,
    curves: dict[str, EntropyCurve],
    lines: dict[str, dict],
    view: View,
    axis: str,
) -> None:
    for name in dataset.scored.values:
        curve, color = curves[name], lines[name]["color"]
        style.draw_entropy(ax, curve, view, axis, label=str(name), color=color, linestyle="-")
        scored = dataset.sel(scored=name)
        mean, stderr = view.information(scored.held_out), view.information(scored.held_out_stderr)
        style.band(ax, curve.axis(axis), mean, stderr, color=color, linestyle="--")
    ax.set_ylim(0, None)
    if axis == "t":
        ax.set_xlim(0, 2.5)
    ax.legend()


def _draw_times(
    ax: Axes, dataset: xr.Dataset, curves: dict[str, EntropyCurve], lines: dict[str, dict], axis: str
) -> None:
    # Bars start at an edge that would otherwise be the panel's, once the limits are first asked for.
    ax.use_sticky_edges = False
    for row, (name, curve) in enumerate(curves.items()):
        noise, log_noise = curve.axis(axis), np.log(curve.sigma)
        low, high = np.interp(dataset.window.sel(model=name).values, log_noise, noise)
        half = np.interp(half_entropy(curve).value, log_noise, noise)
        color = lines[name]["color"]
        ax.barh(row, high - low, left=low, height=0.45, color=color, alpha=0.35)
        ax.plot(half, row, marker="D", color=color)
    top = float(dataset.half_log_top_eigenvalue)
    reference = curves[EMPIRICAL]
    ax.axvline(np.interp(top, reference.t, reference.axis(axis)), color="0.4", linewidth=0.9, linestyle="--")
    ax.set_yticks(range(len(curves)), list(curves))
    ax.invert_yaxis()
    style.noise_axis(ax, axis)
