"""Options with which a person asks a model something, shared by the commands that do."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from paper_figures.commands.lists import words

if TYPE_CHECKING:
    from neural.decisions import Decision
    from neural.models import Model
    from paper_figures.studies.sources import Measured, Question, Source

DEFAULT_MODEL = "zoo:digits"
# Trajectories by kind of model, so that a first answer comes in minutes on two cores; others: few.
SAMPLES = {"mixture": 1024, "trained": 512, "trained images": 192, "edm2": 64}
FEW = 16

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


class Asked(NamedTuple):
    """What came from the command line."""

    model: str = DEFAULT_MODEL
    classes: list[str] | None = None
    prompts: list[str] | None = None
    partition: str | None = None
    per_cell: int | None = None
    prior: str | None = None
    samples: int | None = None
    steps: int | None = None
    tracker: str | None = None
    preset: str | None = None
    batch: int | None = None
    eta: float = 1.0
    seed: int = 0
    dtype: str = "float32"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Asked":
        """By name, from all the options of a command; those that are not about the question are passed over."""
        return cls(**{name: options[name] for name in cls._fields if name in options})


def question(asked: Asked) -> "Question":
    """The model, loaded, and what is asked of it.

    Raises:
        ValueError: on options that contradict one another, and as `load_model` and the readers of decisions.
    """
    from neural.estimators import PAPER
    from neural.models import load_model
    from paper_figures.studies.sources import Question

    _one_of(asked)
    model = load_model(asked.model, dtype=asked.dtype)
    chosen = decision(asked, model)
    paper = PAPER.get(model.kind, PAPER["edm2"]) if asked.preset == "paper" else None
    kind = f"{model.kind} images" if model.kind == "trained" and len(model.shape) > 1 else model.kind
    usual = (SAMPLES.get(kind, FEW), model.grid.steps) if paper is None else (paper.samples, paper.steps)
    samples, steps = (
        own if given is None else given
        for own, given in zip(usual, (asked.samples, asked.steps), strict=True)
    )
    equal_indices = paper is not None and paper.timesteps
    found = Question(
        model=model,
        decision=chosen,
        prior=chosen.prior(asked.prior or ("classes" if paper is None else "cells")),
        samples=samples,
        steps=steps,
        grid=dataclasses.replace(model.grid, spacing="time") if equal_indices else model.grid,
        seed=asked.seed,
        tracker=asked.tracker or ("classes" if paper is None else "unconditional"),
        start="state" if paper is None else "prior",
        batch=asked.batch,
        eta=asked.eta,
    )
    if found.tracker != "classes" and model.unconditional is None:
        raise ValueError(
            f"--tracker {found.tracker} needs an unconditional network, and {model.name} has none; "
            "--tracker classes needs none"
        )
    return found


def decision(asked: Asked, model: "Model") -> "Decision":
    """The decision that the options name; all classes of the model where they name none."""
    from neural.decisions import by_classes, by_prompts, every_class, read_partition

    if asked.partition is not None:
        found = read_partition(asked.partition, model)
    elif asked.prompts:
        found = by_prompts(model, asked.prompts)
    elif asked.classes:
        found = by_classes(
            model, words("--classes", asked.classes) if _splits(asked.classes, model) else asked.classes
        )
    else:
        found = every_class(model)
    if model.tokenize is not None:
        model.tokenize(found.conditions)
    return found if asked.per_cell is None else found.thinned(asked.per_cell, asked.seed)


def _splits(given: list[str], model: "Model") -> bool:
    """Whether commas separate: not where they are part of a name."""
    known = {spelling for name in model.names for spelling in (name, *model.aliases.get(name, ()))} | set(
        model.groups
    )
    return not any("," in word and word in known for word in given)


def _one_of(asked: Asked) -> None:
    named = {"--classes": asked.classes, "--prompts": asked.prompts, "--partition": asked.partition}
    given = [option for option, value in named.items() if value]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} name the same thing; give one of them")


def folder_of(command: str, asked: Asked, out: Path | None) -> Path:
    """The folder of results: the one named, else one for each command and model."""
    name = asked.model if ":" in asked.model else Path(asked.model).stem
    return Path(f"{command}-{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}") if out is None else out


def announce(question: "Question", sources: Sequence["Source"], about: str = "") -> None:
    """Say what is asked and what it costs, before it starts."""
    import jax

    from paper_figures.studies.sources import in_words, seconds_per_evaluation

    decision = question.decision
    cells = "; ".join(f"{level.name}: {', '.join(_short(level.cells))}" for level in decision.levels)
    typer.echo(f"{question.model.name}: {len(decision.conditions)} conditions; {cells}")
    evaluations = sum(source.evaluations for source in sources)
    each = seconds_per_evaluation(question)
    device = jax.devices()[0]
    where = f"{jax.device_count()} x {device.device_kind}" if device.platform != "cpu" else "cpu"
    typer.echo(
        f"{question.runs * question.per_run} trajectories of {question.steps} steps: {evaluations:,} network "
        f"evaluations, about {in_words(each * evaluations)} on this device ({where}, {1e3 * each:.3g} ms each, "
        "timed just now)"
    )
    if about:
        typer.echo(about)


def _short(names: Sequence[str], most: int = 10) -> list[str]:
    return [*names[:most], f"and {len(names) - most} more"] if len(names) > most else list(names)


def measured(sources: Sequence["Source"], parts: Path) -> "Measured":
    """Every run of every source, with progress; what is finished stays in `parts` when a person interrupts.

    Raises:
        ValueError: when the folder of `parts` cannot be written.
    """
    from paper_figures import interruption, progress
    from paper_figures.files import ensure_writable
    from paper_figures.studies import sources as measuring

    ensure_writable(parts.parent)
    expected = {source.name: 1000 * source.runs for source in sources}
    with (
        interruption.interruptible(f"finished parts stay in {parts}, the same command goes on"),
        progress.watching(progress.bars(), expected) as watch,
    ):
        return measuring.measure(sources, parts, watch)


def facts(question: "Question") -> dict[str, Any]:
    """What it takes to measure it again."""
    model = question.model
    return {
        "model": model.name,
        "kind": model.kind,
        "model_facts": dict(model.facts),
        "decision": question.decision.as_dict(),
        "prior": question.prior.tolist(),
        "process": model.process.describe(),
        "samples": question.runs * question.per_run,
        "runs": question.runs,
        "steps": question.steps,
        "seed": question.seed,
        "tracker": question.tracker,
        "start": question.start,
    }
