"""The estimators for trained models, on models whose answer is known."""

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit

import gmm
from gmm.curve import EntropyCurve
from neural import PosteriorPaths, gap_entropy, mixture_denoiser, online_entropy, posterior_paths
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import stack, unstack
from paper_figures.formats.numbers import Number, attach, number
from theory import orthogonal_entropy, simplex_entropy, tree_curves

CAPTION = """
Estimators that ask only for a denoiser, given the exact denoiser of a mixture. (a) Branch and leaf of a tree (three
branches of four leaves, energies 96 and 24, within-class variance 1): quadrature (lines), the online posterior of
the model's own trajectories, and the denoiser gap integrated over noised data (points, bars two standard
errors); one set of trajectories answers both levels. (b) Their rates, averaged from denoiser gaps along the
same trajectories; nothing is differenced. (c) The tracker's finite-step law: ten classes of energy 4 in a few long
steps. Tracked entropies lie below the true ones, on the entropy of a channel whose signal-to-noise ratio is
known exactly; where sampling and weights use the true variance of a step they lie on the true curve. (d) Three
maps from one set of trajectories of ten classes of energy 64: class against class; one class against the
unconditional network at prior ½ (the published map), which keeps a floor but for its steps' errors; one against the
rest with known share, exact for exact ratios only.
"""

BRANCHING, ENERGIES = (3, 4), (96.0, 24.0)
LEVELS = ("branch", "leaf")
METHODS = ("online", "gap")
CLASSES = 10  # of (c) and (d)
FEW_STEPS, CLOSE = 20, 4.0  # of (c): evaluations, energy
MANY_STEPS, APART = 64, 64.0  # of (d)


def compute(settings: Settings) -> xr.Dataset:
    """Estimates and quadrature of the tree, the finite-step law, and the three maps."""
    keys = list(jax.random.split(settings.key(), 5))
    samples = settings.size(4096, 1024)
    measured = _tree(keys[:3], samples, steps=64)
    exact = _exact_tree(measured["online"][0])
    labels = [f"{method} {level}" for method in METHODS for level in LEVELS]
    parts = [
        stack([curve for method in METHODS for curve in measured[method]], "estimate", labels),
        stack(exact, "level", LEVELS, prefix="exact_"),
        _long_steps(keys[3], samples),
        _maps(keys[4], samples),
    ]  # fmt: skip
    dataset = xr.merge(parts).assign_attrs(samples=samples)
    return attach(dataset, _numbers(dataset, measured, exact))


def _tree(keys: list[jax.Array], samples: int, steps: int) -> dict[str, list[EntropyCurve]]:
    """Both levels by both estimators."""
    mixture = gmm.reduce(gmm.families.from_gram(gmm.families.tree_gram(BRANCHING, ENERGIES)))
    levels = list(gmm.families.tree_partitions(BRANCHING))
    denoiser, classes = mixture_denoiser(mixture, gmm.edm()), range(mixture.components)
    data = gmm.sample(mixture, keys[2], samples)
    call = {"partition": levels, "samples": samples, "steps": steps}
    return {
        "online": online_entropy(denoiser, classes, key=keys[0], **call),
        "gap": gap_entropy(denoiser, classes, data=data, key=keys[1], **call),
    }


def _exact_tree(like: EntropyCurve) -> list[EntropyCurve]:
    return tree_curves(gmm.edm(), like.t, BRANCHING, np.array(ENERGIES))


def _problem(energy: float) -> gmm.Mixture:
    return gmm.reduce(gmm.families.from_gram(energy * np.eye(CLASSES)))


def _paths(energy: float, steps: int, key: jax.Array, samples: int, variance: float = 0.0) -> PosteriorPaths:
    """Ten orthogonal classes tracked from σ = 80 to 0.3, against each other and against the whole."""
    process = gmm.edm()
    return posterior_paths(
        mixture_denoiser(_problem(energy), process), range(CLASSES), tracker="unconditional", key=key,
        samples=samples, times=gmm.time_grid(process, 80.0, 0.3, steps - 1), within_variance=variance,
    )  # fmt: skip


