"""``speciation sample``: pictures of what a model generates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paper_figures.commands.options import DryRun, ModelDtype, OutputFolder

if TYPE_CHECKING:
    from paper_figures.studies.pictures import PicturePlan

SamplerName = Literal["heun", "ddim", "ancestral"]

ModelName = Annotated[
    str,
    typer.Option("--model", metavar="NAME|PATH", help="edm2-xs, sd15, zoo:digits, ..., or a file or folder."),
]
Classes = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="CLASS ...", help="Classes by name, index or group."),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", metavar="TEXT ...", help="Prompts, for models that take text."),
]
Count = Annotated[int, typer.Option(metavar="N", help="Number of pictures of each class or prompt.")]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Noise levels. Default: the model's own.")]
Scale = Annotated[
    float | None,
    typer.Option(
        metavar="W",
        help="Scale of classifier-free guidance; 1 for none. Default: 7.5 for sd15, 1 for others.",
    ),
]
Sampler = Annotated[
    SamplerName | None,
    typer.Option(
        metavar="heun|ddim|ancestral",
        help="heun: second order, as in EDM; ddim: first order, as in diffusers; ancestral: the stochastic chain. "
        "Default: ddim for sd15, heun for others.",
    ),
]
Batch = Annotated[
    int, typer.Option(min=1, metavar="N", help="Pictures at a time; the pictures do not depend on it.")
]
Decoder = Annotated[
    str,
    typer.Option("--vae", metavar="NAME|PATH", help="Autoencoder that decodes EDM2's ImageNet-512 latents."),
]
Seed = Annotated[
    int, typer.Option(metavar="N", help="Seed of the first picture; the next one has the next number.")
]


def sample(
    model: ModelName,
    classes: Classes = None,
    prompts: Prompts = None,
    count: Count = 1,
    steps: Steps = None,
    guidance_scale: Scale = None,
    sampler: Sampler = None,
    batch: Batch = 4,
    vae: Decoder = "sd-vae-ft-mse",
    seed: Seed = 0,
    dtype: ModelDtype = "float32",
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
    with jax.enable_x64(dtype == "float64"):
        plan = plan_pictures(
            model, classes=classes or [], prompts=prompts or [], count=count, seed=seed, sampler=sampler, steps=steps,
            guidance_scale=guidance_scale, dtype=dtype, vae=vae,
        )  # fmt: skip
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
