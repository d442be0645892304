"""Tiny pipelines of diffusers with random weights, saved by diffusers itself, and what they compute."""

import json
import shutil
from pathlib import Path

import numpy as np

from tests.neural.stable_diffusion import folders, tiny
from tests.neural.stable_diffusion.oracles import diffusers, torch, transformers

# float32 on both sides, relative to the largest value; at late times the error is divided by α.
FLOAT32 = 2e-5
CONTEXT = 64
PROMPT = "a photo of a cat"
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
X = tiny.noise("latents", (2, 8, 8, 4))
UNET = {**tiny.UNET, "cross_attention_dim": CONTEXT, "norm_num_groups": 32, "attention_head_dim": 8}
VAE = {**tiny.VAE, "block_out_channels": (32, 64), "norm_num_groups": 32}
TEXT = {
    **tiny.TEXT,
    "hidden_size": CONTEXT,
    "intermediate_size": 96,
    "num_attention_heads": 1,
    "num_hidden_layers": 3,
}


def make(folder, scheduler=None, **changes):
    """A pipeline; `changes` are entries of its networks' configurations by part.

    Sizes that a single file does not state (heads, groups) are the published ones.
    """
    torch.manual_seed(7)
    files = folders.write_tokenizer(Path(folder))
    tokenizer = transformers.CLIPTokenizer.from_pretrained(files)
    tokenizer.model_max_length = tiny.POSITIONS
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(**{**TEXT, **changes.get("text_encoder", {})})
    )
    unet = diffusers.UNet2DConditionModel(**{**UNET, **changes.get("unet", {})})
    vae = diffusers.AutoencoderKL(**{**VAE, **changes.get("vae", {})})
    with torch.no_grad():
        for module in (text, unet, vae):
            for parameter in module.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return diffusers.StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=scheduler or diffusers.DDIMScheduler(**SCHEDULER, clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def edited(source, target, file, **entries):
    """A copy of a folder with other entries in one of its configuration files."""
    shutil.copytree(source, target)
    path = target / file
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(old | entries))
    return target


@torch.no_grad()
def states(pipe, prompt=PROMPT, clip_skip=None):
    """What the text encoder says of a prompt, by the pipeline's own steps.

    With `clip_skip` by its formula: the pipeline looks for the final norm where this transformers does not have it.
    """
    if clip_skip is None:
        return pipe.encode_prompt(prompt, "cpu", 1, False)[0]
    ids = pipe.tokenizer(
        prompt, padding="max_length", max_length=tiny.POSITIONS, return_tensors="pt"
    ).input_ids
    hidden = pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-(clip_skip + 1)]
    return getattr(pipe.text_encoder, "text_model", pipe.text_encoder).final_layer_norm(hidden)


@torch.no_grad()
def output(pipe, t, x=X, prompt=PROMPT, clip_skip=None):
    """What the U-Net predicts, (n, H, W, 4)."""
    latents = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    text = states(pipe, prompt, clip_skip).expand(len(x), -1, -1)
    return np.moveaxis(pipe.unet(latents, t, encoder_hidden_states=text).sample.numpy(), 1, -1)


def clean(pipe, t, x=X, prompt=PROMPT, clip_skip=None):
    """E[x_0 | x_t, prompt] at a whole step, by the scheduler's own table and kind of prediction, in float64."""
    alpha_bar = float(pipe.scheduler.alphas_cumprod[t])
    alpha, sigma = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    found = output(pipe, t, x, prompt, clip_skip).astype(np.float64)
    kind = pipe.scheduler.config.prediction_type
    return {
        "epsilon": lambda: (x - sigma * found) / alpha,
        "v_prediction": lambda: alpha * x - sigma * found,
        "sample": lambda: found,
    }[kind]()


def far(a, b):
    """Largest difference, relative to the largest value of the second."""
    return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())


def single_file(folder):
    """The tensors of a folder under the names of the single file."""
    from neural.stable_diffusion import files, names

    found = {}
    for part, network in files.read_files(folder).networks.items():
        original = names.original_names(network.config)
        for name in network.tensors:
            value = np.array(network.tensors[name])
            if part == "vae" and ".attentions." in name and value.ndim == 2:
                value = value[:, :, None, None]
            found[names.PREFIXES[part] + original[name]] = value
    return found
