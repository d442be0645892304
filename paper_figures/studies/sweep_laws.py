"""How the speciation times of a sweep grow with dimension: slopes with their errors, and their limits."""

import math

import numpy as np
import xarray as xr

from paper_figures.formats.numbers import Number, number
from theory import fit_slope

# Resamplings of the fitted points, and the fewest of them that a line with an error needs; two have a slope.
BOOTSTRAPS, FEWEST = 2000, 4


def flat(dataset: xr.Dataset) -> xr.Dataset:
    """The sweep over process, classes and dim, at the first value of every other axis."""
    others = [name for name in dataset["t_peak"].dims if name not in ("process", "classes", "dim")]
    return dataset.isel(dict.fromkeys(others, 0))


def slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least-squares slope, and its standard error by resampling the points.

    The slope is NaN with fewer than two points, the error with fewer than FEWEST.

    The error is that of points scattered around a line: at small dimensions they lie beside it for a reason.
    """
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(np.unique(x)) < 2:
        return math.nan, math.nan
    if len(x) < FEWEST:
        return float(np.polyfit(x, y, 1)[0]), math.nan
    rng = np.random.default_rng(0)
    slopes = []
    while len(slopes) < BOOTSTRAPS:
        chosen = rng.integers(len(x), size=len(x))
        if len(np.unique(x[chosen])) > 2:
            slopes.append(fit_slope(x[chosen], y[chosen]).value)
    return fit_slope(x, y).value, float(np.std(slopes, ddof=1))


def laws(dataset: xr.Dataset) -> list[Number]:
    """How the time of the fastest decision grows with d: t itself under VP, its logarithm elsewhere."""
    numbers, part = [], flat(dataset)
    for process in part.process.values:
        ours = part.sel(process=process)
        kept = ours.isel(dim=np.flatnonzero(ours.dim.values > 1))
        for i, classes in enumerate(part.classes.values):
            t = kept.t_peak.isel(classes=i).values
            logarithmic = process == "vp"
            words, limit = _law(str(process))
            value, error = slope(np.log(kept.dim.values), t if logarithmic else _logarithm(str(process), t))
            numbers.append(number(f"{process}, K = {classes}: {words}", value, error, limit))
    return numbers


def _law(process: str) -> tuple[str, float | None]:
    """What is fitted against log d, and its limit at large d."""
    if process == "vp":
        return "slope of t_peak against log d", 0.5
    if process == "flow":
        return "exponent of 1 - t_peak in d", -0.5
    return "exponent of t_peak in d", {"edm": 0.5, "ve": 1.0}.get(process)


def _logarithm(process: str, t: np.ndarray) -> np.ndarray:
    return np.log(1 - t) if process == "flow" else np.log(t)
