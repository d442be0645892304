"""Where the curves of a question come from: a trained model by two estimators, and exact curves of its data."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
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
from gmm.fingerprint import fingerprint
from neural.estimators import gap_entropy, most_evaluations, online_entropy, precise_entropy
from neural.models import Model
from neural.progress import Progress
from paper_figures.progress import share
from paper_figures.studies.exact_laws import exact_law_curve, is_exact
from paper_figures.studies.parts import Parts, whole_curve
from paper_figures.studies.question import RUNS, Question

# Points for each noise level and run, where a mixture is sampled exactly.
EXACT_SAMPLES = 128
MIXTURE_COMPONENTS = 4
MIXTURE_SHRINKAGE = 0.1
ONLINE, GAP = "trained, online", "trained, gap"
# Of a class that the random draw misses, so many samples are drawn on their own.
FEWEST_OF_A_CLASS = 4
LABELS = {
    "exact": "exact",
    "empirical": "data",
    "gaussian": "a Gaussian a class",
    "mixture": "a mixture a class",
}
AGAINST = tuple(LABELS)
# Midpoints of pairs of components sharpen the curve of a mixture of at most so many.
MOST_FOR_MIDPOINTS = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Where a curve comes from.

    Attributes:
        name: its label.
        evaluations: network evaluations that it costs, at most; 0 for an exact curve.
        least: how few it may cost, where that depends on what is found; None where it does not.
        runs: how many independent runs it has.
        measure: (run, folder of finished parts, progress) -> one curve for each level.
    """

    name: str
    evaluations: int
    runs: int
    measure: Callable[[int, Path | None, Progress | None], list[EntropyCurve]]
    least: int | None = None


Runs = list[list[EntropyCurve]]
"""For each level the curves of the independent runs."""


def measure(
    sources: Sequence[Source], parts: Path | None, progress: Progress | None = None
) -> dict[str, Runs]:
    """The curves of every run of every source, by the source's name.

    Args:
        sources: measured in this order.
        parts: folder where finished parts are kept, and found again by a later call of the same.
        progress: called while they are measured.
    """
    measured = {}
    for number, source in enumerate(sources):
        ours = share(progress, number, len(sources))
        runs = [source.measure(run, parts, share(ours, run, source.runs)) for run in range(source.runs)]
        measured[source.name] = [list(level) for level in zip(*runs, strict=True)]
    return measured


# ------------------------------------------------------------------------------------------- trained models


def online(question: Question) -> Source:
    """The model's own posterior along its own trajectories."""
    return _online(question) if question.precision is None else _precise(question)


def _precise(question: Question) -> Source:
    """The same to a stated precision, in one run that says its own errors."""
    cost = most_evaluations(len(question.decision.conditions), question.most)

    def measured(run: int, parts: Path | None, progress: Progress | None) -> list[EntropyCurve]:
        options: dict[str, Any] = _options(question, parts, progress) | {"samples": question.most}
        key = question.key(1, run)
        return precise_entropy(
            question.model.denoiser,
            question.decision.conditions,
            precision=question.precision,
            key=key,
            **options,
        )

    return Source(ONLINE, cost[1], 1, measured, least=cost[0])


def _online(question: Question) -> Source:
    """The same with a fixed number of trajectories, in independent runs."""

    def measured(run: int, parts: Path | None, progress: Progress | None) -> list[EntropyCurve]:
        return online_entropy(
            question.model.denoiser,
            question.decision.conditions,
            tracker=question.tracker,
            guide=question.model.unconditional if question.tracker != "classes" else None,
            key=question.key(1, run),
            eta=question.eta,
            **_options(question, parts, progress),
        )

    return Source(ONLINE, question.evaluations(), question.runs, measured)


def gap(question: Question) -> Source:
    """The integral of the denoiser gap, over data where there are some, else over the model's own samples."""
    is_mixture = question.model.mixture is not None
    data = None if is_mixture else _states(question)
    # The model's own samples come from Heun's sampler, with two evaluations in each step.
    sampling = 0 if is_mixture or data is not None else question.trajectories * 2 * question.steps
    cost = dataclasses.replace(question, tracker="classes").evaluations() + sampling

    def measured(run: int, parts: Path | None, progress: Progress | None) -> list[EntropyCurve]:
        key = question.key(2, run)
        return gap_entropy(
            question.model.denoiser,
            question.decision.conditions,
            data=fresh_samples(question, jax.random.fold_in(key, 1)) if is_mixture else data,
            key=key,
            labels="positions",
            **_options(question, parts, progress),
        )

    return Source(GAP, cost, question.runs, measured)


