"""When a labelled data set speciates: exact curves of class and point, surrogates, and times by every criterion.

Curves are computed a few noise levels at a time. Each piece is kept at once beside the result, in NAME.parts/, named by
everything that its numbers follow from.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

import gmm
from gmm.checks import choose
from gmm.clock import times_at
from gmm.curve import EntropyCurve, load_dataset, versions
from gmm.datasets import LabelledData
from gmm.devices import agreed
from gmm.files import alone_in
from gmm.fingerprint import fingerprint
from neural.progress import Progress
from paper_figures.files import save_dataset
from paper_figures.formats.curves import join, stack
from paper_figures.formats.numbers import Number, attach, number
from paper_figures.formats.words import slug
from paper_figures.progress import share
from paper_figures.studies.checks import GIB, check_memory_limit, check_sampling
from paper_figures.studies.exact_laws import exact_law, exact_law_curve, exact_times, is_exact
from paper_figures.studies.parts import Parts, whole_curve
from paper_figures.studies.sampled_times import NONE, Time, agreement_time, half_time, peak_time
from theory import Problem, speciation_time
from theory.labelled import (
    ClassMoments,
    covariance_log_snr,
    opening_directions,
    pair_log_snr,
    times_of,
)
from theory.landmarks import fastest_of, half_agreement_of, half_entropy_of

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
        samples: noisy points for each noise level.
        seed: seed of every random number.
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
        check_sampling(self.samples, self.seed, self.dtype, levels=self.levels)


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
    """Refuse data that cannot be studied, before anything is computed.

    Args:
        data: the data set.
        settings: the settings.
        limit: GiB that the largest arrays may take.

    Raises:
        ValueError: on fewer than two classes, a class of one point, or too much memory.
    """
    check_memory_limit(limit)
    counts = np.bincount(data.y)
    if len(counts) < 2:
        raise ValueError(f"data must have two classes or more for a decision, {data.name} has {len(counts)}")
    if counts.min() < 2:
        raise ValueError(
            f"every class of the data needs at least 2 points, {data.classes[int(np.argmin(counts))]!r} of "
            f"{data.name} has 1"
        )
    wanted = memory(data, settings) / GIB
    if wanted > limit:
        raise ValueError(
            f"{len(data.x)} points of {data.x.shape[1]} dimensions in {len(counts)} classes, the largest of "
            f"{counts.max()}, would take {wanted:.3g} GiB, above the memory limit of {limit:g} GiB; take a `subset`, "
            "dtype float32, or raise the limit"
        )


def study(
    data: LabelledData,
    settings: StudySettings,
    out: Path | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Curves, times and directions of a labelled data set, on the scale that `standardised` gives it.

    Args:
        data: the data set, on any scale.
        settings: what decides the numbers.
        out: NetCDF file to keep the result in; the same call goes on with it, or reads it. None keeps nothing.
        progress: called while curves are computed.

    Returns:
        Dataset; docs/how-to/data.md describes it.

    Raises:
        ValueError: when `out` holds something else.
    """
    identity = fingerprint(dataclasses.asdict(settings), [data.shape, data.classes], data.x, data.y)
    with alone_in(None if out is None or out.exists() or jax.process_index() else parts_folder(out)):
        return _gone_on_with(data, settings, out, identity, progress)


def _gone_on_with(
    data: LabelledData, settings: StudySettings, out: Path | None, identity: str, progress: Progress | None
) -> xr.Dataset:
    """The study of a file, if that is finished, else computed from where it stopped."""
    if out is not None and agreed(lambda: [out.exists()])[0]:
        return _finished(out, identity)
    folder = None if out is None else parts_folder(out)
    pieces = Parts(folder, f"-{identity[:16]}.nc", whole_curve, EntropyCurve.save)
    process = gmm.PROCESSES[settings.process]()
    with jax.enable_x64(settings.dtype == "float64"):
        dataset = _study(data.standardised(), settings, process, pieces, progress)
    dataset.attrs |= {
        "format": FORMAT,
        "fingerprint": identity,
        "settings": json.dumps(dataclasses.asdict(settings)),
        "data": json.dumps(_facts(data)),
        "versions": json.dumps(versions()),
    }
    if out is not None and jax.process_index() == 0:
        save_dataset(dataset, out)
        pieces.remove()
    return dataset


def parts_folder(out: Path) -> Path:
    """Where the finished pieces of an unfinished study lie: beside its file, in FILE.nc.parts."""
    return out.with_name(out.name + ".parts")


def file_stem(data: LabelledData) -> str:
    """Name of the result of a data set: letters, digits and dashes."""
    return slug(data.name.removesuffix(".npz"), "data")


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


