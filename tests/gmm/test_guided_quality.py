"""Commitment and distortion of guided samples against the grid solution; distances against what they are by hand."""

from math import comb

import jax
import numpy as np
import pytest

import gmm
from gmm import guided
from theory import guided_pair

STDERRS = 4
PAIR = gmm.families.pair(4)


def key():
    return jax.random.key(7)


@pytest.fixture(scope="module")
def pair():
    return gmm.reduce(PAIR)


def measured(mixture, schedule, sampler="sde", samples=4000, **more):
    call = {"target": 1, "key": key(), "samples": samples, "steps": 60, "sampler": sampler} | more
    return gmm.quality(mixture, gmm.vp(), schedule, **call)


@pytest.mark.parametrize("sampler", ["sde", "flow"])
def test_the_pair_against_the_grid(pair, sampler):
    """Classes that overlap: the target's own surprise is not zero."""
    found = measured(pair, gmm.cfg(3.0), sampler)
    exact = guided_pair(4.0, gmm.cfg(3.0), [4.0], sampler=sampler)
    plain = guided_pair(4.0, gmm.cfg(1.0), [4.0], sampler=sampler)
    for ours, theirs in (
        (found.surprise, exact.cross_entropy),
        (found.plain_surprise, plain.cross_entropy),
        (found.shift, exact.mean),
        (found.narrowing, 1 - exact.variance),
        (found.diversity, exact.variance),
    ):
        assert abs(ours.value - theirs[0]) < STDERRS * ours.stderr
    assert found.accuracy.value > found.plain_accuracy.value
    assert found.balance.sum() == pytest.approx(1, abs=1e-5)
    # One coordinate: the sliced distance is that of the sorted states, at least the shift of their mean.
    assert found.distance.value >= abs(found.shift.value) * (1 - 1e-6)


def test_weight_one_costs_nothing(pair):
    for schedule in (gmm.cfg(1.0), gmm.limited_interval(1.0, 0.5, 2.0)):
        found = measured(pair, schedule, samples=64)
        assert found.distance.value == found.shift.value == found.narrowing.value == 0
        assert found.accuracy.value == found.plain_accuracy.value


def test_an_interval_and_its_unguided_paths_share_their_noise(pair):
    """A schedule that does almost nothing moves states by almost nothing."""
    found = measured(pair, gmm.limited_interval(1 + 1e-4, 0.5, 2.0), samples=64)
    assert 0 < found.distance.value < 1e-3


def test_paths_without_guidance_have_the_conditional_law(pair, monkeypatch):
    call = {"target": 1, "samples": 4000, "steps": 20}
    plain = gmm.guided_samples(pair, gmm.vp(), gmm.cfg(1.0), key=key(), **call)
    end = guided.last_time(pair, gmm.vp())
    q = np.asarray(plain)[:, 0] - float(gmm.vp().alpha(end)) * float(pair.means[1, 0])
    assert abs(q.mean()) < STDERRS / np.sqrt(4000)
    assert abs(q.var() - 1) < STDERRS * np.sqrt(2 / 4000)
    monkeypatch.setattr(guided, "PLAIN_PAYS", 1)
    np.testing.assert_array_equal(gmm.guided_samples(pair, gmm.vp(), gmm.cfg(1.0), key=key(), **call), plain)


def test_a_cell_of_several_components():
    mixture = gmm.reduce(gmm.families.tree([2, 2], 8))
    fine = gmm.families.tree_partitions([2, 2])[0]
    found = measured(mixture, gmm.cfg(3.0), samples=500, partition=fine)
    assert found.balance.shape == (2,)
    assert found.accuracy.value > found.plain_accuracy.value
    assert found.distance.value > 5 * found.distance.stderr


def test_sliced_distance_by_hand():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 1))
    assert gmm.sliced_distance(x, x[::-1] + 0.25, key()) == pytest.approx(0.25)
    # A shift along one of d coordinates is seen by a random direction as its cosine: E cos² = 1/d.
    y = rng.standard_normal((2000, 3))
    assert gmm.sliced_distance(y, y + np.array([3.0, 0, 0]), key(), 4000) == pytest.approx(
        np.sqrt(3), rel=0.05
    )


def test_kernel_distance_is_that_of_the_moments():
    """In one dimension (xy+1)³ = Σ C(3,j) x^j y^j: the square distance of the first three moments, weighted."""
    moments = np.array([[1, 0, 1, 0], [1, 0.5, 0.5**2 + 4, 0.5**3 + 3 * 0.5 * 4]])
    exact = sum(comb(3, j) * (moments[0, j] - moments[1, j]) ** 2 for j in range(4))
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((4000, 1)), 0.5 + 2 * rng.standard_normal((4000, 1))
    found = gmm.kernel_distance(x, y)
    assert abs(found.value - exact) < STDERRS * found.stderr
    none = gmm.kernel_distance(x, rng.standard_normal((3000, 1)))
    assert abs(none.value) < STDERRS * none.stderr


def test_bad_input(pair):
    for words, call in (
        ("samples must be >= 16", lambda: measured(pair, gmm.cfg(2.0), samples=8)),
        ("target", lambda: measured(pair, gmm.cfg(2.0), target=2)),
        (
            "end",
            lambda: gmm.guided_samples(
                pair, gmm.vp(), gmm.cfg(2.0), target=0, key=key(), samples=4, steps=2, end=-1
            ),
        ),
        ("one shape", lambda: gmm.sliced_distance(np.ones((3, 1)), np.ones((4, 1)), key())),
        ("n >= 16", lambda: gmm.kernel_distance(np.ones((3, 1)), np.ones((40, 1)))),
        ("finite", lambda: gmm.kernel_distance(np.full((30, 1), np.nan), np.ones((40, 1)))),
    ):
        with pytest.raises(ValueError, match=words):
            call()
