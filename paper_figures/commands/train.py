"""``speciation train``: a small class-conditional denoiser on a mixture or on data."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paper_figures.commands.option_groups import option, values
from paper_figures.commands.options import DryRun, Seed

if TYPE_CHECKING:
    from paper_figures.studies.training import Trained
    from paper_figures.studies.training_request import Request

DEFAULT_FOLDER = Path("trained")
CURVES, SAMPLES, CARD = "training.png", "samples.png", "card.md"

Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for the results, created if missing.")
]


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """What is trained, on what, and how."""

    data: str | None = option(
        None,
        "Learn a data set: digits, a .npz file with x and y, or a folder of IDX files (a name is also looked "
        "for in $SPECIATION_DATA). Images are learned by an EDM2 network, vectors by an MLP.",
        metavar="SOURCE",
    )
    family: Literal["pair", "simplex", "orthogonal", "random", "tree"] | None = option(
        None, "Learn a Gaussian mixture, whose optimal denoiser is known, by an MLP on fresh samples."
    )
    dim: int = option(64, "Dimension of the mixture.", metavar="D")
    classes: int | None = option(
        None, "Number of its classes. Default: 2; the leaves of a tree are its classes.", metavar="K"
    )
    branching: str | None = option(
        None, "Shape of a tree, such as 2x2x2, coarsest level first.", metavar="SHAPE"
    )
    energies: str | None = option(
        None, "Relative energies of a tree's levels, such as 36,6,1. Default: equal ones.", metavar="E,..."
    )
    separation: float = option(1.0, "Root mean square of a coordinate of a class mean.", metavar="S")
    variance: float = option(1.0, "Within-class variance.", metavar="V")
    held_out: int | None = option(
        None,
        "Points kept out of training, on which losses are computed. Default: the test set of a folder of IDX "
        "files, else a sixth of the data.",
        metavar="N",
    )
    patch: int = option(
        1,
        "Fold patches of PxP pixels into channels, which takes P² times less work in each layer.",
        metavar="P",
    )
    channels: str = option(
        "64",
        "Channels of an image network, finest resolution first; each resolution is half the one before.",
        metavar="C,...",
    )
    blocks: int = option(1, "Residual blocks at each resolution of an image network.", metavar="N")
    width: int = option(192, "Units of an MLP's layers.", metavar="N")
    depth: int = option(3, "Residual blocks of an MLP; 0 is the affine head alone.", metavar="N")
    steps: int = option(6000, "Optimiser steps.", metavar="N", least=1)
    batch: int = option(512, "Samples in each step.", metavar="N", least=1)
    learning_rate: float | None = option(
        None, "Peak learning rate. Default: 0.002 for an MLP, 0.01 for images.", metavar="X"
    )
    label_dropout: float | None = option(
        None,
        "Share of labels that are dropped, from which the null condition is learned. Default: 0.5 for an MLP, "
        "0.15 for images.",
        metavar="P",
    )
    ema: float = option(
        0.05, "Width of the moving average of the weights, as a share of the training.", metavar="X"
    )
    store: Literal["float32", "float16"] = option("float32", "Precision that the weights are stored in.")
    seed: Seed = 0


def train(
    *,
    training: TrainingOptions,
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

    request = Request(**values(training))
    if dry_run:
        _print_cost(request, out)
        return
    stay = f"kept in {out / STATE}, the same command goes on"
    with interruptible(stay), bar("training") as progress:
        trained = carry_out(request, out, _command_line(request), progress)
    _write_pictures_and_card(trained, out)


def _command_line(request: "Request") -> str:
    """The command line of this training, without its folder."""
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
