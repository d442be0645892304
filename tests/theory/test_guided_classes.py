"""The limit of many classes against closed forms of the flow, sampling at finite dimension, and the condensation."""

import jax
import numpy as np
import pytest

from gmm.whitened import guided_whitened
from theory import guided_many_classes

# Of the differential equations and the event, both to 1e-8.
SOLVED = 1e-6
# At d = 40 the draw of the means moves the shift by a few hundredths (its squared length scatters by √(2/d) = 22%),
# and edges are rounded over 1/√d. The SDE, which forgets, depends on the edge; the flow adds up what came before.
FINITE = {"sde": 0.3, "flow": 0.12}


@pytest.mark.parametrize("kappa", [0.05, 0.2])
def test_the_flow_at_weight_two_in_closed_form(kappa):
    """With β = 1: b = 1/(1+ρ), u = asinh(√ρ)/√(1+ρ), until both weights are the same."""
    found = guided_many_classes(kappa, 2.0, sampler="flow")
    rho = found.decided
    u, b = np.arcsinh(np.sqrt(rho)) / np.sqrt(1 + rho), 1 / (1 + rho)
    assert found.shift == pytest.approx(u, abs=SOLVED)
    assert found.variance == pytest.approx(b, abs=SOLVED)
    rest = kappa - 0.5 * np.log1p(rho) - ((np.sqrt(rho) + u) ** 2 + b) / (2 * (1 + rho))
    assert -0.5 * (u**2 + b) == pytest.approx(rest, abs=SOLVED)


@pytest.mark.parametrize("sampler", ["sde", "flow"])
def test_without_guidance_the_target_wins_at_the_condensation(sampler):
    found = guided_many_classes(0.2, 1.0, sampler=sampler)
    assert found.shift == pytest.approx(0, abs=SOLVED)
    assert found.variance == pytest.approx(1, abs=SOLVED)
    assert found.decided == pytest.approx(np.expm1(0.4), rel=SOLVED)


@pytest.mark.parametrize("sampler", ["sde", "flow"])
def test_many_classes_at_finite_dimension(sampler):
    d, kappa = 40, 0.2
    limit = guided_many_classes(kappa, 2.0, sampler=sampler)
    means = np.array(jax.random.normal(jax.random.key(0), (round(np.exp(kappa * d)), d)), np.float64)
    means[0] *= np.sqrt(d) / np.linalg.norm(means[0])
    found = guided_whitened(means, [1.0], 2.0, key=jax.random.key(1), samples=64, steps=30, sampler=sampler)
    shift = found.shift.value / np.sqrt(d)
    assert shift == pytest.approx(limit.shift, rel=FINITE[sampler])
    # It does not vanish: the same number of classes in a dimension where they are few would give half of it.
    assert shift > 0.1


def test_guidance_fades_as_classes_become_few():
    shifts = [guided_many_classes(kappa, 2.0).shift for kappa in (0.2, 0.02, 0.002)]
    # u ~ κ^{1/2} to the power of how long the target has won.
    assert shifts[0] > 2 * shifts[1] > 4 * shifts[2] > 0


def test_the_rest_condenses_before_strong_guidance_has_won():
    """A state far out is nearest to few of the means: the Gaussian sum over the rest would be wrong there."""
    from theory.guided_classes import _other_classes

    size, rho, kappa = 3.0, 1.0, 0.2
    weight, theta = _other_classes(rho, size, kappa)
    assert theta < rho / (1 + rho)
    assert weight < kappa - 0.5 * np.log1p(rho) - size / (2 * (1 + rho))


def test_bad_input():
    with pytest.raises(ValueError, match="small enough"):
        guided_many_classes(0.5, 1.0)
    with pytest.raises(ValueError, match="w must be"):
        guided_many_classes(0.1, 0.5)
    with pytest.raises(ValueError, match="kappa"):
        guided_many_classes(-0.1, 2.0)
