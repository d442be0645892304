"""The deterministic answer for the guided pair: published and derived numbers, its own error, and its limits."""

import numpy as np
import pytest
from scipy import special
from scipy.integrate import solve_ivp

import gmm
from theory import binary_entropy, guided_curve, guided_pair

# The published values have four digits.
PRINTED = 6e-5
# The flow's quantiles start at ρ = SMALLEST_RHO, and their start is right to first order in √SMALLEST_RHO = 1e-4.
FLOW = 1e-6
# What the extrapolated answer promises.
PROMISED = 1e-4

# lim q - a of the flow's shift and variance, by the quantiles' equation dq/da = tanh(aq) + w(1 - tanh(aq)) with
# Dormand-Prince 8(5,3) at rtol = 1e-12, on 8001 and 16001 points: the same to 1e-11 and for a = 10 and 32.
FLOW_LIMIT = {2: (0.64911298, 0.51777852), 4: (1.36327513, 0.33947183)}

ENERGY = 100.0
TIMES = np.array([3.0, 2.4, 1.8])
RHO = ENERGY * np.exp(-2 * TIMES)

SCHEDULES = {
    "cfg": gmm.cfg(2.0),
    "strong": gmm.cfg(8.0),
    "interval": gmm.limited_interval(3, 4, 15),
    "feedback": gmm.feedback(0.5),
    "power": gmm.power_law(1.0, 0.5),
    "profile": gmm.weight_profile([1, 2, 3], [1, 4, 1]),
}


@pytest.mark.parametrize(
    ("w", "entropy", "cross_entropy", "mean", "variance"),
    [
        (1, [0.5826, 0.3987, 0.1253], [0.5826, 0.3987, 0.1253], 10, 1),
        (2, [0.5553, 0.3104, 0.0552], [0.4230, 0.1651, 0.0188], 10.0682, 0.9896),
        (4, [0.4740, 0.1915, 0.0260], [0.2521, 0.0641, 0.0062], 10.1160, 0.9880),
    ],
)
def test_the_pair_under_constant_guidance(w, entropy, cross_entropy, mean, variance):
    found = guided_pair(ENERGY, gmm.cfg(w), [*RHO, ENERGY])
    np.testing.assert_allclose(found.entropy[:3], entropy, atol=PRINTED)
    np.testing.assert_allclose(found.cross_entropy[:3], cross_entropy, atol=PRINTED)
    assert np.sqrt(ENERGY) + found.mean[-1] == pytest.approx(mean, abs=PRINTED)
    assert found.variance[-1] == pytest.approx(variance, abs=PRINTED)
    assert (found.error < PROMISED).all()


def test_weight_one_is_the_conditional_law():
    found = guided_pair(ENERGY, gmm.cfg(1), [*RHO, ENERGY])
    np.testing.assert_allclose(found.entropy[:3], binary_entropy(RHO), rtol=1e-9)
    np.testing.assert_allclose(found.cross_entropy[:3], binary_entropy(RHO), rtol=1e-9)
    np.testing.assert_allclose([found.mean, found.variance - 1, found.divergence], 0, atol=1e-9)


@pytest.mark.parametrize(
    ("w", "shift", "narrowing"),
    [(2, 0.6817, 1.043), pytest.param(4, 1.1598, 1.2035, marks=pytest.mark.slow)],
)
def test_distortion_vanishes_with_dimension_for_the_sde_alone(w, shift, narrowing):
    for energy in (1e2, 1e4):
        sde = guided_pair(energy, gmm.cfg(w), [energy])
        assert sde.mean[0] * np.sqrt(energy) == pytest.approx(shift, abs=2e-4)
        assert (1 - sde.variance[0]) * energy == pytest.approx(narrowing, abs=1e-3)
    flows = [guided_pair(energy, gmm.cfg(w), [energy], sampler="flow") for energy in (1e2, 1e3)]
    mean, variance = FLOW_LIMIT[w]
    for flow in flows:
        assert flow.mean[0] == pytest.approx(mean, abs=FLOW)
        assert flow.variance[0] == pytest.approx(variance, abs=FLOW)


