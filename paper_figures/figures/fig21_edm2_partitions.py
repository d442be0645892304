"""Partitions of ImageNet's classes in an EDM2 network, level by level, by the class entropy and the published map."""

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
from paper_figures.formats.numbers import attach
from paper_figures.studies import experiment
from paper_figures.studies.asked import Asked, question
from paper_figures.studies.comparison import LANDMARKS, curve_of, numbers
from paper_figures.studies.experiment import Row, Work
from paper_figures.studies.plan import Cost, Plan, model_or_stand_in, network_of

CAPTION = """
Decisions of an EDM2 network at several levels of abstraction. (a, b, ...) One panel for each partition: entropy over
its prior value, level by level. Solid: the cells against each other (the class entropy). Dashed: the cell of the
trajectory against the unconditional network at prior one half (the published map), whose entropy keeps a floor. Last
panel: the window that holds the central 80% of the information, with its middle. Partitions are our own choice, since
those of the paper are not published; so are the classes of a cell, drawn by the seed where there are many.
"""

KIND = "edm2"
PARTITIONS = ("animal-object", "dog-cat", "dog-breeds")
TRACKERS = {"classes": "cells against each other", "unconditional": "published map"}
PATHS, FAST_PATHS = 300, 16
PER_CELL_ON_CPU, PER_CELL = 2, 16


def rows(settings: ExperimentSettings, model: Model) -> dict[str, list[Row]]:
    """For each tracker one row for each partition."""
    per_cell = PER_CELL_ON_CPU if jax.default_backend() == "cpu" else PER_CELL
    asked = Asked(
        model.name, preset="paper", samples=settings.paths or settings.size(PATHS, FAST_PATHS),
        steps=settings.steps, seed=settings.seed, per_cell=settings.size(per_cell, 1),
    )  # fmt: skip
    names = settings.partitions or PARTITIONS
    return {
        label: [
            Row(name, question(dataclasses.replace(asked, partition=name, tracker=tracker), model))
            for name in names
        ]
        for tracker, label in TRACKERS.items()
    }


def plan(settings: ExperimentSettings) -> Plan:
    """What it costs."""
    costs = [
        Cost(
            label,
            len(of_tracker),
            of_tracker[0].question.trajectories,
            sum(row.question.evaluations() for row in of_tracker),
        )
        for label, of_tracker in rows(settings, model_or_stand_in(settings.weights[0])).items()
    ]
    return Plan(network_of(settings.weights[0]), costs)


def compute(settings: ExperimentSettings, work: Work) -> xr.Dataset:
    """Curves of every level of every partition, by both trackers."""
    model = experiment.model_for(KIND, settings.weights)
    asked = rows(settings, model)
    measured = experiment.measure([row for of_tracker in asked.values() for row in of_tracker], work)
    size = len(measured) // len(asked)
    named = {
        label: [_named(row.name, part) for row, part in zip(of_tracker, measured[i * size :], strict=False)]
        for i, (label, of_tracker) in enumerate(asked.items())
    }
    dataset = experiment.together(named).assign_attrs(experiment.facts(model))
    return attach(dataset, numbers(dataset))


def _named(partition: str, part: xr.Dataset) -> xr.Dataset:
    """The levels of a partition under its own name, so that those of several are told apart."""
    return part.assign_coords(level=[f"{partition}: {level}" for level in part.level.values])


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """One panel for each partition, and the windows of all levels."""
    levels = list(map(str, dataset.level.values))
    partitions = list(dict.fromkeys(level.partition(": ")[0] for level in levels))
    figure, axes = style.new_figure(1, len(partitions) + 1, height=3.2)
    axis = view.on("sigma")
    for ax, partition in zip(axes.flat, partitions, strict=False):
        _draw_partition(ax, dataset, [level for level in levels if level.startswith(f"{partition}: ")], axis)
    _draw_windows(axes.flat[-1], dataset, levels)
    style.letter_panels(axes.flat, [*map(style.literal, partitions), "windows"])
    return figure


def _draw_partition(ax: Axes, dataset: xr.Dataset, levels: list[str], axis: str) -> None:
    for level, look in zip(levels, style.sequence(len(levels)), strict=True):
        for label, line in zip(TRACKERS.values(), ("-", "--"), strict=True):
            curve = curve_of(dataset, label, level)
            share = curve.entropy / curve.prior_entropy
            error = curve.entropy_stderr / curve.prior_entropy
            named = {"label": style.literal(level.partition(": ")[2])} if line == "-" else {}
            style.band(ax, curve.axis(axis), share, error, color=look["color"], linestyle=line, **named)
    ax.set_ylabel("entropy over its prior value")
    style.noise_axis(ax, axis)
    ax.legend(fontsize=6)


def _draw_windows(ax: Axes, dataset: xr.Dataset, levels: list[str]) -> None:
    low, middle, high = (dataset.place.isel(landmark=LANDMARKS.index(n)) for n in ("low", "median", "high"))
    for label, shift, color in zip(TRACKERS.values(), (-0.15, 0.15), ("black", "0.6"), strict=True):
        ends = np.exp(np.array([part.sel(source=label).values for part in (low, middle, high)]))
        rank = np.arange(len(levels)) + shift
        ax.hlines(rank, ends[0], ends[2], color=color, linewidth=2)
        ax.plot(ends[1], rank, "o", color=color, markersize=3, label=label)
    ax.set_yticks(range(len(levels)), [style.literal(level) for level in levels], fontsize=5)
    ax.invert_yaxis()
    style.noise_axis(ax, "sigma")
    ax.legend(fontsize=5)
