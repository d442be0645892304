"""``speciation data``: when a labelled data set speciates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paper_figures.commands.hosts import join
from paper_figures.commands.options import Axis, Distributed, DryRun, DtypeName, OutputFolder, Seed, Units

if TYPE_CHECKING:
    from gmm.datasets import LabelledData
    from paper_figures.studies.data import StudySettings

Source = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="digits|FILE.npz|FOLDER",
        help="scikit-learn's digits; a .npz with arrays x (n, ...) and y (n,); or a folder of IDX files named as "
        "MNIST's, plain or gzipped.",
    ),
]
Split = Annotated[
    Literal["train", "test"], typer.Option(help="Which part of a folder of IDX files.", metavar="train|test")
]
Subset = Annotated[
    int | None, typer.Option("--limit", min=2, metavar="N", help="Use N points of a fixed shuffle only.")
]
ProcessName = Annotated[
    Literal["vp", "vp_linear", "ve", "edm", "flow"],
    typer.Option("--process", metavar="vp|vp_linear|ve|edm|flow", help="Forward process."),
]
Levels = Annotated[int, typer.Option(metavar="N", help="Noise levels a curve.")]
Samples = Annotated[int, typer.Option(metavar="N", help="Noisy points a noise level.")]
PointDtype = Annotated[
    DtypeName, typer.Option("--dtype", help="Precision of what is sampled.", metavar="float32|float64")
]
Limit = Annotated[
    float, typer.Option(metavar="GIB", help="Refuse data whose largest arrays take more than this.")
]


def data(
    source: Source,
    out: OutputFolder = None,
    split: Split = "train",
    subset: Subset = None,
    process: ProcessName = "vp",
    levels: Levels = 50,
    samples: Samples = 1024,
    seed: Seed = 0,
    dtype: PointDtype = "float32",
    memory_limit: Limit = 4.0,
    axis: Axis = None,
    units: Units = "nats",
    distributed: Distributed = None,
    dry_run: DryRun = False,
) -> None:
    """When do the classes of a labelled data set speciate?

    The data are centred and scaled to mean variance one. Exact posterior entropies of their empirical
    distribution, of the class and of the point; the same with classes as Gaussians and from the Gram matrix of the
    class means; and speciation times by every criterion, the top covariance eigenvalue (Biroli et al. 2024)
    among them, direction by direction. Leaves NAME.nc, NAME.png and NAME.pdf in DIR. A run that was stopped goes on
    where it was.

    Example: speciation data --data digits --out digits
    """
    first = join(distributed)
    from gmm.datasets import load_data
    from paper_figures.studies import data as data_study

    settings = data_study.StudySettings(process, levels, samples, seed, dtype)
    if not memory_limit > 0:
        raise ValueError(f"--memory-limit must be positive, in GiB, got {memory_limit}")
    found = load_data(source, split=split, limit=int(memory_limit * 2**30))
    found = found if subset is None else found.subset(subset)
    data_study.check(found, settings, memory_limit)
    if dry_run:
        _print_cost(found, settings)
        return
    if out is None:
        raise ValueError("--out must name the folder for the results, such as --out results")
    target = _run(found, settings, out)
    if not first:
        return
    from paper_figures.commands.saved_files import show_file
    from paper_figures.drawing.style import View

    typer.echo(f"data: {target}")
    for suffix in (".pdf", ".png"):
        drawn = show_file(target, View(axis, units), target.with_suffix(suffix), quiet=suffix == ".pdf")
        typer.echo(f"drawn: {drawn}")


def _run(data: "LabelledData", settings: "StudySettings", out: Path) -> Path:
    from paper_figures import interruption, progress
    from paper_figures.files import ensure_writable
    from paper_figures.studies import data as data_study

    ensure_writable(out)
    target = out / f"{data_study.file_stem(data)}.nc"
    with (
        interruption.interruptible(f"what is finished stays in {target}.parts, the same command goes on"),
        progress.watching(progress.counting_bars()) as watch,
    ):
        data_study.study(data, settings, target, watch)
    return target


def _print_cost(data: "LabelledData", settings: "StudySettings") -> None:
    from rich.console import Console
    from rich.table import Table

    from paper_figures.studies import data as data_study

    table = Table("what", "cost")
    size = f"{len(data.x)} points of {data.x.shape[1]} dimensions, {len(data.classes)} classes"
    table.add_row(data.name, size)
    work = data_study.operations(data, settings)
    rate = _product_rate()
    table.add_row(
        "matrix products", f"{work / 1e12:.3g} TFLOP, about {work / rate:.0f} s at this machine's rate"
    )
    table.add_row("memory", f"{data_study.memory(data, settings) / 2**30:.2g} GiB at most")
    Console().print(table, "nothing was computed")


def _product_rate() -> float:
    """Operations a second of a float32 matrix product, as measured now."""
    import time

    import jax
    import jax.numpy as jnp

    a, product = jnp.ones((1024, 1024), jnp.float32), jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    start = time.perf_counter()
    product(a, a).block_until_ready()
    return 2 * 1024**3 / (time.perf_counter() - start)