def _entropy(log_p: Float[np.ndarray, "... K"]) -> np.ndarray:
    return -np.sum(np.exp(log_p) * log_p, axis=-1)


def _coin(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-300, 1 - 1e-16)
    return -(p * np.log(p) + (1 - p) * np.log1p(-p))


def _mean(values: Float[np.ndarray, "T N"]) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])


def _long_steps(key: jax.Array, samples: int) -> xr.Dataset:
    """Tracked entropies with and without the true variance, the true curve, and the law of the former."""
    plain, true = (_paths(CLOSE, FEW_STEPS, key, samples, variance) for variance in (0.0, 1.0))
    snr = np.exp(plain.log_snr)
    q = snr / (1 + snr)
    tracked = q[0] + np.concatenate([[0.0], np.cumsum(np.diff(snr) / (1 + snr[:-1]) ** 2)])
    columns = {
        "steps_exact": orthogonal_entropy(CLASSES, CLOSE * q),
        "steps_law": orthogonal_entropy(CLASSES, CLOSE * tracked),
    }
    for name, paths in (("plain", plain), ("true", true)):
        mean, stderr = _mean(_entropy(paths.log_posterior))
        columns |= {f"steps_{name}": mean, f"steps_{name}_stderr": stderr}
    data = {name: ("step", np.asarray(values)) for name, values in columns.items()}
    return xr.Dataset(data, coords={"step_sigma": ("step", np.exp(-0.5 * plain.log_snr))})


def _maps(key: jax.Array, samples: int) -> xr.Dataset:
    """What three maps make of the same trajectories."""
    paths = _paths(APART, MANY_STEPS, key, samples)
    share = 1 / CLASSES
    sure = np.minimum(paths.log_ratio + np.log(share), 0.0)
    entropies = {
        "classes": _mean(_entropy(paths.log_posterior)),
        "unconditional": _mean(_coin(expit(paths.log_ratio))),
        "share": _mean(_coin(np.exp(sure))),
    }
    p = 1 / (1 + share)
    snr = np.exp(paths.log_snr)
    exact = simplex_entropy(CLASSES, APART * (1 - share) * snr / (1 + snr))
    return xr.Dataset(
        {
            "maps": (("map", "map_point"), np.stack([mean for mean, _ in entropies.values()])),
            "maps_stderr": (("map", "map_point"), np.stack([stderr for _, stderr in entropies.values()])),
            "maps_exact": ("map_point", np.asarray(exact)),
            "floor": ((), float(_coin(np.array(p)))),
        },
        coords={"map": list(entropies), "map_sigma": ("map_point", np.exp(-0.5 * paths.log_snr))},
    )


def _numbers(
    dataset: xr.Dataset, measured: dict[str, list[EntropyCurve]], exact: list[EntropyCurve]
) -> list[Number]:
    numbers = []
    for method in METHODS:
        for level, curve, truth in zip(LEVELS, measured[method], exact, strict=True):
            gap = np.abs(curve.entropy - truth.entropy)
            worst = int(np.argmax(gap))
            label = f"{method}, {level}: largest error of the entropy, nat"
            numbers.append(number(label, gap[worst], curve.entropy_stderr[worst]))
    for name, against in (("plain", "law"), ("true", "exact")):
        off = np.abs(dataset[f"steps_{name}"].values - dataset[f"steps_{against}"].values)
        stderr = dataset[f"steps_{name}_stderr"].values
        used = stderr > 1e-9
        z = (off[used] / stderr[used]).max()
        numbers.append(
            number(f"long steps, {name} variance against {against}: largest |z| of {used.sum()}", z)
        )
    bias = dataset.steps_exact - dataset.steps_plain
    numbers.append(number("long steps, plain variance: largest bias, nat", bias.max()))
    # No expectation: its steps' errors go on beside the floor, and shrink with their number alone.
    numbers.append(number("published map: floor, nat", dataset.floor))
    numbers.append(number("published map: entropy at the end, nat", dataset.maps.sel(map="unconditional")[-1],
                        dataset.maps_stderr.sel(map="unconditional")[-1]))  # fmt: skip
    return numbers


