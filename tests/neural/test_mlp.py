"""The MLP denoiser: its affine head against exact denoisers, its file, its refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
from neural import CheckpointError, mlp
from neural.checkpoints import write_safetensors
from neural.mlp import MLP, Config, load_mlp, tensor_shapes

CONFIG = Config(4, 3, width=8, depth=1, emb_channels=6, sigma_data=0.7, sigma_min=0.01, sigma_max=50.0)


@pytest.fixture(scope="module")
def network():
    weights = mlp.initial(jax.random.key(0), CONFIG)
    keys = jax.random.split(jax.random.key(1), len(weights))
    noise = {n: 0.3 * jax.random.normal(k, w.shape) for k, (n, w) in zip(keys, weights.items(), strict=True)}
    return MLP({name: weights[name] + noise[name] for name in weights}, CONFIG)


def test_the_affine_head_alone_is_exact_for_one_gaussian_a_class():
    config = dataclasses.replace(CONFIG, depth=0)
    means = np.random.default_rng(0).normal(size=(3, 4))
    mixture = gmm.Mixture([0.2, 0.3, 0.5], means, gmm.Isotropic(0.7**2))
    # F = sinθ μ/s: nothing of x is left, since s is the deviation within a class.
    shift = jnp.zeros(tensor_shapes(config)["affine.shift"]).at[:3, 2].set(means / 0.7)
    exact = MLP({"affine.gate": jnp.zeros(10), "affine.shift": shift}, config)
    x = np.random.default_rng(1).normal(size=(6, 4)) * 3
    label = jnp.array([0, 1, 2, 0, 1, 2])
    for sigma in (1e-3, 0.5, 40.0):
        best = gmm.denoise(mixture, gmm.edm(), x, sigma, label)
        np.testing.assert_allclose(exact.denoise(x, sigma, label), best, rtol=1e-12, atol=1e-12)


def test_a_fresh_network_is_the_preconditioning_alone():
    weights = mlp.initial(jax.random.key(0), CONFIG)
    x = np.ones((2, 4))
    expected = x * 0.7**2 / (0.7**2 + 9.0)
    np.testing.assert_allclose(MLP(weights, CONFIG).denoise(x, 3.0, 1), expected, rtol=1e-12)


def test_all_classes_at_once_are_those_one_by_one(network):
    x, t = np.random.default_rng(2).normal(size=(5, 4)), np.linspace(0.1, 9.0, 5)
    found = network.denoise_classes(x, t, [2, -1, 0])
    assert found.shape == (5, 3, 4)
    for column, label in enumerate((2, -1, 0)):
        np.testing.assert_allclose(found[:, column], network.denoise(x, t, label), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(network.denoise(x, t), network.denoise(x, t, -1))
    assert network.unconditional is network
    assert network.conditions == (0, 1, 2)
    assert network.state_shape == (4,)


def test_noise_beyond_the_trained_range_stays_finite_and_is_told_as_the_end(network):
    x = np.ones((2, 4))
    for sigma in (1e-8, 1e8):
        assert np.isfinite(network.denoise(x, sigma, 0)).all()
    tiny = network.denoise(x, 1e-8, 0)
    np.testing.assert_allclose(tiny, x, atol=1e-6)


def test_a_file_gives_the_network_back(network, tmp_path):
    _write(tmp_path / "a.safetensors", network)
    loaded = load_mlp(tmp_path / "a.safetensors")
    assert loaded.config == CONFIG
    x = np.ones((2, 4), np.float32)
    # Weights are kept in float32.
    np.testing.assert_allclose(loaded.denoise(x, 2.0, 1), network.denoise(x, 2.0, 1), rtol=1e-5)


def _write(path, network, *, options=None, architecture=mlp.KIND, **changed):
    tensors = {n: np.asarray(w, np.float32) for n, w in network.weights.items()}
    tensors = {n: w for n, w in {**tensors, **changed}.items() if w is not None}
    config = dataclasses.asdict(network.config) if options is None else options
    write_safetensors(path, tensors, {"architecture": architecture, "init_kwargs": config})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": None}, r"1 tensor\(s\) missing: out"),
        ({"spare": np.zeros(2, np.float32)}, r"does not have: spare"),
        ({"out": np.zeros((8, 5), np.float32)}, r"out must have shape \(8, 4\), got \(8, 5\)"),
        ({"out": np.full((8, 4), np.nan, np.float32)}, "out must hold finite"),
        ({"out": np.zeros((8, 4), np.int32)}, "out must hold finite floating-point"),
        ({"options": {"dim": 4}}, "the options of the network must be"),
        ({"architecture": "edm2"}, "architecture must be 'mlp'"),
    ],
)
def test_files_that_hold_no_such_network(network, tmp_path, changes, message):
    _write(tmp_path / "bad.safetensors", network, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_mlp(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": 0}, "dim must be a whole number >= 1, got 0"),
        ({"depth": 1.5}, "depth must be a whole number"),
        ({"sigma_data": 0.0}, "sigma_data must be a positive number"),
        ({"sigma_min": 60.0}, "sigma_min must be below sigma_max"),
    ],
)
def test_sizes_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **fields)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 5)), 1.0, 0), r"x must have shape \(n, 4\), got \(2, 5\)"),
        ((np.ones((2, 4)), np.ones(3), 0), r"t must have shape \(\) or \(2,\)"),
        ((np.ones((2, 4)), 0.0, 0), "t must be a positive"),
        ((np.ones((2, 4)), 1.0, 3), r"condition must be a class index 0..2"),
        ((np.ones((2, 4)), 1.0, 0.5), "condition must be integers"),
        ((np.ones((2, 4)), 1.0, [0, 1, 2]), r"condition must have shape"),
    ],
)
def test_refusals(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        network.denoise(*arguments)
