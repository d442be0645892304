"""Samplers against the official trajectories, and on Gaussian data, where every sampler's law is known."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from safetensors.numpy import load_file
from scipy.stats import norm

import gmm
from gmm import (
    PROCESSES,
    Process,
    ddpm,
    edm,
    families,
    flow,
    reverse_kernel,
    scaled_linear_betas,
    vp,
)
from neural.denoiser import mixture_denoiser
from neural.edm2 import from_tensors
from neural.samplers import (
    Churn,
    _chain,
    _chain_table,
    _gained,
    _heun_steps,
    _heun_table,
    _model,
    ancestral,
    ddim,
    ddim_times,
    edm_times,
    heun,
)
from tests.neural.stable_diffusion import tiny

DATA = Path(__file__).parent / "data" / "edm2"

# Measured spread of the official sampler in float32 is 1.6e-6.
FLOAT32 = 2e-5
# Both sides in float64; 3e-15 measured.
FLOAT64 = 1e-13
# diffusers keeps no more than float32 of log ᾱ on some paths; both sides in float64 here, 1e-13 measured.
SCHEDULER = 1e-11
EXACT = 1e-10

ALL_PROCESSES = [make() for make in PROCESSES.values()] + [ddpm(scaled_linear_betas())]
by_name = pytest.mark.parametrize("process", ALL_PROCESSES, ids=lambda process: process.name)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Exact denoiser of N(mean, var I) data; the condition, if any, is added to the mean."""

    mean: float | jax.Array
    var: float
    process: Process

    def denoise(self, x, t, condition=None):
        alpha, noise = self.process.alpha(t), self.process.sigma(t) ** 2
        mean = self.mean if condition is None else self.mean + condition
        return (noise * mean + alpha * self.var * x) / (alpha**2 * self.var + noise)


# The official sampler.


@pytest.fixture(scope="module")
def golden():
    with np.load(DATA / "samples.npz") as file:
        return {
            key: np.moveaxis(file[key], -3, -1) if file[key].ndim >= 4 else file[key] for key in file.files
        }


@pytest.fixture(scope="module")
def networks():
    def load(dtype: str, as_published: bool = False):
        return [
            from_tensors(load_file(DATA / f"{name}.safetensors"), dtype=dtype, as_published=as_published)
            for name in ("tiny", "tiny-uncond")
        ]

    return {dtype: load(dtype) for dtype in ("float32", "float64")} | {"as published": load("float32", True)}


RUNS = {"heun": (1.0, Churn()), "guided": (2.0, Churn()), "churn": (1.0, Churn(10, 0.05, 50, 1.003))}


def replay(golden, networks, run: str, dtype: str):
    """The official run: its start, its draws. Returns the samples and what the network saw and answered."""
    denoiser, guide = networks[dtype]
    scale, churn = RUNS[run]
    table = _heun_table(edm(), edm_times(edm(), int(golden["num_steps"])), churn, scale)
    draw = None
    if churn.amount:
        # Row j of the evaluations; draws belong to the predictors of steps 1 to 5.
        draws = np.zeros((15, *golden["noise"].shape), dtype)
        draws[2:12:2] = golden["churn/draws"]
        draw = Partial(lambda draws, index, like: draws[index], jnp.asarray(draws))
    label = jnp.asarray(golden["labels"].argmax(1))
    noise = jnp.asarray(golden["noise"], dtype)
    carry, path = _heun_steps(
        _model(denoiser, label, guide, scale),
        (noise * table.level[0].astype(dtype),) * 3,
        table,
        np.arange(len(table.t)),
        draw,
        record=True,
    )
    return carry[1], path


def error(a, b) -> float:
    return float(np.abs(np.asarray(a) - b).max() / np.abs(b).max())


