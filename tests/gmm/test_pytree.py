"""Values that validate when a person builds them, and do not when JAX does."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmm import Isotropic, Mixture
from gmm.pytree import build, pytree, set_fields


@pytree("low", "high")
class Interval:
    """Two numbers in order."""

    def __init__(self, low, high):
        if low > high:
            raise ValueError("low must not exceed high")
        set_fields(self, low=low, high=high)


def test_constructors_check_and_rebuilding_does_not():
    with pytest.raises(ValueError, match="low must not exceed high"):
        Interval(2.0, 1.0)
    upside_down = jax.tree.map(lambda x: -x, Interval(1.0, 2.0))
    assert (upside_down.low, upside_down.high) == (-1.0, -2.0)
    assert build(Interval, low=2.0, high=1.0).high == 1.0


def test_values_pass_through_jit_vmap_and_grad():
    width = jax.jit(lambda interval: interval.high - interval.low)
    assert width(Interval(1.0, 3.0)) == 2.0
    many = build(Interval, low=jnp.zeros(3), high=jnp.arange(3.0))
    np.testing.assert_array_equal(jax.vmap(width)(many), [0, 1, 2])
    gradient = jax.grad(width)(Interval(1.0, 3.0))
    assert isinstance(gradient, Interval)
    assert (gradient.low, gradient.high) == (-1.0, 1.0)


def test_leaves_are_named():
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(Interval(0, 1))]
    assert paths == [".low", ".high"]
    assert jax.tree.structure(Interval(0, 1)) == jax.tree.structure(Interval(2, 3))


def test_values_do_not_change():
    with pytest.raises(AttributeError, match="Interval is immutable: build a new one instead of setting low"):
        Interval(0, 1).low = 5


def test_values_describe_their_shapes():
    assert repr(build(Interval, low=np.ones((2, 3)), high=1.0)) == "Interval(low: (2, 3), high: ())"


def test_values_can_be_copied_and_pickled():
    mixture = Mixture([0.5, 0.5], [[0.0], [1.0]], Isotropic(1.0))
    for other in (copy.deepcopy(mixture), pickle.loads(pickle.dumps(mixture))):
        for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(mixture), strict=True):
            np.testing.assert_array_equal(a, b)
