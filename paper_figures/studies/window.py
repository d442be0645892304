"""Windows of a measured decision: where they lie, in whose steps, how sure that is; their files and picture."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from matplotlib.figure import Figure

from gmm.curve import EntropyCurve, versions
from gmm.dynamics import in_float64
from gmm.landmarks import landmarks
from gmm.pooling import Reading, pool, read_off
from gmm.process import Process
from gmm.window_file import PLACES, MeasuredWindow, Place, SamplerSteps, write_window
from gmm.windows import window
from neural.models import Grid, Model
from neural.models.grids import Spacing
from paper_figures.commands import model_options as asking
from paper_figures.commands.lists import words
from paper_figures.drawing.style import (
    View,
    draw_entropy,
    draw_rate,
    entropy_label,
    lay_out,
    new_figure,
    noise_axis,
    paper_style,
    positions,
    rate_label,
    title,
)
from paper_figures.files import PICTURES, save_picture
from paper_figures.formats.numbers import number
from paper_figures.studies.sources import Question

Runs = list[list[EntropyCurve]]


def grids(model: Model, given: Sequence[str] | None) -> list[Grid]:
    """Samplers from the command line; the model's own where none is named.

    Raises:
        ValueError: for an unknown grid or a number of steps that is none.
    """
    if not given:
        return [model.grid]
    found = []
    for word in words("--sampler", given):
        name, _, count = word.partition(":")
        if (
            name not in get_args(Spacing)
            or not (count.isdecimal() or not count)
            or (count and int(count) < 2)
        ):
            allowed = ", ".join(get_args(Spacing))
            raise ValueError(
                f"--sampler must name a grid ({allowed}), with steps >= 2 as in edm:32; got {word!r}"
            )
        steps = int(count) if count else model.grid.steps
        found.append(dataclasses.replace(model.grid, spacing=name, steps=steps))
    return found


def check_share(share: float) -> None:
    """Raise ValueError unless a window can hold that share."""
    if not 0 < share < 1:
        raise ValueError(f"--share must be in (0, 1), got {share}")


def windows(
    question: Question, estimator: str, runs: Runs, share: float, samplers: Sequence[Grid]
) -> list[MeasuredWindow]:
    """The window of each level.

    Raises:
        ValueError: when a curve does not hold its window; the message says on which side noise levels are missing.
    """
    return [
        _window(question, estimator, number, level_runs, share, samplers)
        for number, level_runs in enumerate(runs)
    ]


def _window(
    question: Question,
    estimator: str,
    number: int,
    runs: list[EntropyCurve],
    share: float,
    samplers: Sequence[Grid],
) -> MeasuredWindow:
    level, curve = question.decision.levels[number], pool(runs)
    try:
        found = window(curve, share)
    except ValueError as error:
        raise ValueError(
            f"{question.model.name} makes no whole decision of {level.name!r} on its own noise levels "
            f"({curve.sigma.min():.3g}..{curve.sigma.max():.3g}): {error}"
        ) from error
    reading = read_off(runs, lambda c: landmarks(c, share)[-3:], seed=question.seed)
    delta = np.array([found.low_stderr, found.median_stderr, found.high_stderr])
    places = _places(question, np.array([found.low, found.median, found.high]), reading, delta)
    labels = level.partition.labels
    conditions = question.decision.conditions
    return MeasuredWindow(
        model=question.model.name,
        question=level.name,
        cells={
            cell: tuple(conditions[i] for i in np.flatnonzero(labels == c))
            for c, cell in enumerate(level.cells)
        },
        process=question.model.process.describe(),
        share=share,
        prior_entropy=curve.prior_entropy,
        **dict(zip(PLACES, places, strict=True)),
        samplers=tuple(
            steps_of(question.model.process, grid, found.low, found.median, found.high) for grid in samplers
        ),
        facts={"estimator": estimator, **asking.facts(question), "versions": versions()},
    )


def _places(question: Question, log_sigma: np.ndarray, reading: Reading, delta: np.ndarray) -> list[Place]:
    """With the errors that the runs show; a single run has those that the curve's own error makes."""
    t = in_float64(lambda process, v: process.time_at_log_snr(v), question.model.process, -2 * log_sigma)
    alone = not np.isfinite(reading.stderr).all()
    stderr = delta if alone else reading.stderr
    low, high = (log_sigma - 2 * delta, log_sigma + 2 * delta) if alone else (reading.low, reading.high)
    return [
        Place(
            sigma=float(np.exp(log_sigma[i])),
            log_snr=float(-2 * log_sigma[i]),
            t=float(t[i]),
            stderr=float(stderr[i]),
            interval=_interval(low[i], high[i]),
        )
        for i in range(3)
    ]


