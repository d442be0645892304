"""When a labelled data set speciates: exact curves of class and point, surrogates, and times by every criterion.

Curves are computed a few noise levels at a time, and each piece is kept beside the result at once, in NAME.parts/,
named by everything that its numbers follow from.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

import gmm
from gmm.checks import choose
from gmm.clock import times_at
from gmm.curve import EntropyCurve, load_dataset, versions
from gmm.datasets import LabelledData
from gmm.devices import agreed
from gmm.files import write_aside
from paper_figures.formats.curves import join, stack
from paper_figures.formats.numbers import Number, attach, number
from paper_figures.progress import Watch
from paper_figures.studies.sampled_times import NONE, Time, agreement_time, half_time, peak_time
from theory import Problem, speciation_time
from theory.labelled import (
    ClassMoments,
    covariance_log_snr,
    opening_directions,
    pair_log_snr,
    times_of,
)

FORMAT = "speciation-data/1"
CLASS, POINT, GAUSSIAN, ROUND = "class", "point", "Gaussian classes", "Gram matrix"
CURVES = (CLASS, POINT, GAUSSIAN, ROUND)
CRITERIA = (
    "covariance",
    "curvature",
    "sde-instability",
    "flow-instability",
    "entropy-rate",
    "half-entropy",
    "cloning",
)
NAMES = (
    *("t", "log_snr", "log_snr_slope", "entropy", "entropy_stderr", "rate", "rate_stderr", "prior_entropy"),
    *(
        "clone_agreement",
        "clone_agreement_stderr",
        "curve",
        "source",
        "criterion",
        "class",
        "time",
        "time_stderr",
    ),
    *("gram", "between", "covariance", "direction_time", "direction_vector", "data", "settings"),
)
"""What the file of a study holds and its picture needs."""
# Noise levels that are computed, and kept, together.
PIECE = 5
# The noise levels reach from hardly any information about the class to hardly any doubt about the point: energy
# between the classes over σ²/α² at one end; at the other, squared distance of nearest points over 8 σ²/α².
FIRST_ENERGY, LAST_DISTANCE = 1e-2, 10.0
NEIGHBOUR_SAMPLE = 256
# Pictures of more classes say nothing, and their pairs are many.
MOST_PAIRED = 100
# Copies of the points that live at once, and of the d x d covariance; the blocks that posteriors work in.
COPIES_OF_POINTS, COPIES_OF_COVARIANCE, WORK = 6, 12, 3 * 2**28


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """What decides the numbers, beside the data.

    Attributes:
        process: name of the forward process.
        levels: noise levels of every curve.
        samples: noisy points a noise level.
        seed: the person's seed.
        dtype: precision of what is sampled.

    Raises:
        ValueError: on an unknown name or a number out of range.
    """

    process: str = "vp"
    levels: int = 50
    samples: int = 1024
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        choose("process", self.process, tuple(gmm.PROCESSES))
        choose("dtype", self.dtype, ("float32", "float64"))
        if self.levels < 16:
            raise ValueError(f"levels must be >= 16 for a window and a maximum, got {self.levels}")
        if self.samples < 2:
            raise ValueError(f"samples must be >= 2, got {self.samples}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be in 0..2^63-1, got {self.seed}")


def memory(data: LabelledData, settings: StudySettings) -> int:
    """Bytes that the largest arrays take: the points, laid out class by class, and covariances."""
    counts = np.bincount(data.y)
    laid_out = max(len(data.x), len(counts) * int(counts.max())) * data.x.shape[1]
    size = np.dtype(settings.dtype).itemsize
    return COPIES_OF_POINTS * size * laid_out + COPIES_OF_COVARIANCE * 8 * data.x.shape[1] ** 2 + WORK


def operations(data: LabelledData, settings: StudySettings) -> float:
    """Multiplications and additions of the matrix products of the two exact curves: two each, at every level."""
    return 4.0 * 2 * settings.levels * settings.samples * data.x.size


def check(data: LabelledData, settings: StudySettings, limit: float) -> None:
    """Refuse what cannot be studied, before anything is computed.

    Args:
        data: the data set.
        settings: the settings.
        limit: GiB that the largest arrays may take.

    Raises:
        ValueError: on fewer than two classes, a class of one point, or too much memory.
    """
    counts = np.bincount(data.y)
    if len(counts) < 2:
        raise ValueError(f"data must have two classes or more for a decision, {data.name} has {len(counts)}")
    if counts.min() < 2:
        raise ValueError(
            f"every class of the data needs at least 2 points, {data.classes[int(np.argmin(counts))]!r} of "
            f"{data.name} has 1"
        )
    wanted = memory(data, settings) / 2**30
    if wanted > limit:
        raise ValueError(
            f"{len(data.x)} points of {data.x.shape[1]} dimensions in {len(counts)} classes, the largest of "
            f"{counts.max()}, would take {wanted:.3g} GiB, above the memory limit of {limit:g} GiB; take a subset with "
            "--limit, dtype float32, or raise the limit"
        )


def study(
    data: LabelledData,
    settings: StudySettings,
    out: Path | None = None,
    watch: Watch | None = None,
) -> xr.Dataset:
    """Curves, times and directions of a labelled data set, on the scale that `standardised` gives it.

    Args:
        data: the data set, on any scale.
        settings: what decides the numbers.
        out: NetCDF file to keep the result in; the same call goes on with it, or reads it. None keeps nothing.
        watch: called while curves are computed.

    Returns:
        Dataset; docs/data.md describes it.

    Raises:
        ValueError: when `out` holds something else.
    """
    identity = fingerprint(data, settings)
    if out is not None and agreed(lambda: [out.exists()])[0]:
        return _finished(out, identity)
    store = None if out is None else Pieces(out.with_name(out.name + ".parts"), identity)
    process = gmm.PROCESSES[settings.process]()
    with jax.enable_x64(settings.dtype == "float64"):
        dataset = _study(data.standardised(), settings, process, store, watch)
    dataset.attrs |= {
        "format": FORMAT,
        "fingerprint": identity,
        "settings": json.dumps(dataclasses.asdict(settings)),
        "data": json.dumps(_facts(data)),
        "versions": json.dumps(versions()),
    }
    if out is not None and store is not None and jax.process_index() == 0:
        with write_aside(out) as aside:
            dataset.to_netcdf(aside, engine="h5netcdf")
        store.remove()
    return dataset


def fingerprint(data: LabelledData, settings: StudySettings) -> str:
    """Hash of the points, their labels and the settings."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(settings), sort_keys=True).encode())
    digest.update(json.dumps([data.shape, data.classes]).encode())
    for array in (data.x, data.y):
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def file_stem(data: LabelledData) -> str:
    """Name of the result of a data set: letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", data.name.removesuffix(".npz")).strip("-.") or "data"


def _facts(data: LabelledData) -> dict[str, Any]:
    return {
        "name": data.name,
        "points": len(data.x),
        "dim": data.x.shape[1],
        "classes": len(data.classes),
        "shape": list(data.shape),
    }


def _finished(out: Path, identity: str) -> xr.Dataset:
    dataset = load_dataset(out)
    if dataset.attrs.get("format") != FORMAT or dataset.attrs.get("fingerprint") != identity:
        raise ValueError(
            f"{out} holds another result, or one of other data or settings; name another folder, or remove it"
        )
    return dataset


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Finished pieces of curves, in files of their own."""

    folder: Path
    identity: str

    def _place(self, curve: str, start: int) -> Path:
        return self.folder / f"{self.identity[:16]}-{curve.replace(' ', '-')}-{start:04d}.nc"

    def get(self, curve: str, start: int) -> EntropyCurve | None:
        """A finished piece, or None when there is none that can be read whole."""
        try:
            return EntropyCurve.load(self._place(curve, start))
        except ValueError:
            return None

    def keep(self, curve: str, start: int, piece: EntropyCurve) -> None:
        """Write a piece, aside and then renamed."""
        if jax.process_index() == 0:
            piece.save(self._place(curve, start))

    def remove(self) -> None:
        """Remove the folder, once the whole is written."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)


def _study(
    data: LabelledData,
    settings: StudySettings,
    process: gmm.Process,
    store: Pieces | None,
    watch: Watch | None,
) -> xr.Dataset:
    """`data` is standardised."""
    moments = class_moments(data)
    times = times_at(process, noise_levels(data, moments, process, settings.levels))
    curves = {
        name: _curve(name, mixture, partition, process, times, settings, store, watch)
        for name, mixture, partition in models(data, moments, settings.dtype)
    }
    eigenvalues = np.linalg.eigvalsh(moments.total())[::-1]
    found = speciation_times(curves, moments, float(eigenvalues[0]), process, len(data.x))
    directions = opening_directions(moments)
    dataset = stack(list(curves.values()), "curve", list(curves)).assign_coords(
        {"criterion": list(CRITERIA), "class": list(data.classes), "source": list(found)}
    )
    values = np.array([[by.get(name, NONE) for name in CRITERIA] for by in found.values()])
    dataset = dataset.assign(
        {
            "time": (("source", "criterion"), values[..., 0]),
            "time_stderr": (("source", "criterion"), values[..., 1]),
            "prior": ("class", moments.prior),
            "gram": (("class", "other"), moments.gram),
            "between": ("eigenvalue", moments.between),
            "covariance": ("component", eigenvalues),
            "direction_time": ("direction", times_of(process, directions.log_snr)),
            "direction_log_snr": ("direction", directions.log_snr),
            "direction_vector": (("direction", "coordinate"), directions.vectors.astype(np.float32)),
        }
    )
    if len(data.classes) <= MOST_PAIRED:
        pairs = pair_log_snr(moments)
        dataset = dataset.assign(
            pair_log_snr=(("class", "other"), pairs), pair_time=(("class", "other"), times_of(process, pairs))
        )
    dataset = dataset.assign_coords(other=list(data.classes))
    return attach(dataset, _numbers(dataset, found, curves[POINT]))


def class_moments(data: LabelledData) -> ClassMoments:
    """Means and pooled covariance by `gmm.families.fitted`: Ledoit and Wolf's shrinkage, a small floor."""
    mixture, _ = gmm.families.fitted(data.x, data.y, covariance="shared")
    weights, means = np.asarray(mixture.weights, float), np.asarray(mixture.means, float)
    within = np.asarray(mixture.covariance.dense(mixture.dim), float)
    return ClassMoments(weights / weights.sum(), means, 0.5 * (within + within.T))


