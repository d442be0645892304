"""Places read off curves: laws with known quantiles, exact curves whose maxima theory solves for, sampled curves."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

import gmm
from gmm.clock import noise_at, times_at
from gmm.curve import EntropyCurve
from gmm.landmarks import LANDMARKS, fastest, half_entropy, landmarks
from gmm.windows import crossing
from theory import entropy_curve, speciation_time
from theory.landmarks import fastest_of, half_entropy_of

NOISE = np.linspace(-5.0, 5.0, 81)
LN2 = np.log(2)
# Between points 1/8 apart the cubic through values and slopes of a normal law is this close.
CUBIC = 1e-6
# The promise for exact curves of 60 points over nine units of log(σ/α).
BIAS = 1e-3
CASES = [
    ("edm", 2, 400.0, "simplex"),
    ("edm", 2, 6.0, "pair"),
    ("vp", 3, 100.0, "simplex"),
    ("flow", 10, 1e4, "orthogonal"),
    ("ve", 100, 400.0, "simplex"),
    ("edm", 1e6, 1e6, "simplex"),
    ("vp_linear", 10, 400.0, "simplex"),
]


def normal_curve(shift=0.0):
    """H = ln 2 · Φ(log σ - shift): every landmark is a quantile of the normal law."""
    phi, density = stats.norm.cdf(NOISE - shift), stats.norm.pdf(NOISE - shift)
    exact = np.zeros_like(NOISE)
    return EntropyCurve(
        t=np.exp(NOISE), log_snr=-2 * NOISE, log_snr_slope=-2 * np.exp(-NOISE), entropy=LN2 * phi,
        entropy_stderr=exact, rate=LN2 * density * np.exp(-NOISE), rate_stderr=exact, prior_entropy=LN2,
    )  # fmt: skip


def test_landmarks_of_a_curve_with_known_quantiles():
    found = dict(zip(LANDMARKS, landmarks(normal_curve(0.3), share=0.8), strict=True))
    tail = stats.norm.ppf(0.9)
    expected = {"half": 0.3, "median": 0.3, "peak": 0.3, "low": 0.3 - tail, "high": 0.3 + tail}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=BIAS if name == "peak" else CUBIC), name
    # dH/dσ is φ(log σ - shift)/σ, largest at shift - 1.
    assert fastest(normal_curve(0.3), per="t").value == pytest.approx(-0.7, abs=1e-4)


def test_places_that_a_curve_does_not_hold_are_nan():
    assert np.isnan(landmarks(normal_curve(4.9))[2:]).all()
    assert np.isnan(fastest(normal_curve(8.0))).all()
    assert np.isnan(half_entropy(normal_curve(8.0))).all()
    assert np.isnan(crossing(normal_curve(), 2 * LN2))
    nothing = dataclasses.replace(normal_curve(), rate=np.full_like(NOISE, np.nan))
    assert np.isnan(fastest(nothing)).all()
    with pytest.raises(ValueError, match="per must be one of"):
        fastest(normal_curve(), per="sigma")


@pytest.mark.parametrize("case", CASES)
def test_exact_curves_give_the_places_that_quadrature_solves_for(case):
    name, classes, energy, family = case
    clock = getattr(gmm, name)()
    exact = lambda t: entropy_curve(clock, t, energy, classes=classes, family=family)
    true_half, top = exact_places(exact, clock, energy, classes)
    by_clock = noise_at(clock, speciation_time(clock, energy, classes=classes, family=family))
    # Grids around the decision, one that starts in its middle, and that of the samplers where it holds the decision.
    for low, high in ((top - 4.5, top + 4.5), (top - 2, top + 7), (np.log(0.002), np.log(80))):
        noise = np.linspace(low, min(high, noise_at(clock, clock.t_max) - 0.1), 60)
        curve = exact(times_at(clock, noise))
        if noise[-1] < max(top, by_clock, true_half) + 0.5:
            continue
        half, peak, of_t = half_entropy(curve), fastest(curve), fastest(curve, per="t")
        for found, true in ((half, true_half), (peak, top), (of_t, by_clock)):
            assert abs(found.value - true) < BIAS
            assert abs(found.value - true) <= 3 * found.stderr


@pytest.mark.parametrize("steps", [100, 1000])
@pytest.mark.parametrize(("energy", "variance", "classes"), [(1.0, 0.01, 2), (30.0, 1.0, 3), (1e3, 1.0, 2)])
def test_the_fastest_time_of_a_chain_is_known_to_one_step(steps, energy, variance, classes):
    """dH/dt jumps at every index, and so does its largest value; dH/d log(σ/α) does not."""
    chain = gmm.ddpm(np.linspace(0.1, 20.0, steps) / steps)
    problem = {"variance": variance, "classes": classes}
    true = noise_at(chain, speciation_time(chain, energy, **problem))
    step = -0.5 * np.diff(chain.log_snr_table)[int(times_at(chain, np.array([true]))[0])]
    for t in (np.linspace(0, steps - 1, 60), np.unique(np.round(np.linspace(0, steps - 1, 60)))):
        curve = entropy_curve(chain, t, energy, **problem)
        place = fastest(curve, per="t")
        assert abs(place.value - true) <= min(place.stderr, 1.1 * step)
        assert place.stderr < 1.5 * step
        smooth = entropy_curve(gmm.edm(), curve.sigma, energy, **problem)
        assert fastest(curve).value == pytest.approx(fastest(smooth).value, abs=1e-6)


def exact_places(exact, clock, energy, classes):
    middle = 0.5 * np.log(energy / (2 * np.log(2 * classes)))
    noise = np.linspace(middle - 4, min(middle + 4, noise_at(clock, clock.t_max)), 60)
    rate = lambda x: -float(exact(times_at(clock, np.array([x]))).rate_per_log_noise()[0][0])
    best = noise[np.argmin([rate(x) for x in noise])]
    top = minimize_scalar(rate, bounds=(best - 0.2, best + 0.2), method="bounded", options={"xatol": 1e-7}).x
    return half_entropy_of(exact, clock, noise), float(top)


def test_two_places_of_quadrature_are_the_closed_forms_roots():
    clock = gmm.edm()
    exact = lambda t: entropy_curve(clock, t, 400.0, classes=10)
    noise = np.linspace(0, 5, 60)
    for place, criterion in ((half_entropy_of, "half-entropy"), (fastest_of, "entropy-rate")):
        wanted = speciation_time(clock, 400.0, classes=10, criterion=criterion)
        assert np.exp(place(exact, clock, noise)) == pytest.approx(float(wanted), rel=1e-9)
    beyond = np.linspace(4.5, 6, 20)
    assert np.isnan([half_entropy_of(exact, clock, beyond), fastest_of(exact, clock, beyond)]).all()


@pytest.mark.parametrize("points", [12, 16, 24, 40])
@pytest.mark.parametrize("case", CASES[:4])
def test_coarse_points_are_paid_for_by_the_error(case, points):
    name, classes, energy, family = case
    clock = getattr(gmm, name)()
    exact = lambda t: entropy_curve(clock, t, energy, classes=classes, family=family)
    true_half, top = exact_places(exact, clock, energy, classes)
    curve = exact(times_at(clock, np.linspace(top - 4.5, top + 3.5, points)))
    for found, true in ((half_entropy(curve), true_half), (fastest(curve), top)):
        assert abs(found.value - true) <= 3 * found.stderr


@pytest.mark.parametrize(
    ("classes", "points", "boundary"),
    [
        (2, 24, True),
        pytest.param(10, 60, False, marks=pytest.mark.slow),
        pytest.param(10, 200, False, marks=pytest.mark.slow),
    ],
)
def test_the_errors_of_sampled_places_are_not_understated(classes, points, boundary):
    """z over 40 seeds: its mean square is χ²/40; 1.7 has a false-alarm rate of 0.4% where errors are exactly right."""
    clock, sigma = gmm.edm(), np.geomspace(0.5, 200, points)
    mixture = gmm.families.simplex(classes, 400, reduced=True)
    exact = lambda t: entropy_curve(clock, t, 400.0, classes=classes)
    true_half, top = exact_places(exact, clock, 400.0, classes)
    scores = []
    for seed in range(40):
        options = {"key": jax.random.key(seed), "samples": 256, "boundary": boundary}
        curve = gmm.class_entropy(mixture, clock, sigma, **options)
        half, peak = half_entropy(curve), fastest(curve)
        scores.append([(half.value - true_half) / half.stderr, (peak.value - top) / peak.stderr])
    squares = np.mean(np.square(scores), axis=0)
    assert (squares < 1.7).all()
    assert squares[0] > 0.4  # nor is the half's error overstated: χ²/40 falls below by chance in 0.1%


def test_independent_errors_of_the_points_become_the_error_of_the_place():
    """Noise of the stated size, independent from point to point: scatter of the places against what is claimed."""
    clock = gmm.edm()
    curve = entropy_curve(clock, np.geomspace(0.5, 200, 100), 400.0)
    errors = {"entropy_stderr": np.full(100, 0.005), "rate_stderr": 0.01 * curve.rate.max() * np.ones(100)}
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        noisy = {
            name: getattr(curve, name) + errors[f"{name}_stderr"] * rng.normal(size=100)
            for name in ("entropy", "rate")
        }
        found.append(fastest(dataclasses.replace(curve, **errors, **noisy)))
    # A hundred places tell their scatter to 7%.
    assert (
        0.8 * np.std([f.value for f in found])
        < np.median([f.stderr for f in found])
        < 2 * np.std([f.value for f in found])
    )
