"""``speciation sample``: pictures of what a model generates."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paper_figures.commands.options import DryRun, ModelDtype, OutputFolder

if TYPE_CHECKING:
    from paper_figures.studies.pictures import Recipe, Wanted, Watch

SamplerName = Literal["heun", "ddim", "ancestral"]

ModelName = Annotated[
    str,
    typer.Option("--model", metavar="NAME|PATH", help="edm2-xs, sd15, zoo:digits, ..., or a file or folder."),
]
Classes = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="CLASS ...", help="Classes by name, index or group; several may follow."),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt", metavar="TEXT ...", help="Prompts, of models that take text; several may follow."
    ),
]
Count = Annotated[int, typer.Option(metavar="N", help="Pictures of each class or prompt.")]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Noise levels. Default: the model's own.")]
Scale = Annotated[
    float | None,
    typer.Option(
        metavar="W", help="Classifier-free guidance; 1 for none. Default: 7.5 for sd15, 1 for others."
    ),
]
Sampler = Annotated[
    SamplerName | None,
    typer.Option(
        metavar="heun|ddim|ancestral",
        help="heun: EDM's, second order; ddim: first order, as diffusers runs it; ancestral: the stochastic chain. "
        "Default: ddim for sd15, heun for others.",
    ),
]
Batch = Annotated[int, typer.Option(min=1, metavar="N", help="Pictures at a time; changes none of them.")]
Decoder = Annotated[
    str,
    typer.Option("--vae", metavar="NAME|PATH", help="Autoencoder that decodes EDM2's ImageNet-512 latents."),
]
Seed = Annotated[
    int, typer.Option(metavar="N", help="Seed of the first picture; the next has the next number.")
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

    Each is a PNG in DIR that carries its settings; sheet.png shows them all. A picture depends on its seed, its
    class or prompt and the settings alone. Pictures that are there already are kept, so a run that was stopped
    goes on when the same command is given again. DIR is samples.

    Examples: speciation sample --model sd15 --prompt "a photo of a cat" "a photo of a dog" --count 4
              speciation sample --model edm2-xs --class "golden retriever" 207 --guidance-scale 1.4
    """
    import jax

    from neural.models import load_model
    from paper_figures.studies import pictures as sampling

    with jax.enable_x64(dtype == "float64"):
        asked = load_model(model, dtype=dtype)
        how = sampling.recipe(asked, sampler, steps, guidance_scale, dtype, vae)
        pictures = sampling.wanted(asked, classes or [], prompts or [], count, seed)
        folder = Path("samples") if out is None else out
        left = [one for one in pictures if not sampling.is_made(one.path(folder), how, one)]
        typer.echo(_cost(how, pictures, left))
        if dry_run:
            typer.echo("nothing was made")
            return
        asked = sampling.with_decoder(asked, vae)
        _make(asked, how, pictures, folder, batch)
    sampling.write_sheet(folder / "sheet.png", pictures, folder, _title(how))
    typer.echo(f"pictures: {folder}, all of them on {folder / 'sheet.png'}")


def _cost(how: "Recipe", pictures: "list[Wanted]", left: "list[Wanted]") -> str:
    kept = f", {len(pictures) - len(left)} of them there already" if len(left) < len(pictures) else ""
    return (
        f"{len(pictures)} picture(s){kept}; {how.sampler}, {how.steps} noise levels, "
        f"{how.evaluations} evaluations each: {len(left) * how.evaluations} in all"
    )


def _title(how: "Recipe") -> str:
    return f"{how.model}: {how.sampler}, {how.steps} noise levels, guidance {how.guidance_scale:g}"


def _make(asked: object, how: "Recipe", pictures: "list[Wanted]", folder: Path, batch: int) -> None:
    from paper_figures.files import ensure_writable
    from paper_figures.interruption import interruptible
    from paper_figures.studies import pictures as sampling

    ensure_writable(folder)
    with interruptible(f"finished pictures stay in {folder}"), _watching() as watch:
        sampling.make(asked, how, pictures, folder, batch, watch)  # type: ignore[arg-type]


@contextmanager
def _watching() -> "Iterator[Watch | None]":
    """Progress in evaluations of the network, on a terminal; without one samplers need not stop to tell."""
    from paper_figures.progress import counting_bars, watching

    shown = counting_bars()
    with watching(shown) as watch:
        yield None if shown.disable else lambda done, total: watch("evaluations", done, total)
