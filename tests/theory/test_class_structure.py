"""Speciation of two Gaussians of any covariances: laws in d from 10 to 10^6, and the criteria against other routes."""

import math

import jax
import numpy as np
import pytest

import gmm
import theory
from gmm.pair_basis import pair_basis
from theory.class_structure import half_decided_rho, log_ratio

VP = gmm.vp()
DIMS = np.array([10.0, 1e2, 1e3, 1e4, 1e5, 1e6])


def isotropic_pair(dim, ratio, shift=0.0):
    """Variances 1 and `ratio` in d dimensions, ‖Δ‖² = shift·d: one coordinate that counts d times."""
    means = np.zeros((2, int(dim)))
    means[1, 0] = math.sqrt(shift * dim)
    return gmm.Mixture(np.full(2, 0.5), means, gmm.Isotropic(np.array([1.0, ratio])))


def test_covariances_are_decided_at_a_quarter_of_log_d():
    epsilon = 0.5
    times = np.array([theory.pair_speciation_time(isotropic_pair(d, 1 + epsilon), VP) for d in DIMS])
    law = 0.5 * np.log1p(theory.weak_signal_noise(0.0, DIMS * epsilon**2))
    # Corrections are the spectra beside τ ∝ √d.
    assert (np.abs(times - law)[1:] < 4 / np.sqrt(DIMS[1:])).all()
    assert times[-1] - times[-2] == pytest.approx(0.25 * math.log(10), abs=2e-3)
    constant = 0.5 * math.log(epsilon) - 0.25 * math.log(8 * half_decided_rho())
    assert times[-1] - 0.25 * math.log(1e6) == pytest.approx(constant, abs=5e-3)


def test_means_are_decided_at_half_of_log_d_and_overtake_covariances():
    means, both = (
        np.array([theory.pair_speciation_time(isotropic_pair(d, ratio, 1.0), VP) for d in DIMS])
        for ratio in (1.0, 1.5)
    )
    assert means[-1] - means[-2] == pytest.approx(0.5 * math.log(10), abs=1e-4)
    # With both, the means win at large d.
    assert (np.diff(np.abs(both - means)) < 0).all()
    assert both[-1] == pytest.approx(means[-1], abs=1e-3)


@pytest.mark.parametrize(("exponent", "slope"), [(0.0, 0.25), (0.25, 0.125)])
def test_power_laws_below_one_half_grow_with_d(exponent, slope):
    """The rest of the spectrum beside τ still shows at d = 10^4: 0.04 of 0.58 for the steeper one."""
    dims = [10_000, 1_000_000]
    times = [theory.pair_speciation_time(power_law(d, exponent), VP) for d in dims]
    assert times[1] - times[0] == pytest.approx(slope * math.log(100), abs=0.05)


def power_law(dim, exponent, factor=2.0):
    spectrum = np.arange(1.0, dim + 1) ** -exponent
    return gmm.Mixture(
        np.full(2, 0.5), np.zeros((2, dim)), gmm.Diagonal(np.stack([spectrum, factor * spectrum]))
    )


def test_power_laws_above_one_half_do_not_grow():
    """The leading directions decide: d = 10^2 and 10^5 agree."""
    times = [theory.pair_speciation_time(power_law(d, 1.0, 20.0), VP) for d in (100, 100_000)]
    assert times[1] == pytest.approx(times[0], abs=0.02)


def test_law_of_weak_signals_solves_its_condition():
    shift, change = np.array([0.0, 3.0, 5.0]), np.array([7.0, 0.0, 11.0])
    tau = theory.weak_signal_noise(shift, change)
    np.testing.assert_allclose(shift / (4 * tau) + change / (8 * tau**2), half_decided_rho(), rtol=1e-13)
    with pytest.raises(ValueError, match="shift"):
        theory.weak_signal_noise(-1.0, 1.0)


@pytest.mark.parametrize("criterion", ["half-entropy", "cloning"])
def test_isotropic_pairs_have_the_known_times(criterion):
    mixture = gmm.families.pair(20)
    found = theory.pair_speciation_time(mixture, VP, criterion)
    # Cloning is midway to the clean limit there, and midway to one here: the same where clean data are decided.
    assert found == pytest.approx(float(theory.speciation_time(VP, 20.0, criterion=criterion)), abs=2e-4)


def test_free_entropy_of_a_shift_is_rho_one():
    mixture = gmm.families.pair(20)
    found = theory.pair_speciation_time(mixture, VP, "free-entropy")
    assert found == pytest.approx(float(theory.speciation_time(VP, 20.0, criterion="curvature")), abs=1e-7)


@pytest.mark.parametrize("family", ["pair", "simplex", "orthogonal"])
@pytest.mark.parametrize("process", [VP, gmm.edm()])
def test_free_entropy_of_many_classes_is_that_of_two_of_them(family, process):
    """The closed form against the mean and the variance of the log-likelihood ratio of two classes of the family."""
    classes = 2 if family == "pair" else 5
    mixture = gmm.families.named(family, (classes,), 12, variance=0.6)
    found = theory.pair_speciation_time(mixture.take(np.array([0, 1])), process, "free-entropy")
    energy = 12.0 * (classes / (classes - 1) if family == "orthogonal" else 1)
    shape = {"variance": 0.6, "classes": classes, "family": family}
    closed = theory.speciation_time(process, energy, criterion="free-entropy", **shape)
    assert found == pytest.approx(float(closed), rel=1e-7)
    # Classes that clean data hardly separate.
    assert math.isnan(theory.speciation_time(process, 0.1, criterion="free-entropy", **shape))


def test_log_ratio_against_samples():
    """|z| < 5 for means and variances under both classes."""
    rng = np.random.default_rng(0)
    mixture = gmm.Mixture(np.full(2, 0.5), rng.normal(size=(2, 4)), gmm.Diagonal(rng.uniform(0.5, 2, (2, 4))))
    found = log_ratio(pair_basis(mixture).at(1.0, 0.0))
    x, component = gmm.sample(mixture, jax.random.key(0), 200_000)
    log_p = np.asarray(gmm.log_posterior(mixture, x))
    for k in (0, 1):
        ratio = (log_p[:, k] - log_p[:, 1 - k])[np.asarray(component) == k]
        error = ratio.std() / math.sqrt(len(ratio))
        assert abs(ratio.mean() - found.mean[k]) < 5 * error
        spread = (ratio - ratio.mean()) ** 2
        assert abs(spread.mean() - found.variance[k]) < 5 * spread.std() / math.sqrt(len(ratio))


@pytest.mark.parametrize("criterion", theory.PAIR_CRITERIA)
def test_every_criterion_follows_the_law(criterion):
    times = [theory.pair_speciation_time(isotropic_pair(d, 1.5), VP, criterion) for d in (1e5, 1e6)]
    assert times[1] - times[0] == pytest.approx(0.25 * math.log(10), abs=3e-3)


def test_classes_that_are_never_decided():
    same = gmm.Mixture(np.full(2, 0.5), np.zeros((2, 3)), gmm.Isotropic(np.ones(2)))
    assert all(math.isnan(theory.pair_speciation_time(same, VP, c)) for c in theory.PAIR_CRITERIA)
    absent = gmm.Mixture(np.array([1.0, 0.0]), np.eye(2), gmm.Isotropic(1.0))
    assert math.isnan(theory.pair_speciation_time(absent, VP))
    with pytest.raises(ValueError, match="criterion"):
        theory.pair_speciation_time(same, VP, "half")
