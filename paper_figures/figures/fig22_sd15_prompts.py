"""Contrasts of prompts in Stable Diffusion 1.5 that change one attribute: subject, colour, style, layout."""

import dataclasses

import xarray as xr
from matplotlib.figure import Figure

from neural.models import Model
from paper_figures.drawing import style
from paper_figures.drawing.view import View
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.formats.numbers import attach
from paper_figures.studies import experiment
from paper_figures.studies.asked import Asked, question
from paper_figures.studies.comparison import curve_of, numbers
from paper_figures.studies.experiment import Row, Work
from paper_figures.studies.plan import Cost, Plan, model_or_stand_in, network_of
from paper_figures.studies.sources import ONLINE

CAPTION = """
When Stable Diffusion 1.5 decides between two prompts that differ in one attribute. (a) Entropy of the decision along
stochastic trajectories of either prompt, log-ratio from zero. (b) Its rate. Published: 100 evaluations, equally
spaced in the process's own index, and 400 trajectories of a curve; that prompts which change several attributes are a
limit of the method. Ours: the prompts themselves, since those of the paper are not published.
"""

KIND = "sd15"
CONTRASTS = {
    "subject": ("a photo of a cat", "a photo of a dog"),
    "colour": ("a photo of a red car", "a photo of a blue car"),
    "style": ("a photograph of a mountain lake", "an oil painting of a mountain lake"),
    "layout": ("a red cube to the left of a blue ball", "a red cube to the right of a blue ball"),
}
PATHS, FAST_PATHS = 400, 8


def contrasts(settings: ExperimentSettings) -> dict[str, tuple[str, str]]:
    """Pairs of prompts by name: ours, or those asked for, two after two.

    Raises:
        ValueError: for an odd number of prompts.
    """
    given = settings.prompts
    if len(given) % 2:
        raise ValueError(f"prompts must come in pairs, one pair for each contrast, got {len(given)}")
    pairs = {f"{a} | {b}": (a, b) for a, b in zip(given[::2], given[1::2], strict=True)}
    return pairs or CONTRASTS


def rows(settings: ExperimentSettings, model: Model) -> list[Row]:
    """One row for each contrast."""
    asked = Asked(
        model.name, preset="paper", tracker="classes", seed=settings.seed, steps=settings.steps,
        samples=settings.paths or settings.size(PATHS, FAST_PATHS),
    )  # fmt: skip
    return [
        Row(name, question(dataclasses.replace(asked, prompts=pair), model))
        for name, pair in contrasts(settings).items()
    ]


def plan(settings: ExperimentSettings) -> Plan:
    """What it costs."""
    asked = rows(settings, model_or_stand_in(settings.weights[0]))
    evaluations = sum(row.question.evaluations() for row in asked)
    cost = Cost("contrasts of prompts", len(asked), asked[0].question.trajectories, evaluations)
    return Plan(network_of(settings.weights[0]), [cost])


def compute(settings: ExperimentSettings, work: Work) -> xr.Dataset:
    """Curves of every contrast."""
    model = experiment.model_for(KIND, settings.weights)
    asked = rows(settings, model)
    measured = experiment.renamed(asked, experiment.measure(asked, work))
    dataset = experiment.together({ONLINE: measured})
    prompts = {name: list(pair) for name, pair in contrasts(settings).items()}
    return attach(dataset.assign_attrs(experiment.facts(model, contrasts=prompts)), numbers(dataset))


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Entropies and rates of all contrasts."""
    figure, axes = style.new_figure(1, 2, height=3.2)
    axis = view.on("sigma")
    names = list(map(str, dataset.level.values))
    for name, look in zip(names, style.kinds(len(names)), strict=True):
        curve = curve_of(dataset, ONLINE, name)
        style.draw_entropy(axes[0, 0], curve, view, axis, label=style.literal(name), **look)
        style.draw_rate(axes[0, 1], curve, view, axis, **look)
    style.letter_panels(axes.flat, ("entropy", "rate"))
    axes[0, 0].legend()
    return figure
