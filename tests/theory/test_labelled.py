"""Speciation of labelled data against the isotropic closed forms, densities differentiated, and enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, stats

import gmm
from theory import speciation_time
from theory.labelled import (
    ClassMoments,
    covariance_log_snr,
    opening_directions,
    pair_log_snr,
    times_of,
)

# Roots are solved to 1e-12 in log-SNR, eigenvalues to rounding.
SOLVED = 1e-9


def simplex(classes, dim, variance):
    mixture = gmm.families.simplex(classes, dim)
    means = np.asarray(mixture.means)
    return ClassMoments(np.full(classes, 1 / classes), means + 3.0, variance * np.eye(dim))


@pytest.mark.parametrize("process", [gmm.vp(), gmm.edm(), gmm.flow()], ids=lambda p: p.name)
def test_round_classes_open_where_the_closed_form_says(process):
    moments = simplex(4, 20, variance=0.7)
    found = opening_directions(moments)
    assert found.vectors.shape == (3, 20)
    wanted = speciation_time(process, 20.0, variance=0.7, classes=4, criterion="curvature")
    np.testing.assert_allclose(times_of(process, found.log_snr), wanted, rtol=SOLVED)
    np.testing.assert_allclose(moments.between[:3], 20 / 3, rtol=SOLVED)
    top = np.linalg.eigvalsh(moments.total())[-1]
    biroli = speciation_time(process, 20.0, variance=0.7, classes=4, criterion="covariance")
    assert times_of(process, covariance_log_snr(top)) == pytest.approx(biroli, rel=SOLVED)


def test_pairs_are_half_decided_where_the_closed_form_says():
    moments = simplex(4, 20, variance=0.7)
    found = pair_log_snr(moments)
    assert np.isnan(np.diag(found)).all()
    np.testing.assert_array_equal(found, found.T)
    # Vertices of energy E are 2EK/(K-1) apart: two at ±m with ‖m‖² a quarter of that.
    energy = 0.5 * 20 * 4 / 3
    wanted = speciation_time(gmm.vp(), energy, variance=0.7, criterion="half-entropy")
    off = found[np.triu_indices(4, 1)]
    np.testing.assert_allclose(times_of(gmm.vp(), off), wanted, rtol=SOLVED)


def test_unequal_widths_against_quadrature():
    """Two classes in the plane with a covariance that is not round: posterior entropy by scipy."""
    within = np.array([[1.0, 0.6], [0.6, 0.5]])
    moments = ClassMoments(np.array([0.5, 0.5]), np.array([[2.0, 0.0], [0.0, 1.0]]), within)
    gap = moments.means[0] - moments.means[1]

    def entropy(log_snr):
        noisy = within + np.exp(-log_snr) * np.eye(2)
        rho = gap @ np.linalg.solve(noisy, gap) / 4
        surprise = lambda u: np.logaddexp(0, -2 * (rho + np.sqrt(rho) * u))
        return integrate.quad(lambda u: stats.norm.pdf(u) * surprise(u), -12, 12, epsabs=1e-12)[0]

    wanted = optimize.brentq(lambda x: entropy(x) - np.log(2) / 2, -5, 5, xtol=1e-12)
    assert pair_log_snr(moments)[0, 1] == pytest.approx(wanted, abs=SOLVED)


def test_directions_open_where_the_density_turns():
    """The Hessian of log p_t at the centre of a symmetric pair, by automatic differentiation."""
    within = np.array([[0.5, 0.2, 0.0], [0.2, 0.4, 0.1], [0.0, 0.1, 0.3]])
    mean = np.array([1.5, -0.5, 1.0])
    moments = ClassMoments(np.array([0.5, 0.5]), np.stack([mean, -mean]), within)
    found = opening_directions(moments)
    assert len(found.log_snr) == 1
    mixture = gmm.Mixture([0.5, 0.5], moments.means, gmm.Full(within))
    noise = np.exp(-0.5 * found.log_snr[0])

    def curvature(sigma):
        law = gmm.diffuse(mixture, 1.0, sigma)
        hessian = jax.hessian(lambda x: gmm.mixture._log_prob(law, x[None])[0])(jnp.zeros(3))
        return np.linalg.eigh(np.asarray(hessian))

    for factor, sign in ((1.001, -1), (0.999, 1)):
        assert np.sign(curvature(factor * noise)[0][-1]) == sign
    values, vectors = curvature(noise)
    assert values[-1] == pytest.approx(0, abs=1e-9)
    # Where the Hessian Σ⁻¹(B-Σ)Σ⁻¹ is singular, Σ⁻¹ of the direction spans its kernel... up to Σ: undo it.
    kernel = np.linalg.solve(within + noise**2 * np.eye(3), vectors[:, -1])
    assert abs(found.vectors[0] @ kernel / np.linalg.norm(kernel)) == pytest.approx(1, abs=1e-9)


def test_what_never_happens_is_nan():
    close = ClassMoments(np.array([0.5, 0.5]), np.array([[0.5, 0.0], [-0.5, 0.0]]), np.eye(2))
    assert len(opening_directions(close).log_snr) == 0
    assert np.isnan(pair_log_snr(close)).all()
    assert np.isnan(covariance_log_snr(1.0))
    # Linear VP stops at some noise: what it does not reach is no time of its own.
    assert np.isnan(times_of(gmm.vp_linear(), np.array([-100.0, np.nan]))).all()
    assert np.isfinite(times_of(gmm.vp_linear(), np.array(0.0)))


def test_between_is_the_spectrum_of_the_class_means_with_any_priors():
    rng = np.random.default_rng(0)
    prior, means = rng.dirichlet(np.ones(5)), rng.normal(size=(5, 8))
    moments = ClassMoments(prior, means, np.eye(8))
    centred = means - prior @ means
    wanted = np.linalg.eigvalsh((prior[:, None] * centred).T @ centred)[::-1][:5]
    np.testing.assert_allclose(moments.between, np.maximum(wanted, 0), atol=1e-12)
    np.testing.assert_allclose(moments.total(), np.eye(8) + (prior[:, None] * centred).T @ centred)
