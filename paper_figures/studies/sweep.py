"""Sweeps: a grid of cells, each computed once and kept at once, gathered into one labelled Dataset.

The finished cells of an unfinished sweep lie beside its file, in FILE.nc.parts/, one file for each cell, named by
everything that its numbers follow from. So a sweep goes on where it was stopped, and never takes in other settings.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from gmm.curve import load_dataset, versions
from gmm.devices import agreed
from gmm.files import LOCK, alone_in, write_aside
from neural.checkpoints import read_kept, write_kept
from neural.progress import Progress
from paper_figures.files import save_dataset
from paper_figures.studies import sweep_cell
from paper_figures.studies.checks import GIB, check_memory_limit
from paper_figures.studies.parts import Parts
from paper_figures.studies.sweep_axes import ALWAYS, UNIFORM, SweepAxes, SweepSettings, sweep_axes
from paper_figures.studies.sweep_cell import POINT_FIELDS, SCALARS, Result

FORMAT = "speciation-sweep/1"
MEMORY_LIMIT = 4.0
"""GiB that the largest arrays of a cell may take, unless a person allows more."""

DESCRIBED = {
    "t": ("time of the process", "1"),
    "log_snr": ("log(alpha^2/sigma^2)", "1"),
    "entropy": ("posterior entropy H[Z|X_t]", "nats"),
    "entropy_stderr": ("standard error of entropy", "nats"),
    "rate": ("entropy rate dH/dt", "nats per unit t"),
    "rate_stderr": ("standard error of rate", "nats per unit t"),
    "t_peak": ("maximum of dH/dt in the process's own time", "1"),
    "t_peak_stderr": ("standard error of t_peak", "1"),
    "t_half": ("time at which H is half of H[Z]", "1"),
    "t_half_stderr": ("standard error of t_half", "1"),
    "t_instability": ("time at which the centre turns unstable under the reverse SDE", "1"),
    "window_lo": ("log(sigma/alpha) by which a tenth of the information about the class is lost", "1"),
    "window_hi": ("log(sigma/alpha) by which nine tenths of the information are lost", "1"),
}

NAMES = (*DESCRIBED, "status", "method", *ALWAYS, "settings")
"""What the file of a sweep holds, whatever it sweeps."""


def sweep(
    *,
    process: str | Sequence[str] = ("vp",),
    classes: int | Sequence[int] | None = None,
    dims: int | Sequence[int],
    separation: float | Sequence[float] = (1.0,),
    variance: float | Sequence[float] = (1.0,),
    prior: str | float | Sequence[str | float] = (UNIFORM,),
    family: str = "simplex",
    branching: Sequence[str] = (),
    method: str = "auto",
    points: int = 200,
    samples: int = 8192,
    seed: int = 0,
    dtype: str = "float64",
    out: str | os.PathLike[str] | None = None,
    memory_limit: float = MEMORY_LIMIT,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Entropy curves and speciation times over a grid; an axis is one value or several.

    Args:
        process: names of forward processes.
        classes: class counts K; left out for a tree, whose leaves are the classes. Default: 2.
        dims: dimensions d.
        separation: root mean square of a coordinate of a class mean.
        variance: within-class variances.
        prior: "uniform", or probabilities of the first class, the others sharing the rest equally.
        family: "simplex", "orthogonal", "random", "tree" or "pair".
        branching: shapes of trees, such as "2x5x10", coarsest level first.
        method: "auto", "quadrature", "reduced" or "full".
        points: noise levels for each cell.
        samples: noisy points for each noise level, where sampling is needed.
        seed: seed of every random number.
        dtype: precision of what is sampled, "float32" or "float64".
        out: NetCDF file to keep the result in; the same call goes on with it, or reads it. None keeps nothing.
        memory_limit: GiB that the largest arrays of a cell may take.
        progress: called with how much is done and how much there is.

    Returns:
        Dataset over (process, classes, dim, ..., point); docs/how-to/sweeps.md describes it. A cell that cannot exist
        is NaN and says why in `status`.

    Raises:
        ValueError: on arguments out of range, a cell above the memory limit, or a file that holds a sweep of
            other settings.
    """
    settings = SweepSettings(family, method, points, samples, seed, dtype)
    axes = sweep_axes(
        family, process=process, classes=classes, dims=dims, separation=separation, variance=variance, prior=prior,
        branching=branching,
    )  # fmt: skip
    check_memory(axes, settings, memory_limit)
    path = None if out is None else Path(out)
    folder = None if path is None or path.exists() or jax.process_index() else parts_folder(path)
    with alone_in(folder):
        return _gone_on_with(path, axes, settings, progress)


def _gone_on_with(
    path: Path | None, axes: SweepAxes, settings: SweepSettings, progress: Progress | None
) -> xr.Dataset:
    """The sweep of a file, if that is finished, else computed from where it stopped."""
    if path is not None and agreed(lambda: [_is_finished(path, axes, settings)])[0]:
        return load_dataset(path)
    places, cells = zip(*axes.cells(), strict=True)
    parts = _parts(path, settings.points)
    results = parts.each(
        [cell.identity(settings) for cell in cells],
        lambda number, progress: sweep_cell.compute(cells[number], settings, progress),
        progress,
    )
    dataset = _gathered(axes, settings, zip(places, results, strict=True))
    if path is not None and jax.process_index() == 0:
        save_dataset(dataset, path)
        parts.remove()
    return dataset


