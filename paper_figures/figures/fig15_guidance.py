"""What guidance does to a decision, where the answer is known: the pair, K classes, exponentially many."""

from typing import Any

import jax
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import gmm
from gmm.samplers import SAMPLERS
from gmm.whitened import guided_whitened
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import stack, unstack
from paper_figures.formats.numbers import Number, attach, number
from theory import guided_curve, guided_many_classes, guided_pair, orthogonal_entropy

CAPTION = """
Classifier-free guidance of weight w on Gaussian classes of variance 1, variance preserving. (a) Two classes, ‖m‖ = 10:
entropy of the unguided posterior along guided paths (full lines) and surprise -log p(target) (dashed), from the
Fokker-Planck equation of the one coordinate that guidance moves; points are sampled. (b) Information produced along
them. (c) Distortion of the final law of two classes, in standard deviations along m: with the reverse SDE the shift
falls as 1/‖m‖, so guidance is free in high dimension; with the probability flow it stays. (d) K orthogonal classes of
energy 100: how much earlier, in log noise, half of the entropy is gone. (e) Their distortion. (f) K = e^{κd}
classes, κ = 0.2, independent means of variance 1: the shift of every coordinate does not vanish; lines are its limit
as d → ∞. Bars are two standard errors, of paths that share all noise with unguided ones; in (f) the draw of the means
comes on top.
"""

ENERGY = 100.0
WEIGHTS = (1.0, 2.0, 4.0)
GUIDED = WEIGHTS[1:]
KAPPA, MANY_WEIGHT = 0.2, 2.0
# Deterministic answers at t = 3.0, 2.4, 1.8 and of the final law, four digits.
AT = (3.0, 2.4, 1.8)
ENTROPY = {1.0: (0.5826, 0.3987, 0.1253), 2.0: (0.5553, 0.3104, 0.0552), 4.0: (0.4740, 0.1915, 0.0260)}
SURPRISE = {1.0: (0.5826, 0.3987, 0.1253), 2.0: (0.4230, 0.1651, 0.0188), 4.0: (0.2521, 0.0641, 0.0062)}
SHIFT = {2.0: {"sde": 0.0682, "flow": 0.6491}, 4.0: {"sde": 0.1160, "flow": 1.3633}}
SHARE = {"sde": "reverse SDE", "flow": "probability flow"}


def compute(settings: Settings) -> xr.Dataset:
    """The pair by the grid and by sampling, distortions by size, class counts and dimensions."""
    keys = jax.random.split(settings.key(), 4)
    parts = [
        _pair(settings, keys[0]),
        _sizes(settings, keys[1]),
        _classes(settings, keys[2]),
        _many(settings, keys[3]),
    ]
    dataset = xr.merge(parts)
    return attach(dataset, _numbers(dataset))


def _pair(settings: Settings, key: jax.Array) -> xr.Dataset:
    """Curves of the pair under every weight."""
    process, mixture = gmm.vp(), gmm.reduce(gmm.families.pair(int(ENERGY)))
    grid = np.linspace(0.6, 4.6, settings.size(60, 36))
    exact = [guided_curve(process, grid, ENERGY, gmm.cfg(w)) for w in WEIGHTS]
    times = np.sort(np.concatenate([AT, [0.9, 1.2, 1.5, 2.1, 2.7, 3.4, 3.8, 4.2]]))
    call: dict[str, Any] = {
        "target": 1,
        "samples": settings.size(8192, 2048),
        "steps": settings.size(100, 50),
    }
    same = jax.random.clone  # the same noise under every weight
    sampled = [
        gmm.guided_entropy(mixture, process, times, gmm.cfg(w), key=same(key), **call) for w in WEIGHTS
    ]
    surprise = {"surprise": (("weight", "point"), [c.cross_entropy for c in exact])}
    surprise |= {"sampled_surprise": (("weight", "sampled_point"), [c.cross_entropy for c in sampled])}
    surprise |= {
        "sampled_surprise_stderr": (("weight", "sampled_point"), [c.cross_entropy_stderr for c in sampled])
    }
    curves = [stack(exact, "weight", WEIGHTS), stack(sampled, "weight", WEIGHTS, prefix="sampled_")]
    return xr.merge([*curves, xr.Dataset(surprise, {"weight": list(WEIGHTS)})])


