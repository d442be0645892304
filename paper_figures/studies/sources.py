"""Measuring a decision of a model: which curves, at what cost, run by run, with nothing finished lost.

Every curve is measured in independent runs of equal size. Their mean is the curve; what is read off it gets its
uncertainty from how the runs differ (`gmm.pooling`).
"""

import dataclasses
import functools
import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

import gmm
from gmm.curve import EntropyCurve
from gmm.datasets import LabelledData
from gmm.families import empirical, fitted
from neural.decisions import Decision
from neural.denoiser import as_pytree, denoise_each, encode, from_pytree, state_dtype
from neural.estimators import check_stochastic, evaluations, gap_entropy, online_entropy
from neural.models import Grid, Model
from paper_figures.progress import Watch

# Independent runs of a curve: enough for Student's t to be close to the normal law, few enough to keep each large.
RUNS = 16
# Points a noise level and run, where a mixture is sampled exactly.
EXACT_SAMPLES = 128
DATA_POINTS = 10_000
MIXTURE_COMPONENTS = 4
MIXTURE_SHRINKAGE = 0.1
AGAINST = ("exact", "empirical", "gaussian", "mixture")
ONLINE, GAP = "trained, online", "trained, gap"
# Paths of a class that few samples happen to miss take theirs from so many.
FEWEST_OF_A_CLASS = 4
LABELS = {
    "exact": "exact",
    "empirical": "data",
    "gaussian": "a Gaussian a class",
    "mixture": "a mixture a class",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """A decision of a model, and how hard to look.

    Attributes:
        model: the model.
        decision: what it decides between.
        prior: (K,) of the decision's conditions.
        samples: trajectories of an estimator in all.
        steps: noise levels, and network evaluations of a trajectory and condition.
        grid: where they lie.
        seed: of every random number.
        tracker, start, eta: as in `neural.online_entropy`.
        batch: states that the network sees at a time; None for the estimators' own choice.
        data_points: most points of a data set that stand for it.

    Raises:
        ValueError: on samples < 2, steps < 2, or a sampler that is not stochastic.
    """

    model: Model
    decision: Decision
    prior: np.ndarray
    samples: int
    steps: int
    grid: Grid
    seed: int = 0
    tracker: str = "classes"
    start: str = "state"
    batch: int | None = None
    eta: float = 1.0
    data_points: int = DATA_POINTS

    def __post_init__(self) -> None:
        check_stochastic(self.eta)
        if self.samples < 2:
            raise ValueError(f"--samples must be at least 2, got {self.samples}")
        if self.steps < 2:
            raise ValueError(f"--steps must be at least 2, got {self.steps}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed must be in 0..2^63-1, got {self.seed}")

    @functools.cached_property
    def times(self) -> np.ndarray:
        """(steps,) falling times."""
        return self.grid.times(self.model.process, self.steps)

    @property
    def runs(self) -> int:
        """Independent runs, of two trajectories at least."""
        return max(1, min(RUNS, self.samples // 2))

    @property
    def per_run(self) -> int:
        """Trajectories a run: as many as asked for, rounded up to whole runs."""
        return -(-self.samples // self.runs)

    @property
    def partitions(self) -> list[gmm.Partition]:
        """One for each level."""
        return [level.partition for level in self.decision.levels]

    @functools.cached_property
    def places(self) -> np.ndarray:
        """(K,) index among the model's conditions of each of the decision's."""
        known = {condition: index for index, condition in enumerate(self.model.conditions or ())}
        return np.array([known[condition] for condition in self.decision.conditions])

    def key(self, stream: int, run: int) -> PRNGKeyArray:
        """Random key of a run; streams tell sources apart."""
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), stream), run)

    def evaluations(self) -> int:
        """Network evaluations of one estimator."""
        size = len(self.decision.conditions), self.runs * self.per_run, self.steps
        return evaluations(*size, tracker=self.tracker, start=self.start)


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Where a curve comes from.

    Attributes:
        name: how it is labelled.
        evaluations: network evaluations that it costs.
        runs: how many.
        measure: (run, folder of finished parts, progress) -> a curve a level.
    """

    name: str
    evaluations: int
    runs: int
    measure: Callable[[int, Path | None, Callable[[int, int], None] | None], list[EntropyCurve]]


# name of a source -> for every level the curves of its runs
Measured = dict[str, list[list[EntropyCurve]]]


def measure(sources: Sequence[Source], parts: Path | None, watch: Watch | None = None) -> Measured:
    """Every run of every source.

    Args:
        sources: in the order of their work.
        parts: folder where finished parts are kept, to be read by a later call of the same.
        watch: called with (source, work done, in all), in runs.
    """
    found: Measured = {}
    for source in sources:
        runs = []
        for run in range(source.runs):

            def progress(done: int, total: int, source: Source = source, run: int = run) -> None:
                if watch is not None:
                    watch(source.name, 1000 * run + 1000 * done // max(total, 1), 1000 * source.runs)

            runs.append(source.measure(run, parts, progress))
        if watch is not None:
            watch(source.name, 1000 * source.runs, 1000 * source.runs)
        found[source.name] = [list(level) for level in zip(*runs, strict=True)]
    return found


# ------------------------------------------------------------------------------------------- trained models


def online(question: Question) -> Source:
    """The model's own posterior along its own trajectories."""

    def measured(run: int, parts: Path | None, progress: Any) -> list[EntropyCurve]:
        return online_entropy(
            question.model.denoiser,
            question.decision.conditions,
            partition=question.partitions,
            prior=question.prior,
            tracker=question.tracker,
            guide=question.model.unconditional if question.tracker != "classes" else None,
            key=question.key(1, run),
            samples=question.per_run,
            eta=question.eta,
            **_options(question, parts, progress),
        )

    return Source(ONLINE, question.evaluations(), question.runs, measured)


def gap(question: Question) -> Source:
    """The integral of the denoiser gap, over data where there are some, else over the model's own samples."""
    drawn = question.model.mixture is not None
    data = None if drawn else _points(question)
    # The way from noise to the model's own samples: Heun's sampler, two evaluations a step.
    own = 0 if drawn or data is not None else question.runs * question.per_run * 2 * question.steps
    cost = dataclasses.replace(question, tracker="classes").evaluations() + own

    def measured(run: int, parts: Path | None, progress: Any) -> list[EntropyCurve]:
        key = question.key(2, run)
        return gap_entropy(
            question.model.denoiser,
            question.decision.conditions,
            data=_drawn(question, jax.random.fold_in(key, 1)) if drawn else data,
            partition=question.partitions,
            prior=question.prior,
            key=key,
            samples=question.per_run,
            labels="positions",
            **_options(question, parts, progress),
        )

    return Source(GAP, cost, question.runs, measured)


def _options(question: Question, parts: Path | None, progress: Any) -> dict[str, Any]:
    return {
        "times": question.times,
        "start": question.start,
        "shape": question.model.shape,
        "batch": question.batch,
        "folder": parts,
        "progress": progress,
    }


def _points(question: Question) -> tuple[np.ndarray, np.ndarray] | None:
    """The data as states, each with the number of its condition in the decision, -1 for others."""
    data = data_of(question)
    if data is None:
        return None
    number = np.full(len(question.model.names), -1)
    number[question.places] = np.arange(len(question.places))
    return data.x.reshape(-1, *question.model.shape), number[data.y]


def _drawn(question: Question, key: PRNGKeyArray) -> tuple[Any, Any]:
    """Fresh samples of the law that the model was trained on, two for each path that needs one, and of every class."""
    mixture = _exact_mixture(question)
    x, component = map(np.asarray, gmm.sample(mixture, key, 4 * question.per_run))
    for absent in np.setdiff1d(np.arange(mixture.components), component):
        more, _ = gmm.sample(
            mixture.take(np.array([absent])), jax.random.fold_in(key, absent), FEWEST_OF_A_CLASS
        )
        x = np.concatenate([x, more])
        component = np.concatenate([component, np.full(FEWEST_OF_A_CLASS, absent)])
    return x, component


def data_of(question: Question) -> LabelledData | None:
    """The data that the model was trained on, those of the decision alone; None where there are none.

    Raises:
        ValueError: when they do not fit the model.
    """
    model = question.model
    if model.data is None:
        return None
    data = model.data()
    if int(np.prod(data.shape)) != int(np.prod(model.shape)) or len(data.classes) != len(model.names):
        raise ValueError(
            f"data of {model.name} must be points of shape {model.shape} in {len(model.names)} classes, got "
            f"{data.name} of shape {data.shape} in {len(data.classes)}: checkpoint and data do not match"
        )
    inside = np.flatnonzero(np.isin(data.y, question.places))
    missing = np.setdiff1d(question.places, data.y)
    if missing.size:
        raise ValueError(f"data of {model.name} ({data.name}) have no point of {model.names[missing[0]]!r}")
    return dataclasses.replace(data, x=data.x[inside], y=data.y[inside])


# ------------------------------------------------------------------------------------------- exact curves


def against(question: Question, names: Sequence[str] | None) -> list[Source]:
    """The exact curves to lay a model over.

    Args:
        question: the decision.
        names: of `AGAINST`; None for those that the model's training law or data allow.

    Raises:
        ValueError: for one that they do not allow.
    """
    model = question.model
    if names is None:
        known = model.data is not None
        names = ["exact"] if model.mixture is not None else ["empirical", "gaussian"] if known else []
    for name in names:
        if name == "exact" and model.mixture is None:
            raise ValueError(f"--against exact needs a model of a known mixture; {model.name} is none")
        if name != "exact" and model.data is None:
            raise ValueError(
                f"--against {name} needs the data that {model.name} was trained on, which are not known"
            )
    laws = {name: _law(question, name) for name in names}
    return [_sampled(question, LABELS[name], 3 + AGAINST.index(name), law) for name, law in laws.items()]


def _law(question: Question, name: str) -> Callable[[], tuple[gmm.Mixture, np.ndarray]]:
    """A mixture for the data, and the condition (its number in the decision) of each component."""

    @functools.cache
    def law() -> tuple[gmm.Mixture, np.ndarray]:
        if name == "exact":
            mixture = jax.tree.map(lambda leaf: leaf.astype(float), _exact_mixture(question))
            shared = not isinstance(mixture.covariance, gmm.Isotropic) or np.ndim(mixture.covariance.var) > 0
            return (mixture if shared else gmm.reduce(mixture)), np.arange(mixture.components)
        data = data_of(question)
        assert data is not None
        some = data.subset(question.data_points, question.seed)
        x, number = some.x.astype(np.float64), np.searchsorted(np.sort(question.places), some.y)
        order = np.argsort(question.places)
        mixture, partition = _fit(name, x, number, question.seed)
        condition = order[partition.labels]
        return _weighted(mixture, condition, question.prior), condition

    return law


def _fit(name: str, x: np.ndarray, number: np.ndarray, seed: int) -> tuple[gmm.Mixture, gmm.Partition]:
    if name == "empirical":
        return empirical(x, number)
    if name == "gaussian":
        return fitted(x, number, covariance="shared", seed=seed)
    return fitted(x, number, components=MIXTURE_COMPONENTS, shrinkage=MIXTURE_SHRINKAGE, seed=seed)


def _exact_mixture(question: Question) -> gmm.Mixture:
    mixture = question.model.mixture
    assert mixture is not None
    return mixture.take(question.places).reweighted(jnp.log(jnp.asarray(question.prior)))


def _weighted(mixture: gmm.Mixture, condition: np.ndarray, prior: np.ndarray) -> gmm.Mixture:
    """The mixture with the decision's prior in place of the data's frequencies."""
    weights = np.asarray(mixture.weights, np.float64)
    share = np.bincount(condition, weights, minlength=len(prior))
    return mixture.reweighted(jnp.log(jnp.asarray(weights * (prior / share)[condition])))


def _sampled(
    question: Question, label: str, stream: int, law: Callable[[], tuple[gmm.Mixture, np.ndarray]]
) -> Source:
    def measured(run: int, parts: Path | None, progress: Any) -> list[EntropyCurve]:
        with jax.enable_x64(True):
            mixture, condition = law()
            labels = [gmm.Partition(partition.labels[condition]) for partition in question.partitions]
            place = None if parts is None else parts / f"{_digest(mixture, labels, question, stream)}-{run}"
            return _kept(
                place,
                len(labels),
                lambda level: gmm.class_entropy(
                    mixture,
                    question.model.process,
                    question.times,
                    partition=labels[level],
                    key=question.key(stream, run),
                    samples=EXACT_SAMPLES,
                    # Between the many points of a data set midpoints of pairs help nothing.
                    boundary=mixture.components <= 1000,
                    progress=progress if level == 0 else None,
                ),
            )

    return Source(label, 0, RUNS, measured)


def _kept(place: Path | None, levels: int, compute: Callable[[int], EntropyCurve]) -> list[EntropyCurve]:
    """A curve a level, from the disk where an earlier call left them."""
    curves = []
    for level in range(levels):
        path = None if place is None else place.with_name(f"{place.name}-{level}.nc")
        try:
            if path is None or not path.exists():
                raise ValueError("not there")
            curve = EntropyCurve.load(path)
        except ValueError:  # or damaged: compute it again
            curve = compute(level)
            if path is not None:
                curve.save(path)
        curves.append(curve)
    return curves


def _digest(mixture: gmm.Mixture, labels: Sequence[gmm.Partition], question: Question, stream: int) -> str:
    digest = hashlib.sha256()
    for array in (*jax.tree.leaves(mixture), *(p.labels for p in labels), question.times):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(f"{question.model.process.describe()} {question.seed} {stream} {EXACT_SAMPLES}".encode())
    return digest.hexdigest()[:20]


# ------------------------------------------------------------------------------------------- cost and progress


def seconds_per_evaluation(question: Question) -> float:
    """Time of one evaluation of the network, from one timed call of the size that the estimators use."""
    model = question.model
    conditions = encode(model.denoiser, question.decision.conditions)
    count = len(question.decision.conditions)
    most = question.batch or max(1, 2**20 // (int(np.prod(model.shape)) * count))
    states = min(question.per_run, most)
    wrapped, dtype = as_pytree(model.denoiser), state_dtype(model.denoiser)

    @jax.jit
    def call(wrapped: Any, x: Any, t: Any) -> Any:
        at_once = max(1, most // states)
        return jnp.sum(denoise_each(from_pytree(wrapped), x, t, conditions, at_once))

    x = jnp.ones((states, *model.shape), dtype)
    middle = jnp.asarray(question.times[len(question.times) // 2])
    took = []
    for _ in range(2):  # the first call compiles
        started = time.perf_counter()
        call(wrapped, x, middle).block_until_ready()
        took.append(time.perf_counter() - started)
    return took[-1] / (states * count)


def in_words(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 1:
        return "less than a second"
    for limit, size, unit in ((100, 1, "s"), (100 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}" if size < 3600 else f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"


def forget(parts: Path) -> None:
    """Remove the finished parts of a measurement that is whole."""
    shutil.rmtree(parts, ignore_errors=True)