def models(
    data: LabelledData, moments: ClassMoments, dtype: str
) -> Iterator[tuple[str, gmm.Mixture, gmm.Partition]]:
    """The data themselves, asked for the class and for the point; classes as Gaussians; their Gram matrix alone."""
    points, labels = gmm.families.empirical(data.x.astype(dtype), data.y)
    yield CLASS, points, labels
    yield POINT, points, gmm.Partition(np.arange(points.components))
    trivial = gmm.Partition(np.arange(len(moments.prior)))
    with jax.enable_x64(True):
        shared = gmm.Mixture(moments.prior, moments.means, gmm.Full(moments.within), normalise=True)
        low = gmm.reduce(shared)
        flat = gmm.families.from_gram(moments.gram, variance=moments.variance, weights=moments.prior)
    yield GAUSSIAN, _in(low, dtype), trivial
    yield ROUND, _in(flat, dtype), trivial


def _in(mixture: gmm.Mixture, dtype: str) -> gmm.Mixture:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), mixture)


def noise_levels(data: LabelledData, moments: ClassMoments, process: gmm.Process, count: int) -> np.ndarray:
    """(count,) log(σ/α), equally spaced from all points told apart to no class, as far as the process goes.

    Raises:
        ValueError: when the process ends before.
    """
    energy = float(moments.between.sum())
    high = 0.5 * math.log(max(energy, 1e-12) / FIRST_ENERGY)
    low = 0.5 * math.log(max(nearest_distance2(data.x), 1e-9) / (8 * LAST_DISTANCE))
    last, first = (-0.5 * level for level in Problem(process, energy=1.0).visited())
    low, high = max(min(low, high - 4), first), min(high, last)
    if not low < high:
        raise ValueError(f"process {process.name} ends before anything is decided about these data")
    return np.linspace(low, high, count)