def _interval(low: float, high: float) -> tuple[float, float] | None:
    """Ends in σ/α; None where an error of so few samples is wider than numbers go: that is no interval."""
    with np.errstate(over="ignore"):
        ends = np.exp([low, high])
    return (float(ends[0]), float(ends[1])) if np.isfinite(ends).all() else None


def steps_of(process: Process, grid: Grid, low: float, median: float, high: float) -> SamplerSteps:
    """A window, in log(σ/α), in the steps of a sampler; the noisy end comes first."""
    times = grid.times(process)
    sigmas = np.exp(-0.5 * in_float64(lambda p, t: p.log_snr(t), process, times))
    first, middle, last = (_told(grid.index(process, -2 * place)) for place in (high, median, low))
    inside = np.flatnonzero((sigmas >= np.exp(low)) & (sigmas <= np.exp(high)))
    return SamplerSteps(
        sampler=grid.spacing,
        steps=len(times),
        sigmas=tuple(map(float, sigmas)),
        first=first,
        median=middle,
        last=last,
        inside=(int(inside[0]), int(inside[-1])) if len(inside) else None,
    )


def _told(value: np.ndarray) -> float | None:
    return float(value) if np.isfinite(value) else None


# -------------------------------------------------------------------------------------------------- files


def write(
    folder: Path, question: Question, estimator: str, runs: Runs, found: Sequence[MeasuredWindow]
) -> None:
    """window.json and window.nc, with a level's name where there are several."""
    for level, one in enumerate(found):
        stem = _stem(level, found)
        curve = dataclasses.replace(
            pool(runs[level]),
            metadata={"estimator": estimator, "level": one.question, **asking.facts(question)},
        )
        curve.save(folder / f"{stem}.nc")
        write_window(folder / f"{stem}.json", one)


def _stem(level: int, found: Sequence[MeasuredWindow]) -> str:
    return "window" if len(found) == 1 else f"window-{level + 1}"


def report(found: Sequence[MeasuredWindow]) -> Iterator[str]:
    """The answers in words, line by line."""
    for one in found:
        cells = list(one.cells)
        shown = cells if len(cells) <= 10 else [*cells[:10], f"{len(cells) - 10} more"]
        yield f"{one.model} decides {one.question} ({', '.join(shown)}):"
        yield f"  {one.share:.0%} of the information, from much noise to little"
        rows = {"from": one.high, "half by": one.median, "to": one.low}
        for name, place in rows.items():
            yield f"  {name:8} {_in_units(place)}"
        for steps in one.samplers:
            yield f"  {in_steps(steps)}"


def _in_units(place: Place) -> str:
    stderr = np.nan if place.stderr is None else place.stderr
    sigma = number("", place.sigma, place.sigma * stderr).shown
    interval = "" if place.interval is None else f" (95%: {place.interval[0]:.4g} .. {place.interval[1]:.4g})"
    return (
        f"σ/α = {sigma}{interval}, log SNR = {number('', place.log_snr, 2 * stderr).shown}, t = {place.t:.5g}"
    )