_COLORS = {"branch": "#1f4e9e", "leaf": "#b3341f"}
_MARKERS = {"online": "o", "gap": "s"}
_MAPS = {
    "classes": ("#1b1b1b", "classes"),
    "unconditional": ("#1f4e9e", "unconditional"),
    "share": ("#b3341f", "share"),
}


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Tree, its rates, long steps and maps."""
    figure, axes = style.new_figure(2, 2, height=4.9)
    axis = view.on("sigma")
    for level, curve in zip(LEVELS, unstack(dataset, "level", "exact_"), strict=True):
        style.draw_entropy(axes[0, 0], curve, view, axis, color=_COLORS[level], label=f"{level}, quadrature")
        style.draw_rate(axes[0, 1], curve, view, axis, color=_COLORS[level])
    for name, curve in zip(dataset.estimate.values, unstack(dataset, "estimate"), strict=True):
        _draw_points(axes[0], str(name), curve, view, axis)
    axes[0, 0].legend()
    if axis == "sigma":
        for ax in axes[0]:
            ax.set_xlim(0.15, 60)
    _draw_steps(axes[1, 0], dataset, view)
    _draw_maps(axes[1, 1], dataset, view)
    names = ("two levels of a tree", "rates", "long steps, ten close classes", "three maps, ten classes")
    style.letter_panels(axes.flat, names)
    return figure


def _draw_points(axes: np.ndarray, name: str, curve: EntropyCurve, view: View, axis: str) -> None:
    method, level = name.split()
    # Every other time, the two methods in turn.
    every = slice(METHODS.index(method), None, 2)
    look = {
        "marker": _MARKERS[method],
        "color": _COLORS[level],
        "linestyle": "none",
        "markerfacecolor": "none",
        "elinewidth": 0.8,
        "label": method if level == LEVELS[0] else None,
    }
    style.mark_entropy(axes[0], curve, view, axis, every, **look)
    style.mark_rate(axes[1], curve, view, axis, every, **look)


def _draw_steps(ax: Axes, dataset: xr.Dataset, view: View) -> None:
    sigma = dataset.step_sigma
    ax.plot(sigma, view.information(dataset.steps_exact), color="k", label="true")
    ax.plot(
        sigma, view.information(dataset.steps_law), color="#b3341f", linestyle="--", label="finite-step law"
    )
    for name, marker, color, text in (
        ("plain", "o", "#b3341f", "tracked"),
        ("true", "s", "k", "true variance"),
    ):
        bars = style.BAND_STDERRS * view.information(dataset[f"steps_{name}_stderr"])
        ax.errorbar(
            sigma, view.information(dataset[f"steps_{name}"]), bars, marker=marker, color=color, linestyle="none",
            markerfacecolor="none", elinewidth=0.8, label=text,
        )  # fmt: skip
    ax.set(ylabel=style.entropy_label(view), xlim=(0.25, 15))
    style.noise_axis(ax, "sigma")
    ax.legend()


def _draw_maps(ax: Axes, dataset: xr.Dataset, view: View) -> None:
    sigma = dataset.map_sigma
    ax.plot(sigma, view.information(dataset.maps_exact), color="0.7", linewidth=4, label="class entropy")
    for name, (color, text) in _MAPS.items():
        mean, stderr = dataset.maps.sel(map=name), dataset.maps_stderr.sel(map=name)
        ax.errorbar(
            sigma, view.information(mean), style.BAND_STDERRS * view.information(stderr),
            color=color, linestyle="-", elinewidth=0.8, label=text,
        )  # fmt: skip
    ax.axhline(
        float(view.information(dataset.floor)),
        color=_MAPS["unconditional"][0],
        linestyle=":",
        label="its floor",
    )
    ax.set(ylabel=f"entropy of the map  ({view.unit})")
    style.noise_axis(ax, "sigma")
    ax.legend()
