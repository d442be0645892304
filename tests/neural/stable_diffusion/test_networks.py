"""The three networks against diffusers and transformers, at reduced size."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neural.stable_diffusion import architecture, layers, unet
from tests.neural.stable_diffusion import tiny
from tests.neural.stable_diffusion.conftest import DATA
from tests.neural.stable_diffusion.folders import UNET

# Relative to the largest value; 1e-6 measured.
FLOAT32 = 1e-5
# Exact formulas in another order of operations, float64.
ROUNDING = 1e-12


def error(ours, theirs):
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("t", tiny.TIMES)
def test_unet(model, golden, t):
    found = model.unet(tiny.noise("latents", tiny.LATENTS), t, tiny.noise("states", (2, 77, tiny.CONTEXT)))
    assert error(found, golden[f"unet/{t}"]) < FLOAT32
    # A step further is told from this one by far more than the tolerance.
    assert error(golden["unet/437.25"], golden[f"unet/{t}"]) > 100 * FLOAT32 or t == 437.25


def test_autoencoder(model, golden):
    assert error(model.vae_encode(tiny.noise("pictures", tiny.PICTURES)), golden["vae/mean"]) < FLOAT32
    assert error(model.vae_decode(tiny.noise("latents", tiny.LATENTS)), golden["vae/decoded"]) < FLOAT32


def test_text_encoder(model, golden):
    found = model.text_encoder(np.array(tiny.TOKENS))
    assert found.dtype == np.float32
    assert error(found, golden["text/states"]) < FLOAT32


def test_names_and_shapes_of_the_published_networks():
    listed = json.loads((DATA / "names.json").read_text())
    ours = {
        "unet": architecture.tensor_shapes(architecture.UNetConfig()),
        "vae": architecture.tensor_shapes(architecture.VAEConfig()),
        "text_encoder": architecture.tensor_shapes(architecture.TextConfig()),
    }
    counts = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}
    for part, shapes in ours.items():
        assert {name: tuple(shape) for name, shape in listed[part].items()} == shapes
        assert sum(int(np.prod(shape)) for shape in shapes.values()) == counts[part]
    stages = architecture.UNetConfig().stages()
    assert len(stages) == 22
    assert sum(stage.attention is not None for stage in stages) == 16


# Room for the scores of all, of three heads, of one, of seven queries (six at a time, which divides 24), of none.
@pytest.mark.parametrize("rows", [6 * 24, 3 * 24, 24, 7, 0])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_parts_is_attention(rows, causal, monkeypatch):
    q, k, v = (jnp.asarray(tiny.noise(name, (2, 24, 3, 8)), jnp.float64) for name in "qkv")
    scores = np.einsum("nqhc,nkhc->nhqk", q, k) / np.sqrt(8)
    share = np.exp(scores - scores.max(-1, keepdims=True)) * (np.tri(24) if causal else 1)
    expected = np.einsum("nhqk,nkhc->nqhc", share / share.sum(-1, keepdims=True), v).reshape(2, 24, 24)
    monkeypatch.setattr(layers, "CACHE_BYTES", rows * 24 * 8)
    found = jax.jit(lambda q, k, v: layers.attend(q, k, v, causal=causal))(q, k, v)
    assert error(found, expected) < ROUNDING


def test_norm_survives_what_half_precision_does_not_hold():
    """Values whose squares overflow float16, at a mean whose square drowns the variance in float32."""
    x = 300 + np.asarray(tiny.noise("norm", (1, 8, 8, 32)), np.float64)
    weights = {"n.weight": jnp.ones(32, jnp.float32), "n.bias": jnp.zeros(32, jnp.float32)}
    half = jnp.asarray(x, jnp.float16)
    found = layers.group_norm(half, weights, "n", 8, 1e-5)
    grouped = np.asarray(half, np.float64).reshape(1, 64, 8, 4)
    normal = (grouped - grouped.mean((1, 3), keepdims=True)) / grouped.std((1, 3), keepdims=True)
    assert found.dtype == np.float16
    assert (
        np.abs(np.asarray(found, np.float64) - normal.reshape(x.shape)).max() < 3e-3
    )  # one rounding to float16


def test_time_is_never_rounded_to_half_precision(model):
    """Steps 750 and 752 are one number in bfloat16; their embeddings must differ as in float32."""
    embed = jax.jit(lambda t: unet.embed_time(model.unet_weights, UNET, t))
    difference = embed(jnp.float32([750.0])) - embed(jnp.float32([752.0]))
    x = jnp.zeros(tiny.LATENTS, jnp.bfloat16)
    keys = model.encode([""]).keys
    record = {}

    def run(x, t):
        record.clear()
        unet.unet(model.unet_weights, UNET, x, t, keys, record)
        return dict(record)["time_embedding"]

    low = jax.jit(run)
    found = low(x, jnp.float32([750.0, 750.0])) - low(x, jnp.float32([752.0, 752.0]))
    assert found.dtype == np.float32
    assert error(found[:1], np.asarray(difference)) < FLOAT32
