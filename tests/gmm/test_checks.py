"""Checks name the argument, what came and what is allowed, and let traced values pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
from gmm.checks import (
    as_float,
    check_count,
    check_detached,
    check_finite,
    check_shape,
    check_values,
    choose,
    is_concrete,
)
from gmm.datasets import LabelledData
from gmm.pooling import read_off

positive = lambda a: a > 0


def test_numbers_become_arrays_of_floating_type():
    assert as_float([1, 2]).dtype == np.float64
    assert as_float(np.float32(1)).dtype == np.float32
    assert as_float(True).dtype == np.float64
    # Like Python's own numbers, whole ones promote nothing.
    assert (as_float(3) * jnp.ones(2, jnp.float32)).dtype == np.float32
    with jax.enable_x64(False):
        assert as_float(np.float64(1)).dtype == np.float32


def test_values_are_concrete_outside_traces_only():
    seen = []
    jax.jit(lambda x: seen.append((is_concrete(x), is_concrete(np.ones(2)))) or x)(1.0)
    assert seen == [(False, True)]
    assert is_concrete(1.0, {"a": jnp.ones(2)}, None)


FINITE = {
    "number": (np.nan, "", "x must be finite, got 1 value.* like nan$"),
    "array": ([1.0, -np.inf, np.nan], "", "x must be finite, got 2 value.* like -inf$"),
    "way out": (np.inf, "use less", "x must be finite, got 1 value.* like inf; use less$"),
}


@pytest.mark.parametrize("case", FINITE)
def test_numbers_must_be_finite(case):
    value, way_out, message = FINITE[case]
    with pytest.raises(ValueError, match=message):
        check_finite("x", value, way_out)


def test_the_first_wrong_value_is_shown():
    with pytest.raises(ValueError, match=r"^x must be positive, got -2.0$"):
        check_values("x", [[1.0, 2.0], [-2.0, -3.0]], "positive", positive)
    with pytest.raises(ValueError, match=r"^x must be positive, got 0$"):
        check_values("x", 0, "positive", positive)
    with pytest.raises(ValueError, match=r"^x must be positive, got nan$"):
        check_values("x", np.nan, "positive", positive)


@pytest.mark.lenient("an infinity passes where values are unknown")
def test_right_values_and_unknown_ones_pass():
    check_finite("x", [1.0, 2.0])
    check_finite("x", [])
    check_values("x", [1.0], "positive", positive)
    jax.jit(lambda x: check_values("x", x, "positive", positive) or check_finite("x", x) or x)(-jnp.inf)


def test_shapes():
    check_shape("x", [[1.0, 2.0]], "(1, 2)", [(1, 2), (3,)])
    with pytest.raises(ValueError, match=r"^x must have shape \(\) or \(3,\), got \(2,\)$"):
        check_shape("x", [1.0, 2.0], "() or (3,)", [(), (3,)])
    with pytest.raises(ValueError, match=r"x must have shape \(3,\), got \(2,\)"):
        jax.jit(lambda x: check_shape("x", x, "(3,)", [(3,)]))(jnp.ones(2))


def test_choices():
    assert choose("axis", "t", ("t", "sigma")) == "t"
    with pytest.raises(ValueError, match=r"^axis must be one of t, sigma; got 'x'$"):
        choose("axis", "x", ("t", "sigma"))


@pytest.mark.parametrize("value", [64.0, np.float32(64), True, "64", None, 1, -3])
def test_counts_are_whole_numbers(value):
    with pytest.raises(ValueError, match=r"^samples must be (a whole number )?>= 2, got "):
        check_count("samples", value, 2)
    for allowed in (2, np.int32(2), np.uint8(200)):
        check_count("samples", allowed, 2)


@pytest.mark.parametrize("value", ["8", None, [None, 1.0]])
def test_what_is_no_number_has_no_allowed_value(value):
    with pytest.raises(ValueError, match=r"^x must be positive, got "):
        check_values("x", value, "positive", positive)


MIXTURE, KEY = gmm.families.simplex(3, 4), jax.random.key(0)
GUIDED = {"target": 0, "key": KEY}
POINTS = LabelledData("points", np.zeros((4, 2)), np.array([0, 1, 0, 1], np.int32), ("0", "1"), (2,))
# Each call with the count that stands in its name; every other argument is valid.
COUNTS = {
    "class_entropy samples": lambda n: gmm.class_entropy(MIXTURE, gmm.vp(), [1.0], key=KEY, samples=n),
    "clone_agreement samples": lambda n: gmm.clone_agreement(MIXTURE, gmm.vp(), [1.0], key=KEY, samples=n),
    "u_turn samples": lambda n: gmm.u_turn(MIXTURE, gmm.vp(), [1.0], key=KEY, samples=n, steps=2),
    "u_turn steps": lambda n: gmm.u_turn(MIXTURE, gmm.vp(), [1.0], key=KEY, samples=2, steps=n),
    "guided_entropy samples": lambda n: gmm.guided_entropy(
        MIXTURE, gmm.vp(), [1.0], gmm.cfg(2.0), samples=n, steps=2, **GUIDED
    ),
    "guided_entropy steps": lambda n: gmm.guided_entropy(
        MIXTURE, gmm.vp(), [1.0], gmm.cfg(2.0), samples=2, steps=n, **GUIDED
    ),
    "guided_samples samples": lambda n: gmm.guided_samples(
        MIXTURE, gmm.vp(), gmm.cfg(2.0), samples=n, steps=2, **GUIDED
    ),
    "guided_samples steps": lambda n: gmm.guided_samples(
        MIXTURE, gmm.vp(), gmm.cfg(2.0), samples=2, steps=n, **GUIDED
    ),
    "quality samples": lambda n: gmm.quality(MIXTURE, gmm.vp(), gmm.cfg(2.0), samples=n, steps=2, **GUIDED),
    "guided_whitened samples": lambda n: gmm.guided_whitened(2, [1.0], 2.0, key=KEY, samples=n, steps=2),
    "guided_whitened steps": lambda n: gmm.guided_whitened(2, [1.0], 2.0, key=KEY, samples=2, steps=n),
    "sliced_distance directions": lambda n: gmm.sliced_distance(np.eye(2), np.eye(2), KEY, n),
    "time_grid steps": lambda n: gmm.time_grid(gmm.vp(), 1.0, 0.1, n),
    "sample n": lambda n: gmm.sample(MIXTURE, KEY, n),
    "scaled_linear_betas steps": lambda n: gmm.scaled_linear_betas(steps=n),
    "simplex classes": lambda n: gmm.families.simplex(n, 4),
    "orthogonal classes": lambda n: gmm.families.orthogonal(n, 4),
    "random classes": lambda n: gmm.families.random(KEY, n, 4),
    "fitted components": lambda n: gmm.families.fitted(POINTS.x, POINTS.y, components=n),
    "subset n": lambda n: POINTS.subset(n),
    "read_off draws": lambda n: read_off([], lambda curve: np.zeros(1), draws=n),
}


@pytest.mark.parametrize("value", [3.0, "3", None])
@pytest.mark.parametrize("call", COUNTS)
def test_public_functions_refuse_what_is_no_count(call, value):
    name = call.split()[1]
    with pytest.raises(ValueError, match=rf"^{name} must be a whole number >= \d+, got "):
        COUNTS[call](value)


class TorchTensor:
    """What a tensor of torch that carries gradients shows of itself."""

    shape, requires_grad = (1, 4), True

    def __array__(self, *_args, **_kwargs):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


@pytest.mark.parametrize(
    "call",
    [
        lambda x: gmm.log_prob(MIXTURE, x),
        lambda x: gmm.score(MIXTURE, x),
        lambda x: gmm.log_posterior(MIXTURE, x),
        lambda x: gmm.denoise(MIXTURE, gmm.edm(), x, 1.0),
        lambda x: gmm.guided_paths(MIXTURE, gmm.edm(), [2.0, 1.0], x, gmm.cfg(2.0), **GUIDED),
    ],
)
def test_gradients_of_torch_are_refused_by_name(call):
    with pytest.raises(ValueError, match=r"^x must carry no gradients of torch, .* pass x\.detach\(\)$"):
        call(TorchTensor())
    check_detached("x", np.ones(3))
