"""Curves of one decision from several sources: where each decides, how sure that is, and how they differ."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from gmm.curve import EntropyCurve, versions
from gmm.landmarks import LANDMARKS, known_landmarks, landmarks
from gmm.pooling import Reading, from_estimate, pool, read_off
from gmm.schema import from_json
from paper_figures.formats.numbers import Number, attach, number
from paper_figures.studies.question import Question
from paper_figures.studies.sources import Runs

FORMAT = "speciation-comparison/1"
MEAN_FLOOR = "mean_floor"
SHARE = 0.8
ASKS = {
    "classes": "which of the classes",
    "unconditional": "each against all, at prior ½",
    "share": "each against all, at its share",
}
_FIELDS = (
    "t", "log_snr", "log_snr_slope", "entropy", "entropy_stderr", "rate", "rate_stderr", "clone_agreement",
    "clone_agreement_stderr", "cross_entropy", "cross_entropy_stderr",
)  # fmt: skip
PLACE_FIELDS = ("place", "place_stderr", "place_low", "place_high")
# What a file must hold to be printed and drawn.
NAMES = (*_FIELDS, *PLACE_FIELDS, "prior_entropy", "reference")


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """One source's curve at one level, in nats, and its landmarks in log(σ/α)."""

    curve: EntropyCurve
    marks: Reading


def lines_of(measured: Mapping[str, Runs], seed: int) -> dict[str, list[Line]]:
    """For every source one line for each level."""
    return {name: [_line(runs, seed) for runs in levels] for name, levels in measured.items()}


def _line(runs: list[EntropyCurve], seed: int) -> Line:
    """The line of some runs; of a single one that is not exact, errors follow from those of its curve."""
    if len(runs) == 1 and np.any(runs[0].entropy_stderr != 0):
        return Line(runs[0], from_estimate(known_landmarks(runs[0], SHARE)))
    return Line(pool(runs), read_off(runs, _landmarks, seed=seed))


def asks(question: Question, names: Sequence[str]) -> dict[str, str]:
    """Which question each source answers: that of the tracker."""
    return dict.fromkeys(names, ASKS[question.tracker])


def asks_of(dataset: xr.Dataset) -> dict[str, str]:
    """Which question each source of a comparison answers, as far as its file says so."""
    return from_json(dict[str, str], str(dataset.attrs.get("asks", "{}")))


def asked_by(curve: EntropyCurve) -> str:
    """Which question a curve of a file answers: only that of one class against all has a floor."""
    return ASKS["classes" if MEAN_FLOOR not in curve.metadata else "unconditional"]


def compared(dataset: xr.Dataset) -> list[str]:
    """The sources that differ from the reference and answer the same question."""
    reference, asked = str(dataset.attrs["reference"]), asks_of(dataset)
    others = [str(source) for source in dataset.source.values if source != reference]
    return [o for o in others if reference and asked.get(o) == asked.get(reference)]


def saved_line(curve: EntropyCurve) -> Line:
    """The line of a curve from a file; its landmarks have no error, unless the curve is exact."""
    curve = curve.in_units("nats")
    return Line(curve, read_off([curve], _landmarks))


def _landmarks(curve: EntropyCurve) -> np.ndarray:
    return landmarks(curve, SHARE)


def dataset_of(
    lines: Mapping[str, Sequence[Line]], levels: Sequence[str], reference: str | None, **attributes: Any
) -> xr.Dataset:
    """The Dataset of a comparison, from which the picture is drawn and the table printed.

    Args:
        lines: for every source one line for each level.
        levels: names of the levels.
        reference: the source that the others are compared with, or None.
        attributes: facts to keep, as JSON.

    Returns:
        Dataset with dimensions source, level, point (NaN where a curve is shorter than the longest), landmark. Of
        curves that keep a floor, `floor` (source, level) holds it.
    """
    points = max(len(line.curve.t) for levels in lines.values() for line in levels)
    data: dict[str, Any] = {
        name: (
            ("source", "level", "point"),
            _table(lines, lambda line, name=name: _padded(getattr(line.curve, name), points)),
        )
        for name in _FIELDS
    }
    data["route"] = (
        ("source", "level"),
        _table(lines, lambda line: str(line.curve.metadata.get("route", ""))),
    )
    data["prior_entropy"] = (("source", "level"), _table(lines, lambda line: line.curve.prior_entropy))
    floor = _table(lines, lambda line: float(line.curve.metadata.get(MEAN_FLOOR, np.nan)))
    if np.isfinite(floor).any():
        data["floor"] = (("source", "level"), floor)
    for name, part in zip(PLACE_FIELDS, Reading._fields, strict=True):
        data[name] = (
            ("source", "level", "landmark"),
            _table(lines, lambda line, part=part: getattr(line.marks, part)),
        )
    coords = {"source": list(lines), "level": list(levels), "landmark": list(LANDMARKS)}
    kept = {name: json.dumps(value, default=str) for name, value in attributes.items()}
    dataset = xr.Dataset(data, coords, {"format": FORMAT, "versions": json.dumps(versions()), **kept})
    dataset = dataset.assign_attrs(reference=reference or "")
    return attach(dataset, numbers(dataset))


