"""The registry, and every figure in it: drawn from a small data set, and its numbers against theory."""

import dataclasses
import functools
import importlib
import json
import re
from itertools import pairwise

import jax
import matplotlib as mpl
import numpy as np
import pytest
import scipy.stats
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import xlogy

import gmm
from gmm.curve import EntropyCurve
from gmm.datasets import load_data
from paper_figures import cli
from paper_figures.commands.figures import MOST_JOBS
from paper_figures.drawing.style import View, lay_out, paper_style
from paper_figures.figures import (
    fig01_four_points,
    fig02_log_time_vp,
    fig04_criteria,
    fig05_class_count,
    fig06_trees,
    fig08_three_routes,
    fig09_beyond_isotropic,
    fig10_digits,
    fig15_guidance,
    fig17_schedules,
)
from paper_figures.figures.registry import FIGURES
from paper_figures.figures.settings import Settings
from paper_figures.formats.numbers import numbers_of
from theory import GuidedPair, entropy_curve, speciation_time, tree_curves

# Seconds of wall time on two cores, where two figures are made at once, by the costs in the registry: all figures,
# and the first ten, which need nothing but exact mixtures. Nothing here is timed.
BUDGET, FAST_BUDGET = 180, 60
EXACT, EXACT_BUDGET, EXACT_FAST_BUDGET = 10, 120, 30
# Experiments on published networks have tests of their own.
COMPUTED = [name for name, figure in FIGURES.items() if not figure.is_experiment]
# Numbers quoted to about five digits.
QUOTED = 2e-4
# Largest of the few dozen z-scores that a run prints: a false alarm once in 10^4 runs at most.
STDERRS = 5


def test_registry_is_consistent():
    assert len({figure.seed for figure in FIGURES.values()}) == len(FIGURES)
    for name, figure in FIGURES.items():
        assert figure.name == name
        assert re.fullmatch(r"[a-z0-9-]+", name)
        if not figure.is_experiment:
            assert 0 < figure.fast_seconds <= figure.seconds
        assert len(figure.description) > 20
        assert not figure.description.endswith(".")
        assert re.search(r"\(a[,)]", figure.caption)
        assert "\n" not in figure.caption
    default = [figure for figure in FIGURES.values() if figure.by_default]
    assert len(default) >= 10
    for some, full, fast in (
        (default, BUDGET, FAST_BUDGET),
        (default[:EXACT], EXACT_BUDGET, EXACT_FAST_BUDGET),
    ):
        assert sum(figure.cost(False) for figure in some) / MOST_JOBS <= full
        assert sum(figure.cost(True) for figure in some) / MOST_JOBS <= fast


def test_documentation_names_every_figure(request):
    text = (request.config.rootpath / "docs" / "how-to" / "figures.md").read_text()
    for name in FIGURES:
        assert f"`{name}`" in text


def smooth_curve(mixture, process, times, *, partition=None, key, samples, **_):
    """A made-up curve in the place of a sampled one: a logistic in log SNR, right at both ends of noise."""
    partition = gmm.Partition(np.arange(mixture.components)) if partition is None else partition
    prior = np.bincount(
        partition.labels[partition.inside], np.asarray(mixture.weights)[partition.inside], partition.cells
    )
    prior = prior / prior.sum()
    total = float(-np.sum(prior * np.log(prior)))
    t = np.asarray(times, float)
    log_snr = np.asarray(process.log_snr(t))
    slope = np.asarray(jax.vmap(jax.grad(process.log_snr))(jax.numpy.asarray(t)))
    share = 1 / (1 + np.exp(3 * log_snr))
    small = np.full_like(t, 0.01)
    return EntropyCurve(
        t=t,
        log_snr=log_snr,
        log_snr_slope=slope,
        entropy=total * share,
        entropy_stderr=small,
        rate=-3 * total * share * (1 - share) * slope,
        rate_stderr=small,
        prior_entropy=total,
        clone_agreement=1 - share * (1 - np.sum(prior**2)),
        clone_agreement_stderr=small,
    )


def smooth_guided(process, times):
    """A made-up curve along guided paths of a pair."""
    curve = smooth_curve(gmm.families.pair(2), process, times, key=None, samples=2)
    return dataclasses.replace(curve, cross_entropy=curve.entropy, cross_entropy_stderr=curve.entropy_stderr)


def smooth_pair(energy, guidance, rho, **_):
    """Made-up answers in the place of the solved equation."""
    rho = np.asarray(rho, float)
    one, entropy = np.ones_like(rho), np.log(2) / (1 + rho)
    return GuidedPair(
        rho, entropy, entropy, 0.5 * one, one, weight=2 * one, divergence=0.1 * one, error=0 * one
    )


