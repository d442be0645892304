"""Options of the commands that ask a model something."""

from typing import Annotated, Literal

import typer

DEFAULT_MODEL = "zoo:digits"

PriorName = Literal["classes", "cells"]
TrackerName = Literal["classes", "unconditional", "share"]
PresetName = Literal["paper"]

ModelName = Annotated[
    str,
    typer.Option("--model", metavar="NAME|PATH", help="A model by name (`speciation models list`) or path."),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS ...",
        help="Classes to decide between, each by its name, index or group ('dog'); several may follow.",
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT ...", help="Prompts to decide between, of models that take text."),
]
Partition = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Cells of several classes or prompts, at one or more levels: one that ships "
        "(`speciation models partitions`) or a .toml or .json file.",
    ),
]
PerCell = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Take at most N classes of each cell, drawn by the seed: every class costs evaluations.",
    ),
]
Prior = Annotated[
    PriorName | None,
    typer.Option(
        metavar="classes|cells",
        help="What is alike beforehand: every class, or every cell of the first level.",
    ),
]
Samples = Annotated[
    int | None, typer.Option(metavar="N", help="Trajectories. Default: few enough for minutes on two cores.")
]
Steps = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Noise levels, and evaluations of a trajectory. Default: the model's own."
    ),
]
Tracker = Annotated[
    TrackerName | None,
    typer.Option(
        metavar="classes|unconditional|share",
        help="What a class is tracked against: the other classes; the unconditional network at prior one half (the "
        "published map, whose entropy keeps a floor); or the rest with a known share.",
    ),
]
Preset = Annotated[
    PresetName | None,
    typer.Option(metavar="paper", help="The paper's set-up (arXiv 2602.09651), as far as it is published."),
]
Batch = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="States that the network sees at a time; less takes less memory."),
]
Eta = Annotated[
    float,
    typer.Option(
        metavar="ETA",
        help="Noise of the trajectories' sampler, in DDIM's terms; only 1 has the posterior that is tracked.",
    ),
]
