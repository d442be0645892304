"""Files of windows: JSON with the noise levels between which a model makes a decision, for samplers to read.

Format: ``docs/how-to/compare.md``, with its JSON Schema in ``docs/schemas/window.json``.
"""

import dataclasses
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from gmm.curve import EntropyCurve
from gmm.files import write_aside
from gmm.outside_files import read_outside
from gmm.schema import Finite, Positive, from_json, from_values
from gmm.windows import Window, check_ends, window

FORMAT = "speciation-window/1"
PLACES = ("low", "median", "high")
MAX_BYTES = 1 << 20
_NORMAL_95 = 1.96  # standard errors on either side of a 95% interval
_WIDEST = 300.0  # half-width of an interval in log(σ/α) that floats hold

Cells = Annotated[Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]], Field(min_length=1)]
Step = Annotated[int, Field(ge=0)]


@dataclasses.dataclass(frozen=True)
class Place:
    """One noise level of a window.

    Attributes:
        sigma: σ/α there.
        log_snr: log α²/σ² there.
        t: the process's own time there.
        stderr: standard error of log(σ/α); None where unknown, 0 where exact.
        interval: 95% interval of σ/α, or None.
    """

    sigma: Positive
    log_snr: Finite
    t: Finite
    stderr: Finite | None = None
    interval: tuple[Finite, Finite] | None = None


@dataclasses.dataclass(frozen=True)
class SamplerSteps:
    """A window counted in the steps of a sampler: index 0 is its first evaluation, at the most noise.

    Attributes:
        sampler: how it places its noise levels.
        steps: how many evaluations it takes.
        sigmas: (steps,) its levels σ/α, falling.
        first, median, last: fractional indices at the window's high, median and low noise level; None where
            the sampler's grid does not reach.
        inside: first and last evaluation within the window; None when there is none.
    """

    sampler: str
    steps: Step
    sigmas: tuple[Finite, ...]
    first: Finite | None = None
    median: Finite | None = None
    last: Finite | None = None
    inside: tuple[Step, Step] | None = None

    @classmethod
    def from_sigmas(cls, sampler: str, sigmas: Sequence[float], window: Window) -> "SamplerSteps":
        """The steps of a sampler that evaluates at the falling levels σ/α `sigmas`, and those within a window.

        Raises:
            ValueError: unless sigmas are positive, finite and falling.
        """
        levels = np.asarray(sigmas, np.float64)
        if levels.ndim != 1 or not len(levels) or not (np.isfinite(levels) & (levels > 0)).all():
            raise ValueError(f"sigmas of {sampler} must be positive, finite numbers, got {sigmas!r:.60}")
        if (np.diff(levels) >= 0).any():
            raise ValueError(f"sigmas of {sampler} must fall from step to step")
        noise, index = np.log(levels)[::-1], np.arange(len(levels), dtype=float)[::-1]
        places = np.array([window.high, window.median, window.low])
        indices = np.interp(places, noise, index)
        outside = (places < noise[0]) | (places > noise[-1])
        first, median, last = (None if out else float(i) for i, out in zip(indices, outside, strict=True))
        inside = np.flatnonzero((levels >= np.exp(window.low)) & (levels <= np.exp(window.high)))
        within = (int(inside[0]), int(inside[-1])) if len(inside) else None
        return cls(sampler, len(levels), tuple(map(float, levels)), first, median, last, within)


@dataclasses.dataclass(frozen=True)
class Decided:
    """How much of a decision a curve holds.

    Attributes:
        share: share of H[Z] that is gained from the most to the least noise measured; stderr: its standard error.
        entropy_low, entropy_high: entropy in nats at the least and at the most noise measured, each with its standard
            error. Standard errors are None where unknown.
    """

    share: Finite
    stderr: Finite | None
    entropy_low: Finite
    entropy_low_stderr: Finite | None
    entropy_high: Finite
    entropy_high_stderr: Finite | None

    @classmethod
    def of(cls, window: Window) -> "Decided":
        """How much is decided along the curve of a window."""
        known = (window.decided_stderr, window.entropy_low_stderr, window.entropy_high_stderr)
        share, low, high = (float(e) if math.isfinite(e) else None for e in known)
        return cls(window.decided, share, window.entropy_low, low, window.entropy_high, high)


