"""Lines of a saved result: every entropy curve that a Dataset holds, and every other quantity along a dimension."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from gmm.curve import EntropyCurve
from gmm.schema import printable

# A larger result is thinned, evenly: curves, lines of another quantity, points of a line.
MOST_CURVES = 200
MOST_LINES = 60
MOST_POINTS = 400
_MARK = "log_snr"
# What every curve has, then what some have.
_NEEDED = ("t", "log_snr", "entropy", "entropy_stderr", "rate", "rate_stderr")
_MORE = (
    "log_snr_slope",
    "clone_agreement",
    "clone_agreement_stderr",
    "cross_entropy",
    "cross_entropy_stderr",
)
_OF_CURVES = (*_NEEDED, *_MORE, "sigma", "prior_entropy")


class NamedCurve(NamedTuple):
    """A curve in nats, its name, and the family that it belongs to ("" where a result has one family)."""

    name: str
    family: str
    curve: EntropyCurve


class Line(NamedTuple):
    """(N,) values of a quantity, their standard errors (NaN where there are none), and where they stand."""

    name: str
    x: np.ndarray
    y: np.ndarray
    stderr: np.ndarray


class Series(NamedTuple):
    """A quantity along one dimension.

    Attributes:
        name: of the quantity.
        along: what stands on the horizontal axis.
        ticks: names of the positions 0, 1, ...; empty where the positions are numbers.
        lines: one for each combination of the other dimensions.
    """

    name: str
    along: str
    ticks: list[str]
    lines: list[Line]


def curves_of(dataset: xr.Dataset) -> list[NamedCurve]:
    """The curves of a Dataset, in the order of its dimensions; of each family at most `MOST_CURVES`, evenly chosen.

    Every family counts whose variables are named as `paper_figures.formats.curves.stack` names them, also within
    sweeps and comparisons. Points without a noise level, which fill the end of shorter curves, are left out.
    """
    found = []
    for prefix in _prefixes(dataset):
        for part, name in _parts(dataset, dataset[prefix + _MARK].dims[:-1], MOST_CURVES):
            curve = _curve(part, prefix)
            if curve is not None:
                found.append(NamedCurve(name or _words(prefix) or "entropy", _words(prefix), curve))
    return found


def series_of(dataset: xr.Dataset) -> list[Series]:
    """Every quantity of a Dataset that belongs to none of its curves; standard errors are those of NAME_stderr."""
    taken = {prefix + name for prefix in _prefixes(dataset) for name in _OF_CURVES}
    names = [
        str(name)
        for name, values in dataset.data_vars.items()
        if values.ndim
        and values.dtype.kind in "iuf"
        and name not in taken
        and not str(name).endswith("_stderr")
    ]
    found = [_series(dataset, name) for name in names]
    return [series for series in found if series.lines]


def _prefixes(dataset: xr.Dataset) -> list[str]:
    """What stands before the names of each family's variables."""
    prefixes = [str(n).removesuffix(_MARK) for n in dataset.variables if str(n).endswith(_MARK)]
    return [p for p in prefixes if all(p + name in dataset.variables for name in _NEEDED)]


def _words(prefix: str) -> str:
    return printable(prefix.rstrip("_").replace("_", " "))


def left_out(dataset: xr.Dataset) -> int:
    """How many curves of a Dataset `curves_of` does not return because there are too many."""
    counts = [math.prod(dataset[prefix + _MARK].shape[:-1]) for prefix in _prefixes(dataset)]
    return sum(max(count - MOST_CURVES, 0) for count in counts)


def _parts(dataset: xr.Dataset, dims: tuple, most: int) -> Iterator[tuple[xr.Dataset, str]]:
    """The Dataset at combinations of some dimensions, at most so many, named by the coordinates that vary."""
    sizes = tuple(dataset.sizes[dim] for dim in dims)
    for flat in _thinned(np.arange(math.prod(sizes)), most):
        index = dict(zip(dims, map(int, np.unravel_index(flat, sizes)), strict=True)) if dims else {}
        varying = [dim for dim in dims if dataset.sizes[dim] > 1] or list(dims)
        yield dataset.isel(index), ", ".join(_label(dataset, dim, index[dim]) for dim in varying)


def _label(dataset: xr.Dataset, dim: Any, index: int) -> str:
    """A coordinate's value: a text alone, a number with the name of its dimension."""
    value = dataset[dim].values[index]
    return f"{_words(str(dim))} {value:g}" if _is_number(value) else printable(str(value))


