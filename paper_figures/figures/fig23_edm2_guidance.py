"""What guidance does to decisions of an EDM2 network: none, everywhere, in a limited interval, by feedback."""

from neural.models import Model
from paper_figures.figures.guided_experiment import GuidedExperiment
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.studies.asked import Asked
from paper_figures.studies.experiment import Row, rows_of

CAPTION = """
One row for each class of an EDM2 network, against its unconditional network at prior one half (the published map),
along trajectories guided to the class. (a) Entropy of the unguided posterior. (b) Information produced in each
interval of log noise. (c) The cross-entropy: mean surprise of the class. Intervals and weights are the published
optima of limited-interval guidance on EDM2-XS by FID (0.15 to 1.6, weight 2.8, stochastic sampler) and by FD-DINOv2
(0.48 to 6.8, weight 2.9) of arXiv 2506.06085, table 3. Ours: the classes, and the weight of guidance at all noise
levels, which is that of the first interval.
"""

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
    return rows_of(asked, model)


EXPERIMENT = GuidedExperiment("edm2", rows, SCHEDULES)
plan, compute, draw = EXPERIMENT.plan, EXPERIMENT.compute, EXPERIMENT.draw
