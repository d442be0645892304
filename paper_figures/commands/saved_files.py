"""What ``speciation show`` prints and draws, by the format that a file names."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from rich.console import Console
from rich.table import Table

from gmm.curve import FORMAT as CURVE_FORMAT
from gmm.curve import EntropyCurve, load_dataset
from paper_figures.drawing import comparison as compare_plot
from paper_figures.drawing import data as data_plot
from paper_figures.drawing import sweep as sweep_plot
from paper_figures.drawing import training as training_plot
from paper_figures.drawing.style import (
    View,
    band,
    draw_entropy,
    draw_rate,
    entropy_label,
    lay_out,
    new_figure,
    noise_axis,
    paper_style,
    rate_label,
    title,
)
from paper_figures.figures.registry import FIGURES, Figure
from paper_figures.files import FORMAT as FIGURE_FORMAT
from paper_figures.files import save_picture
from paper_figures.formats.curves import WINDOW_SHARE
from paper_figures.formats.numbers import Number, numbers_of
from paper_figures.studies import data as data_study
from paper_figures.studies import sweep_cell
from paper_figures.studies.comparison import FORMAT as COMPARISON_FORMAT
from paper_figures.studies.comparison import NAMES as COMPARISON_NAMES
from paper_figures.studies.sweep import FORMAT as SWEEP_FORMAT
from paper_figures.studies.sweep import NAMES as SWEEP_NAMES
from theory import Window, window

SUFFIXES = (".png", ".pdf", ".svg")


def show_file(path: Path, view: View, out: Path | None = None, *, quiet: bool = False) -> Path:
    """Print the facts of a result and draw it.

    Args:
        path: NetCDF file of a curve, a figure, a sweep, a data set, a comparison or a training.
        view: axis and units.
        out: where to draw; None means beside `path`, with the chosen axis and units in the name.
        quiet: whether to draw only.

    Returns:
        Where it was drawn.

    Raises:
        ValueError: when the file is none of these, or `out` has a suffix that is not drawn.
    """
    target = _default_target(path, view) if out is None else out
    if target.suffix not in SUFFIXES:
        raise ValueError(f"--out must end in one of {', '.join(SUFFIXES)}, got {target}")
    dataset = load_dataset(path)
    kind = dataset.attrs.get("format")
    if kind not in _SHOWN:
        raise ValueError(f"FILE must hold one of {', '.join(_SHOWN)}; {path} has format {kind!r}")
    describe, draw, required = _SHOWN[kind]
    missing = [name for name in required if name not in dataset.variables and name not in dataset.attrs]
    if missing:
        raise ValueError(f"{path} is marked {kind} but lacks {', '.join(missing)}")
    if not quiet:
        describe(dataset, view)
    with paper_style():
        picture = draw(dataset, view)
        lay_out(picture)
        save_picture(picture, target)
    return target


def _default_target(path: Path, view: View) -> Path:
    chosen = [view.axis] if view.axis else []
    chosen += [view.units] if view.units != View().units else []
    return path.with_name("-".join([path.stem, *chosen]) + ".png")


def _print(rows: list[tuple[str, str]], heading: str) -> None:
    table = Table("fact", "value", title=heading, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _describe_curve(dataset: xr.Dataset, view: View) -> None:
    curve = EntropyCurve.from_dataset(dataset).in_units(view.units)
    _print(_curve_facts(curve, view), "entropy curve")


def _draw_saved_curve(dataset: xr.Dataset, view: View) -> Picture:
    return draw_curve(EntropyCurve.from_dataset(dataset).in_units(view.units), view)


def _curve_facts(curve: EntropyCurve, view: View) -> list[tuple[str, str]]:
    """Facts in words: what the curve says, then what it was made from."""
    peak = int(np.argmax(curve.rate_per_log_noise()[0]))
    fastest = int(np.argmax(curve.rate))
    sampled = curve.entropy_stderr.max()
    said = {
        "points": f"{len(curve.t)}, t = {curve.t.min():.4g} .. {curve.t.max():.4g}",
        "noise range, sigma/alpha": f"{curve.sigma.min():.4g} .. {curve.sigma.max():.4g}",
        "prior entropy": f"{curve.prior_entropy:.6g} {view.units}",
        "entropy, least noise": f"{curve.entropy[np.argmax(curve.log_snr)]:.6g} {view.units}",
        "entropy, most noise": f"{curve.entropy[np.argmin(curve.log_snr)]:.6g} {view.units}",
        "largest standard error": f"{sampled:.2g} {view.units}" if sampled > 0 else "none (quadrature)",
        "fastest in its own time": f"t = {curve.t[fastest]:.5g}, {curve.rate[fastest]:.4g} {view.unit} per t",
        "fastest in log noise": f"sigma/alpha = {curve.sigma[peak]:.5g}",
        f"window, central {WINDOW_SHARE:.0%}": _window_fact(curve),
    }
    return [*said.items(), *((str(name), str(value)) for name, value in curve.metadata.items())]


def _window(curve: EntropyCurve) -> Window | None:
    """The curve's window, or None when the curve does not hold it."""
    try:
        return window(curve, WINDOW_SHARE)
    except ValueError:
        return None


