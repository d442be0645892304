"""Standard errors of tracked posteriors: z scores over many keys have unit variance, or the error is unknown (NaN).

The oracle is the quadrature of the channel of two classes. `within_variance` is the true variance of the classes, so
that finite steps cost nothing and z scores are those of sampling alone. Keys are fixed; bounds as in
`tests/gmm/test_honest_errors.py`: the variance over n keys leaves `allowed(n)` once in a million tests.
"""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats

import gmm
import theory
from neural import calibration, gap_entropy, mixture_denoiser, online_entropy
from neural.estimators.runs import PathMoments
from tests.gmm.two_classes import surprise

KEYS, MANY_KEYS, SAMPLES = 40, 200, 1024
ENERGY = 64.0  # ‖m‖²
RHO = np.array([0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0])
FIVE_SIGMA = 5.0
# Averages that some thirty trajectories carry: Student's t and the skewness of positive draws.
SMALL_SAMPLE = 1.25
# Of few known errors: those are the draws that saw more than others.
FEW = 8


def allowed(keys):
    """Bounds of the mean square of `keys` normal numbers, passed with a probability of 1e-6."""
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], keys) / keys
    return low / SMALL_SAMPLE, high * SMALL_SAMPLE


def pair(prior, rho=RHO):
    """Two classes, the second of probability `prior`; times from noise to each ρ; exact values there."""
    mixture = gmm.families.pair(1, weights=[1 - prior, prior], separation=ENERGY**0.5)
    t = np.sqrt(ENERGY / rho - 1)
    per_rho = np.array([float(theory.binary_entropy_rate(r, prior)) for r in rho])
    exact = {
        "entropy": np.array([float(theory.binary_entropy(r, prior)) for r in rho]),
        "rate": -per_rho * 2 * t * ENERGY / (1 + t**2) ** 2,
        "clone_agreement": np.array([float(theory.binary_clone_agreement(r, prior)) for r in rho]),
        "per_cell": np.array([[surprise(r, 1 - prior, prior), surprise(r, prior, 1 - prior)] for r in rho]),
    }
    return mixture, np.concatenate([[80.0], t]), exact


def curves(estimator, prior, mixture, times, keys, samples=SAMPLES, **options):
    denoiser = mixture_denoiser(mixture, gmm.edm())
    return [
        estimator(
            denoiser, [0, 1], prior=[1 - prior, prior], times=times, key=jax.random.key(k), samples=samples,
            within_variance=1.0, **options,
        )
        for k in range(keys)
    ]  # fmt: skip


def scores(found, name, exact):
    """(keys, ...) z scores at the last points; NaN where the error is unknown."""
    return np.array([((getattr(c, name)[-len(exact):] - exact) / getattr(c, f"{name}_stderr")[-len(exact):])
                     for c in found])  # fmt: skip


def check(z):
    """No |z| is above five, and at each point the known ones have unit variance."""
    assert np.nanmax(np.abs(z), initial=0) < FIVE_SIGMA
    for column in z.reshape(len(z), -1).T:
        known = column[np.isfinite(column)]
        if len(known) > FEW:
            low, high = allowed(len(known))
            assert np.mean(known**2) < high
            assert len(known) < len(column) or np.mean(known**2) > low


@pytest.mark.parametrize("prior", [0.5, 0.1, 1e-3])
def test_tracked_entropies_are_right_or_of_unknown_error(prior):
    mixture, times, exact = pair(prior)
    found = curves(online_entropy, prior, mixture, times, KEYS)
    for name, values in exact.items():
        check(scores(found, name, values))
    z = scores(found, "entropy", exact["entropy"])
    assert np.isfinite(z[:, RHO <= 2]).all()
    assert np.isnan(z[:, RHO >= 16]).all()


@pytest.mark.slow
@pytest.mark.parametrize("prior", [0.5, 0.1, 1e-2, 1e-3, 1e-5])
def test_tracked_entropies_over_many_keys(prior):
    mixture, times, exact = pair(prior, np.geomspace(0.1, 40.0, 14))
    found = curves(online_entropy, prior, mixture, times, MANY_KEYS)
    for name, values in exact.items():
        check(scores(found, name, values))


