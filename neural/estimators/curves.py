"""From moments of trajectories to entropy curves."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from gmm.clock import schedule
from gmm.contrast import floor_of
from gmm.curve import EntropyCurve, versions
from gmm.estimate import Estimate
from gmm.guidance import Guidance
from gmm.keys import key_numbers
from neural.denoiser import state_dtype
from neural.estimators.chain import Chain
from neural.estimators.inputs import Inputs
from neural.estimators.known import known_errors
from neural.estimators.runs import NAMES, PathMoments, Run, antiderivative
from neural.estimators.trackers import COLUMNS


def estimates_of(chain: Chain, result: Run, number: int) -> dict[str, Estimate]:
    """Each statistic of a partition over time with its standard error, by name."""
    mean, stderr = result.moments[number].mean, known_errors(chain, result, number)
    return {name: Estimate(mean[:, i], stderr[:, i]) for i, name in enumerate(NAMES)}


def _surprise_variance(moments: PathMoments, averaged_out: bool) -> np.ndarray:
    """(T,) variance of -log p(Z|X): from the posterior if z is averaged out, else from the surprises themselves."""
    column = dict(zip(COLUMNS, moments.mean.T, strict=False))
    if averaged_out:
        return column["second_moment"] - column["entropy"] ** 2
    return moments.squares[:, COLUMNS.index("surprise")] / (moments.count - 1)


def _cells(
    moments: PathMoments, stderr: np.ndarray, cells: int, counts: np.ndarray | None, integrals: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(T, C) mean surprise given each cell, and its error, NaN where `stderr` is.

    `counts` holds the (C,) paths of each cell, None if z is averaged out.
    """
    begin = len(NAMES) + cells * integrals
    part = slice(begin, begin + cells)
    mean, stderr = moments.mean[:, part], stderr[:, part]
    if counts is None:
        return mean, stderr
    # Columns are zero for paths of other cells: sums over all paths are sums over the cell's own paths.
    paths = np.where(counts > 1, counts, np.nan)[None, :]
    total = moments.count * mean
    squares = moments.squares[:, part] + moments.count * mean**2
    variance = np.maximum(squares - total**2 / paths, 0) / (paths - 1)
    error = np.where(np.isfinite(stderr), np.sqrt(variance / paths), np.nan)
    return total / np.where(counts > 0, counts, np.nan)[None, :], error


def online_curve(
    inputs: Inputs,
    chain: Chain,
    result: Run,
    number: int,
    facts: Mapping[str, Any],
    crossed: bool = False,
) -> EntropyCurve:
    """The curve of the tracked posterior's entropy; `crossed` adds the cross-entropy (class of a path known)."""
    moments, partition = result.moments[number], inputs.partitions[number]
    column, errors = estimates_of(chain, result, number), known_errors(chain, result, number)
    crossed = crossed or chain.guidance is not None
    averaged_out = not crossed and chain.tracker == "classes" and chain.drive == "class"
    counts = np.bincount(partition.labels[result.z], minlength=partition.cells)
    per_cell, per_cell_stderr = _cells(moments, errors, partition.cells, None if averaged_out else counts)
    more: dict[str, Any] = {}
    if crossed:
        more = {"cross_entropy": column["surprise"].value, "cross_entropy_stderr": column["surprise"].stderr}
    if chain.tracker == "unconditional":
        share = np.bincount(partition.labels, np.asarray(chain.shares, np.float64))
        floors = [floor_of(s) for s in share]
        mean = float(inputs.cell_prior(number) @ np.array(floors))
        facts = dict(facts) | {"floor": floors, "mean_floor": mean}
    return curve_at(
        inputs, chain, number, column["entropy"], column["rate"], facts,
        per_cell=per_cell, per_cell_stderr=per_cell_stderr,
        surprise_variance=_surprise_variance(moments, averaged_out),
        clone_agreement=1 - column["disagreement"].value, clone_agreement_stderr=column["disagreement"].stderr, **more,
    )  # fmt: skip


