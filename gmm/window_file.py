"""Windows on disk: JSON that says between which noise levels a model decides, for samplers to read.

Schema: ``docs/compare.md``. A file is untrusted text until `read_window` has checked it.
"""

import dataclasses
import itertools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gmm.files import write_aside

FORMAT = "speciation-window/1"
PLACES = ("low", "median", "high")
MAX_BYTES = 1 << 20


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

    sigma: float
    log_snr: float
    t: float
    stderr: float | None = None
    interval: tuple[float, float] | None = None


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
    steps: int
    sigmas: tuple[float, ...]
    first: float | None
    median: float | None
    last: float | None
    inside: tuple[int, int] | None


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
    cells: Mapping[str, tuple[Any, ...]]
    process: str
    share: float
    prior_entropy: float
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
        held = dataclasses.asdict(self)
        places = {name: held.pop(name) for name in PLACES}
        return {
            "format": FORMAT,
            **held,
            "cells": {k: list(v) for k, v in self.cells.items()},
            "window": places,
        }


def write_window(path: str | os.PathLike[str], window: MeasuredWindow) -> None:
    """Write a window, aside and then renamed.

    Raises:
        ValueError: when it would not be read again, or `path` cannot be written.
    """
    text = json.dumps(window.as_dict(), indent=2, allow_nan=False, default=str)
    from_dict(json.loads(text))
    with write_aside(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def read_window(path: str | os.PathLike[str]) -> MeasuredWindow:
    """Read a window.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"a window file has at most {MAX_BYTES} bytes")
        return from_dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ValueError(f"no such file: {file}") from error
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"cannot read {file} as a window: {error}") from error


def from_dict(held: Any) -> MeasuredWindow:
    """A window from what a file holds; unknown fields are left alone, so that later versions may add some.

    Raises:
        ValueError: naming the field that is missing or of another kind.
    """
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        found = held.get("format") if isinstance(held, dict) else type(held).__name__
        raise ValueError(f"format must be {FORMAT!r}, got {found!r}")
    share = _number(held, "share")
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), got {share}")
    places = _field(held, "window", dict)
    low, median, high = (_place(_field(places, name, dict), name) for name in PLACES)
    if not low.sigma < median.sigma < high.sigma:
        raise ValueError("sigma must rise from low over median to high")
    return MeasuredWindow(
        model=_field(held, "model", str),
        question=_field(held, "question", str),
        cells={str(k): tuple(v) for k, v in _cells(held).items()},
        process=_field(held, "process", str),
        share=share,
        prior_entropy=_number(held, "prior_entropy"),
        low=low,
        median=median,
        high=high,
        samplers=tuple(map(_sampler, _field(held, "samplers", list))),
        facts=_field(held, "facts", dict),
    )


def _cells(held: Mapping[str, Any]) -> dict[str, list]:
    cells = _field(held, "cells", dict)
    if len(cells) < 2 or not all(isinstance(members, list) and members for members in cells.values()):
        raise ValueError("cells must map two names or more to lists of conditions")
    return cells


def _place(held: Mapping[str, Any], name: str) -> Place:
    interval = held.get("interval")
    if interval is not None and not (
        isinstance(interval, list) and len(interval) == 2 and all(map(_is_number, interval))
    ):
        raise ValueError(f"interval of {name} must be two numbers or null, got {interval!r}")
    place = Place(
        sigma=_number(held, "sigma"),
        log_snr=_number(held, "log_snr"),
        t=_number(held, "t"),
        stderr=None if held.get("stderr") is None else _number(held, "stderr"),
        interval=None if interval is None else (float(interval[0]), float(interval[1])),
    )
    # log_snr = -2 log σ/α: a file that contradicts itself was edited by hand.
    if place.sigma <= 0 or abs(place.log_snr + 2 * math.log(place.sigma)) > 1e-6 * (1 + abs(place.log_snr)):
        raise ValueError(f"sigma of {name} must be positive and agree with its log_snr")
    return place


def _sampler(held: Any) -> SamplerSteps:
    if not isinstance(held, dict):
        raise ValueError(f"samplers must list objects, got {held!r}")
    steps, sigmas, inside = _field(held, "steps", int), _field(held, "sigmas", list), held.get("inside")
    if len(sigmas) != steps or not all(map(_is_number, sigmas)):
        raise ValueError(f"sigmas must be {steps} numbers, one a step")
    if any(a <= b for a, b in itertools.pairwise(sigmas)):
        raise ValueError("sigmas must fall from step to step")
    whole = isinstance(inside, list) and len(inside) == 2 and all(type(i) is int for i in inside)
    if inside is not None and not (whole and 0 <= inside[0] <= inside[1] < steps):
        raise ValueError(f"inside must be two step indices in 0..{steps - 1} or null, got {inside!r}")
    index = {n: None if held.get(n) is None else _number(held, n) for n in ("first", "median", "last")}
    return SamplerSteps(
        sampler=_field(held, "sampler", str),
        steps=steps,
        sigmas=tuple(map(float, sigmas)),
        **index,
        inside=None if inside is None else (inside[0], inside[1]),
    )


def _field(held: Mapping[str, Any], name: str, kind: type) -> Any:
    value = held.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {dict: "an object", list: "a list", str: "text", int: "a whole number"}
        raise ValueError(f"{name} must be {words[kind]}, got {value!r:.60}")
    return value


def _number(held: Mapping[str, Any], name: str) -> float:
    value = held.get(name)
    if not _is_number(value):
        raise ValueError(f"{name} must be a finite number, got {value!r:.60}")
    return float(value)  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
