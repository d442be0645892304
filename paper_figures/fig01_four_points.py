"""One-dimensional mixture of four points: when is each decision made?"""

import jax
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gmm
from gmm.curve import EntropyCurve
from paper_figures.curves import peak, stack, unstack
from paper_figures.numbers import Number, attach, number
from paper_figures.settings import Settings
from paper_figures.style import (
    View,
    draw_entropy,
    draw_rate,
    entropy_label,
    new_figure,
    noise_axis,
    rate_label,
    title,
)
from theory import speciation_time

CAPTION = """
A one-dimensional mixture of four equally likely points at -8, -4, 6 and 8 (Handke et al., arXiv
2506.10433, Fig. 1) under the variance-preserving process. (a) Density at each time, each column scaled to
its own maximum, with exact reverse paths. (b) Posterior of the four points along the path drawn thick in
(a). (c) Posterior entropy of four decisions: left against right, -8 against -4 given left, 6 against 8
given right, and all four at once. (d) Their rates: each decision has a time of its own, and the coarse
one comes first on the way back from noise. Bands are two standard errors.
"""

POINTS = (-8.0, -4.0, 6.0, 8.0)
DECISIONS = {
    "left | right": (0, 0, 1, 1),
    "-8 | -4": (0, 1, -1, -1),
    "6 | 8": (-1, -1, 0, 1),
    "all four": (0, 1, 2, 3),
}
TIMES = np.linspace(0.02, 4.0, 200)
GRID = np.linspace(-9.5, 9.5, 401)
SHOWN_PATHS = 24


def compute(settings: Settings) -> xr.Dataset:
    """Density, reverse paths, posteriors and the entropy of each decision."""
    process = gmm.vp()
    mixture = gmm.Mixture(np.full(4, 0.25), np.array(POINTS)[:, None], gmm.Isotropic(0.0))
    key_curves, key_start, key_paths = jax.random.split(settings.key(), 3)
    curves = {
        name: gmm.class_entropy(
            mixture,
            process,
            TIMES,
            partition=gmm.Partition(np.array(cells)),
            key=key_curves,
            samples=settings.size(8192, 1024),
        )
        for name, cells in DECISIONS.items()
    }
    last = gmm.diffuse(mixture, process.alpha(TIMES[-1]), process.sigma(TIMES[-1]))
    start, _ = gmm.sample(last, key_start, settings.size(4000, 500))
    paths = gmm.reverse_sde(mixture, process, TIMES[::-1], start, key_paths)[::-1, :, 0]
    dataset = stack(list(curves.values()), "decision", list(curves))
    noisy = [gmm.diffuse(mixture, process.alpha(t), process.sigma(t)) for t in TIMES]
    dataset = dataset.assign_coords(x=GRID, mode=list(POINTS)).assign(
        density=(("point", "x"), np.exp([gmm.log_prob(p, GRID[:, None]) for p in noisy])),
        path=(("point", "chain"), np.asarray(paths[:, :SHOWN_PATHS])),
        posterior=(("point", "mode"), _posterior(noisy, paths)),
    )
    return attach(dataset, _numbers(curves, np.asarray(paths[0])))


def _posterior(noisy: list[gmm.Mixture], paths: jax.Array) -> np.ndarray:
    """(T, 4) posterior along the first path."""
    return np.exp([gmm.log_posterior(p, paths[i, :1]) for i, p in enumerate(noisy)])


def _numbers(curves: dict[str, EntropyCurve], ends: np.ndarray) -> list[Number]:
    """Times of the fastest decisions against their closed form, the chain rule, and where the paths end."""
    process = gmm.vp()
    found = []
    # Two points at distance 2m are the pair ±m of variance zero.
    for name, distance in (("-8 | -4", 4.0), ("6 | 8", 2.0)):
        exact = float(speciation_time(process, (distance / 2) ** 2, variance=0.0))
        found.append(
            number(
                f"{name}: time of fastest decision", peak(curves[name].t, curves[name].rate), expected=exact
            )
        )
    whole, coarse, left, right = (curves[n] for n in ("all four", "left | right", "-8 | -4", "6 | 8"))
    found.append(number("left | right: time of fastest decision", peak(coarse.t, coarse.rate)))
    gap = whole.entropy - coarse.entropy - 0.5 * (left.entropy + right.entropy)
    found.append(number("chain rule, largest gap over t (nat)", np.abs(gap).max(), expected=0.0))
    share = np.mean(ends < 0)
    stderr = np.sqrt(0.25 / len(ends))
    return [*found, number("share of reverse paths that end left", share, stderr, 0.5)]


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Four panels on one noise axis."""
    figure, axes = new_figure(2, 2, height=4.6, sharex=True)
    axis = view.on("t")
    curves = unstack(dataset, "decision")
    noise = curves[0].axis(axis)
    _draw_paths(axes[0, 0], dataset, noise)
    _draw_posterior(axes[1, 0], dataset, noise)
    for curve, name in zip(curves, dataset.decision.values, strict=True):
        draw_entropy(axes[0, 1], curve, view, axis, label=str(name))
        draw_rate(axes[1, 1], curve, view, axis, label=str(name))
    axes[0, 1].set_ylabel(entropy_label(view))
    axes[1, 1].set_ylabel(rate_label(view, axis))
    axes[0, 1].legend(title="decision")
    titles = ("density and reverse paths", "posterior entropy", "posterior along one path", "rate")
    for ax, letter, text in zip(axes.flat, "acbd", titles, strict=True):
        title(ax, letter, text)
        noise_axis(ax, axis)
    for ax in axes[0]:
        ax.set_xlabel("")
    return figure


def _draw_paths(ax: Axes, dataset: xr.Dataset, noise: np.ndarray) -> None:
    density = (dataset.density / dataset.density.max("x")).values
    ax.pcolormesh(noise, dataset.x, np.sqrt(density).T, cmap="Greys", shading="nearest", rasterized=True)
    for i in range(dataset.sizes["chain"])[::-1]:
        width, shade = (1.6, "#b3341f") if i == 0 else (0.4, "#1f4e9e")
        ax.plot(noise, dataset.path[:, i], color=shade, linewidth=width, linestyle="-")
    ax.set(ylabel="$x_t$", yticks=POINTS)
    ax.grid(False)


def _draw_posterior(ax: Axes, dataset: xr.Dataset, noise: np.ndarray) -> None:
    shades = ("#1b1b1b", "#5a6b8c", "#a9b4c8", "#e2e2e2")
    labels = [f"{mode:+g}" for mode in dataset.mode.values]
    ax.stackplot(
        noise, dataset.posterior.values.T, colors=shades, labels=labels, edgecolor="white", linewidth=0.3
    )
    ax.set(ylabel="posterior", ylim=(0, 1))
    ax.legend(title="point", loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)