def _sizes(settings: Settings, key: jax.Array) -> xr.Dataset:
    """Shift of the pair against ‖m‖² from the grid, and sampled at some sizes."""
    energies = np.geomspace(10, 1e6, 21)
    dims = ("weight_guided", "sampler", "energy")
    # Under a constant weight the law at a signal-to-noise ratio is that of clean data of this ratio.
    exact = [[guided_pair(1e6, gmm.cfg(w), energies, sampler=s).mean for s in SAMPLERS] for w in GUIDED]
    few = (100, 10**4, 10**6)
    call = {"key": key, "samples": settings.size(4096, 1024), "steps": settings.size(100, 60)}
    # A pair ±m is two orthogonal classes of energy 2‖m‖².
    sampled = [
        [[guided_whitened(2, [2.0 * e], w, sampler=s, **call).shift for e in few] for s in SAMPLERS]
        for w in GUIDED
    ]
    values = np.abs(np.array(sampled, float))  # (..., value and standard error)
    data = {"shift": (dims, np.array(exact)), "sampled_shift": ((*dims[:2], "few"), values[..., 0])}
    data |= {"sampled_shift_stderr": ((*dims[:2], "few"), values[..., 1])}
    coords = {"weight_guided": list(GUIDED), "sampler": list(SAMPLERS), "energy": energies, "few": list(few)}
    return xr.Dataset(data, coords)


def _classes(settings: Settings, key: jax.Array) -> xr.Dataset:
    """Half-entropy point and distortion against the number of classes."""
    counts = settings.size((2, 5, 10, 30, 100, 300, 1000), (2, 30, 300))
    rows = [[_one_count(k, w, settings, jax.random.fold_in(key, k)) for w in GUIDED] for k in counts]
    dims = ("classes", "weight_guided")
    data = {name: (dims, np.array([[values[name] for values in row] for row in rows])) for name in rows[0][0]}
    return xr.Dataset(data, {"classes": list(counts), "weight_guided": list(GUIDED)})


def _one_count(classes: int, w: float, settings: Settings, key: jax.Array) -> dict[str, float]:
    samples = settings.size(128 if classes > 100 else 1024, 256)
    rho = np.geomspace(0.1, 6, 14) * np.log(classes)
    plain = orthogonal_entropy(classes, rho)
    guided, row = {}, {}
    for s in SAMPLERS:
        call = {"key": key, "samples": samples, "steps": settings.size(50, 30), "sampler": s}
        guided[s] = guided_whitened(classes, np.append(rho, ENERGY), w, **call)
        row |= {
            f"{s}_shift": float(guided[s].shift.value),
            f"{s}_shift_stderr": float(guided[s].shift.stderr),
        }
    noise, half = 0.5 * np.log(ENERGY / rho - 1), 0.5 * np.log(classes)
    entropy, stderr = (part[:-1] for part in guided["sde"].entropy)
    place = np.interp(-half, -entropy, noise)
    error = np.interp(place, noise[::-1], np.abs(stderr / np.gradient(entropy, noise))[::-1])
    return row | {"earlier": float(place - np.interp(-half, -plain, noise)), "earlier_stderr": float(error)}