@pytest.mark.parametrize(
    ("dtype", "name", "tolerance"), [("float32", "x", FLOAT32), ("float64", "x_f64", FLOAT64)]
)
@pytest.mark.parametrize("run", RUNS)
def test_official_trajectory(golden, networks, run, dtype, name, tolerance):
    samples, (x, _) = replay(golden, networks, run, dtype)
    assert error(samples, golden[f"{run}/{name}"][-1]) < tolerance
    for step in range(8):
        assert error(x[2 * step], golden[f"{run}/{name}"][step]) < tolerance


@pytest.mark.parametrize("run", RUNS)
def test_official_predictions(golden, networks, run):
    _, (x, denoised) = replay(golden, networks, run, "float32")
    for step in range(7):
        assert error(x[2 * step + 1], golden[f"{run}/x_pred"][step]) < FLOAT32
    answers = {"D": denoised[::2], "D_corr": denoised[1::2]}
    for name, found in answers.items():
        expected = golden[f"{run}/{name}"]
        if run == "guided":
            expected = golden[f"{run}/g{name}"] + 2 * (expected - golden[f"{run}/g{name}"])
        assert error(found, expected) < FLOAT32


def test_official_samples_with_the_published_rounding_of_gains(golden, networks):
    # Far enough from the default reading to tell: 8e-4 on the official side.
    networks = {"float32": networks["as published"]}
    for run in RUNS:
        samples, _ = replay(golden, networks, run, "float32")
        assert error(samples, golden[f"{run}/final_as_loaded"]) < FLOAT32
        assert error(samples, golden[f"{run}/x"][-1]) > 5 * FLOAT32


def test_the_public_sampler_takes_the_same_path(golden, networks):
    denoiser, guide = networks["float64"]
    label, times = golden["labels"].argmax(1), edm_times(edm(), 8)
    plain = heun(denoiser, golden["noise"].astype(float), label, times=times)
    assert error(plain, golden["heun/x_f64"][-1]) < FLOAT64
    guided = heun(denoiser, golden["noise"].astype(float), label, times=times, guide=guide, guidance_scale=2)
    assert error(guided, golden["guided/x_f64"][-1]) < FLOAT64


# Time grids.


@by_name
def test_grid_has_edm_levels(process):
    times = edm_times(process, 9)
    levels = np.exp(-0.5 * np.asarray(process.log_snr(times)))
    assert (np.diff(times) < 0).all()
    ends = [80, 0.002] if process.name != "ddpm" else [14.6146, 0.0292]
    np.testing.assert_allclose(levels[[0, -1]], ends, rtol=2e-3)
    # Evenly spaced in level^(1/7), whatever the ends.
    np.testing.assert_allclose(np.diff(levels ** (1 / 7), n=2), 0, atol=1e-6)


def test_grid_stays_within_a_discrete_process():
    process = ddpm(scaled_linear_betas())
    times = edm_times(process, 20)
    assert times[0] == process.t_max
    assert times[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "steps must be >= 2, got 1"),
        ({"sigma_min": 0.0}, "0 < sigma_min < sigma_max, got 0.0 and 80.0"),
        ({"sigma_min": 100.0}, "0 < sigma_min < sigma_max"),
    ],
)
def test_refused_grids(options, message):
    with pytest.raises(ValueError, match=message):
        edm_times(edm(), **options)


# Gaussian data: the exact law of each sampler.


def exact_sample(process: Process, times: np.ndarray, var: float) -> float:
    """Where the probability flow takes noise 1 by the last time, then the plain denoising at its end.

    x/α scales as the standard deviation √(var + level²) of its law.
    """
    first, last = (float(process.sigma(t) / process.alpha(t)) ** 2 for t in (times[0], times[-1]))
    return np.sqrt(first * (var + last) / (var + first)) * var / (var + last)


@by_name
def test_heun_converges_to_the_probability_flow_at_second_order(process):
    denoiser, noise, errors = Gaussian(0.0, 0.25, process), jnp.ones((1, 1)), []
    for steps in (32, 64, 128):
        times = edm_times(process, steps)
        found = float(heun(denoiser, noise, times=times)[0, 0])
        errors.append(abs(found / exact_sample(process, times, 0.25) - 1))
    assert errors[-1] < 1e-3
    np.testing.assert_allclose(-np.diff(np.log2(errors)), 2, atol=0.2)