def _study(
    data: LabelledData,
    settings: StudySettings,
    process: gmm.Process,
    parts: Parts[EntropyCurve],
    progress: Progress | None,
) -> xr.Dataset:
    """The result for standardised `data`."""
    moments = class_moments(data)
    times = times_at(process, noise_levels(data, moments, process, settings.levels))
    curves, places = {}, {}
    for place, law in enumerate(laws(data, moments, settings.dtype)):
        ours = share(progress, place, len(CURVES))
        curves[law.name] = _curve(law, process, times, settings, parts, ours)
        chance = 1 / len(data.x) if law.name == POINT else float(moments.prior @ moments.prior)
        places[law.name] = _places(law, curves[law.name], process, chance)
    eigenvalues = np.linalg.eigvalsh(moments.total())[::-1]
    times_of_source = speciation_times(places, moments, float(eigenvalues[0]), process)
    directions = opening_directions(moments)
    dataset = stack(list(curves.values()), "curve", list(curves)).assign_coords(
        {"criterion": list(CRITERIA), "class": list(data.classes), "source": list(times_of_source)}
    )
    values = np.array([[by.get(name, NONE) for name in CRITERIA] for by in times_of_source.values()])
    dataset = dataset.assign(
        {
            "time": (("source", "criterion"), values[..., 0]),
            "time_stderr": (("source", "criterion"), values[..., 1]),
            "prior": ("class", moments.prior),
            "route": ("curve", [str(curve.metadata["route"]) for curve in curves.values()]),
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
    return attach(dataset, _numbers(dataset, times_of_source, curves[POINT]))


def class_moments(data: LabelledData) -> ClassMoments:
    """Means and pooled covariance by `gmm.families.fitted`: Ledoit and Wolf's shrinkage, a small floor."""
    mixture, _ = gmm.families.fitted(data.x, data.y, covariance="shared")
    weights, means = np.asarray(mixture.weights, float), np.asarray(mixture.means, float)
    within = np.asarray(mixture.covariance.dense(mixture.dim), float)
    return ClassMoments(weights / weights.sum(), means, 0.5 * (within + within.T))


class Law(NamedTuple):
    """A mixture that stands for the data, and what is to be decided of it: the cells of a partition."""

    name: str
    mixture: gmm.Mixture
    partition: gmm.Partition


def laws(data: LabelledData, moments: ClassMoments, dtype: str) -> Iterator[Law]:
    """The laws of `CURVES`: the data by class and by point, one Gaussian for each class, and the Gram matrix alone."""
    points, labels = gmm.families.empirical(data.x.astype(dtype), data.y)
    yield Law(CLASS, points, labels)
    yield Law(POINT, points, gmm.Partition(np.arange(points.components)))
    trivial = gmm.Partition(np.arange(len(moments.prior)))
    with jax.enable_x64(True):
        shared = gmm.Mixture(moments.prior, moments.means, gmm.Full(moments.within), normalise=True)
        low = gmm.reduce(shared)
        flat = gmm.families.from_gram(moments.gram, variance=moments.variance, weights=moments.prior)
    yield Law(GAUSSIAN, _with_dtype(low, dtype), trivial)
    yield Law(ROUND, _with_dtype(flat, dtype), trivial)


def _with_dtype(mixture: gmm.Mixture, dtype: str) -> gmm.Mixture:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), mixture)


def noise_levels(data: LabelledData, moments: ClassMoments, process: gmm.Process, count: int) -> np.ndarray:
    """(count,) log(σ/α), equally spaced from where all points are distinct to where no class is.

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
    law: Law,
    process: gmm.Process,
    times: np.ndarray,
    settings: StudySettings,
    parts: Parts[EntropyCurve],
    progress: Progress | None,
) -> EntropyCurve:
    """One curve, piece by piece."""
    starts = range(0, len(times), PIECE)
    exact = is_exact(law.mixture, law.partition)

    def piece(number: int, progress: Progress | None) -> EntropyCurve:
        part = times[starts[number] : starts[number] + PIECE]
        if exact:
            curve = exact_law_curve(law.mixture, process, part, law.partition)
        else:
            curve = gmm.class_entropy(
                law.mixture,
                process,
                part,
                partition=law.partition,
                # One key for all: differences between curves are then smaller than their errors.
                key=jax.random.key(settings.seed),
                samples=settings.samples,
                boundary=law.name not in (CLASS, POINT),  # midpoints of far too many pairs of points to help
                progress=progress,
            )
        return dataclasses.replace(curve, per_cell=None, per_cell_stderr=None)

    return join(list(parts.each([f"{slug(law.name)}-{start:04d}" for start in starts], piece, progress)))


def _places(law: Law, curve: EntropyCurve, process: gmm.Process, chance: float) -> dict[str, Time]:
    """Times of the criteria that a curve gives, by root finding where it is exact, else read off its points."""
    if not is_exact(law.mixture, law.partition):
        return {
            "entropy-rate": peak_time(curve),
            "half-entropy": half_time(curve),
            "cloning": agreement_time(curve, chance),
        }
    noise = np.sort(-0.5 * curve.log_snr)
    places = {
        "entropy-rate": lambda exact: fastest_of(exact, process, noise),
        "half-entropy": lambda exact: half_entropy_of(exact, process, noise),
        "cloning": lambda exact: half_agreement_of(exact, process, noise, chance),
    }
    curves = exact_law(law.mixture, process, law.partition)
    return dict(zip(places, exact_times(list(places.values()), process, *curves), strict=True))


def _without_error(value: float | np.ndarray) -> Time:
    time = float(value)
    return Time(time, 0.0 if math.isfinite(time) else math.nan)


def speciation_times(
    places: dict[str, dict[str, Time]], moments: ClassMoments, largest: float, process: gmm.Process
) -> dict[str, dict[str, Time]]:
    """Times by source and criterion; a criterion that does not apply to a source is left out.

    Args:
        places: times that follow from each curve.
        moments: of the classes.
        largest: largest eigenvalue of the covariance of the data.
        process: forward process.
    """
    of_covariance = _without_error(times_of(process, np.array(covariance_log_snr(largest))))
    times = {"covariance": {"covariance": of_covariance}} | {name: dict(by) for name, by in places.items()}
    opening = opening_directions(moments).log_snr
    first = opening[0] if len(opening) else math.nan
    times[GAUSSIAN]["curvature"] = _without_error(times_of(process, np.array(first)))
    top = float(moments.between[0])
    if top > 0:
        options = {"variance": moments.variance, "family": "pair"}
        for criterion in CRITERIA[:4]:
            value = speciation_time(process, top, criterion=criterion, **options)
            times[ROUND][criterion] = _without_error(value)
    return times


def _numbers(dataset: xr.Dataset, times: dict[str, dict[str, Time]], points: EntropyCurve) -> list[Number]:
    numbers = []
    for source, by in times.items():
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
