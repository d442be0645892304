"""U-turns of an EDM2 network judged by DINOv2, beside the posterior that the network itself has."""

import dataclasses
import functools

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from gmm.estimate import Estimate
from neural import load_judge, load_vae
from neural.checkpoints import hashes, locate
from neural.models import Model
from neural.pictures import ToPictures, decoded
from neural.vision.classes import class_judge
from paper_figures.drawing import judged_u_turn as drawing
from paper_figures.drawing.view import View
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.formats.numbers import Number, attach, number
from paper_figures.studies import experiment, judged_u_turn
from paper_figures.studies.asked import Asked
from paper_figures.studies.experiment import Row, Work, rows_of
from paper_figures.studies.judged_u_turn import Turned
from paper_figures.studies.plan import Plan

CAPTION = """
Samples of a class are noised to a level and denoised by the unconditional EDM2 network; DINOv2 with its linear head
for ImageNet says whether the class is the same. (a) Bands: E p(class | X_t) by the network's own tracked posterior,
with the class's share of one in a thousand. Points: the judge's mean posterior of the class afterwards, with bars of
two standard errors. Thin lines: the judge's posterior of the samples before, which is what it can reach. (b) Points
less the prediction times that. The tracked
posterior is tied to one at the least noise, since a clean sample belongs to its class; untied it would be too small by
a tenth at 48 steps. Ours: the classes, the number of samples, the judge.
"""

KIND = "edm2"
CLASSES = ("golden retriever", "minivan", "lemon")
SAMPLES, STEPS = (128, 8), (32, 8)
"""Of the figure and of its fast version."""


def rows(settings: ExperimentSettings, model: Model) -> list[Row]:
    """One row for each class."""
    classes = list(settings.classes) or [name for name in CLASSES if name in model.names]
    asked = Asked(model.name, classes=classes or [model.names[0]])
    return each_alone(settings, model, asked, SAMPLES, STEPS)


def each_alone(
    settings: ExperimentSettings, model: Model, asked: Asked, samples: tuple[int, int], steps: tuple[int, int]
) -> list[Row]:
    """One row for each class or prompt that is asked for, against the unconditional network.

    Args:
        settings: of the figure, whose numbers of paths and steps come first.
        model: the network.
        asked: the classes or prompts.
        samples: trajectories of the figure and of its fast version.
        steps: of a trajectory, likewise.
    """
    sizes = {
        "samples": settings.paths or settings.size(*samples),
        "steps": settings.steps or settings.size(*steps),
    }
    alone = dataclasses.replace(asked, tracker="unconditional", each=True, seed=settings.seed, **sizes)
    return rows_of(alone, model)


def plan(settings: ExperimentSettings) -> Plan:
    """What it costs."""
    return judged_u_turn.plan(settings.weights[0], functools.partial(rows, settings))


def compute(settings: ExperimentSettings, work: Work) -> xr.Dataset:
    """U-turns of every class.

    Raises:
        ValueError: when the weights are not a network, an autoencoder and a judge.
    """
    if len(settings.weights) != 3:
        raise ValueError(
            f"weights must name a network, its autoencoder and a judge, got {len(settings.weights)}"
        )
    model = experiment.model_for(KIND, settings.weights)
    pictures, judge = pictures_of(model, settings.weights[1]), load_judge(settings.weights[2])
    share = Estimate(np.asarray(1 / len(model.names)), np.asarray(0.0))
    turned = [
        Turned(row, class_judge(judge, pictures, [row.question.decision.conditions[0]]), share)
        for row in rows(settings, model)
    ]
    known = [hashes(locate(name)) for name in settings.weights[1:]]
    dataset = judged_u_turn.measure(turned, known, work).assign_attrs(
        experiment.facts(model, judge=settings.weights[2])
    )
    return attach(dataset, numbers(dataset))


def pictures_of(model: Model, autoencoder: str) -> ToPictures:
    """From the network's states to 8-bit images."""
    if model.pictures is not None:
        return model.pictures
    vae = load_vae(autoencoder)
    return lambda x: decoded(x, vae)


def numbers(dataset: xr.Dataset) -> list[Number]:
    """The judge's accuracy, and the largest difference from the prediction."""
    measured = []
    for name in map(str, dataset.level.values):
        part = dataset.sel(level=name)
        accuracy, error = float(part.accuracy), float(part.accuracy_stderr)
        difference = abs(part.u_turn - part.predicted * part.accuracy)
        at = int(np.argmax(difference.values))
        largest, largest_error = float(difference[at]), float(part.u_turn_stderr[at])
        measured += [
            number(f"{name}: the judge's posterior of a sample", accuracy, error),
            number(f"{name}: largest |judged - predicted × accuracy|", largest, largest_error),
        ]
    return measured


def draw(dataset: xr.Dataset, _view: View) -> Figure:
    """Predictions as bands, judged U-turns as points."""
    return drawing.draw(dataset)
