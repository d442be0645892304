"""U-turns of Stable Diffusion 1.5 judged by CLIP, beside the posterior that the network itself has."""

import functools

import xarray as xr
from matplotlib.figure import Figure

from neural import load_judge
from neural.checkpoints import hashes, locate
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
from paper_figures.studies.judged_u_turn import Turned
from paper_figures.studies.plan import Plan

CAPTION = """
Samples of a prompt are noised to a level and denoised by Stable Diffusion 1.5 under the empty prompt; CLIP says, by
its zero-shot posterior among some prompts, whether the image still shows the same. (a) Bands: E p(prompt | X_t) by
the network's own tracked posterior, with the prompt's share of the samples without a prompt, as CLIP sees them.
Points: CLIP's mean posterior afterwards, with bars of two standard errors. (b) Points less the prediction times
CLIP's posterior of the samples before. The tracked
posterior is tied to one at the least noise, since a clean sample belongs to its class; untied it would be too small by
a tenth at 48 steps. All choices are ours: prompts, the other prompts that
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
    prompts = [row.name for row in measured]
    # Each prompt is judged against all others, so that one table of posteriors serves for the shares.
    others = [[*(one for one in prompts if one != prompt), *OTHERS] for prompt in prompts]
    judges = [
        prompt_judge(judge, model.pictures, [prompt], rest)
        for prompt, rest in zip(prompts, others, strict=True)
    ]
    known = [prompts, others, hashes(locate(settings.weights[1]))]
    shares = judged_u_turn.shares_of(judges, model, measured[0].question, known, work.folder)
    turned = [Turned(*each) for each in zip(measured, judges, shares, strict=True)]
    facts = experiment.facts(model, judge=settings.weights[1], others=OTHERS)
    dataset = judged_u_turn.measure(turned, known, work).assign_attrs(facts)
    return attach(dataset, numbers(dataset))


def draw(dataset: xr.Dataset, _view: View) -> Figure:
    """Predictions as bands, judged U-turns as points."""
    return drawing.draw(dataset)
