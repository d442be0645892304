"""The integrand that the entropy of two Gaussian classes is the integral of."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import gmm
from gmm.chernoff import integrand, on_the_real_axis
from gmm.pair_basis import PairBasis, pair_basis
from paper_figures.drawing.style import View, kinds, letter_panels, new_figure
from paper_figures.figures.settings import Settings
from paper_figures.formats.numbers import attach, number

CAPTION = """
Two Gaussian classes in three dimensions, variances (1, 2, 0.5) and (0.7, 1, 3), means apart by (1, -0.5, 2), prior 0.3,
at three noise levels of the variance-preserving process (and, dotted, the last one with prior 10^-4). (a) The integrand
of H on the real axis, a convex function; its minimum, marked, is where the line of integration crosses. (b) Along that
line, relative to its value there: the modulus falls from u = 0 on and the real part hardly turns negative, so that
nothing cancels. (c) Relative error of the trapezoid rule against its nodes: geometric.
"""

LEVELS = {
    "σ/α = 0.3": (0.3, 0.3),
    "σ/α = 1": (1.0, 0.3),
    "σ/α = 3": (3.0, 0.3),
    "σ/α = 3, prior 10⁻⁴": (3.0, 1e-4),
}
REACH = 4.0
MOST_NODES = 300


def compute(settings: Settings) -> xr.Dataset:
    """The integrand on the axis and along the line, and errors of trapezoid sums."""
    real = np.linspace(0.02, 0.98, settings.size(193, 97))
    u = np.linspace(0, REACH, settings.size(401, 101))
    counts = np.unique(np.geomspace(4, MOST_NODES, 22).astype(int))
    axis, along, lines, errors = [], [], [], []
    for noise, prior in LEVELS.values():
        pair = (_basis(), 1.0, noise, np.log([prior, 1 - prior]))
        axis.append(on_the_real_axis(*pair, real))
        c, values = integrand(*pair, u)
        lines.append(c)
        along.append(values)
        errors.append([_error(pair, count) for count in counts.tolist()])
    dataset = xr.Dataset(
        {
            "axis": (("level", "a"), np.array(axis)),
            "modulus": (("level", "u"), np.abs(along)),
            "part": (("level", "u"), np.real(along)),
            "line": ("level", lines),
            "error": (("level", "nodes"), np.array(errors)),
        },
        {"level": list(LEVELS), "a": real, "u": u, "nodes": counts},
    )
    worst = float(dataset.error.isel(nodes=-1).max())
    return attach(dataset, [number(f"largest relative error of {MOST_NODES} nodes", worst)])


def _basis() -> PairBasis:
    mixture = gmm.Mixture(
        np.array([0.3, 0.7]),
        np.array([[0.0, 0.0, 0.0], [1.0, -0.5, 2.0]]),
        gmm.Diagonal(np.array([[1.0, 2.0, 0.5], [0.7, 1.0, 3.0]])),
    )
    return pair_basis(mixture)


def _error(pair: tuple[PairBasis, float, float, np.ndarray], nodes: int) -> float:
    """Relative error of the trapezoid rule with some nodes on 0 <= u <= 12."""

    def trapezoid(count: int) -> float:
        values = np.real(integrand(*pair, np.linspace(0, 12, count))[1])
        return float(values.sum() - 0.5 * values[0]) * 12 / (count - 1)

    exact = trapezoid(2001)
    return abs(trapezoid(nodes) / exact - 1) + 1e-17


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """On the axis, along the line, and the error; no axis of the view applies."""
    del view
    figure, grid = new_figure(1, 3, height=2.6)
    axes = list(grid.flat)
    for level, line in zip(dataset.level.values, kinds(dataset.sizes["level"]), strict=True):
        part = dataset.sel(level=level)
        places, heights = dataset["a"].values, part["axis"].values
        drawn = axes[0].plot(places, heights, label=level, **line)
        colour = drawn[0].get_color()
        axes[0].plot(
            float(part["line"]), float(np.interp(float(part["line"]), places, heights)), "o", color=colour
        )
        axes[1].plot(dataset.u, part.modulus, color=colour, linewidth=0.6)
        axes[1].plot(dataset.u, part.part, **line)
        axes[2].plot(dataset.nodes, part.error, **line)
    axes[0].set(xlabel="a", ylabel=r"$\log\ F(a)\,/\,(a(1-a))$")
    axes[1].set(xlabel="u", ylabel="relative to u = 0")
    axes[2].set(yscale="log", xlabel="nodes", ylabel="relative error")
    axes[0].legend()
    letter_panels(axes, ("real axis", "along the line", "trapezoid rule"))
    return figure
