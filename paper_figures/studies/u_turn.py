"""The U-turn check of a comparison: does the class stay as often as the measured posteriors say?"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

import gmm
from gmm.dynamics import in_float64
from gmm.partition import cell_log_posterior
from neural.uturn import u_turn
from paper_figures.drawing.style import BAND_STDERRS, sequence
from paper_figures.studies.comparison import Line, curve_of
from paper_figures.studies.sources import ONLINE, Question, data_of

TURNS = 8
# Beyond the landmarks of a decision by this much in log(σ/α) nothing happens any more.
MARGIN = 1.0
# σ/α at which a clean image counts as that of its nearest neighbours: small beside the spacing of the data.
JUDGED_AT = 0.1


def check(question: Question) -> None:
    """Raise ValueError where the check cannot be made: the way back is that of the unconditional law."""
    model = question.model
    if model.unconditional is None:
        raise ValueError(f"--u-turn needs a model with an unconditional law; {model.name} has none")
    if model.mixture is None and model.data is None:
        raise ValueError(
            f"--u-turn needs somebody to judge classes: {model.name} has no known mixture or data"
        )
    if len(question.decision.conditions) != len(model.names):
        raise ValueError("--u-turn needs a decision among all classes: the way back may end in any of them")


def turns(question: Question, lines: Mapping[str, Sequence[Line]]) -> xr.Dataset:
    """Agreements at noise levels around the decision.

    Returns:
        Variables u_turn and u_turn_stderr (level, turn) and turn_log_sigma (turn,).
    """
    marks = np.array([line.marks.value for each in lines.values() for line in each])
    own = -0.5 * in_float64(lambda p, t: p.log_snr(t), question.model.process, question.times)
    low = max(np.nanmin(marks) - MARGIN, np.log(2 * JUDGED_AT), own.min())
    places = np.linspace(low, min(np.nanmax(marks) + MARGIN, own.max()), TURNS)
    times = in_float64(lambda p, v: p.time_at_log_snr(v), question.model.process, -2 * places)
    key = question.key(9, 0)
    x0, labels, judge = _samples(question, key)
    number = np.argsort(question.places)  # of the decision, for each of the model's conditions
    partitions = [gmm.Partition(partition.labels[number]) for partition in question.partitions]
    found = u_turn(
        question.model.unconditional, x0, labels, times, judge=judge, partitions=partitions,
        key=jax.random.fold_in(key, 1), steps=question.steps, end=0.5 * JUDGED_AT,
    )  # fmt: skip
    return xr.Dataset(
        {
            "u_turn": (("level", "turn"), np.stack([each.value for each in found])),
            "u_turn_stderr": (("level", "turn"), np.stack([each.stderr for each in found])),
            "turn_log_sigma": ("turn", places),
        },
        {"level": [level.name for level in question.decision.levels]},
    )


def _samples(question: Question, key: jax.Array) -> tuple[jax.Array, np.ndarray, Callable]:
    """Clean samples with the model's own condition numbers, and who judges them: the exact law or the data."""
    model, count = question.model, question.runs * question.per_run
    if model.mixture is not None:
        law = model.mixture
        x, labels = gmm.sample(law, key, count)
        return x, np.asarray(labels), lambda x: gmm.log_posterior(law, x)
    data = data_of(question)
    assert data is not None
    chosen = np.random.default_rng(question.seed).permutation(len(data.x))[:count]
    some = data.subset(question.data_points, question.seed)
    points, labels = gmm.families.empirical(some.x, some.y)
    near = gmm.diffuse(points, 1.0, JUDGED_AT)

    def judge(x: jax.Array) -> jax.Array:
        each = gmm.log_posterior(near, x.reshape(len(x), -1).astype(near.dtype))
        return cell_log_posterior(each, jnp.asarray(labels.labels), labels.cells)

    return jnp.asarray(data.x[chosen]).reshape(-1, *model.shape), data.y[chosen], judge


def draw(axes: Sequence[Axes], dataset: xr.Dataset, looks: Mapping[str, dict], to_axis: Callable) -> None:
    """Agreements of every posterior as lines, those of the U-turns as points; and the points less the model's line."""
    noise = dataset.turn_log_sigma.values
    styles = [line["linestyle"] for line in sequence(len(dataset.level))]
    for level, style in zip(map(str, dataset.level.values), styles, strict=True):
        for source in map(str, dataset.source.values):
            curve = curve_of(dataset, source, level)
            line = looks[source] | {"linestyle": style}
            axes[0].plot(to_axis(-0.5 * curve.log_snr), curve.clone_agreement, **line)
        value, stderr = (dataset[name].sel(level=level).values for name in ("u_turn", "u_turn_stderr"))
        points = {
            "yerr": BAND_STDERRS * stderr,
            "fmt": "o",
            "color": "black",
            "markersize": 3.5,
            "linewidth": 1.0,
        }
        axes[0].errorbar(to_axis(noise), value, **points)
        model = curve_of(dataset, ONLINE, level)
        order = np.argsort(model.sigma)
        expected = np.interp(noise, np.log(model.sigma[order]), model.clone_agreement[order])
        axes[1].errorbar(to_axis(noise), value - expected, **points | {"ls": style})
    axes[0].set(ylabel=r"class stays, $\mathrm{E}\sum p^2$", ylim=(0, 1.03))
    axes[1].set(ylabel="U-turn less the model's $\\mathrm{E}\\sum p^2$")
    axes[1].axhline(0, color="black", linewidth=0.6, linestyle="-")