@dataclasses.dataclass(frozen=True)
class _WindowFacts:
    """Which decision of which model, and how much of it the window holds; see `MeasuredWindow`."""

    model: str
    question: str
    cells: Cells
    process: str
    share: Annotated[float, Field(gt=0, lt=1)]
    prior_entropy: Finite


@dataclasses.dataclass(frozen=True)
class MeasuredWindow(_WindowFacts):
    """The noise interval in which a model makes a decision.

    Attributes:
        model: its name or path.
        question: which decision: the name of its level.
        cells: conditions of each answer, by the answers' names.
        process: the model's forward process, in words.
        share: the window holds this central share of the information about the answer.
        prior_entropy: H[Z] in nats.
        low, median, high: at the window's little noise, middle of information and much noise.
        samplers: the window in the steps of samplers.
        facts: what made it: estimator, samples, seed, versions.
        decided: how much of the decision was measured; None in files of earlier versions.
    """

    low: Place
    median: Place
    high: Place
    samplers: tuple[SamplerSteps, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    decided: Decided | None = None

    @classmethod
    def from_curve(
        cls,
        curve: EntropyCurve,
        *,
        samplers: Mapping[str, Sequence[float]] = MappingProxyType({}),
        model: str = "",
        question: str = "classes",
        cells: Cells | None = None,
        share: float = 0.8,
        allow_partial: bool = False,
        facts: Mapping[str, Any] = MappingProxyType({}),
    ) -> "MeasuredWindow":
        """The window of a curve, which `save_window` writes for samplers.

        Args:
            curve: an entropy curve.
            samplers: σ/α of each evaluation, falling, by the sampler's name.
            model: name of the model; by default that of the curve's denoiser.
            question: name of the decision.
            cells: conditions of each cell, by the cells' names; by default the curve's conditions, or numbers.
            share: the window holds this central share of the information.
            allow_partial: see `gmm.window`.
            facts: further facts beside the curve's metadata.

        Raises:
            ValueError: as `gmm.window`; when the levels of a sampler do not fall, or the window's ends are not on the
                curve.
        """
        curve = curve.in_units("nats")
        interval, metadata = window(curve, share, allow_partial=allow_partial), curve.metadata
        check_ends(interval, curve)
        places = zip(
            (interval.low, interval.median, interval.high),
            (interval.t_low, interval.t_median, interval.t_high),
            (interval.low_stderr, interval.median_stderr, interval.high_stderr),
            strict=True,
        )
        low, median, high = (_place(*place) for place in places)
        return cls(
            model=model or str(metadata.get("denoiser", "")),
            question=question,
            cells=_cells(curve) if cells is None else cells,
            process=str(metadata.get("process", "")),
            share=share,
            prior_entropy=curve.prior_entropy,
            low=low,
            median=median,
            high=high,
            samplers=tuple(SamplerSteps.from_sigmas(name, s, interval) for name, s in samplers.items()),
            facts={**metadata, **facts},
            decided=Decided.of(interval),
        )

    @property
    def sigma(self) -> tuple[float, float, float]:
        """σ/α at low, median and high."""
        return self.low.sigma, self.median.sigma, self.high.sigma

    def contains(self, sigma: float) -> bool:
        """Whether a noise level σ/α lies in the window."""
        return self.low.sigma <= sigma <= self.high.sigma

    def as_dict(self) -> dict[str, Any]:
        """What the file holds."""
        fields = dataclasses.asdict(self)
        places = {name: fields.pop(name) for name in PLACES}
        return {
            "format": FORMAT,
            **fields,
            "cells": {k: list(v) for k, v in self.cells.items()},
            "window": places,
        }

    @classmethod
    def from_dict(cls, values: Any) -> "MeasuredWindow":
        """The window that `as_dict` describes.

        Raises:
            ValueError: naming the field that is missing, of another kind, or in contradiction to another.
        """
        return _window(from_values(WindowFile, values))


@dataclasses.dataclass(frozen=True)
class _Places:
    low: Place
    median: Place
    high: Place


@dataclasses.dataclass(frozen=True)
class WindowFile(_WindowFacts):
    """What a file holds; unknown fields are ignored, so that later versions may add some."""

    format: Literal["speciation-window/1"]
    window: _Places
    samplers: tuple[SamplerSteps, ...]
    facts: dict[str, Any]
    decided: Decided | None = None


def save_window(path: str | os.PathLike[str], window: MeasuredWindow) -> None:
    """Write a window, aside and then renamed.

    Raises:
        ValueError: when it would not be read again, or `path` cannot be written.
    """
    text = json.dumps(window.as_dict(), indent=2, allow_nan=False, default=str)
    _window(from_json(WindowFile, text))
    with write_aside(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def load_window(path: str | os.PathLike[str]) -> MeasuredWindow:
    """The window that a file holds.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    contents = read_outside(path, MAX_BYTES)
    try:
        return _window(from_json(WindowFile, contents))
    except ValueError as error:
        raise ValueError(f"cannot read {os.fspath(path)} as a window: {error}") from error


def _window(contents: WindowFile) -> MeasuredWindow:
    places = {name: getattr(contents.window, name) for name in PLACES}
    for name, place in places.items():
        # log_snr = -2 log σ/α: a file that contradicts itself was edited by hand.
        if abs(place.log_snr + 2 * math.log(place.sigma)) > 1e-6 * (1 + abs(place.log_snr)):
            raise ValueError(f"sigma of {name} must agree with its log_snr")
    if not contents.window.low.sigma < contents.window.median.sigma < contents.window.high.sigma:
        raise ValueError("sigma must rise from low over median to high")
    for sampler in contents.samplers:
        _check_steps(sampler)
    shared = (
        "model",
        "question",
        "cells",
        "process",
        "share",
        "prior_entropy",
        "samplers",
        "facts",
        "decided",
    )
    return MeasuredWindow(**{name: getattr(contents, name) for name in shared}, **places)


def _place(log_sigma: float, t: float, stderr: float) -> Place:
    if not math.isfinite(stderr):
        return Place(math.exp(log_sigma), -2 * log_sigma, t)
    half = min(_NORMAL_95 * stderr, _WIDEST)
    interval = (math.exp(log_sigma - half), math.exp(log_sigma + half))
    return Place(math.exp(log_sigma), -2 * log_sigma, t, stderr, interval)


def _cells(curve: EntropyCurve) -> dict[str, tuple[Any, ...]]:
    """One cell for each of the curve's conditions, or for each number of a cell where conditions share cells."""
    count = curve.per_cell.shape[1]
    conditions = curve.metadata.get("conditions", ())
    members = list(conditions) if len(conditions) == count > 1 else list(range(max(count, 2)))
    return {str(member): (member,) for member in members}


def _check_steps(sampler: SamplerSteps) -> None:
    if len(sampler.sigmas) != sampler.steps:
        raise ValueError(f"sigmas must be {sampler.steps} numbers, one for each step")
    if any(a <= b for a, b in itertools.pairwise(sampler.sigmas)):
        raise ValueError("sigmas must fall from step to step")
    if sampler.inside and not sampler.inside[0] <= sampler.inside[1] < sampler.steps:
        raise ValueError(
            f"inside must be two step indices in 0..{sampler.steps - 1} or null, got {sampler.inside}"
        )
