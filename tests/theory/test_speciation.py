"""Every speciation time against its own condition checked another way, and against published constants."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

import gmm
import theory
from theory.speciation import Problem

# Constants printed to this many digits.
PRINTED = 6e-5
# Roots are solved to 1e-12 in log-SNR, maxima to about 1e-8 of a unit of time.
ROOT, MAXIMUM = 1e-9, 1e-6
# theory of the OU process, variance one: offset of t from half log energy.
OFFSETS = {
    "curvature": 0.0,
    "sde-instability": 0.3466,
    "cloning": 0.0808,
    "half-entropy": -0.0215,
    "entropy-rate": -0.2055,
}
# Orthogonal means: K, rho at half entropy, rho at the clone midpoint.
RHO_TABLE = [
    (2, 2.08803, 1.70169),
    (4, 2.54830, 2.56462),
    (10, 3.22192, 3.96721),
    (100, 5.14433, 8.18781),
    (1000, 7.24908, 12.71532),
    (1e6, 13.92540, 26.47266),
    (1e12, 27.64648, 54.05342),
]
# Biroli et al. 2024: top eigenvalue and speciation time of data sets; the index on the linear DDPM schedule.
BIROLI = [(7.66, 1.02, 446), (16.72, 1.41, 526), (3.05, 0.56, 329), (12.11, 1.25, 495), (60.52, 2.05, 635)]


@pytest.mark.parametrize("criterion", OFFSETS)
@pytest.mark.parametrize("energy", [1e4, 1e12])
def test_log_time_law_offsets(criterion, energy):
    offset = theory.speciation_time(gmm.vp(), energy, criterion=criterion) - 0.5 * math.log(energy)
    assert offset == pytest.approx(OFFSETS[criterion], abs=PRINTED)


def test_two_points_break_symmetry_where_raya_and_ambrogioni_say():
    t = theory.speciation_time(gmm.vp(), 1.0, variance=0.0, criterion="sde-instability")
    assert math.exp(-t) == pytest.approx(math.sqrt(math.sqrt(2) - 1), abs=1e-9)


@pytest.mark.parametrize("criterion", ["curvature", "sde-instability", "flow-instability"])
@pytest.mark.parametrize("process", [gmm.ve(), gmm.edm()], ids=lambda p: p.name)
def test_without_drift_three_criteria_coincide(process, criterion):
    t = theory.speciation_time(process, 50.0, criterion=criterion)
    assert float(process.sigma(t)) == pytest.approx(math.sqrt(49), rel=ROOT)


@pytest.mark.parametrize("process", [gmm.vp(), gmm.vp_linear(), gmm.flow(), gmm.edm()], ids=lambda p: p.name)
@pytest.mark.parametrize(("criterion", "share"), [("sde-instability", 1.0), ("flow-instability", 0.5)])
def test_drift_instability_is_where_the_reverse_drift_changes_sign(process, criterion, share):
    """Slope of -f x + share g² score at the centre, by finite differences of the mixture's own score."""
    energy, variance = 30.0, 0.4
    mixture = gmm.Mixture([0.5, 0.5], np.sqrt([[energy], [energy]]) * [[1], [-1]], gmm.Isotropic(variance))
    t = theory.speciation_time(process, energy, variance=variance, criterion=criterion)
    if np.isnan(t):
        assert theory.why_none(Problem(process, energy, variance), criterion)
        return

    def slope(time):
        noisy = gmm.diffuse(mixture, process.alpha(time), process.sigma(time))
        h = 1e-5
        score = float(gmm.score(noisy, np.array([h]))[0]) / h
        return -float(process.drift(time)) + share * float(process.diffusion(time)) ** 2 * score

    assert slope(t * 1.01) < 0 < slope(t * 0.99)


def test_flow_instability_of_vp_data_has_no_threshold():
    assert np.isnan(theory.speciation_time(gmm.vp(), 100.0, criterion="flow-instability"))
    assert "at every noise level" in theory.why_none(Problem(gmm.vp(), 100.0), "flow-instability")


@pytest.mark.parametrize(("classes", "half", "clone"), RHO_TABLE)
def test_class_count_table(classes, half, clone):
    problem = Problem(gmm.ve(), 1.0, 0.0, classes, "orthogonal")
    found = [
        float(problem.rho(theory.CRITERIA[name].log_snr(problem))) for name in ("half-entropy", "cloning")
    ]
    np.testing.assert_allclose(found, [half, clone], atol=PRINTED)


def test_entropy_rate_peak_is_a_maximum_of_the_curve():
    for process, energy in ((gmm.vp(), 40.0), (gmm.edm(), 40.0), (gmm.flow(), 40.0)):
        t = float(theory.speciation_time(process, energy, classes=5))
        around = t + np.array([-1, 0, 1]) * 1e-3 * t
        rate = theory.entropy_curve(process, around, energy, classes=5).rate
        assert rate[1] > max(rate[0], rate[2])
        # The parabola through three points finds the same place.
        shift = 0.5 * (rate[0] - rate[2]) / (rate[0] - 2 * rate[1] + rate[2]) * 1e-3 * t
        assert abs(shift) < 1e-2 * 1e-3 * t + MAXIMUM


@pytest.mark.parametrize("betas", [np.linspace(1e-4, 0.02, 300), np.linspace(1e-3, 0.4, 60)])
@pytest.mark.parametrize("variance", [1.0, 1e-4])
def test_entropy_rate_peak_of_a_chain_is_the_largest_of_dense_points(betas, variance):
    """Points close to both sides of every index and within every cell; energies that move the peak over the chain."""
    chain = gmm.ddpm(betas)
    last = len(betas) - 1
    dense = (np.arange(last)[:, None] + np.array([1e-9, 0.25, 0.5, 0.75, 1 - 1e-9])).ravel()
    ends = []
    for energy in np.geomspace(1e-2, 1e7, 28):
        options = {"energy": energy, "variance": variance, "classes": 2, "family": "orthogonal"}
        place = dense[np.argmax(theory.entropy_curve(chain, dense, **options).rate)]
        found = float(theory.speciation_time(chain, **options))
        ends.append(math.isnan(found))
        assert (place < 0.3 or place > last - 0.3) if ends[-1] else abs(found - place) < 0.25
    assert 0 < sum(ends) < len(ends)


