"""Whether the noise window in which classes are decided predicts the best interval of guidance."""

import dataclasses

import numpy as np
import xarray as xr

import gmm
from gmm.curve import EntropyCurve
from paper_figures.formats.numbers import Number, number
from paper_figures.studies.comparison import LANDMARKS, SHARE, curve_of
from paper_figures.studies.sources import ONLINE

ENDS = ("low", "median", "high")


def mean_curve(curves: xr.Dataset) -> EntropyCurve:
    """The mean over classes of "this class or not"; its errors are those of independent curves."""
    each = [curve_of(curves, ONLINE, str(name)) for name in curves.level.values]
    mean = lambda field: np.mean([getattr(curve, field) for curve in each], axis=0)
    error = lambda field: np.sqrt(np.sum([getattr(curve, field) ** 2 for curve in each], axis=0)) / len(each)
    fields = ("entropy", "rate", "clone_agreement")
    known = {name: mean(name) for name in fields} | {
        f"{name}_stderr": error(f"{name}_stderr") for name in fields
    }
    return dataclasses.replace(each[0], **known)


def windows(curves: xr.Dataset) -> xr.Dataset:
    """Windows in σ/α: of every class (level), and of the mean curve with standard errors; NaN where there is none."""
    ends = {f"class_{name}": ("level", np.exp(_places(curves, name))) for name in ENDS}
    data = xr.Dataset(ends, {"level": curves.level.values})
    try:
        found = gmm.window(mean_curve(curves), SHARE)
    except ValueError:
        return data.assign({f"window_{name}{kind}": np.nan for name in ENDS for kind in ("", "_stderr")})
    for name in ENDS:
        sigma = float(np.exp(getattr(found, name)))
        data[f"window_{name}"] = sigma
        data[f"window_{name}_stderr"] = sigma * float(getattr(found, f"{name}_stderr"))
    return data


def _places(curves: xr.Dataset, name: str) -> np.ndarray:
    return curves.place.isel(source=0, landmark=LANDMARKS.index(name)).values


def overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Shared part of two intervals in log noise: the length of their intersection over that of their union."""
    (a, b), (c, d) = np.log(one), np.log(other)
    return float(max(min(b, d) - max(a, c), 0.0) / (max(b, d) - min(a, c)))


def numbers(dataset: xr.Dataset) -> list[Number]:
    """The window, every schedule's distance, and whether the window predicts the best interval."""
    found = []
    for end in ("low", "high"):
        value, error = float(dataset[f"window_{end}"]), float(dataset[f"window_{end}_stderr"])
        found.append(number(f"measured window: σ/α at its {end}", value, error))
    for judge in map(str, dataset.judge.values):
        part = dataset.sel(judge=judge, measure="frechet")
        for name in map(str, dataset.schedule.values):
            one = part.sel(schedule=name)
            found.append(number(f"{judge}, {name}", float(one.value), float(one.stderr)))
        found += _prediction(part, judge)
    return found


def _prediction(part: xr.Dataset, judge: str) -> list[Number]:
    """How the interval nearest to the window compares with the best one; nothing without intervals or window.

    Nearest is the one that overlaps most; of several weights, or equal overlaps, that of the least distance.
    """
    window = float(part.window_low), float(part.window_high)
    limited = part.isel(schedule=np.flatnonzero(np.isfinite(part.high.values) & (part.low.values > 0)))
    if not limited.sizes["schedule"] or not np.isfinite(window).all():
        return []
    ends = zip(limited.low.values, limited.high.values, strict=True)
    shares, values = np.array([overlap(one, window) for one in ends]), limited.value.values
    best, nearest = int(np.argmin(values)), int(np.lexsort((values, -shares))[0])
    names = list(map(str, limited.schedule.values))
    error = 0.0 if best == nearest else float(np.hypot(*limited.stderr.values[[best, nearest]]))
    return [
        number(f"{judge}: overlap of the window with the best interval, {names[best]}", float(shares[best])),
        number(
            f"{judge}: {names[nearest]}, nearest to the window, less the best",
            float(values[nearest] - values[best]),
            error,
        ),
    ]
