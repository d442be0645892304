"""Guidance schedules on a model: entropy, its rate, cross-entropy and weight under each; their files."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gmm.curve import EntropyCurve
from gmm.guidance import Guidance
from gmm.guidance_specs import needs_curve, parse_guidance, save_guidance
from neural.estimators import online_entropy, posterior_paths
from neural.models import Model
from neural.progress import Progress
from paper_figures.formats.words import slug
from paper_figures.progress import share
from paper_figures.studies.question import Question

# The plain conditional dynamics: always measured, since the other schedules are compared with it and timed by it.
PLAIN = "none"
# Paths along which the weight of a schedule that depends on the state is averaged.
WEIGHT_PATHS = 64
# How far beside a jump its two sides lie, as a part of the level.
_BESIDE = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredSchedule:
    """What one schedule does.

    Attributes:
        name: its text form.
        schedule: the schedule.
        curve: entropy, rate and cross-entropy along its paths.
        weight: (T,) mean weight along them; NaN where it is not known.
    """

    name: str
    schedule: Guidance
    curve: EntropyCurve
    weight: np.ndarray


def reference(model: Model, guide: Model | None, schedule: Guidance) -> Any:
    """The denoiser that a schedule pulls away from: the model's unconditional one, or the second model's.

    Raises:
        ValueError: when there is none, naming the schedules that still work.
    """
    if schedule.reference == "guide":
        if guide is None:
            raise ValueError(f"schedule {schedule.kind!r} needs a second, worse model; name it with `guide`")
        return guide.denoiser
    if model.unconditional is None:
        auto = ", and auto:W with `guide`" if guide is None else " and auto:W"
        raise ValueError(
            f"{model.name} has no null condition: schedule {schedule.kind!r} has nothing to pull away from; "
            f"none and cfg:1{auto} still work"
        )
    return model.unconditional


def check(question: Question, guide: Model | None, texts: Sequence[str]) -> None:
    """Refuse schedules that cannot be measured, before anything is computed.

    Raises:
        ValueError: for an unknown form, or a schedule whose reference is missing.
    """
    for text in texts:
        schedules = parse_guidance(text, _any_curve()) if needs_curve(text) else parse_guidance(text)
        for schedule in schedules.values():
            if not schedule.is_plain:
                reference(question.model, guide, schedule)


def _any_curve() -> EntropyCurve:
    """A curve that holds its window, with which a form that needs one can be parsed before any is measured."""
    log_snr = np.linspace(-12, 12, 200)
    entropy = 1 / (1 + np.exp(log_snr))
    zero = np.zeros_like(entropy)
    return EntropyCurve(-log_snr, log_snr, entropy, zero, entropy * (1 - entropy), zero, prior_entropy=1.0)


def count(texts: Sequence[str]) -> int:
    """How many schedules the texts stand for, the plain dynamics among them."""
    return 1 + sum(1 + text.count(",") if text.startswith("cfg:") else 1 for text in texts)


def measure(
    question: Question,
    guide: Model | None,
    texts: Sequence[str],
    folder: Path | None,
    progress: Progress | None = None,
) -> list[MeasuredSchedule]:
    """Every schedule, the plain dynamics first.

    Args:
        question: model, decision, grid and seed; curves are those of the first level.
        guide: the second model of autoguidance, or None.
        texts: text forms of schedules.
        folder: where finished parts are kept, and found again by a later call of the same.
        progress: called while trajectories are computed.
    """
    shares = (share(progress, number, count(texts)) for number in range(count(texts)))
    plain = _measured(question, guide, PLAIN, parse_guidance(PLAIN)[PLAIN], folder, next(shares))
    measured = {PLAIN: plain}
    for text in texts:
        for name, schedule in parse_guidance(text, plain.curve).items():
            if name not in measured:
                measured[name] = _measured(question, guide, name, schedule, folder, next(shares, None))
    return list(measured.values())


def _measured(
    question: Question,
    guide: Model | None,
    name: str,
    schedule: Guidance,
    folder: Path | None,
    progress: Progress | None,
) -> MeasuredSchedule:
    options = _options(question, guide, schedule)
    curve = online_entropy(
        question.model.denoiser,
        question.decision.conditions,
        partition=question.partitions[0],
        samples=most_samples(question),
        precision=question.precision,
        folder=folder,
        progress=progress,
        **options,
    )
    if curve.cross_entropy is None:
        # Without guidance trajectories are the model's own, and the two agree for any model.
        more = {"cross_entropy": curve.entropy, "cross_entropy_stderr": curve.entropy_stderr}
        curve = dataclasses.replace(curve, **more)
    measured = {"schedule": name, "guidance": schedule.as_dict(), "samples": curve.metadata["samples"]}
    facts = question.facts() | measured
    curve = dataclasses.replace(curve, metadata={**curve.metadata, **facts})
    return MeasuredSchedule(name, schedule, curve, _mean_weight(question, schedule, curve, options))


def most_samples(question: Question) -> int:
    """Trajectories of a schedule, at most."""
    return question.samples if question.precision is None else question.most


def _options(question: Question, guide: Model | None, schedule: Guidance) -> dict[str, Any]:
    """What estimators take for a schedule; the same noise for all schedules."""
    options = {
        "prior": question.prior,
        "times": question.times,
        "key": jax.random.key(question.seed),
        "shape": question.model.shape,
        "batch": question.batch,
        "tracker": question.tracker,
        "start": question.start,
    }
    if schedule.is_plain:
        return options | ({} if question.tracker == "classes" else {"guide": question.model.unconditional})
    return options | {"guidance": schedule, "guide": reference(question.model, guide, schedule)}


def _mean_weight(
    question: Question, schedule: Guidance, curve: EntropyCurve, options: dict[str, Any]
) -> np.ndarray:
    """(T,) mean weight, along some more paths where it depends on them; NaN where it depends on the guidance vector."""
    if schedule.needs_gap and schedule.of_state:
        return np.full(curve.t.shape, np.nan)
    if not schedule.of_state:
        return np.asarray(schedule.weight(curve.sigma), np.float64)
    paths = posterior_paths(
        question.model.denoiser,
        question.decision.conditions,
        samples=min(WEIGHT_PATHS, question.samples),
        **options,
    )
    assert paths.log_ratio is not None
    tracked, weights = np.zeros(paths.log_ratio.shape[1]), []
    for step in np.diff(paths.log_ratio, axis=0, prepend=paths.log_ratio[:1]):
        tracked = np.asarray(schedule.tracked(tracked, step))
        weights.append(float(np.mean(np.asarray(schedule.weight(1.0, tracked)))))
    return np.array(weights)


def weights_at_levels(
    schedule: Guidance, ends: tuple[float, float], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The weight of a schedule that depends on the noise level alone.

    Args:
        schedule: with `of_state` False.
        ends: log(σ/α) between which it is wanted.
        count: how many levels, equally far apart; both sides of every jump come on top.

    Returns:
        log(σ/α), rising, and the weights there.
    """
    jumps = np.array([level for level in schedule.jumps if np.exp(ends[0]) < level < np.exp(ends[1])])
    sides = np.log(np.concatenate([jumps * (1 - _BESIDE), jumps * (1 + _BESIDE)]))
    noise = np.sort(np.concatenate([np.linspace(*ends, count), sides]))
    with jax.enable_x64(True):
        return noise, np.asarray(schedule.weight(np.exp(noise)), np.float64)


def write(folder: Path, measured: Sequence[MeasuredSchedule]) -> None:
    """Write guidance.json, and one curve file for each schedule."""
    for guided in measured:
        facts = {**guided.curve.metadata, "mean_weight": guided.weight.tolist()}
        dataclasses.replace(guided.curve, metadata=facts).save(folder / f"guidance-{slug(guided.name)}.nc")
    save_guidance(folder / "guidance.json", {guided.name: guided.schedule for guided in measured})