@by_name
def test_ancestral_chain_has_its_exact_law(process):
    # One linear recursion for the mean and one for the variance; 40000 independent coordinates.
    mean, var, steps, n = 1.5, 0.25, 12, 40_000
    denoiser, times = Gaussian(mean, var, process), edm_times(process, 12)
    noise = np.random.default_rng(0).normal(size=(n, 1))
    samples = ancestral(denoiser, noise, times=times, key=jax.random.key(1))
    centre, spread = 0.0, float(process.sigma(times[0])) ** 2
    for step in range(steps):
        offset = float(denoiser.denoise(0.0, times[step]))
        slope = float(denoiser.denoise(1.0, times[step])) - offset
        state, clean, added = (
            (0, 1, 0) if step == steps - 1 else map(float, reverse_kernel(process, *times[step : step + 2]))
        )
        centre, spread = (
            (state + clean * slope) * centre + clean * offset,
            (state + clean * slope) ** 2 * spread + added,
        )
    # Five standard errors: false alarm 6e-7 each.
    assert float(samples.mean()) == pytest.approx(centre, abs=5 * np.sqrt(spread / n))
    assert float(samples.var()) == pytest.approx(spread, rel=5 * np.sqrt(2 / n))


def test_ancestral_starts_where_there_is_no_signal():
    times = np.array([1.0, 0.7, 0.4, 0.1])
    samples = ancestral(Gaussian(2.0, 0.0, flow()), jnp.ones((3, 2)), times=times, key=jax.random.key(0))
    np.testing.assert_allclose(samples, 2.0, rtol=EXACT)


def test_churn_leaves_the_law_alone():
    # With exact denoisers and S_noise = 1 added noise is taken out again: variance of the data.
    n = 40_000
    denoiser, times = Gaussian(0.0, 0.25, edm()), edm_times(edm(), 128)
    noise = np.random.default_rng(2).normal(size=(n, 1))
    samples = heun(denoiser, noise, times=times, churn=Churn(40.0, 0.01, 50.0), key=jax.random.key(3))
    # Five standard errors beside the solver's own 1e-3: false alarm 6e-7.
    assert float(samples.var()) == pytest.approx(0.25, rel=5 * np.sqrt(2 / n) + 2e-3)
    still = heun(denoiser, noise, times=times)
    assert float(jnp.corrcoef(samples[:, 0], still[:, 0])[0, 1]) < 0.9
    assert float(jnp.corrcoef(samples[:, 0], still[:, 0])[0, 1]) > -0.1


@pytest.mark.parametrize("sampler", [heun, ancestral])
def test_guidance_is_that_of_one_extrapolated_denoiser(sampler):
    # D_w of two Gaussians of one variance is the denoiser of a Gaussian with the extrapolated mean.
    noise, times = np.random.default_rng(4).normal(size=(5, 2)), edm_times(vp(), 10)
    one, zero, extrapolated = (Gaussian(mean, 0.3, vp()) for mean in (1.0, 0.0, 2.5))
    options = {"times": times} | ({"key": jax.random.key(5)} if sampler is ancestral else {})
    guided = sampler(one, noise, guide=zero, guidance_scale=2.5, **options)
    np.testing.assert_allclose(guided, sampler(extrapolated, noise, **options), rtol=EXACT)
    same = sampler(one, noise, guide=zero, guidance_scale=lambda level: np.ones_like(level), **options)
    np.testing.assert_allclose(same, sampler(one, noise, **options), rtol=EXACT)


