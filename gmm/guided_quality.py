r"""Commitment and distortion of guided sampling, and distances between samples.

Commitment is the exact posterior of the target under the unguided mixture; distortion is the distance of the guided law
from the class-conditional one, p(x|target), which sampling without guidance gives. Guided states and states of the
conditional law share all their noise, so that the errors of differences are much smaller than those of either.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from gmm.checks import check_count, check_finite
from gmm.clock import scales_at
from gmm.estimate import Estimate
from gmm.guidance import Guidance, limited_interval, unguided
from gmm.guided import guided_samples, last_time
from gmm.mixture import Mixture, diffuse, log_posterior
from gmm.partition import Partition, cell_log_posterior, partition_of
from gmm.process import Process
from gmm.samplers import Sampler

DIRECTIONS = 64
# The standard error of a distance is estimated from its scatter over this many parts of a sample.
PARTS = 8


@dataclasses.dataclass(frozen=True)
class Quality:
    """Results of one schedule on one mixture.

    Attributes:
        accuracy: E p(target|x_0) under the exact posterior.
        surprise: E[-log p(target|x_0)], nats.
        plain_accuracy, plain_surprise: the same for the class-conditional law: a class that overlaps with others is
            not certain even on data.
        shift: of the mean, along the line from the centre of all to that of the target, in standard deviations of
            the target's law along that line.
        narrowing: 1 - the variance along that line over the target's own.
        diversity: total variance over the target's own; 1 is that of the data.
        distance: sliced Wasserstein distance from the target's law, in the same standard deviations; zero at w = 1,
            where both samples are the same.
        balance: (C,) mean posterior of every cell, without standard error.
    """

    accuracy: Estimate
    surprise: Estimate
    plain_accuracy: Estimate
    plain_surprise: Estimate
    shift: Estimate
    narrowing: Estimate
    diversity: Estimate
    distance: Estimate
    balance: Float[np.ndarray, " C"]


def quality(
    mixture: Mixture,
    process: Process,
    guidance: Guidance,
    *,
    target: int,
    key: PRNGKeyArray,
    samples: int,
    steps: int,
    sampler: Sampler = "sde",
    partition: Partition | None = None,
    guide: Mixture | None = None,
) -> Quality:
    """Commitment, distortion and diversity of guided sampling, against the same paths without guidance.

    Args:
        mixture: law of x_0; `reduce` it first where its covariance is shared. Directions orthogonal to the means,
            which no guidance changes, then do not count in `diversity` and `distance`.
        process: forward process.
        guidance: schedule.
        target: cell (component, without a partition) to guide towards.
        key: JAX random key.
        samples: paths, >= 16.
        steps: steps of a path, see `guided_samples`.
        sampler: "sde" or "flow".
        partition: the cells.
        guide: reference mixture of autoguidance.

    Raises:
        ValueError: as `guided_samples`, or on samples < 16.
    """
    check_count("samples", samples, 2 * PARTS)
    end = last_time(mixture, process)
    call: dict[str, Any] = {"target": target, "samples": samples, "steps": steps, "end": end}
    call |= {"sampler": sampler, "partition": partition}
    common, key_directions = jax.random.clone(key), jax.random.fold_in(jax.random.clone(key), 1)
    states = [
        guided_samples(mixture, process, guidance, key=key, guide=guide, **call),
        guided_samples(
            mixture, process, _plain_like(guidance), key=common, **call
        ),  # the same noise, on purpose
    ]
    partition = partition_of(mixture.components, partition)
    noisy, labels = _at_end(mixture, process, end, partition)
    log_p = [
        np.asarray(cell_log_posterior(log_posterior(noisy, x), jnp.asarray(labels), partition.cells))
        for x in states
    ]
    guided, plain = (np.asarray(x, np.float64) for x in states)
    frame = _frame(noisy, labels == target)
    along = [frame.along(x) for x in (guided, plain)]
    spread = [_centred_squares(x).sum(axis=1) / frame.total for x in (guided, plain)]
    distance = lambda x, y: sliced_distance(x, y, jax.random.clone(key_directions)) / frame.deviation
    return Quality(
        *_commitment(log_p[0][:, target]),
        *_commitment(log_p[1][:, target]),
        shift=_mean(along[0] - along[1]),
        narrowing=_mean(_centred_squares(along[1]) - _centred_squares(along[0])),
        diversity=_offset(1.0, _mean(spread[0] - spread[1])),
        distance=_in_parts(distance, guided, plain),
        balance=np.exp(log_p[0]).mean(axis=0, dtype=np.float64),
    )


def sliced_distance(
    x: Float[ArrayLike, "n d"], y: Float[ArrayLike, "n d"], key: PRNGKeyArray, directions: int = DIRECTIONS
) -> float:
    """Sliced Wasserstein distance: root of the mean square distance of sorted projections (Bonneel et al. 2015).

    Of two independent samples of one law it is about √(2/n) standard deviations times a few, not zero.

    Args:
        x: (n, d) sample.
        y: (n, d) sample of the same size.
        key: JAX random key of the directions.
        directions: how many, >= 1.

    Raises:
        ValueError: when shapes differ or a value is not finite.
    """
    x, y = _sample("x", x), _sample("y", y)
    if x.shape != y.shape:
        raise ValueError(f"x and y must have one shape (n, d), got {x.shape} and {y.shape}")
    check_count("directions", directions)
    with jax.enable_x64(True):
        drawn = np.array(jax.random.normal(key, (x.shape[1], directions), jnp.float64))
    drawn /= np.linalg.norm(drawn, axis=0)
    gap = np.sort(x @ drawn, axis=0) - np.sort(y @ drawn, axis=0)
    return float(np.sqrt(np.mean(gap**2)))


def kernel_distance(x: Float[ArrayLike, "n d"], y: Float[ArrayLike, "m d"]) -> Estimate:
    """Squared maximum mean discrepancy under the kernel (x·y/d + 1)³, as of the kernel inception distance.

    Unbiased (Gretton et al. 2012, eq. 3; Bińkowski et al. 2018, eq. 4): the mean over eight parts of both
    samples, whose scatter is the standard error. It may be negative where the two laws agree. On pixels it is a
    distance of pixels, not of what they show.

    Args:
        x: (n, d) sample, n >= 16.
        y: (m, d) sample, m >= 16.

    Raises:
        ValueError: when dimensions differ, a sample is smaller or a value is not finite.
    """
    x, y = _sample("x", x), _sample("y", y)
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2 * PARTS:
        raise ValueError(
            f"x and y must have shapes (n, d) with n >= {2 * PARTS}, got {x.shape} and {y.shape}"
        )
    # Coordinate by coordinate the order of points is theirs: parts take every eighth.
    distances = [_discrepancy(x[i::PARTS], y[i::PARTS]) for i in range(PARTS)]
    return Estimate(np.asarray(np.mean(distances)), np.std(distances, ddof=1) / np.sqrt(PARTS))


# ---------------------------------------------------------------------------------------------- inner parts


def _sample(name: str, x: Any) -> Float[np.ndarray, "n d"]:
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"{name} must have shape (n, d), got {x.shape}")
    check_finite(name, x)
    return x


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    kernel = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
    return float(sum(within) - 2 * kernel(x, y).mean())


def _plain_like(guidance: Guidance) -> Guidance:
    """w = 1 with steps at the same levels."""
    return limited_interval(1, *guidance.jumps) if len(guidance.jumps) == 2 else unguided()


def _at_end(
    mixture: Mixture, process: Process, end: float, partition: Partition
) -> tuple[Mixture, np.ndarray]:
    """The mixture at the end of the paths, without components outside the decision, and the others' cells."""
    alpha, sigma = (np.asarray(v, mixture.dtype) for v in scales_at(process, end))
    inside = partition.inside
    return diffuse(mixture.take(inside), alpha, sigma), partition.labels[inside]


