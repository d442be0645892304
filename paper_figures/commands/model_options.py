"""Options of the commands that measure a decision of a model."""

from typing import Annotated, Literal

import typer

DEFAULT_MODEL = "zoo:digits"

PriorName = Literal["classes", "cells"]
TrackerName = Literal["classes", "unconditional", "share"]
PresetName = Literal["paper"]

ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        help="A model by name (`speciation models list`) or path; a pipeline as diffusers:FOLDER; or an own model as "
        "module:object or FILE.py:object, with --trust-code.",
    ),
]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Load an own model, module:object or path/to/file.py:object, which executes its code.",
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS ...",
        help="Classes to decide between, each by its name, index or group ('dog').",
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT ...", help="Prompts to decide between, for models that take text."),
]
Partition = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="A partition of classes or prompts into cells, at one or more levels: one that ships "
        "(`speciation models partitions`) or a .toml or .json file.",
    ),
]
PerCell = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Use at most N classes of each cell, drawn by the seed; fewer classes cost fewer evaluations.",
    ),
]
Prior = Annotated[
    PriorName | None,
    typer.Option(
        metavar="classes|cells",
        help="Equal probabilities beforehand for every class, or for every cell of the first level.",
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(metavar="N", help="Number of trajectories. Default: few enough for minutes on two cores."),
]
Steps = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Noise levels, and network evaluations for each trajectory. Default: the model's own.",
    ),
]
Tracker = Annotated[
    TrackerName | None,
    typer.Option(
        metavar="classes|unconditional|share",
        help="What a class is compared with along a trajectory: the other classes; the unconditional network, at prior "
        "one half (as published; the entropy then does not fall to zero); or the rest, with a known share.",
    ),
]
Preset = Annotated[
    PresetName | None,
    typer.Option(metavar="paper", help="The settings of arXiv 2602.09651, as far as they are published."),
]
Batch = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="States that the network sees at a time; fewer take less memory."),
]
Eta = Annotated[
    float,
    typer.Option(
        metavar="ETA",
        help="Noise of the trajectories' sampler, as in DDIM. Only 1 is supported, because other values follow a "
        "different posterior.",
    ),
]
