"""Strict JAX for the whole suite; each test chooses its precision.

The suite runs in 64 bit; tests that take the `dtype` fixture run in both precisions, and tests that take
`x32` run with JAX's default 32 bit.
"""

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x32():
    with jax.enable_x64(False):
        yield
