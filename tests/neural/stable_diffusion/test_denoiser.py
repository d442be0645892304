"""From noise prediction to E[x_0 | x_t, prompt], and prompts in every form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neural import Denoiser, load_sd15
from neural.denoiser import encode, state_shape
from neural.samplers import ddim, ddim_times
from neural.stable_diffusion import denoiser as module
from tests.neural.stable_diffusion import folders, tiny

# The same operations in another program, float32.
FLOAT32 = 1e-5
X = tiny.noise("latents", tiny.LATENTS)


def close(a, b, tolerance=FLOAT32):
    return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max()) < tolerance


def test_it_is_a_denoiser(model):
    assert isinstance(model, Denoiser)
    assert isinstance(model.unconditional, Denoiser)
    assert state_shape(model) == (8, 8, 4)
    assert model.process.t_max == 999
    assert repr(model) == "SD15(8x8x4, widths=(32, 64), float32)"
    assert len(jax.tree.leaves(model)) > 100


def test_noise_becomes_a_prediction(model, golden):
    """ᾱ from the beta table itself, in float64."""
    states = tiny.noise("states", (2, 77, tiny.CONTEXT))
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha_bar = np.cumprod(1 - betas)[999]
    expected = (X - np.sqrt(1 - alpha_bar) * golden["unet/999.0"]) / np.sqrt(alpha_bar)
    found = model.denoise(X, 999, states)
    assert found.dtype == np.float32
    # 1/α = 14.6 times the network's own error.
    assert close(found, expected, 15 * FLOAT32)


def test_prompts_in_every_form(model):
    cat, dog = "a photo of a cat", "a photo of a dog"
    by_text = model.denoise(X, 300.5, cat)
    prompts = encode(model, [cat, dog])
    one = jax.tree.map(lambda leaf: leaf[0], prompts)
    assert close(model.denoise(X, 300.5, one), by_text)
    assert close(model.denoise(X, 300.5, jax.tree.map(lambda leaf: leaf[:1], prompts)), by_text)
    assert close(model.denoise(X, 300.5, prompts.states[0]), by_text)
    each = model.denoise(X, 300.5, [cat, dog])
    assert close(each[:1], by_text[:1])
    assert not close(each[1:], by_text[1:], 1e-3)
    assert close(model.denoise(X, 300.5, prompts), each)
    assert close(model.denoise(X, np.array([300.5, 300.5]), prompts.states), each)


def test_no_prompt_is_the_empty_prompt(model):
    empty = model.denoise(X, 500, "")
    assert close(model.denoise(X, 500), empty)
    assert close(model.unconditional.denoise(X, 500), empty)
    assert close(model.denoise(X, 500, model.encode([None, ""])), empty)
    assert not close(model.denoise(X, 500, "cat"), empty, 1e-3)


def test_without_a_vocabulary_only_strings_are_refused(model):
    mute = dataclasses.replace(model, tokenizer=None)
    assert close(mute.denoise(X, 500, None), model.denoise(X, 500, ""))
    assert close(mute.denoise(X, 500, model.encode(["cat"])), model.denoise(X, 500, "cat"))
    for ask in (
        lambda: mute.denoise(X, 500, "cat"),
        lambda: mute.encode(["cat"]),
        lambda: mute.tokenize("cat"),
    ):
        with pytest.raises(ValueError, match="prompts need the model's vocabulary"):
            ask()


def test_pictures_are_scaled_and_clamped(model):
    latents = X[:1] * 0.18215 * 3
    raw = model.vae_decode(X[:1] * 3)
    assert close(model.pictures(latents), np.clip(np.asarray(raw) / 2 + 0.5, 0, 1))
    assert float(np.abs(raw).max()) > 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda m: m.denoise(np.zeros((2, 4, 8, 8)), 1),
            r"x must have shape \(n, H, W, 4\).*transpose \(n, C, H, W\)",
        ),
        (lambda m: m.denoise(np.zeros((2, 7, 8, 4)), 1), r"H and W multiples of 2, got \(2, 7, 8, 4\)"),
        (lambda m: m.denoise(X, 1000), r"t must be a time step in 0..999, got 1000"),
        (lambda m: m.denoise(X, -1), r"t must be a time step in 0..999, got -1"),
        (lambda m: m.denoise(X, np.zeros(3)), r"t must have shape \(\) or \(2,\), got \(3,\)"),
        (lambda m: m.denoise(X, 1, ["a", "b", "c"]), "one prompt or one for each of the 2 states, got 3"),
        (lambda m: m.denoise(X, 1, np.zeros((2, 77, 5))), r"text states must have shape \(n, tokens, 24\)"),
        (
            lambda m: m.text_encoder(np.zeros((1, 78), int)),
            r"token_ids must be integers of shape \(n, T\), T <= 77",
        ),
        (
            lambda m: m.text_encoder(np.full((1, 77), tiny.VOCABULARY)),
            rf"token_ids must be in 0..{tiny.VOCABULARY - 1}",
        ),
        (lambda m: m.vae_encode(np.zeros((1, 15, 16, 3))), "images must have shape .* multiples of 2"),
        (lambda m: m.vae_decode(np.zeros((1, 8, 8, 3))), r"latents must have shape \(n, H, W, 4\), got"),
    ],
)
def test_what_does_not_fit_is_named(model, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(model)


def test_it_can_be_sampled_with_guidance(model):
    """The whole loop, jitted, words encoded once; the guide is the empty prompt."""
    noise = jnp.asarray(X)
    times = ddim_times(model.process, 2)
    words = ddim(model, noise, ["cat", "dog"], times=times, end=0.0, guidance_scale=3.0)
    x = noise * model.process.sigma(times[0]).astype(jnp.float32)
    for t, s in ((501.0, 1.0), (1.0, 0.0)):
        empty = model.denoise(x, t)
        clean = empty + 3 * (model.denoise(x, t, ["cat", "dog"]) - empty)
        alpha, sigma, alpha_s, sigma_s = (
            float(part(time)) for time in (t, s) for part in (model.process.alpha, model.process.sigma)
        )
        x = alpha_s * clean + sigma_s * (x - alpha * clean) / sigma
    assert close(words, x, 1e-4)


@pytest.mark.slow
def test_lower_precision_is_near(folder, model):
    exact = np.asarray(model.unet(X, 437.25, tiny.noise("states", (2, 77, tiny.CONTEXT))))
    for dtype, tolerance in (("bfloat16", 5e-2), ("float16", 5e-3)):
        low = load_sd15(folder, dtype=dtype)
        found = low.unet(X, 437.25, tiny.noise("states", (2, 77, tiny.CONTEXT)))
        assert found.dtype == np.float32
        assert close(found, exact, tolerance)


@pytest.mark.slow
def test_float16_that_overflows_says_where(tmp_path):
    name = "down_blocks.0.resnets.0.conv2.weight"

    def change(part, found):
        return found | {name: np.full_like(found[name], 6e4)} if part == "unet" else found

    path = folders.write_folder(tmp_path / "m", change)
    model = load_sd15(path, dtype="float16")
    with pytest.raises(
        ValueError,
        match=r"float16 overflows: the output of down_blocks\.0\.resnets\.0 is not finite at t = 7",
    ):
        model.denoise(X, 7.0, "cat")
    assert np.isfinite(load_sd15(path, dtype="bfloat16").denoise(X, 7.0, "cat")).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_program_lowers_for_every_platform(folder, model, dtype):
    """Without a device: the programs for CUDA and TPU are made, not run."""
    given = model if dtype == "float32" else load_sd15(folder, dtype=dtype)
    states = jnp.zeros((2, 77, tiny.CONTEXT), jnp.float32)
    programs = {
        "denoise": (lambda m, x, t, s: m.denoise(x, t, s), (jnp.asarray(X), jnp.float32(1), states)),
        "decode": (lambda m, x: m.pictures(x), (jnp.asarray(X),)),
        "encode": (lambda m, x: m.vae_encode(x), (jnp.zeros(tiny.PICTURES, jnp.float32),)),
        "text": (lambda m, ids: m.text_encoder(ids), (jnp.zeros((1, 77), jnp.int32),)),
    }
    for name, (function, arguments) in programs.items():
        flat, tree = jax.tree.flatten(given)
        lowered = jax.export.export(
            jax.jit(lambda leaves, *rest, f=function, tree=tree: f(jax.tree.unflatten(tree, leaves), *rest)),
            platforms=("cpu", "cuda", "tpu"),
        )(flat, *arguments)
        assert lowered.platforms == ("cpu", "cuda", "tpu"), name


def test_conv_kernels_are_not_transposed(model):
    """Weights keep the checkpoint's layout: what is kept is what was read."""
    for name, value in folders.tensors("unet").items():
        assert model.unet_weights[name].shape == value.shape
    assert module.NO_TEXT == ""
