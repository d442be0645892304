"""``speciation sample``: pictures of what a model generates."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paper_figures.commands.model_options import ChangeOptions
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

    model: str = option(
        ...,
        "edm2-xs, sd15, zoo:digits, ..., a file or folder, diffusers:FOLDER, or an own model of pictures as "
        "module:object or FILE.py:object, with --trust-code.",
        metavar="NAME|PATH",
    )
    trust_code: bool = option(
        False, "Load an own model, module:object or path/to/file.py:object, which executes its code."
    )
    classes: list[str] | None = option(
        None, "Classes by name, index or group.", "--classes", "--class", metavar="CLASS ..."
    )
    prompts: list[str] | None = option(
        None, "Prompts, for models that take text.", "--prompts", "--prompt", metavar="TEXT ..."
    )
    count: int = option(1, "Number of pictures of each class or prompt.", metavar="N")
    steps: int | None = option(None, "Noise levels. Default: the model's own.", metavar="N")
    guidance_scale: float | None = option(
        None,
        "Scale of classifier-free guidance; 1 for none. Default: 7.5 for sd15, 1 for others.",
        metavar="W",
    )
    schedule: str | None = option(
        None,
        "A guidance schedule in place of a constant scale, in the form that `speciation guidance` takes "
        "(interval:2:0.3..3, feedback, a .json file of one schedule); those that track a posterior need the ancestral "
        "sampler.",
        metavar="SCHEDULE",
    )
    sampler: SamplerName | None = option(
        None,
        "heun: second order, as in EDM; ddim: first order, as in diffusers; ancestral: the stochastic chain. "
        "Default: ddim for sd15, heun for others.",
    )


@dataclasses.dataclass(frozen=True)
class FileOptions:
    """What is written."""

    latents: bool = option(
        False, "Keep the states as they are, without an autoencoder, in .safetensors files."
    )
    for_metrics: bool = option(
        False,
        "N pictures in all, named by their seeds, a thousand to a folder, as the reference programs of image metrics "
        "read them; each is of a class that its seed draws. There is no sheet.",
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
    change: ChangeOptions,
    files: FileOptions,
    batch: Batch = 4,
    computation: ComputationOptions,
    out: OutputFolder = None,
    dry_run: DryRun = False,
) -> None:
    """Generate pictures.

    Each picture is a PNG file in DIR that holds its settings; sheet.png shows all of them. A picture depends on its
    seed, its class or prompt and the settings alone. Pictures that lie in DIR already are kept, so a run that was
    stopped goes on when the same command is given again. DIR is samples by default.

    Examples: speciation sample --model sd15 --prompts "a photo of a cat" "a photo of a dog" --count 4
              speciation sample --model edm2-xs --classes "golden retriever" 207 --guidance-scale 1.4
              speciation sample --model edm2-xs --for-metrics --count 50000 --schedule interval:2.8:0.15..1.6
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
        plan = plan_pictures(**values(pictures, files, computation), changes=change.settings)
        typer.echo(_cost(plan, folder))
        if dry_run:
            typer.echo("nothing was made")
            return
        ensure_writable(folder)
        with interruptible(f"finished pictures stay in {folder}"), bar("sampling") as progress:
            make(plan, folder, batch, progress)
    if files.latents or files.for_metrics:
        typer.echo(f"{'states' if files.latents else 'pictures'}: {folder}")
        return
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
    guidance = settings.schedule or f"{settings.guidance_scale:g}"
    how = f"{settings.sampler}, {settings.steps} noise levels, guidance {guidance}"
    return f"{settings.model}: {how}"
