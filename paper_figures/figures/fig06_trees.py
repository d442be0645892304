"""Hierarchical classes: the coarse decision comes first, and each has a window of its own."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gmm
from gmm.curve import EntropyCurve
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import (
    fastest_time,
    half_entropy_time,
    stack,
    unstack,
    vp_curve,
    window_ends,
)
from paper_figures.formats.numbers import Number, attach, number
from theory import (
    binary_entropy,
    binary_entropy_rate,
    orthogonal_entropy,
    orthogonal_entropy_rate,
    tree_entropy,
    tree_entropy_rate,
)

CAPTION = """
A tree of classes: three branches of four leaves, each leaf's mean the sum of an orthogonal increment of
energy 900 for its branch and one of energy 16 for itself, within-class variance 1, under the
variance-preserving process. Lines are quadrature, points sampled with bars of two standard errors. (a)
Entropy of the leaf, of the branch, and of the leaf once the branch is known. (b) Their rates, with the
windows that hold the central 80% of each decision's information: the coarse decision is over before the
fine one begins. (c) Decisions that do not exhaust the classes: two leaves of one branch, two leaves of
different branches, two branches of three. Sampling and posterior are both restricted to the classes in
question. (d) Clone agreement of branch and leaf.
"""

# Absolute error of the tree quadrature (nat): sampling follows H below it, to 1e-30 and less.
TREE_ERROR = 1e-9
BRANCHING, ENERGIES = (3, 4), (900.0, 16.0)
LEAF, BRANCH, WITHIN = "leaf", "branch", "leaf given branch"
ONE_BRANCH, TWO_BRANCHES, BRANCHES = (
    "leaves of one branch",
    "leaves of two branches",
    "two branches",
)


def compute(settings: Settings) -> xr.Dataset:
    """Exact curves, the same decisions sampled, and their windows."""
    times = np.linspace(0.05, 5.45, settings.size(217, 109))
    every = settings.size(10, 12)
    exact = exact_curves(times)
    sampled = _sampled(times[::every], settings)
    z = [
        (c.entropy - exact[name].entropy[::every]) / np.hypot(c.entropy_stderr, TREE_ERROR)
        for name, c in sampled.items()
    ]
    dataset = xr.merge(
        [
            stack(list(exact.values()), "decision", list(exact)),
            stack(list(sampled.values()), "sampled", list(sampled), prefix="sampled_"),
        ]
    )
    dataset = dataset.assign(
        z=(("sampled", "sampled_point"), np.array(z)),
        window=(("decision", "end"), [window_ends(curve) for curve in exact.values()]),
    )
    return attach(dataset, _numbers(dataset, exact))


def exact_curves(times: np.ndarray) -> dict[str, EntropyCurve]:
    """Every decision by quadrature on the VP clock: ρ_l = E_l e^{-2t} at variance 1.

    Args:
        times: (T,) times.
    """
    rhos = np.multiply.outer(ENERGIES, np.exp(-2 * times))
    branches, leaves = BRANCHING

    def tree(branching: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Entropies of both levels (2, T), dH_leaf/dt (T,) and the agreements (2, T)."""
        slopes = tree_entropy_rate(branching, rhos)
        return tree_entropy(branching, rhos), np.sum(-2 * rhos * slopes, axis=0), 1 + 2 * slopes

    def pair(rho: np.ndarray) -> EntropyCurve:
        return vp_curve(times, binary_entropy(rho), -2 * rho * binary_entropy_rate(rho), float(np.log(2)))

    entropy, leaf_rate, agreement = tree(BRANCHING)
    two_entropy, two_rate, _ = tree((2, leaves))
    within = orthogonal_entropy(leaves, rhos[1])
    within_rate = -2 * rhos[1] * orthogonal_entropy_rate(leaves, rhos[1])
    log_branches, log_leaves = np.log(branches), np.log(leaves)
    return {
        LEAF: vp_curve(times, entropy[1], leaf_rate, log_branches + log_leaves, clone_agreement=agreement[1]),
        BRANCH: vp_curve(
            times, entropy[0], leaf_rate - within_rate, log_branches, clone_agreement=agreement[0]
        ),
        WITHIN: vp_curve(times, within, within_rate, log_leaves),
        # Leaves at squared distance 2E are the pair ±m with ‖m‖² = E/2.
        ONE_BRANCH: pair(rhos[1] / 2),
        TWO_BRANCHES: pair(rhos.sum(axis=0) / 2),
        BRANCHES: vp_curve(times, two_entropy[0], two_rate - within_rate, float(np.log(2))),
    }


