"""U-turns of a network: noise a sample to time t, denoise it again, and compare its class before and after.

The probability that the class is the same is E Σ_c p(c|X_t)² if the reverse process samples the law that the sample
came from (Biroli, Bonnaire, de Bortoli, Mezard 2024; `gmm.u_turn` for mixtures). This checks a measured posterior with
samples of the network and a classifier that is independent of it.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from gmm.checks import check_count, check_values
from gmm.clock import scales_at, times_at
from gmm.dynamics import time_grid
from gmm.estimate import Estimate
from gmm.partition import Partition, cell_log_posterior
from neural.denoiser import Denoiser
from neural.samplers import ancestral

Judge = Callable[[Float[Array, "n ..."]], Float[Array, "n K"]]
"""Clean states -> log posteriors of K classes, by a classifier."""


def u_turn(
    denoiser: Denoiser,
    x0: Float[ArrayLike, "n ..."],
    labels: Int[ArrayLike, " n"],
    times: Float[ArrayLike, " T"],
    *,
    judge: Judge,
    partitions: Sequence[Partition],
    key: PRNGKeyArray,
    steps: int = 64,
    end: float = 0.02,
) -> list[Estimate]:
    """The probability that a sample noised to t and denoised again is in the cell of its class.

    Args:
        denoiser: a denoiser of the unconditional law, called without a condition; x0 must follow that law.
        x0: (n, ...) clean samples, n >= 2.
        labels: (n,) class of each, 0..K-1.
        times: (T,) times at which the noising stops.
        judge: clean samples (n, ...) -> log posterior of the K classes (n, K), by a classifier of the caller's.
        partitions: partitions of the K classes; one result for each.
        key: JAX random key; the same noise serves all times.
        steps: number of steps of the reverse process, equal in log-SNR; its kernel is of first order in the step.
        end: σ/α at which the reverse process ends with a plain denoising; below that of all times.

    Returns:
        For every partition the probability and its standard error, (T,) each.

    Raises:
        ValueError: on fewer than two samples, labels of another length, steps < 1, or a time that is not noisier
            than `end`.
    """
    x0, labels, turns = jnp.asarray(x0), np.asarray(labels), np.asarray(times, np.float64)
    if len(x0) < 2 or labels.shape != (len(x0),):
        raise ValueError(
            f"x0 and labels must be n >= 2 samples and their classes, got {x0.shape} and {labels.shape}"
        )
    check_count("steps", steps)
    process = denoiser.process
    process.check_times(turns)
    last = max(float(times_at(process, np.log(end))), process.t_min)
    check_values(
        "times", turns, f"noisier than the end of the reverse process, t = {last:g}", lambda t: t > last
    )
    forth, back = jax.random.split(key)
    noise = jax.random.normal(forth, x0.shape, x0.dtype)
    results = []
    for t in turns:
        alpha, sigma = scales_at(process, t)
        # The chain multiplies its start by σ_t.
        state = jnp.asarray(alpha / sigma, x0.dtype) * x0 + noise
        common = jax.random.clone(back)  # on purpose the same for all times
        returned = ancestral(denoiser, state, None, key=common, times=time_grid(process, t, last, steps))
        results.append(_stays(judge(returned), labels, partitions))
    return [Estimate(*np.array(column).T) for column in zip(*results, strict=True)]


def _stays(
    log_posterior: Float[Array, "n K"], labels: np.ndarray, partitions: Sequence[Partition]
) -> list[tuple[float, float]]:
    """Mean posterior of the cell that each sample started in, and its standard error."""
    results = []
    for partition in partitions:
        cells = cell_log_posterior(log_posterior, jnp.asarray(partition.labels), partition.cells)
        stays = np.exp(np.asarray(cells, np.float64)[np.arange(len(labels)), partition.labels[labels]])
        results.append((stays.mean(), stays.std(ddof=1) / np.sqrt(len(stays))))
    return results
