"""Chunks, disks, devices, people's functions, and what is said about bad input."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
from gmm.estimate import CARRYING
from neural import (
    calibration,
    evaluations,
    from_function,
    gap_entropy,
    mixture_denoiser,
    online_entropy,
    posterior_paths,
)
from neural.estimators.curves import integration_error
from neural.estimators.runs import antiderivative

# The same sums in another order, float64.
ROUNDING = 1e-10
TIMES = np.geomspace(20.0, 0.5, 8)
MEANS = np.array([[4.0, 0.0], [-4.0, 1.0], [0.0, -4.0]])


@pytest.fixture(scope="module")
def denoiser():
    return mixture_denoiser(gmm.Mixture(np.full(3, 1 / 3), MEANS, gmm.Isotropic(1.0)), gmm.edm())


def numpy_denoise(x, t, condition):
    """The same classes in NumPy."""
    mean = MEANS[condition].reshape(-1, 2)
    return mean + (x - mean) / (1 + t**2)


@pytest.fixture(scope="module")
def calls():
    """States of every call of the host's function."""
    return []


@pytest.fixture(scope="module")
def host(calls):
    def function(x, t, condition):
        calls.append(len(x))
        return numpy_denoise(x, t, condition)

    return from_function(function, gmm.edm(), range(3), (2,), traceable=False)


def track(denoiser, conditions=range(3), samples=50, **more):
    return online_entropy(denoiser, conditions, key=jax.random.key(0), samples=samples, times=TIMES, **more)


FIELDS = (
    "entropy",
    "entropy_stderr",
    "rate",
    "rate_stderr",
    "per_cell",
    "surprise_variance",
    "clone_agreement",
)


def assert_same(a, b):
    for name in FIELDS:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=ROUNDING, err_msg=name)


def test_a_function_on_the_host_gives_the_same_curve(denoiser, host, calls):
    calls.clear()
    assert_same(track(host), track(denoiser))
    assert sum(calls) == evaluations(3, 50, 8)
    assert evaluations(1, 300, 64, tracker="unconditional", start="prior") == 300 * 64 * 2


def test_numbers_do_not_depend_on_chunks(denoiser):
    seen = []
    in_chunks = track(denoiser, batch=36, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 50), (12, 50), (24, 50), (36, 50), (48, 50), (50, 50)]
    assert_same(in_chunks, track(denoiser))


@pytest.mark.slow
def test_fewer_states_at_a_time_than_classes(denoiser):
    # One trajectory, its classes in several calls.
    assert_same(track(denoiser, samples=3, batch=2), track(denoiser, samples=3))


def test_interrupted_runs_go_on(tmp_path, host, calls):
    calls.clear()

    def stop(done, total):
        if done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        track(host, batch=12, folder=tmp_path, progress=stop)
    assert len(list(tmp_path.glob("*.part"))) == 2
    first = len(calls)
    resumed = track(host, batch=12, folder=tmp_path)
    assert len(calls) == first // 2 * 5  # five chunks, of which two were there
    assert_same(resumed, track(host, batch=12))
    # A damaged chunk is made again, and only that; another key has chunks of its own.
    sorted(tmp_path.glob("*.part"))[0].write_bytes(b"not a chunk")
    calls.clear()
    with pytest.warns(UserWarning, match="is damaged or of another version; it is computed again"):
        assert_same(track(host, batch=12, folder=tmp_path), resumed)
    assert len(calls) == first // 2
    online_entropy(host, range(3), key=jax.random.key(1), samples=50, times=TIMES, batch=12, folder=tmp_path)
    assert len(list(tmp_path.glob("*.part"))) == 10


WORK = """
import json
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import gmm
from neural import mixture_denoiser, online_entropy
means = np.array([[4.0, 0.0], [-4.0, 1.0], [0.0, -4.0]])
denoiser = mixture_denoiser(gmm.Mixture(np.full(3, 1 / 3), means, gmm.Isotropic(1.0)), gmm.edm())
curve = online_entropy(denoiser, range(3), key=jax.random.key(0), samples=50, times=np.geomspace(20.0, 0.5, 8))
print(json.dumps({"devices": jax.device_count(), "entropy": curve.entropy.tolist(), "rate": curve.rate.tolist()}))
"""


