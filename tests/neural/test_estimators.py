"""Estimators on exact mixtures: against exact posteriors path by path, against quadrature, against their own law.

Statistical tests have fixed seeds. A curve of T points is held to four standard errors a point: with T <= 64
correlated points a false alarm has a chance below half a percent, before the seed was fixed.
"""

import jax
import numpy as np
import pytest

import gmm
import theory
from neural import (
    gap_entropy,
    mixture_denoiser,
    online_entropy,
    posterior_paths,
)

# float64 sums of a dozen terms of order ten, in another order.
ROUNDING = 1e-11
STDERRS = 4.0
# The goal at 4,096 trajectories and 128 steps: share of log K that steps may cost, besides three standard errors.
GOAL, GOAL_STDERRS = 0.02, 3.0
CHAIN = gmm.ddpm(gmm.scaled_linear_betas())
PROCESSES = {
    "vp": gmm.vp(),
    "edm": gmm.edm(),
    "flow": gmm.flow(),
    "ve": gmm.ve(),
    "vp_linear": gmm.vp_linear(),
}


@pytest.fixture(scope="module")
def simplex():
    return gmm.reduce(gmm.families.simplex(3, 16))


def grid(process, first, last, steps):
    """Times between two signal-to-noise ratios, equal in log-SNR."""
    times = [float(process.time_at_log_snr(np.log(snr))) for snr in (first, last)]
    return gmm.time_grid(process, *times, steps - 1)


def tracked_rho(curve, variance=1.0, start="prior"):
    """Q_n of the finite-step law: what a chain of exact denoisers has seen of a mean of unit norm."""
    snr = np.exp(curve.log_snr)
    kappa = 1 / (1 + variance * snr)
    gained = np.concatenate([[0.0], np.cumsum(np.diff(snr) * kappa[:-1] ** 2)])
    return gained + (snr[0] * kappa[0] if start == "state" else 0.0)


def errors(curve):
    """Standard errors; for unknown ones, which are those of a decided end, the largest known one."""
    unknown = np.isnan(curve.entropy_stderr)
    # Thirty undecided trajectories, of half a nat at most a class, would be enough to know it.
    assert np.all(curve.entropy[unknown] < 60 * curve.prior_entropy / curve.metadata["samples"])
    return np.where(unknown, np.nanmax(curve.entropy_stderr), curve.entropy_stderr)


def within(curve, exact, stderrs=STDERRS, slack=ROUNDING):
    """Largest excess of |entropy - exact| over the allowed errors; negative is good."""
    return np.max(np.abs(curve.entropy - exact) - stderrs * errors(curve) - slack)


# ------------------------------------------------------------------------------ exact posteriors, path by path


@pytest.mark.parametrize("name", [pytest.param("vp", marks=pytest.mark.slow), "flow"])
def test_true_variance_gives_the_exact_posterior_of_every_path(simplex, name):
    process = PROCESSES[name]
    denoiser, times = mixture_denoiser(simplex, process), grid(process, 1e-3, 0.2, 10)
    data = gmm.sample(simplex, jax.random.key(5), 64)
    noisy = gmm.diffuse(simplex, process.alpha(times[-1]), process.sigma(times[-1]))
    for source in (None, data):
        paths = posterior_paths(
            denoiser,
            range(3),
            data=source,
            key=jax.random.key(0),
            samples=64,
            times=times,
            within_variance=1.0,
            states=True,
        )
        exact = gmm.log_posterior(noisy, paths.states[-1])
        np.testing.assert_allclose(paths.log_posterior[-1], exact, atol=ROUNDING, rtol=ROUNDING)
        undecided = np.exp(exact).max(axis=1) < 0.9
        assert undecided.sum() > 20  # the test has something to say
    # Without the variance the same tracker is not exact: ten steps are few.
    plain = posterior_paths(
        denoiser, range(3), data=data, key=jax.random.key(0), samples=64, times=times, states=True
    )
    assert np.abs(plain.log_posterior[-1] - gmm.log_posterior(noisy, plain.states[-1])).max() > 0.05


