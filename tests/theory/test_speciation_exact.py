"""Speciation times against closed conditions, the diffused mixture itself, brute force and published numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
import theory
from theory import CRITERIA, Problem, speciation_time, why_none

EXACT = 1e-9
PROCESSES = {
    "vp": gmm.vp(),
    "vp_linear": gmm.vp_linear(),
    "ve": gmm.ve(),
    "edm": gmm.edm(),
    "flow": gmm.flow(),
}
# Offsets of t from ½ log‖m‖² in OU time at s = 1.
OFFSETS = {"curvature": 0.0, "sde-instability": 0.5 * math.log(2), "cloning": -0.5 * math.log(0.850844437614161),
           "half-entropy": -0.5 * math.log(1.0440133154525082), "entropy-rate": -0.5 * math.log(1.508330628786381),
           "covariance": 0.0}  # fmt: skip


@pytest.mark.parametrize("criterion", OFFSETS)
def test_log_time_law_of_every_criterion(criterion):
    energies = np.array([1e4, 1e8, 1e12])
    found = speciation_time(gmm.vp(), energies, criterion=criterion) - 0.5 * np.log(energies)
    # covariance counts the within-class variance: ½ log(1 + 1/‖m‖²).
    shift = 0.5 * np.log1p(1 / energies) if criterion == "covariance" else 0.0
    np.testing.assert_allclose(found - shift, OFFSETS[criterion], atol=EXACT)


@pytest.mark.parametrize("name", ["ve", "edm", "flow"])
def test_times_scale_exactly_without_within_class_variance(name):
    """s = 0: the energy only rescales noise, so t is exact at 10^12 if it is at 10^6."""
    noise = [
        -0.5 * float(PROCESSES[name].log_snr(speciation_time(PROCESSES[name], e, variance=0.0)))
        for e in (1e2, 1e6)
    ]
    if name != "flow":
        assert noise[1] - noise[0] == pytest.approx(math.log(100), abs=1e-11)
    small, large = speciation_time(gmm.edm(), np.array([1.0, 1e12]), variance=0.0)
    assert large == pytest.approx(1e6 * small, rel=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("family", [{}, {"classes": 10}, {"classes": 5, "family": "orthogonal"}])
@pytest.mark.parametrize("variance", [0.0, 0.5])
def test_peak_is_the_brute_force_maximum_of_the_rate(name, family, variance):
    process, energy = PROCESSES[name], 9.0
    found = float(speciation_time(process, energy, variance=variance, **family))
    span = np.linspace(-0.3, 0.3, 61)[:, None] * np.array([1.0])
    log_snr = float(process.log_snr(found)) + span[:, 0]
    times = np.asarray(process.time_at_log_snr(jnp.asarray(log_snr)))
    rate = theory.entropy_curve(process, times, energy, variance=variance, **family).rate
    assert np.argmax(rate) == 30
    np.testing.assert_array_less(np.delete(rate, 30), rate[30])


def test_peak_of_a_chain_is_its_brute_force_maximum():
    chain = gmm.ddpm(gmm.scaled_linear_betas())
    times = np.linspace(300, 800, 10_001)
    rate = theory.entropy_curve(chain, times, 4.0).rate
    assert float(speciation_time(chain, 4.0)) == pytest.approx(
        times[np.argmax(rate)], abs=times[1] - times[0]
    )


def centre_slope(process, t, energy, variance, classes, share):
    """Slope of the reverse drift at the centre of a simplex along a mean, by autodiff of the exact density."""
    gram = (np.eye(classes) - 1 / classes) * classes / (classes - 1)
    values, vectors = np.linalg.eigh(gram)
    means = jnp.asarray(np.sqrt(energy) * (vectors * np.sqrt(np.maximum(values, 0)))[:, 1:])
    alpha, sigma = process.alpha(t), process.sigma(t)
    v = alpha**2 * variance + sigma**2

    def log_p(x):
        return jax.nn.logsumexp(-((x[None] - alpha * means) ** 2).sum(-1) / (2 * v))

    curvature = jnp.linalg.eigvalsh(jax.hessian(log_p)(jnp.zeros(classes - 1)))[-1]
    if share is None:
        return float(curvature)
    return float(-process.drift(t) + share * process.diffusion(t) ** 2 * curvature)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize(
    ("criterion", "share"), [("curvature", None), ("sde-instability", 1.0), ("flow-instability", 0.5)]
)
def test_instabilities_are_sign_changes_at_the_centre(name, classes, criterion, share):
    process, energy, variance = PROCESSES[name], 40.0, 0.5
    t = float(speciation_time(process, energy, variance=variance, classes=classes, criterion=criterion))
    if math.isnan(t):
        # VP data of total variance above one: the flow is unstable at every noise level, as late as can be seen.
        assert criterion == "flow-instability"
        assert name.startswith("vp")
        late = 6.0 if name == "vp" else 1.0
        assert centre_slope(process, late, energy, variance, classes, share) > 0
        return
    h = 1e-5 * min(t, 1 - t) if name in ("vp_linear", "flow") else 1e-5 * t
    later, earlier = (centre_slope(process, t + s * h, energy, variance, classes, share) for s in (1, -1))
    assert later < 0 < earlier


def test_flow_matching_turns_late_at_large_energy():
    """ρ = 1 - v/t gives 1 - t → 1/(λ + s²)."""
    for energy in (1e4, 1e8):
        t = float(speciation_time(gmm.flow(), energy, criterion="flow-instability"))
        assert (1 - t) * (energy + 1) == pytest.approx(1, rel=1e-3)


def test_processes_without_fields_are_told_apart():
    """Tree structures of such classes compare equal, and jit's cache may answer with another process."""
    for _ in range(2):
        jax.clear_caches()
        slopes = {
            n: float(Problem(PROCESSES[n], 4.0).clock(np.zeros(1)).slope[0]) for n in ("ve", "edm", "flow")
        }
        assert slopes == pytest.approx({"ve": -1.0, "edm": -2.0, "flow": -8.0})