@pytest.mark.slow
def test_numbers_do_not_depend_on_devices(denoiser):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run(
        [sys.executable, "-c", WORK], env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["devices"] == 8
    curve = track(denoiser)
    np.testing.assert_allclose(found["entropy"], curve.entropy, atol=ROUNDING)
    np.testing.assert_allclose(found["rate"], curve.rate, atol=ROUNDING)


def test_paths_are_those_that_the_curve_averages(denoiser):
    curve = track(denoiser, prior=[0.2, 0.3, 0.5])
    paths = posterior_paths(
        denoiser, range(3), prior=[0.2, 0.3, 0.5], key=jax.random.key(0), samples=50, times=TIMES
    )
    entropy = -np.sum(np.exp(paths.log_posterior) * paths.log_posterior, axis=2)
    np.testing.assert_allclose(entropy.mean(axis=1), curve.entropy, atol=ROUNDING)
    # Of entropies that few of the paths carry the error is unknown.
    carrying = entropy.sum(axis=1) ** 2 / np.sum(entropy**2, axis=1)
    stderr = np.where(carrying >= CARRYING, entropy.std(axis=1, ddof=1) / np.sqrt(50), np.nan)
    np.testing.assert_allclose(stderr, curve.entropy_stderr, atol=ROUNDING)
    assert 2 < np.isfinite(stderr).sum() < len(TIMES)
    assert paths.log_ratio is None
    assert paths.states is None
    assert curve.prior_entropy == pytest.approx(-np.sum(np.array([0.2, 0.3, 0.5]) * np.log([0.2, 0.3, 0.5])))


def test_several_partitions_are_what_each_would_be(denoiser):
    coarse, fine = gmm.Partition([0, 1, 1]), gmm.Partition([2, 0, 1])
    both = track(denoiser, partition=[coarse, fine])
    assert_same(both[0], track(denoiser, partition=coarse))
    # Cells may be numbered in any order.
    np.testing.assert_allclose(both[1].per_cell, track(denoiser).per_cell[:, [1, 2, 0]], atol=ROUNDING)


@pytest.mark.slow
def test_conditions_outside_a_decision_are_as_if_they_were_not_there(denoiser):
    assert_same(track(denoiser, partition=gmm.Partition([0, -1, 1])), track(denoiser, conditions=[0, 2]))


def test_extreme_separation_in_single_precision(x32):
    pair = gmm.reduce(gmm.families.pair(10**6, reduced=True))
    curve = online_entropy(mixture_denoiser(pair, gmm.vp()), [0, 1], key=jax.random.key(0), samples=64, steps=32,
                           times=gmm.time_grid(gmm.vp(), 12.0, 1e-3, 31))  # fmt: skip
    assert all(np.isfinite(getattr(curve, name)).all() for name in FIELDS if not name.endswith("stderr"))
    # Where all trajectories are decided the sample does not tell how many would not be.
    known = np.isfinite(curve.entropy_stderr)
    assert known[0]
    assert not known[curve.entropy < 1e-3].any()
    assert np.isfinite(curve.rate_stderr[0])
    assert curve.entropy[0] == pytest.approx(np.log(2), abs=1e-4)
    assert curve.entropy[-1] < 1e-30


def test_antiderivative_is_exact_for_cubics():
    x = np.sort(np.random.default_rng(0).uniform(size=9))
    cubic = np.polynomial.Polynomial([1.0, -2.0, 0.5, 3.0])
    wanted = cubic.integ()(x) - cubic.integ()(x[0])
    np.testing.assert_allclose(antiderivative(x) @ cubic(x), wanted, atol=1e-13)
    # Fourth order: the stated factor of 16 between the estimate and the error.
    x = np.linspace(-4, 4, 33)
    error = np.abs(antiderivative(x) @ np.exp(-(x**2)) - [np.trapezoid(np.exp(-(u**2)), u) for u in
                   (np.linspace(-4, b, 20001) for b in x)]).max()  # fmt: skip
    assert 4 * error < integration_error(x, np.exp(-(x**2))) < 100 * error


# ------------------------------------------------------------------------------------------------- bad input


def test_non_finite_predictions_stop_and_say_where():
    bad = from_function(lambda x, t, c: jnp.where(t < 5, jnp.nan, x), gmm.edm(), [0, 1], (2,))
    step = int(np.argmax(TIMES < 5)) + 1
    with pytest.raises(ValueError, match=rf"not finite at step {step} of 8 \(t = "):
        track(bad, conditions=[0, 1])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"eta": 0.0}, "eta must be 1 .* on a deterministic path the posterior is certain"),
        ({"tracker": "softmax"}, "tracker must be one of classes, unconditional, share; got 'softmax'"),
        ({"drive": "noise"}, "drive must be one of"),
        ({"start": "zero"}, "start must be one of state, prior"),
        ({"conditions": [0, 7]}, "among the denoiser's 3 conditions, got 7"),
        ({"conditions": []}, "at least one condition"),
        ({"conditions": [1]}, "at least two cells"),
        ({"prior": [0.5, 0.5]}, r"prior must have shape \(3,\)"),
        ({"prior": [0.5, 0.5, 0.5]}, "prior must sum to one, got 1.5"),
        ({"prior": [0.5, 0.5, 0.0]}, "prior must be positive, got 0"),
        ({"partition": gmm.Partition([0, 1])}, "partition must have one label for each of the 3 conditions"),
        (
            {"partition": [gmm.Partition([0, 1, -1]), gmm.Partition([0, 1, 1])]},
            "leave out the same conditions",
        ),
        ({"partition": []}, "empty list"),
        ({"samples": 1}, "samples must be >= 2, got 1"),
        ({"samples": 64.0}, "samples must be a whole number >= 2, got 64.0"),
        ({"steps": 8.0, "times": None}, "steps must be a whole number >= 2, got 8.0"),
        ({"batch": 4.0}, "batch must be a whole number >= 1, got 4.0"),
        ({"batch": 0}, "batch must be >= 1"),
        ({"within_variance": -1.0}, "within_variance must be finite and >= 0"),
        ({"guidance": 2.0, "drive": "mixture"}, 'drive must be "class"'),
        ({"initial": np.zeros((50, 2))}, "initial needs drive="),
        ({"drive": "unconditional", "initial": np.zeros((4, 2))}, r"initial must have shape \(50, 2\)"),
        ({"tracker": "share", "shares": 1.5}, r"shares must be in \(0, 1\]"),
        ({"times": TIMES[::-1]}, "times must fall"),
        ({"times": [1.0, 0.0]}, "times must be in the range of edm"),
    ],
)
def test_bad_arguments_are_named(denoiser, more, message):
    call = {"conditions": range(3), "samples": 50, "times": TIMES} | more
    with pytest.raises(ValueError, match=message):
        online_entropy(denoiser, key=jax.random.key(0), **call)


