"""U-turns of Stable Diffusion 1.5 judged by CLIP, beside the posterior that the network itself has."""

import functools

import xarray as xr
from matplotlib.figure import Figure

from neural import load_judge
from neural.models import Model
from neural.vision.classes import prompt_judge
from paper_figures.drawing import judged_u_turn as drawing
from paper_figures.drawing.view import View
from paper_figures.figures.fig25_edm2_u_turn import each_alone, numbers
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.formats.numbers import attach
from paper_figures.studies import experiment, judged_u_turn
from paper_figures.studies.asked import Asked
from paper_figures.studies.experiment import Row, Work
from paper_figures.studies.judged_u_turn import Turned, share_of
from paper_figures.studies.plan import Plan

CAPTION = """
Samples of a prompt are noised to a level and denoised by Stable Diffusion 1.5 under the empty prompt; CLIP says, by
its zero-shot posterior among some prompts, whether the image still shows the same. (a) Bands: E p(prompt | X_t) by
the network's own tracked posterior, with the prompt's share of the samples without a prompt, as CLIP sees them.
Points: CLIP's mean posterior afterwards, with bars of two standard errors. (b) Points less the prediction times
CLIP's posterior of the samples before. Where the class is decided, the tracked posterior is too small: by a tenth for
48 steps, by 0.06 for 384, on an exact mixture of eight classes. All choices are ours: prompts, the other prompts that
stand for everything else, the number of samples.
"""

KIND = "sd15"
PROMPTS = ("a photo of a cat", "a photo of a car")
OTHERS = (
    "a photo of a person", "a photo of a landscape", "a photo of a building", "a photo of food", "a photo of a plant",
    "a drawing", "a page of text", "a photo of an animal", "a photo of an object",
)  # fmt: skip
SAMPLES, STEPS = (64, 4), (32, 6)
"""Of the figure and of its fast version."""


def rows(settings: ExperimentSettings, model: Model) -> list[Row]:
    """One row for each prompt."""
    asked = Asked(model.name, prompts=settings.prompts or PROMPTS)
    return each_alone(settings, model, asked, SAMPLES, STEPS)


def plan(settings: ExperimentSettings) -> Plan:
    """What it costs."""
    return judged_u_turn.plan(settings.weights[0], functools.partial(rows, settings))


def compute(settings: ExperimentSettings, work: Work) -> xr.Dataset:
    """U-turns of every prompt.

    Raises:
        ValueError: when the weights are not a network and a judge.
    """
    if len(settings.weights) != 2:
        raise ValueError(f"weights must name a network and a judge, got {len(settings.weights)}")
    model, judge = experiment.model_for(KIND, settings.weights), load_judge(settings.weights[1])
    assert model.pictures is not None
    measured = rows(settings, model)
    turned = []
    for row in measured:
        rest = [*(other.name for other in measured if other.name != row.name), *OTHERS]
        judge_of_prompt = prompt_judge(judge, model.pictures, [row.name], rest)
        share = share_of(judge_of_prompt, model, row.question.samples, row.question.steps, settings.seed)
        turned.append(Turned(row, judge_of_prompt, share))
    facts = experiment.facts(model, judge=settings.weights[1], others=OTHERS)
    dataset = judged_u_turn.measure(turned, work).assign_attrs(facts)
    return attach(dataset, numbers(dataset))


def draw(dataset: xr.Dataset, _view: View) -> Figure:
    """Predictions as bands, judged U-turns as points."""
    return drawing.draw(dataset)
