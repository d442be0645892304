r"""The entropy of one cell against the whole mixture at prior one half: what the published map of decisions estimates.

arXiv 2602.09651 compares one class with the unconditional model. With p_C the law of cell C and p that of the whole
mixture, a state x has log-odds ℓ = log p_C(x)/p(x) and the posterior p_1 = 1/(1+e^{-ℓ}); the map is the mean of the
binary entropy h_b(p_1) over states *of the cell*. It is no class entropy, since its states are not drawn from the two
hypotheses alike, and the hypotheses overlap: inside the cell p >= ω p_C, ω the cell's share of the mixture, so that
p_1 <= 1/(1+ω) and the entropy does not fall below the floor h_b(1/(1+ω)).

Along paths of the cell, whose drift is that of p_C, Itô's formula gives with s_C, s the scores of p_C and p::

    dH/dt = ½ g² E[p_1 (1 - p_1) (1 + 2 (1 - p_1) ℓ) ‖s_C - s‖²]
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from gmm.checks import check_shape, check_values
from gmm.clock import Schedule, Times, schedule
from gmm.curve import EntropyCurve, versions
from gmm.estimate import CARRYING, Estimate, carrying
from gmm.keys import check_key, key_numbers
from gmm.mixture import Mixture, diffuse, log_posterior, sample, score
from gmm.partition import Partition, partition_of
from gmm.process import Process

_COLUMNS = ("entropy", "rate", "disagreement", "surprise", "square")
# A standard error is known where `CARRYING` points, or this part of all, carry the mean.
_CARRYING_PART = 0.6


def floor_of(share: float) -> float:
    """Entropy in nats below which the contrast cannot fall for a cell that holds this share of the whole mixture."""
    p = 1 / (1 + share)
    return -p * math.log(p) - (1 - p) * math.log1p(-p)


def contrast_entropy(
    mixture: Mixture,
    process: Process,
    times: Times,
    *,
    partition: Partition | None = None,
    weights: Float[np.ndarray, " K"] | None = None,
    key: PRNGKeyArray,
    samples: int,
    progress: Callable[[int, int], None] | None = None,
) -> EntropyCurve:
    """The curve of E[h_b(p_1)] in nats, one cell against the whole mixture at prior one half, averaged over cells.

    Args:
        mixture: law of x_0 of all classes of the unconditional model.
        process: forward process.
        times: (T,) times in any order, where log_snr is finite.
        partition: the cells; components labelled -1 belong to the whole alone. None: every component is a cell.
        weights: (K,) probabilities of the components within the decision, where they differ from the mixture's: the
            laws of the cells, and how often each is taken. Components outside the decision are left out.
        key: JAX random key; the same noise is used at all times.
        samples: points for each cell and time.
        progress: called with (times done, times in all).

    Returns:
        A curve with prior_entropy log 2; `per_cell` holds the mean of -log p_1 of each cell, and metadata["floor"] the
        floor of each, reached where the cell has no overlap with the rest, and metadata["mean_floor"] their mean.

    Raises:
        ValueError: on weights that are not positive inside the decision, components of weight zero there, times
            outside the range or samples < 2.
    """
    chosen = partition_of(mixture.components, partition)
    log_cells, share = _cells(mixture, chosen, weights)
    check_key(key)
    if samples < 2:
        raise ValueError(f"samples must be >= 2, got {samples}")
    grid = schedule(process, times)
    dtype, rows = mixture.dtype, []
    for done, (alpha, sigma) in enumerate(zip(grid.alpha, grid.sigma, strict=True)):
        if progress is not None:
            progress(done, len(grid.t))
        scales = jnp.asarray(alpha, dtype), jnp.asarray(sigma, dtype)
        rows.append(np.asarray(_at_one_time(mixture, jnp.asarray(log_cells, dtype), *scales, key, samples)))
    if progress is not None:
        progress(len(grid.t), len(grid.t))
    facts = _facts(mixture, process, log_cells, share, samples, key)
    return _curve(_known(np.asarray(rows, np.float64), samples), share, grid, facts)


def _cells(
    mixture: Mixture, partition: Partition, weights: Float[np.ndarray, " K"] | None
) -> tuple[Float[np.ndarray, "C K"], Float[np.ndarray, " C"]]:
    """Log weights of the components within each cell, and the probabilities of the cells."""
    whole = np.asarray(mixture.log_weights, np.float64)
    inside = partition.labels >= 0
    given = np.exp(whole) if weights is None else np.asarray(weights, np.float64)
    check_shape("weights", given, f"({len(whole)},), one per component", [(len(whole),)])
    check_values("weights", given[inside], "finite and > 0", lambda a: np.isfinite(a) & (a > 0))
    check_values("weights of mixture", np.exp(whole[inside]), "> 0 inside the decision", lambda a: a > 0)
    member = partition.labels[None, :] == np.arange(partition.cells)[:, None]
    mass = np.where(member, given[None, :], 0).sum(axis=1)
    safe = np.where(inside, given, 1.0)
    return np.where(member, np.log(safe)[None, :] - np.log(mass)[:, None], -np.inf), mass / mass.sum()


@functools.partial(jax.jit, static_argnums=5)
def _at_one_time(
    mixture: Mixture,
    log_cells: Float[Array, "C K"],
    alpha: Float[Array, ""],
    sigma: Float[Array, ""],
    key: PRNGKeyArray,
    samples: int,
) -> Float[Array, "C 3 F"]:
    """Means over states of each cell, of absolute values, and roots of mean squares; the rate per ½ g²."""
    noisy = diffuse(mixture, alpha, sigma)

    def of_cell(cell: tuple[Array, Array]) -> Array:
        number, log_inside = cell
        law = noisy.reweighted(log_inside)
        x, _ = sample(law, jax.random.fold_in(key, number), samples)
        against = jnp.where(jnp.isfinite(log_inside), log_inside - mixture.log_weights, -jnp.inf)
        odds = jax.nn.logsumexp(log_posterior(noisy, x) + against[None, :], axis=1)
        columns = _columns(odds, jnp.sum((score(law, x) - score(noisy, x)) ** 2, axis=1))
        roots = jnp.sqrt(jnp.mean(columns**2, axis=0))
        return jnp.stack([columns.mean(axis=0), jnp.abs(columns).mean(axis=0), roots])

    return jax.lax.map(of_cell, (jnp.arange(len(log_cells)), log_cells))


def _columns(odds: Float[Array, " n"], square: Float[Array, " n"]) -> Float[Array, "n F"]:
    """`_COLUMNS` of n states with log-odds ℓ and squared difference of scores."""
    log_p, log_q = jax.nn.log_sigmoid(odds), jax.nn.log_sigmoid(-odds)
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    columns = (-p * log_p - q * log_q, p * q * (1 + 2 * q * odds) * square, 2 * p * q, -log_p, log_p**2)
    return jnp.stack(columns, axis=1)


def _known(values: Float[np.ndarray, "T C 3 F"], samples: int) -> Float[np.ndarray, "T C 2 F"]:
    """Means and standard errors; an error is NaN, for unknown, where too few points carry the mean."""
    mean, size, root = values[:, :, 0], values[:, :, 1], values[:, :, 2]
    stderr = np.sqrt(np.maximum(root**2 - mean**2, 0) / (samples - 1))
    enough = carrying(samples * size, math.sqrt(samples) * root) >= min(CARRYING, _CARRYING_PART * samples)
    return np.stack([mean, np.where(enough | (root == 0), stderr, np.nan)], axis=2)


def _curve(
    values: Float[np.ndarray, "T C 2 F"],
    share: Float[np.ndarray, " C"],
    grid: Schedule,
    facts: dict[str, object],
) -> EntropyCurve:
    """The curve of the averages over cells."""
    mean = np.einsum("c,tcf->tf", share, values[:, :, 0])
    stderr = np.sqrt(np.einsum("c,tcf->tf", share**2, values[:, :, 1] ** 2))
    estimates = {name: Estimate(mean[:, i], stderr[:, i]) for i, name in enumerate(_COLUMNS)}
    half_g2 = 0.5 * grid.diffusion**2
    surprise = _COLUMNS.index("surprise")
    return EntropyCurve(
        t=grid.t,
        log_snr=grid.log_snr,
        log_snr_slope=grid.log_snr_slope,
        entropy=estimates["entropy"].value,
        entropy_stderr=estimates["entropy"].stderr,
        rate=half_g2 * estimates["rate"].value,
        rate_stderr=half_g2 * estimates["rate"].stderr,
        prior_entropy=math.log(2),
        per_cell=values[:, :, 0, surprise],
        per_cell_stderr=values[:, :, 1, surprise],
        surprise_variance=np.maximum(estimates["square"].value - estimates["surprise"].value ** 2, 0),
        clone_agreement=1 - estimates["disagreement"].value,
        clone_agreement_stderr=estimates["disagreement"].stderr,
        metadata=facts,
    )


def _facts(
    mixture: Mixture,
    process: Process,
    log_cells: Float[np.ndarray, "C K"],
    share: Float[np.ndarray, " C"],
    samples: int,
    key: PRNGKeyArray,
) -> dict[str, object]:
    """What is needed to compute the curve again, and the floors."""
    inside, whole = np.exp(log_cells), np.exp(np.asarray(mixture.log_weights, np.float64))
    floors = [
        float(sum(v * floor_of(w / v) for v, w in zip(row, whole, strict=True) if v > 0)) for row in inside
    ]
    return {
        "source": "sampling",
        "route": "contrast",
        "process": process.describe(),
        "components": mixture.components,
        "cells": len(log_cells),
        "dim": mixture.dim,
        "dtype": str(mixture.dtype),
        "samples": samples,
        "floor": floors,
        "mean_floor": float(share @ np.array(floors)),
        "key": key_numbers(key).tolist(),
        **versions(),
    }
