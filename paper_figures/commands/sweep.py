"""``speciation sweep``: curves and speciation times over a grid of settings."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from paper_figures.commands.hosts import join
from paper_figures.commands.options import Axis, Distributed, Dtype, Seed, Units
from paper_figures.formats.words import integers, numbers, words

Values = list[str]
Processes = Annotated[
    Values,
    typer.Option("--process", metavar="NAME ...", help="Forward processes: vp, vp_linear, ve, edm, flow."),
]
Dims = Annotated[Values, typer.Option(metavar="D ...", help="Dimensions, such as 1e3,1e5.")]
Classes = Annotated[
    Values | None,
    typer.Option(metavar="K ...", help="Class counts. Default: 2; a tree's leaves are its classes."),
]
Separation = Annotated[
    Values, typer.Option(metavar="S ...", help="Root mean square of a coordinate of a class mean.")
]
Variance = Annotated[Values, typer.Option(metavar="V ...", help="Within-class variances.")]
Prior = Annotated[
    Values,
    typer.Option(
        metavar="P ...", help="'uniform', or the first class's probability; the others share the rest."
    ),
]
Family = Annotated[
    Literal["simplex", "orthogonal", "random", "tree", "pair"],
    typer.Option(metavar="simplex|orthogonal|random|tree|pair", help="Arrangement of the class means."),
]
Branching = Annotated[
    Values | None,
    typer.Option(metavar="SHAPE ...", help="Shapes of trees, such as 2x5x10, coarsest level first."),
]
Method = Annotated[
    Literal["auto", "quadrature", "reduced", "full"],
    typer.Option(
        metavar="auto|quadrature|reduced|full",
        help="auto: quadrature where it exists, else reduced; reduced: sampling in the few coordinates that matter, "
        "which loses nothing; full: sampling in all dimensions.",
    ),
]
Points = Annotated[int, typer.Option(metavar="N", help="Noise levels for each cell.")]
Samples = Annotated[
    int, typer.Option(metavar="N", help="Noisy points for each noise level, where sampling is needed.")
]
Limit = Annotated[
    float, typer.Option(metavar="GIB", help="Refuse a cell whose largest arrays take more memory than this.")
]
File = Annotated[Path | None, typer.Option("--out", metavar="FILE.nc", help="File for the result.")]
Plot = Annotated[bool, typer.Option("--plot", help="Also draw it, as PNG and PDF beside FILE.nc.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print the cells, how each would be computed and its memory; compute nothing."
    ),
]


def sweep(
    dims: Dims,
    process: Processes = ["vp"],  # noqa: B006 - typer copies it
    classes: Classes = None,
    separation: Separation = ["1"],  # noqa: B006
    variance: Variance = ["1"],  # noqa: B006
    prior: Prior = ["uniform"],  # noqa: B006
    family: Family = "simplex",
    branching: Branching = None,
    method: Method = "auto",
    points: Points = 200,
    samples: Samples = 8192,
    seed: Seed = 0,
    dtype: Dtype = "float64",
    memory_limit: Limit = 4.0,
    out: File = None,
    plot: Plot = False,
    axis: Axis = None,
    units: Units = "nats",
    distributed: Distributed = None,
    dry_run: DryRun = False,
) -> None:
    """Entropy curves and speciation times over a grid of dimensions, class counts and more.

    Every combination of the values is a cell. The result is one labelled NetCDF file; a cell that cannot exist is NaN,
    and its status says why. A sweep that was stopped goes on when the same command is given again; results of other
    settings are never mixed into it.

    Example: speciation sweep --process vp edm --dims 1e3,1e5,1e7 --classes 2,100 --out sweep.nc --plot
    """
    asked: dict[str, Any] = {
        "process": words("process", process),
        "dims": integers("dims", dims),
        "classes": None if classes is None else integers("classes", classes),
        "separation": numbers("separation", separation),
        "variance": numbers("variance", variance),
        "prior": words("prior", prior),
        "branching": words("branching", branching or []),
    }
    settings = {"method": method, "points": points, "samples": samples, "seed": seed, "dtype": dtype}
    if dry_run:
        _print_cells(family, asked, settings)
        return
    if out is None:
        raise ValueError("out must name the NetCDF file to write, such as --out sweep.nc")
    is_first = join(distributed)
    _run(out, family=family, memory_limit=memory_limit, **asked, **settings)
    if not is_first:
        return
    typer.echo(f"sweep: {out}")
    if plot:
        from paper_figures.commands.saved_files import draw_beside
        from paper_figures.drawing.view import View

        draw_beside(out, View(axis, units))


def _run(out: Path, **asked: Any) -> None:
    from paper_figures.interruption import interruptible
    from paper_figures.progress import bar
    from paper_figures.studies.sweep import parts_folder
    from paper_figures.studies.sweep import sweep as compute

    stay = f"finished cells stay in {parts_folder(out)}, the same command goes on"
    with interruptible(stay), bar("cells") as progress:
        compute(**asked, out=out, progress=progress)


def _print_cells(family: str, asked: dict[str, Any], settings: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from paper_figures.studies.sweep_axes import SweepSettings, sweep_axes
    from paper_figures.studies.sweep_cell import impossible, memory, method_of

    of_all = SweepSettings(family, **settings)
    table = Table("process", "classes", "dim", "separation", "variance", "prior", "method", "memory")
    for _, cell in sweep_axes(family, **asked).cells():
        why = impossible(cell, family)
        size = "" if why else f"{memory(cell, of_all) / 2**20:.3g} MiB"
        axes = (cell.classes, cell.dim, cell.separation, cell.variance)
        row = (cell.process, *(f"{value:g}" for value in axes), cell.prior, why or method_of(cell, of_all))
        table.add_row(*row, size)
    Console().print(table, "nothing was computed")