def test_missing_parts_are_named(denoiser, host):
    with pytest.raises(ValueError, match="FunctionDenoiser has no `unconditional`; pass guide="):
        track(host, tracker="unconditional")
    with pytest.raises(TypeError, match="unexpected keyword argument 'stepz'"):
        track(denoiser, stepz=3)
    with pytest.raises(ValueError, match="key must be a JAX random key"):
        online_entropy(denoiser, range(3), key=0, samples=4, times=TIMES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((np.zeros((4, 3)), np.zeros(4, int)), r"data must have shape \(n, 2\), got \(4, 3\)"),
        ((np.zeros((4, 2)), np.zeros(3, int)), r"data labels must have shape \(4,\)"),
        ((np.zeros((4, 2)), np.zeros(4)), "data labels must be integers"),
        ((np.zeros((4, 2)), np.array([0, 1, 2, 3])), r"data labels must be -1..2, .* got 3"),
        ((np.zeros((4, 2)), np.array([0, 1, 1, 0])), "got none labelled 2"),
        ((np.full((4, 2), np.nan), np.array([0, 1, 2, 0])), "data must be finite"),
    ],
)
def test_bad_data_are_named(denoiser, data, message):
    for estimator in (lambda **k: gap_entropy(denoiser, range(3), data=data, **k),
                      lambda **k: calibration(denoiser, range(3), data, **k)):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            estimator(key=jax.random.key(0), samples=4, times=TIMES)


def test_each_point_serves_one_path_unless_more_are_asked_for(denoiser):
    x, labels = gmm.sample(denoiser.mixture, jax.random.key(3), 60)
    labels = np.where(np.arange(60) < 5, -1, labels)
    curve = gap_entropy(denoiser, range(3), data=(x, labels), key=jax.random.key(4), times=TIMES)
    assert curve.metadata["data_points"] == 55
    assert curve.metadata["paths_a_point"] == 1
    assert 30 < curve.metadata["samples"] <= 55
    assert curve.cross_entropy is not None


def test_labels_may_be_conditions_or_their_positions(denoiser):
    x, y = (np.asarray(part) for part in gmm.sample(denoiser.mixture, jax.random.key(5), 120))
    call = {"key": jax.random.key(6), "samples": 20, "times": TIMES}
    positions = gap_entropy(
        denoiser, [2, 0], data=(x, np.select([y == 2, y == 0], [0, 1], -1)), **call, labels="positions"
    )
    own = gap_entropy(denoiser, [2, 0], data=(x, y), **call, labels="conditions")
    np.testing.assert_array_equal(own.entropy, positions.entropy)
    assert (own.metadata["labels"], positions.metadata["labels"]) == ("conditions", "positions")
    # Of labels 0, 1 and 2, two positions cannot name the last: they are conditions, and class 1 is left out.
    both = gap_entropy(denoiser, [0, 2], data=(x, y), **call)
    assert both.metadata["labels"] == "conditions"
    with pytest.raises(
        ValueError, match='could be conditions or their positions in the list: pass labels="conditions"'
    ):
        gap_entropy(denoiser, [1, 0], data=(x[y < 2], y[y < 2]), **call)
    with pytest.raises(ValueError, match="labels must be one of positions, conditions"):
        gap_entropy(denoiser, [1, 0], data=(x, y), labels="names", **call)
