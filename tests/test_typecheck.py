"""The checks that `pytest --typecheck` switches on see what they should, and nothing that people may do."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, ArrayLike, Float, Int, TypeCheckError, jaxtyped

from tests.typecheck import check_arrays


@jaxtyped(typechecker=check_arrays)
def scale(
    x: Float[Array, "n d"], by: Float[Array, " n"] | None, label: ArrayLike, ok: bool
) -> Float[Array, "n d"]:
    if not ok:
        return x[:, 0]
    return x if by is None else x * by[:, None]


@jaxtyped(typechecker=check_arrays)
def count(index: Int[Array, "..."]) -> int:
    return index.size


def test_arrays_that_fit_pass_with_whatever_else():
    x = jnp.ones((2, 3))
    assert scale(x, jnp.ones(2), [1, "a"], 1).shape == (2, 3)
    assert scale(np.ones((2, 3)), None, 3, "yes").shape == (2, 3)
    assert count(jnp.array(3)) == 1


def test_wrong_shapes_and_kinds_do_not_pass():
    x = jnp.ones((2, 3))
    with pytest.raises(TypeCheckError, match="by"):
        scale(x, jnp.ones(3), 0, True)
    with pytest.raises(TypeCheckError, match="x"):
        scale(x[0], None, 0, True)
    with pytest.raises(TypeCheckError, match="index"):
        count(x)
    with pytest.raises(TypeCheckError, match="return value"):
        scale(x, None, 0, False)
