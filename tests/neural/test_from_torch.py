"""PyTorch networks as denoisers: every prediction gives the exact curve, whatever the network predicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
from neural import check_denoiser, from_function, from_torch, mixture_denoiser, online_entropy
from neural.predictions import PREDICTIONS

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

# The predictions are converted there and back in float32, at σ/α up to 20.
SINGLE = 1e-5
# On a curve the errors of eight steps add up.
CURVE = 2e-5
MEANS = np.array([[2.0, 0.0, 1.0], [-2.0, 1.0, 0.0], [0.0, -2.0, -1.0]])
NULL = 3
SIGMA_DATA = 0.5
LEVELS = np.geomspace(20.0, 0.1, 8)


class Exact(torch.nn.Module):
    """The exact network of three isotropic classes in float64: E[x_0 | x_t], converted by hand to a prediction."""

    def __init__(self, process, prediction):
        super().__init__()
        self.means = torch.nn.Parameter(torch.tensor(np.concatenate([MEANS, [MEANS.mean(0)]])))
        self.process, self.prediction, self.calls = process, prediction, []

    def forward(self, x, t, label):
        assert not torch.is_grad_enabled()
        assert label.dtype == torch.long
        assert t.dtype == x.dtype
        self.calls.append(len(x))
        alpha, sigma, dalpha, dsigma = (torch.tensor(v)[:, None] for v in scales(self.process, t.numpy()))
        mean = self.means[label]
        d = mean + alpha / (alpha**2 + sigma**2) * (x - alpha * mean)
        eps = (x - alpha * d) / sigma
        level = sigma / alpha
        skip = SIGMA_DATA**2 / (level**2 + SIGMA_DATA**2)
        out = level * SIGMA_DATA / torch.sqrt(level**2 + SIGMA_DATA**2)
        return {
            "x0": d,
            "eps": eps,
            "v": alpha * eps - sigma * d,
            "velocity": dalpha * d + dsigma * eps,
            "F": (d - skip * x / alpha) / out,
        }[self.prediction]


def scales(process, t):
    """α, σ and their slopes in float64 at t (n,), from formulas written here; a slope of ddpm by differences."""
    if process.name == "flow":
        return 1 - t, t, -np.ones_like(t), np.ones_like(t)
    if process.name == "edm":
        return np.ones_like(t), t, np.zeros_like(t), np.ones_like(t)
    table = np.asarray(process.log_snr_table, np.float64)

    def both(at):
        snr = np.interp(at, np.arange(len(table)), table)
        return np.sqrt(1 / (1 + np.exp(-snr))), np.sqrt(1 / (1 + np.exp(snr)))

    # log_snr is linear between whole times: one-sided differences stay within an interval.
    h = 1e-4
    (a, s), (a2, s2) = both(t), both(t + h)
    return a, s, (a2 - a) / h, (s2 - s) / h


PROCESSES = {"edm": gmm.edm(), "flow": gmm.flow(), "ddpm": gmm.ddpm(gmm.scaled_linear_betas())}


def wrapped(process, prediction, **more):
    call = {"conditions": range(3), "state_shape": (3,), "null": NULL} | more
    return from_torch(Exact(process, prediction).eval(), process, prediction=prediction, **call)


def states(process, n=5):
    t = jnp.asarray(process.time_at_log_snr(-2 * jnp.log(1.7)))
    x = jax.random.normal(jax.random.key(0), (n, 3))
    return x.astype(float), t


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_five_predictions_are_one_denoiser(process, prediction):
    model, (x, t) = wrapped(process, prediction), states(process)
    exact = mixture_denoiser(gmm.Mixture(np.full(3, 1 / 3), MEANS, gmm.Isotropic(1.0)), process)
    order = jnp.array([2, 0])
    found, wanted = model.denoise_classes(x, t, order), exact.denoise_classes(x, t, order)
    np.testing.assert_allclose(found, wanted, atol=SINGLE)
    labels = jnp.array([0, 1, 2, 1, 0])
    # A time for each state gives the same as one time for all.
    np.testing.assert_allclose(
        model.denoise(x, jnp.full(5, t), labels), model.denoise(x, t, labels), atol=SINGLE
    )
    one = Exact(process, "x0").eval()
    with torch.no_grad():
        null = one(
            torch.tensor(np.asarray(x, np.float64)),
            torch.full((5,), float(t), dtype=torch.float64),
            torch.full((5,), NULL),
        )
    np.testing.assert_allclose(model.unconditional.denoise(x, t, None), null, atol=SINGLE)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_same_curve_from_every_prediction(prediction):
    process = gmm.flow()
    times = np.asarray(process.time_at_log_snr(-2 * np.log(LEVELS)), float)
    call = {"key": jax.random.key(1), "samples": 32, "times": times}
    exact = mixture_denoiser(gmm.Mixture(np.full(3, 1 / 3), MEANS, gmm.Isotropic(1.0)), process)
    found = online_entropy(wrapped(process, prediction), range(3), **call)
    np.testing.assert_allclose(found.entropy, online_entropy(exact, range(3), **call).entropy, atol=CURVE)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_functions_take_the_same_predictions(prediction):
    process = gmm.flow()
    net = Exact(process, prediction).eval()

    def function(x, t, condition):
        with torch.no_grad():
            label = torch.tensor(np.broadcast_to(condition, len(x)).copy()).long()
            return net(torch.tensor(x).double(), torch.full((len(x),), float(t)).double(), label).numpy()

    model = from_function(function, process, range(3), (3,), traceable=False, prediction=prediction)
    x, t = states(process)
    np.testing.assert_allclose(model.denoise(x, t, 1), wrapped(process, "x0").denoise(x, t, 1), atol=SINGLE)


def test_rows_of_a_call_are_limited():
    net = Exact(gmm.edm(), "x0").eval()
    call = {"prediction": "x0", "conditions": range(3), "state_shape": (3,)}
    whole, parts = from_torch(net, gmm.edm(), **call), from_torch(net, gmm.edm(), batch=4, **call)
    x = states(gmm.edm())[0]
    wanted = whole.denoise_classes(x, 1.0, jnp.arange(3))
    net.calls.clear()
    np.testing.assert_allclose(parts.denoise_classes(x, 1.0, jnp.arange(3)), wanted, atol=SINGLE)
    assert max(net.calls) <= 4
    assert sum(net.calls) >= 15


def test_times_are_mapped_or_rounded():
    seen = []

    def net(x, t, label):
        seen.append(t)
        return x * 0

    call = {"prediction": "x0", "conditions": [0], "state_shape": (3,)}
    process = PROCESSES["ddpm"]
    # Warnings of the first call are about this network, which says nothing.
    for time, wanted in ((lambda t: t / 10, 24.95), ("round", 250), (None, 249.5)):
        model = from_torch(net, process, time=time, **call)
        check_denoiser(model)
        model.denoise(jnp.zeros((2, 3)), 249.5, 0)
        jax.effects_barrier()
        np.testing.assert_allclose(seen[-1].numpy(), wanted, rtol=1e-6)
    assert seen[-1].dtype == torch.float32


def test_outputs_are_clipped_to_the_range_of_the_data():
    model = wrapped(gmm.edm(), "x0", data_range=(-1.0, 0.5))
    denoised = np.asarray(model.denoise(3 * states(gmm.edm())[0], 0.5, 0))
    assert denoised.min() == -1.0
    assert denoised.max() == 0.5


def test_edm_networks_take_scaled_input():
    seen = []

    def net(x, t, label):
        seen.append((x, t))
        return x * 0

    model = from_torch(
        net, gmm.edm(), prediction="F", conditions=[0], state_shape=(3,), scale_input=True,
        time=lambda sigma: sigma.log() / 4,
    )  # fmt: skip
    check_denoiser(model)
    x = states(gmm.edm())[0]
    denoised = model.denoise(x, 2.0, 0)
    jax.effects_barrier()
    np.testing.assert_allclose(seen[-1][0], np.asarray(x) / np.sqrt(4.25), rtol=SINGLE)
    np.testing.assert_allclose(seen[-1][1], np.log(2) / 4, rtol=SINGLE)
    np.testing.assert_allclose(denoised, np.asarray(x) * 0.25 / 4.25, rtol=SINGLE)


def test_wrong_arguments_are_named():
    net, call = (
        Exact(gmm.edm(), "x0").eval(),
        {"prediction": "x0", "conditions": range(3), "state_shape": (3,)},
    )
    dropout = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.1))
    refused = [
        (dropout, {}, "net must be in eval mode, since its layer 1 is a Dropout; call net.eval"),
        (3, {}, "net must be a torch.nn.Module or a function of tensors, got int"),
        (net, {"prediction": "noise"}, "prediction must be one of x0, eps, v, velocity, F; got 'noise'"),
        (net, {"time": 3}, "time must be a function of a tensor"),
        (net, {"batch": 0}, "batch must be >= 1"),
        (net, {"conditions": ["cat"]}, "conditions must be integers"),
        (net, {"data_range": (1, 0)}, "data_range must be two rising numbers"),
    ]
    for network, more, message in refused:
        with pytest.raises(ValueError, match=message):
            from_torch(network, gmm.edm(), **call | more)
    with pytest.raises(ValueError, match="process must be a forward process"):
        from_torch(net, "edm", **call)
    with pytest.raises(ValueError, match="condition None needs the network"):
        from_torch(net, gmm.edm(), **call).denoise(jnp.zeros((2, 3)), 1.0, None)


def test_zero_signal_is_refused_for_eps():
    model = from_function(lambda x, t, c: x, gmm.flow(), [0], (3,), prediction="eps")
    with pytest.raises(
        ValueError, match="at zero signal-to-noise ratio an eps-prediction does not determine x_0"
    ):
        model.denoise(jnp.zeros((2, 3)), 1.0, 0)


def test_foreign_code_in_a_trace_says_the_way_out():
    model = from_function(lambda x, t, c: np.asarray(x), gmm.edm(), [0], (3,))
    with pytest.raises(ValueError, match="pass traceable=False"):
        jax.jit(lambda x: model.denoise(x, 1.0, 0))(jnp.zeros((2, 3)))