def test_point_classes_are_exact_at_any_step():
    mixture = gmm.Mixture([0.2, 0.3, 0.5], [[2.0, 0.0], [-1.0, 1.5], [0.0, -2.0]], gmm.Isotropic(0.0))
    process = gmm.vp()
    times = np.array([5.0, 1.5, 0.6])
    paths = posterior_paths(
        mixture_denoiser(mixture, process), range(3), prior=[0.2, 0.3, 0.5],
        key=jax.random.key(1), samples=64, times=times, states=True,
    )  # fmt: skip
    noisy = gmm.diffuse(mixture, process.alpha(times[-1]), process.sigma(times[-1]))
    np.testing.assert_allclose(
        paths.log_posterior[-1], gmm.log_posterior(noisy, paths.states[-1]), atol=ROUNDING, rtol=ROUNDING
    )


# ------------------------------------------------------------------------------------------------ laws


@pytest.mark.parametrize(
    ("name", "steps"),
    [("edm", 32), ("flow", 8)]
    + [
        pytest.param(n, s, marks=pytest.mark.slow)
        for n, s in (("vp", 8), ("vp", 128), ("flow", 32), ("edm", 128))
    ],
)
def test_finite_steps_have_the_law_of_a_shifted_channel(simplex, name, steps):
    process = PROCESSES[name]
    curve = online_entropy(
        mixture_denoiser(simplex, process), range(3),
        key=jax.random.key(2), samples=16384, times=grid(process, 1e-3, 4.0, steps), start="prior",
    )  # fmt: skip
    exact = theory.simplex_entropy(3, 16 * tracked_rho(curve))
    assert within(curve, exact) < 0
    # The bias is there to be seen where steps are long, and has the stated sign.
    true = theory.entropy_curve(process, curve.t, 16.0, classes=3).entropy
    if steps == 8:
        assert np.max(true - curve.entropy) > 5 * np.nanmax(curve.entropy_stderr)


def test_true_variance_has_no_bias_at_any_step_count(simplex):
    process = gmm.edm()
    for start, steps in (("state", 6), ("prior", 32)):
        times = grid(process, 1e-3, 4.0, steps)
        curve = online_entropy(
            mixture_denoiser(simplex, process), range(3),
            key=jax.random.key(3), samples=4096, times=times, start=start, within_variance=1.0,
        )  # fmt: skip
        snr = np.exp(curve.log_snr)
        q = snr / (1 + snr)
        missed = q[0] if start == "prior" else 0.0
        assert within(curve, theory.simplex_entropy(3, 16 * (q - missed))) < 0


@pytest.mark.slow
def test_standard_errors_are_those_of_repeated_runs(simplex):
    process, runs = gmm.edm(), 400
    times = grid(process, 1e-2, 0.3, 8)
    denoiser = mixture_denoiser(simplex, process)
    curves = [
        online_entropy(denoiser, range(3), key=jax.random.key(s), samples=256, times=times, start="prior")
        for s in range(runs)
    ]
    exact = theory.simplex_entropy(3, 16 * tracked_rho(curves[0]))
    z = np.array([(c.entropy - exact)[1:] / c.entropy_stderr[1:] for c in curves])
    assert np.all((z.var(axis=0) > 0.8) & (z.var(axis=0) < 1.25))
    # Four standard errors of a mean of 400.
    assert np.all(np.abs(z.mean(axis=0)) < 4 / np.sqrt(runs))


# ------------------------------------------------------------------------------- both estimators against quadrature


@pytest.fixture(scope="module")
def tree():
    """(3, 4) with two levels of energy, and its quadrature at any times."""
    branching, energies = (3, 4), (24.0, 6.0)
    mixture = gmm.reduce(gmm.families.from_gram(gmm.families.tree_gram(branching, energies)))
    fine, coarse = gmm.families.tree_partitions(branching)[::-1]

    def exact(curve):
        snr = np.exp(curve.log_snr)
        rho = snr / (1 + snr)
        both = theory.tree_entropy(branching, np.array(energies)[:, None] * rho)
        return {"coarse": both[0], "fine": both[1]}

    return mixture, {"coarse": coarse, "fine": fine}, exact