def _table(lines: Mapping[str, Sequence[Line]], of: Any) -> np.ndarray:
    return np.array([[of(line) for line in levels] for levels in lines.values()])


def _padded(values: np.ndarray | None, points: int) -> np.ndarray:
    blank = np.full(points, np.nan)
    if values is not None:
        blank[: len(values)] = values
    return blank


def curve_of(dataset: xr.Dataset, source: str, level: str) -> EntropyCurve:
    """One curve of a comparison."""
    part = dataset.sel(source=source, level=level)
    known = np.isfinite(part.log_snr.values)
    fields: dict[str, Any] = {name: part[name].values[known] for name in _FIELDS}
    if not np.isfinite(fields["cross_entropy"]).any():
        fields["cross_entropy"] = fields["cross_entropy_stderr"] = None
    floor = float(part.floor) if "floor" in part else np.nan
    metadata = {MEAN_FLOOR: floor} if np.isfinite(floor) else {}
    return EntropyCurve(**fields, prior_entropy=float(part.prior_entropy), metadata=metadata)


def end_of(curve: EntropyCurve) -> tuple[float, float]:
    """The entropy at the least noise and its standard error."""
    last = int(np.argmax(curve.log_snr))
    return float(curve.entropy[last]), float(curve.entropy_stderr[last])


# ------------------------------------------------------------------------------------------------ differences


def difference(curve: EntropyCurve, reference: EntropyCurve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log(σ/α), H - H_reference and its standard error at the curve's points that the reference's range holds.

    Between the reference's points its entropy and standard error are interpolated; errors count as independent.
    """
    order = np.argsort(-reference.log_snr)
    noise, at = -0.5 * reference.log_snr[order], -0.5 * curve.log_snr
    inside = (at >= noise[0] - 1e-9) & (at <= noise[-1] + 1e-9)
    entropy = np.interp(at[inside], noise, reference.entropy[order])
    stderr = np.interp(at[inside], noise, reference.entropy_stderr[order])
    return at[inside], curve.entropy[inside] - entropy, np.hypot(curve.entropy_stderr[inside], stderr)


def largest(curve: EntropyCurve, reference: EntropyCurve) -> tuple[float, float, float]:
    """Where |H - H_reference| is largest: log(σ/α), the difference there and its standard error; NaN if nowhere."""
    noise, gap, stderr = difference(curve, reference)
    if not len(gap):
        return (np.nan, np.nan, np.nan)
    at = int(np.argmax(np.abs(gap)))
    return float(noise[at]), float(gap[at]), float(stderr[at])


def shift(dataset: xr.Dataset, source: str, level: str, mark: str) -> tuple[float, float]:
    """By how much log(σ/α) of a mark exceeds the reference's, and its standard error."""
    at = {"level": level, "landmark": mark}
    value, error = (dataset[name].sel(at) for name in ("place", "place_stderr"))
    other = dataset.attrs["reference"]
    return float(value.sel(source=source) - value.sel(source=other)), float(
        np.hypot(error.sel(source=source), error.sel(source=other))
    )


def numbers(dataset: xr.Dataset) -> list[Number]:
    """The numbers of a comparison: places of every source, and differences from the reference."""
    listed = []
    for level in map(str, dataset.level.values):
        for source in map(str, dataset.source.values):
            where = f"{level}, {source}"
            for mark in LANDMARKS:
                at = {"source": source, "level": level, "landmark": mark}
                sigma = float(np.exp(dataset.place.sel(at)))
                listed.append(
                    number(f"{where}: σ/α at {mark}", sigma, sigma * float(dataset.place_stderr.sel(at)))
                )
            listed += _floor(dataset, source, level, where) + _differences(dataset, source, level, where)
    return listed


def _floor(dataset: xr.Dataset, source: str, level: str, where: str) -> list[Number]:
    """The entropy at the least noise, beside the floor that exact ratios keep."""
    curve = curve_of(dataset, source, level)
    if MEAN_FLOOR not in curve.metadata:
        return []
    end = number(f"{where}: entropy at the least noise (nat)", *end_of(curve))
    return [end, number(f"{where}: floor (nat)", curve.metadata[MEAN_FLOOR], 0.0)]


def _differences(dataset: xr.Dataset, source: str, level: str, where: str) -> list[Number]:
    reference = dataset.attrs["reference"]
    if source not in compared(dataset):
        return []
    _, gap, stderr = largest(curve_of(dataset, source, level), curve_of(dataset, reference, level))
    shifts = [
        number(f"{where}: shift of {mark} in log(σ/α)", *shift(dataset, source, level, mark))
        for mark in ("half", "low", "high")
    ]
    return [number(f"{where}: largest H - H[{reference}] (nat)", gap, stderr), *shifts]
