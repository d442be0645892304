"""Which standard errors can be estimated from a sample of trajectories; the others are NaN.

The spread of a sample says nothing of what the sample has not seen. Late on a path, when hardly any trajectory is
undecided, the few that are carry the entropy: value and spread are then both too small, as `gmm.estimate.carrying`
measures. Classes that were hardly drawn may also carry a part that the sample has not seen.
"""

import numpy as np
from jaxtyping import Bool, Float

from gmm.estimate import AGREEMENT, CARRYING, FEWEST, UNAIMED, carrying
from neural.estimators.chain import Chain, PartitionArrays
from neural.estimators.runs import NAMES, PathMoments, Run
from neural.estimators.trackers import is_rare, log_drawn, may_average

# What classes that were drawn too rarely may add to the entropy is at most this part of its standard error.
_UNSEEN = 0.3
# Squares of smaller numbers are not normal float64.
_SMALLEST = 1e-150


def known_errors(chain: Chain, result: Run, number: int) -> Float[np.ndarray, "T F"]:
    """The standard errors of a partition's moments, NaN where the sample does not tell them.

    Args:
        chain: what was computed.
        result: its trajectories.
        number: of the partition.
    """
    moments, partition = result.moments[number], chain.partitions[number]
    carried, seen = _carried(moments), _seen(chain, result, moments)
    first, by_cell = carried[:, : len(NAMES)], carried[:, len(NAMES) :]
    averaged = may_average(chain) and by_cell.shape[1] == partition.cells
    scalars = _scalars(moments, first, averaged) & seen
    cells = _cells(chain, result, partition, by_cell, averaged)
    return np.where(np.concatenate([scalars, cells], axis=1), moments.stderr, np.nan)


def _carried(moments: PathMoments) -> Float[np.ndarray, "T F"]:
    """How many trajectories carry each mean; infinite where all trajectories have the same value."""
    agree = moments.stderr <= AGREEMENT * np.abs(moments.mean)
    able = np.abs(moments.mean) > _SMALLEST
    return np.where(able, np.where(agree, np.inf, carrying(moments.count * moments.mean, moments.norm)), 0.0)


def _scalars(
    moments: PathMoments, carried: Float[np.ndarray, "T S"], averaged: bool
) -> Bool[np.ndarray, "T S"]:
    """Of `NAMES`; those of either sign are known with the positive ones that they are made of."""
    known = dict(zip(NAMES, (carried >= _needed(moments.count)).T, strict=True))
    known["excess"] = known["entropy"] & known["surprise"]
    known["balance"] = known["class_rate"]
    if not averaged:
        known["rate"] = known["entropy"] & known["class_rate"]
    nothing_taken = moments.norm[:, NAMES.index("taken")] == 0
    known["integral"] = known["entropy"][0] & (known["taken"] | nothing_taken)
    return np.stack([known[name] for name in NAMES], axis=1)


def _needed(count: int) -> float:
    """How many of `count` trajectories must carry a mean; of fewer than fifty a part, below `FEWEST` none is enough."""
    return min(CARRYING, 0.6 * count) if count >= FEWEST else np.inf


def _seen(chain: Chain, result: Run, moments: PathMoments) -> Bool[np.ndarray, "T 1"]:
    """Whether the classes of few trajectories matter less than the error does: -π log π bounds what each adds to H."""
    log_prior = np.asarray(chain.log_prior, np.float64)
    drawn = np.bincount(result.z, minlength=chain.classes)
    missed = np.asarray(is_rare(chain.log_prior)) & (drawn < FEWEST)
    unseen = -np.sum(np.exp(log_prior[missed]) * log_prior[missed])
    return (unseen <= _UNSEEN * moments.stderr[:, NAMES.index("entropy")])[:, None]


def _cells(
    chain: Chain, result: Run, partition: PartitionArrays, carried: Float[np.ndarray, "T M"], averaged: bool
) -> Bool[np.ndarray, "T M"]:
    """For each cell: whether its mean is known; that of its integral, whether what is taken is known too."""
    labels, cells = np.asarray(partition.labels), partition.cells
    drawn = np.bincount(labels[result.z], minlength=cells)
    if averaged:
        aimed = len(result.z) * np.bincount(labels, np.exp(np.asarray(log_drawn(chain.log_prior))))
        return carried >= np.where(aimed < FEWEST, UNAIMED, _needed(len(result.z)))
    # Columns are zero for trajectories of other cells, which therefore do not count as carrying.
    known = (carried >= CARRYING) & np.tile(drawn >= FEWEST, carried.shape[1] // cells)
    if carried.shape[1] == cells:
        return known
    surprise, _, taken = np.split(known, 3, axis=1)
    nothing_taken = np.split(carried, 3, axis=1)[2] == 0
    return np.concatenate([surprise, surprise[:1] & (taken | nothing_taken), taken], axis=1)
