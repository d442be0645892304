"""Whitened guided paths against the grid solution of the pair and the sampler of any mixture."""

import jax
import numpy as np
import pytest

import gmm
from gmm.whitened import guided_whitened
from theory import guided_pair

ENERGY = 100.0
PAIR = np.array([[1.0], [-1.0]])
# Of sixty steps where the weight depends on the state.
STEPS = 1e-3
# Two dozen comparisons: one false alarm in a thousand runs.
STDERRS = 4
SIZES = {"samples": 4000, "steps": 60}


def call(**more):
    return {"key": jax.random.key(1), **SIZES, **more}


def errors(found):
    """Standard errors; for unknown ones, which are those of a nearly made decision, the largest known one."""
    assert np.isfinite(found.stderr[0])
    return np.where(np.isfinite(found.stderr), found.stderr, np.nanmax(found.stderr))


@pytest.mark.parametrize("sampler", ["sde", "flow"])
def test_two_classes_against_the_grid(sampler):
    rho = np.array([0.3, 1.0, 2.5, ENERGY])
    exact = guided_pair(ENERGY, gmm.cfg(3.0), rho, sampler=sampler)
    # A pair ±m is two orthogonal classes of twice the energy.
    found = guided_whitened(2, 2 * rho, 3.0, sampler=sampler, **call())
    for ours, theirs in ((found.entropy, exact.entropy), (found.surprise, exact.cross_entropy)):
        assert (np.abs(ours.value - theirs)[:3] < STDERRS * errors(ours)[:3]).all()
    assert abs(found.shift.value - exact.mean[-1]) < STDERRS * found.shift.stderr
    assert abs(found.narrowing.value - (1 - exact.variance[-1])) < STDERRS * found.narrowing.stderr


@pytest.mark.parametrize("sampler", ["sde", "flow"])
@pytest.mark.parametrize(
    "schedule",
    [gmm.feedback(0.5), gmm.power_law(2.0, 0.5), gmm.limited_interval(4.0, 2.0, 9.0)],
    ids=lambda s: s.kind,
)
def test_schedules_of_levels_and_states_against_the_grid(schedule, sampler):
    rho = np.array([1.0, 4.0])
    exact = guided_pair(ENERGY, schedule, rho, sampler=sampler)
    found = guided_whitened(PAIR, rho, schedule, energy=ENERGY, sampler=sampler, **call(samples=2000))
    for ours, theirs in ((found.entropy, exact.entropy), (found.surprise, exact.cross_entropy)):
        assert (np.abs(ours.value - theirs) < STDERRS * errors(ours)).all()
    assert abs(found.shift.value - exact.mean[-1]) < STDERRS * found.shift.stderr + STEPS


@pytest.mark.parametrize(
    "schedule",
    [
        gmm.weight_profile([0.5, 1.5, 3.0], [1.0, 4.0, 1.0]),
        gmm.negative(0.5),
        gmm.dynamic_negative(0.5, max_posterior=0.9),
    ],
    ids=lambda s: s.kind,
)
def test_every_other_schedule_against_the_grid(schedule):
    rho = np.array([1.0, 2.5])
    exact = guided_pair(ENERGY, schedule, rho)
    found = guided_whitened(PAIR, rho, schedule, energy=ENERGY, **call(samples=2000))
    for ours, theirs in ((found.entropy, exact.entropy), (found.surprise, exact.cross_entropy)):
        assert (np.abs(ours.value - theirs) < STDERRS * ours.stderr).all()
    assert abs(found.shift.value - exact.mean[-1]) < STDERRS * found.shift.stderr + STEPS


def test_orthonormal_means_are_a_number_of_classes():
    few = {"samples": 50, "steps": 10}
    for sampler in ("sde", "flow"):
        short, long = (
            guided_whitened(c, [1.0, 9.0], 2.0, sampler=sampler, target=1, **call(**few))
            for c in (5, np.eye(5))
        )
        for a, b in zip(short[1:7], long[1:7], strict=True):
            np.testing.assert_allclose(a.value, b.value, rtol=1e-9, atol=1e-12)


def test_ten_classes_against_the_sampler_of_any_mixture():
    mixture = gmm.reduce(gmm.families.from_gram(ENERGY * np.eye(10)))
    other = gmm.quality(
        mixture, gmm.vp(), gmm.cfg(2.0), target=0, key=jax.random.key(2), samples=1000, steps=60
    )
    found = guided_whitened(10, [ENERGY], 2.0, **call())
    for name in ("shift", "narrowing"):
        ours, theirs = getattr(found, name), getattr(other, name)
        assert abs(ours.value - theirs.value) < STDERRS * np.hypot(ours.stderr, theirs.stderr), name


def test_weight_one_moves_nothing_and_a_weight_may_depend_on_noise():
    for sampler in ("sde", "flow"):
        found = guided_whitened(3, [4.0], 1.0, sampler=sampler, **call(samples=20))
        assert found.shift.value == found.narrowing.value == 0
        late = guided_whitened(
            3, [4.0], gmm.limited_interval(2.0, 0, 1.0), sampler=sampler, **call(samples=20)
        )
        always = guided_whitened(3, [4.0], 2.0, sampler=sampler, **call(samples=20))
        assert 0 < late.shift.value < always.shift.value


def test_bad_input():
    for words, wrong in (
        ("at least 2", lambda: guided_whitened(1, [1.0], 2.0, **call())),
        ("rho must be above", lambda: guided_whitened(2, [0.0], 2.0, **call())),
        ("second mixture", lambda: guided_whitened(2, [1.0], gmm.autoguidance(2.0), **call())),
        ("samples", lambda: guided_whitened(2, [1.0], 2.0, **call(samples=1))),
        ("sampler must be one of", lambda: guided_whitened(2, [1.0], 2.0, sampler="ode", **call())),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()