@pytest.mark.parametrize("classes", [2, 5])
def test_entropy_rate_peak_close_to_the_end_of_a_process_is_found(classes):
    """The process ends a little after the peak, within one step of the search, or a little before it."""
    exact = float(theory.speciation_time(gmm.vp_linear(), 1e3, classes=classes))
    for share, there in ((1.002, True), (0.998, False)):
        # Time in units of the end: integrals of beta scale with it.
        end = exact * share
        shorter = gmm.vp_linear(0.1 * end, (0.1 + 19.9 * end) * end)
        found = float(theory.speciation_time(shorter, 1e3, classes=classes))
        assert found == pytest.approx(1 / share, rel=MAXIMUM) if there else math.isnan(found)
    assert math.isnan(float(theory.speciation_time(gmm.vp_linear(), 1e9, classes=classes)))


@pytest.mark.parametrize(("top", "t", "index"), BIROLI)
def test_biroli_speciation_times(top, t, index):
    found = theory.speciation_time(gmm.vp(), top - 1.0, criterion="covariance")
    assert found == pytest.approx(t, abs=0.006)
    chain = gmm.ddpm(np.linspace(1e-4, 0.02, 1000))
    step = theory.speciation_time(chain, top - 1.0, criterion="covariance")
    assert step == pytest.approx(index, abs=2)


@pytest.mark.parametrize(
    "process", [gmm.vp(), gmm.ve(), gmm.edm(), gmm.flow(), gmm.vp_linear()], ids=lambda p: p.name
)
def test_quadrature_curve_is_its_own_derivative(process):
    level = np.linspace(1, -6, 40)
    t = np.asarray(process.time_at_log_snr(level))
    curve = theory.entropy_curve(process, t, 9.0, classes=4, variance=0.5)
    h = 1e-5 * t
    up, down = (theory.entropy_curve(process, t + s, 9.0, classes=4, variance=0.5).entropy for s in (h, -h))
    np.testing.assert_allclose(curve.rate, (up - down) / (2 * h), rtol=2e-5, atol=1e-9)
    assert curve.prior_entropy == pytest.approx(math.log(4))
    assert not curve.entropy_stderr.any()


def test_tree_curves_are_their_own_derivatives_and_agree_with_sampling():
    energies, t = (12.0, 6.0), np.array([0.6, 1.2, 1.8])
    coarse, leaf = theory.tree_curves(gmm.vp(), t, (2, 3), energies)
    h = 1e-5
    for level, curve in enumerate((coarse, leaf)):
        up, down = (theory.tree_curves(gmm.vp(), t + s, (2, 3), energies)[level].entropy for s in (h, -h))
        np.testing.assert_allclose(curve.rate, (up - down) / (2 * h), rtol=1e-5)
    import jax

    mixture = gmm.families.from_gram(gmm.families.tree_gram((2, 3), energies))
    for partition, curve in zip(gmm.families.tree_partitions((2, 3)), (coarse, leaf), strict=True):
        sampled = gmm.class_entropy(
            mixture, gmm.vp(), t, partition=partition, key=jax.random.key(0), samples=8192
        )
        assert np.abs((sampled.entropy - curve.entropy) / sampled.entropy_stderr).max() < 5
        assert np.abs((sampled.rate - curve.rate) / sampled.rate_stderr).max() < 5


def test_times_are_vectorised_and_none_is_nan():
    found = theory.speciation_time(gmm.vp(), np.array([[10.0, 1e3]]), criterion="half-entropy")
    assert found.shape == (1, 2)
    # Clean classes that overlap too much are never half known.
    assert np.isnan(theory.speciation_time(gmm.vp(), 0.5, criterion="half-entropy"))
    assert "clean data" in theory.why_none(Problem(gmm.vp(), 0.5), "half-entropy")
    # A chain that stops before the decision.
    assert np.isnan(theory.speciation_time(gmm.vp_linear(), 1e9, criterion="half-entropy"))
    assert "does not visit" in theory.why_none(Problem(gmm.vp_linear(), 1e9), "half-entropy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "entropy"}, "criterion must be one of entropy-rate, half-entropy"),
        ({"family": "cube"}, "family must be one of pair, orthogonal, simplex"),
        ({"family": "pair", "classes": 3}, "classes must be 2 for a pair, got 3"),
        ({"variance": -1.0}, "variance must be finite and >= 0, got -1"),
        ({"classes": 1}, "classes must be a number >= 2, got 1"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        theory.speciation_time(gmm.vp(), 10.0, **options)


def test_energy_must_be_positive():
    with pytest.raises(ValueError, match="energy must be finite and positive, got -1"):
        theory.speciation_time(gmm.vp(), -1.0)


def test_cloning_midpoint_by_scipy():
    """E Σp² of the pair at the solved rho, by quadrature that shares nothing with ours."""
    problem = Problem(gmm.ve(), 1.0, 0.0)
    rho = float(problem.rho(theory.CRITERIA["cloning"].log_snr(problem)))
    f = lambda u: stats.norm.pdf(u) * np.tanh(rho + math.sqrt(rho) * u)
    assert 0.5 + 0.5 * integrate.quad(f, -12, 12, epsabs=1e-12)[0] == pytest.approx(0.75, abs=1e-9)