def _many(settings: Settings, key: jax.Array) -> xr.Dataset:
    """e^{κd} classes: shift of a coordinate, by dimension."""
    dims = settings.size((10, 20, 30, 40), (10, 20))
    shift = np.full((len(SAMPLERS), len(dims), 2), np.nan)
    for j, d in enumerate(dims):
        key_of_dim = jax.random.fold_in(key, d)
        means = np.asarray(jax.random.normal(key_of_dim, (round(np.exp(KAPPA * d)), d), np.float64))
        call = {"key": key_of_dim, "samples": 256, "steps": settings.size(40, 30)}
        for i, s in enumerate(SAMPLERS):
            shift[i, j] = np.array(
                guided_whitened(means, [1.0], MANY_WEIGHT, sampler=s, **call).shift
            ) / np.sqrt(d)
    limits = [guided_many_classes(KAPPA, MANY_WEIGHT, sampler=s).shift for s in SAMPLERS]
    data = {
        "many_shift": (("sampler", "dim"), shift[..., 0]),
        "many_shift_stderr": (("sampler", "dim"), shift[..., 1]),
        "many_limit": ("sampler", limits),
    }
    return xr.Dataset(data, {"sampler": list(SAMPLERS), "dim": list(dims)})


def _numbers(dataset: xr.Dataset) -> list[Number]:
    numbers = []
    for w in WEIGHTS:
        at = dataset.sel(weight=w)
        for t, entropy, surprise in zip(AT, ENTROPY[w], SURPRISE[w], strict=True):
            here = at.isel(sampled_point=int(np.argmin(np.abs(at.sampled_t.values - t))))
            numbers.append(
                number(f"H at t = {t}, w = {w:g}", here.sampled_entropy, here.sampled_entropy_stderr, entropy)
            )
            stderr = here.sampled_surprise_stderr
            numbers.append(
                number(f"-log p(target) at t = {t}, w = {w:g}", here.sampled_surprise, stderr, surprise)
            )
    for w in GUIDED:
        for s in SAMPLERS:
            at = dataset.sel(weight_guided=w, sampler=s, few=100)
            label = f"shift of the final mean, {SHARE[s]}, w = {w:g}"
            numbers.append(number(label, at.sampled_shift, at.sampled_shift_stderr, SHIFT[w][s]))
    last = dataset.isel(dim=-1)
    for s in SAMPLERS:
        at = last.sel(sampler=s)
        limit = f"(limit {float(at.many_limit):.3f})"
        label = f"shift of a coordinate, d = {int(last.dim)}, κ = {KAPPA}, {SHARE[s]} {limit}"
        numbers.append(number(label, at.many_shift, at.many_shift_stderr))
    return numbers


_LINES = {"sde": "-", "flow": (0, (4, 1.5))}
_MARKERS = {"sde": "o", "flow": "s"}


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """The pair's curves; distortions."""
    figure, axes = style.new_figure(2, 3, height=4.7)
    axis = view.on("t")
    _draw_pair(axes[0], dataset, view, axis)
    _draw_sizes(axes[0, 2], dataset)
    _draw_classes(axes[1], dataset)
    _draw_many(axes[1, 2], dataset)
    names = (
        "two classes, $\\|m\\|=10$", "information produced", "distortion, two classes",
        "half entropy, $K$ classes", "distortion, $K$ classes", r"$K=e^{\kappa d}$ classes",
    )  # fmt: skip
    style.letter_panels(axes.flat, names)
    return figure


def _colors() -> dict[float, str]:
    return {w: line["color"] for w, line in zip(WEIGHTS, style.sequence(len(WEIGHTS)), strict=True)}


