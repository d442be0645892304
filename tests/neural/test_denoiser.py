"""The protocol: exact mixtures, people's own functions, and what callers do with either."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
from neural import Denoiser, from_function, mixture_denoiser
from neural.denoiser import as_pytree, denoise_each, encode, from_pytree, state_dtype, state_shape

# The same formulas in another order of operations, float64.
ROUNDING = 1e-12

MEANS = np.array([[2.0, 0.0, 1.0], [-1.0, 1.0, 0.0], [0.0, -2.0, 0.5]])
VARIANCE = 0.5


@pytest.fixture(scope="module")
def denoiser():
    return mixture_denoiser(gmm.Mixture([0.2, 0.3, 0.5], MEANS, gmm.Isotropic(VARIANCE)), gmm.edm())


def answer(x, t, condition, xp=np):
    """E[x_0|x_t, k] of those classes, written down anew."""
    means = xp.asarray(MEANS)[condition].reshape(-1, 3)
    return means + VARIANCE / (VARIANCE + t**2) * (xp.asarray(x) - means)


def states(n=4):
    return jnp.asarray(np.random.default_rng(0).normal(size=(n, 3)))


def test_exact_mixture_is_a_denoiser(denoiser):
    assert isinstance(denoiser, Denoiser)
    assert list(denoiser.conditions) == [0, 1, 2]
    assert state_shape(denoiser) == (3,)
    assert state_dtype(denoiser) == np.float64
    x = states()
    np.testing.assert_allclose(denoiser.denoise(x, 0.7, 1), answer(x, 0.7, 1), rtol=ROUNDING)
    mixed = np.array([2, 0, 1, 1])
    np.testing.assert_allclose(denoiser.denoise(x, 0.7, mixed), answer(x, 0.7, mixed), rtol=ROUNDING)
    whole = gmm.denoise(denoiser.mixture, denoiser.process, x, 0.7)
    np.testing.assert_allclose(denoiser.unconditional.denoise(x, 0.7, None), whole, rtol=ROUNDING)


@pytest.mark.parametrize("at_once", [None, 2, 5])
def test_each_condition_of_each_state(denoiser, at_once):
    x, order = states(), jnp.array([2, 0, 1])
    found = denoise_each(denoiser, x, 0.7, order, at_once)
    wanted = np.stack([answer(x, 0.7, int(c)) for c in order], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=ROUNDING)


@pytest.mark.parametrize("traceable", [True, False])
def test_own_function(traceable):
    function = (lambda x, t, c: answer(x, t, c, jnp)) if traceable else answer
    own = from_function(function, gmm.edm(), range(3), (3,), traceable=traceable)
    assert isinstance(own, Denoiser)
    assert own.unconditional is None
    x = states()
    found = jax.jit(lambda x: denoise_each(own, x, 0.7, encode(own, [2, 0])))(x)
    wanted = np.stack([answer(x, 0.7, 2), answer(x, 0.7, 0)], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=ROUNDING)


def test_own_function_without_condition():
    own = from_function(
        lambda x, t, c: x * (0.5 if c is None else 1.0),
        gmm.edm(),
        [0],
        (3,),
        traceable=False,
        unconditional=True,
    )
    np.testing.assert_allclose(own.unconditional.denoise(states(), 1.0, None), 0.5 * states(), rtol=ROUNDING)


def test_own_function_of_a_wrong_shape_says_so():
    own = from_function(lambda x, t, c: x[:, :2], gmm.edm(), [0], (3,), traceable=False)
    with pytest.raises(Exception, match=r"must return the shape of x, \(4, 3\); got \(4, 2\)"):
        jax.block_until_ready(own.denoise(states(), 1.0, 0))


def test_pytrees_and_other_objects_go_through_jit(denoiser):
    own = from_function(lambda x, t, c: x, gmm.edm(), [0], (3,))
    assert as_pytree(denoiser) is denoiser
    assert from_pytree(as_pytree(own)) is own
    assert as_pytree(own) == as_pytree(own)
    assert hash(as_pytree(own)) == hash(as_pytree(own))
    traces = []

    @jax.jit
    def run(wrapped, x):
        traces.append(1)
        return from_pytree(wrapped).denoise(x, 1.0, 0)

    for _ in range(2):
        run(as_pytree(own), states())
    assert len(traces) == 1


class Words:
    """A denoiser of prompts, which encodes them itself."""

    process, conditions, dtype = gmm.edm(), ("cat", "dog"), np.dtype(jnp.bfloat16)

    def encode(self, conditions):
        return {"number": jnp.asarray([self.conditions.index(word) for word in conditions])}

    def denoise(self, x, t, condition=None):
        return x + jnp.reshape(condition["number"], (1, 1))


def test_denoiser_that_encodes_its_conditions():
    words = Words()
    found = denoise_each(words, states(), 1.0, encode(words, ["dog", "cat"]))
    np.testing.assert_allclose(found, np.stack([states() + 1, states()], axis=1), rtol=ROUNDING)
    assert state_dtype(words) == np.float32
    assert state_shape(words, [3]) == (3,)


def test_bad_input_is_named(denoiser):
    with pytest.raises(ValueError, match="among the denoiser's 3 conditions, got 3"):
        encode(denoiser, [0, 3])
    with pytest.raises(ValueError, match="conditions must be integers for MixtureDenoiser, got 'cat'"):
        encode(denoiser, ["cat"])
    with pytest.raises(ValueError, match="at least one condition"):
        encode(denoiser, [])
    with pytest.raises(ValueError, match="Words has no `state_shape`; pass shape="):
        state_shape(Words())
    with pytest.raises(ValueError, match="conditions must be integers"):
        from_function(answer, gmm.edm(), ["cat"], (3,))
    with pytest.raises(ValueError, match="positive sizes, got 0"):
        from_function(answer, gmm.edm(), [0], (0,))
