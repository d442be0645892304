"""The window of trained networks of digits beside that of the empirical mixture of their training data."""

import functools

import jax
import numpy as np
import pytest

import gmm
from gmm.families import empirical
from neural import load_model, online_entropy

# Three combined standard errors: a false alarm in 370 for each of the two places.
STDERRS = 3.0
# The empirical mixture knows its points by heart, and a network smooths between them, so that its classes overlap
# down to less noise. That moves the lower end of the window by up to this much in log(σ/α), of a small network also
# the middle.
SMOOTHED = 0.4

pytestmark = pytest.mark.slow


@functools.cache
def of_data(x, y, process, times):
    mixture, partition = empirical(np.array(x), np.array(y))
    curve = gmm.class_entropy(
        mixture, process, np.array(times), partition=partition, key=jax.random.key(1), samples=512
    )
    return gmm.window(curve)


def held_to_the_data(curve, x, y, process, places):
    """These places of the window within their errors; the others at less noise, where smoothing moves them."""
    found = gmm.window(curve)
    wanted = of_data(tuple(map(tuple, x.tolist())), tuple(y.tolist()), process, tuple(curve.t.tolist()))
    for place in ("low", "median", "high"):
        moved = getattr(found, place) - getattr(wanted, place)
        allowed = STDERRS * np.hypot(getattr(found, f"{place}_stderr"), getattr(wanted, f"{place}_stderr"))
        assert moved < allowed, place
        assert moved > -(allowed if place in places else SMOOTHED), place
    assert found.decided > 0.95


def test_the_network_that_ships():
    model = load_model("zoo:digits")
    data = model.data()
    times = model.grid.times(model.process)
    curve = online_entropy(model.denoiser, model.conditions, times=times, key=jax.random.key(0), samples=192)
    held_to_the_data(curve, data.x, data.y, model.process, ("median", "high"))


@pytest.mark.torch
def test_a_small_network_of_torch():
    pytest.importorskip("torch")
    from neural import from_torch
    from tests.neural import torch_digits as digits

    call = {"conditions": range(10), "state_shape": (64,), "null": digits.NULL}
    flow = from_torch(digits.trained("flow"), gmm.flow(), prediction="velocity", **call)
    x, y = digits.digits()
    curve = online_entropy(flow, range(10), key=jax.random.key(0), samples=192, steps=40)
    held_to_the_data(curve, x, y, gmm.flow(), ("high",))