@pytest.mark.slow
@pytest.mark.parametrize("prior", [0.5, 0.1, 1e-3])
def test_integrated_gaps_are_right_or_of_unknown_error(prior):
    """Bridges to data have the exact law; the tracked posterior, too, with the true variance."""
    mixture, times, exact = pair(prior)
    fine = np.unique(np.concatenate([np.geomspace(80.0, times[-1], 96), times]))[::-1]
    at = np.searchsorted(-fine, -times[1:])
    for k in range(MANY_KEYS // 4):
        data = gmm.sample(mixture, jax.random.key(1000 + k), 8 * SAMPLES)
        (curve,) = curves(gap_entropy, prior, mixture, fine, 1, data=data)
        check_gap(curve, at, exact, curve.metadata["integration_error"])


def check_gap(curve, at, exact, slack):
    for name in ("entropy", "rate"):
        error = np.abs(getattr(curve, name)[at] - exact[name])
        allowed_error = FIVE_SIGMA * getattr(curve, f"{name}_stderr")[at] + slack
        known = np.isfinite(allowed_error)
        assert (error[known] < allowed_error[known]).all(), name


def test_classes_that_are_hardly_drawn_leave_errors_unknown():
    """Data hold one point or none of a class that carries most of the surprise."""
    prior = 1e-3
    mixture, times, _ = pair(prior)
    x, labels = gmm.sample(mixture, jax.random.key(0), 8000)
    denoiser = mixture_denoiser(mixture, gmm.edm())
    few = calibration(
        denoiser, [0, 1], (x, labels), prior=[1 - prior, prior], times=times, key=jax.random.key(1),
        samples=SAMPLES, within_variance=1.0,
    )  # fmt: skip
    assert few.curve.cross_entropy_stderr is not None
    assert np.isnan(few.curve.cross_entropy_stderr).all()
    assert np.isnan(few.excess.stderr).all()
    assert not few.passes()


def test_rare_conditions_among_few_trajectories():
    """Eight trajectories hold no path of most classes: nothing is known of them."""
    prior = np.array([0.4, 0.4, 5e-4, 5e-4, 5e-4, 5e-4, 0.198])
    mixture = gmm.Mixture(prior, 8.0 * np.eye(7), gmm.Isotropic(1.0))
    curve = online_entropy(
        mixture_denoiser(mixture, gmm.edm()), range(7), prior=prior, times=np.array([20.0, 5.0, 1.0]),
        key=jax.random.key(0), samples=8,
    )  # fmt: skip
    assert np.isfinite(curve.entropy).all()
    assert np.isnan(curve.entropy_stderr[1:]).all()


def test_small_numbers_keep_their_spread_in_single_precision():
    """Squares of 1e-25 underflow in float32; the spread of trajectories must not."""
    values = 1e-25 * np.array([1.0, 2.0, 3.0])
    moments = PathMoments(3, np.array([[values.mean()]]), np.array([[np.sum((values - values.mean()) ** 2)]]))
    assert moments.stderr == pytest.approx(values.std(ddof=1) / np.sqrt(3))
    assert moments.norm == pytest.approx(np.linalg.norm(values))


@pytest.mark.slow
def test_calibration_of_a_rare_class_is_judged_where_it_is_known():
    prior = 0.1
    mixture, times, _ = pair(prior)
    data = gmm.sample(mixture, jax.random.key(3), 4096)
    found = calibration(
        mixture_denoiser(mixture, gmm.edm()), [0, 1], data, prior=[1 - prior, prior], times=times,
        key=jax.random.key(1), samples=4096, within_variance=1.0,
    )  # fmt: skip
    assert np.isfinite(found.excess.stderr[:4]).all()
    assert found.passes()
    assert not dataclasses.replace(
        found, excess=found.excess._replace(value=found.excess.value + 0.1)
    ).passes()
