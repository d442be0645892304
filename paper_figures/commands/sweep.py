"""``speciation sweep``: curves and speciation times over a grid of settings."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from paper_figures.commands.hosts import join
from paper_figures.commands.option_groups import option, values
from paper_figures.commands.options import Distributed, Dtype, Seed, ViewOptions
from paper_figures.formats.words import integers, numbers, words

Values = list[str]
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


@dataclasses.dataclass(frozen=True)
class AxisOptions:
    """What varies: a cell for every combination of the values."""

    dims: Values = option(..., "Dimensions, such as 1e3,1e5.", metavar="D ...")
    process: Values = option(["vp"], "Forward processes: vp, vp_linear, ve, edm, flow.", metavar="NAME ...")
    classes: Values | None = option(
        None, "Class counts. Default: 2; a tree's leaves are its classes.", metavar="K ..."
    )
    separation: Values = option(["1"], "Root mean square of a coordinate of a class mean.", metavar="S ...")
    variance: Values = option(["1"], "Within-class variances.", metavar="V ...")
    prior: Values = option(
        ["uniform"],
        "'uniform', or the first class's probability; the others share the rest.",
        metavar="P ...",
    )
    family: Literal["simplex", "orthogonal", "random", "tree", "pair"] = option(
        "simplex", "Arrangement of the class means."
    )
    branching: Values | None = option(
        None, "Shapes of trees, such as 2x5x10, coarsest level first.", metavar="SHAPE ..."
    )


@dataclasses.dataclass(frozen=True)
class CellOptions:
    """What holds for every cell."""

    method: Literal["auto", "quadrature", "reduced", "full"] = option(
        "auto",
        "auto: quadrature where it exists, else reduced; reduced: sampling in the few coordinates that "
        "matter, which loses nothing; full: sampling in all dimensions.",
    )
    points: int = option(200, "Noise levels for each cell.", metavar="N")
    samples: int = option(8192, "Noisy points for each noise level, where sampling is needed.", metavar="N")
    seed: Seed = 0
    dtype: Dtype = "float64"


def sweep(
    *,
    axes: AxisOptions,
    cells: CellOptions,
    memory_limit: Limit = 4.0,
    out: File = None,
    plot: Plot = False,
    view: ViewOptions,
    distributed: Distributed = None,
    dry_run: DryRun = False,
) -> None:
    """Entropy curves and speciation times over a grid of dimensions, class counts and more.

    Every combination of the values is a cell. The result is one labelled NetCDF file; a cell that cannot exist is NaN,
    and its status says why. A sweep that was stopped goes on when the same command is given again; results of other
    settings are never mixed into it.

    Example: speciation sweep --process vp edm --dims 1e3,1e5,1e7 --classes 2,100 --out sweep.nc --plot
    """
    parsed, settings = _parsed(axes), values(cells)
    if dry_run:
        _print_cells(parsed, settings)
        return
    if out is None:
        raise ValueError("out must name the NetCDF file to write, such as --out sweep.nc")
    is_first = join(distributed)
    _run(out, memory_limit=memory_limit, **parsed, **settings)
    if not is_first:
        return
    typer.echo(f"sweep: {out}")
    if plot:
        from paper_figures.commands.saved_files import draw_beside

        draw_beside(out, view)


def _parsed(axes: AxisOptions) -> dict[str, Any]:
    """The values of every axis, with commas taken as separators."""
    return {
        "family": axes.family,
        "process": words("process", axes.process),
        "dims": integers("dims", axes.dims),
        "classes": None if axes.classes is None else integers("classes", axes.classes),
        "separation": numbers("separation", axes.separation),
        "variance": numbers("variance", axes.variance),
        "prior": words("prior", axes.prior),
        "branching": words("branching", axes.branching or []),
    }


def _run(out: Path, **settings: Any) -> None:
    from paper_figures.interruption import interruptible
    from paper_figures.progress import bar
    from paper_figures.studies.sweep import parts_folder
    from paper_figures.studies.sweep import sweep as compute

    stay = f"finished cells stay in {parts_folder(out)}, the same command goes on"
    with interruptible(stay), bar("cells") as progress:
        compute(**settings, out=out, progress=progress)


def _print_cells(axes: dict[str, Any], settings: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from paper_figures.studies.sweep_axes import SweepSettings, sweep_axes
    from paper_figures.studies.sweep_cell import impossible, memory, method_of

    family = axes["family"]
    of_all = SweepSettings(family, **settings)
    table = Table("process", "classes", "dim", "separation", "variance", "prior", "method", "memory")
    for _, cell in sweep_axes(**axes).cells():
        why = impossible(cell, family)
        size = "" if why else f"{memory(cell, of_all) / 2**20:.3g} MiB"
        sizes = (cell.classes, cell.dim, cell.separation, cell.variance)
        row = (cell.process, *(f"{value:g}" for value in sizes), cell.prior, why or method_of(cell, of_all))
        table.add_row(*row, size)
    Console().print(table, "nothing was computed")