def test_a_denoiser_s_own_unconditional_guides():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Paired(Gaussian):
        unconditional: Gaussian

    noise, zero = jnp.ones((1, 1)), Gaussian(0.0, 0.3, edm())
    options = {"times": edm_times(edm(), 4), "guidance_scale": 2.0}
    paired = heun(Paired(1.0, 0.3, edm(), zero), noise, **options)
    np.testing.assert_array_equal(paired, heun(Gaussian(1.0, 0.3, edm()), noise, guide=zero, **options))


def test_guidance_may_depend_on_the_level():
    noise, times = jnp.ones((1, 1)), edm_times(edm(), 10)
    zero, one = Gaussian(0.0, 0.3, edm()), Gaussian(1.0, 0.3, edm())
    early = heun(one, noise, times=times, guide=zero, guidance_scale=lambda level: 1 + 2 * (level > 1))
    plain, full = (heun(one, noise, times=times, guide=zero, guidance_scale=w) for w in (1, 3))
    assert float(plain[0, 0]) < float(early[0, 0]) < float(full[0, 0])


def test_conditions_reach_the_denoiser():
    noise, times = jnp.zeros((2, 1)), edm_times(edm(), 6)
    samples = heun(Gaussian(0.0, 0.0, edm()), noise, np.array([[1.0], [3.0]]), times=times)
    np.testing.assert_allclose(samples, [[1.0], [3.0]], rtol=EXACT)


def test_a_denoiser_that_is_no_pytree():
    class Plain:
        process = edm()

        def denoise(self, x, t, condition=None):
            return jnp.full_like(x, 0.5)

    np.testing.assert_array_equal(
        heun(Plain(), jnp.ones((2, 3)), times=edm_times(edm(), 4)), np.full((2, 3), 0.5)
    )


def test_jitted_once_a_shape():
    traces = []

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Counting(Gaussian):
        def denoise(self, x, t, condition=None):
            traces.append(x.shape)
            return super().denoise(x, t, condition)

    for var in (0.3, 0.4):
        for shape in ((2, 3), (4, 3)):
            heun(Counting(0.0, var, edm()), jnp.ones(shape), times=edm_times(edm(), 5))
    assert sorted(traces) == [(2, 3), (4, 3)]


@pytest.mark.usefixtures("x32")
def test_grid_is_not_rounded_in_32_bits():
    noise, times = jnp.ones((1, 1), jnp.float32), edm_times(edm(), 16)
    single = heun(Gaussian(0.3, 0.25, edm()), noise, times=times)
    with jax.enable_x64(True):
        double = heun(Gaussian(0.3, 0.25, edm()), noise.astype(jnp.float64), times=times)
    assert single.dtype == jnp.float32
    assert float(single[0, 0]) == pytest.approx(float(double[0, 0]), rel=2e-6)


def test_half_precision_noise_is_widened():
    assert (
        heun(Gaussian(0.0, 0.3, edm()), jnp.ones((1, 2), jnp.bfloat16), times=[2.0, 1.0]).dtype == jnp.float32
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": [1.0, 2.0]}, "times must fall from noise to data"),
        ({"times": [[1.0]]}, r"times must have shape \(steps,\), got \(1, 1\)"),
        ({"times": []}, r"times must have shape \(steps,\), got \(0,\)"),
        ({"times": [1.2, 0.5]}, r"times must be in \[0, 1\], got 1.2"),
        ({"times": [1.0, 0.5]}, "times must have finite σ/α, got 1 first; start a little before it"),
        ({"guidance_scale": 2.0}, "guidance needs a denoiser of the unconditional law; pass guide="),
        ({"churn": Churn(10.0)}, "churn needs a key"),
    ],
)
def test_refused_runs(options, message):
    with pytest.raises(ValueError, match=message):
        heun(Gaussian(0.0, 1.0, flow()), jnp.ones((1, 1)), **{"times": [0.9, 0.5], **options})


