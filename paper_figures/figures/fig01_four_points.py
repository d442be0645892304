"""One-dimensional mixture of four points: when is each decision made?"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gmm
from gmm.curve import EntropyCurve
from paper_figures.drawing.style import View, draw_entropy, draw_rate, letter_panels, new_figure, noise_axis
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import stack, unstack
from paper_figures.formats.numbers import Number, attach, number
from theory import window

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
# Two points at distance 2m are the pair ±m of variance zero: decisions with a closed form, and their m.
PAIRS = {"-8 | -4": 2.0, "6 | 8": 1.0}
# Half entropy of the pair: rho = m² alpha²/sigma² (quadrature, 16 digits).
HALF_ENTROPY_RHO = 1.0440133154525
GRID = np.linspace(-9.5, 9.5, 401)
SHOWN_PATHS = 24


def compute(settings: Settings) -> xr.Dataset:
    """Density, reverse paths, posteriors and the entropy of each decision."""
    process = gmm.vp()
    times = np.linspace(0.02, 4.0, settings.size(160, 80))
    mixture = gmm.Mixture(np.full(4, 0.25), np.array(POINTS)[:, None], gmm.Isotropic(0.0))
    key_curves, key_start, key_paths = jax.random.split(settings.key(), 3)
    curves = {
        name: gmm.class_entropy(
            mixture,
            process,
            times,
            partition=gmm.Partition(np.array(cells)),
            key=key_curves,
            samples=settings.size(8192, 2048),
        )
        for name, cells in DECISIONS.items()
    }
    last = gmm.diffuse(mixture, process.alpha(times[-1]), process.sigma(times[-1]))
    start, _ = gmm.sample(last, key_start, settings.size(4000, 500))
    paths = gmm.reverse_sde(mixture, process, times[::-1], start, key_paths, kernel="exact")[::-1]
    density, posterior = _along(mixture, process, jnp.asarray(times), paths[:, :1])
    dataset = stack(list(curves.values()), "decision", list(curves))
    dataset = dataset.assign_coords(x=GRID, mode=list(POINTS)).assign(
        density=(("point", "x"), np.asarray(density)),
        posterior=(("point", "mode"), np.asarray(posterior)),
        path=(("point", "chain"), np.asarray(paths[:, :SHOWN_PATHS, 0])),
    )
    return attach(dataset, _numbers(curves, np.asarray(paths[0, :, 0])))


@jax.jit
def _along(
    mixture: gmm.Mixture, process: gmm.Process, times: Float[Array, " T"], path: Float[Array, "T 1 1"]
) -> tuple[Float[Array, "T x"], Float[Array, "T 4"]]:
    """Density on the grid, and posterior along one path, at each time."""

    def at(t: Float[Array, ""], x: Float[Array, "1 1"]) -> tuple[Float[Array, " x"], Float[Array, " 4"]]:
        noisy = gmm.diffuse(mixture, process.alpha(t), process.sigma(t))
        return jnp.exp(gmm.log_prob(noisy, GRID[:, None])), jnp.exp(gmm.log_posterior(noisy, x)[0])

    return jax.vmap(at)(times, path)


def _numbers(curves: dict[str, EntropyCurve], ends: np.ndarray) -> list[Number]:
    """Half-way points against their closed form, the chain rule, and where the paths end."""
    numbers = []
    for name, curve in curves.items():
        half = window(curve)
        noise = np.exp(half.median)
        exact = PAIRS[name] / np.sqrt(HALF_ENTROPY_RHO) if name in PAIRS else None
        numbers.append(number(f"{name}: σ/α at half entropy", noise, noise * half.median_stderr, exact))
    whole, coarse, left, right = (curves[n] for n in ("all four", "left | right", "-8 | -4", "6 | 8"))
    gap = whole.entropy - coarse.entropy - 0.5 * (left.entropy + right.entropy)
    error = np.sqrt(sum(c.entropy_stderr**2 for c in (whole, coarse)) + _quarter(left, right))
    worst = int(np.argmax(np.abs(gap)))
    numbers.append(number("chain rule, largest gap over t (nat)", gap[worst], error[worst], 0.0))
    share = np.mean(ends < 0)
    return [*numbers, number("share of reverse paths that end left", share, 0.5 / np.sqrt(len(ends)), 0.5)]


def _quarter(left: EntropyCurve, right: EntropyCurve) -> np.ndarray:
    """Variance of the mean of two entropies."""
    return 0.25 * (left.entropy_stderr**2 + right.entropy_stderr**2)


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
    axes[0, 1].legend(title="decision")
    titles = ("density and reverse paths", "posterior entropy", "posterior along one path", "rate")
    letter_panels(axes.flat, titles, "acbd")
    for ax in axes.flat:
        noise_axis(ax, axis)
    for ax in axes[0]:
        ax.set_xlabel("")
    return figure


def _draw_paths(ax: Axes, dataset: xr.Dataset, noise: np.ndarray) -> None:
    density = (dataset.density / dataset.density.max("x")).values
    # The timesteps of a chain do not reach every noise level.
    known = np.isfinite(noise)
    ax.pcolormesh(
        noise[known], dataset.x, np.sqrt(density[known]).T, cmap="Greys", shading="nearest", rasterized=True
    )
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
