"""``speciation sample``: pictures of what a model generates."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paper_figures.commands.option_groups import option, values
from paper_figures.commands.options import DryRun, ModelDtype, OutputFolder

if TYPE_CHECKING:
    from paper_figures.studies.pictures import PicturePlan

SamplerName = Literal["heun", "ddim", "ancestral"]

Batch = Annotated[
    int, typer.Option(min=1, metavar="N", help="Pictures at a time; the pictures do not depend on it.")
]


@dataclasses.dataclass(frozen=True)
class PictureOptions:
    """What is generated, and by which sampler."""

    model: str = option(..., "edm2-xs, sd15, zoo:digits, ..., or a file or folder.", metavar="NAME|PATH")
    classes: list[str] | None = option(
        None, "Classes by name, index or group.", "--class", metavar="CLASS ..."
    )
    prompts: list[str] | None = option(
        None, "Prompts, for models that take text.", "--prompt", metavar="TEXT ..."
    )
    count: int = option(1, "Number of pictures of each class or prompt.", metavar="N")
    steps: int | None = option(None, "Noise levels. Default: the model's own.", metavar="N")
    guidance_scale: float | None = option(
        None,
        "Scale of classifier-free guidance; 1 for none. Default: 7.5 for sd15, 1 for others.",
        metavar="W",
    )
    sampler: SamplerName | None = option(
        None,
        "heun: second order, as in EDM; ddim: first order, as in diffusers; ancestral: the stochastic chain. "
        "Default: ddim for sd15, heun for others.",
    )


@dataclasses.dataclass(frozen=True)
class ComputationOptions:
    """How the pictures are computed."""

    vae: str = option(
        "sd-vae-ft-mse", "Autoencoder that decodes EDM2's ImageNet-512 latents.", metavar="NAME|PATH"
    )
    seed: int = option(0, "Seed of the first picture; the next one has the next number.", metavar="N")
    dtype: ModelDtype = "float32"


def sample(
    *,
    pictures: PictureOptions,
    batch: Batch = 4,
    computation: ComputationOptions,
    out: OutputFolder = None,
    dry_run: DryRun = False,
) -> None:
    """Generate pictures.

    Each picture is a PNG file in DIR that holds its settings; sheet.png shows all of them. A picture depends on its
    seed, its class or prompt and the settings alone. Pictures that lie in DIR already are kept, so a run that was
    stopped goes on when the same command is given again. DIR is samples by default.

    Examples: speciation sample --model sd15 --prompt "a photo of a cat" "a photo of a dog" --count 4
              speciation sample --model edm2-xs --class "golden retriever" 207 --guidance-scale 1.4
    """
    import jax

    from paper_figures.drawing.pictures import draw_sheet
    from paper_figures.drawing.style import save_pictures
    from paper_figures.files import ensure_writable
    from paper_figures.interruption import interruptible
    from paper_figures.progress import bar
    from paper_figures.studies.pictures import make, plan_pictures

    folder = Path("samples") if out is None else out
    with jax.enable_x64(computation.dtype == "float64"):
        plan = plan_pictures(**values(pictures, computation))
        typer.echo(_cost(plan, folder))
        if dry_run:
            typer.echo("nothing was made")
            return
        ensure_writable(folder)
        with interruptible(f"finished pictures stay in {folder}"), bar("sampling") as progress:
            make(plan, folder, batch, progress)
    save_pictures(lambda: draw_sheet(plan.pictures, folder, _heading(plan)), [folder / "sheet.png"])
    typer.echo(f"pictures: {folder}, all of them on {folder / 'sheet.png'}")


def _cost(plan: "PicturePlan", folder: Path) -> str:
    count, missing, settings = len(plan.pictures), len(plan.missing(folder)), plan.settings
    kept = f", {count - missing} of them there already" if missing < count else ""
    return (
        f"{count} picture(s){kept}; {settings.sampler}, {settings.steps} noise levels, "
        f"{settings.evaluations} evaluations each: {missing * settings.evaluations} in all"
    )


def _heading(plan: "PicturePlan") -> str:
    settings = plan.settings
    how = f"{settings.sampler}, {settings.steps} noise levels, guidance {settings.guidance_scale:g}"
    return f"{settings.model}: {how}"
