"""Saved curves laid over one another: of any source, from any of the project's files that hold curves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from gmm.curve import FORMAT as CURVE_FORMAT
from gmm.curve import EntropyCurve, load_dataset
from gmm.pooling import Reading
from paper_figures.studies import comparison as comparing
from paper_figures.studies.comparison import Line, curve_of, saved_line


def overlay(files: Sequence[Path]) -> xr.Dataset:
    """A comparison of saved curves; the first one is the reference.

    Args:
        files: entropy curves, or comparisons, all of whose curves join in.

    Raises:
        ValueError: when a file cannot be read, holds neither, or comparisons answer different questions.
    """
    lines: dict[str, list[Line]] = {}
    levels: list[str] | None = None
    for path in files:
        dataset = load_dataset(path)
        kind = dataset.attrs.get("format")
        if kind == CURVE_FORMAT:
            found = {path.stem: [saved_line(EntropyCurve.from_dataset(dataset))]}
            own = ["entropy"]
        elif kind == comparing.FORMAT:
            own = [str(level) for level in dataset.level.values]
            found = {
                f"{path.stem}: {source}" if len(files) > 1 else str(source): [
                    _line(dataset, str(source), level) for level in own
                ]
                for source in dataset.source.values
            }
        else:
            raise ValueError(
                f"FILE must hold {CURVE_FORMAT} or {comparing.FORMAT}; {path} has format {kind!r}"
            )
        if levels is not None and len(own) != len(levels):
            raise ValueError(
                f"files must hold curves of as many levels: {files[0]} has {len(levels)}, {path} {len(own)}"
            )
        levels = own if levels is None else levels
        for name, each in found.items():
            lines[_fresh(name, path, lines)] = each
    return comparing.dataset_of(lines, levels or [], next(iter(lines)), files=[str(path) for path in files])


def _fresh(name: str, path: Path, taken: dict[str, list[Line]]) -> str:
    return name if name not in taken else f"{path.parent / name} ({len(taken) + 1})"


def _line(dataset: xr.Dataset, source: str, level: str) -> Line:
    part = dataset.sel(source=source, level=level)
    marks = Reading(*(np.asarray(part[name].values) for name in comparing.PLACE_FIELDS))
    return Line(curve_of(dataset, source, level), marks)
