"""The table of a comparison."""

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from paper_figures.drawing.view import View
from paper_figures.formats.numbers import with_error
from paper_figures.studies.comparison import (
    MEAN_FLOOR,
    asks_of,
    compared,
    curve_of,
    end_of,
    largest,
    shift,
)


def print_table(dataset: xr.Dataset, view: View) -> None:
    """Places of every source and differences from the reference, with their uncertainty."""
    for level in map(str, dataset.level.values):
        Console().print(_all_places(dataset, level, view))
        sources = compared(dataset)
        if not sources:
            continue
        reference = str(dataset.attrs["reference"])
        gaps = _table(
            f"{level}: difference from {reference}",
            f"largest ΔH ({view.unit})",
            "at σ/α",
            "Δ log σ/α at half",
        )
        for source in sources:
            gaps.add_row(source, *_gaps(dataset, source, level, reference, view))
        Console().print(gaps)


def _all_places(dataset: xr.Dataset, level: str, view: View) -> Table:
    """One row for each source; the question that it answers in the heading, or a column where questions differ."""
    asked = asks_of(dataset)
    several = len(set(asked.values())) > 1
    question = "" if several or not asked else f" ({next(iter(asked.values()))})"
    prior = float(view.information(dataset.prior_entropy.sel(level=level)[0]))
    places = _table(
        f"{level}{question}: σ/α, of a prior entropy of {prior:.4g} {view.unit}",
        *("half", "peak", "window from", "to"),
        *([f"end ({view.unit})", "floor"] if "floor" in dataset else []),
        *(["question"] if several else []),
    )
    for source in map(str, dataset.source.values):
        floors = _floor(dataset, source, level, view) if "floor" in dataset else []
        last = [asked.get(source, "")] if several else []
        places.add_row(source, *_places(dataset, source, level), *floors, *last)
    return places


def _floor(dataset: xr.Dataset, source: str, level: str, view: View) -> list[str]:
    """The entropy at the least noise, and the floor below which exact ratios do not fall."""
    curve = curve_of(dataset, source, level)
    end = with_error(*(float(view.information(value)) for value in end_of(curve)))
    floor = curve.metadata.get(MEAN_FLOOR)
    return [end, "" if floor is None else f"{float(view.information(floor)):.4g}"]


def _table(heading: str, *columns: str) -> Table:
    return Table("", *columns, title=heading, title_justify="left", title_style="bold")


def _places(dataset: xr.Dataset, source: str, level: str) -> list[str]:
    part = dataset.sel(source=source, level=level)

    def shown(mark: str) -> str:
        sigma = float(np.exp(part.place.sel(landmark=mark)))
        return with_error(sigma, sigma * float(part.place_stderr.sel(landmark=mark)))

    return [shown(mark) for mark in ("half", "peak", "low", "high")]


def _gaps(dataset: xr.Dataset, source: str, level: str, reference: str, view: View) -> list[str]:
    at, gap, stderr = largest(curve_of(dataset, source, level), curve_of(dataset, reference, level))
    gap, stderr = (float(view.information(value)) for value in (gap, stderr))
    moved = shift(dataset, source, level, "half")
    return [with_error(gap, stderr), f"{np.exp(at):.3g}", with_error(*moved)]
