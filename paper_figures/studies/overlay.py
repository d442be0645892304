"""Saved curves laid over one another: entropy curves, and the curves of comparisons."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from gmm.curve import FORMAT as CURVE_FORMAT
from gmm.curve import EntropyCurve, load_dataset
from gmm.pooling import Reading
from paper_figures.studies import comparison
from paper_figures.studies.comparison import Line, curve_of, saved_line


def overlay(files: Sequence[Path]) -> xr.Dataset:
    """A comparison of saved curves; the first one is the reference.

    Args:
        files: entropy curves, or comparisons, all of whose curves join in.

    Raises:
        ValueError: when a file cannot be read, holds neither, or comparisons answer different questions.
    """
    lines: dict[str, list[Line]] = {}
    levels: list[str] = []
    for path in files:
        names, found = _lines(path, prefix=len(files) > 1)
        levels = levels or names
        if len(names) != len(levels):
            raise ValueError(
                f"files must hold curves of as many levels: {files[0]} has {len(levels)}, {path} {len(names)}"
            )
        for name, of_levels in found.items():
            lines[_unused(name, path, lines)] = of_levels
    return comparison.dataset_of(lines, levels, next(iter(lines)), files=[path.name for path in files])


def _lines(path: Path, *, prefix: bool) -> tuple[list[str], dict[str, list[Line]]]:
    """Names of a file's levels, and its lines by name; those of a comparison start with the file's with `prefix`."""
    dataset = load_dataset(path)
    kind = dataset.attrs.get("format")
    if kind == CURVE_FORMAT:
        return ["entropy"], {path.stem: [saved_line(EntropyCurve.from_dataset(dataset))]}
    if kind != comparison.FORMAT:
        raise ValueError(f"files must hold {CURVE_FORMAT} or {comparison.FORMAT}; {path} has format {kind!r}")
    levels = [str(level) for level in dataset.level.values]
    return levels, {
        f"{path.stem}: {source}" if prefix else source: [_line(dataset, source, level) for level in levels]
        for source in map(str, dataset.source.values)
    }


def _unused(name: str, path: Path, taken: dict[str, list[Line]]) -> str:
    return name if name not in taken else f"{path.parent / name} ({len(taken) + 1})"


def _line(dataset: xr.Dataset, source: str, level: str) -> Line:
    part = dataset.sel(source=source, level=level)
    marks = Reading(*(np.asarray(part[name].values) for name in comparison.PLACE_FIELDS))
    return Line(curve_of(dataset, source, level), marks)