def nearest_distance2(x: np.ndarray) -> float:
    """Median squared distance of a point to its nearest other one, over some of the points."""
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(x), min(NEIGHBOUR_SAMPLE, len(x)), replace=False)
    norms = np.einsum("nd,nd->n", x, x)
    distances = norms[chosen, None] - 2 * x[chosen] @ x.T + norms
    distances[np.arange(len(chosen)), chosen] = np.inf
    # Rounding of the norms may bury the distance of copies: they count as no distance.
    return max(float(np.median(distances.min(axis=1))), 0.0)


def _curve(
    name: str,
    mixture: gmm.Mixture,
    partition: gmm.Partition,
    process: gmm.Process,
    times: np.ndarray,
    settings: StudySettings,
    store: Pieces | None,
    watch: Watch | None,
) -> EntropyCurve:
    """One curve piece by piece, from the store where it has them."""
    # One key for all: differences between curves are then smaller than their errors.
    options = {"key": jax.random.key(settings.seed), "samples": settings.samples, "partition": partition}
    exact_points = name in (CLASS, POINT)  # midpoints of far too many pairs to help
    pieces, starts = [], range(0, len(times), PIECE)
    kept = [False] * len(starts)
    if store is not None:
        kept = agreed(lambda: [store.get(name, start) is not None for start in starts], len(starts))
    for start, there in zip(starts, kept, strict=True):
        piece = store.get(name, start) if store is not None and there else None
        if there and piece is None:
            raise ValueError(
                f"every process must see {store and store.folder}: name a folder that they share"
            )
        if piece is None:
            done = lambda level, _, start=start: watch and watch(name, start + level, len(times))
            found = gmm.class_entropy(
                mixture,
                process,
                times[start : start + PIECE],
                boundary=not exact_points,
                progress=done,
                **options,
            )
            piece = dataclasses.replace(found, per_cell=None, per_cell_stderr=None)
            if store is not None:
                store.keep(name, start, piece)
        pieces.append(piece)
        if watch is not None:
            watch(name, min(start + PIECE, len(times)), len(times))
    return join(pieces)