def _draw_pair(axes: np.ndarray, dataset: xr.Dataset, view: View, axis: str) -> None:
    exact, sampled = unstack(dataset, "weight"), unstack(dataset, "weight", "sampled_")
    for i, w in enumerate(WEIGHTS):
        line = style.sequence(len(WEIGHTS))[i] | {"linestyle": "-"}
        noise, x = exact[i].axis(axis), sampled[i].axis(axis)
        order = np.argsort(noise)
        points = {"color": line["color"], "marker": "os^"[i], "linestyle": "none", "markerfacecolor": "none"}
        points |= {"elinewidth": 0.8, "markersize": 3}
        axes[0].plot(noise[order], view.information(exact[i].entropy)[order], **line)
        dashed = line | {"linestyle": (0, (4, 1.5))}
        axes[0].plot(noise[order], view.information(dataset.surprise[i].values)[order], **dashed)
        axes[1].plot(noise[order], view.information(style.rate_on(exact[i], axis)[0])[order], **line)
        for ax, (value, stderr) in (
            (axes[0], (sampled[i].entropy, sampled[i].entropy_stderr)),
            (axes[0], (dataset.sampled_surprise[i].values, dataset.sampled_surprise_stderr[i].values)),
            (axes[1], style.rate_on(sampled[i], axis)),
        ):
            label = f"$w={w:g}$" if ax is axes[1] else None
            ax.errorbar(
                x,
                view.information(value),
                style.BAND_STDERRS * view.information(stderr),
                label=label,
                **points,
            )
    axes[0].set_ylabel(f"$H$, surprise  ({view.unit})")
    axes[1].set_ylabel(style.rate_label(view, axis))
    axes[1].legend()
    for ax in axes[:2]:
        style.noise_axis(ax, axis)


def _draw_sizes(ax: Axes, dataset: xr.Dataset) -> None:
    for w in GUIDED:
        for s in SAMPLERS:
            at = dataset.sel(weight_guided=w, sampler=s)
            color = _colors()[w]
            ax.plot(at.energy, at["shift"], color=color, linestyle=_LINES[s])
            bars = style.BAND_STDERRS * at.sampled_shift_stderr
            ax.errorbar(
                at.few, at.sampled_shift, bars, color=color, marker=_MARKERS[s], linestyle="none",
                markerfacecolor="none", markersize=3.5, label=f"{s.upper() if s == 'sde' else s}, $w={w:g}$",
            )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel=r"$\|m\|^2$", ylabel="shift of the mean (s.d.)")
    ax.legend()


def _draw_classes(axes: np.ndarray, dataset: xr.Dataset) -> None:
    for w in GUIDED:
        at, color = dataset.sel(weight_guided=w), _colors()[w]
        bars = style.BAND_STDERRS * at.earlier_stderr
        axes[0].errorbar(
            at.classes, at.earlier, bars, color=color, marker="^" if w > 2 else "s", label=f"$w={w:g}$"
        )
        for s in SAMPLERS:
            bars = style.BAND_STDERRS * at[f"{s}_shift_stderr"]
            axes[1].errorbar(
                at.classes, at[f"{s}_shift"], bars, color=color, marker=_MARKERS[s], linestyle=_LINES[s],
                markerfacecolor="none", markersize=3.5, label=f"{s.upper() if s == 'sde' else s}, $w={w:g}$",
            )  # fmt: skip
    axes[0].set(xscale="log", xlabel="classes $K$", ylabel=r"shift in $\log(\sigma/\alpha)$", ylim=(0, None))
    axes[1].set(xscale="log", xlabel="classes $K$", ylabel="shift of the mean (s.d.)", ylim=(0, 6.8))
    for ax in axes[:2]:
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend()


def _draw_many(ax: Axes, dataset: xr.Dataset) -> None:
    for s, color in zip(SAMPLERS, ("#1f4e9e", "#b3341f"), strict=True):
        at = dataset.sel(sampler=s)
        bars = style.BAND_STDERRS * at.many_shift_stderr
        ax.errorbar(
            at.dim, at.many_shift, bars, color=color, marker=_MARKERS[s], linestyle="none", markerfacecolor="none",
            label=SHARE[s],
        )  # fmt: skip
        ax.axhline(float(at.many_limit), color=color, linestyle=_LINES[s], linewidth=0.9)
    ax.set(xlabel="$d$", ylabel="shift of a coordinate (s.d.)", ylim=(0, None))
    ax.legend()
