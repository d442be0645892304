"""What guidance does to a decision between prompts of Stable Diffusion 1.5."""

from neural.models import Model
from paper_figures.figures import fig22_sd15_prompts as prompts
from paper_figures.figures.guided_experiment import GuidedExperiment
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.studies.experiment import Row

CAPTION = """
One row for each pair of prompts of Stable Diffusion 1.5, along trajectories guided to either of them. (a) Entropy of
the unguided posterior. (b) Information produced in each interval of log noise. (c) The cross-entropy: mean surprise
of the prompt that was guided to. Published: 100 evaluations and 400 trajectories. Ours: the prompts, and all weights
and intervals, since those of the paper are not published; 7.5 is the usual weight of this network.
"""

CONTRAST = "subject"
SCHEDULES = ("cfg:7.5", "interval:7.5:0.5..5", "feedback")


def rows(settings: ExperimentSettings, model: Model) -> list[Row]:
    """One row for each contrast: that of the subject, where no prompts are given."""
    contrasts = prompts.rows(settings, model)
    return contrasts if settings.prompts else [row for row in contrasts if row.name == CONTRAST]


EXPERIMENT = GuidedExperiment("sd15", rows, SCHEDULES)
plan, compute, draw = EXPERIMENT.plan, EXPERIMENT.compute, EXPERIMENT.draw
