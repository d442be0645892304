"""What the experiments with guidance share: their cost, their data and their picture."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import xarray as xr
from matplotlib.figure import Figure

from neural.models import Model
from paper_figures.drawing import guided_experiment as drawing
from paper_figures.drawing.view import View
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.studies import guided_experiment as study
from paper_figures.studies.experiment import Row, Work, model_for
from paper_figures.studies.plan import Plan


class GuidedExperiment(NamedTuple):
    """Decisions of one kind of network under several schedules.

    Attributes:
        kind: of the network.
        rows: one for each decision.
        schedules: those of the figure, where a person names none.
    """

    kind: str
    rows: Callable[[ExperimentSettings, Model], list[Row]]
    schedules: tuple[str, ...]

    def plan(self, settings: ExperimentSettings) -> Plan:
        """What it costs."""
        rows = functools.partial(self.rows, settings)
        return study.plan(settings.weights[0], rows, settings.schedules or self.schedules)

    def compute(self, settings: ExperimentSettings, work: Work) -> xr.Dataset:
        """Curves of every row under every schedule."""
        model = model_for(self.kind, settings.weights)
        return study.compute(model, self.rows(settings, model), settings.schedules or self.schedules, work)

    def draw(self, dataset: xr.Dataset, view: View) -> Figure:
        """Entropy, rate and surprise of every row."""
        return drawing.draw(dataset, view)