def in_steps(steps: SamplerSteps) -> str:
    """Which steps, in words."""
    which = f"of {steps.steps} {steps.sampler} steps (0 the noisiest)"
    if steps.inside is None:
        return f"no step {which} lies in it"
    ends = [
        "before the first" if i is None and first else "after the last" if i is None else f"{i:.2f}"
        for first, i in ((True, steps.first), (False, steps.last))
    ]
    return f"{which}: {steps.inside[0]} to {steps.inside[1]}; its ends are at {ends[0]} and {ends[1]}"


# ---------------------------------------------------------------------------------------------------- picture


def draw_all(folder: Path, runs: Runs, found: Sequence[MeasuredWindow], view: View) -> Iterator[Path]:
    """The picture of every level, and the paths of all that was written."""
    for level, one in enumerate(found):
        stem = _stem(level, found)
        with paper_style():
            picture = draw(pool(runs[level]), one, view)
            lay_out(picture)
            for suffix in PICTURES:
                save_picture(picture, folder / f"{stem}{suffix}")
        yield from (folder / f"{stem}{suffix}" for suffix in (".json", *PICTURES, ".nc"))


def draw(curve: EntropyCurve, found: MeasuredWindow, view: View) -> Figure:
    """Entropy and rate, the window shaded, the steps of the first sampler as ticks."""
    figure, axes = new_figure(1, 2, height=2.7)
    axis = view.on("sigma")
    draw_entropy(axes[0, 0], curve, view, axis, color="#1f4e9e", linestyle="-")
    draw_rate(axes[0, 1], curve, view, axis, color="#1f4e9e", linestyle="-")
    axes[0, 0].set(ylabel=entropy_label(view))
    axes[0, 1].set(ylabel=rate_label(view, axis))
    noise, shown = positions(curve, axis)
    to_axis = lambda sigma: np.interp(np.log(sigma), noise, shown)
    for ax in axes.flat:
        _shade(ax, found, to_axis)
        noise_axis(ax, axis)
        ax.set_ylim(0, None)
        room = 1.2 * (np.log(found.high.sigma) - np.log(found.low.sigma))
        ends = np.clip([np.log(found.low.sigma) - room, np.log(found.high.sigma) + room], noise[0], noise[-1])
        ax.set_xlim(*to_axis(np.exp(ends)))
        if axis == "log-snr":
            ax.set_xlim(*sorted(ax.get_xlim(), reverse=True))
    cells = ", ".join(found.cells) if len(found.cells) <= 4 else f"{len(found.cells)} {found.question}"
    title(axes[0, 0], "a", f"{found.model}: {cells}"[:60])
    title(axes[0, 1], "b", f"rate, and {_ticks(found)}")
    return figure


def _ticks(found: MeasuredWindow) -> str:
    steps = found.samplers[0]
    return f"the {steps.steps} steps of {steps.sampler}"


def _shade(ax, found: MeasuredWindow, to_axis) -> None:  # noqa: ANN001
    low, high = to_axis(found.low.sigma), to_axis(found.high.sigma)
    ax.axvspan(low, high, color="0.92", zorder=0)
    for place in (found.low, found.median, found.high):
        ax.axvline(
            to_axis(place.sigma), color="0.35", linewidth=0.8, linestyle="-" if place is found.median else ":"
        )
        if place.interval is not None:
            ax.axvspan(*to_axis(np.array(place.interval)), color="#c98a1b", alpha=0.25, zorder=0, linewidth=0)
    sigmas = np.array(found.samplers[0].sigmas)
    inside = (sigmas >= found.low.sigma) & (sigmas <= found.high.sigma)
    for chosen, color in ((inside, "#b3341f"), (~inside, "0.6")):
        ax.plot(
            to_axis(sigmas[chosen]), np.full(chosen.sum(), 0.02), "|", transform=ax.get_xaxis_transform(),
            color=color, markersize=7, linestyle="none",
        )  # fmt: skip
