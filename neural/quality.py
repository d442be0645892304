"""What guidance gains and costs on a trained model: commitment, distance from the data of each class, diversity."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from gmm.checks import check_count
from gmm.estimate import Estimate
from gmm.guidance import Guidance
from gmm.guided_quality import PARTS, kernel_distance
from gmm.mixture import Mixture, diffuse, log_posterior
from gmm.partition import Partition, cell_log_posterior, partition_of
from neural.denoiser import Denoiser, state_dtype, state_shape
from neural.samplers import Times, ancestral
from neural.uturn import Judge


@dataclasses.dataclass(frozen=True)
class SampleQuality:
    """One schedule on one model.

    Attributes:
        accuracy: E p(intended class | sample), by the judge.
        distance: `gmm.kernel_distance` of the samples of a class from its data, mean over classes: on pixels, for
            images. Unbiased: it may be negative where they agree.
        diversity: total variance within a class over that of its data, mean over classes.
    """

    accuracy: Estimate
    distance: Estimate
    diversity: Estimate


def sample_quality(
    denoiser: Denoiser,
    guidance: Guidance,
    *,
    data: tuple[Float[ArrayLike, "m d"], Int[ArrayLike, " m"]],
    judge: Judge,
    key: PRNGKeyArray,
    samples: int,
    times: Times,
    guide: Denoiser | None = None,
) -> SampleQuality:
    """The quality of samples of every class, drawn with the stochastic chain.

    Args:
        denoiser: model whose conditions are integers 0..C-1.
        guidance: schedule.
        data: flat points of what the model was trained on, or of its law, and their classes.
        judge: posterior of the classes of a sample; see `judge_of`.
        key: JAX random key; the same key gives the same noise under every schedule.
        samples: of each class, >= 16.
        times: the sampler's falling times.
        guide: reference; by default the model's own unconditional denoiser.

    Raises:
        ValueError: on fewer than 16 samples or points of a class, or as `ancestral`.
    """
    check_count("samples", samples, 2 * PARTS)
    classes = len(tuple(denoiser.conditions or ()))
    asked = np.repeat(np.arange(classes), samples)
    shape = state_shape(denoiser, None)
    key_start, key_chain = jax.random.split(key)
    noise = jax.random.normal(key_start, (asked.size, *shape), state_dtype(denoiser))
    options: dict[str, Any] = {"guide": guide, "guidance_scale": guidance, "times": times, "key": key_chain}
    states = np.asarray(ancestral(denoiser, noise, asked, **options)).reshape(asked.size, -1)
    return quality_of(states, asked, data, judge)


def quality_of(
    states: Float[np.ndarray, "n d"],
    asked: Int[np.ndarray, " n"],
    data: tuple[Float[ArrayLike, "m d"], Int[ArrayLike, " m"]],
    judge: Judge,
) -> SampleQuality:
    """The quality of given samples."""
    x, y = np.asarray(data[0]), np.asarray(data[1])
    log_p = np.asarray(judge(jnp.asarray(states)), np.float64)[np.arange(len(asked)), asked]
    p = np.exp(log_p)
    apart = [(states[asked == c], x[y == c]) for c in np.unique(asked)]
    distances = [kernel_distance(made, real) for made, real in apart]
    spread = [_spread(made, real) for made, real in apart]
    return SampleQuality(
        accuracy=Estimate(p.mean(), p.std(ddof=1) / np.sqrt(len(p))),
        distance=_over_classes(distances),
        diversity=_over_classes(spread),
    )


def judge_of(mixture: Mixture, partition: Partition | None = None, *, level: float = 0.0) -> Judge:
    """The exact posterior of a mixture's cells as a judge; data points and their labels are such a mixture, too.

    Args:
        mixture: exact law, or `gmm.families.empirical` of data.
        partition: the cells; None makes every component one.
        level: standard deviation of noise that the law is widened by: data points need some. At little noise it
            is the class of the nearest point.
    """
    partition = partition_of(mixture.components, partition)
    noisy = diffuse(mixture, 1.0, level) if level else mixture

    def judge(x: Float[ArrayLike, "n d"]) -> Float[Array, "n C"]:
        log_p = log_posterior(noisy, np.asarray(x, noisy.dtype))
        return cell_log_posterior(log_p, jax.numpy.asarray(partition.labels), partition.cells)

    return judge


def _spread(made: np.ndarray, real: np.ndarray) -> Estimate:
    """Total variance over that of data; the error from parts of the samples."""
    total = lambda z: z.var(axis=0, ddof=1).sum()
    parts = [total(made[i::PARTS]) / total(real) for i in range(PARTS)]
    return Estimate(np.asarray(total(made) / total(real)), np.std(parts, ddof=1) / np.sqrt(PARTS))


def _over_classes(of_class: list[Estimate]) -> Estimate:
    values, errors = (np.array([estimate[i] for estimate in of_class], float) for i in (0, 1))
    return Estimate(values.mean(), np.sqrt(np.sum(errors**2)) / len(of_class))