DEVICES = 8
# Runs with and without devices to split over: samples by name. Read by the test and by a process of its own.
GAUSSIAN_RUNS = {
    "heun": lambda x, c: heun(
        Gaussian(0.0, 0.25, edm()), x, c, times=edm_times(edm(), 8), churn=Churn(4.0), key=jax.random.key(1)
    ),
    "ancestral": lambda x, c: ancestral(
        Gaussian(0.0, 0.25, edm()), x, c, times=edm_times(edm(), 8), key=jax.random.key(1)
    ),
}


def split_inputs():
    """Eight states and a condition of each; jax in its default 32 bits."""
    return np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3), jnp.arange(8.0)[:, None]


def network_runs():
    """Both samplers of the tiny network, guided by the other one; states and labels."""
    denoiser, guide = (
        from_tensors(load_file(DATA / f"{name}.safetensors")) for name in ("tiny", "tiny-uncond")
    )
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 4)).astype(np.float32)
    options = {"times": edm_times(edm(), 3), "guide": guide, "guidance_scale": 2.0}
    label = np.arange(8)
    yield "heun", lambda: heun(denoiser, x, label, **options)
    yield "ancestral", lambda: ancestral(denoiser, x, label, key=jax.random.key(2), **options)


ON_DEVICES = """
import sys
import jax, numpy as np
from tests.neural import test_samplers as here
assert len(jax.devices()) == here.DEVICES

def check(samples, rows):
    assert len(samples.sharding.device_set) == rows, samples.sharding
    assert {shard.data.shape[0] for shard in samples.addressable_shards} == {len(samples) // rows}
    return np.asarray(samples)

found = {}
if sys.argv[2] == "network":
    for name, run in here.network_runs():
        found[name] = check(run(), 8)
else:
    x, c = here.split_inputs()
    for name, run in here.GAUSSIAN_RUNS.items():
        found[name] = check(run(x, c), 8)
    for rows, devices in ((6, 2), (3, 1)):
        check(here.GAUSSIAN_RUNS["heun"](x[:rows], c[:rows]), devices)
np.savez(sys.argv[1], **found)
"""


def on_devices(path, what):
    """Samples of a process with eight devices, which a CPU can be told to have."""
    root = Path(__file__).parents[2]
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", ON_DEVICES, str(path), what]
    subprocess.run(command, check=True, env=os.environ | flags, cwd=root, timeout=300)
    return np.load(path)