@pytest.fixture(scope="module")
def small_data():
    """A figure's data at the quick size, sampled curves replaced by made-up ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gmm, "class_entropy", smooth_curve)
        patch.setattr(
            gmm, "guided_entropy", lambda _, process, times, *__, **___: smooth_guided(process, times)
        )
        patch.setattr(
            fig15_guidance, "guided_curve", lambda process, times, *_: smooth_guided(process, times)
        )
        for figure in (fig15_guidance, fig17_schedules):
            patch.setattr(figure, "guided_pair", smooth_pair)
        patch.setattr(fig10_digits, "load_data", lambda name: load_data(name).subset(300))

        @functools.cache
        def data(name):
            figure = FIGURES[name]
            return figure.compute(Settings(fast=True, stream=figure.seed))

        yield data


@pytest.mark.parametrize("name", COMPUTED)
def test_figure_is_drawn_on_every_axis(small_data, name, tmp_path):
    small_data(name).to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    data = gmm.curve.load_dataset(tmp_path / "x.nc")
    assert numbers_of(data)
    for view in (View(), View("t", "bits"), View("log-snr"), View("sigma")):
        with paper_style():
            picture = FIGURES[name].draw(data, view)
            if view == View():
                lay_out(picture)
        letters = [re.search(r"bf\{(.)\}", ax.get_title("left")) for ax in picture.axes]
        assert sorted(m[1] for m in letters if m) == list("abcdefgh")[: len(letters)]
        assert all(ax.lines or ax.collections or ax.patches for ax in picture.axes)


def test_noise_outside_the_timesteps_is_left_out(small_data):
    with paper_style():
        picture = FIGURES["four-points"].draw(small_data("four-points"), View("timestep"))
        lay_out(picture)
    for ax in picture.axes:
        low, high = ax.get_xlim()
        assert -60 < low < high < 1060


@pytest.mark.parametrize("name", COMPUTED)
def test_lines_of_a_panel_differ_without_colour(small_data, name):
    """Two labelled lines of one panel never share both dashes and marker, unless lightness orders them."""
    with paper_style():
        picture = FIGURES[name].draw(small_data(name), View())
    for ax in picture.axes:
        seen = {}
        for line in ax.lines:
            if line.get_label().startswith("_") or len(line.get_xdata()) < 2:
                continue
            look = (
                str(line._unscaled_dash_pattern),
                line.get_marker(),
                str(line.get_markerfacecolor()) == "none",
            )
            r, g, b = mpl.colors.to_rgb(line.get_color())
            luma = 0.299 * r + 0.587 * g + 0.114 * b
            assert all(abs(luma - other) > 0.08 for other in seen.get(look, [])), (name, line.get_label())
            seen.setdefault(look, []).append(luma)


# ------------------------------------------------------------------------------------------------- numbers


def expected_numbers(name):
    data = FIGURES[name].compute(Settings(stream=FIGURES[name].seed))
    return [n for n in numbers_of(data) if n.expected is not None]


@pytest.mark.parametrize("name", ["log-time-vp", "log-time-ve", "criteria", "class-count"])
def test_numbers_by_quadrature_are_what_theory_says(name):
    found = expected_numbers(name)
    assert found
    for n in found:
        if "limit" in n.label:  # approached as K grows, never reached
            assert n.value == pytest.approx(n.expected, rel=0.05), n.label
        else:
            assert n.value == pytest.approx(n.expected, rel=1e-3, abs=QUOTED), n.label


def test_published_agreements_lie_within_their_reading_error():
    data = fig04_criteria.compute(Settings(fast=True))
    gap = np.abs(data.published_agreement - data.exact_agreement)
    # Three binomial standard errors of 10,000 pairs at worst, 0.015.
    assert float(gap.max()) < 0.015
    times = data.time.sel(criterion="flow-instability")
    assert np.isnan(times).all()


def test_collapse_is_exact_at_variance_one_and_only_there():
    data = fig02_log_time_vp.compute(Settings(fast=True))
    assert float(data.residual.sel(variance=1.0).max()) < 1e-14
    other = data.residual.sel(variance=0.25).values
    np.testing.assert_allclose(other[3:-1] / other[4:], 10, rtol=1e-3)


def test_class_count_thresholds_against_root_finding():
    rho = fig05_class_count.compute(Settings(fast=True)).threshold.sel(criterion="half-entropy", classes=10)
    half = brentq(lambda r: float(fig05_class_count.orthogonal_entropy(10, r)) - 0.5 * np.log(10), 1, 10)
    assert float(rho) == pytest.approx(half, rel=1e-8)


def test_density_and_posterior_of_the_four_points_against_scipy():
    mixture = gmm.Mixture(np.full(4, 0.25), np.array(fig01_four_points.POINTS)[:, None], gmm.Isotropic(0.0))
    times, path = np.array([0.3, 1.7]), np.array([-5.0, 0.5]).reshape(2, 1, 1)
    density, posterior = fig01_four_points._along(mixture, gmm.vp(), times, path)
    for i, t in enumerate(times):
        normal = scipy.stats.norm(np.exp(-t) * np.array(fig01_four_points.POINTS), np.sqrt(-np.expm1(-2 * t)))
        grid = fig01_four_points.GRID[:, None]
        np.testing.assert_allclose(density[i], normal.pdf(grid).mean(axis=1), rtol=1e-10)
        likelihood = normal.pdf(path[i, 0, 0])
        np.testing.assert_allclose(posterior[i], likelihood / likelihood.sum(), rtol=1e-10)


def test_tree_curves_against_theory():
    times = np.linspace(0.1, 5.0, 9)
    found = fig06_trees.exact_curves(times)
    branch, leaf = tree_curves(gmm.vp(), times, fig06_trees.BRANCHING, fig06_trees.ENERGIES)
    for name, curve in ((fig06_trees.BRANCH, branch), (fig06_trees.LEAF, leaf)):
        np.testing.assert_allclose(found[name].entropy, curve.entropy, atol=1e-9)
        np.testing.assert_allclose(found[name].rate, curve.rate, atol=1e-8)
    # Restricted to two leaves at squared distance 2E the decision is a pair with ‖m‖² = E/2.
    pair = entropy_curve(gmm.vp(), times, 0.5 * fig06_trees.ENERGIES[1], family="pair")
    np.testing.assert_allclose(found[fig06_trees.ONE_BRANCH].entropy, pair.entropy, rtol=1e-12)
    np.testing.assert_allclose(found[fig06_trees.ONE_BRANCH].rate, pair.rate, rtol=1e-10)


@pytest.mark.parametrize("name", [fig06_trees.BRANCHES, fig06_trees.WITHIN])
def test_rates_of_derived_tree_decisions_are_derivatives(name):
    t, step = np.array([0.7, 2.0, 3.0]), 1e-4
    low, high = (fig06_trees.exact_curves(t + s)[name].entropy for s in (-step, step))
    # Central differences: relative error ~ step² and quadrature error 1e-9/step.
    np.testing.assert_allclose(
        fig06_trees.exact_curves(t)[name].rate, (high - low) / (2 * step), rtol=1e-5, atol=1e-5
    )


def test_aligned_pair_against_theory():
    times = np.linspace(0.1, 3.0, 7)
    for variance in (0.25, 1.0, 4.0):
        found = fig09_beyond_isotropic.pair_curve(times, 16.0, variance)
        exact = entropy_curve(gmm.vp(), times, 16.0, variance=variance, family="pair")
        np.testing.assert_allclose(found.entropy, exact.entropy, rtol=1e-10)
        np.testing.assert_allclose(found.rate, exact.rate, rtol=1e-10)


# Roots of quadratures of 20 digits (mpmath) along the line between the means: rho at half entropy, where E Σp² is
# midway between Σπ² and 1, and where rho (1 - E Σp²) is largest.
THRESHOLDS = {
    0.5: (1.0440133154525, 0.8508444376142, 1.508330628786),
    0.1: (1.2055966238187, 1.2773436340363, 1.6974106493040),
    0.002: (1.9603397198214, 3.1112463911057, 2.6669108525726),
}
ROOTS = 1e-11  # twelve digits of the table, and of the roots


@pytest.mark.parametrize("prior", THRESHOLDS)
def test_thresholds_of_a_pair_are_roots_of_an_independent_quadrature(prior):
    found = fig09_beyond_isotropic._thresholds(prior)
    np.testing.assert_allclose(found, THRESHOLDS[prior], rtol=ROOTS)
    # The same posterior, integrated by scipy.
    entropy, agreement = _by_quad(found[0], prior)[0], _by_quad(found[1], prior)[1]
    assert entropy == pytest.approx(-(xlogy(prior, prior) + xlogy(1 - prior, 1 - prior)) / 2, rel=ROOTS)
    assert agreement == pytest.approx(1 - prior * (1 - prior), rel=ROOTS)


def _by_quad(rho, prior):
    """H and E Σp² of two classes at ±√rho in unit noise, by scipy's adaptive quadrature along the line."""
    mean, log_priors = np.sqrt(rho), np.log([prior, 1 - prior])
    middle = -(log_priors[0] - log_priors[1]) / (2 * mean)

    def integrand(x, weigh):
        joint = log_priors - 0.5 * (x - mean * np.array([1, -1])) ** 2
        log_p = joint - np.logaddexp(*joint)
        return float(np.sum(np.exp(joint) * weigh(log_p)) / np.sqrt(2 * np.pi))

    ends = sorted([-mean - 12, -mean, mean, mean + 12, np.clip(middle, -mean - 11, mean + 11)])
    return [
        sum(quad(integrand, a, b, (weigh,), epsabs=1e-14, epsrel=1e-12)[0] for a, b in pairwise(ends))
        for weigh in (np.negative, np.exp)
    ]


