"""Options that the commands share, so that one name has one meaning everywhere."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from paper_figures.commands.option_groups import option
from paper_figures.drawing.view import View

# Spelled out, not imported from gmm.curve: ``speciation --help`` must not wait for jax.
AxisName = Literal["t", "log-snr", "sigma", "timestep"]
UnitsName = Literal["nats", "bits"]
DtypeName = Literal["float32", "float64"]

Seed = Annotated[int, typer.Option(help="Seed of every random number.", metavar="N")]
ModelDtype = Annotated[
    Literal["float32", "float64", "bfloat16", "float16"],
    typer.Option(
        "--dtype",
        metavar="float32|float64|bfloat16|float16",
        help="Precision that the network computes in; states are float32 at least.",
    ),
]
Dtype = Annotated[
    DtypeName,
    typer.Option(
        help="Precision of what is sampled; quadrature is always float64.", metavar="float32|float64"
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be made and its cost; make nothing.")
]
Distributed = Annotated[
    str | None,
    typer.Option(
        help="Run as one of several processes for one result: auto under SLURM, MPI and on TPU pods, else the address "
        "of the first process, how many there are, and the number of this one. All must share DIR or FILE.",
        metavar="auto|HOST:PORT,N,I",
    ),
]
OutputFolder = Annotated[
    Path | None, typer.Option("--out", help="Folder for the results, created if missing.", metavar="DIR")
]


@dataclasses.dataclass(frozen=True)
class ViewOptions(View):
    """How a result is drawn and printed; a view itself."""

    axis: AxisName | None = option(
        None,
        "Noise axis: the process's time, log SNR, sigma/alpha, or the timestep of Stable Diffusion 1.5 with "
        "the same SNR. Default: the axis that suits each picture.",
    )
    units: UnitsName = option("nats", "Unit of information.")


@dataclasses.dataclass(frozen=True)
class ResultOptions(ViewOptions):
    """How a result is drawn, where it is written, and whether only its cost is printed."""

    out: OutputFolder = None
    dry_run: DryRun = False


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """Seed and precision of what a network computes."""

    seed: Seed = 0
    dtype: ModelDtype = "float32"