def test_batch_is_split_over_devices(tmp_path):
    split = on_devices(tmp_path / "samples.npz", "gaussian")
    with jax.enable_x64(False):
        for name, run in GAUSSIAN_RUNS.items():
            # The same numbers as on one device, to float32 rounding.
            np.testing.assert_allclose(split[name], run(*split_inputs()), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_networks_are_split_over_devices(tmp_path):
    split = on_devices(tmp_path / "samples.npz", "network")
    with jax.enable_x64(False):
        for name, run in network_runs():
            assert error(split[name], run()) < FLOAT32


# Guidance schedules.


def pair_denoiser():
    return mixture_denoiser(families.pair(2, separation=1.5), edm())


@pytest.fixture(scope="module")
def sampled():
    """Samples of the pair's first class under a schedule, by either sampler."""
    pair, noise = pair_denoiser(), jax.random.normal(jax.random.key(3), (64, 2))
    times = edm_times(edm(), 12)

    def run(schedule, method=ancestral):
        extra = {"key": jax.random.key(4)} if method is ancestral else {}
        return np.asarray(method(pair, noise, 0, times=times, guide=pair, guidance_scale=schedule, **extra))

    return run


@pytest.mark.parametrize("method", [heun, ancestral])
def test_schedules_are_functions_of_the_level(sampled, method):
    plain = sampled(1.0, method)
    assert np.array_equal(sampled(gmm.unguided(), method), plain)
    # Through the guided program too: no level of the grid is that high.
    np.testing.assert_array_equal(sampled(gmm.limited_interval(3, 90, 99), method), plain)
    np.testing.assert_array_equal(sampled(gmm.cfg(3), method), sampled(3.0, method))
    by_function = sampled(lambda level: np.where((level > 0.5) & (level <= 5), 3.0, 1.0), method)
    np.testing.assert_array_equal(sampled(gmm.limited_interval(3, 0.5, 5), method), by_function)
    same = sampled(gmm.power_law(2.0, 0.0), method)
    np.testing.assert_allclose(same, sampled(3.0, method), atol=EXACT)


def test_a_frozen_tracker_is_constant_guidance(sampled):
    np.testing.assert_allclose(sampled(gmm.feedback(0.25, temperature=1e-12)), sampled(gmm.cfg(4)), atol=1e-9)
    moved = np.abs(sampled(gmm.feedback(0.25)) - sampled(gmm.cfg(4))).max()
    assert moved > 0.01


def test_what_a_step_tells_is_the_ratio_of_its_kernels():
    rng = np.random.default_rng(5)
    x, noise, denoised, reference = rng.normal(size=(4, 6, 3))
    table = _chain_table(vp(), np.array([1.0, 0.4]), 1.0)
    row = jax.tree.map(lambda a: a[0], table)
    after = row.state * x + row.clean * (reference + 2 * (denoised - reference)) + row.deviation * noise
    law = [norm(row.state * x + row.clean * d, row.deviation) for d in (denoised, reference)]
    expected = (law[0].logpdf(after) - law[1].logpdf(after)).sum(axis=1)
    found = _gained(row, after - row.state * x, denoised, reference)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_autoguidance_calls_the_guide_with_the_condition():
    good, bad = Gaussian(0.0, 1.0, edm()), Gaussian(0.0, 4.0, edm())
    noise, condition = jax.random.normal(jax.random.key(0), (8, 1)), jnp.ones((8, 1))
    options = {"times": edm_times(edm(), 8), "key": jax.random.key(1)}
    auto = ancestral(good, noise, condition, guide=bad, guidance_scale=gmm.autoguidance(2), **options)
    shifted = dataclasses.replace(bad, mean=bad.mean + 1)
    same = ancestral(good, noise, condition, guide=shifted, guidance_scale=gmm.cfg(2), **options)
    np.testing.assert_allclose(auto, same, atol=EXACT)


def test_schedules_that_a_sampler_cannot_follow_are_refused():
    pair, noise = pair_denoiser(), jnp.zeros((2, 2))
    with pytest.raises(ValueError, match="likelihood ratio"):
        heun(pair, noise, 0, guide=pair, guidance_scale=gmm.feedback())
    with pytest.raises(ValueError, match="second, worse network"):
        heun(pair, noise, 0, guidance_scale=gmm.autoguidance(2))
    with pytest.raises(ValueError, match="unconditional law"):
        ancestral(Gaussian(0.0, 1.0, edm()), noise, guidance_scale=gmm.feedback(), key=jax.random.key(0))


# diffusers' schedulers, step by step; data/sd15/golden.npz is made by stable_diffusion/make_golden.py.


@dataclasses.dataclass(frozen=True)
class Rule:
    """The denoiser behind the golden paths: a noise prediction that any language can write down."""

    process: Process

    def denoise(self, x, t, condition=None):
        # The schedulers hand on whole steps; the last one is predicted at the step itself.
        noise = tiny.predicted_noise(x, t)
        return (x - self.process.sigma(t) * noise) / self.process.alpha(t)


jax.tree_util.register_dataclass(Rule, data_fields=["process"], meta_fields=[])


@pytest.fixture(scope="module")
def schedulers():
    with np.load(DATA.parent / "sd15" / "golden.npz") as file:
        return {key: file[key] for key in file.files if key.startswith("dd")}


@pytest.mark.parametrize(
    ("name", "eta", "end", "offset"),
    [("ddim", 0.0, 0.0, 1), ("ddim-eta", 1.0, 0.0, 1), ("ddpm", 1.0, None, 0)],
)
def test_steps_of_diffusers_schedulers(schedulers, name, eta, end, offset):
    process = ddpm(scaled_linear_betas())
    times = ddim_times(process, tiny.STEPS, offset=offset)
    np.testing.assert_array_equal(times, schedulers[f"{name}/timesteps"])
    table = _chain_table(process, times, 1.0, eta, end)
    draws = jnp.asarray(np.stack([tiny.noise(f"draw{i}", (2, 4, 4, 4)) for i in range(tiny.STEPS)]), float)
    draw = Partial(lambda draws, index, like: draws[index], draws)
    path = schedulers[f"{name}/path"]
    x = jnp.asarray(path[0])
    for step in range(tiny.STEPS):
        part = jax.tree.map(lambda a, step=step: a[step : step + 1], table)
        model = _model(Rule(process), None, None, 1.0)
        x, _ = _chain(model, (x, jnp.zeros(2)), part, np.array([step]), draw)
        assert error(x, path[step + 1]) < SCHEDULER


def test_ddim_with_all_the_noise_is_ancestral():
    process, key = vp(), jax.random.key(3)
    gaussian = Gaussian(0.3, 0.5, process)
    noise = jax.random.normal(jax.random.key(4), (8, 2), float)
    times = edm_times(process, 6)
    one = ddim(gaussian, noise, times=times, eta=1.0, key=jax.random.clone(key))
    np.testing.assert_allclose(one, ancestral(gaussian, noise, times=times, key=key), rtol=EXACT)


def test_ddim_without_noise_converges_to_the_flow():
    """First order: a quarter of the error with four times the steps; the flow maps noise z to mean + √var z."""
    process = edm()
    gaussian, noise = Gaussian(0.3, 0.5, process), jnp.array([[-1.0], [0.5], [2.0]])
    # Samples start at σ_T z, the flow's own quantile is √(σ_T² + var) z.
    exact = 0.3 + np.sqrt(0.5) * 80 * noise / np.sqrt(80**2 + 0.5)
    errors = [
        np.abs(ddim(gaussian, noise, times=edm_times(process, steps)) - exact).max() for steps in (64, 256)
    ]
    assert 3 < errors[0] / errors[1] < 5


def test_a_progress_callback_changes_no_number():
    process, seen = vp(), []
    gaussian, noise = Gaussian(0.3, 0.5, process), jnp.ones((2, 3))
    times = edm_times(process, 4)
    for sampler, key in ((ancestral, 1), (heun, 2), (ddim, 3)):
        options = {"key": jax.random.key(key)} if sampler is ancestral else {}
        again = {"key": jax.random.key(key)} if sampler is ancestral else {}
        alone = sampler(gaussian, noise, times=times, **options)
        seen.clear()
        reported = sampler(gaussian, noise, times=times, progress=lambda *done: seen.append(done), **again)
        np.testing.assert_allclose(reported, alone, rtol=EXACT)
        evaluations = 7 if sampler is heun else 4
        assert seen == [(done, evaluations) for done in range(1, evaluations + 1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 1.5}, r"eta must be in 0..1, got 1.5"),
        ({"eta": 0.5}, "eta needs a key"),
        ({"end": 900.0}, "end must lie in"),
        ({"guidance_scale": 2.0}, "guidance needs"),
    ],
)
def test_ddim_names_what_is_wrong(options, message):
    process = ddpm(scaled_linear_betas())
    with pytest.raises(ValueError, match=message):
        ddim(Gaussian(0.0, 1.0, process), jnp.ones((2, 1)), times=[500.0, 100.0], **options)


def test_ddim_times_stay_within_the_process():
    process = ddpm(scaled_linear_betas())
    with pytest.raises(ValueError, match=r"steps must be in 1..1000, got 1001"):
        ddim_times(process, 1001)
    with pytest.raises(ValueError, match=r"offset must keep the times in 0..999, got 1"):
        ddim_times(process, 1000)
