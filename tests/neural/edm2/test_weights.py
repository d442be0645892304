"""Folding against the formula applied in the forward pass, and its two special rows."""

import jax.numpy as jnp
import numpy as np
import pytest

from neural.edm2 import read_config
from neural.edm2.network import conv
from neural.edm2.weights import fold, normalised

# One float32 rounding of a product of a few factors.
ROUNDING = 1e-6
# A float16 factor has 11 significant bits.
FLOAT16_FACTOR = 2.0**-11


@pytest.fixture
def folded(tensors):
    def fold_as(dtype: str, **options):
        stored = tensors("tiny")
        config = read_config({name: tensor.shape for name, tensor in stored.items()})
        return stored, fold(stored, config, jnp.dtype(dtype), **options)

    return fold_as


def test_every_tensor_but_the_gains_survives_under_its_own_name(folded):
    stored, weights = folded("float32")
    assert set(weights) == {name for name in stored if not name.endswith("_gain")}


def test_rows_have_the_norm_of_their_gain(folded):
    stored, weights = folded("float64")
    for name, gain in [
        ("unet.out_conv.weight", stored["unet.out_gain"]),
        ("unet.dec.16x16_up.emb_linear.weight", stored["unet.dec.16x16_up.emb_gain"]),
        ("unet.dec.16x16_up.conv_res0.weight", 1.0),
        ("unet.emb_label.weight", np.sqrt(10.0)),
    ]:
        rms = np.sqrt((stored[name].astype(np.float64) ** 2).mean(tuple(range(1, stored[name].ndim))))
        expected = np.abs(np.float64(gain)) * rms / (rms + 1e-4)
        norm = np.sqrt((np.asarray(weights[name]) ** 2).sum(tuple(range(stored[name].ndim - 1))))
        np.testing.assert_allclose(norm, expected, rtol=1e-12)


def test_a_row_of_zeros_stays_zero_and_a_tiny_row_shows_the_epsilon(folded):
    _, weights = folded("float32")
    weight = np.asarray(weights["unet.enc.16x16_block0.conv_res1.weight"])
    assert (weight[..., 3] == 0).all()
    # RMS 1e-5 beside an epsilon of 1e-4: a norm of about 1/11 instead of 1.
    assert np.linalg.norm(weight[..., 4]) == pytest.approx(1 / 11, rel=0.1)


def test_a_folded_convolution_is_the_normalised_one(folded):
    stored, weights = folded("float32")
    name = "unet.dec.16x16_block0.conv_res0.weight"
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 96)), jnp.float32)
    in_forward = conv(x, normalised(jnp.asarray(stored[name], jnp.float32)).transpose(2, 3, 1, 0))
    np.testing.assert_allclose(conv(x, weights[name]), in_forward, atol=ROUNDING * 4)


def test_queries_keys_and_values_are_sorted_out(folded):
    stored, weights = folded("float32")
    name = "unet.dec.8x8_in0.attn_qkv.weight"
    rows = normalised(stored[name].astype(np.float32))[:, :, 0, 0]
    sorted_out = np.asarray(weights[name])[0, 0].T
    for part in range(3):
        np.testing.assert_array_equal(sorted_out[part * 64 : (part + 1) * 64], rows[part::3])


def test_as_published_rounds_only_what_a_gain_scales(folded):
    _, plain = folded("float32")
    _, published = folded("float32", as_published=True)
    changed = {name for name in plain if (np.asarray(plain[name]) != np.asarray(published[name])).any()}
    # The gains of the blocks are float16 and divided by √64 here, which float16 does exactly.
    assert changed == {"unet.out_conv.weight"}


def test_as_published_factor_is_a_float16_number():
    row, gain = np.full((1, 512), 2.0, np.float32), np.float16(0.3)
    exact, rounded = (normalised(row, gain, rounded=r)[0, 0] * (2 + 1e-4) / 2 for r in (False, True))
    assert exact == pytest.approx(float(gain) / np.sqrt(512), rel=ROUNDING)
    assert rounded == pytest.approx(float(np.float16(rounded)), rel=ROUNDING)
    assert ROUNDING * exact < abs(rounded - exact) <= FLOAT16_FACTOR * exact


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_for_convolutions_alone(folded, dtype):
    _, weights = folded(dtype)
    for name, weight in weights.items():
        assert weight.dtype == (jnp.dtype(dtype) if weight.ndim == 4 else jnp.float32), name
