"""Curves from independent runs of one measurement: their mean, and numbers read off it with their errors.

A number read off a curve (a half entropy, the end of a window) is not a mean, and the points of a curve share their
noise. Its error is therefore estimated by the bootstrap (Efron 1979): runs are drawn again with replacement, and the
number is read off the mean curve of each draw.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import norm
from scipy.stats import t as student

from gmm.checks import check_count
from gmm.curve import EntropyCurve
from gmm.estimate import CARRYING, Estimate

DRAWS = 400
CONFIDENCE = 0.95
# Fewer runs may agree by chance.
_RUNS = 8
_MEANS = ("entropy", "rate", "per_cell", "clone_agreement", "cross_entropy")


class Reading(NamedTuple):
    """Numbers read off a pooled curve, (k,) each.

    Attributes:
        value: off the pooled curve.
        stderr: by drawing the runs again; NaN where there is only one run, or more than a tenth of the draws give no
            number.
        low, high: ends of the 95% interval, by Student's t with one degree of freedom less than there are runs.
    """

    value: Float[np.ndarray, " k"]
    stderr: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]


def pool(runs: Sequence[EntropyCurve]) -> EntropyCurve:
    """The mean of curves from independent runs of equal size at the same points.

    Standard errors are the runs' own, added in squares. Where a run's own is unknown, it is that of the spread over
    runs; unknown (NaN) where this is large, because what few draws carry is mostly missing, or where runs are few.

    Args:
        runs: one or more curves, equal in points, prior and units. Facts are those of the first.

    Raises:
        ValueError: when there is no curve, or their points, priors or units differ.
    """
    if not runs:
        raise ValueError("runs must hold at least one curve")
    first = runs[0]
    for run in runs[1:]:
        alike = run.t.shape == first.t.shape and np.array_equal(run.log_snr, first.log_snr)
        if not alike or run.units != first.units or not np.isclose(run.prior_entropy, first.prior_entropy):
            raise ValueError("runs must be curves of one measurement: the same points, prior and units")
    if len(runs) == 1:
        return first
    fields: dict[str, Any] = {}
    for name in _MEANS:
        values = _stacked(runs, name)
        if values is not None:
            fields[name] = values.mean(axis=0)
            run_errors = _stacked(runs, f"{name}_stderr")
            spread = _spread_error(1 - values if name == "clone_agreement" else values)
            fields[f"{name}_stderr"] = spread if run_errors is None else _added(run_errors, spread)
    fields["surprise_variance"] = np.mean([run.surprise_variance for run in runs], axis=0)
    return dataclasses.replace(first, **fields, metadata={**first.metadata, "runs": len(runs)})


def from_estimate(found: Estimate) -> Reading:
    """Numbers whose standard errors are those of a normal law, with their 95% intervals."""
    half = norm.ppf(0.5 + CONFIDENCE / 2) * found.stderr
    return Reading(found.value, found.stderr, found.value - half, found.value + half)


def read_off(
    runs: Sequence[EntropyCurve],
    statistic: Callable[[EntropyCurve], Float[np.ndarray, " k"]],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Reading:
    """Numbers read off the pooled curve of some runs, with their uncertainty.

    Args:
        runs: as in `pool`.
        statistic: curve -> (k,) numbers, NaN where the curve does not determine them.
        seed: seed of the draws.
        draws: number of draws.
    """
    check_count("draws", draws, 2)
    value = np.asarray(statistic(pool(runs)), float)
    count = len(runs)
    unknown = np.full_like(value, np.nan)
    if _exact(runs[0]):
        return Reading(value, np.zeros_like(value), value, value)
    if count < 2:
        return Reading(value, unknown, unknown, unknown)
    rng = np.random.default_rng(seed)
    drawn = np.stack([statistic(_drawn(runs, rng.integers(count, size=count))) for _ in range(draws)])
    has_value = np.isfinite(drawn)
    enough = has_value.sum(axis=0) > 1
    spread = np.sqrt(np.nanvar(np.where(enough, drawn, 0.0), axis=0, ddof=1))
    # The variance of n draws with replacement is (n-1)/n of that of independent runs.
    stderr = np.where(has_value.mean(axis=0) >= 0.9, spread * np.sqrt(count / (count - 1)), np.nan)
    half = student.ppf(0.5 + CONFIDENCE / 2, count - 1) * stderr
    return Reading(value, stderr, value - half, value + half)


def _drawn(runs: Sequence[EntropyCurve], chosen: np.ndarray) -> EntropyCurve:
    """The mean of the chosen runs, with the fields that a statistic may use."""
    first = runs[0]
    means = {name: np.mean([getattr(runs[i], name) for i in chosen], axis=0) for name in ("entropy", "rate")}
    return dataclasses.replace(first, **means, entropy_stderr=first.entropy_stderr / np.sqrt(len(chosen)))


def _exact(run: EntropyCurve) -> bool:
    return bool(np.all(run.entropy_stderr == 0))


def _stacked(runs: Sequence[EntropyCurve], name: str) -> np.ndarray | None:
    values = [getattr(run, name) for run in runs]
    return None if any(value is None for value in values) else np.stack(values)


def _added(run_errors: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    added = np.sqrt(np.sum(run_errors**2, axis=0)) / len(run_errors)
    return np.where(np.isfinite(added), added, fallback)


def _spread_error(values: np.ndarray) -> np.ndarray:
    """Standard errors from the spread over runs (first axis) of numbers >= 0; NaN where few of them carry the mean.

    `carrying` of all draws together is the square of the mean over its standard error, up to what few runs leave open.
    """
    count, mean = len(values), values.mean(axis=0)
    spread = values.std(axis=0, ddof=1) / np.sqrt(count)
    return np.where((count >= _RUNS) & (CARRYING * spread**2 <= mean**2), spread, np.nan)
