"""Pipelines of diffusers as denoisers: held to one step of the pipeline itself."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm
from neural import from_diffusers, guide_pipeline, load_model, online_entropy
from neural.adapters.schedules import read_schedule

# The pipeline and the denoiser compute the same network in float32; the conversion differs in its order.
PARITY = 1e-5
PROMPTS = ["a cat", "a dog"]

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the imports that may skip
    from tests.neural import tiny_pipelines as tiny


@pytest.fixture(autouse=True)
def _quiet():
    """diffusers and transformers warn of their own deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def latents(shape, n=1):
    return np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)


def one_step(pipeline, name, x):
    """E[x_0 | x_t] by the pipeline: one step of its sampler that ends at zero noise; and the time of that step."""
    state = torch.tensor(np.transpose(x, (0, 3, 1, 2)).copy())
    options = {"prompt": "a dog", "num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "latent"}
    if name in ("sd3", "flux"):
        options["sigmas"] = [0.6]
    if name == "flux":
        n, c, h, w = state.shape
        state = pipeline._pack_latents(state, n, c, h, w)
        options |= {"guidance_scale": 2.5, "height": 16, "width": 16}
    if name == "pixart":
        options |= {"use_resolution_binning": False, "max_sequence_length": 120}
    with torch.no_grad():
        clean = pipeline(latents=state, **options).images
    if name == "flux":
        clean = pipeline._unpack_latents(clean, 16, 16, pipeline.vae_scale_factor)
    flow = name in ("sd3", "flux")
    time = float(pipeline.scheduler.sigmas[0]) if flow else float(pipeline.scheduler.timesteps[0])
    return np.transpose(clean.numpy(), (0, 2, 3, 1)), time


@pytest.mark.parametrize("name", tiny.PIPELINES)
def test_one_step_of_the_pipeline(name, tmp_path):
    pipeline = tiny.made(tiny.PIPELINES[name], tmp_path)
    more = {"height": 16, "width": 16, "embedded_guidance": 2.5} if name == "flux" else {}
    model = from_diffusers(pipeline, PROMPTS, **more)
    assert model.state_shape == (tiny.SIZE, tiny.SIZE, 4)
    x = latents(model.state_shape)
    wanted, t = one_step(pipeline, name, x)
    found = np.asarray(model.denoise(jnp.asarray(x), t, "a dog"))
    np.testing.assert_allclose(found, wanted, atol=PARITY * np.abs(wanted).max())
    both = model.denoise_classes(jnp.asarray(x), t, model.encode(PROMPTS))
    np.testing.assert_allclose(both[:, 1], found, atol=PARITY * np.abs(wanted).max())
    assert np.abs(both[:, 0] - both[:, 1]).max() > 1e-6


def test_classes_of_dit(tmp_path):
    pipeline = tiny.made(tiny.dit, tmp_path)
    model = from_diffusers(pipeline, range(3))
    x, t = latents(model.state_shape, 2), 300
    state, labels = torch.tensor(np.transpose(x, (0, 3, 1, 2)).copy()), torch.tensor([2, 0])
    with torch.no_grad():
        output = pipeline.transformer(state, timestep=torch.full((2,), t), class_labels=labels).sample
    pipeline.scheduler.set_timesteps(1000)
    wanted = pipeline.scheduler.step(output[:, :4], t, state).pred_original_sample
    found = model.denoise(jnp.asarray(x), float(t), jnp.array([2, 0]))
    np.testing.assert_allclose(found, np.transpose(wanted.numpy(), (0, 2, 3, 1)), atol=PARITY)
    with pytest.raises(ValueError, match=r"conditions must be class labels 0..9, got 'cat'"):
        from_diffusers(pipeline, ["cat"])


def test_curves_and_folders(tmp_path):
    pipeline = tiny.made(tiny.stable_diffusion, tmp_path)
    pipeline.save_pretrained(tmp_path / "pipe")
    model = from_diffusers(tmp_path / "pipe", PROMPTS)
    curve = online_entropy(model, PROMPTS, key=jax.random.key(0), samples=4, steps=4)
    same = online_entropy(
        from_diffusers(pipeline, PROMPTS, batch=3), PROMPTS, key=jax.random.key(0), samples=4, steps=4
    )
    np.testing.assert_allclose(curve.entropy, same.entropy, atol=PARITY)
    # A prompt that was not named before is encoded when it is first used.
    assert model.encode(["a cat on a dog"]).tolist() == [3]


def test_what_is_no_known_pipeline_says_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="source must be a pipeline, a folder with model_index"):
        from_diffusers(tmp_path, PROMPTS)
    pipeline = tiny.made(tiny.stable_diffusion, tmp_path)
    with pytest.raises(ValueError, match="height and width must be multiples of 2 pixels, got 5"):
        from_diffusers(pipeline, PROMPTS, height=5)
    with pytest.raises(ValueError, match="conditions must name at least one"):
        from_diffusers(pipeline, [])
    with pytest.raises(ValueError, match="conditions must be prompts, got 3"):
        from_diffusers(pipeline, [3])