def check_memory(axes: SweepAxes, settings: SweepSettings, limit: float) -> None:
    """Refuse a sweep that has a cell too large, before anything is computed.

    Raises:
        ValueError: naming the cell, what it would take, and the ways out.
    """
    check_memory_limit(limit)
    for _, cell in axes.cells():
        wanted = sweep_cell.memory(cell, settings) / GIB
        if wanted > limit and not sweep_cell.impossible(cell, settings.family):
            how = sweep_cell.method_of(cell, settings)
            raise ValueError(
                f"classes={cell.classes} in dim={cell.dim:g} by method {how} would take {wanted:.3g} GiB, above the "
                f"memory limit of {limit:g} GiB; take fewer classes, dtype float32 or method auto, or raise the "
                "limit"
            )


def _gathered(
    axes: SweepAxes, settings: SweepSettings, results: Iterable[tuple[tuple[int, ...], Result]]
) -> xr.Dataset:
    """One Dataset of all cells; every result comes with its place."""
    arrays = {name: np.full((*axes.shape, settings.points), np.nan) for name in POINT_FIELDS}
    arrays |= {name: np.full(axes.shape, np.nan) for name in SCALARS}
    texts = {name: np.empty(axes.shape, object) for name in ("status", "method")}
    for place, result in results:
        for name, value in result.arrays.items():
            arrays[name][place] = value
        texts["status"][place], texts["method"][place] = result.status, result.method
    data: dict[str, Any] = {}
    for name, values in arrays.items():
        dims = (*axes.dims, "point") if name in POINT_FIELDS else axes.dims
        words, units = DESCRIBED[name]
        data[name] = (dims, values, {"long_name": words, "units": units})
    data |= {name: (axes.dims, values.astype(str)) for name, values in texts.items()}
    coords: dict[str, Any] = {name: list(getattr(axes, name)) for name in axes.dims}
    if axes.branching:
        coords["branching"] = ("classes", ["x".join(map(str, shape)) for shape in axes.branching])
    return xr.Dataset(data, coords, _attributes(axes, settings))


def _attributes(axes: SweepAxes, settings: SweepSettings) -> dict[str, str]:
    return {
        "format": FORMAT,
        "settings": json.dumps(dataclasses.asdict(settings), sort_keys=True),
        "grid": json.dumps(dataclasses.asdict(axes), sort_keys=True),
        "versions": json.dumps(versions()),
    }


# ------------------------------------------------------------------------------------------------- files


def parts_folder(path: Path) -> Path:
    """Where the finished cells of an unfinished sweep lie: beside its file, in FILE.nc.parts."""
    return path.with_name(path.name + ".parts")


def _is_finished(path: Path, axes: SweepAxes, settings: SweepSettings) -> bool:
    """Whether the file holds this sweep; otherwise its folder of parts is ready for it.

    Raises:
        ValueError: when the file, or the folder of parts, holds something else.
    """
    wanted = _attributes(axes, settings)
    if path.suffix != ".nc":
        raise ValueError(f"out must be a file that ends in .nc, got {path}")
    if path.exists():
        attributes = load_dataset(path).attrs
        if attributes.get("format") != FORMAT:
            raise ValueError(f"out must be a new file or a sweep's, got {path}, which holds another result")
        _check_same(path, attributes, wanted, ("settings", "grid"))
        return True
    folder = parts_folder(path)
    label = folder / "settings.json"
    if folder.exists() and any(file.name != LOCK for file in folder.iterdir()):
        try:
            recorded = json.loads(label.read_text())
        except (OSError, ValueError):
            raise ValueError(f"cannot go on with {folder}: it is no folder of a sweep; remove it") from None
        _check_same(path, recorded, wanted, ("settings",))
    else:
        with write_aside(label) as aside:
            aside.write_text(json.dumps(wanted), encoding="utf-8")
    return False


def _check_same(path: Path, recorded: Any, wanted: Mapping[str, str], names: Sequence[str]) -> None:
    """Refuse to mix results that follow from other settings."""
    for name in names:
        theirs = recorded.get(name) if isinstance(recorded, dict) else None
        if theirs != wanted[name]:
            raise ValueError(
                f"{path} holds a sweep of other {name}: it has {theirs}, asked for {wanted[name]}; name "
                "another file, or remove that one"
            )


def _parts(path: Path | None, points: int) -> Parts[Result]:
    """The store of finished cells, each a file of arrays."""
    shapes = {name: (points,) if name in POINT_FIELDS else () for name in (*POINT_FIELDS, *SCALARS)}

    def read(file: Path) -> Result | None:
        checkpoint = read_kept(file)
        if (
            checkpoint is None
            or {name: values.shape for name, values in checkpoint.tensors.items()} != shapes
        ):
            return None
        arrays = {name: np.array(values) for name, values in checkpoint.tensors.items()}
        return Result(checkpoint.attributes["status"], checkpoint.attributes["method"], arrays)

    def write(result: Result, file: Path) -> None:
        arrays = {name: np.asarray(values) for name, values in result.arrays.items()}
        write_kept(file, arrays, {"status": result.status, "method": result.method})

    return Parts(None if path is None else parts_folder(path), ".part", read, write)