def test_the_flow_is_the_equation_of_each_quantile():
    """dq/da = tanh(aq) + w(1 - tanh(aq)), a = √ρ, by a solver with error control."""
    w, rho = 3.0, 2.0
    start = np.linspace(-9, 9, 2001)
    slope = lambda a, q: np.tanh(a * q) + w * (1 - np.tanh(a * q))
    end = solve_ivp(slope, (0, np.sqrt(rho)), start, rtol=1e-10, atol=1e-12).y[:, -1] - np.sqrt(rho)
    mass = np.exp(-0.5 * start**2)
    mean = mass @ end / mass.sum()
    variance = mass @ (end - mean) ** 2 / mass.sum()
    found = guided_pair(ENERGY, gmm.cfg(w), [rho], sampler="flow")
    # The start at SMALLEST_RHO = 1e-8 is right to first order in √SMALLEST_RHO.
    assert found.mean[0] == pytest.approx(mean, abs=1e-7)
    assert found.variance[0] == pytest.approx(variance, abs=1e-7)


# What weights below one promise for the flow, absolute; the error estimate is that of the coarser steps.
PARTED = 1e-6


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_weight_zero_is_the_unconditional_law(prior):
    rho = np.array([1.0, 4.0, 8.0, 16.0])
    found = guided_pair(16.0, gmm.cfg(0), rho, prior=prior, sampler="flow")
    np.testing.assert_allclose(found.entropy, binary_entropy(rho, prior), rtol=PARTED)
    # q is N(0, 1) for the target and N(-2√ρ, 1) for the other class.
    np.testing.assert_allclose(found.mean, -2 * (1 - prior) * np.sqrt(rho), rtol=PARTED)
    np.testing.assert_allclose(found.variance, 1 + 4 * rho * prior * (1 - prior), rtol=PARTED)
    assert (found.error < PARTED).all()


@pytest.mark.parametrize(("w", "rho"), [(-4.0, 1.0), (-1.0, 2.0), (0.5, 4.0)])
def test_weights_below_one_part_the_quantiles_as_their_equation_says(w, rho):
    """dq/da = (w-1) 2 expit(-2a(a+q)), a = √ρ, by a solver with error control, on quantiles close enough to part."""
    start = np.linspace(-9, 9, 20001)
    slope = lambda a, q: 2 * (w - 1) * special.expit(-2 * a * (a + q))
    q = solve_ivp(slope, (0, np.sqrt(rho)), start, rtol=1e-10, atol=1e-12, method="DOP853").y[:, -1]
    mass = np.exp(-0.5 * start**2)
    logit = 2 * rho + 2 * np.sqrt(rho) * q
    surprise = np.logaddexp(0, -logit)
    entropy = special.expit(logit) * surprise + special.expit(-logit) * np.logaddexp(0, logit)
    found = guided_pair(4.0, gmm.cfg(w), [rho], sampler="flow")
    for name, wanted in (("entropy", entropy), ("cross_entropy", surprise), ("mean", q)):
        assert getattr(found, name)[0] == pytest.approx(mass @ wanted / mass.sum(), abs=PARTED), name
    again = guided_pair(4.0, gmm.cfg(w), [rho], sampler="flow", refine=2)
    assert again.entropy[0] == pytest.approx(found.entropy[0], abs=PARTED)