def speciation_times(
    curves: dict[str, EntropyCurve],
    moments: ClassMoments,
    largest: float,
    process: gmm.Process,
    points: int,
) -> dict[str, dict[str, Time]]:
    """Times by source and criterion; what a source says nothing about is left out."""
    exact = lambda value: Time(float(value), 0.0 if math.isfinite(value) else math.nan)
    found: dict[str, dict[str, Time]] = {
        "covariance": {"covariance": exact(times_of(process, np.array(covariance_log_snr(largest))))}
    }
    by_chance = float(moments.prior @ moments.prior)
    for name, curve in curves.items():
        chance = 1 / points if name == POINT else by_chance
        found[name] = {
            "entropy-rate": peak_time(curve),
            "half-entropy": half_time(curve),
            "cloning": agreement_time(curve, chance),
        }
    opening = opening_directions(moments).log_snr
    first = opening[0] if len(opening) else math.nan
    found[GAUSSIAN]["curvature"] = exact(times_of(process, np.array(first)))
    top = float(moments.between[0])
    if top > 0:
        options = {"variance": moments.variance, "family": "pair"}
        for criterion in CRITERIA[:4]:
            found[ROUND][criterion] = exact(speciation_time(process, top, criterion=criterion, **options))
    return found


def _numbers(dataset: xr.Dataset, found: dict[str, dict[str, Time]], points: EntropyCurve) -> list[Number]:
    numbers = []
    for source, by in found.items():
        for criterion, time in by.items():
            numbers.append(number(f"{source}: {criterion}, t", time.value, time.stderr or None))
    collapse = half_time(points)
    numbers.append(
        number("class entropies memorise the points below about t", collapse.value, collapse.stderr)
    )
    numbers.append(number("directions that open", dataset.sizes["direction"]))
    share = float(dataset.between.sum() / dataset.covariance.sum())
    numbers.append(number("share of the variance that is between classes", share))
    return numbers
