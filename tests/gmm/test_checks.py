"""Checks name the argument, what came and what is allowed, and let traced values pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmm.checks import as_float, check_finite, check_shape, check_values, choose, is_concrete

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
