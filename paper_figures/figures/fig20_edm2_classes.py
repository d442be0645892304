"""Many classes of an EDM2 network, each alone against its unconditional network: the published map."""

import dataclasses

import jax
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neural.models import Model
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.formats.numbers import Number, attach, number
from paper_figures.studies import experiment
from paper_figures.studies.asked import Asked
from paper_figures.studies.comparison import LANDMARKS, curve_of
from paper_figures.studies.experiment import Row, Work, rows_of
from paper_figures.studies.plan import Cost, Plan, model_or_stand_in, network_of
from paper_figures.studies.sources import ONLINE

CAPTION = """
Each of many classes of an EDM2 network against its unconditional network: prior one half, log-ratio from zero,
stochastic trajectories of the class (the published map of arXiv 2602.09651). (a) Entropy of "this class or not" along
the noise. (b) Its rate. Highlighted classes are thick, the others thin and grey. (c) Classes by the noise at which
half is decided, with 95% intervals. Published: the grid of 64 evaluations from 80 to 0.002, 3,000 trajectories of a
highlighted curve and 300 of the others. Ours: the list of classes and which of them are highlighted, since neither is
published.
"""

KIND = "edm2"
HIGHLIGHT = ("golden retriever", "tabby", "minivan")
ON_CPU, ON_ACCELERATOR = 20, 1000
PATHS, FAST_PATHS, TIMES_HIGHLIGHTED = 300, 20, 10
# Classes named in panel c; the others are marks alone.
MOST_NAMES = 25


def rows(settings: ExperimentSettings, model: Model) -> list[Row]:
    """One row for each class; those to highlight first."""
    highlight = list(settings.highlight) or _names_of(model, HIGHLIGHT)
    paths = settings.paths or settings.size(PATHS, FAST_PATHS)
    asked = Asked(model.name, preset="paper", each=True, steps=settings.steps, seed=settings.seed)
    by_name: dict[str, Row] = {}
    for names, samples in ((highlight, TIMES_HIGHLIGHTED * paths), (_classes(settings, model), paths)):
        if not names:
            continue
        for row in rows_of(dataclasses.replace(asked, classes=names, samples=samples), model):
            by_name.setdefault(row.name, row)
    return list(by_name.values())


def _names_of(model: Model, names: tuple[str, ...]) -> list[str]:
    """Those names that the network has; a network of other classes has none of them."""
    return [name for name in names if name in model.names]


def _classes(settings: ExperimentSettings, model: Model) -> list[str]:
    """The classes asked for, else equally spaced ones of all."""
    if settings.classes:
        return list(settings.classes)
    most = ON_CPU if jax.default_backend() == "cpu" else ON_ACCELERATOR
    count = min(settings.size(most, 4), len(model.names))
    return [model.names[i] for i in np.linspace(0, len(model.names) - 1, count).round().astype(int)]


def plan(settings: ExperimentSettings) -> Plan:
    """What it costs."""
    model = model_or_stand_in(settings.weights[0])
    by_paths: dict[int, list[Row]] = {}
    for row in rows(settings, model):
        by_paths.setdefault(row.question.trajectories, []).append(row)
    costs = [
        Cost("classes", len(equal), paths, sum(row.question.evaluations() for row in equal))
        for paths, equal in by_paths.items()
    ]
    return Plan(network_of(settings.weights[0]), costs)


def compute(settings: ExperimentSettings, work: Work) -> xr.Dataset:
    """Curves of all classes, by falling noise of half entropy."""
    model = experiment.model_for(KIND, settings.weights)
    asked = rows(settings, model)
    measured = experiment.renamed(asked, experiment.measure(asked, work))
    dataset = experiment.together({ONLINE: measured})
    half = dataset.place.isel(source=0, landmark=LANDMARKS.index("half")).values
    # Undetermined ones last.
    dataset = dataset.isel(level=np.argsort(np.where(np.isfinite(half), -half, np.inf)))
    trajectories = {row.name: row.question.trajectories for row in asked}
    dataset["trajectories"] = ("level", [trajectories[str(name)] for name in dataset.level.values])
    return attach(dataset.assign_attrs(experiment.facts(model)), _numbers(dataset))


def _numbers(dataset: xr.Dataset) -> list[Number]:
    ranked = []
    for rank, name in enumerate(map(str, dataset.level.values), start=1):
        place, stderr = _half(dataset, name)
        label = f"{rank}. {name}: σ/α at half entropy"
        ranked.append(number(label, float(np.exp(place)), float(np.exp(place) * stderr)))
    return ranked


def _half(dataset: xr.Dataset, name: str) -> tuple[float, float]:
    part = dataset.sel(level=name).isel(source=0, landmark=LANDMARKS.index("half"))
    return float(part.place), float(part.place_stderr)


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Entropies, rates, and the classes in order."""
    figure, axes = style.new_figure(1, 3, height=3.2)
    axis = view.on("sigma")
    names = list(map(str, dataset.level.values))
    most = int(dataset.trajectories.max())
    thick = [
        n for n in names if int(dataset.trajectories.sel(level=n)) == most > int(dataset.trajectories.min())
    ]
    looks = {name: {"color": "0.75", "linewidth": 0.5, "linestyle": "-", "zorder": 1} for name in names}
    looks |= {
        name: {
            "color": look["color"],
            "linewidth": 1.5,
            "zorder": 3,
            "label": style.literal(name),
        }
        for name, look in zip(thick, style.kinds(len(thick) + 1)[1:], strict=True)
    }
    for name in names:
        curve = curve_of(dataset, ONLINE, name)
        style.draw_entropy(axes[0, 0], curve, view, axis, **looks[name])
        style.draw_rate(axes[0, 1], curve, view, axis, **looks[name])
    _draw_ranks(axes[0, 2], dataset, names, looks)
    style.letter_panels(axes.flat, ("this class or not", "rate", "where half is decided"))
    if thick:
        axes[0, 0].legend()
    return figure


def _draw_ranks(ax: Axes, dataset: xr.Dataset, names: list[str], looks: dict) -> None:
    part = dataset.isel(source=0, landmark=LANDMARKS.index("half"))
    for rank, name in enumerate(names):
        half = part.sel(level=name)
        ends = np.exp([float(half.place_low), float(half.place_high)])
        color = looks[name]["color"] if "label" in looks[name] else "0.4"
        ax.plot(ends, [rank, rank], color=color, linewidth=1, linestyle="-")
        ax.plot(np.exp(float(half.place)), rank, "o", color=color, markersize=3)
    style.noise_axis(ax, "sigma")
    ax.invert_yaxis()
    if len(names) <= MOST_NAMES:
        ax.set_yticks(range(len(names)), [style.literal(name) for name in names], fontsize=5)
    else:
        ax.set_ylabel("rank")
