"""Numbers with their standard errors: how they are kept in the data of a result, and shown."""

import dataclasses
import json
import math
from collections.abc import Iterable
from typing import SupportsFloat

import numpy as np
import xarray as xr
from jaxtyping import ArrayLike, Float

ATTRIBUTE = "numbers"
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Number:
    """One measured number.

    Attributes:
        label: what it is, with its unit.
        value: the number.
        stderr: its standard error; None where it is computed without sampling or fitting, NaN where it is unknown.
        expected: what theory or a publication says it is, or None.
    """

    label: str
    value: float
    stderr: float | None = None
    expected: float | None = None

    @property
    def shown(self) -> str:
        """The value with its standard error, rounded to what it carries."""
        return with_error(self.value, self.stderr)

    @property
    def short(self) -> str:
        """Value and error in one word, as 0.5002(3): the error in units of the last digit, no finer than 1e-4.

        An unknown error is shown as 0.5002(?).
        """
        stderr = self.stderr or 0.0
        if not math.isfinite(stderr):
            return f"{self.value:.4f}(?)"
        digits = min(4, max(0, -math.floor(math.log10(stderr)))) if stderr > 0 else 4
        return f"{self.value:.{digits}f}({math.ceil(stderr * 10**digits)})"

    @property
    def shown_expected(self) -> str:
        """The expectation, or an empty string."""
        return "" if self.expected is None else f"{self.expected:.6g}"


def with_error(value: float, stderr: float | None) -> str:
    """A value with its standard error, rounded to what it carries; "none" for a value of NaN.

    An error of None is not shown: the value was computed without sampling. An unknown error (NaN) is shown as "?".
    """
    if math.isnan(value):
        return "none"
    if stderr is None:
        return f"{value:.6g}"
    if not math.isfinite(stderr):
        return f"{value:.4g} ± ?"
    if stderr <= _ROUNDING * max(1.0, abs(value)):
        return f"{value:.6g} ± <{_ROUNDING:.0e}"
    digits = max(0, 1 - math.floor(math.log10(abs(stderr))))
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"


def percent(share: float, stderr: float) -> str:
    """A share with its standard error, in per cent; "?" for an unknown error."""
    return f"{share:.1%} ± {stderr:.1%}" if math.isfinite(stderr) else f"{share:.1%} ± ?"


def up_to(stderrs: Float[ArrayLike, "..."], unit: str) -> str:
    """The largest of some standard errors in words, and how many are unknown."""
    errors = np.asarray(stderrs)
    unknown = int(np.isnan(errors).sum())
    largest = float(np.nanmax(errors)) if unknown < errors.size else math.nan
    if math.isnan(largest):
        return "unknown"
    known = f"{largest:.2g} {unit}" if largest > 0 else "none"
    return f"{known}; unknown at {unknown} of {errors.size} points" if unknown else known


def number(
    label: str,
    value: SupportsFloat,
    stderr: SupportsFloat | None = None,
    expected: SupportsFloat | None = None,
) -> Number:
    """A `Number` from anything that converts to floats."""
    rest = (None if extra is None else float(extra) for extra in (stderr, expected))
    return Number(label, float(value), *rest)


def attach(dataset: xr.Dataset, numbers: Iterable[Number]) -> xr.Dataset:
    """The dataset with its numbers among its attributes."""
    return dataset.assign_attrs({ATTRIBUTE: json.dumps([dataclasses.asdict(n) for n in numbers])})


def numbers_of(dataset: xr.Dataset) -> list[Number]:
    """The numbers kept in a dataset."""
    return [Number(**fields) for fields in json.loads(dataset.attrs.get(ATTRIBUTE, "[]"))]
