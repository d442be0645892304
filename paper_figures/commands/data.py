"""``speciation data``: when a labelled data set speciates."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paper_figures.commands.hosts import join
from paper_figures.commands.option_groups import option, values
from paper_figures.commands.options import Distributed, DryRun, DtypeName, OutputFolder, Seed, ViewOptions

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
    Literal["train", "test"], typer.Option(help="Part of a folder of IDX files.", metavar="train|test")
]
Subset = Annotated[
    int | None,
    typer.Option("--limit", min=2, metavar="N", help="Use only the first N points of a fixed shuffle."),
]
Limit = Annotated[
    float, typer.Option(metavar="GIB", help="Refuse data whose largest arrays take more memory than this.")
]


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """What decides the numbers, beside the data."""

    process: Literal["vp", "vp_linear", "ve", "edm", "flow"] = option("vp", "Forward process.")
    levels: int = option(50, "Noise levels for each curve.", metavar="N")
    samples: int = option(1024, "Noisy points for each noise level.", metavar="N")
    seed: Seed = 0
    dtype: DtypeName = option("float32", "Precision of what is sampled.")


def data(
    source: Source,
    *,
    out: OutputFolder = None,
    split: Split = "train",
    subset: Subset = None,
    sampling: SamplingOptions,
    memory_limit: Limit = 4.0,
    view: ViewOptions,
    distributed: Distributed = None,
    dry_run: DryRun = False,
) -> None:
    """When do the classes of a labelled data set speciate?

    The data are centred and scaled to mean variance one. Computed are the exact posterior entropies of the class and of
    the point under the empirical distribution, the entropies with one Gaussian for each class and from the Gram matrix
    of the class means alone, and speciation times by every criterion, among them the top covariance eigenvalue (Biroli
    et al. 2024), also for each direction between classes. DIR receives NAME.nc, NAME.png and NAME.pdf. A run that was
    stopped goes on when the same command is given again.

    Example: speciation data --data digits --out digits
    """
    is_first = join(distributed)
    from gmm.datasets import load_data
    from paper_figures.commands.saved_files import draw_beside
    from paper_figures.studies import data as study
    from paper_figures.studies.checks import GIB, check_memory_limit

    settings = study.StudySettings(**values(sampling))
    check_memory_limit(memory_limit)
    points = load_data(source, split=split, limit=int(memory_limit * GIB))
    points = points if subset is None else points.subset(subset)
    study.check(points, settings, memory_limit)
    if dry_run:
        _print_cost(points, settings)
        return
    if out is None:
        raise ValueError("out must name the folder for the results, such as --out results")
    target = _run(points, settings, out)
    if is_first:
        typer.echo(f"data: {target}")
        draw_beside(target, view)


def _run(data: "LabelledData", settings: "StudySettings", out: Path) -> Path:
    from paper_figures.files import ensure_writable
    from paper_figures.interruption import interruptible
    from paper_figures.progress import bar
    from paper_figures.studies.data import file_stem, parts_folder, study

    ensure_writable(out)
    target = out / f"{file_stem(data)}.nc"
    stay = f"what is finished stays in {parts_folder(target)}, the same command goes on"
    with interruptible(stay), bar("computing") as progress:
        study(data, settings, target, progress)
    return target


def _print_cost(data: "LabelledData", settings: "StudySettings") -> None:
    from rich.table import Table

    from paper_figures.studies.checks import GIB
    from paper_figures.studies.cost import operations_per_second
    from paper_figures.studies.data import memory, operations
    from paper_figures.terminal import cell, console

    table = Table("what", "cost")
    size = f"{len(data.x)} points of {data.x.shape[1]} dimensions, {len(data.classes)} classes"
    table.add_row(cell(data.name), size)
    work = operations(data, settings)
    seconds = work / operations_per_second()
    table.add_row("matrix products", f"{work / 1e12:.3g} TFLOP, about {seconds:.0f} s at this machine's rate")
    table.add_row("memory", f"{memory(data, settings) / GIB:.2g} GiB at most")
    console().print(table, "nothing was computed")
