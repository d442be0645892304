"""What a sweep computes: settings that hold for all of it, axes that vary, and one cell for each combination."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from gmm.checks import choose
from gmm.fingerprint import fingerprint
from gmm.process import PROCESSES
from paper_figures.formats.words import tree_shape
from paper_figures.studies.checks import check_sampling

FAMILIES = ("simplex", "orthogonal", "random", "tree", "pair")
METHODS = ("auto", "quadrature", "reduced", "full")
UNIFORM = "uniform"
AXES = ("process", "classes", "dim", "separation", "variance", "prior")
ALWAYS = AXES[:3]
"""Dimensions of every sweep, even at length one; others only if they vary."""
LARGEST = 2**63 - 1
"""The largest whole number that a result file holds, about 9.2e18."""
EXTREME = 1e100
"""Separations and variances between its inverse and this have squares, and multiples of them, that floats hold."""


@dataclasses.dataclass(frozen=True)
class SweepSettings:
    """What holds for every cell of a sweep.

    Attributes:
        family: one of FAMILIES.
        method: one of METHODS; "auto" takes quadrature where there is one, line integrals for two to four classes
            otherwise, else the reduced problem.
        points: noise levels for each cell.
        samples: noisy points for each noise level, where sampling is needed.
        seed: seed of every random number.
        dtype: precision of what is sampled.

    Raises:
        ValueError: on an unknown name or a number out of range.
    """

    family: str = "simplex"
    method: str = "auto"
    points: int = 200
    samples: int = 8192
    seed: int = 0
    dtype: str = "float64"

    def __post_init__(self) -> None:
        choose("family", self.family, FAMILIES)
        choose("method", self.method, METHODS)
        check_sampling(self.samples, self.seed, self.dtype, points=self.points)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One combination of values.

    Attributes:
        process: its name on the command line.
        classes: number of classes K.
        dim: dimension d.
        separation: root mean square of a coordinate of a class mean.
        variance: within-class variance.
        prior: "uniform", or the probability of the first class, the others sharing the rest equally.
        branching: children per node of each level of a tree, coarsest first; empty for other families.
    """

    process: str
    classes: int
    dim: int
    separation: float = 1.0
    variance: float = 1.0
    prior: str = UNIFORM
    branching: tuple[int, ...] = ()

    def weights(self) -> np.ndarray | None:
        """(K,) priors; None for equal ones, which may be too many to write down."""
        if self.prior == UNIFORM:
            return None
        first = float(self.prior)
        return np.array([first] + [(1 - first) / (self.classes - 1)] * (self.classes - 1))

    def identity(self, settings: SweepSettings) -> str:
        """Hash of everything that its numbers depend on, whatever other cells the sweep has."""
        return fingerprint([dataclasses.asdict(self), dataclasses.asdict(settings)])


@dataclasses.dataclass(frozen=True)
class SweepAxes:
    """The axes of a sweep, each a tuple of values; a tree's shapes belong to `classes`, its leaf counts, one by one.

    Raises:
        ValueError: on an empty axis or a value out of range.
    """

    process: tuple[str, ...]
    classes: tuple[int, ...]
    dim: tuple[int, ...]
    separation: tuple[float, ...] = (1.0,)
    variance: tuple[float, ...] = (1.0,)
    prior: tuple[str, ...] = (UNIFORM,)
    branching: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        for name in AXES:
            if not getattr(self, name):
                argument = "dims" if name == "dim" else name
                raise ValueError(f"{argument} must list at least one value, got none")
        for process in self.process:
            choose("process", process, tuple(PROCESSES))
        _check("classes", self.classes, lambda k: _is_count(k, 2), f"whole numbers from 2 to {LARGEST:.2g}")
        _check("dims", self.dim, lambda d: _is_count(d, 1), f"whole numbers from 1 to {LARGEST:.2g}")
        moderate = f"numbers from {1 / EXTREME:g} to {EXTREME:g}"
        _check("separation", self.separation, _is_moderate, moderate)
        _check("variance", self.variance, lambda s: s == 0 or _is_moderate(s), f"0 or {moderate}")
        for prior in self.prior:
            if prior != UNIFORM and not 0 < _number(prior) < 1:
                raise ValueError(f"prior must list '{UNIFORM}' or probabilities in (0, 1), got {prior!r}")

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the result."""
        return tuple(name for name in AXES if name in ALWAYS or len(getattr(self, name)) > 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Their lengths."""
        return tuple(len(getattr(self, name)) for name in self.dims)

    def cells(self) -> Iterator[tuple[tuple[int, ...], Cell]]:
        """Every cell with its place in an array of `shape`."""
        for index in itertools.product(*(range(len(getattr(self, name))) for name in AXES)):
            values = {name: getattr(self, name)[i] for name, i in zip(AXES, index, strict=True)}
            shape = self.branching[index[AXES.index("classes")]] if self.branching else ()
            place = tuple(i for name, i in zip(AXES, index, strict=True) if name in self.dims)
            yield place, Cell(**values, branching=shape)


def sweep_axes(
    family: str,
    *,
    process: str | Sequence[str],
    classes: int | Sequence[int] | None,
    dims: int | Sequence[int],
    separation: float | Sequence[float],
    variance: float | Sequence[float],
    prior: str | float | Sequence[str | float],
    branching: Sequence[str],
) -> SweepAxes:
    """The axes of a sweep; each is one value or several.

    Raises:
        ValueError: when `branching` and `classes` do not fit the family, or as `SweepAxes`.
    """
    shapes = tuple(tree_shape("branching", text) for text in branching)
    if (family == "tree") != bool(shapes):
        raise ValueError(f"branching must be given for a tree and for nothing else, got family {family!r}")
    if shapes and classes is not None:
        raise ValueError("classes must be left out for a tree: its leaves are the classes")
    classes = 2 if classes is None else classes
    if family == "pair" and _whole(classes) != (2,):
        raise ValueError(f"classes must be 2 for a pair, got {classes}; a simplex has any number")
    counts = tuple(map(math.prod, shapes)) if shapes else _whole(classes)
    rest = (_each(separation, float), _each(variance, float), _each(prior, str))
    return SweepAxes(_each(process, str), counts, _whole(dims), *rest, branching=shapes)


def _each(values: Any, kind: Callable[[Any], Any]) -> tuple[Any, ...]:
    """One value or several, NumPy's too, as Python's own: each once, in the order given."""
    several = isinstance(values, Iterable) and not isinstance(values, str)
    return tuple(dict.fromkeys(kind(value) for value in (values if several else (values,))))


def _whole(values: Any) -> tuple[Any, ...]:
    """The same for whole numbers: 1e3 becomes 1000; 10.5 stays, and `SweepAxes` refuses it by name."""
    several = values if isinstance(values, Iterable) else (values,)
    return _each([int(v) if v == v // 1 else float(v) for v in several], lambda value: value)


def _number(text: Any) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _is_count(value: float, least: int) -> bool:
    return least <= value <= LARGEST and value % 1 == 0


def _is_moderate(value: float) -> bool:
    return 1 / EXTREME <= value <= EXTREME


def _check(name: str, values: Sequence[Any], allowed: Callable[[Any], bool], words: str) -> None:
    for value in values:
        if not allowed(value):
            # Whole numbers have no end in Python, and past 1e308 no float to be shown as.
            short = f"{value:g}" if isinstance(value, float) else str(value)
            shown = short if len(short) <= 20 else f"{short[:12]}..."
            raise ValueError(f"{name} must list {words}, got {shown}")
