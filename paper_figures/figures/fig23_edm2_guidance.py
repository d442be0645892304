"""What guidance does to decisions of an EDM2 network: none, everywhere, in a limited interval, by feedback."""

import functools

import xarray as xr
from matplotlib.figure import Figure

from neural.models import Model
from paper_figures.drawing import guided_experiment as drawing
from paper_figures.drawing.view import View
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.studies import experiment, guided_experiment
from paper_figures.studies.asked import Asked, questions
from paper_figures.studies.experiment import Row, Work
from paper_figures.studies.plan import Plan

CAPTION = """
One row for each class of an EDM2 network, against its unconditional network at prior one half (the published map),
along trajectories guided to the class. (a) Entropy of the unguided posterior. (b) Information produced in each
interval of log noise. (c) The cross-entropy: mean surprise of the class. Intervals and weights are the published
optima of limited-interval guidance on EDM2-XS by FID (0.15 to 1.6, weight 2.8, stochastic sampler) and by FD-DINOv2
(0.48 to 6.8, weight 2.9) of arXiv 2506.06085, table 3. Ours: the classes, and the weight of guidance at all noise
levels, which is that of the first interval.
"""

KIND = "edm2"
CLASSES = ("golden retriever", "minivan")
SCHEDULES = ("cfg:2.8", "interval:2.8:0.15..1.6", "interval:2.9:0.48..6.8", "feedback")
PATHS, FAST_PATHS = 300, 16


def rows(settings: ExperimentSettings, model: Model) -> list[Row]:
    """One row for each class."""
    classes = list(settings.classes) or [name for name in CLASSES if name in model.names]
    asked = Asked(
        model.name, preset="paper", each=True, classes=classes or [model.names[0]], seed=settings.seed,
        steps=settings.steps, samples=settings.paths or settings.size(PATHS, FAST_PATHS),
    )  # fmt: skip
    return [Row(one.decision.name, one) for one in questions(asked, model)]


def plan(settings: ExperimentSettings) -> Plan:
    """What it costs."""
    asked = functools.partial(rows, settings)
    return guided_experiment.plan(settings.weights[0], asked, settings.schedules or SCHEDULES)


def compute(settings: ExperimentSettings, work: Work) -> xr.Dataset:
    """Curves of every row under every schedule."""
    model = experiment.model_for(KIND, settings.weights)
    return guided_experiment.compute(model, rows(settings, model), settings.schedules or SCHEDULES, work)


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Entropy, rate and surprise of every class."""
    return drawing.draw(dataset, view)
