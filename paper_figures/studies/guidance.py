"""Guidance schedules on a model: entropy and information production under each, their files and their picture."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gmm.curve import EntropyCurve
from gmm.guidance import Guidance
from gmm.guidance_specs import needs_curve, parse_guidance, save_guidance
from gmm.landmarks import half_entropy
from neural.estimators import online_entropy, posterior_paths
from neural.models import Model
from paper_figures.commands import model_options as asking
from paper_figures.drawing.style import (
    View,
    band,
    draw_entropy,
    draw_rate,
    entropy_label,
    kinds,
    lay_out,
    new_figure,
    noise_axis,
    paper_style,
    positions,
    rate_label,
    title,
)
from paper_figures.files import PICTURES, save_picture
from paper_figures.studies.sources import Question

# The plain conditional dynamics: always measured, what schedules are compared with and timed by.
PLAIN = "none"
# Paths along which the weight of a schedule that tracks a ratio is averaged.
WEIGHT_PATHS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A question to a model, and what autoguidance pulls away from.

    Attributes:
        question: model, decision, grid, seed; the first level is what is asked.
        guide: second model for autoguidance, or None.
    """

    question: Question
    guide: Model | None = None

    @property
    def model(self) -> Model:
        """The model that is asked."""
        return self.question.model

    def options(self, schedule: Guidance) -> dict[str, Any]:
        """What the estimators take."""
        guided = {"guidance": schedule, "guide": self.reference(schedule)} if not schedule.is_plain else {}
        return {
            "prior": self.question.prior,
            "times": self.question.times,
            "key": jax.random.key(self.question.seed),  # the same noise for all schedules
            "shape": self.model.shape,
            "batch": self.question.batch,
            **guided,
        }

    def reference(self, schedule: Guidance) -> Any:
        """The denoiser that a schedule pulls away from.

        Raises:
            ValueError: when there is none, saying which schedules still work.
        """
        if schedule.reference == "guide":
            if self.guide is None:
                raise ValueError(
                    f"schedule {schedule.kind!r} needs a second, worse model; name it with --guide"
                )
            return self.guide.denoiser
        if self.model.unconditional is None:
            works = "none and cfg:1" + (
                " and auto:W" if self.guide is not None else ", and auto:W with --guide"
            )
            raise ValueError(
                f"{self.model.name} has no null condition: schedule {schedule.kind!r} has nothing to pull away from; "
                f"{works} still work"
            )
        return self.model.unconditional


@dataclasses.dataclass(frozen=True, eq=False)
class Guided:
    """What one schedule does.

    Attributes:
        name: its text form.
        schedule: the schedule.
        curve: entropy, rate and cross-entropy along its paths.
        weight: (T,) E w along them.
    """

    name: str
    schedule: Guidance
    curve: EntropyCurve
    weight: np.ndarray


def check(task: Task, texts: Sequence[str]) -> None:
    """Refuse what cannot be done before anything is computed.

    Raises:
        ValueError: for an unknown form, or a schedule whose reference is missing.
    """
    for text in texts:
        if needs_curve(text):
            _entropy_form(text)
            task.reference(parse_guidance("cfg:2")["cfg:2"])
            continue
        for schedule in parse_guidance(text).values():
            if not schedule.is_plain:
                task.reference(schedule)


def announcement(task: Task, texts: Sequence[str]) -> str:
    """What is asked, and what it costs."""
    question = task.question
    count = 1 + sum(1 + text.count(",") if text.startswith("cfg:") else 1 for text in texts)
    conditions = len(question.decision.conditions)
    each = question.samples * question.steps * (conditions + 1)
    cells = ", ".join(question.decision.levels[0].cells[:10])
    return (
        f"{task.model.name}: {conditions} conditions; {cells}\n"
        f"{count} schedules, {question.samples} trajectories of {question.steps} steps each: {each * count:,} network "
        "evaluations in all"
    )


def _entropy_form(text: str) -> None:
    """Raise ValueError unless an ``entropy:...`` form is well made, whatever curve it will be given."""
    log_snr = np.linspace(-12, 12, 200)
    entropy = 1 / (1 + np.exp(log_snr))
    rate = entropy * (1 - entropy)
    zero = np.zeros_like(rate)
    decided = EntropyCurve(-log_snr, log_snr, entropy, zero, rate, zero, prior_entropy=1.0)
    parse_guidance(text, decided)


def measure(
    task: Task,
    texts: Sequence[str],
    folder: Path | None,
    watch: Callable[[str, int, int], None] | None = None,
) -> list[Guided]:
    """Every schedule, the plain dynamics first.

    Args:
        task: model and decision.
        texts: text forms of schedules.
        folder: where finished parts are kept, to be found by a later call.
        watch: called with (schedule, trajectories done, in all).
    """
    plain = _measured(task, PLAIN, parse_guidance(PLAIN)[PLAIN], folder, watch)
    found = {PLAIN: plain}
    for text in texts:
        for name, schedule in parse_guidance(text, plain.curve).items():
            if name not in found:
                found[name] = _measured(task, name, schedule, folder, watch)
    return list(found.values())


def _measured(
    task: Task,
    name: str,
    schedule: Guidance,
    folder: Path | None,
    watch: Callable[[str, int, int], None] | None,
) -> Guided:
    progress = None if watch is None else lambda done, total: watch(name, done, total)
    options = task.options(schedule)
    curve = online_entropy(
        task.model.denoiser,
        task.question.decision.conditions,
        partition=task.question.decision.levels[0].partition,
        samples=task.question.samples,
        folder=folder,
        progress=progress,
        **options,
    )
    if curve.cross_entropy is None:
        # Without guidance trajectories are the model's own, and the two agree for any model.
        more = {"cross_entropy": curve.entropy, "cross_entropy_stderr": curve.entropy_stderr}
        curve = dataclasses.replace(curve, **more)
    facts = {"schedule": name, "guidance": schedule.to_dict(), **asking.facts(task.question)}
    curve = dataclasses.replace(curve, metadata={**curve.metadata, **facts})
    return Guided(name, schedule, curve, _weights(task, schedule, curve))