def test_names_of_the_hub_are_downloaded_by_diffusers(tmp_path, monkeypatch):
    pipeline = tiny.made(tiny.stable_diffusion, tmp_path)
    pipeline.save_pretrained(tmp_path / "pipe")

    def download(name, **options):
        assert options == {"use_safetensors": True}
        if name != "someone/tiny":
            raise OSError(f"{name} is not a repository\nand a second line")
        return str(tmp_path / "pipe")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", download)
    model = from_diffusers("someone/tiny", PROMPTS)
    x = jnp.asarray(latents(model.state_shape))
    same = from_diffusers(pipeline, PROMPTS)
    np.testing.assert_allclose(model.denoise(x, 500.0, "a cat"), same.denoise(x, 500.0, "a cat"), atol=PARITY)
    with pytest.raises(ValueError, match=r"diffusers cannot get it: someone/else is not a repository$"):
        from_diffusers("someone/else", PROMPTS)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero", [False, True])
def test_schedules_against_diffusers(kind, zero):
    scheduler = diffusers.DDPMScheduler(
        beta_schedule=kind, prediction_type="v_prediction", rescale_betas_zero_snr=zero
    )
    process = read_schedule(dict(scheduler.config)).process
    t = np.arange(0, 999 if zero else 1000, 37)
    wanted = scheduler.alphas_cumprod.double().numpy()[t]
    np.testing.assert_allclose(np.asarray(process.alpha(t), float) ** 2, wanted, atol=1e-5)


def test_zero_signal_is_refused_for_eps():
    config = dict(diffusers.DDPMScheduler(rescale_betas_zero_snr=True).config)
    with pytest.raises(ValueError, match="an eps-prediction does not determine x_0"):
        read_schedule(config)
    with pytest.raises(ValueError, match="beta_schedule must be linear"):
        read_schedule(dict(diffusers.DDPMScheduler(beta_schedule="sigmoid").config))


def test_shifted_times_are_those_of_the_sampler():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    schedule = read_schedule(dict(scheduler.config))
    assert isinstance(schedule.process, type(gmm.flow()))
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.1, 10).tolist())
    np.testing.assert_allclose(schedule.times(10)[1:], scheduler.sigmas[1:10], rtol=1e-5)


def test_schedules_guide_flow_matching(tmp_path):
    pipeline = tiny.made(tiny.sd3, tmp_path)
    schedule, steps = gmm.limited_interval(4.0, 0.5, 3.0), 6
    x = torch.tensor(np.transpose(latents((tiny.SIZE, tiny.SIZE, 4)), (0, 3, 1, 2)).copy())
    with torch.no_grad():
        found = pipeline(
            "a dog", latents=x.clone(), output_type="latent", **guide_pipeline(pipeline, schedule, steps)
        )
    # The same by hand: Euler steps of dx/dσ = v with the weight of each step's σ/α.
    model = from_diffusers(pipeline, ["a dog"])
    state = np.transpose(x.numpy(), (0, 2, 3, 1))
    sigmas = pipeline.scheduler.sigmas.numpy()
    weights = []
    for now, after in itertools.pairwise(sigmas):
        own, null = (
            np.asarray(model.output(jnp.asarray(state), now, model.encode([w])[0])) for w in ("a dog", "")
        )
        level = now / (1 - now) if now < 1 else np.inf
        weights.append(float(schedule.weight(np.float64(level))))
        state = state + (after - now) * (null + weights[-1] * (own - null))
    assert {1.0, 4.0} == set(weights)
    # w = 1 is 1 + 1e-6 in the pipeline, and both sides are float32.
    np.testing.assert_allclose(np.transpose(found.images.numpy(), (0, 2, 3, 1)), state, atol=1e-4)


def test_schedules_that_a_pipeline_cannot_follow_are_refused(tmp_path):
    pipeline = tiny.made(tiny.sd3, tmp_path)
    with pytest.raises(ValueError, match="must be a function of the noise level alone"):
        guide_pipeline(pipeline, gmm.power_law(2.0, 1.0), 4)
    with pytest.raises(ValueError, match="PixArtAlphaPipeline has not"):
        guide_pipeline(tiny.made(tiny.pixart, tmp_path), 3.0, 4)
    with pytest.raises(ValueError, match="takes its guidance scale as an input of the network"):
        guide_pipeline(tiny.made(tiny.flux, tmp_path), 3.0, 4)


def test_folders_are_models_by_name(tmp_path):
    tiny.made(tiny.sd3, tmp_path).save_pretrained(tmp_path / "pipe")
    model = load_model(f"diffusers:{tmp_path / 'pipe'}")
    assert model.free_text
    curve = online_entropy(model.denoiser, PROMPTS, key=jax.random.key(0), samples=4, steps=4)
    assert np.isfinite(curve.entropy).all()
    tiny.made(tiny.dit, tmp_path).save_pretrained(tmp_path / "dit")
    assert load_model(f"diffusers:{tmp_path / 'dit'}").names == tuple("0123456789")
    # A name may choose the size of the images; a latent pixel has two pixels along each side.
    assert load_model(f"diffusers:{tmp_path / 'pipe'}@24x12").shape == (12, 6, 4)
    with pytest.raises(ValueError, match="height and width must be multiples of 2 pixels, got 5"):
        load_model(f"diffusers:{tmp_path / 'pipe'}@5x12")
    with pytest.raises(ValueError, match="must be diffusers:FOLDER with a folder that exists"):
        load_model(f"diffusers:{tmp_path / 'other'}@8x8")