class _Frame(NamedTuple):
    """The target's own law: mean (d,), direction to it from the centre (d,), deviation along that, total variance."""

    mean: np.ndarray
    direction: np.ndarray
    deviation: float
    total: float

    def along(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) @ self.direction / self.deviation


def _frame(noisy: Mixture, members: np.ndarray) -> _Frame:
    target = noisy.take(np.flatnonzero(members))
    weights, means = np.asarray(target.weights, np.float64), np.asarray(target.means, np.float64)
    mean = weights @ means
    centre = np.asarray(noisy.weights, np.float64) @ np.asarray(noisy.means, np.float64)
    direction = (mean - centre) / np.linalg.norm(mean - centre)
    root = target.covariance.map(jnp.sqrt)
    rows = jnp.broadcast_to(jnp.asarray(direction, target.dtype), (target.components, target.dim))
    within = np.sum(np.asarray(root.apply(rows, jnp.arange(target.components)), np.float64) ** 2, axis=1)
    variance = weights @ (within + ((means - mean) @ direction) ** 2)
    spectrum = np.broadcast_to(
        np.asarray(target.covariance.eigenvalues(target.dim), np.float64), (target.components, target.dim)
    )
    total = weights @ (spectrum.sum(axis=1) + np.sum((means - mean) ** 2, axis=1))
    return _Frame(mean, direction, float(np.sqrt(variance)), float(total))


def _centred_squares(x: np.ndarray) -> np.ndarray:
    """Squares about the mean, by coordinate, whose means are unbiased variances."""
    return (x - x.mean(axis=0)) ** 2 * len(x) / (len(x) - 1)


def _mean(values: np.ndarray) -> Estimate:
    return Estimate(values.mean(), values.std(ddof=1) / np.sqrt(len(values)))


def _offset(start: float, change: Estimate) -> Estimate:
    return Estimate(start + change.value, change.stderr)


def _commitment(log_p: np.ndarray) -> tuple[Estimate, Estimate]:
    log_p = log_p.astype(np.float64)
    return _mean(np.exp(log_p)), _mean(-log_p)


def _in_parts(measure: Callable[[np.ndarray, np.ndarray], float], x: np.ndarray, y: np.ndarray) -> Estimate:
    """The measure of the whole, with the scatter of parts as its error."""
    parts = [measure(x[i::PARTS], y[i::PARTS]) for i in range(PARTS)]
    return Estimate(np.asarray(measure(x, y)), np.std(parts, ddof=1) / np.sqrt(PARTS))
