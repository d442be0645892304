"""U-turns of a published network, judged by a classifier, beside what the measured posterior predicts.

A sample of a class is noised to a level and denoised without a condition. If the network is consistent, it is of
its class again with the probability that the posterior has there, averaged over samples of the class: E p(class |
X_t). The posterior is measured from the network alone: p = min(1, ω e^ℓ), with the tracked log-ratio ℓ of class and
unconditional network and the class's share ω of the unconditional law (the tracker "share").
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from gmm.clock import noise_at, times_at
from gmm.estimate import Estimate
from gmm.fingerprint import fingerprint
from gmm.netcdf import load_whole
from gmm.partition import Partition
from neural.estimators import posterior_paths
from neural.models import Model
from neural.samplers import heun
from neural.uturn import u_turn
from neural.vision.classes import Judge
from paper_figures.files import save_dataset
from paper_figures.progress import Progress
from paper_figures.studies.experiment import Row, Work, write_manifest
from paper_figures.studies.parts import Parts
from paper_figures.studies.plan import Cost, Plan, model_or_stand_in, network_of
from paper_figures.studies.question import Question

TURNS = 8
# σ/α at which a state counts as clean, and the noise levels between which U-turns are made.
CLEAN, LOWEST, HIGHEST = 0.02, 0.1, 40.0
SAMPLING_STEPS = 32


class Turned(NamedTuple):
    """A row with the judge of its class and the share of the class in the unconditional law."""

    row: Row
    judge: Judge
    share: float


def predicted(question: Question, share: float, noise: np.ndarray) -> Estimate:
    """E p(class | X_t) over samples of the class at log(σ/α) levels, by the tracked posterior."""
    paths = posterior_paths(
        question.model.denoiser, question.decision.conditions, tracker="unconditional",
        guide=question.model.unconditional, key=question.key(5, 0), samples=question.samples,
        times=question.times, start=question.start, shape=question.model.shape, batch=question.batch,
    )  # fmt: skip
    assert paths.log_ratio is not None
    p = np.exp(np.minimum(np.log(share) + np.asarray(paths.log_ratio, np.float64), 0))
    order = np.argsort(-paths.log_snr)
    at = -0.5 * paths.log_snr[order]
    mean, error = p.mean(axis=1)[order], p.std(axis=1, ddof=1)[order] / np.sqrt(p.shape[1])
    return Estimate(np.interp(noise, at, mean), np.interp(noise, at, error))


def noise_levels(model: Model, times: np.ndarray) -> np.ndarray:
    """(TURNS,) log(σ/α) at which U-turns are made, within the network's own range."""
    noise = noise_at(model.process, times)
    low, high = max(np.log(LOWEST), noise.min()), min(np.log(HIGHEST), noise.max())
    return np.linspace(low, high, TURNS)


def plan(weights: str, rows: Callable[[Model], Sequence[Row]]) -> Plan:
    """What an experiment with a network costs; `rows` gives its rows for the network or one of its sizes."""
    costs = [
        Cost(row.name, 1, row.question.samples, evaluations(row.question))
        for row in rows(model_or_stand_in(weights))
    ]
    return Plan(network_of(weights), costs)


def evaluations(question: Question) -> int:
    """Samples by Heun's sampler, U-turns without a class, and the tracked posterior."""
    sampled = question.samples * (2 * SAMPLING_STEPS - 1)
    return sampled + question.samples * question.steps * TURNS + question.evaluations()


def measure(turned: list[Turned], work: Work) -> xr.Dataset:
    """Agreements of every row: dimensions level (rows) and turn; rows that are kept are not measured again."""
    folder = work.folder
    write_manifest(folder, [part.row for part in turned])
    store = Parts(folder, ".nc", load_whole, save_dataset)

    def compute(number: int, progress: Progress | None) -> xr.Dataset:
        return _measured(turned[number], progress)

    names = [fingerprint([part.row.file, "u-turn", part.share])[:20] for part in turned]
    return xr.concat(
        list(store.each(names, compute, work.progress)), dim="level", combine_attrs="drop_conflicts"
    )


def _measured(turned: Turned, progress: Progress | None) -> xr.Dataset:
    question, model = turned.row.question, turned.row.question.model
    noise = noise_levels(model, question.times)
    key = question.key(6, 0)
    condition = question.decision.conditions[0]
    start = jax.random.normal(jax.random.fold_in(key, 1), (question.samples, *model.shape), np.float32)
    encoded = model.denoiser.encode([condition]) if model.free_text else condition
    times = model.grid.times(model.process, SAMPLING_STEPS)
    x0 = heun(model.denoiser, start, encoded, times=times, progress=progress)
    before = np.exp(np.asarray(turned.judge(x0), np.float64)[:, 0])
    (stays,) = u_turn(
        model.unconditional, x0, np.zeros(question.samples, int), times_at(model.process, noise),
        judge=turned.judge, partitions=[Partition(np.array([0, 1]))], key=jax.random.fold_in(key, 2),
        steps=question.steps, end=CLEAN,
    )  # fmt: skip
    expected = predicted(question, turned.share, noise)
    values = {"u_turn": stays, "predicted": expected}
    data = {name: (("level", "turn"), [np.asarray(part.value)]) for name, part in values.items()}
    data |= {
        f"{name}_stderr": (("level", "turn"), [np.asarray(part.stderr)]) for name, part in values.items()
    }
    accuracy = {"accuracy": before.mean(), "accuracy_stderr": before.std(ddof=1) / np.sqrt(len(before))}
    data |= {name: ("level", [float(value)]) for name, value in {**accuracy, "share": turned.share}.items()}
    return xr.Dataset(data, {"level": [turned.row.name], "turn_log_sigma": ("turn", noise)})


def share_of(judge: Judge, model: Model, samples: int, steps: int, seed: int) -> float:
    """The share of a class in the unconditional law, by the judge of samples without a condition.

    It is at least half a sample's worth, since a share of zero would say that the class cannot occur.
    """
    key = jax.random.fold_in(jax.random.key(seed), 7)
    noise = jax.random.normal(key, (samples, *model.shape), jnp.float32)
    x = heun(model.unconditional, noise, None, times=model.grid.times(model.process, steps))
    return max(float(np.exp(np.asarray(judge(x), np.float64)[:, 0]).mean()), 0.5 / samples)
