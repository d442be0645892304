"""Questions from words: names of a model and of classes become a `Question`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from neural.decisions import Decision, by_classes, by_prompts, every_class, read_partition
from neural.estimators import PAPER
from neural.estimators.precise import STEPS
from neural.models import Model, load_model
from paper_figures.formats.words import words
from paper_figures.studies.question import Question

# Trajectories by kind of model, so that a first answer takes minutes on two cores; FEW for any other kind.
SAMPLES = {"mixture": 1024, "trained": 512, "trained images": 192, "edm2": 64}
FEW = 16
# Standard error in log(σ/α) of half entropy and of a window's ends, where nothing else is asked for.
PRECISION = 0.05
# With a precision, fewer trajectories than this are never too many.
LEAST_LIMIT = 64


@dataclasses.dataclass(frozen=True)
class Asked:
    """A question in words; None leaves the choice to the model or the preset.

    Attributes:
        model: name or path.
        classes, prompts, partition: what the model decides between; at most one of them is given.
        per_cell: at most so many conditions of each cell, drawn by `seed`.
        prior: "classes" or "cells": what has equal probabilities beforehand.
        preset: "paper" for the set-up of arXiv 2602.09651.
        each: whether every class or prompt is a question of its own, against the unconditional network.
        samples, precision, steps, tracker, batch, eta, seed: as in `Question`; with a precision, `samples` is the
            largest number of trajectories.
        dtype: precision that the network computes in.
        trust_code: whether an own model may be loaded, which executes its code.
        settings: of the model's kind, as in `neural.load_model`.
    """

    model: str
    classes: Sequence[str] | None = None
    prompts: Sequence[str] | None = None
    partition: str | None = None
    per_cell: int | None = None
    prior: str | None = None
    samples: int | None = None
    precision: float | None = None
    steps: int | None = None
    tracker: str | None = None
    preset: str | None = None
    each: bool = False
    batch: int | None = None
    eta: float = 1.0
    seed: int = 0
    dtype: str = "float32"
    trust_code: bool = False
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def to_a_precision(asked: Asked) -> Asked:
    """The same with the default precision, where nothing is asked for that it would replace."""
    plain = asked.tracker in (None, "classes") and asked.preset is None and not asked.each
    fixed = asked.samples is not None or asked.steps is not None or asked.precision is not None
    return dataclasses.replace(asked, precision=PRECISION) if plain and not fixed else asked


def questions(asked: Asked, model: Model | None = None) -> list[Question]:
    """One question for each class or prompt with `each`, else one; all to one model, loaded unless it is given.

    Raises:
        ValueError: as `question`, and with `each` for a partition, or the tracker that needs two classes.
    """
    if not asked.each:
        return [question(asked, model)]
    if asked.partition is not None:
        raise ValueError(
            "`each` takes `classes` or `prompts`, one question for each of them, and no `partition`"
        )
    if asked.tracker == "classes":
        raise ValueError(
            "`each` compares a class alone with the unconditional network: `tracker` unconditional"
        )
    whole = question(dataclasses.replace(asked, tracker=asked.tracker or "unconditional"), model)
    level, prior = whole.decision.levels[-1], whole.prior
    parts = []
    for cell in range(len(level.cells)):
        decision = whole.decision.cell(cell)
        inside = level.partition.labels == cell
        parts.append(dataclasses.replace(whole, decision=decision, prior=prior[inside] / prior[inside].sum()))
    return parts


def question(asked: Asked, model: Model | None = None) -> Question:
    """The question to the model, which is loaded unless it is given.

    Raises:
        ValueError: on arguments that contradict one another, and as `load_model` and the readers of decisions.
    """
    _check_one_decision(asked)
    if model is None:
        model = load_model(asked.model, dtype=asked.dtype, trust_code=asked.trust_code, **asked.settings)
    tracker = asked.tracker or ("unconditional" if asked.preset == "paper" else "classes")
    decision = _decision(asked, model, least=2 if tracker == "classes" else 1)
    paper = PAPER.get(model.kind, PAPER["edm2"]) if asked.preset == "paper" else None
    kind = f"{model.kind} images" if model.kind == "trained" and len(model.shape) > 1 else model.kind
    samples, steps = (
        (SAMPLES.get(kind, FEW), model.grid.steps) if paper is None else (paper.samples, paper.steps)
    )
    equal_indices = paper is not None and paper.timesteps
    if tracker != "classes" and model.unconditional is None:
        raise ValueError(
            f"`tracker` {tracker} needs an unconditional network, and {model.name} has none; "
            "`tracker` classes needs none"
        )
    if asked.steps is not None:
        steps = asked.steps
    return Question(
        model=model,
        decision=decision,
        prior=decision.prior(asked.prior or ("classes" if paper is None else "cells")),
        samples=samples if asked.samples is None else asked.samples,
        steps=steps,
        grid=dataclasses.replace(model.grid, spacing="time") if equal_indices else model.grid,
        seed=asked.seed,
        tracker=tracker,
        start="state" if paper is None else "prior",
        batch=asked.batch,
        eta=asked.eta,
        precision=asked.precision,
        # A precision then never takes much more than the trajectories that are computed without one.
        most=asked.samples or max(LEAST_LIMIT, samples * steps // STEPS),
    )


def _check_one_decision(asked: Asked) -> None:
    named = {"`classes`": asked.classes, "`prompts`": asked.prompts, "`partition`": asked.partition}
    given = [name for name, value in named.items() if value]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} both say what to decide between; give one of them")


def _decision(asked: Asked, model: Model, least: int) -> Decision:
    """The decision that is asked for, of `least` cells or more; among all classes of the model where none is."""
    if asked.partition is not None:
        decision = read_partition(asked.partition, model)
    elif asked.prompts:
        decision = by_prompts(model, asked.prompts, least=least)
    elif asked.classes:
        decision = by_classes(model, _separated(asked.classes, model), least=least)
    else:
        decision = every_class(model)
    if model.tokenize is not None:
        model.tokenize(decision.conditions)
    return decision if asked.per_cell is None else decision.thinned(asked.per_cell, asked.seed)


def _separated(classes: Sequence[str], model: Model) -> Sequence[str]:
    """The classes with commas taken as separators, unless a comma is part of one of the names given."""
    known = {spelling for name in model.names for spelling in (name, *model.aliases.get(name, ()))}
    in_a_name = any("," in text and text in known | set(model.groups) for text in classes)
    return classes if in_a_name else words("classes", classes)
