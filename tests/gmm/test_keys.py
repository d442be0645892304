"""Random keys, typed and raw: their numbers are those of the seed, and nothing else passes for a key."""

import jax
import numpy as np
import pytest

from gmm.keys import check_key, key_numbers


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_numbers_of_a_key_are_the_halves_of_its_seed(make):
    np.testing.assert_array_equal(key_numbers(check_key(make(7))), [0, 7])


@pytest.mark.parametrize("key", [7, np.array([0, 7], np.uint32), None])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ValueError, match=r"key must be a JAX random key such as jax\.random\.key\(0\)"):
        check_key(key)