def _options(question: Question, parts: Path | None, progress: Progress | None) -> dict[str, Any]:
    """What both estimators take."""
    return {
        "partition": question.partitions,
        "prior": question.prior,
        "samples": question.per_run,
        "times": question.times,
        "start": question.start,
        "shape": question.model.shape,
        "batch": question.batch,
        "folder": parts,
        "progress": progress,
    }


def _states(question: Question) -> tuple[np.ndarray, np.ndarray] | None:
    """The data as states, each with the number of its condition in the decision, -1 for others."""
    data = data_of(question)
    if data is None:
        return None
    number = np.full(len(question.model.names), -1)
    number[question.places] = np.arange(len(question.places))
    return data.x.reshape(-1, *question.model.shape), number[data.y]


def fresh_samples(question: Question, key: PRNGKeyArray) -> tuple[np.ndarray, np.ndarray]:
    """Samples x (n, d) of the law that the model was trained on and their conditions (n,), some of every class.

    There are four for each trajectory of a run: the denoiser gap takes those of the trajectory's own class.
    """
    mixture = _training_law(question)
    x, component = map(np.asarray, gmm.sample(mixture, key, 4 * question.per_run))
    for absent in np.setdiff1d(np.arange(mixture.components), component):
        more, _ = gmm.sample(
            mixture.take(np.array([absent])), jax.random.fold_in(key, absent), FEWEST_OF_A_CLASS
        )
        x = np.concatenate([x, more])
        component = np.concatenate([component, np.full(FEWEST_OF_A_CLASS, absent)])
    return x, component


def all_data_of(question: Question) -> LabelledData | None:
    """The data that the model was trained on, of all its classes; None where there are no data.

    Raises:
        ValueError: when the data do not fit the model.
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
    return data


def data_of(question: Question) -> LabelledData | None:
    """The points of the decision's classes in the data that the model was trained on; None where there are no data.

    Raises:
        ValueError: when the data do not fit the model, or hold no point of a class.
    """
    data = all_data_of(question)
    return None if data is None else _of_classes(data, question.model, question.places)


def _of_classes(data: LabelledData, model: Model, places: np.ndarray) -> LabelledData:
    inside = np.flatnonzero(np.isin(data.y, places))
    missing = np.setdiff1d(places, data.y)
    if missing.size:
        raise ValueError(f"data of {model.name} ({data.name}) have no point of {model.names[missing[0]]!r}")
    return dataclasses.replace(data, x=data.x[inside], y=data.y[inside])


# ------------------------------------------------------------------------------------------- exact curves

Law = tuple[gmm.Mixture, np.ndarray]
"""A mixture that stands for the data, and for each component the number of its condition, -1 outside the decision."""


def exact_curves(question: Question, names: Sequence[str] | None) -> list[Source]:
    """The exact curves that a trained model is compared with: of the same question as that of the tracker.

    Args:
        question: the decision, with tracker "classes", or "unconditional": one class against all classes of the model.
        names: of `AGAINST`; None for those that are known of the model's training.

    Raises:
        ValueError: for a curve that needs a mixture or data that are not known; for the tracker "share".
    """
    model = question.model
    if question.tracker == "share":
        raise ValueError(
            "`tracker` share answers another question than the exact curves; take `tracker` classes or unconditional"
        )
    if names is None:
        by_data = ["empirical", "gaussian"] if model.data is not None else []
        names = ["exact"] if model.mixture is not None else by_data
    for name in names:
        if name == "exact" and model.mixture is None:
            raise ValueError(f"`against` exact needs a model of a known mixture; {model.name} is none")
        if name != "exact" and model.data is None:
            raise ValueError(
                f"`against` {name} needs the data that {model.name} was trained on, which are not known"
            )
    return [_exact_curve(question, name) for name in names]


def _exact_curve(question: Question, name: str) -> Source:
    stream = 3 + AGAINST.index(name)
    law = functools.cache(functools.partial(_law, question, name))

    @functools.cache
    def exact(level: int) -> EntropyCurve:
        mixture, condition = law()
        labels = _labels(question.partitions[level], condition)
        return exact_law_curve(mixture, question.model.process, question.times, labels)

    def measured(run: int, parts: Path | None, progress: Progress | None) -> list[EntropyCurve]:
        with jax.enable_x64(True):
            mixture, condition = law()
            labels = [_labels(partition, condition) for partition in question.partitions]
            identity = _fingerprint(mixture, labels, question, stream)[:20]
            store = Parts(parts, ".nc", whole_curve, EntropyCurve.save)

            def curve(level: int, progress: Progress | None) -> EntropyCurve:
                if question.tracker == "classes" and is_exact(mixture, labels[level]):
                    return exact(level)
                return _sampled(question, law(), labels[level], question.key(stream, run), progress)

            names = [f"{identity}-{run}-{level}" for level in range(len(labels))]
            return list(store.each(names, curve, progress))

    return Source(LABELS[name], 0, RUNS, measured)


def _labels(partition: gmm.Partition, condition: np.ndarray) -> gmm.Partition:
    """The partition of a law's components; -1 outside the decision."""
    return gmm.Partition(np.where(condition >= 0, partition.labels[condition], -1))