def test_balanced_thresholds_are_the_known_constants():
    assert THRESHOLDS[0.5] == fig09_beyond_isotropic.BALANCED
    # The maximum of dH/dt by another route: the root finder of the speciation times.
    time = speciation_time(gmm.vp(), 1e3, family="pair")
    assert fig09_beyond_isotropic._thresholds(0.5)[2] == pytest.approx(1e3 * np.exp(-2 * time), rel=1e-9)


def test_spectrum_has_mean_one():
    assert fig09_beyond_isotropic.spectrum().mean() == pytest.approx(1.0)


def test_z_is_zero_where_nothing_is_uncertain():
    found = fig08_three_routes._z(np.array([1.0, 0.0]), np.array([0.5, 0.0]))
    np.testing.assert_array_equal(found, [2.0, 0.0])


def test_cross_entropy_against_enumeration():
    """One point and no noise to speak of: -log p(y|x_t) from densities by scipy."""
    mixture = gmm.Mixture(np.array([0.2, 0.3, 0.5]), np.array([[0.0], [2.0], [3.0]]), gmm.Isotropic(1.0))
    model = fig10_digits.Model(mixture, gmm.Partition(np.array([0, 0, 1])))
    data = fig10_digits.LabelledData(
        "test", np.array([[1.0], [2.5]], np.float32), np.array([1, 0]), ("a", "b"), (1,)
    )
    mean, _ = fig10_digits.cross_entropy(model, gmm.edm(), np.array([1e-6]), data, jax.numpy.ones((2, 2, 1)))
    joint = np.array([0.2, 0.3, 0.5]) * scipy.stats.norm(np.array([0.0, 2.0, 3.0]), 1).pdf(data.x)
    posterior = joint / joint.sum(axis=1, keepdims=True)
    expected = -np.log([posterior[0, 2], posterior[1, :2].sum()]).mean()
    assert mean[0] == pytest.approx(expected, abs=1e-5)