def _weights(task: Task, schedule: Guidance, curve: EntropyCurve) -> np.ndarray:
    """(T,) E w: along some more paths where w depends on them; NaN where it depends on the guidance vector."""
    if schedule.needs_gap and schedule.of_state:
        return np.full(curve.t.shape, np.nan)
    if not schedule.of_state:
        return np.asarray(schedule.weight(curve.sigma), np.float64)
    options = task.options(schedule)
    paths = posterior_paths(
        task.model.denoiser,
        task.question.decision.conditions,
        samples=min(WEIGHT_PATHS, task.question.samples),
        **options,
    )
    assert paths.log_ratio is not None
    tracked, weights = np.zeros(paths.log_ratio.shape[1]), []
    for step in np.diff(paths.log_ratio, axis=0, prepend=paths.log_ratio[:1]):
        tracked = np.asarray(schedule.tracked(tracked, step))
        weights.append(float(np.mean(np.asarray(schedule.weight(1.0, tracked)))))
    return np.array(weights)


# -------------------------------------------------------------------------------------------------- files


def write(folder: Path, found: Sequence[Guided]) -> None:
    """guidance.json, and a curve file for each schedule."""
    for one in found:
        curve = dataclasses.replace(
            one.curve, metadata={**one.curve.metadata, "mean_weight": one.weight.tolist()}
        )
        curve.save(folder / f"{stem(one.name)}.nc")
    save_guidance(folder / "guidance.json", {one.name: one.schedule for one in found})


def stem(name: str) -> str:
    """A schedule's name as that of a file."""
    return "guidance-" + re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")


def report(found: Sequence[Guided]) -> list[str]:
    """Shift of the half-entropy point and what is left undecided, line by line."""
    first = float(half_entropy(found[0].curve).value)
    lines = [
        f"{'schedule':24} {'half entropy at σ/α':>20} {'shift in log σ':>15} {'-log p(target) at the end':>26}"
    ]
    for one in found:
        place, last = float(half_entropy(one.curve).value), int(np.argmin(one.curve.sigma))
        assert one.curve.cross_entropy is not None
        end = one.curve.cross_entropy[last]
        lines.append(f"{one.name:24} {np.exp(place):20.4g} {place - first:15.3f} {end:26.3g}")
    return lines


# ------------------------------------------------------------------------------------------------- pictures


def draw_all(folder: Path, found: Sequence[Guided], view: View) -> list[Path]:
    """The picture in every format."""
    paths = []
    with paper_style():
        picture = draw(found, view)
        lay_out(picture)
        for suffix in PICTURES:
            path = folder / f"guidance{suffix}"
            save_picture(picture, path)
            paths.append(path)
    return paths


def draw(found: Sequence[Guided], view: View) -> Figure:
    """Entropy, information production, cross-entropy, and w against noise."""
    figure, axes = new_figure(2, 2, height=5.0)
    axis = view.on("sigma")
    lines = {one.name: line for one, line in zip(found, kinds(len(found)), strict=True)}
    for one in found:
        line = lines[one.name]
        draw_entropy(axes[0, 0], one.curve, view, axis, label=one.name, **line)
        draw_rate(axes[0, 1], one.curve, view, axis, **line)
        shown = one.curve.in_units(view.units)
        band(axes[1, 0], shown.axis(axis), shown.cross_entropy, shown.cross_entropy_stderr, **line)
    draw_weights(axes[1, 1], {one.name: (one.curve.axis(axis), one.weight) for one in found}, lines)
    axes[0, 0].set_ylabel(entropy_label(view))
    axes[0, 1].set_ylabel(rate_label(view, axis))
    axes[1, 0].set_ylabel(rf"$E[-\log p(\mathrm{{target}}\,|\,x_t)]$  ({view.unit})")
    names = ("entropy along guided paths", "information produced", "surprise of the target", "weight")
    for ax, letter, text in zip(axes.flat, "abcd", names, strict=True):
        title(ax, letter, text)
        noise_axis(ax, axis)
        ax.set_xlim(*_where_decided(found, axis))
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(found), 5)
    )
    return figure


def _where_decided(found: Sequence[Guided], axis: str) -> tuple[float, float]:
    """The part of the axis where information is produced, with a margin of one e-fold of noise on either side."""
    lows, highs = [], []
    for one in found:
        rate = np.abs(one.curve.rate_per_log_noise()[0])
        seen = np.log(one.curve.sigma)[rate > 0.002 * np.nanmax(rate)]
        noise, places = positions(one.curve, axis)
        for ends, at in ((lows, seen.min() - 1), (highs, seen.max() + 1)):
            ends.append(places[int(np.argmin(np.abs(noise - at)))])
    both = np.array([lows, highs])
    rising = both[0, 0] <= both[1, 0]
    low, high = float(np.nanmin(both)), float(np.nanmax(both))
    return (low, high) if rising else (high, low)


def draw_weights(
    ax: Axes, weights: Mapping[str, tuple[np.ndarray, np.ndarray]], lines: Mapping[str, dict[str, Any]]
) -> None:
    """w against noise, one line a schedule."""
    for name, (x, w) in weights.items():
        order = np.argsort(x)
        ax.plot(x[order], w[order], label=name, **lines[name])
    ax.set_ylabel("mean weight $w$")