def _sampled(times: np.ndarray, settings: Settings) -> dict[str, EntropyCurve]:
    """Sampling needs no tree: the mixture and a partition."""
    mixture = gmm.families.from_gram(gmm.families.tree_gram(BRANCHING, ENERGIES))
    branch, leaf = gmm.families.tree_partitions(BRANCHING)
    decisions = {
        LEAF: leaf,
        BRANCH: branch,
        ONE_BRANCH: leaf.restrict([0, 1]),
        TWO_BRANCHES: leaf.restrict([0, BRANCHING[1]]),
        BRANCHES: branch.restrict([0, 1]),
    }
    key, samples = settings.key(), settings.size(8192, 2048)
    return {
        name: gmm.class_entropy(mixture, gmm.vp(), times, partition=decision, key=key, samples=samples)
        for name, decision in decisions.items()
    }


def _numbers(dataset: xr.Dataset, exact: dict[str, EntropyCurve]) -> list[Number]:
    numbers = []
    for name in (BRANCH, WITHIN):
        curve = exact[name]
        numbers.append(number(f"{name}: t of fastest decision", fastest_time(gmm.vp(), curve)))
        numbers.append(number(f"{name}: t at half entropy", half_entropy_time(gmm.vp(), curve)))
        low, high = np.exp(dataset.window.sel(decision=name))
        numbers += [number(f"{name}: window in σ/α, low", low), number(f"{name}: window in σ/α, high", high)]
    # Curvature at the centre of one branch: E_2/b_2 is the top eigenvalue within it. The global between-class
    # covariance shows the same direction b_1 times weaker.
    (b1, b2), (_, e2) = BRANCHING, ENERGIES
    numbers.append(number("level 2, curvature within its branch: t", 0.5 * np.log(e2 / b2)))
    label = "level 2, curvature by its eigenvalue in the global covariance: t"
    numbers.append(number(label, 0.5 * np.log(e2 / (b1 * b2))))
    # The points of a curve share their noise: their deviations are not independent.
    z = dataset.z.values
    return [*numbers, number(f"sampled against quadrature, largest |z| of {z.size}", np.abs(z).max())]


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Entropies, rates with windows, restricted decisions, agreements."""
    figure, axes = style.new_figure(2, 2, height=4.8)
    axis = view.on("t")
    exact = dict(zip(dataset.decision.values, unstack(dataset, "decision"), strict=True))
    sampled = dict(zip(dataset["sampled"].values, unstack(dataset, "sampled", "sampled_"), strict=True))
    lines = style.sequence(3)
    for panel, names in (
        (axes[0, 0], (LEAF, BRANCH, WITHIN)),
        (axes[1, 0], (ONE_BRANCH, TWO_BRANCHES, BRANCHES)),
    ):
        for name, line in zip(names, lines, strict=True):
            style.draw_entropy(panel, exact[name], view, axis, label=name, **line)
            if name in sampled:
                style.mark_entropy(
                    panel, sampled[name], view, axis, fmt="o", markersize=2.5, color=line["color"]
                )
        panel.legend()
    for name, line in zip((BRANCH, WITHIN), lines[1:], strict=True):
        curve = exact[name]
        style.draw_rate(axes[0, 1], curve, view, axis, label=name, **line)
        ends = np.interp(dataset.window.sel(decision=name), np.log(curve.sigma), curve.axis(axis))
        axes[0, 1].axvspan(*ends, color=line["color"], alpha=0.12, linewidth=0)
    axes[0, 1].legend()
    _draw_agreement(axes[1, 1], exact, sampled, axis, lines)
    names = ("coarse before fine", "two windows", "decisions among some classes", "clone agreement")
    style.letter_panels(axes.flat, names)
    return figure


def _draw_agreement(
    ax: Axes,
    exact: dict[str, EntropyCurve],
    sampled: dict[str, EntropyCurve],
    axis: str,
    lines: list[dict],
) -> None:
    for name, line in zip((LEAF, BRANCH), lines[:2], strict=True):
        ax.plot(exact[name].axis(axis), np.asarray(exact[name].clone_agreement), label=name, **line)
        curve = sampled[name]
        value, stderr = (np.asarray(a) for a in (curve.clone_agreement, curve.clone_agreement_stderr))
        bars = style.BAND_STDERRS * stderr
        ax.errorbar(curve.axis(axis), value, bars, fmt="o", markersize=2.5, color=line["color"])
    style.noise_axis(ax, axis)
    ax.set_ylabel("clone agreement")
    ax.legend()
