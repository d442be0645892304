"""Checks of wrapped networks: right wrappers pass, and each wrong one fails with its slip named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
from neural import NetworkWarning, check_denoiser, from_function, load_model, mixture_denoiser, online_entropy

MIXTURE = gmm.families.simplex(4, 8, separation=3.0)
PROCESS = gmm.ddpm(gmm.scaled_linear_betas())


def exact(x, t, condition):
    return gmm.denoise(MIXTURE, PROCESS, x, t, condition)


def wrapped(function, process=PROCESS, **more):
    return from_function(function, process, range(4), (8,), **more)


def noise_of(x, t, condition):
    """The exact prediction of ε, as a network would make it."""
    return (x - PROCESS.alpha(t) * exact(x, t, condition)) / PROCESS.sigma(t)


def diagnosis(check):
    return next(row.meaning for row in check.rows if row.name == "diagnosis")


@pytest.mark.parametrize(
    "model",
    [
        mixture_denoiser(MIXTURE, gmm.edm()),
        mixture_denoiser(MIXTURE, gmm.vp()),
        mixture_denoiser(gmm.families.pair(2, separation=3.0), gmm.flow()),
        wrapped(noise_of, prediction="eps"),
    ],
)
def test_exact_denoisers_pass(model):
    check = check_denoiser(model)
    assert check.ok, str(check)
    assert {row.verdict for row in check.rows} == {"ok"}


@pytest.mark.parametrize("name", ["zoo:tree", "zoo:digits", "mixture:tree:2x2:16:vp"])
def test_networks_of_the_project_pass(name):
    check = check_denoiser(load_model(name))
    assert check.ok, str(check)


def slips():
    alpha, sigma = PROCESS.alpha, PROCESS.sigma
    eps = noise_of
    return {
        'predicts "eps"': wrapped(eps),
        "the noise has the wrong sign": wrapped(lambda x, t, c: (x + sigma(t) * eps(x, t, c)) / alpha(t)),
        "the division by α is missing": wrapped(lambda x, t, c: x - sigma(t) * eps(x, t, c)),
        "σ² stands where σ belongs": wrapped(lambda x, t, c: (x - sigma(t) ** 2 * eps(x, t, c)) / alpha(t)),
        "returns the score": wrapped(lambda x, t, c: -eps(x, t, c) / sigma(t)),
        'has the wrong sign for prediction="v"': wrapped(
            lambda x, t, c: sigma(t) * exact(x, t, c) - alpha(t) * eps(x, t, c), prediction="v"
        ),
        "other units: pass time=lambda t: 0.001": wrapped(
            lambda x, t, c: eps(x, jnp.minimum(1000 * t, 999.0), c), prediction="eps"
        ),
    }


# These models are consistent with their own samples, which are those of another law: only data show the slip.
NEED_DATA = (
    "the division by α is missing",
    "σ² stands where σ belongs",
    'has the wrong sign for prediction="v"',
    "other units: pass time=lambda t: 0.001",
)


@pytest.mark.parametrize("slip", slips())
def test_the_slip_is_named(slip):
    x0, labels = map(np.asarray, gmm.sample(MIXTURE, jax.random.key(3), 64))
    check = check_denoiser(slips()[slip], *((x0, labels) if slip in NEED_DATA else ()))
    assert not check.ok
    assert slip in diagnosis(check), str(check)


def test_data_in_other_units_are_named():
    x0, labels = map(np.asarray, gmm.sample(MIXTURE, jax.random.key(4), 200))
    model = mixture_denoiser(MIXTURE, gmm.edm())
    assert check_denoiser(model, x0, labels).ok
    check = check_denoiser(model, x0 / 2, labels)
    row = next(row for row in check.rows if row.name == "data: scale")
    assert row.verdict == "fail"
    assert "0..1 where the model takes -1..1" in row.meaning
    assert "rescale x0" in diagnosis(check)


def test_bad_arguments_are_named():
    model = mixture_denoiser(MIXTURE, gmm.edm())
    x0 = np.zeros((8, 8))
    with pytest.raises(ValueError, match=r"x0 must have shape \(m, 8\)"):
        check_denoiser(model, np.zeros((8, 4)), np.arange(8) % 4)
    with pytest.raises(ValueError, match=r"y must have shape \(8,\), one condition per point"):
        check_denoiser(model, x0, np.zeros(3, int))
    with pytest.raises(ValueError, match="y must hold the condition of each point"):
        check_denoiser(model, x0)
    with pytest.raises(ValueError, match="two points or more of each of the conditions"):
        check_denoiser(model, x0, np.zeros(8, int))
    with pytest.raises(ValueError, match="samples must be >= 8"):
        check_denoiser(model, samples=2)


# ------------------------------------------------------------------------------------------- networks of torch


def networks():
    pytest.importorskip("torch")
    from neural import from_torch
    from tests.neural import torch_digits as digits

    call = {"conditions": range(10), "state_shape": (64,), "null": digits.NULL}
    eps, flow = digits.trained("eps"), digits.trained("flow")
    chain = {**call, "time": lambda t: t / 1000}
    return {
        "eps": from_torch(eps, digits.process("eps"), prediction="eps", **chain),
        "eps, clipped": from_torch(eps, digits.process("eps"), prediction="eps", data_range=(-1, 1), **chain),
        "eps as x0": from_torch(eps, digits.process("eps"), prediction="x0", **chain),
        "eps as v": from_torch(eps, digits.process("eps"), prediction="v", **chain),
        "flow": from_torch(flow, gmm.flow(), prediction="velocity", **call),
        "flow, wrong sign": from_torch(lambda *a: -flow(*a), gmm.flow(), prediction="velocity", **call),
    }


@pytest.mark.torch
@pytest.mark.slow
def test_trained_networks_right_and_wrong():
    models = networks()
    for name in ("eps, clipped", "flow"):
        check = check_denoiser(models[name])
        assert check.ok, f"{name}\n{check}"
    wanted = {
        "eps": "range of the data as data_range",
        "eps as x0": 'pass prediction="eps"',
        "eps as v": 'pass prediction="eps"',
        "flow, wrong sign": 'wrong sign for prediction="velocity"',
    }
    for name, advice in wanted.items():
        check = check_denoiser(models[name])
        assert not check.ok, f"{name}\n{check}"
        assert advice in diagnosis(check), f"{name}\n{check}"
        # A right conversion that only multiplies the network's error is not taken for another one.
        assert diagnosis(check).startswith("the conversion multiplies") == (name == "eps"), f"{name}\n{check}"


@pytest.mark.torch
@pytest.mark.slow
def test_trained_networks_on_their_data():
    pytest.importorskip("torch")
    from tests.neural import torch_digits as digits

    x0, labels = digits.digits()
    models = networks()
    check = check_denoiser(models["flow"], x0, labels)
    assert check.ok, str(check)
    assert not check_denoiser(models["flow"], (x0 + 1) / 2, labels).ok


@pytest.mark.torch
def test_the_first_call_warns_once():
    model = networks()["flow, wrong sign"]
    call = {"key": jax.random.key(0), "samples": 8, "steps": 6}
    with pytest.warns(NetworkWarning, match="does not act like a posterior mean: at σ/α = 0.02"):
        online_entropy(model, [3, 8], **call)
    online_entropy(model, [3, 8], **call)
