"""How pictures look, and how a curve is drawn on a chosen axis in chosen units."""

import contextlib
import io
import math
import re
import string
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from gmm.curve import EntropyCurve
from gmm.files import write_whole
from gmm.schema import printable
from gmm.windows import contradicts_itself
from paper_figures.drawing.view import View

STYLE_FILE = Path(__file__).with_name("paper.mplstyle")
# Inches: the text width of a usual page.
PAGE_WIDTH = 7.2
# Bands show this many standard errors on either side.
BAND_STDERRS = 2
# Formats of a result's picture.
PICTURES = (".png", ".pdf")
# Inches between a title and the next panel's left edge.
_TITLE_GAP = 0.1
# Beyond this the palette is too light for lines on white paper.
_LIGHTEST = 0.86
# Below so many decades a logarithmic axis has evenly spaced ticks, and ticks at 1, 2 and 5.
_FEW_DECADES = (0.7, 1.7)
_DASHES = ("-", (0, (5, 1.2)), (0, (3, 1, 1, 1)), (0, (1, 1)))

_AXIS_LABELS = {
    "t": "time $t$",
    "log-snr": r"$\log(\alpha^2/\sigma^2)$",
    "sigma": r"noise-to-signal ratio $\sigma/\alpha$",
    "timestep": "timestep of Stable Diffusion 1.5",
}


@contextlib.contextmanager
def paper_style(draft: bool = False) -> Iterator[None]:
    """The project's matplotlib style, independent of the user's own settings.

    Args:
        draft: PDFs with Type 3 fonts, which no conference takes but which need no subsetting: a quarter of the
            time that a picture takes.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        matplotlib.style.use(STYLE_FILE)
        if draft:
            mpl.rcParams["pdf.fonttype"] = 3
        yield


def new_figure(rows: int, columns: int, *, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A page-wide figure with lettered panels.

    Args:
        rows: rows of panels.
        columns: columns of panels.
        height: inches.
        options: for `Figure.subplots`.

    Returns:
        The figure and its axes (rows, columns).
    """
    figure = Figure(figsize=(PAGE_WIDTH, height))
    axes = np.asarray(figure.subplots(rows, columns, squeeze=False, **options))
    return figure, axes


def lay_out(picture: Figure) -> None:
    """Compute the layout once; otherwise it is computed for every format, which costs more than drawing."""
    engine = picture.get_layout_engine()
    if engine is not None:
        engine.execute(picture)
        if _break_titles(picture):
            engine.execute(picture)
    picture.set_layout_engine("none")
    _keep_titles(picture)


def _break_titles(picture: Figure) -> bool:
    """Break titles that would run into the next panel's into lines; returns whether there were any."""
    titled = [ax for ax in picture.axes if ax.get_title("left")]
    broken = False
    for ax in titled:
        text = ax.set_title(ax.get_title("left"), loc="left")
        width = _width_until_next(ax, titled, picture)
        if text.get_window_extent().width > width > 0:
            text.set_text(_in_lines(text.get_text(), math.ceil(text.get_window_extent().width / width)))
            broken = True
    return broken


def _width_until_next(ax: Axes, titled: Iterable[Axes], picture: Figure) -> float:
    """Pixels from the panel's left edge to that of the next panel in its row, or to the end of the page."""
    box = ax.get_window_extent()
    others = [other.get_window_extent() for other in titled]
    level = [
        box_of_other.x0
        for box_of_other in others
        if box_of_other.x0 > box.x0 + 1 and box_of_other.y0 < box.y1 <= box_of_other.y1 + 1
    ]
    return min([*level, picture.bbox.width]) - box.x0 - _TITLE_GAP * picture.dpi


