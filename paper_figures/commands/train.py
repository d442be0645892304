"""``speciation train``: a small class-conditional denoiser on a mixture or on data."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paper_figures.commands.options import DryRun, Seed

if TYPE_CHECKING:
    from paper_figures.studies.training import Trained
    from paper_figures.studies.training_request import Request

DEFAULT_FOLDER = Path("trained")
CURVES, SAMPLES, CARD = "training.png", "samples.png", "card.md"

Data = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="Learn a data set: digits, a .npz file with x and y, or a folder of IDX files (a name is also "
        "looked for in $SPECIATION_DATA). Images are learned by an EDM2 network, vectors by an MLP.",
    ),
]
Family = Annotated[
    Literal["pair", "simplex", "orthogonal", "random", "tree"] | None,
    typer.Option(
        metavar="pair|simplex|orthogonal|random|tree",
        help="Learn a Gaussian mixture, whose optimal denoiser is known, by an MLP on fresh samples.",
    ),
]
Dim = Annotated[int, typer.Option(metavar="D", help="Dimension of the mixture.")]
Classes = Annotated[
    int | None,
    typer.Option(
        metavar="K", help="Number of its classes. Default: 2; the leaves of a tree are its classes."
    ),
]
Branching = Annotated[
    str | None, typer.Option(metavar="SHAPE", help="Shape of a tree, such as 2x2x2, coarsest level first.")
]
Energies = Annotated[
    str | None,
    typer.Option(
        metavar="E,...", help="Relative energies of a tree's levels, such as 36,6,1. Default: equal ones."
    ),
]
Separation = Annotated[
    float, typer.Option(metavar="S", help="Root mean square of a coordinate of a class mean.")
]
Variance = Annotated[float, typer.Option(metavar="V", help="Within-class variance.")]
HeldOut = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Points kept out of training, on which losses are computed. Default: the test set of a folder of IDX "
        "files, else a sixth of the data.",
    ),
]
Patch = Annotated[
    int,
    typer.Option(
        metavar="P",
        help="Fold patches of PxP pixels into channels, which takes P² times less work in each layer.",
    ),
]
Channels = Annotated[
    str,
    typer.Option(
        metavar="C,...",
        help="Channels of an image network, finest resolution first; each resolution is half the one before.",
    ),
]
Blocks = Annotated[
    int, typer.Option(metavar="N", help="Residual blocks at each resolution of an image network.")
]
Width = Annotated[int, typer.Option(metavar="N", help="Units of an MLP's layers.")]
Depth = Annotated[
    int, typer.Option(metavar="N", help="Residual blocks of an MLP; 0 is the affine head alone.")
]
Steps = Annotated[int, typer.Option(metavar="N", min=1, help="Optimiser steps.")]
Batch = Annotated[int, typer.Option(metavar="N", min=1, help="Samples in each step.")]
LearningRate = Annotated[
    float | None,
    typer.Option(metavar="X", help="Peak learning rate. Default: 0.002 for an MLP, 0.01 for images."),
]
LabelDropout = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Share of labels that are dropped, from which the null condition is learned. Default: 0.5 for an "
        "MLP, 0.15 for images.",
    ),
]
Ema = Annotated[
    float,
    typer.Option(metavar="X", help="Width of the moving average of the weights, as a share of the training."),
]
Store = Annotated[
    Literal["float32", "float16"],
    typer.Option(metavar="float32|float16", help="Precision that the weights are stored in."),
]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for the results, created if missing.")
]


def train(
    data: Data = None,
    family: Family = None,
    dim: Dim = 64,
    classes: Classes = None,
    branching: Branching = None,
    energies: Energies = None,
    separation: Separation = 1.0,
    variance: Variance = 1.0,
    held_out: HeldOut = None,
    patch: Patch = 1,
    channels: Channels = "64",
    blocks: Blocks = 1,
    width: Width = 192,
    depth: Depth = 3,
    steps: Steps = 6000,
    batch: Batch = 512,
    learning_rate: LearningRate = None,
    label_dropout: LabelDropout = None,
    ema: Ema = 0.05,
    store: Store = "float32",
    seed: Seed = 0,
    out: Out = DEFAULT_FOLDER,
    dry_run: DryRun = False,
) -> None:
    """Train a small class-conditional denoiser, with a null condition, on a mixture or on data.

    DIR receives model.safetensors (the averaged weights, for `--model DIR/model.safetensors` of other commands),
    training.nc with the losses, training.png, samples.png, and card.md, which says how the network was made. For a
    mixture the loss at every noise level is compared with the optimum. The state of the run is written twice a
    minute to state.safetensors: the same command goes on from there, with the same numbers.

    Example: speciation train --family tree --branching 2x2x2 --energies 36,6,1 --separation 2 --out tree

    Example: speciation train --data digits --patch 2 --steps 3000 --batch 64 --out digits
    """
    from paper_figures.interruption import interruptible
    from paper_figures.progress import bar
    from paper_figures.studies.training import STATE, carry_out
    from paper_figures.studies.training_request import Request

    request = Request(
        data=data, family=family, dim=dim, classes=classes, branching=branching, energies=energies,
        separation=separation, variance=variance, held_out=held_out, patch=patch, channels=channels, blocks=blocks,
        width=width, depth=depth, steps=steps, batch=batch, learning_rate=learning_rate,
        label_dropout=label_dropout, ema=ema, store=store, seed=seed,
    )  # fmt: skip
    if dry_run:
        _print_cost(request, out)
        return
    stay = f"kept in {out / STATE}, the same command goes on"
    with interruptible(stay), bar("training") as progress:
        trained = carry_out(request, out, _command_line(request), progress)
    _write_pictures_and_card(trained, out)


def _command_line(request: "Request") -> str:
    """The command line that asks for this, without its folder."""
    given = [
        f"--{field.name.replace('_', '-')} {getattr(request, field.name)}"
        for field in dataclasses.fields(request)
        if getattr(request, field.name) != field.default
    ]
    return " ".join(["speciation train", *given])


def _print_cost(request: "Request", folder: Path) -> None:
    from paper_figures.studies.training import STATE, cost, parameters

    plan = request.plan()
    operations, seconds = cost(plan)
    size = f"{parameters(plan):,} parameters, {plan.multiply_adds() / 1e6:.1f} M multiply-adds for one state"
    steps, batch = plan.recipe.steps, plan.recipe.batch
    typer.echo(f"network: {size}")
    typer.echo(f"training: {steps} steps of {batch} samples, {operations / 1e12:.1f} T operations")
    typer.echo(
        f"time: about {seconds / 60:.1f} min on this device, by the present rate of its matrix products"
    )
    typer.echo(f"folder: {folder} ({'goes on' if (folder / STATE).exists() else 'new'})")


def _write_pictures_and_card(trained: "Trained", folder: Path) -> None:
    from gmm.files import write_aside
    from paper_figures.commands.training_words import card, summary
    from paper_figures.drawing.style import save_pictures
    from paper_figures.drawing.training import draw_samples, draw_training
    from paper_figures.studies.training import MODEL

    save_pictures(lambda: draw_training(trained.results), [folder / CURVES])
    save_pictures(lambda: draw_samples(trained.plan, trained.samples), [folder / SAMPLES])
    with write_aside(folder / CARD) as aside:
        aside.write_text(card(trained.results, folder.name), encoding="utf-8")
    typer.echo(summary(trained.results))
    typer.echo(f"model: {folder / MODEL}")