def test_cross_entropy_of_the_true_model_is_its_entropy():
    """Equality for points of the model itself; false alarm once in 10^6 at five standard errors."""
    mixture = gmm.families.pair(1, separation=2.0)
    x, y = gmm.sample(mixture, jax.random.key(3), 4000)
    data = fig10_digits.LabelledData("test", np.asarray(x, np.float32), np.asarray(y), ("a", "b"), (1,))
    model = fig10_digits.Model(mixture, gmm.Partition(np.arange(2)))
    times = np.array([0.4, 1.0])
    noise = jax.random.normal(jax.random.key(4), (4, 4000, 1))
    mean, stderr = fig10_digits.cross_entropy(model, gmm.vp(), times, data, noise)
    exact = entropy_curve(gmm.vp(), times, 4.0, family="pair").entropy
    assert np.all(np.abs(mean - exact) < STDERRS * stderr)


@pytest.mark.slow
def test_quick_figures_from_the_command_line(tmp_path, capsys):
    """The whole set at its quick size: every sampled number within five of its standard errors."""
    assert cli.run(["figures", "--fast", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("computed in") == len(COMPUTED)
    assert cli.run(["figures", "--fast", "--out", str(tmp_path), "--axis", "timestep"]) == 0
    assert capsys.readouterr().out.count("data reused from") == len(COMPUTED)
    page = (tmp_path / "index.html").read_text()
    for name in COMPUTED:
        data = gmm.curve.load_dataset(tmp_path / f"{name}-fast.nc")
        assert json.loads(data.attrs["settings"])["fast"]
        assert f'src="{name}-fast.png"' in page
        for n in numbers_of(data):
            if "limit" in n.label:
                continue
            if n.expected is not None and n.stderr:
                assert abs(n.value - n.expected) < STDERRS * n.stderr + QUOTED, (name, n.label)
            elif n.expected is not None:
                assert n.value == pytest.approx(n.expected, rel=2e-3, abs=2e-3), (name, n.label)
            if "largest |z|" in n.label:
                assert n.value < STDERRS, (name, n.label)


def test_module_names_match_the_order():
    numbers = [int(re.match(r"fig(\d+)_", figure.module)[1]) for figure in FIGURES.values()]
    assert numbers == sorted(set(numbers))
    for figure in FIGURES.values():
        importlib.import_module(f"paper_figures.figures.{figure.module}")
