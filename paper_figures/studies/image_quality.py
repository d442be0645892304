"""The quality of a network's images under guidance schedules, by the features that vision networks give them.

Images are those that `plan_pictures` plans for metrics: image i depends on the seed, i and the schedule alone.
They are not kept; their features are, some images at a time, so that a run that was stopped goes on.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gmm.curve import EntropyCurve
from gmm.fingerprint import fingerprint
from gmm.guidance import Guidance, LimitedInterval
from gmm.guidance_specs import needs_curve, parse_guidance
from gmm.netcdf import load_whole
from neural.models import Model
from neural.pictures import ToPictures
from neural.progress import Progress
from neural.vision.distances import GROUPS, Distance
from neural.vision.judge import BATCH, VisionJudge
from neural.vision.quality import ImageQuality, image_quality
from paper_figures.files import save_dataset
from paper_figures.studies.parts import Parts, kept_arrays
from paper_figures.studies.pictures import PictureSettings, drawn_by_seed, states_of
from paper_figures.studies.references import Reference, identity

CHUNK = 50
"""Images whose features are kept together; the last ones that a kill can lose."""
LEAST = 2 * GROUPS
"""Fewer images have no error bar."""
NAMES = {"inception": "FID", "dinov2": "FD-DINOv2", "clip": "FD-CLIP"}
"""The Fréchet distance on the features of each family of vision networks."""
NEIGHBOURS = ("precision", "recall", "density", "coverage")
MEASURES = ("frechet", "kernel", *NEIGHBOURS)
PLAIN = "none"
_DIGITS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Which images are generated, and by whom they are judged.

    Attributes:
        model: the network.
        pictures: from its states to 8-bit images.
        settings: how images are made; the schedule is added.
        judges: vision networks by the name of their Fréchet distance.
        seeds: one for each image.
        facts: what else identifies the images, such as hashes of the weights.
    """

    model: Model
    pictures: ToPictures
    settings: PictureSettings
    judges: Mapping[str, VisionJudge]
    seeds: range
    facts: Any = None

    @property
    def side(self) -> int:
        """Pixels along a side of an image."""
        return int(np.shape(self.pictures(np.zeros((1, *self.model.shape), np.float32)))[1])

    def identity(self, schedule: Guidance) -> str:
        """A hash of all that the features under a schedule follow from, but for the seeds."""
        known = {name: identity(judge) for name, judge in self.judges.items()}
        settings = dataclasses.replace(self.settings, model="", decoder="", schedule="")
        facts = [self.facts, known, dataclasses.asdict(settings), schedule.as_dict()]
        return fingerprint(json.loads(json.dumps(facts, default=str)))[:20]


def judges_by_name(judges: Sequence[VisionJudge]) -> dict[str, VisionJudge]:
    """Judges by the name of their Fréchet distance.

    Raises:
        ValueError: for two of one family.
    """
    named = {NAMES[judge.family]: judge for judge in judges}
    if len(named) < len(judges):
        raise ValueError("weights must name judges of different kinds: one of Inception, DINOv2, CLIP each")
    return named


def expanded(texts: Sequence[str]) -> list[str]:
    """Schedules one by one, the plain dynamics first; those that wait for a curve as they are.

    Raises:
        ValueError: for an unknown form, a profile, one that needs a second model, or a file of several schedules.
    """
    found = {PLAIN: None}
    for text in texts:
        if needs_curve(text):
            if "profile" in text:
                raise ValueError(f"schedules: {text} is no interval; take entropy:W or entropy:W:SHARE")
            found[text] = None
            continue
        parsed = parse_guidance(text)
        if text.endswith(".json") and len(parsed) != 1:
            raise ValueError(
                f"schedules: {text} must hold one schedule, got {len(parsed)}; name one file for each"
            )
        for name, schedule in parsed.items():
            if schedule.reference == "guide":
                raise ValueError(
                    f"schedules: {name} needs a second model, which this experiment does not take"
                )
            found[text if text.endswith(".json") else name] = None
    return list(found)


def resolved(texts: Sequence[str], curve: EntropyCurve) -> dict[str, str]:
    """Schedules in a form that needs no curve, by the form that was asked for; those timed by it as intervals.

    Left out are those whose window the curve does not hold.
    """
    found = {text: text for text in texts if not needs_curve(text)}
    for text in texts:
        if not needs_curve(text):
            continue
        try:
            (schedule,) = parse_guidance(text, curve).values()
        except ValueError:
            continue
        assert isinstance(schedule, LimitedInterval)
        low, high = (f"{float(end):.{_DIGITS}g}" for end in (schedule.low, schedule.high))
        found[text] = f"interval:{float(schedule.w):g}:{low}..{high}"
    return {text: found[text] for text in texts if text in found}


def schedule_of(text: str) -> Guidance:
    """The one schedule of a text form."""
    (schedule,) = parse_guidance(text).values()
    return schedule


