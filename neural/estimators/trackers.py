r"""From log-weights to statistics: the hypotheses, their posterior, and the rate at which it becomes certain.

L_c is the tracked log-weight of class c (prior included), L_∅ that of the unconditional network, C a cell of a
partition of the classes, z the class of the trajectory::

    classes         p_C = Σ_{c∈C} e^{L_c} / Σ_c e^{L_c}                 classes against each other: the class entropy
    unconditional   p = 1/(1+e^{-ℓ}),  ℓ = log Σ_{c∈C} (π_c/π_C) w_c - L_∅    C ∋ z against the unconditional network
                    at prior ½: the published map. Inside the class p cannot exceed 1/(1+ω), ω the cell's share of
                    the labels: the entropy keeps a floor h_b(1/(1+ω))
    share           p = min(1, ω e^ℓ)                                   C ∋ z against the rest, ω known

Every tracker ends in hypotheses h with posteriors p_h and denoisers D_h, D = Σ p_h D_h. As γ grows along paths
whose mean motion is that of `drive`, Itô's formula gives, without differencing a noisy curve::

    d/dγ E[-Σ p_h log p_h] = E[-½ Σ p_h ‖D_h - D‖² - Σ p_h log p_h (D_h - D)·(drive - D)]
    d/dγ E[-log p_z]       = E[½ ‖D_z - D‖² - (D_z - D)·(drive - D)]

Where z given the path has the posterior's law, the second term of the first line vanishes on average and what is left
is I-MMSE (Guo, Shamai, Verdu 2005).
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gmm.mixture import log_normalise
from gmm.partition import cell_log_posterior
from neural.estimators.chain import Chain, PartitionArrays, Paths

# Statistics of one trajectory at one time, in this order; after them one column per cell.
COLUMNS = ("entropy", "disagreement", "second_moment", "rate", "surprise", "excess", "class_rate", "balance")
# A class is rare below this part of an equal share.
_RARE = 0.1


class Hypotheses(NamedTuple):
    """Hypotheses: log_p (n, H), denoisers (n, H, d), their mean D (n, d), and the true one of each path (n,)."""

    log_p: Float[Array, "n H"]
    denoised: Float[Array, "n H d"]
    mean: Float[Array, "n d"]
    true: Int[Array, " n"]


class Tracked(NamedTuple):
    """What the paths hold at one time: log-weights (n, J) and denoisers (n, J, d) of classes and reference."""

    log_w: Float[Array, "n J"]
    predicted: Float[Array, "n J d"]


def columns(
    chain: Chain, partition: PartitionArrays, paths: Paths, half_snr: Array, tracked: Tracked, drive: Array
) -> Float[Array, "n F"]:
    """The statistics `COLUMNS` of n trajectories at one time, then for each cell the term of `per_cell`.

    Rates are per unit of -log γ, towards noise: γ times the formulas of the module, sign reversed.
    """
    hypotheses = _hypotheses(chain, partition, paths.z, tracked)
    p = jnp.exp(hypotheses.log_p)
    # 0 log 0 = 0: a posterior that underflows contributes nothing.
    log_p = jnp.where(p > 0, hypotheses.log_p, 0)
    entropy = -jnp.sum(p * log_p, axis=1)
    differences = hypotheses.denoised - hypotheses.mean[:, None, :]
    squares = jnp.sum(differences**2, axis=-1)
    surprise = -select(hypotheses.log_p, hypotheses.true)
    rate = jnp.sum(p * squares, axis=1)
    if not averaged(chain, paths):
        push = jnp.einsum("nhd,nd->nh", differences, drive - hypotheses.mean)
        rate = rate + 2 * jnp.sum(p * log_p * push, axis=1)
    scalars = (
        entropy,
        -jnp.sum(p * jnp.expm1(log_p), axis=1),
        jnp.sum(p * log_p**2, axis=1),
        half_snr * rate,
        surprise,
        surprise - entropy,
        half_snr * select(squares, hypotheses.true),
        _balance(hypotheses, half_snr, paths),
    )
    by_cell = _by_cell(chain, partition, paths, p, log_p)
    statistics = jnp.concatenate([jnp.stack(scalars, axis=1), by_cell], axis=1)
    return path_weight(chain, tracked.log_w)[:, None] * statistics if averaged(chain, paths) else statistics


def select(values: Float[Array, "n J ..."], index: Int[Array, " n"]) -> Float[Array, "n ..."]:
    """values[i, index[i]] for each trajectory i."""
    index = index.reshape(-1, *[1] * (values.ndim - 1))
    return jnp.take_along_axis(values, index, axis=1)[:, 0]


def log_drawn(log_prior: Float[Array, " K"]) -> Float[Array, " K"]:
    """Log probabilities of the classes of trajectories: the prior, or with rare classes half prior, half equal shares.

    A rare class can carry half of the entropy; drawn from the prior it would hardly be seen.
    """
    mixed = jnp.logaddexp(log_prior, _equal_shares(log_prior)) - math.log(2)
    return jnp.where(jnp.any(is_rare(log_prior)), mixed, log_prior)


def is_rare(log_prior: Float[Array, " K"]) -> Bool[Array, " K"]:
    """Which classes are rare: possible, and below a tenth of an equal share."""
    return jnp.isfinite(log_prior) & (log_prior < _equal_shares(log_prior) + math.log(_RARE))


def _equal_shares(log_prior: Float[Array, " K"]) -> Float[Array, " K"]:
    possible = jnp.isfinite(log_prior)
    return jnp.where(possible, -jnp.log(jnp.sum(possible).astype(log_prior.dtype)), -jnp.inf)


def path_weight(chain: Chain, log_w: Float[Array, "n J"]) -> Float[Array, " n"]:
    """Density of each path so far when classes are drawn from the prior, over that when from `log_drawn`; at most 2.

    With p the tracked posterior and q the drawn probabilities it is 1/Σ (q_c/π_c) p_c, whichever class was drawn.
    """
    log_ratio = jnp.where(jnp.isfinite(chain.log_prior), log_drawn(chain.log_prior) - chain.log_prior, 0)
    return jnp.exp(-jax.nn.logsumexp(log_w[:, : chain.classes] + log_ratio[None, :], axis=1))


def may_average(chain: Chain) -> bool:
    """Whether the tracked posterior is that of the class, along trajectories that no data drive."""
    return chain.tracker == "classes" and chain.drive == "class" and chain.guidance is None


def averaged(chain: Chain, paths: Paths) -> bool:
    """Whether the tracked posterior is the posterior of the trajectory's class z, so that z can be averaged out."""
    return may_average(chain) and paths.x0 is None


