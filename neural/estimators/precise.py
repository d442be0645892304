"""The class entropy to a stated precision, from few evaluations: `neural.estimators.held` with steps in the window.

A few pilot paths over coarse steps find the window; most steps of the others then lie there. Paths are added, in
groups that double, until the stated errors of half entropy and of the window's ends are small enough; where it is the
length of the steps that limits them, the number of steps doubles.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray
from scipy.stats import norm
from scipy.stats import t as student

from gmm.checks import check_values
from gmm.clock import schedule, times_at
from gmm.curve import EntropyCurve
from gmm.estimate import Estimate
from gmm.keys import check_key
from neural.denoiser import Denoiser
from neural.estimators.chain import Chain
from neural.estimators.curves import curve_at, facts_of
from neural.estimators.inputs import (
    Inputs,
    Options,
    Partitions,
    check_samples,
    make_inputs,
    plain_chain,
)
from neural.estimators.overloads import one_or_several
from neural.estimators.runs import HELD_NAMES, PathMoments, Run, joined, run
from neural.estimators.stopping import expected_total, has_landmarks, landmark_errors, next_total
from neural.progress import Progress

STEPS, MOST_DOUBLINGS = 10, 3
# Paths and steps of the pilot, and paths of the first group. Of many classes, every path sees most of what decides, and
# paths differ little; Student's factor makes up for few.
MANY = 16
_FEW_CLASSES, _MANY_CLASSES = (4, 8, 32), (2, 6, 4)
# Share of the evaluations that are spread evenly over log noise, in case the pilot missed something.
_EVEN = 0.3
# The bias that is left by finite steps, as a share of what a straight line in place of a power changes.
_LEFT = 1.0
# Degrees of freedom of a variance, for each path but one. The spread of n values of kurtosis 5 varies as that of n/2
# normal ones does; with all n - 1, intervals of 16 paths held the truth in 91% instead of 95%.
_FREEDOM = 0.5
# One standard error of 95% intervals is this part of their half width.
_NORMAL = float(norm.ppf(0.975))


@one_or_several
def precise_entropy(
    denoiser: Denoiser,
    conditions: Sequence[Any],
    *,
    partition: Partitions = None,
    prior: Float[ArrayLike, " K"] | None = None,
    key: PRNGKeyArray,
    precision: float | None = 0.05,
    samples: int = 1024,
    steps: int = STEPS,
    share: float = 0.8,
    **options: Any,
) -> EntropyCurve | list[EntropyCurve]:
    """The class entropy of `online_entropy` until its landmarks are as precise as asked.

    Args:
        denoiser: any denoiser.
        conditions: K conditions, the classes of the decision.
        partition: as in `online_entropy`; of several partitions every one must be precise enough.
        prior: as in `online_entropy`.
        key: JAX random key.
        precision: standard error in log(σ/α) of half entropy and of both ends of the window, at which no more paths
            are computed; None for `samples` paths.
        samples: largest number of paths; of paths of more than the first `steps`, as many as cost the same.
        steps: evaluations of a path at first; doubled where their number limits the precision.
        share: of the information, that the window holds.
        **options: see `Options`. `times` are the points of the curve, which need no evaluations of their own; its first
            and last are the ends of the paths. `progress` is called with evaluations done and expected in all.

    Returns:
        EntropyCurve, or a list of them, as in `online_entropy`. Standard errors contain Student's factor for few paths
        and the bias of the steps. `metadata` says in `evaluations` what it cost (states times conditions), in
        `reached` whether the precision was reached, and in `paths` and `evaluated` (log(σ/α)) by which paths and steps.

    Raises:
        ValueError: as `online_entropy`; when precision is not positive or `within_variance` is given, whose law is
            another.
    """
    check_values("precision", 1.0 if precision is None else precision, "positive", lambda v: v > 0)
    inputs = make_inputs(denoiser, conditions, partition, prior, 64, Options(**options))
    if inputs.options.within_variance:
        raise ValueError(
            "within_variance must be 0 here: finite steps are corrected for without it; leave it out"
        )
    if len(inputs.times) < 4:
        raise ValueError(f"times must be at least 4 points, got {len(inputs.times)}")
    search = _Search(inputs, check_key(key), check_samples(samples), precision, share)
    curves = search.curves(steps)
    return curves if inputs.many else curves[0]


@dataclasses.dataclass
class _Search:
    """Paths and steps are added until the curves are precise enough; `evaluations` counts what was spent."""

    inputs: Inputs
    key: PRNGKeyArray
    samples: int
    precision: float | None
    share: float
    evaluations: int = 0
    expected: int = 0

    def curves(self, steps: int) -> list[EntropyCurve]:
        ends = -0.5 * schedule(self.inputs.denoiser.process, self.inputs.times).log_snr[[0, -1]]
        self.expected = most_evaluations(len(self.inputs.conditions), self.samples, steps)[0]
        few, coarse, paths = _sizes(len(self.inputs.conditions))
        chain = self._chain(np.linspace(ends[0], ends[-1], coarse))
        pilot = self._curves(chain, jax.random.fold_in(self.key, 0), few)
        for doubled in range(MOST_DOUBLINGS + 1):
            levels = placed(pilot, ends, steps * 2**doubled)
            # Paths of more steps may cost as much as all paths of the first steps, and not more.
            most = self.samples if doubled == 0 else max(min(paths, self.samples), self.samples // 2**doubled)
            curves = self._until_precise(levels, jax.random.fold_in(self.key, 1 + doubled), most)
            if not self._limited_by_steps(curves):
                break
        if self.inputs.options.progress is not None:
            self.inputs.options.progress(self.evaluations, self.evaluations)
        return curves

    def _until_precise(self, levels: np.ndarray, key: PRNGKeyArray, most: int) -> list[EntropyCurve]:
        chain, parts, total = self._chain(levels), [], 0
        while True:
            wanted = next_total(total, _sizes(chain.classes)[-1], most, self.precision)
            parts.append(self._run(chain, key, wanted, total))
            total = wanted
            curves = self._described(joined(parts), chain, levels)
            error = max(landmark_errors(curve, self.share) for curve in curves)
            reached = self.precision is None or error <= self.precision
            if reached or self._limited_by_steps(curves) or total >= most:
                break
            more = expected_total(total, most, error, self.precision) - total
            self.expected = self.evaluations + more * len(levels) * chain.classes
        facts = {"reached": bool(reached), "precision": self.precision, "evaluations": self.evaluations}
        return [dataclasses.replace(c, metadata={**c.metadata, **facts}) for c in curves]

    def _limited_by_steps(self, curves: list[EntropyCurve]) -> bool:
        """Whether the bias of the steps alone is more than half of the error that is allowed."""
        if self.precision is None or not all(has_landmarks(curve, self.share) for curve in curves):
            return False
        biases = (np.asarray(curve.metadata["step_bias"]) for curve in curves)
        alone = [dataclasses.replace(c, entropy_stderr=b) for c, b in zip(curves, biases, strict=True)]
        return max(landmark_errors(curve, self.share) for curve in alone) > 0.5 * self.precision

    def _chain(self, levels: np.ndarray) -> Chain:
        process, points = self.inputs.denoiser.process, self.inputs.times
        times = np.concatenate([points[:1], times_at(process, levels[1:-1]), points[-1:]])
        chain = plain_chain(dataclasses.replace(self.inputs, times=times))
        return dataclasses.replace(chain, points=np.exp(schedule(process, points).log_snr))

    def _run(self, chain: Chain, key: PRNGKeyArray, samples: int, begin: int = 0) -> Run:
        options, each = self.inputs.options, len(chain.rows.t) * chain.classes
        found = run(
            chain, key, samples, begin=begin, batch=options.batch, folder=options.folder,
            progress=self._counting(each, begin, samples),
        )  # fmt: skip
        self.evaluations += (samples - begin) * each
        return found

    def _counting(self, each: int, begin: int, samples: int) -> Progress | None:
        """Progress of one group of paths as evaluations, of all that are expected."""
        progress, spent = self.inputs.options.progress, self.evaluations
        if progress is None:
            return None
        total = max(self.expected, spent + (samples - begin) * each)
        return lambda done, _: progress(spent + (done - begin) * each, total)

    def _curves(self, chain: Chain, key: PRNGKeyArray, samples: int) -> list[EntropyCurve]:
        return self._described(self._run(chain, key, samples), chain, np.zeros(0))

    def _described(self, result: Run, chain: Chain, levels: np.ndarray) -> list[EntropyCurve]:
        count = len(result.z)
        facts = facts_of(self.inputs, self.key, count) | {
            "source": "online posterior", "route": "online", "tracker": "classes", "drive": "class",
            "paths": count, "steps": len(levels), "evaluated": levels.tolist(),
        }  # fmt: skip
        return [
            _curve(self.inputs, chain, moments, number, facts)
            for number, moments in enumerate(result.moments)
        ]


def _curve(
    inputs: Inputs, chain: Chain, moments: PathMoments, number: int, facts: dict[str, Any]
) -> EntropyCurve:
    """The curve of a partition at the points, with errors that contain Student's factor and the steps' bias."""
    factor = float(student.ppf(0.975, _FREEDOM * (moments.count - 1))) / _NORMAL
    mean, stderr = moments.mean, factor * moments.stderr
    column = {name: Estimate(mean[:, i], stderr[:, i]) for i, name in enumerate(HELD_NAMES)}
    bias = _LEFT * np.abs(column["shift"].value)
    entropy = Estimate(column["entropy"].value, np.hypot(column["entropy"].stderr, bias))
    return curve_at(
        inputs, chain, number, entropy, column["rate"], facts | {"step_bias": bias.tolist()},
        per_cell=mean[:, len(HELD_NAMES) :], per_cell_stderr=stderr[:, len(HELD_NAMES) :],
        surprise_variance=np.maximum(column["second_moment"].value - entropy.value**2, 0),
        clone_agreement=1 - column["disagreement"].value, clone_agreement_stderr=column["disagreement"].stderr,
    )  # fmt: skip


def most_evaluations(conditions: int, samples: int, steps: int = STEPS) -> tuple[int, int]:
    """The fewest and the most evaluations of a call with that many conditions and at most `samples` paths."""
    paths, coarse, first = _sizes(conditions)
    first = min(first, samples)
    counts = [samples, *(max(first, samples // 2**doubled) for doubled in range(1, MOST_DOUBLINGS + 1))]
    # A first row moves every path's state to its class.
    pilot = paths * (coarse + 1)
    most = sum(count * (steps * 2**doubled + 1) for doubled, count in enumerate(counts))
    return conditions * (pilot + first * (steps + 1)), conditions * (pilot + most)


def _sizes(conditions: int) -> tuple[int, int, int]:
    """Paths and steps of the pilot, and paths of the first group."""
    return _FEW_CLASSES if conditions < MANY else _MANY_CLASSES


def placed(pilot: Sequence[EntropyCurve], ends: np.ndarray, steps: int) -> Float[np.ndarray, " steps"]:
    """Falling noise levels log(σ/α) of the evaluations: most where the pilot is undecided, some everywhere.

    Args:
        pilot: curves of the pilot paths.
        ends: log(σ/α) of the first and the last evaluation.
        steps: number of evaluations.
    """
    noise = -0.5 * pilot[0].log_snr  # falling
    decided = np.zeros_like(noise)
    for curve in pilot:
        known = np.clip(curve.entropy / curve.prior_entropy, 0, 1)
        dense = np.sqrt(known * (1 - known))
        decided[1:] += np.cumsum(0.5 * (dense[1:] + dense[:-1]) * -np.diff(noise)) / len(pilot)
    even = (noise[0] - noise) / (noise[0] - noise[-1])
    decided -= decided[0]
    place = (1 - _EVEN) * decided / max(decided[-1], np.finfo(float).tiny) + _EVEN * even
    levels = np.interp(np.linspace(0, place[-1], steps), place, noise)
    levels[[0, -1]] = ends
    return levels