@pytest.mark.parametrize("estimator", [online_entropy, pytest.param(gap_entropy, marks=pytest.mark.slow)])
def test_every_level_of_a_tree_from_one_set_of_trajectories(tree, estimator):
    mixture, partitions, exact = tree
    denoiser = mixture_denoiser(mixture, gmm.vp())
    curves = estimator(
        denoiser,
        range(12),
        partition=list(partitions.values()),
        key=jax.random.key(4),
        samples=2048,
        steps=128,
    )
    for (name, partition), curve in zip(partitions.items(), curves, strict=True):
        assert within(curve, exact(curve)[name], GOAL_STDERRS, GOAL * np.log(partition.cells)) < 0
        assert curve.per_cell.shape == (128, partition.cells)
        assert curve.prior_entropy == pytest.approx(np.log(partition.cells))
        # The prior-weighted sum of the cells is the entropy: exactly for the chain, in law for the integral.
        error = np.hypot(errors(curve), np.nan_to_num(curve.per_cell_stderr).max(axis=1))
        slack = ROUNDING if estimator is online_entropy else 3 * error
        assert np.all(np.abs(curve.per_cell.mean(axis=1) - curve.entropy) <= slack)
        # The rate is measured, not differenced: its integral is the entropy that is lost, up to the steps.
        per_log_snr = curve.rate / -curve.log_snr_slope
        lost = np.trapezoid(per_log_snr, curve.log_snr)
        assert lost == pytest.approx(curve.entropy[0] - curve.entropy[-1], rel=0.06)
    if estimator is gap_entropy:
        assert curves[0].metadata["integration_error"] < 0.01


def problems():
    """Mixtures whose curve is known: by quadrature, or by sampling that asks for densities."""
    return {
        "pair-2": gmm.families.pair(2, separation=3.0),
        "pair-4096": gmm.reduce(gmm.families.pair(4096, reduced=True)),
        "simplex": gmm.reduce(gmm.families.simplex(5, 64)),
        "anisotropic": gmm.Mixture(
            [0.5, 0.3, 0.2],
            [[6.0, 0.0, 0.0], [-3.0, 5.0, 1.0], [0.0, -5.0, 4.0]],
            gmm.Diagonal([0.5, 1.0, 2.0]),
        ),
        "unequal-shapes": gmm.Mixture([0.5, 0.5], [[5.0, 0.0], [-5.0, 0.0]], gmm.Isotropic([0.5, 2.0])),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "process"),
    [(name, gmm.edm()) for name in problems()] + [("simplex", p) for p in (*PROCESSES.values(), CHAIN)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
@pytest.mark.parametrize("estimator", [online_entropy, pytest.param(gap_entropy, marks=pytest.mark.slow)])
def test_goal_of_two_percent(problem, process, estimator):
    mixture = problems()[problem]
    classes, prior = mixture.components, np.asarray(mixture.weights)
    data = {"data": gmm.sample(mixture, jax.random.key(8), 3 * 4096)} if estimator is gap_entropy else {}
    curve = estimator(
        mixture_denoiser(mixture, process), range(classes), prior=prior / prior.sum(),
        key=jax.random.key(9), samples=4096, steps=128, **data,
    )  # fmt: skip
    exact = gmm.class_entropy(mixture, process, curve.t[::8], key=jax.random.key(10), samples=16384)
    error = np.abs(curve.entropy[::8] - exact.entropy)
    allowed = GOAL * np.log(classes) + GOAL_STDERRS * np.hypot(
        errors(curve)[::8], np.nan_to_num(exact.entropy_stderr)
    )
    assert np.all(error < allowed)


@pytest.mark.slow
def test_full_dimension_is_the_reduced_problem():
    full = gmm.families.pair(4096)
    assert full.dim == 4096
    curve = online_entropy(
        mixture_denoiser(full, gmm.edm()), [0, 1], key=jax.random.key(12), samples=512, steps=64
    )
    exact = theory.entropy_curve(gmm.edm(), curve.t, 4096.0, classes=2).entropy
    assert within(curve, exact, GOAL_STDERRS, GOAL * np.log(2)) < 0
