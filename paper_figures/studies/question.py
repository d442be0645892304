"""A question to a model: which decision, and how much work goes into measuring it."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

import gmm
from neural.checkpoints import hashes, portable
from neural.decisions import Decision
from neural.estimators import check_stochastic, evaluations
from neural.models import Grid, Model

# Independent runs of a curve: enough for Student's t to be close to the normal law, few enough to keep each large.
RUNS = 16
DATA_POINTS = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """A decision of a model, and how much work goes into measuring it.

    Every curve is measured in independent runs of equal size. Their mean is the curve; the error of what is read off
    it comes from how the runs differ (`gmm.pooling`).

    Attributes:
        model: the model.
        decision: what it decides between.
        prior: (K,) probabilities of the decision's conditions.
        samples: trajectories of an estimator, over all runs.
        precision: standard error in log(σ/α) of half entropy and of the window's ends, up to which the posterior of the
            model's own trajectories is measured, in one run of at most `most` trajectories; None for `samples`.
        most: see `precision`.
        steps: noise levels, and, without a precision, network evaluations for each trajectory and condition.
        grid: where the noise levels lie.
        seed: seed of every random number.
        tracker, start, eta: as in `neural.online_entropy`.
        batch: states that the network sees at a time; None for the estimators' own choice.
        data_points: at most so many points of a data set stand for it.

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
    precision: float | None = None
    most: int = 0

    def __post_init__(self) -> None:
        check_stochastic(self.eta)
        if self.samples < 2:
            raise ValueError(f"samples must be at least 2, got {self.samples}")
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, got {self.steps}")
        if self.precision is not None and not 0 < self.precision < np.inf:
            raise ValueError(f"precision must be positive, got {self.precision:g}")
        if self.precision is not None and self.tracker != "classes":
            raise ValueError(
                f"`precision` needs `tracker` classes, got {self.tracker}, whose entropy may not fall to one half; "
                "give `samples` instead"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be in 0..2^63-1, got {self.seed}")

    @functools.cached_property
    def times(self) -> np.ndarray:
        """(steps,) falling times."""
        return self.grid.times(self.model.process, self.steps)

    @property
    def runs(self) -> int:
        """Number of independent runs, each of two trajectories at least."""
        return max(1, min(RUNS, self.samples // 2))

    @property
    def per_run(self) -> int:
        """Trajectories of one run: `samples` rounded up to whole runs."""
        return -(-self.samples // self.runs)

    @property
    def trajectories(self) -> int:
        """Trajectories of all runs."""
        return self.runs * self.per_run

    @property
    def partitions(self) -> list[gmm.Partition]:
        """The partition of each level."""
        return [level.partition for level in self.decision.levels]

    @functools.cached_property
    def places(self) -> np.ndarray:
        """(K,) index among the model's conditions of each of the decision's."""
        known = {condition: index for index, condition in enumerate(self.model.conditions or ())}
        return np.array([known[condition] for condition in self.decision.conditions])

    def key(self, stream: int, run: int) -> PRNGKeyArray:
        """Random key of a run; each source has a stream of its own."""
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), stream), run)

    def evaluations(self) -> int:
        """Network evaluations of one estimator of `samples` trajectories."""
        size = len(self.decision.conditions), self.trajectories, self.steps
        return evaluations(*size, tracker=self.tracker, start=self.start)

    def facts(self) -> dict[str, Any]:
        """What it takes to measure the same again, in JSON's types."""
        model = self.model
        return {
            "model": portable(model.name),
            "kind": model.kind,
            "model_facts": {"files": hashes(model.files), **model.facts},
            "decision": self.decision.as_dict(),
            "prior": self.prior.tolist(),
            "process": model.process.describe(),
            "samples": self.trajectories,
            "runs": self.runs,
            "steps": self.steps,
            "seed": self.seed,
            "tracker": self.tracker,
            "start": self.start,
            **({} if self.precision is None else {"precision": self.precision, "most": self.most}),
        }
