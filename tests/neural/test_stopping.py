"""Trajectories are added until a stated precision: the same ones as without it, and no more than asked for."""

import math

import jax
import numpy as np
import pytest

import gmm
from gmm.landmarks import half_entropy
from neural import mixture_denoiser, online_entropy
from neural.estimators.stopping import expected_total, next_total

# Sums of trajectories in other groups, in float32.
ROUNDING = 1e-5


def test_groups_double_up_to_the_most():
    totals = [0]
    while totals[-1] < 100:
        totals.append(next_total(totals[-1], 16, 100, 0.1))
    assert totals == [0, 16, 32, 64, 100]
    assert next_total(0, 16, 100, None) == 100
    assert next_total(0, 16, 5, 0.1) == 5


def test_what_is_expected_follows_the_root_law():
    assert expected_total(16, 1000, 0.4, 0.1) == 256
    assert expected_total(16, 1000, 0.11, 0.1) == 32
    assert expected_total(16, 100, 0.4, 0.1) == 100
    assert expected_total(16, 100, math.inf, 0.1) == 100
    assert expected_total(16, 100, 0.4, None) == 100


@pytest.mark.parametrize("guidance", [None, 2.0])
def test_a_precise_call_returns_the_curve_of_as_many_trajectories(guidance):
    denoiser = mixture_denoiser(gmm.families.simplex(3, 16), gmm.edm())
    called = []
    options = {"key": jax.random.key(0), "steps": 16, "guidance": guidance}
    curve = online_entropy(
        denoiser, range(3), precision=0.1, progress=lambda *counts: called.append(counts), **options
    )
    assert curve.metadata["reached"]
    assert half_entropy(curve).stderr <= 0.1
    done, total = zip(*called, strict=True)
    assert list(done) == sorted(done)
    assert all(part <= whole for part, whole in called)
    assert total[-1] == done[-1] == curve.metadata["samples"]
    plain = online_entropy(denoiser, range(3), samples=curve.metadata["samples"], **options)
    assert np.allclose(curve.entropy, plain.entropy, atol=ROUNDING)
    assert "reached" not in plain.metadata


def test_a_precision_out_of_reach_takes_every_trajectory():
    denoiser = mixture_denoiser(gmm.families.pair(16), gmm.edm())
    curve = online_entropy(denoiser, range(2), precision=1e-4, samples=80, steps=8, key=jax.random.key(0))
    assert (curve.metadata["samples"], curve.metadata["reached"]) == (80, False)
    with pytest.raises(ValueError, match="precision"):
        online_entropy(denoiser, range(2), precision=-1.0, key=jax.random.key(0))