@pytest.mark.slow
@pytest.mark.parametrize(("w", "rho"), [(0.0, 16.0), (-1.0, 8.0), (-1.0, 16.0), (-4.0, 8.0), (-4.0, 16.0)])
def test_weights_below_one_far_beyond_the_decision(w, rho):
    """E f = ∫ f(q) φ(q(start)) dq(start)/dq dq: points at the end, dense around the boundary, followed to the start."""
    s = np.linspace(-7, 7, 4001)
    logit, root = np.sinh(s), np.sqrt(rho)

    def slope(a, state):
        q = state[: len(s)]
        other = special.expit(-2 * a * (a + q))
        return np.concatenate([2 * (w - 1) * other, -4 * a * (w - 1) * other * (1 - other)])

    end = np.concatenate([logit / (2 * root) - root, np.zeros(len(s))])
    solution = solve_ivp(slope, (root, 0), end, rtol=1e-11, atol=1e-12, method="DOP853").y[:, -1]
    start, log_spread = np.split(solution, 2)
    mass = np.exp(-0.5 * start**2 + log_spread) * np.cosh(s)
    mass /= mass.sum()
    surprise = np.logaddexp(0, -logit)
    entropy = special.expit(logit) * surprise + special.expit(-logit) * np.logaddexp(0, logit)
    found = guided_pair(16.0, gmm.cfg(w), [rho], sampler="flow")
    assert found.entropy[0] == pytest.approx(mass @ entropy, rel=1e-5)
    assert found.cross_entropy[0] == pytest.approx(mass @ surprise, abs=PARTED)


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("cfg", "feedback") else pytest.param(name, marks=pytest.mark.slow)
        for name in SCHEDULES
    ],
)
def test_halving_all_steps_stays_within_the_promise(name):
    rho = np.array([0.25, 1.0, 4.0])
    once, twice = (guided_pair(ENERGY, SCHEDULES[name], rho, refine=refine) for refine in (1, 2))
    for name in ("entropy", "cross_entropy", "mean", "variance", "weight", "divergence"):
        np.testing.assert_allclose(getattr(once, name), getattr(twice, name), atol=PROMISED, err_msg=name)
    assert (once.error < PROMISED).all()


def test_schedules_reduce_to_each_other():
    rho = np.array([0.5, 2.0, 8.0])
    constant = guided_pair(ENERGY, gmm.cfg(3), rho)
    for same in (
        gmm.limited_interval(3, 0, np.inf),
        gmm.power_law(2, 0),
        gmm.weight_profile([-50, 50], [3, 3]),
    ):
        found = guided_pair(ENERGY, same, rho)
        np.testing.assert_allclose(found.entropy, constant.entropy, rtol=1e-8)
    outside = guided_pair(ENERGY, gmm.limited_interval(3, 1e5, 1e6), rho)
    np.testing.assert_allclose(outside.entropy, binary_entropy(rho), rtol=1e-9)


def test_unequal_priors_leave_the_other_class():
    """Without guidance the target's own cross-entropy: the average over both is the class entropy."""
    rho = np.array([0.3, 1.5])
    both = [guided_pair(ENERGY, gmm.cfg(1), rho, prior=prior).cross_entropy for prior in (0.2, 0.8)]
    np.testing.assert_allclose(0.2 * both[0] + 0.8 * both[1], binary_entropy(rho, 0.2), rtol=1e-9)


def test_the_curve_carries_its_own_derivative():
    times = np.linspace(1.5, 3.5, 41)
    curve = guided_curve(gmm.vp(), times, ENERGY, gmm.cfg(2))
    gained = np.sum(0.5 * (curve.rate[1:] + curve.rate[:-1]) * np.diff(times))
    assert gained == pytest.approx(curve.entropy[-1] - curve.entropy[0], rel=1e-3)
    assert curve.metadata["error"] < PROMISED


def test_bad_input_is_refused_in_words():
    for words, call in (
        ("energy", lambda: guided_pair(-1, gmm.cfg(2), [1.0])),
        ("rho must be in", lambda: guided_pair(1, gmm.cfg(2), [2.0])),
        ("rho must be in", lambda: guided_pair(1, gmm.cfg(2), [0.0])),
        ("prior", lambda: guided_pair(1, gmm.cfg(2), [0.5], prior=1.0)),
        ("variance", lambda: guided_pair(1, gmm.cfg(2), [0.5], variance=-1)),
        ("sampler must be one of", lambda: guided_pair(1, gmm.cfg(2), [0.5], sampler="ode")),  # type: ignore
        ("reference", lambda: guided_pair(1, gmm.autoguidance(2), [0.5])),
        ("offset", lambda: guided_pair(1, gmm.feedback(offset=-0.1), [0.5])),
    ):
        with pytest.raises(ValueError, match=words):
            call()
