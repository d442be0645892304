"""Pooled runs and numbers read off them: laws with known answers, many times over."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from gmm.curve import EntropyCurve
from gmm.estimate import CARRYING
from gmm.landmarks import half_entropy, landmarks
from gmm.pooling import CONFIDENCE, pool, read_off

NOISE = np.linspace(-5.0, 5.0, 81)
LN2 = np.log(2)


def normal_curve(shift=0.0, wobble=0.0, stderr=0.0):
    """H = ln 2 · Φ(log σ - shift): every landmark is a quantile of the normal law."""
    phi, density = stats.norm.cdf(NOISE - shift), stats.norm.pdf(NOISE - shift)
    blank = np.zeros_like(NOISE)
    return EntropyCurve(
        t=np.exp(NOISE), log_snr=-2 * NOISE, log_snr_slope=-2 * np.exp(-NOISE), entropy=LN2 * phi + wobble,
        entropy_stderr=blank + stderr, rate=LN2 * density * np.exp(-NOISE), rate_stderr=blank + stderr,
        prior_entropy=LN2,
    )  # fmt: skip


def test_pooling_averages_and_adds_errors_in_squares():
    runs = [normal_curve(wobble=w, stderr=0.3) for w in (-0.1, 0.0, 0.1)]
    pooled = pool(runs)
    np.testing.assert_allclose(pooled.entropy, normal_curve().entropy, atol=1e-15)
    np.testing.assert_allclose(pooled.entropy_stderr, 0.3 / np.sqrt(3))
    assert pooled.metadata["runs"] == 3
    unknown = dataclasses.replace(runs[0], entropy_stderr=np.where(NOISE < 0, np.nan, 0.3))
    pooled = pool([unknown, *runs[1:]])
    np.testing.assert_array_equal(np.isnan(pooled.entropy_stderr), NOISE < 0)
    np.testing.assert_allclose(pooled.entropy_stderr[NOISE >= 0], 0.3 / np.sqrt(3))
    assert pool(runs[:1]) is runs[0]


def test_unknown_errors_are_those_of_the_spread_over_many_runs_that_agree():
    wobbles = np.linspace(-0.04, 0.04, 10)
    runs = [normal_curve(wobble=w, stderr=np.nan) for w in wobbles]
    found, spread = pool(runs).entropy_stderr, wobbles.std(ddof=1) / np.sqrt(10)
    known = LN2 * stats.norm.cdf(NOISE) > np.sqrt(CARRYING) * spread
    np.testing.assert_allclose(found[known], spread)
    assert np.isnan(found[~known]).all()
    assert np.isnan(pool(runs[:4]).entropy_stderr).all()


def test_runs_of_different_measurements_are_not_pooled():
    other = dataclasses.replace(normal_curve(), log_snr=-2 * NOISE + 1)
    for runs in ([normal_curve(), other], [normal_curve(), normal_curve().in_bits()]):
        with pytest.raises(ValueError, match="runs must be curves of one measurement"):
            pool(runs)
    with pytest.raises(ValueError, match="at least one curve"):
        pool([])


def test_exact_curves_have_exact_readings_and_one_run_says_nothing_of_its_error():
    exact = read_off([normal_curve()], landmarks)
    np.testing.assert_array_equal(exact.stderr, 0)
    np.testing.assert_array_equal(exact.low, exact.value)
    single = read_off([normal_curve(stderr=0.1)], landmarks)
    assert np.isnan(single.stderr).all()


def test_intervals_hold_what_they_claim():
    # Runs whose curves are shifted by N(0, 1) log-noise: the pooled half entropy is 0 by symmetry.
    rng = np.random.default_rng(0)
    count, repeats, inside, ratios = 6, 80, 0, []
    statistic = lambda curve: np.array([half_entropy(curve).value])
    for _ in range(repeats):
        shifts = rng.normal(0, 0.5, count)
        found = read_off([normal_curve(s, stderr=0.1) for s in shifts], statistic, draws=50)
        inside += bool(found.low[0] <= 0 <= found.high[0])
        ratios.append((found.value[0], found.stderr[0]))
    # A binomial count: three of its standard deviations below the claim would be a fault.
    assert inside / repeats > CONFIDENCE - 3 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / repeats)
    values, errors = np.array(ratios).T
    # Relative standard error of a standard deviation from 80 repeats is 0.08.
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.25)


def test_numbers_that_draws_do_not_give_have_no_error():
    shifts = np.linspace(-3, 9, 6)
    found = read_off([normal_curve(s, stderr=0.1) for s in shifts], landmarks)
    assert np.isnan(found.stderr[2:]).all()