def test_two_points_break_symmetry_where_published():
    """Raya & Ambrogioni 2023: two points at ±1, critical signal factor sqrt(sqrt 2 - 1)."""
    t = speciation_time(gmm.vp(), 1.0, variance=0.0, criterion="sde-instability")
    assert math.exp(-t) == pytest.approx(math.sqrt(math.sqrt(2) - 1), abs=1e-9)


# Biroli et al. 2024: top eigenvalue of the data covariance, t_s, index on the linear DDPM schedule.
BIROLI = {"mnist": (7.66, 1.02, 446), "cifar": (16.72, 1.41, 526), "imagenet16": (3.05, 0.56, 329),
          "imagenet32": (12.11, 1.25, 495), "lsun": (60.52, 2.05, 635)}  # fmt: skip


def test_covariance_times_of_published_data_sets():
    chain = gmm.ddpm(np.linspace(1e-4, 0.02, 1000))
    for top, time, index in BIROLI.values():
        options = {"variance": 0.5, "criterion": "covariance"}
        assert speciation_time(gmm.vp(), top - 0.5, **options) == pytest.approx(time, abs=0.006)
        assert math.ceil(speciation_time(chain, top - 0.5, **options)) == index


# Orthogonal means: ρ at half entropy, at the clone midpoint, of max ρ (1 - agreement); ours, independent quadrature.
CLASS_COUNT = {2: (2.08803, 1.70169, 3.01666), 10: (3.22192, 3.96721, 4.59560), 1000: (7.24908, 12.71532, 10.24431),
               1e6: (13.92540, 26.47266, 19.98289), 1e12: (27.64648, 54.05342, 41.05622)}  # fmt: skip


def test_class_count_moves_each_criterion_as_stated():
    for classes, row in CLASS_COUNT.items():
        criteria = ("half-entropy", "cloning", "entropy-rate")
        found = [math.exp(-2 * theory.class_offset(classes, c)) for c in criteria]
        np.testing.assert_allclose(found, row, atol=6e-6)
        for criterion, extra in (
            ("curvature", 0.0),
            ("sde-instability", 0.5 * math.log(2)),
            ("covariance", 0.0),
        ):
            offset = theory.class_offset(classes, criterion) + 0.5 * math.log(classes)
            assert offset == pytest.approx(extra, abs=1e-9)
    assert math.isnan(theory.class_offset(4, "flow-instability"))


