"""Sweeps: a grid of cells, each computed once and kept at once, gathered into one labelled Dataset.

Parts of an unfinished sweep lie beside its file, in FILE.nc.parts/, one file a cell, named by everything that
its numbers follow from. So a sweep goes on wherever it was stopped, and finds nothing of other settings.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from gmm.curve import load_dataset, versions
from gmm.devices import agreed
from gmm.files import write_aside
from paper_figures.studies import sweep_cell
from paper_figures.studies.sweep_axes import ALWAYS, UNIFORM, Cell, Grid, SweepSettings, grid
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

Watch = Callable[[Cell, int, int], None]
"""Called with the cell at work and how many of its noise levels are done, of how many."""


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
    watch: Watch | None = None,
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
        points: noise levels a cell.
        samples: noisy points a noise level, where sampling is needed.
        seed: seed of every random number.
        dtype: precision of what is sampled, "float32" or "float64".
        out: NetCDF file to keep the result in; the same call goes on with it, or reads it. None keeps nothing.
        memory_limit: GiB that the largest arrays of a cell may take.
        watch: called while cells are at work.

    Returns:
        Dataset over (process, classes, dim, ..., point); docs/sweeps.md describes it. A cell that cannot exist
        is NaN and says why in `status`.

    Raises:
        ValueError: on arguments out of range, a cell above the memory limit, or a file that holds a sweep of
            other settings.
    """
    settings = SweepSettings(family, method, points, samples, seed, dtype)
    axes = grid(family, process, classes, dims, separation, variance, prior, branching)
    check_memory(axes, settings, memory_limit)
    store = None if out is None else Store(Path(out), axes, settings)
    if store is not None and agreed(lambda: [store.finished()])[0]:
        return load_dataset(store.path)
    results = dict(_computed(axes, settings, store, watch))
    dataset = _gathered(axes, settings, results)
    if store is None:
        return dataset
    if jax.process_index() == 0:
        store.finish(dataset)
    return dataset


def check_memory(axes: Grid, settings: SweepSettings, limit: float) -> None:
    """Refuse a sweep that has a cell too large, before anything is computed.

    Raises:
        ValueError: naming the cell, what it would take, and the ways out.
    """
    if not limit > 0:
        raise ValueError(f"memory_limit must be positive, in GiB, got {limit}")
    for _, cell in axes.cells():
        wanted = sweep_cell.memory(cell, settings) / 2**30
        if wanted > limit and not sweep_cell.room(cell, settings.family):
            how = sweep_cell.method_of(cell, settings)
            raise ValueError(
                f"classes={cell.classes} in dim={cell.dim:g} by method {how} would take {wanted:.3g} GiB, above the "
                f"memory limit of {limit:g} GiB; take fewer classes, dtype float32 or method auto, or raise the "
                "limit"
            )


def _computed(
    axes: Grid, settings: SweepSettings, store: "Store | None", watch: Watch | None
) -> Iterator[tuple[tuple[int, ...], Result]]:
    """Results by place, from the store where it has them."""
    cells = list(axes.cells())
    for (place, cell), kept in zip(cells, _kept(cells, store), strict=True):
        result = store.part(cell) if store is not None and kept else None
        if kept and result is None:
            raise ValueError(
                f"every process must see {store and store.parts}: name a file in a folder that they share"
            )
        if result is None:
            progress = None if watch is None else lambda done, total, cell=cell: watch(cell, done, total)
            result = sweep_cell.compute(cell, settings, progress)
            if store is not None and jax.process_index() == 0:
                store.keep(cell, result)
        if watch is not None:
            watch(cell, settings.points, settings.points)
        yield place, result


def _kept(cells: "list[tuple[tuple[int, ...], Cell]]", store: "Store | None") -> list[bool]:
    """Which cells the store has whole."""
    if store is None:
        return [False] * len(cells)
    return agreed(lambda: [store.part(cell) is not None for _, cell in cells], len(cells))


def _gathered(axes: Grid, settings: SweepSettings, results: dict[tuple[int, ...], Result]) -> xr.Dataset:
    arrays = {name: np.full((*axes.shape, settings.points), np.nan) for name in POINT_FIELDS}
    arrays |= {name: np.full(axes.shape, np.nan) for name in SCALARS}
    texts = {name: np.empty(axes.shape, object) for name in ("status", "method")}
    for place, result in results.items():
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


def _attributes(axes: Grid, settings: SweepSettings) -> dict[str, str]:
    return {
        "format": FORMAT,
        "settings": json.dumps(dataclasses.asdict(settings), sort_keys=True),
        "grid": json.dumps(dataclasses.asdict(axes), sort_keys=True),
        "versions": json.dumps(versions()),
    }


@dataclasses.dataclass(frozen=True)
class Store:
    """A sweep's file, and the folder of parts beside it while it is unfinished."""

    path: Path
    axes: Grid
    settings: SweepSettings

    @property
    def parts(self) -> Path:
        """Folder of the finished cells of an unfinished sweep."""
        return self.path.with_name(self.path.name + ".parts")

    def finished(self) -> bool:
        """Whether the file holds this sweep.

        Raises:
            ValueError: when it, or the folder of parts, holds something else.
        """
        if self.path.suffix != ".nc":
            raise ValueError(f"out must be a file that ends in .nc, got {self.path}")
        if self.path.exists():
            attributes = load_dataset(self.path).attrs
            if attributes.get("format") != FORMAT:
                raise ValueError(
                    f"out must be a new file or a sweep's, got {self.path}, which holds another result"
                )
            self._same(attributes, ("settings", "grid"))
            return True
        label = self.parts / "settings.json"
        if self.parts.exists() and any(self.parts.iterdir()):
            try:
                found = json.loads(label.read_text())
            except (OSError, ValueError):
                raise ValueError(
                    f"cannot go on with {self.parts}: it is no folder of a sweep; remove it"
                ) from None
            self._same(found, ("settings",))
        else:
            with write_aside(label) as aside:
                aside.write_text(json.dumps(_attributes(self.axes, self.settings)))
        return False

    def _same(self, found: Any, names: Sequence[str]) -> None:
        """Refuse to mix what follows from other settings."""
        wanted = _attributes(self.axes, self.settings)
        for name in names:
            theirs = found.get(name) if isinstance(found, dict) else None
            if theirs != wanted[name]:
                raise ValueError(
                    f"{self.path} holds a sweep of other {name}: it has {theirs}, asked for {wanted[name]}; name "
                    "another file, or remove that one"
                )

    def _place(self, cell: Cell) -> Path:
        return self.parts / f"{cell.identity(self.settings)}.npz"

    def part(self, cell: Cell) -> Result | None:
        """A finished cell, or None when there is none that can be read whole."""
        try:
            with self._place(cell).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in (*POINT_FIELDS, *SCALARS)}
                status, method = str(stored["status"]), str(stored["method"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        shapes = {name: (self.settings.points,) if name in POINT_FIELDS else () for name in arrays}
        whole = all(arrays[name].shape == shape for name, shape in shapes.items())
        return Result(status, method, arrays) if whole else None

    def keep(self, cell: Cell, result: Result) -> None:
        """Write a finished cell, aside and then renamed."""
        with write_aside(self._place(cell)) as aside:
            np.savez(aside, status=result.status, method=result.method, **result.arrays)  # type: ignore[arg-type]

    def finish(self, dataset: xr.Dataset) -> None:
        """Write the whole and only then remove the parts."""
        with write_aside(self.path) as aside:
            dataset.to_netcdf(aside, engine="h5netcdf")
        with contextlib.suppress(OSError):
            shutil.rmtree(self.parts)
