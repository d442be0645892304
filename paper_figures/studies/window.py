"""Windows of a measured decision: where they lie, in which steps of a sampler, and how sure that is; their files."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from gmm.clock import noise_at, times_at
from gmm.curve import EntropyCurve, versions
from gmm.landmarks import landmarks
from gmm.pooling import Reading, pool, read_off
from gmm.process import Process
from gmm.window_file import PLACES, Decided, MeasuredWindow, Place, SamplerSteps, save_window
from gmm.windows import check_ends, window
from neural.checkpoints import portable
from neural.decisions import Level
from neural.models import Grid, Model
from neural.models.grids import Spacing
from paper_figures.formats.words import words
from paper_figures.studies.question import Question
from paper_figures.studies.sources import Runs


def grids(model: Model, given: Sequence[str] | None) -> list[Grid]:
    """The grids of samplers named as in "edm:32"; the model's own where none is named.

    Raises:
        ValueError: for an unknown grid or fewer than two steps.
    """
    if not given:
        return [model.grid]
    grids_asked = []
    for word in words("sampler", given):
        name, _, count = word.partition(":")
        is_count = not count or (count.isdecimal() and int(count) >= 2)
        if name not in get_args(Spacing) or not is_count:
            allowed = ", ".join(get_args(Spacing))
            raise ValueError(
                f"sampler must name a grid ({allowed}), with steps >= 2 as in edm:32; got {word!r}"
            )
        steps = int(count) if count else model.grid.steps
        grids_asked.append(dataclasses.replace(model.grid, spacing=name, steps=steps))
    return grids_asked


def check_share(share: float) -> None:
    """Raise ValueError unless a window can hold that share."""
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), got {share}")


def windows(
    question: Question,
    estimator: str,
    runs: Runs,
    share: float,
    samplers: Sequence[Grid],
    *,
    allow_partial: bool = False,
) -> list[MeasuredWindow]:
    """The window of each level, with its uncertainty, and the steps of each sampler that lie in it.

    Args:
        question: what was measured.
        estimator: name of the source of the curves.
        runs: for each level the curves of the independent runs.
        share: of the information, that the window holds.
        samplers: grids whose steps are wanted.
        allow_partial: as in `gmm.window`.

    Raises:
        ValueError: when a curve is not that of a whole decision, with the reason, unless `allow_partial`.
    """
    return [
        _window(question, estimator, level, level_runs, share, samplers, allow_partial)
        for level, level_runs in zip(question.decision.levels, runs, strict=True)
    ]


def _window(
    question: Question,
    estimator: str,
    level: Level,
    runs: list[EntropyCurve],
    share: float,
    samplers: Sequence[Grid],
    allow_partial: bool,
) -> MeasuredWindow:
    curve = pool(runs)
    try:
        interval = window(curve, share, allow_partial=allow_partial)
        check_ends(interval, curve)
    except ValueError as error:
        raise ValueError(
            f"{question.model.name} makes no whole decision of {level.name!r} on its own noise levels "
            f"({curve.sigma.min():.3g}..{curve.sigma.max():.3g}): {error}"
        ) from error
    reading = read_off(runs, lambda c: landmarks(c, share)[-3:], seed=question.seed)
    delta = np.array([interval.low_stderr, interval.median_stderr, interval.high_stderr])
    places = _places(question, np.array([interval.low, interval.median, interval.high]), reading, delta)
    labels = level.partition.labels
    conditions = question.decision.conditions
    return MeasuredWindow(
        model=portable(question.model.name),
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
            steps_of(question.model.process, grid, interval.low, interval.median, interval.high)
            for grid in samplers
        ),
        facts={"estimator": estimator, **question.facts(), **_spent(curve), "versions": versions()},
        decided=Decided.of(interval),
    )


def _spent(curve: EntropyCurve) -> dict[str, Any]:
    """What a curve of a stated precision took."""
    return {
        name: curve.metadata[name] for name in ("reached", "paths", "evaluations") if name in curve.metadata
    }


def _places(question: Question, log_sigma: np.ndarray, reading: Reading, delta: np.ndarray) -> list[Place]:
    """Places at the given log(σ/α), with the errors that the runs show; of a single run those that `delta` gives."""
    t = times_at(question.model.process, log_sigma)
    is_single = not np.isfinite(reading.stderr).all()
    stderr = delta if is_single else reading.stderr
    low, high = (log_sigma - 2 * delta, log_sigma + 2 * delta) if is_single else (reading.low, reading.high)
    return [
        Place(
            sigma=float(np.exp(log_sigma[i])),
            log_snr=float(-2 * log_sigma[i]),
            t=float(t[i]),
            stderr=float(stderr[i]) if np.isfinite(stderr[i]) else None,
            interval=_interval(low[i], high[i]),
        )
        for i in range(3)
    ]


def _interval(low: float, high: float) -> tuple[float, float] | None:
    """The ends in σ/α; None where the error is so large that an end overflows."""
    with np.errstate(over="ignore"):
        ends = np.exp([low, high])
    return (float(ends[0]), float(ends[1])) if np.isfinite(ends).all() else None


def steps_of(process: Process, grid: Grid, low: float, median: float, high: float) -> SamplerSteps:
    """The steps of a sampler that lie in a window given in log(σ/α); the noisy end comes first."""
    times = grid.times(process)
    sigmas = np.exp(noise_at(process, times))
    first, middle, last = (_or_none(grid.index(process, -2 * place)) for place in (high, median, low))
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


def _or_none(value: np.ndarray) -> float | None:
    return float(value) if np.isfinite(value) else None


# -------------------------------------------------------------------------------------------------- files


def write(folder: Path, runs: Runs, windows: Sequence[MeasuredWindow]) -> None:
    """Write window.json and window.nc, or window-1.json and so on where there are several levels."""
    for stem, level_runs, measured in zip(stems(windows), runs, windows, strict=True):
        facts = {**measured.facts, "level": measured.question}
        dataclasses.replace(pool(level_runs), metadata=facts).save(folder / f"{stem}.nc")
        save_window(folder / f"{stem}.json", measured)


def stems(windows: Sequence[MeasuredWindow]) -> list[str]:
    """Names, without suffix, of the files of each window."""
    if len(windows) == 1:
        return ["window"]
    return [f"window-{level + 1}" for level in range(len(windows))]
