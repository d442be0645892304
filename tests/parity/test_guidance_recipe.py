"""Guidance schedules in a small diffusers pipeline with random weights, against a loop by hand.

python -m pytest -m parity tests/parity/test_guidance_recipe.py
"""

import numpy as np
import pytest

pytest.importorskip("tests.neural.stable_diffusion.oracles")

import gmm
from neural import guide_pipeline
from tests.neural.stable_diffusion import tiny
from tests.neural.stable_diffusion.oracles import diffusers, torch

pytestmark = pytest.mark.parity

STEPS = 12
SCHEDULES = {
    "cfg:3": gmm.cfg(3.0),
    "window": gmm.limited_interval(4.0, 0.5, 5.0),
    "open": gmm.limited_interval(4.0, 2.0, np.inf),
    "ramp": gmm.weight_profile([-1.0, 0.5, 2.0], [1.0, 5.0, 1.0]),
}
# w = 1 is 1 + 1e-6 in the pipeline, and both sides are float32.
CLOSE = 1e-4


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
    )
    parts = {"unet": diffusers.UNet2DConditionModel(**tiny.UNET), "vae": diffusers.AutoencoderKL(**tiny.VAE)}
    none = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    made = diffusers.StableDiffusionPipeline(
        **parts, **none, scheduler=scheduler, requires_safety_checker=False
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("schedules") / "guidance.json"
    gmm.save_guidance(path, SCHEDULES)
    return path


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "latents": (1, 4, 8, 8),
        "prompt_embeds": (1, 7, tiny.CONTEXT),
        "negative_prompt_embeds": (1, 7, tiny.CONTEXT),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def by_hand(pipe, schedule, inputs):
    """DDIM with the weight of each step from the schedule itself."""
    scheduler = pipe.scheduler
    scheduler.set_timesteps(STEPS)
    x = inputs["latents"].clone()
    for t in scheduler.timesteps:
        alpha_bar = float(scheduler.alphas_cumprod[t])
        w = float(schedule.weight(np.sqrt((1 - alpha_bar) / alpha_bar)))
        with torch.no_grad():
            wanted, null = (
                pipe.unet(x, t, encoder_hidden_states=inputs[name]).sample
                for name in ("prompt_embeds", "negative_prompt_embeds")
            )
        x = scheduler.step(null + w * (wanted - null), t, x).prev_sample
    return x


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_pipeline_samples_with_the_schedule(pipe, file, inputs, name):
    arguments = guide_pipeline(pipe, gmm.load_guidance(file)[name], STEPS)
    given = {key: value.clone() for key, value in inputs.items()}
    found = pipe(**given, height=16, width=16, output_type="latent", **arguments).images
    expected = by_hand(pipe, SCHEDULES[name], inputs)
    assert float((found - expected).abs().max()) < CLOSE * float(expected.abs().max())


def test_schedules_make_a_difference(pipe, inputs):
    made = [by_hand(pipe, schedule, inputs) for schedule in SCHEDULES.values()]
    for i, one in enumerate(made):
        for other in made[:i]:
            assert float((one - other).abs().max()) > 10 * CLOSE * float(one.abs().max())