def _is_number(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "iuf"


def _curve(part: xr.Dataset, prefix: str) -> EntropyCurve | None:
    """One curve in nats; None where it has no points."""
    fields: dict[str, Any] = {
        name: np.asarray(part[prefix + name].values, float)
        for name in (*_NEEDED, *_MORE)
        if prefix + name in part.variables
    }
    if any(values.ndim != 1 for values in fields.values()):
        return None
    kept = np.flatnonzero(np.isfinite(fields["log_snr"]) & np.isfinite(fields["t"]))
    if not len(kept):
        return None
    kept = kept[np.argsort(fields["log_snr"][kept], kind="stable")]
    fields = {name: values[_thinned(kept, MOST_POINTS)] for name, values in fields.items()}
    units = str(part.attrs.get("units", "nats"))
    curve = EntropyCurve(**fields, prior_entropy=_prior_entropy(part, prefix), units=units)
    return curve.in_units("nats")


def _prior_entropy(part: xr.Dataset, prefix: str) -> float:
    """H[Z]: stored, or that of equal classes where the number of classes is known; NaN elsewhere."""
    if prefix + "prior_entropy" in part.variables:
        return float(part[prefix + "prior_entropy"])
    classes = part.coords.get("classes")
    return math.log(float(classes)) if classes is not None and _is_number(classes.values) else math.nan


def _thinned(values: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the values, the first and the last among them, evenly chosen."""
    chosen = np.unique(np.linspace(0, len(values) - 1, min(len(values), most)).round().astype(int))
    return values[chosen]


def _series(dataset: xr.Dataset, name: str) -> Series:
    last = _last(dataset, name)
    others = tuple(dim for dim in dataset[name].dims if dim != last)
    along, ticks = _along(dataset, last)
    lines = []
    for part, label in _parts(dataset, others, MOST_LINES):
        y = np.asarray(part[name].values, float)
        stderr = part.get(f"{name}_stderr")
        errors = np.full_like(y, np.nan) if stderr is None else np.asarray(stderr.values, float)
        x = np.arange(len(y), dtype=float) if ticks else _positions(dataset, part, last)
        if not errors.shape == y.shape == x.shape:
            continue
        kept = _thinned(np.flatnonzero(np.isfinite(x) & np.isfinite(y)), MOST_POINTS)
        if len(kept):
            lines.append(Line(label or _words(name), x[kept], y[kept], errors[kept]))
    return Series(_words(name), along, ticks, lines)


def _last(dataset: xr.Dataset, name: str) -> str:
    """The dimension along which a quantity is drawn: its last, or the points of curves where that has no coordinate."""
    dims = [str(dim) for dim in dataset[name].dims]
    along = [dim for dim in dims if _family_of(dataset, dim) is not None]
    return along[0] if along and dims[-1] not in dataset.coords else dims[-1]


def _along(dataset: xr.Dataset, last: str) -> tuple[str, list[str]]:
    """What stands on the horizontal axis of a dimension, and the names of its places where they have names."""
    if last in dataset.coords:
        values = dataset[last].values
        ticks = [] if _is_number(values) else [printable(str(value)) for value in values]
        return _words(last), ticks
    return ("noise level σ/α" if _family_of(dataset, last) is not None else _words(last)), []


def _family_of(dataset: xr.Dataset, dim: str) -> str | None:
    """The prefix of the family whose points a dimension counts."""
    return next((p for p in _prefixes(dataset) if dataset[p + _MARK].dims[-1] == dim), None)


def _positions(dataset: xr.Dataset, part: xr.Dataset, dim: Any) -> np.ndarray:
    """(N,) positions along a dimension: its coordinate, the noise levels of the curves that it counts, or 0, 1, ..."""
    if dim in dataset.coords:
        return np.asarray(dataset[dim].values, float)
    prefix = _family_of(dataset, str(dim))
    if prefix is None:
        return np.arange(dataset.sizes[dim], dtype=float)
    level = np.asarray(part[prefix + _MARK].values, float)
    # Curves of one family may stand at noise levels of their own; then a quantity of all of them has none.
    rows = level.reshape(-1, level.shape[-1])
    shared = bool(np.array_equal(rows, np.broadcast_to(rows[0], rows.shape), equal_nan=True))
    return np.exp(-0.5 * rows[0]) if shared else np.full(level.shape[-1], np.nan)