def _in_lines(text: str, lines: int) -> str:
    """A title broken at spaces outside formulas into so many lines of about the same length."""
    solid = re.sub(r"(?<!\\)\$.*?(?<!\\)\$", lambda match: match[0].replace(" ", "\0"), text)
    return textwrap.fill(solid, len(solid) // lines + 4, break_long_words=False).replace("\0", " ")


def _keep_titles(picture: Figure) -> None:
    """Fix titles that nothing is in the way of: otherwise every drawing measures all tick labels to place them."""
    crowded = {ax.get_position().bounds for ax in picture.axes if _reaches_above(ax)}
    for ax in picture.axes:
        text = ax.get_title("left")
        if text and ax.get_position().bounds not in crowded:
            ax.set_title(text, loc="left", y=1.0)


def _reaches_above(ax: Axes) -> bool:
    """Whether ticks, a label or other axes lie above the panel."""
    on_top = ax.xaxis.get_ticks_position() in ("top", "unknown") or ax.xaxis.get_label_position() == "top"
    return on_top or bool(ax.child_axes) or bool(ax.yaxis.get_offset_text().get_text())


def save_pictures(draw: Callable[[], Figure], paths: Iterable[Path], *, draft: bool = False) -> None:
    """Draw in the project's style and write one file for each path, in the format of its suffix.

    Files hold no dates: equal data give equal files.

    Args:
        draw: makes the figure.
        paths: where it goes.
        draft: as in `paper_style`.
    """
    with paper_style(draft):
        picture = draw()
        lay_out(picture)
        for path in paths:
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
            made = io.BytesIO()
            picture.savefig(made, format=path.suffix.removeprefix("."), metadata=metadata)
            write_whole(path, made.getbuffer())


def literal(text: object) -> str:
    """Text from outside, for matplotlib to draw letter by letter: no mathematics, no control characters."""
    shown = printable(str(text), keep="\n").replace("$", r"\$")
    return (
        f" {shown}" if shown.startswith("_") else shown
    )  # matplotlib leaves labels that begin so out of legends


def letter_panels(
    panels: Iterable[Axes], titles: Iterable[str], letters: str = string.ascii_lowercase
) -> None:
    """Give every panel its title with its letter."""
    for ax, letter, text in zip(panels, letters, titles, strict=False):
        ax.set_title(rf"$\bf{{{letter}}}$  {text}")


def sequence(count: int) -> list[dict[str, Any]]:
    """Line styles for an ordered family: dark to light, with dashes that repeat every four."""
    shades = mpl.colormaps["viridis"](np.linspace(0, _LIGHTEST, max(count, 1)))
    return [{"color": shades[i], "linestyle": _DASHES[i % len(_DASHES)]} for i in range(count)]


def kinds(count: int) -> list[dict[str, Any]]:
    """Line styles for things that have no order: ten colours, the first black, with dashes that repeat every four."""
    colors = ["black", *(mpl.colormaps["tab10"](i) for i in (0, 3, 2, 1, 4, 5, 9, 6, 8))]
    return [{"color": colors[i % len(colors)], "linestyle": _DASHES[i % len(_DASHES)]} for i in range(count)]


def shared_legend(figure: Figure, ax: Axes, heading: str) -> None:
    """Draw one legend below all panels, for a family of lines that most of them show."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, title=heading, loc="outside lower center", ncols=len(labels))


def power_label(value: float) -> str:
    """A number as text: powers of ten as 10^k, others in short form."""
    exponent = math.log10(value)
    return rf"$10^{{{exponent:.0f}}}$" if exponent >= 2 and exponent.is_integer() else f"{value:g}"


class _LogTicks(LogLocator):
    """Ticks of a logarithmic axis, few enough for their labels: powers of ten, or 1, 2, 5 where those are few."""

    def tick_values(self, vmin: float, vmax: float) -> np.ndarray:
        decades = abs(math.log10(vmax / vmin))
        if decades < _FEW_DECADES[0]:
            return np.asarray(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(vmin, vmax))
        self.set_params(subs=(1.0, 2.0, 5.0) if decades < _FEW_DECADES[1] else (1.0,))
        return np.asarray(super().tick_values(vmin, vmax))


def log_ticks(ax: Axes) -> None:
    """Make the horizontal axis logarithmic, with labels that do not run into each other."""
    ax.set_xscale("log")
    if min(ax.get_xlim()) <= 0:  # nothing is drawn that has a place on this axis
        ax.set_xlim(1, 10)
    ax.xaxis.set_major_locator(_LogTicks())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_power(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())


def short_power(value: float) -> str:
    """A positive number as a tick's label: plain from 0.001 to 1000, else in powers of ten."""
    if value <= 0 or 1e-3 <= value <= 1e3:
        return f"{value:.4g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    lead = f"{value / 10.0**exponent:.3g}"
    power = rf"10^{{{exponent}}}"
    return f"${power}$" if lead == "1" else rf"${lead}\times {power}$"


def noise_axis(ax: Axes, name: str) -> None:
    """Label and scale the horizontal axis `name` so that noise grows to the right."""
    ax.set_xlabel(_AXIS_LABELS[name])
    if name == "sigma" and ax.get_xscale() != "log":
        log_ticks(ax)
    if name == "log-snr" and not ax.xaxis_inverted():
        ax.invert_xaxis()


ToAxis = Callable[[Any], np.ndarray]


def to_axis(curve: EntropyCurve, axis: str) -> ToAxis:
    """A function from log(σ/α) to positions on an axis, NaN where the axis does not reach.

    Raises:
        ValueError: when the axis reaches none of the curve's noise levels.
    """
    if not np.isfinite(curve.axis(axis)).any():
        raise ValueError(
            f"axis must reach the curve's noise levels, got {axis}, which reaches none; draw over sigma or log-snr"
        )
    return lambda noise: curve.positions_at(noise, axis)


def limit_noise(ax: Axes, curve: EntropyCurve, axis: str, low: float, high: float) -> None:
    """Show log(σ/α) from `low` to `high`, as far as the axis reaches them: timesteps do not reach every level."""
    noise, shown = -0.5 * curve.log_snr, curve.axis(axis)
    reached = noise[np.isfinite(shown)]
    ends = np.array([low, high])
    if axis in ("t", "timestep"):
        ends = np.clip(ends, reached.min(), reached.max())
    ends = to_axis(curve, axis)(ends)
    if np.isfinite(ends).all() and ends[0] != ends[1]:
        ax.set_xlim(*ends)


def fit_height(ax: Axes) -> None:
    """Choose the vertical limits by what lies within the horizontal ones."""
    low, high = sorted(ax.get_xlim())
    drawn = [line.get_xydata() for line in ax.lines if line.get_transform() == ax.transData]
    drawn += [path.vertices for band in ax.collections for path in band.get_paths()]
    points = np.concatenate([np.asarray(values, float).reshape(-1, 2) for values in drawn])
    seen = points[(points[:, 0] >= low) & (points[:, 0] <= high), 1]
    seen = seen[np.isfinite(seen)]
    if seen.size and np.ptp(seen) > 0:
        margin = mpl.rcParams["axes.ymargin"] * np.ptp(seen)
        ax.set_ylim(seen.min() - margin, seen.max() + margin)


def entropy_label(view: View) -> str:
    """Label of an axis that shows H[Z|X_t]."""
    return rf"$H[Z\,|\,X_t]$  ({view.unit})"


def rate_label(view: View, axis: str) -> str:
    """Label of an axis that shows the rate belonging to a noise axis."""
    if axis == "t":
        return f"$dH/dt$  ({view.unit} per unit $t$)"
    return rf"$dH/d\log(\sigma/\alpha)$  ({view.unit})"


def draw_entropy(ax: Axes, curve: EntropyCurve, view: View, axis: str, **line: Any) -> None:
    """Draw H[Z|X_t] with its band, and label both axes."""
    shown = curve.in_units(view.units)
    band(ax, shown.axis(axis), shown.entropy, shown.entropy_stderr, **line)
    ax.set_ylabel(entropy_label(view))
    noise_axis(ax, axis)


def say_contradiction(ax: Axes, curves: Mapping[str, EntropyCurve]) -> None:
    """Name within a panel the curves that leave [0, H[Z]] by more than their errors, which no entropy does."""
    names = [literal(name) for name, curve in curves.items() if contradicts_itself(curve)]
    if names:
        text = f"{', '.join(names)}: outside 0..$H[Z]$,\nthe network contradicts itself"
        ax.text(0.03, 0.96, text, transform=ax.transAxes, va="top", fontsize=6.5)


def draw_rate(ax: Axes, curve: EntropyCurve, view: View, axis: str, **line: Any) -> None:
    """Draw its rate with its band, and label both axes: dH/dt over t, dH/d log(σ/α) over every other axis."""
    band(ax, curve.axis(axis), *rate_on(curve.in_units(view.units), axis), **line)
    ax.set_ylabel(rate_label(view, axis))
    noise_axis(ax, axis)


def rate_on(curve: EntropyCurve, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """The rate that belongs to a noise axis, and its standard error: dH/dt over t, dH/d log(σ/α) over any other."""
    return (curve.rate, curve.rate_stderr) if axis == "t" else curve.rate_per_log_noise()


def mark_entropy(
    ax: Axes, curve: EntropyCurve, view: View, axis: str, every: slice = slice(None), **marks: Any
) -> None:
    """Mark H[Z|X_t] at the curve's points, or some of them, with bars of two standard errors."""
    shown = curve.in_units(view.units)
    bars = BAND_STDERRS * shown.entropy_stderr[every]
    ax.errorbar(curve.axis(axis)[every], shown.entropy[every], bars, **marks)


def mark_rate(
    ax: Axes, curve: EntropyCurve, view: View, axis: str, every: slice = slice(None), **marks: Any
) -> None:
    """Mark its rate, as `mark_entropy`."""
    rate, stderr = rate_on(curve.in_units(view.units), axis)
    ax.errorbar(curve.axis(axis)[every], rate[every], BAND_STDERRS * stderr[every], **marks)


def band(ax: Axes, x: Any, y: Any, stderr: Any = 0.0, **line: Any) -> None:
    """A line, and a band of two standard errors where there are any."""
    order = np.argsort(x)
    x, y, stderr = (np.broadcast_to(a, np.shape(x))[order] for a in (x, y, stderr))
    drawn = ax.plot(x, y, **line)[0]
    if np.any(stderr > 0):
        half = BAND_STDERRS * stderr
        ax.fill_between(x, y - half, y + half, color=drawn.get_color(), alpha=0.25, linewidth=0)
