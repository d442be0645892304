"""U-turns of a published network, judged by a classifier, beside what the measured posterior predicts.

A sample of a class is noised to a level and denoised without a condition. If the network is consistent, it is of
its class again with the probability that the posterior has there, averaged over samples of the class: E p(class |
X_t). The posterior is measured from the network alone: p = ω e^ℓ, with the tracked log-ratio ℓ of class and
unconditional network and the class's share ω of the unconditional law, tied to one at the end; see `tied_posterior`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from gmm.clock import noise_at, times_at
from gmm.estimate import Estimate
from gmm.files import alone_in
from gmm.fingerprint import fingerprint
from gmm.netcdf import load_whole
from gmm.partition import Partition
from neural.estimators import posterior_paths
from neural.models import Model
from neural.progress import Progress
from neural.samplers import heun
from neural.uturn import u_turn
from neural.vision.classes import Judge
from paper_figures.files import save_dataset
from paper_figures.progress import from_part, share
from paper_figures.studies.experiment import Row, Work, write_manifest
from paper_figures.studies.parts import Parts, kept_arrays
from paper_figures.studies.plan import Cost, Plan, model_or_stand_in, network_of
from paper_figures.studies.question import Question

TURNS = 8
# σ/α at which a state counts as clean, and the noise levels between which U-turns are made.
CLEAN, LOWEST, HIGHEST = 0.02, 0.1, 40.0
SAMPLING_STEPS = 32


class Turned(NamedTuple):
    """A row with the judge of its class, and the share of the class in the unconditional law with its error."""

    row: Row
    judge: Judge
    share: Estimate


def predicted(question: Question, share: Estimate, noise: np.ndarray) -> Estimate:
    """E p(class | X_t) over samples of the class at log(σ/α) levels, by the tracked posterior.

    Its standard error holds that of the share, too.
    """
    paths = posterior_paths(
        question.model.denoiser, question.decision.conditions, tracker="unconditional",
        guide=question.model.unconditional, key=question.key(5, 0), samples=question.samples,
        times=question.times, start=question.start, shape=question.model.shape, batch=question.batch,
    )  # fmt: skip
    assert paths.log_ratio is not None
    log_ratio, value = np.asarray(paths.log_ratio, np.float64), float(share.value)
    p = tied_posterior(log_ratio, value)
    more = tied_posterior(log_ratio, value + float(share.stderr)).mean(axis=1) - p.mean(axis=1)
    order = np.argsort(-paths.log_snr)
    at = -0.5 * paths.log_snr[order]
    mean, error = p.mean(axis=1)[order], np.hypot(p.std(axis=1, ddof=1) / np.sqrt(p.shape[1]), more)[order]
    return Estimate(np.interp(noise, at, mean), np.interp(noise, at, error))


def tied_posterior(log_ratio: Float[np.ndarray, "T n"], share: float) -> Float[np.ndarray, "T n"]:
    """p(class | X_t) along paths of the class, from noise to data, that ends at one.

    ω e^ℓ alone is no good estimate: ℓ is an Euler sum of a stochastic integral, whose error on a path grows with the
    root of the step (standard deviation 1.1 at 48 steps, 0.43 at 192, for eight separate classes). Half of the paths
    then end below one, which those above one, cut at one, do not make good: on average a tenth is missing. But the
    end is known: a clean sample of the class belongs to it. The error there is taken off along the path in proportion
    to the mean squares of the increments, as in the mean of a Brownian bridge.

    Args:
        log_ratio: tracked ℓ of class and unconditional network.
        share: ω, the class's share of the unconditional law.
    """
    log_p = np.log(share) + log_ratio
    growth = np.cumsum(np.mean(np.diff(log_ratio, axis=0, prepend=log_ratio[:1]) ** 2, axis=1))
    tied = growth / growth[-1] if growth[-1] > 0 else growth
    return np.exp(np.minimum(log_p - tied[:, None] * log_p[-1], 0))


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


def measure(turned: list[Turned], facts: Any, work: Work) -> xr.Dataset:
    """Agreements of every row: dimensions level (rows) and turn; rows that are kept are not measured again.

    Args:
        turned: the rows.
        facts: what identifies the judge and the autoencoder.
        work: where rows are kept.
    """
    folder, parts = work.folder, 1 + TURNS
    write_manifest(folder, [part.row for part in turned])
    names = [
        fingerprint([part.row.file, "tied u-turn", float(part.share.value), facts])[:20] for part in turned
    ]
    predictions: list[Mapping[str, np.ndarray]] = []

    def compute(number: int, progress: Progress | None) -> xr.Dataset:
        return _measured(turned[number], predictions[number], progress)

    with alone_in(None if jax.process_index() else folder):
        # All processes share the paths of a prediction; they divide the rows of the turns.
        predictions += kept_arrays(folder).each(
            [f"predicted-{name}" for name in names],
            lambda number, _: _prediction(turned[number]),
            share(work.progress, 0, parts),
        )
        store = Parts(folder, ".nc", load_whole, save_dataset)
        rows = store.divided(names, compute, from_part(work.progress, 1, parts))
    return xr.concat(rows, dim="level", combine_attrs="drop_conflicts")


def _prediction(turned: Turned) -> Mapping[str, np.ndarray]:
    question = turned.row.question
    expected = predicted(question, turned.share, noise_levels(question.model, question.times))
    return {"value": np.asarray(expected.value), "stderr": np.asarray(expected.stderr)}


def _measured(turned: Turned, expected: Mapping[str, np.ndarray], progress: Progress | None) -> xr.Dataset:
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
    values = {"u_turn": stays, "predicted": Estimate(**expected)}
    data = {name: (("level", "turn"), [np.asarray(part.value)]) for name, part in values.items()}
    data |= {
        f"{name}_stderr": (("level", "turn"), [np.asarray(part.stderr)]) for name, part in values.items()
    }
    accuracy = {"accuracy": before.mean(), "accuracy_stderr": before.std(ddof=1) / np.sqrt(len(before))}
    shares = {"share": turned.share.value, "share_stderr": turned.share.stderr}
    data |= {name: ("level", [float(value)]) for name, value in {**accuracy, **shares}.items()}
    return xr.Dataset(data, {"level": [turned.row.name], "turn_log_sigma": ("turn", noise)})


def shares_of(
    judges: Sequence[Judge], model: Model, question: Question, facts: Any, folder: Path | None = None
) -> list[Estimate]:
    """The share of each class in the unconditional law, by its judge of the same samples without a condition.

    It is at least half a sample's worth, since a share of zero would say that the class cannot occur. The samples'
    posteriors are kept in the folder.

    Args:
        judges: log posteriors, the class first.
        model: the network.
        question: whose number of samples, steps and seed are taken.
        facts: what identifies the judges.
        folder: where finished work is kept.
    """
    count, steps = question.samples, question.steps

    def judged(_number: int, progress: Progress | None) -> dict[str, np.ndarray]:
        noise = jax.random.normal(question.key(7, 0), (count, *model.shape), jnp.float32)
        times = model.grid.times(model.process, steps)
        x = heun(model.unconditional, noise, None, times=times, progress=progress)
        return {"log_p": np.stack([np.asarray(judge(x), np.float64)[:, 0] for judge in judges])}

    known = fingerprint([question.facts(), "share", facts])[:20]
    (kept,) = kept_arrays(folder).each([f"share-{known}"], judged)
    p = np.exp(kept["log_p"])
    errors = p.std(axis=1, ddof=1) / np.sqrt(count)
    means = np.maximum(p.mean(axis=1), 0.5 / count)
    return [Estimate(*each) for each in zip(means, errors, strict=True)]
