"""The table of a comparison."""

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from paper_figures.drawing.view import View
from paper_figures.formats.numbers import with_error
from paper_figures.studies.comparison import asks_of, curve_of, largest, shift


def print_table(dataset: xr.Dataset, view: View) -> None:
    """Places of every source and differences from the reference, with their uncertainty."""
    reference = str(dataset.attrs["reference"])
    sources = [str(source) for source in dataset.source.values]
    asked = asks_of(dataset)
    for level in map(str, dataset.level.values):
        prior = float(view.information(dataset.prior_entropy.sel(level=level)[0]))
        places = _table(
            f"{level}: σ/α, of a prior entropy of {prior:.4g} {view.unit}",
            *("half", "peak", "window from", "to"),
            *(["question"] if asked else []),
        )
        for source in sources:
            places.add_row(
                source, *_places(dataset, source, level), *([asked.get(source, "")] if asked else [])
            )
        Console().print(places)
        if not reference or len(sources) < 2:
            continue
        gaps = _table(
            f"{level}: difference from {reference}",
            f"largest ΔH ({view.unit})",
            "at σ/α",
            "Δ log σ/α at half",
        )
        for source in sources:
            if source != reference:
                gaps.add_row(source, *_gaps(dataset, source, level, reference, view))
        Console().print(gaps)


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