def test_no_threshold_is_said_and_explained():
    cases = [
        (gmm.vp(), 1e3, "flow-instability", "unstable"),
        (gmm.vp(), 0.5, "curvature", "separate"),
        (gmm.ve(), 0.5, "half-entropy", "separate"),
        (gmm.vp(), 1.0, "entropy-rate", "largest where"),
        (gmm.vp_linear(), 1e8, "curvature", "does not visit"),
        (gmm.ddpm(gmm.scaled_linear_betas()), 1e8, "entropy-rate", "largest where"),
    ]
    for process, energy, criterion, reason in cases:
        assert math.isnan(speciation_time(process, energy, criterion=criterion)), (process.name, criterion)
        assert reason in why_none(Problem(process, energy), criterion)
    assert why_none(Problem(gmm.vp(), 1e3), "curvature") == ""
    for rule in CRITERIA.values():
        assert rule.description
        assert rule.condition


@pytest.mark.parametrize("family", [{"classes": 2}, {"classes": 50}, {"classes": 4, "family": "orthogonal"}])
def test_windows_of_curves_are_those_of_the_closed_form(family):
    problem = Problem(gmm.edm(), 400.0, 0.5, **family)
    curve = theory.entropy_curve(gmm.edm(), np.geomspace(1e-2, 1e4, 300), 400.0, variance=0.5, **family)
    exact, found = theory.window_of(problem), theory.window(curve)
    for name in ("low", "median", "high"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), abs=1e-4)
    # Its definition: a tenth of the information beyond each end.
    for place, share in zip((exact.low, exact.median, exact.high), (0.1, 0.5, 0.9), strict=True):
        floor, total = float(problem.entropy(800.0)), math.log(problem.classes)
        assert problem.entropy(problem.rho(-2 * place)) == pytest.approx(
            floor + share * (total - floor), abs=1e-9
        )


def test_tree_curves_are_consistent():
    process, times = gmm.vp(), np.linspace(0.5, 7, 201)
    curves = theory.tree_curves(process, times, (2, 3, 4), np.array([300.0, 100.0, 50.0]))
    for curve in curves:
        slope = np.gradient(curve.entropy, times, edge_order=2)
        np.testing.assert_allclose(curve.rate[2:-2], slope[2:-2], atol=3e-3)  # differences err by h²/6 H'''
        assert (np.diff(curve.clone_agreement) < 1e-12).all()


def test_numbers_of_the_log_time_law():
    found = theory.peak(gmm.vp(), 1e6)
    assert found.height == pytest.approx(0.47952, abs=6e-6)
    assert found.width == pytest.approx(1.3109, abs=6e-5)
    assert found.entropy / math.log(2) == pytest.approx(0.3750, abs=6e-5)


def test_condensation_and_collapse_have_their_published_values():
    times = theory.condensation_time(gmm.vp(), np.array([0.05, 0.1, 0.2, 0.3, 0.3467]))
    np.testing.assert_allclose(times[:4], [1.1261, 0.7539, 0.3548, 0.0979], atol=6e-5)
    assert math.isnan(times[4])
    for dim, t in {256: 1.2988, 1024: 1.9775, 4096: 2.6671}.items():
        assert theory.collapse_time(gmm.vp(), 20_000, dim) == pytest.approx(t, abs=6e-5)


def test_finite_size_entropy_rounds_the_condensation():
    """κ = 0.1 at t_c: H/d → 0 in the limit, 0.021 at d = 60 (ours), by sampling codebooks and states."""
    kappa, dim, samples = 0.1, 60, 3000
    classes = round(math.exp(kappa * dim))
    rho = math.expm1(2 * kappa)
    rng = np.random.default_rng(0)
    found = np.empty(samples)
    for i in range(samples):
        means = math.sqrt(rho) * rng.normal(size=(classes, dim))
        x = means[0] + rng.normal(size=dim)
        logits = -0.5 * ((x - means) ** 2).sum(1)
        found[i] = np.logaddexp.reduce(logits) - logits[0]
    mean, stderr = found.mean() / dim, found.std() / math.sqrt(samples) / dim
    assert abs(mean - 0.021) < 5 * stderr + 5e-4
    assert theory.entropy_density(-math.log(1 / rho), kappa, variance=0.0) == pytest.approx(0, abs=1e-12)
