"""Forward processes against mpmath, automatic differentiation and their own differential equations."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmm import PROCESSES, ddpm, edm, flow, scaled_linear_betas, ve, vp, vp_linear

# Roundings of a short formula, in units of the last place of its result: measured 2.4.
FORMULA = 4
# x and its logarithm: an error of ε|λ| in λ is one of ε|λ| relative to e^λ, hence in the inverse too.
THROUGH_LOG = 4
# Derivatives by jax.grad against formulas, both float64, numbers of order one to 1e4.
IDENTITY = 1e-12
DPS = 40

EPS = {np.float32: float(np.finfo(np.float32).eps), np.float64: float(np.finfo(np.float64).eps)}


def ornstein_uhlenbeck(t):
    return mpmath.exp(-t), mpmath.sqrt(-mpmath.expm1(-2 * t))


def linear_beta(beta_min, beta_max):
    def law(t):
        integral = beta_min * t + (mpmath.mpf(beta_max) - beta_min) * t**2 / 2
        return mpmath.exp(-integral / 2), mpmath.sqrt(-mpmath.expm1(-integral))

    return law


# Process, its (α, σ) in mpmath, and times up to where its range ends.
EARLY = (1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9)
EXACT = {
    "vp": (vp(), ornstein_uhlenbeck, (*EARLY, 3.0, 40.0)),
    "vp_linear": (vp_linear(0.125, 20.0), linear_beta(0.125, 20.0), (*EARLY, 1.0)),
    "vp_linear from zero": (vp_linear(0.0, 16.0), linear_beta(0.0, 16.0), (*EARLY, 1.0)),
    "ve": (ve(), lambda t: (mpmath.mpf(1), mpmath.sqrt(t)), (*EARLY, 3.0, 40.0, 6400.0)),
    "edm": (edm(), lambda t: (mpmath.mpf(1), t), (*EARLY, 3.0, 40.0, 80.0)),
    "flow": (flow(), lambda t: (1 - t, t), (*EARLY, 1 - 2.0**-20)),
}
ALL = {name: process for name, (process, _, _) in EXACT.items()} | {"ddpm": ddpm(scaled_linear_betas())}


def times_of(name):
    return np.array([0.25, 10.5, 500.5, 998.75]) if name == "ddpm" else np.array(EXACT[name][2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXACT)
def test_signal_noise_and_log_snr_are_exact_from_1e_12_to_40(name, dtype):
    process, law, times = EXACT[name]
    times = np.array(times, dtype)
    with mpmath.workdps(DPS):
        alpha, sigma = zip(*(law(mpmath.mpf(float(t))) for t in times), strict=True)
        log_snr = [2 * mpmath.log(a / s) for a, s in zip(alpha, sigma, strict=True)]
    for method, exact in (("alpha", alpha), ("sigma", sigma)):
        value = np.asarray(getattr(process, method)(times))
        assert value.dtype == dtype
        # The exponent ∫β ≤ 10 is itself rounded.
        np.testing.assert_allclose(value, np.array(exact, float), rtol=12 * FORMULA * EPS[dtype])
    exact = np.array(log_snr, float)
    allowed = FORMULA * EPS[dtype] * (1 + np.abs(exact))
    value = np.asarray(process.log_snr(times))
    assert value.dtype == dtype
    assert (np.abs(value - exact) <= allowed).all()
    np.testing.assert_allclose(process.snr(times), np.exp(exact), rtol=float(2 * allowed.max()))


@pytest.mark.parametrize("name", ALL)
def test_drift_and_diffusion_solve_the_equations_of_alpha_and_sigma(name):
    process = ALL[name]
    t = times_of(name)
    slope = lambda f: jax.vmap(jax.grad(f))(t)
    f, g2 = process.drift(t), process.diffusion(t) ** 2
    alpha, sigma = process.alpha(t), process.sigma(t)
    np.testing.assert_allclose(slope(process.alpha), f * alpha, rtol=IDENTITY)
    variance = slope(lambda t: process.sigma(t) ** 2)
    # Flow matching, t → 1: drift and diffusion are large and cancel.
    np.testing.assert_allclose(variance, 2 * f * sigma**2 + g2, rtol=0, atol=IDENTITY * (1 + float(g2.max())))
    np.testing.assert_allclose(slope(process.snr), -g2 * alpha**2 / sigma**4, rtol=IDENTITY)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ALL)
def test_time_is_found_again_from_its_log_snr(name, dtype):
    process, t = ALL[name], times_of(name).astype(dtype)
    log_snr = process.log_snr(t)
    found = np.asarray(process.time_at_log_snr(log_snr))
    if name == "flow":  # near t = 1 it is 1 - t that log_snr determines
        t, found = np.minimum(t, 1 - t), np.minimum(found, 1 - found)
    allowed = THROUGH_LOG * EPS[dtype] * (1 + np.abs(np.asarray(log_snr, float)))
    if name == "ddpm":  # an error of ε|λ| in λ is one of ε|λ| / |dλ/dt| in t
        allowed *= 1 / np.abs(np.diff(np.asarray(process.log_snr_table))).min()
    if name == "flow":  # t = 1/2 ± x loses the digits of x
        allowed += EPS[dtype] / t
    assert (np.abs(found - t) <= allowed * (1 if name == "ddpm" else t)).all()


@pytest.mark.parametrize("name", ALL)
def test_the_inverse_has_the_inverse_derivative(name):
    process = ALL[name]
    t = times_of(name)
    forward = jax.vmap(jax.grad(process.log_snr))(t)
    backward = jax.vmap(jax.grad(process.time_at_log_snr))(process.log_snr(t))
    # Flow: the float64 nearest to t = 1 - 2^-20 knows 1 - t to 2^-33.
    np.testing.assert_allclose(backward * forward, 1, rtol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(ALL)), st.floats(0.001, 0.998), st.floats(1.001, 2))
def test_log_snr_falls_with_time(name, fraction, ratio):
    process = ALL[name]
    t = fraction * min(process.t_max, 40)
    later = min(t * ratio, process.t_max * 0.9999)
    assert later <= t or process.log_snr(later) < process.log_snr(t)


def test_constant_beta_is_the_ornstein_uhlenbeck_clock_at_another_speed():
    process, t = vp_linear(3.0, 3.0), np.array([0.1, 0.9])
    np.testing.assert_allclose(process.log_snr(t), vp().log_snr(1.5 * t), rtol=1e-14)
    np.testing.assert_allclose(process.time_at_log_snr(process.log_snr(t)), t, rtol=1e-14)


@pytest.mark.parametrize("process", [vp(), ve(), edm(), vp_linear()], ids=lambda p: p.name)
def test_whole_numbers_are_times_like_any_other(process):
    for method in ("alpha", "sigma", "drift", "diffusion", "log_snr", "time_at_log_snr"):
        value = getattr(process, method)(1)
        assert value == getattr(process, method)(1.0)
        assert value.dtype == np.float64


# ------------------------------------------------------------------------------------------- discrete chains


def alpha_bar(betas):
    """(N,) cumulative products of 1-β in mpmath."""
    with mpmath.workdps(DPS):
        product, rows = mpmath.mpf(1), []
        for beta in betas:
            product *= 1 - mpmath.mpf(float(beta))
            rows.append(product)
        return rows


BETAS = {
    "stable diffusion 1.5": scaled_linear_betas(),
    "ho et al. 2020": np.linspace(1e-4, 0.02, 1000),
    "two steps": np.array([0.1, 0.9]),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BETAS)
def test_ddpm_table_is_the_cumulative_product(name, dtype):
    betas = BETAS[name]
    exact = alpha_bar(betas)
    with jax.enable_x64(dtype == np.float64):
        process = ddpm(betas)
        n = np.arange(len(betas), dtype=dtype)
        alpha, sigma, log_snr = (np.asarray(f(n)) for f in (process.alpha, process.sigma, process.log_snr))
    assert alpha.dtype == dtype
    logs = np.array([mpmath.log(a / (1 - a)) for a in exact], float)
    # The table is summed in float64, where N roundings add up at random; float32 sees its last rounding only.
    allowed = EPS[dtype] * FORMULA * (1 + np.abs(logs)) + EPS[np.float64] * np.sqrt(len(betas))
    assert (np.abs(log_snr - logs) <= allowed).all()
    np.testing.assert_allclose(alpha**2, np.array(exact, float), rtol=2 * float(allowed.max()))
    np.testing.assert_allclose(
        sigma**2, np.array([1 - a for a in exact], float), rtol=2 * float(allowed.max())
    )


def test_stable_diffusion_chain_has_its_published_ends():
    process = ddpm(scaled_linear_betas())
    ratio = np.asarray(process.sigma(np.array([0.0, 999.0])) / process.alpha(np.array([0.0, 999.0])))
    np.testing.assert_allclose(ratio, [0.0292, 14.6146], rtol=2e-3, atol=5e-5)
    assert float(process.alpha(999.0)) ** 2 == pytest.approx(0.00466, abs=5e-6)
    assert (process.t_min, process.t_max) == (0.0, 999.0)


def test_between_indices_log_snr_is_linear():
    process = ddpm(scaled_linear_betas())
    low, high = process.log_snr(np.array([41.0, 42.0]))
    np.testing.assert_allclose(process.log_snr(41.25), 0.75 * low + 0.25 * high, rtol=1e-14)
    np.testing.assert_allclose(process.time_at_log_snr(0.75 * low + 0.25 * high), 41.25, rtol=1e-13)
    assert process.log_snr(999.0) == pytest.approx(float(process.log_snr_table[-1]), rel=1e-15)


# --------------------------------------------------------------------------------- values, pytrees, bad input


@pytest.mark.parametrize("name", ALL)
def test_processes_pass_through_jit_as_arguments(name):
    process, t = ALL[name], times_of(name)
    value = jax.jit(lambda p, t: p.log_snr(t) + p.diffusion(t))(process, t)
    np.testing.assert_allclose(value, process.log_snr(t) + process.diffusion(t), rtol=1e-13)
    again = jax.tree.map(lambda leaf: leaf, process)
    assert type(again) is type(process)
    assert again.describe() == process.describe()


def test_parameters_of_a_process_have_gradients():
    process = vp_linear(0.1, 20.0)
    gradient = jax.grad(lambda p: p.log_snr(0.5))(process)
    # λ = -log(e^B - 1), so dλ/dB = -1/(1 - e^-B); dB/dβ_max = t²/2.
    slope = -1 / -np.expm1(-(0.05 + 19.9 / 8))
    assert float(gradient.beta_max) == pytest.approx(slope * 0.125, rel=1e-12)
    assert float(gradient.beta_min) == pytest.approx(slope * (0.5 - 0.125), rel=1e-12)


def test_times_are_checked_where_parameters_of_the_process_are_traced():
    def alpha(beta_max):
        process = vp_linear(0.1, beta_max)
        process.check_times(0.5)
        return process.alpha(0.5)

    # α = exp(-½(0.1 t + ½(β_max - 0.1) t²)).
    assert jax.grad(alpha)(20.0) == pytest.approx(-(0.5**2) / 4 * float(alpha(20.0)), rel=1e-12)


def test_times_are_checked_within_the_traces_of_others():
    process = vp()

    def shifted(x):
        process.check_times(np.array([0.5]))
        return x + process.alpha(0.5)

    assert jax.jit(shifted)(1.0) == pytest.approx(1 + np.exp(-0.5))


def test_command_line_names_are_the_names_of_the_processes():
    assert {name: make().name for name, make in PROCESSES.items()} == {name: name for name in PROCESSES}
    assert set(PROCESSES) == {"vp", "vp_linear", "ve", "edm", "flow"}


def test_processes_describe_the_call_that_makes_them():
    assert vp().describe() == "vp()"
    assert vp_linear().describe() == "vp_linear(beta_min=0.1, beta_max=20.0)"
    first = np.log(1 / 0.00085 - 1)  # β_0 = 0.00085
    assert ddpm(scaled_linear_betas()).describe().startswith(f"ddpm(steps=1000, log_snr={first:.6g}..-5.36")
    assert vp_linear(0.1, 20) == vp_linear()
    with pytest.raises(AttributeError):
        vp_linear().beta_max = 3.0


OUTSIDE = {
    "vp": [0.0, -1.0, np.inf, np.nan],
    "vp_linear": [0.0, 1.0001],
    "ve": [0.0, np.inf],
    "edm": [-1e-9, np.inf],
    "flow": [0.0, 1.0, 1.5],
    "ddpm": [-0.5, 999.5],
}


@pytest.mark.parametrize(("name", "time"), [(name, t) for name, ts in OUTSIDE.items() for t in ts])
def test_times_outside_the_range_are_refused_by_name(name, time):
    process = ALL[name]
    message = f"times must be in the range of {name}, {process.time_range}, got {time}"
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        process.check_times(np.append(times_of(name), time))


@pytest.mark.parametrize("name", ALL)
def test_times_inside_the_range_pass(name):
    ALL[name].check_times(times_of(name))
    ALL[name].check_times(jnp.asarray(times_of(name)))
    jax.jit(lambda t: ALL[name].check_times(t) or t)(times_of(name))


BAD = {
    "negative": (lambda: vp_linear(-0.1, 20.0), "betas must satisfy 0 <= beta_min .*got -0.1 and 20.0"),
    "order": (lambda: vp_linear(3.0, 2.0), "betas must satisfy .*got 3.0 and 2.0"),
    "zero": (lambda: vp_linear(0.0, 0.0), "betas must satisfy .*beta_max > 0, got 0.0 and 0.0"),
    "infinite": (lambda: vp_linear(0.1, np.inf), "betas must satisfy .*beta_max < inf"),
    "beta one": (lambda: ddpm([0.1, 1.0]), r"betas must be in \(0, 1\), got 1.0"),
    "beta NaN": (lambda: ddpm([0.1, np.nan]), r"betas must be in \(0, 1\), got nan"),
    "one beta": (lambda: ddpm([0.1]), r"betas must have shape \(N,\) with N >= 2, got \(1,\)"),
    "matrix": (lambda: ddpm(np.full((2, 2), 0.1)), r"betas must have shape \(N,\) with N >= 2, got \(2, 2\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters_are_refused_by_name(case):
    make, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        make()
