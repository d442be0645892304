"""What guidance does to a decision between prompts of Stable Diffusion 1.5."""

import functools

import xarray as xr
from matplotlib.figure import Figure

from neural.models import Model
from paper_figures.drawing import guided_experiment as drawing
from paper_figures.drawing.view import View
from paper_figures.figures import fig22_sd15_prompts as prompts
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.studies import experiment, guided_experiment
from paper_figures.studies.experiment import Row, Work
from paper_figures.studies.plan import Plan

CAPTION = """
One row for each pair of prompts of Stable Diffusion 1.5, along trajectories guided to either of them. (a) Entropy of
the unguided posterior. (b) Information produced in each interval of log noise. (c) The cross-entropy: mean surprise
of the prompt that was guided to. Published: 100 evaluations and 400 trajectories. Ours: the prompts, and all weights
and intervals, since those of the paper are not published; 7.5 is the usual weight of this network.
"""

KIND = "sd15"
CONTRAST = "subject"
SCHEDULES = ("cfg:7.5", "interval:7.5:0.5..5", "feedback")


def rows(settings: ExperimentSettings, model: Model) -> list[Row]:
    """One row for each contrast: that of the subject, where no prompts are given."""
    asked = prompts.rows(settings, model)
    return asked if settings.prompts else [row for row in asked if row.name == CONTRAST]


def plan(settings: ExperimentSettings) -> Plan:
    """What it costs."""
    asked = functools.partial(rows, settings)
    return guided_experiment.plan(settings.weights[0], asked, settings.schedules or SCHEDULES)


def compute(settings: ExperimentSettings, work: Work) -> xr.Dataset:
    """Curves of every row under every schedule."""
    model = experiment.model_for(KIND, settings.weights)
    return guided_experiment.compute(model, rows(settings, model), settings.schedules or SCHEDULES, work)


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Entropy, rate and surprise of every contrast."""
    return drawing.draw(dataset, view)