def _sampled(
    question: Question,
    law: Law,
    partition: gmm.Partition,
    key: PRNGKeyArray,
    progress: Progress | None,
) -> EntropyCurve:
    """The curve of a law by sampling: of the class entropy, or of the contrast with the whole law."""
    mixture, condition = law
    process, times = question.model.process, question.times
    common: dict[str, Any] = {"partition": partition, "key": key, "progress": progress}
    if question.tracker == "classes":
        boundary = mixture.components <= MOST_FOR_MIDPOINTS
        return gmm.class_entropy(mixture, process, times, samples=EXACT_SAMPLES, boundary=boundary, **common)
    weights = _weights_within(mixture, condition, question.prior)
    return gmm.contrast_entropy(mixture, process, times, samples=EXACT_SAMPLES, weights=weights, **common)


def _law(question: Question, name: str) -> Law:
    """The law of the decision's classes with its prior; that of all classes as trained, for one class against all."""
    whole = question.tracker != "classes"
    count = len(question.model.names)
    mixture, place = _law_of_classes(question, name, np.arange(count) if whole else question.places)
    number = np.full(count, -1)
    number[question.places] = np.arange(len(question.places))
    condition = number[place]
    return (mixture if whole else _with_prior(mixture, condition, question.prior)), condition


def _law_of_classes(question: Question, name: str, places: np.ndarray) -> tuple[gmm.Mixture, np.ndarray]:
    """The law of the model's classes `places` as trained, and for each component the index of its class."""
    model = question.model
    if name == "exact":
        assert model.mixture is not None
        mixture = jax.tree.map(lambda leaf: leaf.astype(float), model.mixture.take(places))
        isotropic = isinstance(mixture.covariance, gmm.Isotropic) and np.ndim(mixture.covariance.var) == 0
        return (gmm.reduce(mixture) if isotropic else mixture), places
    data = all_data_of(question)
    assert data is not None
    data = _of_classes(data, model, places)
    # Not `subset`: it numbers the classes anew.
    chosen = np.sort(np.random.default_rng(question.seed).permutation(len(data.x))[: question.data_points])
    known, y = np.unique(data.y[chosen], return_inverse=True)
    mixture, partition = _fitted(name, data.x[chosen].astype(np.float64), y, question.seed)
    return mixture, known[partition.labels]


def _fitted(name: str, x: np.ndarray, y: np.ndarray, seed: int) -> tuple[gmm.Mixture, gmm.Partition]:
    if name == "empirical":
        return empirical(x, y)
    if name == "gaussian":
        return fitted(x, y, covariance="shared", seed=seed)
    return fitted(x, y, components=MIXTURE_COMPONENTS, shrinkage=MIXTURE_SHRINKAGE, seed=seed)


def _training_law(question: Question) -> gmm.Mixture:
    """The mixture that the model was trained on, with the decision's components and prior."""
    mixture = question.model.mixture
    assert mixture is not None
    return mixture.take(question.places).reweighted(jnp.log(jnp.asarray(question.prior)))


def _with_prior(mixture: gmm.Mixture, condition: np.ndarray, prior: np.ndarray) -> gmm.Mixture:
    """The mixture with the decision's prior in place of the data's frequencies."""
    return mixture.reweighted(jnp.log(jnp.asarray(_weights_within(mixture, condition, prior))))


def _weights_within(mixture: gmm.Mixture, condition: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """(K,) weights of the components with the decision's prior; zero outside the decision."""
    weights = np.where(condition >= 0, np.asarray(mixture.weights, np.float64), 0)
    share = np.bincount(condition[condition >= 0], weights[condition >= 0], minlength=len(prior))
    return weights * (prior / share)[condition]


def _fingerprint(
    mixture: gmm.Mixture, labels: Sequence[gmm.Partition], question: Question, stream: int
) -> str:
    facts: Mapping[str, Any] = {
        "process": question.model.process.describe(),
        "seed": question.seed,
        "stream": stream,
        "samples": EXACT_SAMPLES,
        "tracker": question.tracker,
        "prior": question.prior.tolist(),
    }
    arrays = (*jax.tree.leaves(mixture), *(partition.labels for partition in labels), question.times)
    return fingerprint(facts, *map(np.asarray, arrays))
