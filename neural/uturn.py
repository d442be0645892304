"""U-turns of a network: noise a sample to t, come back, and see whether its class has stayed.

The probability that it does is E Σ_c p(c|X_t)² where the way back samples the law that the sample came from (Biroli,
Bonnaire, de Bortoli, Mezard 2024; `gmm.u_turn` for mixtures): a check of a measured posterior that asks the network
for nothing but samples, and somebody else for their class.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from gmm.checks import check_values
from gmm.dynamics import in_float64, time_grid
from gmm.estimate import Estimate
from gmm.partition import Partition, cell_log_posterior
from neural.denoiser import Denoiser
from neural.samplers import ancestral

Judge = Callable[[Float[Array, "n ..."]], Float[Array, "n K"]]


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
    """The probability that the class of x_0, noised to t and denoised again, is in its cell still.

    Args:
        denoiser: of the unconditional law, asked without condition: it must be the law that x0 follows.
        x0: (n, ...) clean samples, n >= 2.
        labels: (n,) class of each, 0..K-1.
        times: (T,) times to turn at.
        judge: clean samples (n, ...) -> log posterior of the K classes (n, K); not the network's own business.
        partitions: of the K classes; one answer for each.
        key: JAX random key; the same noise serves all times.
        steps: of the way back, equal in log-SNR; its kernel is right to first order in them.
        end: σ/α at which the way back ends with a plain denoising; below that of all times.

    Returns:
        For every partition value and standard error, (T,) each.

    Raises:
        ValueError: on fewer than two samples, labels of another length, steps < 1, or a time that is not noisier
            than `end`.
    """
    x0, labels, turns = jnp.asarray(x0), np.asarray(labels), np.asarray(times, np.float64)
    if len(x0) < 2 or labels.shape != (len(x0),):
        raise ValueError(
            f"x0 and labels must be n >= 2 samples and their classes, got {x0.shape} and {labels.shape}"
        )
    process = denoiser.process
    process.check_times(turns)
    last = float(in_float64(lambda p, v: p.time_at_log_snr(v), process, np.array([-2 * np.log(end)]))[0])
    last = max(last, process.t_min)
    check_values("times", turns, f"noisier than the end of the way back, t = {last:g}", lambda t: t > last)
    forth, back = jax.random.split(key)
    noise = jax.random.normal(forth, x0.shape, x0.dtype)
    found = []
    for t in turns:
        alpha, sigma = (
            in_float64(lambda p, s, of=of: getattr(p, of)(s), process, np.array([t]))[0]
            for of in ("alpha", "sigma")
        )
        # The chain starts at σ_t times what it is given.
        state = jnp.asarray(alpha / sigma, x0.dtype) * x0 + noise
        common = jax.random.clone(back)  # on purpose the same for all times
        returned = ancestral(denoiser, state, None, key=common, times=time_grid(process, t, last, steps))
        found.append(_stays(judge(returned), labels, partitions))
    return [Estimate(*np.array(each).T) for each in zip(*found, strict=True)]


def _stays(
    log_posterior: Float[Array, "n K"], labels: np.ndarray, partitions: Sequence[Partition]
) -> list[tuple[float, float]]:
    """Mean posterior of the cell that each sample started in, and its standard error."""
    found = []
    for partition in partitions:
        cells = cell_log_posterior(log_posterior, jnp.asarray(partition.labels), partition.cells)
        own = np.asarray(cells, np.float64)[np.arange(len(labels)), partition.labels[labels]]
        stays = np.exp(own)
        found.append((stays.mean(), stays.std(ddof=1) / np.sqrt(len(stays))))
    return found
