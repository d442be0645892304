"""Signal and noise shares at both ends of time, and what rests on them."""

import numpy as np
import pytest

import gmm
import theory
from theory.noise import shares

LEVELS = np.array([-2000.0, -30.0, 0.3, 30.0, 2000.0])


@pytest.mark.parametrize("variance", [0.0, 1e-8, 1.0, 1e8])
def test_shares_are_the_ratios_of_their_definition(variance):
    signal, noise = shares(LEVELS[1:4], variance)
    gamma = np.exp(LEVELS[1:4])
    np.testing.assert_allclose(signal, gamma / (1 + gamma * variance), rtol=1e-14)
    np.testing.assert_allclose(noise, 1 / (1 + gamma * variance), rtol=1e-14)


@pytest.mark.parametrize("variance", [0.0, 1.0])
def test_shares_at_the_ends(variance):
    """Warnings are errors: neither end overflows."""
    signal, noise = shares(LEVELS, variance)
    assert signal[0] == 0
    assert noise[0] == 1
    assert signal[-1] == (1 if variance else np.inf)


@pytest.mark.parametrize("curve", ["flat", "tree", "unequal"])
def test_curves_at_both_ends_of_time_warn_of_nothing(curve):
    times = [1e-300, 400.0, 800.0]
    found = {
        "flat": lambda: theory.entropy_curve(gmm.vp(), times, 1.0),
        "tree": lambda: theory.tree_curves(gmm.vp(), times, (2, 2), [1.0, 1.0])[-1],
        "unequal": lambda: theory.unequal_curve(gmm.vp(), times, [0.2, 0.8], [1.0, 2.0]),
    }[curve]()
    np.testing.assert_allclose(found.entropy[1:], found.prior_entropy, rtol=1e-14)
    np.testing.assert_array_equal(found.rate[2], 0)


@pytest.mark.parametrize("process", [gmm.vp(), gmm.vp_linear()], ids=lambda process: process.name)
def test_a_centre_that_is_marginal_on_clean_data_alone_is_stable(process):
    """s² = 1, E = 1/2: ρ - 1 + v/2 = (e^{-2t} - 1)/2 is negative at every t > 0 and rounds to zero at t = 0."""
    found = theory.speciation_time(process, 0.5, variance=1.0, criterion="sde-instability")
    assert np.isnan(found)
    beyond = theory.speciation_time(process, 0.5 + 1e-6, variance=1.0, criterion="sde-instability")
    assert beyond > 0
