"""``speciation window``: the noise interval in which a model decides between these."""

from typing import Annotated, Literal

import typer

from paper_figures.commands import model_options as asking
from paper_figures.commands.model_options import DEFAULT_MODEL, Asked
from paper_figures.commands.options import Axis, DryRun, ModelDtype, OutputFolder, Seed, Units

PARTS = "window.parts"

Share = Annotated[
    float,
    typer.Option(
        metavar="SHARE", help="The window holds this central share of the information about the answer."
    ),
]
Sampler = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GRID[:STEPS] ...",
        help="Samplers in whose steps the window is told: edm, log-snr or time, such as edm:32. Default: the model's "
        "own.",
    ),
]
Estimator = Annotated[
    Literal["online", "gap"],
    typer.Option(
        metavar="online|gap",
        help="The posterior tracked along the model's own trajectories, or the integral of the denoiser gap.",
    ),
]


def window(
    model: asking.ModelName = DEFAULT_MODEL,
    classes: asking.Classes = None,
    prompts: asking.Prompts = None,
    partition: asking.Partition = None,
    per_cell: asking.PerCell = None,
    prior: asking.Prior = None,
    sampler: Sampler = None,
    share: Share = 0.8,
    estimator: Estimator = "online",
    samples: asking.Samples = None,
    steps: asking.Steps = None,
    tracker: asking.Tracker = None,
    preset: asking.Preset = None,
    eta: asking.Eta = 1.0,
    batch: asking.Batch = None,
    seed: Seed = 0,
    dtype: ModelDtype = "float32",
    axis: Axis = None,
    units: Units = "nats",
    out: OutputFolder = None,
    dry_run: DryRun = False,
) -> None:
    """In which noise interval does this model decide between these?

    The answer is given in σ/α, in log SNR and in the steps of a sampler, each with its uncertainty, drawn
    (window.png, window.pdf), and written for samplers to read: window.json, one for each level of a partition. The
    curve itself is window.nc. What is finished is kept when the command is stopped.

    Examples: speciation window --model zoo:digits --classes 3 8
              speciation window --model edm2-xs --classes "golden retriever" tabby --sampler edm:32
    """
    import jax

    from paper_figures.drawing.style import View

    asked = Asked.of(locals())
    with jax.enable_x64(dtype == "float64"):
        question = asking.question(asked)
        from paper_figures.studies import sources as measuring
        from paper_figures.studies import window as windowing

        grids = windowing.grids(question.model, sampler)
        windowing.check_share(share)
        source = measuring.online(question) if estimator == "online" else measuring.gap(question)
        asking.announce(question, [source])
        if dry_run:
            typer.echo("nothing was computed")
            return
        folder = asking.folder_of("window", asked, out)
        runs = asking.measured([source], folder / PARTS)[source.name]
        windows = windowing.windows(question, source.name, runs, share, grids)
    windowing.write(folder, question, source.name, runs, windows)
    measuring.forget(folder / PARTS)
    for line in windowing.report(windows):
        typer.echo(line)
    for path in windowing.draw_all(folder, runs, windows, View(axis, units)):
        typer.echo(f"window: {path}")
