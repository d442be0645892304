"""The U-turn check of a comparison: does the class stay as often as the measured posteriors say?"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import gmm
from gmm.clock import noise_at, times_at
from gmm.partition import cell_log_posterior
from neural.uturn import u_turn
from paper_figures.studies.comparison import Line
from paper_figures.studies.question import Question
from paper_figures.studies.sources import data_of

TURNS = 8
# Beyond the landmarks of a decision by this much in log(σ/α) nothing happens any more.
MARGIN = 1.0
# σ/α at which a clean image counts as that of its nearest neighbours: small beside the spacing of the data.
JUDGE_NOISE = 0.1


def check(question: Question) -> None:
    """Raise ValueError where the check cannot be made: it needs the unconditional law and a judge of classes."""
    model = question.model
    if model.unconditional is None:
        raise ValueError(f"U-turns need a model with an unconditional law; {model.name} has none")
    if model.mixture is None and model.data is None:
        raise ValueError(
            f"U-turns need a mixture or data by which classes are judged; {model.name} has neither"
        )
    if len(question.decision.conditions) != len(model.names):
        raise ValueError("U-turns need a decision among all classes: the way back may end in any of them")


def turns(question: Question, lines: Mapping[str, Sequence[Line]]) -> xr.Dataset:
    """How often the class stays, at noise levels around the decision.

    Returns:
        Variables u_turn and u_turn_stderr (level, turn) and turn_log_sigma (turn,).
    """
    marks = np.array([line.marks.value for levels in lines.values() for line in levels])
    noise = noise_at(question.model.process, question.times)
    low = max(np.nanmin(marks) - MARGIN, np.log(2 * JUDGE_NOISE), noise.min())
    places = np.linspace(low, min(np.nanmax(marks) + MARGIN, noise.max()), TURNS)
    times = times_at(question.model.process, places)
    key = question.key(9, 0)
    x0, labels, judge = _samples(question, key)
    number = np.argsort(question.places)  # of the decision, for each of the model's conditions
    partitions = [gmm.Partition(partition.labels[number]) for partition in question.partitions]
    agreements = u_turn(
        question.model.unconditional, x0, labels, times, judge=judge, partitions=partitions,
        key=jax.random.fold_in(key, 1), steps=question.steps, end=0.5 * JUDGE_NOISE,
    )  # fmt: skip
    return xr.Dataset(
        {
            "u_turn": (("level", "turn"), np.stack([agreement.value for agreement in agreements])),
            "u_turn_stderr": (("level", "turn"), np.stack([agreement.stderr for agreement in agreements])),
            "turn_log_sigma": ("turn", places),
        },
        {"level": [level.name for level in question.decision.levels]},
    )


def _samples(question: Question, key: jax.Array) -> tuple[jax.Array, np.ndarray, Callable]:
    """Clean samples, the numbers of their classes, and the posterior by which images are judged."""
    model, count = question.model, question.trajectories
    if model.mixture is not None:
        law = model.mixture
        x, labels = gmm.sample(law, key, count)
        return x, np.asarray(labels), lambda x: gmm.log_posterior(law, x)
    data = data_of(question)
    assert data is not None
    chosen = np.random.default_rng(question.seed).permutation(len(data.x))[:count]
    subset = data.subset(question.data_points, question.seed)
    points, labels = gmm.families.empirical(subset.x, subset.y)
    near = gmm.diffuse(points, 1.0, JUDGE_NOISE)

    def judge(x: jax.Array) -> jax.Array:
        by_point = gmm.log_posterior(near, x.reshape(len(x), -1).astype(near.dtype))
        return cell_log_posterior(by_point, jnp.asarray(labels.labels), labels.cells)

    return jnp.asarray(data.x[chosen]).reshape(-1, *model.shape), data.y[chosen], judge