def gap_curve(
    inputs: Inputs, chain: Chain, result: Run, number: int, facts: Mapping[str, Any], crossed: bool
) -> EntropyCurve:
    """The curve of the integrated gap; `crossed` where the tracker's cross-entropy on data is part of it."""
    moments, partition = result.moments[number], inputs.partitions[number]
    column, errors = estimates_of(chain, result, number), known_errors(chain, result, number)
    counts = np.bincount(partition.labels[result.z], minlength=partition.cells)
    per_cell, per_cell_stderr = _cells(moments, errors, partition.cells, counts, integrals=True)
    surprise = {"cross_entropy": column["surprise"].value, "cross_entropy_stderr": column["surprise"].stderr}
    curve = curve_at(
        inputs, chain, number, column["integral"], column["class_rate"], facts,
        per_cell=per_cell, per_cell_stderr=per_cell_stderr,
        surprise_variance=_surprise_variance(moments, False),
        clone_agreement=1 - column["disagreement"].value, clone_agreement_stderr=column["disagreement"].stderr,
        **(surprise if crossed else {}),
    )  # fmt: skip
    head = curve.prior_entropy - column["entropy"].value[0]
    return dataclasses.replace(
        curve,
        metadata=dict(curve.metadata)
        | {
            "head": float(head),
            "integration_error": integration_error(curve.log_snr, column["class_rate"].value),
        },
    )


def integration_error(log_snr: np.ndarray, rate: np.ndarray) -> float:
    """Largest change of the integral when every other time is left out: about 16 times the error of the whole grid."""
    if len(rate) < 4:
        return float("nan")
    fine, coarse = antiderivative(log_snr) @ rate, antiderivative(log_snr[::2]) @ rate[::2]
    return float(np.abs(fine[::2] - coarse).max())


def curve_at(
    inputs: Inputs,
    chain: Chain,
    number: int,
    entropy: Estimate,
    rate: Estimate,
    facts: Mapping[str, Any],
    **more: Any,
) -> EntropyCurve:
    """The curve of a partition from its entropy and its rate per unit of -log γ at the inputs' times."""
    grid = schedule(inputs.denoiser.process, inputs.times)
    prior = inputs.cell_prior(number)
    if chain.tracker == "unconditional":
        prior = np.array([0.5, 0.5])
    elif chain.tracker == "share":
        share = np.bincount(inputs.partitions[number].labels, np.asarray(chain.shares, np.float64)) @ prior
        prior = np.array([share, 1 - share])
    per_time = -grid.log_snr_slope  # rates are per unit of -log γ
    return EntropyCurve(
        t=grid.t,
        log_snr=grid.log_snr,
        log_snr_slope=grid.log_snr_slope,
        entropy=entropy.value,
        entropy_stderr=entropy.stderr,
        rate=per_time * rate.value,
        rate_stderr=per_time * rate.stderr,
        prior_entropy=float(-np.sum(prior[prior > 0] * np.log(prior[prior > 0]))),
        metadata={**facts, "cells": inputs.partitions[number].cells},
        **more,
    )


def described(guidance: Guidance | None) -> Any:
    """A guidance schedule as plain values for the metadata."""
    return None if guidance is None else guidance.as_dict()


def facts_of(inputs: Inputs, key: PRNGKeyArray, samples: int) -> dict[str, Any]:
    """Everything needed to compute the curve again."""
    return {
        "denoiser": type(inputs.denoiser).__name__,
        "conditions": [int(c) if isinstance(c, int | np.integer) else str(c) for c in inputs.conditions],
        "prior": np.exp(inputs.log_prior).tolist(),
        "process": inputs.denoiser.process.describe(),
        "samples": samples,
        "steps": len(inputs.times),
        "start": inputs.options.start,
        "within_variance": float(inputs.options.within_variance),
        "shape": list(inputs.shape),
        "dtype": str(state_dtype(inputs.denoiser)),
        "key": key_numbers(key).tolist(),
        **versions(),
    }
