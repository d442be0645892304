"""Mixtures against scipy, mpmath, scikit-learn, dense algebra and automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np

from gmm import Isotropic, Mixture, log_prob


def test_a_jitted_function_may_close_over_its_mixture():
    mixture = Mixture([0.5, 0.5], np.array([[1.0, 2.0], [0.0, 1.0]]), Isotropic(1))
    x = jnp.ones((3, 2))
    np.testing.assert_allclose(jax.jit(lambda x: log_prob(mixture, x))(x), log_prob(mixture, x), rtol=1e-12)