def _window_fact(curve: EntropyCurve) -> str:
    found = _window(curve)
    if found is None:
        return "not covered by the curve's noise range"
    low, middle, high = found.sigma
    return f"sigma/alpha = {low:.5g} .. {high:.5g}, half of it by {middle:.5g}"


def draw_curve(curve: EntropyCurve, view: View) -> Picture:
    """One curve: its entropy and its rate, the window shaded."""
    picture, axes = new_figure(1, 2, height=2.6)
    axis = view.on("sigma")
    noise = curve.axis(axis)
    draw_entropy(axes[0, 0], curve, view, axis, label="entropy")
    if curve.cross_entropy is not None:
        shown = curve.in_units(view.units)
        band(
            axes[0, 0], noise, shown.cross_entropy, shown.cross_entropy_stderr, label="cross-entropy", ls="--"
        )
        axes[0, 0].legend()
    draw_rate(axes[0, 1], curve, view, axis)
    found = _window(curve)
    ends = None if found is None else np.interp([found.low, found.high], *_sorted(np.log(curve.sigma), noise))
    for ax, letter, text, label in zip(
        axes[0], "ab", ("entropy", "rate"), (entropy_label(view), rate_label(view, axis)), strict=True
    ):
        title(ax, letter, text)
        noise_axis(ax, axis)
        ax.set_ylabel(label)
        if ends is not None and np.isfinite(ends).all():
            ax.axvspan(*ends, color="0.93", zorder=0)
    return picture


def _sorted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(x)
    return x[order], y[order]


def _figure(dataset: xr.Dataset) -> Figure:
    name = str(dataset.attrs["figure"])
    if name not in FIGURES:
        raise ValueError(
            f"FILE must hold a figure that this version knows, got {name!r}: {', '.join(FIGURES)}"
        )
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
    _print([*facts, *map(_row, sweep_plot.laws(dataset)), ("settings", dataset.attrs["settings"])], "sweep")


def _describe_training(dataset: xr.Dataset, _: View) -> None:
    _print(training_plot.facts(dataset), "training")


def _describe_data(dataset: xr.Dataset, _: View) -> None:
    facts = [(name, dataset.attrs[name]) for name in ("data", "settings")]
    _print([*map(_row, numbers_of(dataset)), *facts], "labelled data")


def _row(n: Number) -> tuple[str, str]:
    return n.label, n.shown + (f"   (expected {n.shown_expected})" if n.shown_expected else "")


# What each format prints, how it is drawn, and what it must hold for that.
_SHOWN = {
    CURVE_FORMAT: (_describe_curve, _draw_saved_curve, ()),  # `EntropyCurve` says what is missing
    FIGURE_FORMAT: (_describe_figure, _draw_figure, ("figure", "settings", "figure_version", "fingerprint")),
    SWEEP_FORMAT: (_describe_sweep, sweep_plot.draw, SWEEP_NAMES),
    data_study.FORMAT: (_describe_data, data_plot.draw, data_study.NAMES),
    training_plot.FORMAT: (_describe_training, training_plot.draw_training, training_plot.NAMES),
    COMPARISON_FORMAT: (compare_plot.print_table, compare_plot.draw, COMPARISON_NAMES),
}
