"""Exact denoisers of Gaussian mixtures as models.

``mixture:FAMILY:CLASSES:DIM`` or ``mixture:FAMILY:CLASSES:DIM:PROCESS``: ``mixture:simplex:10:64``,
``mixture:tree:2x4:64:vp``. The within-class variance is 1, and so is the mean square of a coordinate of a class mean.
"""

import math

import jax

import gmm
from gmm.families import named
from gmm.process import PROCESSES, Process
from neural.denoiser import mixture_denoiser
from neural.models.grids import Grid
from neural.models.model import Model
from neural.models.registry import Kind

FAMILIES = ("pair", "simplex", "orthogonal", "tree")
PREFIX = "mixture:"
# Above this many dimensions the mixture is reduced to the span of its means, which changes no posterior.
FULL_DIM = 4096
# σ/α in units of ‖m‖ at which a class mean's signal-to-noise ratio is a thousandth.
_FAR = math.sqrt(1000)
_FORM = f"{PREFIX}FAMILY:CLASSES:DIM[:PROCESS], such as mixture:simplex:10:64 or mixture:tree:2x4:64:vp"


def load(source: str, dtype: str) -> Model:
    """The model that a name of this form describes.

    Raises:
        ValueError: when the name is not of that form or describes no mixture.
    """
    family, shape, dim, process = _parts(source)
    branching = [int(size) for size in shape.split("x")] if family == "tree" else [int(shape)]
    mixture = jax.tree.map(
        lambda leaf: leaf.astype(dtype), named(family, branching, dim, reduced=dim > FULL_DIM)
    )
    classes = mixture.components
    partitions = gmm.families.tree_partitions(branching) if family == "tree" else ()
    return Model(
        name=source,
        kind="mixture",
        denoiser=mixture_denoiser(mixture, process),
        shape=(mixture.dim,),
        conditions=tuple(range(classes)),
        names=tuple(map(str, range(classes))),
        grid=Grid("edm", steps=64, sigma_min=0.02, sigma_max=max(80.0, _FAR * math.sqrt(dim))),
        unconditional=mixture_denoiser(mixture, process),
        mixture=mixture,
        levels={f"level {i + 1}": partition for i, partition in enumerate(partitions)},
        facts={"family": family, "branching": branching, "dim": dim, "process": process.describe()},
    )


def _parts(source: str) -> tuple[str, str, int, Process]:
    words = source.removeprefix(PREFIX).split(":")
    family, shape, dim, process = [*words, "edm"][:4] if len(words) in (3, 4) else ("", "", "", "")
    sizes = shape.split("x") if family == "tree" else [shape]
    whole = all(size.isdecimal() and int(size) > 0 for size in sizes)
    dimension = _number(dim)
    if family not in FAMILIES or not whole or not dimension.is_integer() or process not in PROCESSES:
        raise ValueError(
            f"model must be {_FORM} with FAMILY one of {', '.join(FAMILIES)} and PROCESS one of "
            f"{', '.join(PROCESSES)}; got {source!r}"
        )
    return family, shape, int(dimension), PROCESSES[process]()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


KIND = Kind(name="mixture", names={}, load=load, answers=lambda name: name.startswith(PREFIX))
