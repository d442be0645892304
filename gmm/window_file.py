"""Files of windows: JSON with the noise levels between which a model makes a decision, for samplers to read.

Format: ``docs/compare.md``, with its JSON Schema in ``docs/schemas/window.json``.
"""

import dataclasses
import itertools
import json
import math
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from gmm.files import write_aside
from gmm.outside_files import read_outside
from gmm.schema import Finite, Positive, from_json, from_values

FORMAT = "speciation-window/1"
PLACES = ("low", "median", "high")
MAX_BYTES = 1 << 20

Cells = Annotated[Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]], Field(min_length=2)]
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


@dataclasses.dataclass(frozen=True)
class MeasuredWindow:
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
    """

    model: str
    question: str
    cells: Cells
    process: str
    share: Annotated[float, Field(gt=0, lt=1)]
    prior_entropy: Finite
    low: Place
    median: Place
    high: Place
    samplers: tuple[SamplerSteps, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

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
class WindowFile:
    """What a file holds; unknown fields are ignored, so that later versions may add some."""

    format: Literal["speciation-window/1"]
    model: str
    question: str
    cells: Cells
    process: str
    share: Annotated[float, Field(gt=0, lt=1)]
    prior_entropy: Finite
    window: _Places
    samplers: tuple[SamplerSteps, ...]
    facts: dict[str, Any]


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
    shared = ("model", "question", "cells", "process", "share", "prior_entropy", "samplers", "facts")
    return MeasuredWindow(**{name: getattr(contents, name) for name in shared}, **places)


def _check_steps(sampler: SamplerSteps) -> None:
    if len(sampler.sigmas) != sampler.steps:
        raise ValueError(f"sigmas must be {sampler.steps} numbers, one for each step")
    if any(a <= b for a, b in itertools.pairwise(sampler.sigmas)):
        raise ValueError("sigmas must fall from step to step")
    if sampler.inside and not sampler.inside[0] <= sampler.inside[1] < sampler.steps:
        raise ValueError(
            f"inside must be two step indices in 0..{sampler.steps - 1} or null, got {sampler.inside}"
        )