def features(
    images: Images, schedule: str, folder: Path | None, progress: Progress | None = None
) -> dict[str, np.ndarray]:
    """(n, F) features of the images under one schedule, by every judge; those that are kept are not made again."""
    starts = images.seeds[::CHUNK]
    chunks = [range(start, min(start + CHUNK, images.seeds.stop)) for start in starts]
    size = min(CHUNK, len(images.seeds))
    settings = dataclasses.replace(images.settings, schedule=schedule)
    conditions = list(zip(images.model.names, images.model.conditions or (), strict=True))

    def one(number: int, ours: Progress | None) -> Mapping[str, np.ndarray]:
        drawn = drawn_by_seed(conditions, chunks[number])
        states = states_of(images.model, settings, drawn, size, ours)
        shown = images.pictures(states)[: len(drawn)]
        colour = np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown
        batch = min(BATCH, len(colour))
        return {name: judge.features(colour, batch=batch) for name, judge in images.judges.items()}

    known = images.identity(schedule_of(schedule))
    names = [f"images-{known}-{chunk.start:07d}-{len(chunk)}" for chunk in chunks]
    parts = kept_arrays(folder).divided(names, one, progress)
    return {name: np.concatenate([part[name] for part in parts]) for name in images.judges}


def measure(
    images: Images,
    schedules: Mapping[str, str],
    references: Mapping[str, Reference],
    reference_facts: Any,
    folder: Path | None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """The quality under every schedule.

    Args:
        images: which images.
        schedules: text form by the form that was asked for.
        references: what each judge compares with.
        reference_facts: what identifies them.
        folder: where features and finished schedules are kept.
        progress: called while images are made.

    Returns:
        Dataset (schedule, judge, measure) with `value`, `stderr`, `bias` (NaN where a measure is not defined), and
        (schedule,) `weight`, `low` and `high` in σ/α: of a constant schedule 0 and inf, NaN of those that are neither
        constant nor an interval. Its attribute `caveats` says what too few images do.
    """
    store = Parts(folder, ".nc", load_whole, save_dataset)
    texts = list(schedules)

    def one(number: int, ours: Progress | None) -> xr.Dataset:
        made = features(
            images, schedules[texts[number]], None if folder is None else folder / "features", ours
        )
        return _row(schedules[texts[number]], {name: _quality(made[name], references[name]) for name in made})

    known = [images.identity(schedule_of(text)) for text in schedules.values()]
    seeds = [images.seeds.start, images.seeds.stop]
    names = [f"quality-{fingerprint([one, seeds, reference_facts])[:20]}" for one in known]
    rows = list(store.each(names, one, progress))
    return xr.concat(rows, dim="schedule", combine_attrs="override").assign_coords(schedule=texts)


def _quality(made: np.ndarray, reference: Reference) -> ImageQuality:
    """By the images where there are some; the Fréchet distance by published statistics where there are any."""
    by_images = None if reference.features is None else image_quality(made, reference.features)
    if reference.moments is None:
        assert by_images is not None
        return by_images
    by_moments = image_quality(made, reference.moments)
    return (
        by_moments
        if by_images is None
        else dataclasses.replace(by_images, frechet=by_moments.frechet, real=by_moments.real)
    )


def _row(text: str, found: Mapping[str, ImageQuality]) -> xr.Dataset:
    """One schedule's numbers."""
    weight, low, high = interval_of(schedule_of(text))
    parts = [_distances(one) for one in found.values()]
    data: dict[str, Any] = {
        kind: (("judge", "measure"), [[getattr(one[name], kind) for name in MEASURES] for one in parts])
        for kind in ("value", "stderr", "bias")
    }
    caveats = [f"{name}: {line}" for name, one in found.items() for line in one.caveats]
    data |= {"weight": weight, "low": low, "high": high}
    return xr.Dataset(
        data, {"judge": list(found), "measure": list(MEASURES)}, {"caveats": json.dumps(caveats)}
    )


def _distances(quality: ImageQuality) -> dict[str, Distance]:
    nothing = Distance(np.nan, np.nan, np.nan)
    kernel = quality.kernel
    of_kernel = nothing if kernel is None else Distance(float(kernel.value), float(kernel.stderr), 0.0)
    near = {name: quality.neighbours.get(name, nothing) for name in NEIGHBOURS}
    return {"frechet": quality.frechet, "kernel": of_kernel, **near}


def interval_of(schedule: Guidance) -> tuple[float, float, float]:
    """Weight and ends in σ/α of a schedule, see `measure`."""
    if isinstance(schedule, LimitedInterval):
        return float(schedule.w), float(schedule.low), float(schedule.high)
    if schedule.is_plain:
        return 1.0, 0.0, np.inf
    weight = getattr(schedule, "w", None) if schedule.kind == "cfg" else None
    return (np.nan, np.nan, np.nan) if weight is None else (float(weight), 0.0, np.inf)
