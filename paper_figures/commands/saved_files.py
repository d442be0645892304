"""The facts, the picture and the table of a saved result, by the format that its file names."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from rich.table import Table

from gmm import curve as gmm_curve
from gmm import guidance_specs, window_file
from gmm.curve import EntropyCurve, load_dataset
from gmm.files import write_aside
from gmm.guidance import Guidance
from gmm.landmarks import fastest
from gmm.outside_files import read_outside
from gmm.schema import from_json
from paper_figures.commands import comparison_table, training_words, window_words
from paper_figures.drawing import comparison as comparison_picture
from paper_figures.drawing import curve as curve_picture
from paper_figures.drawing import data as data_picture
from paper_figures.drawing import guidance as guidance_picture
from paper_figures.drawing import sweep as sweep_picture
from paper_figures.drawing import training as training_picture
from paper_figures.drawing import window as window_picture
from paper_figures.drawing.style import PICTURES, View, save_pictures
from paper_figures.figures import job
from paper_figures.figures.registry import FIGURES, Figure
from paper_figures.formats.curves import WINDOW_SHARE, window_or_none
from paper_figures.formats.numbers import Number, numbers_of, up_to, with_error
from paper_figures.pages.view import write_view
from paper_figures.studies import comparison, data, sweep, sweep_cell, sweep_laws, tables, training
from paper_figures.terminal import cell, console

if TYPE_CHECKING:
    import pandas

SUFFIXES = (".png", ".pdf", ".svg")
TABLES = (".csv",)
# A sweep of more cells is listed in a table's file alone.
MOST_CELLS = 60


def show_file(path: Path, view: View, out: Path | None = None, *, quiet: bool = False) -> Path:
    """Print the facts of a result, and draw it or write its table.

    Args:
        path: NetCDF file of a curve, a figure, a sweep, a data set, a comparison or a training; or JSON file of a
            window or of guidance schedules.
        view: axis and units.
        out: where to draw, or the table's file; None means a picture beside `path`, with the chosen axis and units in
            the name.
        quiet: whether to print nothing.

    Returns:
        Where the picture or table is.

    Raises:
        ValueError: when the file is none of these, or `out` has another suffix.
    """
    target = _default_target(path, view) if out is None else out
    if target.suffix not in (*SUFFIXES, *TABLES):
        raise ValueError(f"out must end in one of {', '.join((*SUFFIXES, *TABLES))}, got {target}")
    shown, result = _read_json(path) if path.suffix == ".json" else _read_dataset(path)
    if not quiet:
        shown.describe(result, view)
    if target.suffix in TABLES:
        with write_aside(target) as aside:
            shown.table(result, view).to_csv(aside, index=False)
    else:
        save_pictures(lambda: shown.draw(result, view), [target])
    return target


def show_page(path: Path, view: View, page: Path) -> Path:
    """Print the facts of a result and write the page that shows its lines.

    Args:
        path: NetCDF file of a curve, a figure, a sweep, a data set, a comparison or a training.
        view: units of the printed facts; on the page both are chosen.
        page: the page's file.

    Raises:
        ValueError: when the file is none of these, or `page` has another suffix.
    """
    if page.suffix != ".html":
        raise ValueError(f"html must end in .html, got {page}")
    if path.suffix == ".json":
        raise ValueError(f"FILE must be NetCDF for a page, got {path}; its picture is drawn without html")
    shown, result = _read_dataset(path)
    shown.describe(result, view)
    is_curve = result.attrs["format"] == gmm_curve.FORMAT
    facts = _curve_facts(EntropyCurve.from_dataset(result), View()) if is_curve else []
    written = write_view(page, result, path.name, facts)
    if written is None:
        raise ValueError(f"FILE must hold a curve or another quantity along a dimension, got none in {path}")
    return written


def _read_dataset(path: Path) -> "tuple[_Shown, xr.Dataset]":
    dataset = load_dataset(path)
    kind = dataset.attrs.get("format")
    if kind not in _SHOWN:
        raise ValueError(f"FILE must hold one of {', '.join(_SHOWN)}; {path} has format {kind!r}")
    shown = _SHOWN[kind]
    missing = [name for name in shown.required if name not in dataset.variables and name not in dataset.attrs]
    if missing:
        raise ValueError(f"{path} is marked {kind} but lacks {', '.join(missing)}")
    return shown, dataset


def _read_json(path: Path) -> "tuple[_Shown, Any]":
    """A window or guidance schedules, whichever the file says it holds."""
    kind = from_json(_JsonFile, read_outside(path, window_file.MAX_BYTES)).format
    if kind == window_file.FORMAT:
        return _WINDOW, window_file.load_window(path)
    if kind == guidance_specs.FORMAT:
        return _SCHEDULES, guidance_specs.load_guidance(path)
    allowed = f"{window_file.FORMAT} or {guidance_specs.FORMAT}"
    raise ValueError(f"FILE must hold {allowed} where it is JSON; {path} has format {kind!r:.60}")


@dataclasses.dataclass(frozen=True)
class _JsonFile:
    """What every JSON file of a result says first."""

    format: str


def draw_beside(path: Path, view: View) -> None:
    """Draw a new result beside its file in every format, print its facts, and say where the pictures lie."""
    for suffix in reversed(PICTURES):
        print(f"drawn: {show_file(path, view, path.with_suffix(suffix), quiet=suffix != PICTURES[0])}")


def _default_target(path: Path, view: View) -> Path:
    chosen = [view.axis] if view.axis else []
    chosen += [view.units] if view.units != View().units else []
    # The command that wrote window.json drew window.png from the curves beside it, which JSON does not hold.
    chosen += ["json"] if path.suffix == ".json" else []
    return path.with_name("-".join([path.stem, *chosen]) + ".png")


def _print(rows: list[tuple[str, str]], heading: str) -> None:
    table = Table("fact", "value", title=heading, title_justify="left")
    for row in rows:
        table.add_row(*map(cell, row))
    console().print(table)


def _describe_curve(dataset: xr.Dataset, view: View) -> None:
    curve = EntropyCurve.from_dataset(dataset).in_units(view.units)
    _print(_curve_facts(curve, view), "entropy curve")


def _draw_saved_curve(dataset: xr.Dataset, view: View) -> Picture:
    return curve_picture.draw(EntropyCurve.from_dataset(dataset).in_units(view.units), view)


def _curve_facts(curve: EntropyCurve, view: View) -> list[tuple[str, str]]:
    """Facts in words: what the curve says, then what it was made from."""
    said = {
        "points": f"{len(curve.t)}, t = {curve.t.min():.4g} .. {curve.t.max():.4g}",
        "noise range, sigma/alpha": f"{curve.sigma.min():.4g} .. {curve.sigma.max():.4g}",
        "prior entropy": f"{curve.prior_entropy:.6g} {view.units}",
        "entropy, least noise": f"{curve.entropy[np.argmax(curve.log_snr)]:.6g} {view.units}",
        "entropy, most noise": f"{curve.entropy[np.argmin(curve.log_snr)]:.6g} {view.units}",
        "largest standard error": _largest_error(curve, view),
        "fastest in its own time": _fastest_fact(curve, "t"),
        "fastest in log noise": _fastest_fact(curve, "log-noise"),
        f"window, central {WINDOW_SHARE:.0%}": _window_fact(curve),
    }
    return [*said.items(), *((str(name), str(value)) for name, value in curve.metadata.items())]


def _largest_error(curve: EntropyCurve, view: View) -> str:
    is_exact = not np.any(curve.entropy_stderr)
    return "none (quadrature)" if is_exact else up_to(curve.entropy_stderr, view.units)


def _fastest_fact(curve: EntropyCurve, per: str) -> str:
    """The place of the largest rate, read off the curve between its points."""
    noise = float(fastest(curve, per).value)
    if math.isnan(noise):
        return "at an end of the curve's noise range"
    order = np.argsort(curve.sigma)
    t = np.interp(noise, np.log(curve.sigma[order]), curve.t[order])
    return f"t = {t:.5g}" if per == "t" else f"sigma/alpha = {math.exp(noise):.5g}"


def _window_fact(curve: EntropyCurve) -> str:
    interval = window_or_none(curve)
    if interval is None:
        return "not covered by the curve's noise range"
    low, middle, high = interval.sigma
    return f"sigma/alpha = {low:.5g} .. {high:.5g}, half of it by {middle:.5g}"


def _figure(dataset: xr.Dataset) -> Figure:
    name = str(dataset.attrs["figure"])
    if name not in FIGURES:
        raise ValueError(f"FILE must hold a figure of this version, got {name!r}: {', '.join(FIGURES)}")
    return FIGURES[name]


def _describe_figure(dataset: xr.Dataset, _: View) -> None:
    figure = _figure(dataset)
    facts = [(key, str(dataset.attrs[key])) for key in ("settings", "figure_version", "fingerprint")]
    _print([*map(_row, numbers_of(dataset)), *facts], f"{figure.name}: {figure.description}")


def _draw_figure(dataset: xr.Dataset, view: View) -> Picture:
    return _figure(dataset).draw(dataset, view)


def _describe_sweep(dataset: xr.Dataset, _: View) -> None:
    status, method = dataset.status.values.ravel(), dataset.method.values.ravel()
    axes = {name: ", ".join(f"{v}" for v in dataset[name].values) for name in dataset.status.dims}
    counts = {
        f"cells: {text}": f"{np.sum(status == text)}, {', '.join(sorted({*method[status == text]} - {''}))}"
        for text in sorted(set(status), key=lambda text: text != sweep_cell.OK)
    }
    facts = [(str(key), text) for key, text in (axes | counts).items()]
    _print([*facts, *map(_row, sweep_laws.laws(dataset)), ("settings", dataset.attrs["settings"])], "sweep")
    _print_times(dataset)


def _print_times(dataset: xr.Dataset) -> None:
    """When each cell of a sweep decides: the fastest and the half, with their standard errors."""
    frame = tables.of_sweep(dataset)
    if len(frame) > MOST_CELLS:
        print(f"{len(frame)} cells: their times go into a table with an output file that ends in .csv")
        return
    settings = list(map(str, dataset.status.dims))
    table = Table(*settings, "t_peak", "t_half", title="when each cell decides", title_justify="left")
    for row in frame.to_dict("records"):
        values = [f"{row[name]:g}" if isinstance(row[name], float) else str(row[name]) for name in settings]
        times = [_time(row[name], row[f"{name}_stderr"]) for name in ("t_peak", "t_half")]
        table.add_row(*map(cell, [*values, *times]))
    console().print(table)


def _time(value: float, stderr: float) -> str:
    """A time; its standard error only where it was sampled."""
    return with_error(value, stderr if stderr > 0 else None)


def _describe_window(window: window_file.MeasuredWindow, _: View) -> None:
    for line in window_words.in_words(window):
        print(line)
    _print([(name, str(value)) for name, value in window.facts.items()], "window")


def _describe_schedules(schedules: Mapping[str, Guidance], _: View) -> None:
    rows = [
        (name, ", ".join(f"{key} {value}" for key, value in schedule.as_dict().items()))
        for name, schedule in schedules.items()
    ]
    _print(rows, "guidance schedules")


def _describe_training(dataset: xr.Dataset, _: View) -> None:
    _print(training_words.facts(dataset), "training")


def _describe_data(dataset: xr.Dataset, _: View) -> None:
    facts = [(name, dataset.attrs[name]) for name in ("data", "settings")]
    _print([*map(_row, numbers_of(dataset)), *facts], "labelled data")


def _row(n: Number) -> tuple[str, str]:
    return n.label, n.shown + (f"   (expected {n.shown_expected})" if n.shown_expected else "")


def _numbers(dataset: xr.Dataset, _: View) -> "pandas.DataFrame":
    return tables.of_numbers(dataset)


class _Shown(NamedTuple):
    """What a format prints, how it is drawn, its table, and the names that its file must hold for that."""

    describe: Callable[[Any, View], None]
    draw: Callable[[Any, View], Picture]
    table: Callable[[Any, View], "pandas.DataFrame"]
    required: Sequence[str] = ()


_WINDOW = _Shown(_describe_window, window_picture.draw_alone, lambda window, _: tables.of_window(window))
_SCHEDULES = _Shown(
    _describe_schedules, guidance_picture.draw_schedules, lambda schedules, _: tables.of_schedules(schedules)
)
_SHOWN = {
    gmm_curve.FORMAT: _Shown(  # `EntropyCurve` says what is missing
        _describe_curve, _draw_saved_curve, lambda curve, view: tables.of_curve(curve, view.units)
    ),
    job.FORMAT: _Shown(
        _describe_figure, _draw_figure, _numbers, ("figure", "settings", "figure_version", "fingerprint")
    ),
    sweep.FORMAT: _Shown(
        _describe_sweep, sweep_picture.draw, lambda dataset, _: tables.of_sweep(dataset), sweep.NAMES
    ),
    data.FORMAT: _Shown(_describe_data, data_picture.draw, _numbers, data.NAMES),
    training.FORMAT: _Shown(
        _describe_training,
        training_picture.draw_training,
        lambda dataset, _: tables.of_training(dataset),
        training.NAMES,
    ),
    comparison.FORMAT: _Shown(
        comparison_table.print_table,
        comparison_picture.draw,
        lambda dataset, _: tables.of_comparison(dataset),
        comparison.NAMES,
    ),
}