def _balance(hypotheses: Hypotheses, half_snr: Array, paths: Paths) -> Float[Array, " n"]:
    """γ (‖x_0-D‖² - ‖x_0-D_z‖² - ‖D_z-D‖²) = 2γ (x_0-D_z)·(D_z-D), zero on average for a calibrated network."""
    if paths.x0 is None:
        return jnp.zeros(hypotheses.true.shape, hypotheses.mean.dtype)
    of_true = select(hypotheses.denoised, hypotheses.true)
    return 4 * half_snr * jnp.sum((paths.x0 - of_true) * (of_true - hypotheses.mean), axis=-1)


def _by_cell(
    chain: Chain, partition: PartitionArrays, paths: Paths, p: Float[Array, "n H"], log_p: Float[Array, "n H"]
) -> Float[Array, "n C"]:
    """-p_C log p_C / π_C where z can be averaged out, else the surprise of the cell of the trajectory's class."""
    labels = jnp.asarray(partition.labels)
    if averaged(chain, paths):
        prior = jax.ops.segment_sum(jnp.exp(chain.log_prior), labels, num_segments=partition.cells)
        return -p * log_p / prior[None, :]
    true = labels[paths.z] if chain.tracker == "classes" else jnp.zeros_like(paths.z)
    surprise = -select(log_p, true)[:, None]
    return jnp.where(labels[paths.z][:, None] == jnp.arange(partition.cells)[None, :], surprise, 0)


# ------------------------------------------------------------------------------------------------ hypotheses


def _hypotheses(
    chain: Chain, partition: PartitionArrays, z: Int[Array, " n"], tracked: Tracked
) -> Hypotheses:
    if chain.tracker == "classes":
        return _class_against_class(chain.classes, partition, z, tracked)
    log_share, ratio, inside = _cell_of_class(chain, partition, z, tracked)
    without, zero = tracked.predicted[:, -1], jnp.zeros_like(z)
    if chain.tracker == "unconditional":
        log_p = jnp.stack([jax.nn.log_sigmoid(ratio), jax.nn.log_sigmoid(-ratio)], axis=1)
        pair = jnp.stack([inside, without], axis=1)
        return Hypotheses(log_p, pair, jnp.einsum("nh,nhd->nd", jnp.exp(log_p), pair), zero)
    log_p = jnp.minimum(log_share + ratio, 0)
    sure = log_p == 0
    log_rest = jnp.where(sure, -jnp.inf, jnp.log(-jnp.expm1(jnp.where(sure, -1, log_p))))
    odds = jnp.where(sure, 0, jnp.exp(log_p - jnp.where(sure, 0, log_rest)))
    rest = without - odds[:, None] * (inside - without)
    both = jnp.stack([inside, rest], axis=1)
    return Hypotheses(jnp.stack([log_p, log_rest], axis=1), both, without, zero)


def _class_against_class(
    classes: int, partition: PartitionArrays, z: Int[Array, " n"], tracked: Tracked
) -> Hypotheses:
    log_p, of_class = tracked.log_w[:, :classes], tracked.predicted[:, :classes]
    labels = jnp.asarray(partition.labels)
    if partition.cells < classes:
        log_cell = cell_log_posterior(log_p, labels, partition.cells)
        member = labels[None, None, :] == jnp.arange(partition.cells)[None, :, None]
        log_inside = log_p - jnp.where(jnp.isfinite(log_cell), log_cell, 0)[:, labels]
        of_class = jnp.where(member, jnp.exp(log_inside)[:, None, :], 0) @ of_class
        log_p = log_normalise(log_cell)
    else:  # cells may stand in another order than the conditions
        order = jnp.argsort(labels)
        log_p, of_class = log_p[:, order], of_class[:, order]
    return Hypotheses(log_p, of_class, jnp.einsum("nh,nhd->nd", jnp.exp(log_p), of_class), labels[z])


def _cell_of_class(
    chain: Chain, partition: PartitionArrays, z: Int[Array, " n"], tracked: Tracked
) -> tuple[Any, ...]:
    """log ω (n,), ℓ (n,) and the denoiser (n, d) of the cell that each trajectory's class is in."""
    labels = jnp.asarray(partition.labels)
    member = labels[None, :] == labels[z][:, None]
    among = jnp.where(member, tracked.log_w[:, : chain.classes], -jnp.inf)
    log_cell = jax.nn.logsumexp(among, axis=1)
    prior = jax.nn.logsumexp(jnp.where(member, chain.log_prior[None, :], -jnp.inf), axis=1)
    ratio = log_cell - prior - tracked.log_w[:, -1]
    inside = jnp.einsum(
        "nk,nkd->nd", jnp.exp(among - log_cell[:, None]), tracked.predicted[:, : chain.classes]
    )
    share = jnp.sum(jnp.where(member, jnp.asarray(chain.shares)[None, :], 0), axis=1)
    return jnp.log(share), ratio, inside
