"""Saved curves laid over one another: entropy curves, and the curves of comparisons."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from gmm.curve import FORMAT as CURVE_FORMAT
from gmm.curve import EntropyCurve, load_dataset
from gmm.pooling import Reading
from paper_figures.studies import comparison
from paper_figures.studies.comparison import Line, asked_by, asks_of, curve_of, saved_line


def overlay(files: Sequence[Path]) -> xr.Dataset:
    """A comparison of saved curves; the first one is the reference.

    Args:
        files: entropy curves, or comparisons, all of whose curves join in.

    Raises:
        ValueError: when a file cannot be read, holds neither, or files differ in their number of levels.
    """
    lines: dict[str, list[Line]] = {}
    levels: list[str] = []
    asks: dict[str, str] = {}
    for path in files:
        names, of_file, asked_of_file = _lines(path, prefix=len(files) > 1)
        levels = levels or names
        if len(names) != len(levels):
            raise ValueError(
                f"files must hold curves of as many levels: {files[0]} has {len(levels)}, {path} {len(names)}"
            )
        for name, of_levels in of_file.items():
            unused = _unused(name, path, lines)
            lines[unused], asks[unused] = of_levels, asked_of_file.get(name, asked_by(of_levels[0].curve))
    names = [path.name for path in files]
    return comparison.dataset_of(lines, levels, next(iter(lines)), files=names, asks=asks)


def _lines(path: Path, *, prefix: bool) -> tuple[list[str], dict[str, list[Line]], dict[str, str]]:
    """Names of a file's levels, its lines by name, and which question each answers, as far as the file says so.

    Names of a comparison's lines start with that of the file, with `prefix`.
    """
    dataset = load_dataset(path)
    kind = dataset.attrs.get("format")
    if kind == CURVE_FORMAT:
        return ["entropy"], {path.stem: [saved_line(EntropyCurve.from_dataset(dataset))]}, {}
    if kind != comparison.FORMAT:
        raise ValueError(f"files must hold {CURVE_FORMAT} or {comparison.FORMAT}; {path} has format {kind!r}")
    levels, asked = [str(level) for level in dataset.level.values], asks_of(dataset)
    names = {
        source: f"{path.stem}: {source}" if prefix else source for source in map(str, dataset.source.values)
    }
    lines = {name: [_line(dataset, source, level) for level in levels] for source, name in names.items()}
    return levels, lines, {names[source]: question for source, question in asked.items() if source in names}


def _unused(name: str, path: Path, taken: dict[str, list[Line]]) -> str:
    return name if name not in taken else f"{path.parent / name} ({len(taken) + 1})"


def _line(dataset: xr.Dataset, source: str, level: str) -> Line:
    part = dataset.sel(source=source, level=level)
    marks = Reading(*(np.asarray(part[name].values) for name in comparison.PLACE_FIELDS))
    return Line(curve_of(dataset, source, level), marks)
