"""Options of the commands that measure a decision of a model."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from paper_figures.commands.option_groups import option

Prompts = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT ...", help="Prompts to decide between, for models that take text."),
]


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """Which model."""

    model: str = option(
        "zoo:digits",
        "A model by name (`speciation models list`) or path; a pipeline as diffusers:FOLDER; or an own model "
        "as module:object or FILE.py:object, with --trust-code.",
        metavar="NAME|PATH",
    )
    trust_code: bool = option(
        False, "Load an own model, module:object or path/to/file.py:object, which executes its code."
    )


@dataclasses.dataclass(frozen=True)
class ChangeOptions:
    """How a Stable Diffusion model differs from its file."""

    lora: list[str] | None = option(
        None,
        "LoRA files to add to the weights of a Stable Diffusion model, each with a scale, 1 by default.",
        metavar="FILE[:SCALE] ...",
    )
    embeddings: list[str] | None = option(
        None,
        "Files of learnt words (textual inversion) for a Stable Diffusion model, each with the word that stands "
        "for it in prompts. Default: the word in the file, else the file's name.",
        metavar="FILE[:WORD] ...",
    )
    prediction: Literal["epsilon", "v", "sample"] | None = option(
        None,
        "What the U-Net of a Stable Diffusion model predicts, where its file does not say so: the noise, v, or "
        "the clean state.",
    )
    clip_skip: int | None = option(
        None,
        "Last layers of a Stable Diffusion model's text encoder to leave out, counted as in diffusers: 1 is what "
        "other programs call clip skip 2.",
        metavar="N",
        least=0,
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of `neural.load_model`, those that were not given as None.

        Raises:
            ValueError: when what follows the file of a LoRA is no number.
        """
        lora = None if self.lora is None else [_file_and(text, _scale) for text in self.lora]
        words = None if self.embeddings is None else [_file_and(text, str) for text in self.embeddings]
        return {
            "lora": lora, "embeddings": words, "prediction": self.prediction, "clip_skip": self.clip_skip
        }  # fmt: skip


def _file_and(text: str, read: Callable[[str], Any]) -> tuple[str, Any] | str:
    """FILE:MORE as the file and what `read` makes of the rest; the text itself where that is the path of a file."""
    file, colon, more = text.rpartition(":")
    return (file, read(more)) if colon and Path(file).exists() and not Path(text).exists() else text


def _scale(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"`lora` must be FILE or FILE:SCALE with a number, got the scale {text!r}") from None


@dataclasses.dataclass(frozen=True)
class DecisionOptions:
    """What the model decides between."""

    classes: list[str] | None = option(
        None, "Classes to decide between, each by its name, index or group ('dog').", metavar="CLASS ..."
    )
    prompts: Prompts = None
    partition: str | None = option(
        None,
        "A partition of classes or prompts into cells, at one or more levels: one that ships (`speciation "
        "models partitions`) or a .toml or .json file.",
        metavar="NAME|FILE",
    )
    per_cell: int | None = option(
        None,
        "Use at most N classes of each cell, drawn by the seed; fewer classes cost fewer evaluations.",
        metavar="N",
        least=1,
    )
    prior: Literal["classes", "cells"] | None = option(
        None, "Equal probabilities beforehand for every class, or for every cell of the first level."
    )


@dataclasses.dataclass(frozen=True)
class TrajectoryOptions:
    """How many trajectories, how long each is, and how the posterior of the classes is followed along it."""

    precision: float | None = option(
        None,
        "Add trajectories until half entropy and the window's ends (in guidance: half entropy) have standard errors "
        "of at most P in log(σ/α). Default of compare and window, unless samples, steps, a preset or another tracker "
        "is given: 0.05.",
        metavar="P",
    )
    samples: int | None = option(
        None,
        "Number of trajectories; with a precision, the largest. Default: few enough for minutes on two cores.",
        metavar="N",
    )
    steps: int | None = option(
        None,
        "Noise levels, and, without a precision, network evaluations for each trajectory. Default: the model's own.",
        metavar="N",
    )
    tracker: Literal["classes", "unconditional", "share"] | None = option(
        None,
        "What a class is compared with along a trajectory: the other classes; the unconditional network, at "
        "prior one half (as published; the entropy then does not fall to zero); or the rest, with a known "
        "share.",
    )
    preset: Literal["paper"] | None = option(
        None, "The settings of arXiv 2602.09651, as far as they are published."
    )
    eta: float = option(
        1.0,
        "Noise of the trajectories' sampler, as in DDIM. Only 1 is supported, because other values follow a "
        "different posterior.",
        metavar="ETA",
    )
    batch: int | None = option(
        None, "States that the network sees at a time; fewer take less memory.", metavar="N", least=1
    )


@dataclasses.dataclass(frozen=True)
class QuestionOptions(TrajectoryOptions):
    """The same, and whether there is one question for each class."""

    each: bool = option(
        False, "Take every class or prompt alone, one after the other, against the unconditional network."
    )
