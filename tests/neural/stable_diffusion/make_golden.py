"""Makes ../data/sd15/: answers of diffusers and transformers that the normal tests compare with, without torch.

    python -m tests.neural.stable_diffusion.make_golden

Networks of reduced size have the weights of `rule`; the names and shapes of the full-size ones are kept too.
It needs the `parity` extra. Versions are written into the files.
"""

import json
from pathlib import Path

import numpy as np

from tests.neural.stable_diffusion import rule, tiny
from tests.neural.stable_diffusion.oracles import diffusers, torch, transformers

DATA = Path(__file__).parents[1] / "data" / "sd15"
FULL_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "sample_size": 512,
}


def filled(module: torch.nn.Module, rename=lambda name: name) -> torch.nn.Module:
    """The module with the weights of `rule`, which go by our names, in float64."""
    state = {
        name: torch.from_numpy(rule.tensor(rename(name), tuple(value.shape)))
        if value.is_floating_point()
        else value
        for name, value in module.state_dict().items()
    }
    module.load_state_dict(state)
    return module.double().eval()


def prefixed(name: str) -> str:
    """Recent releases of transformers leave out the prefix that published files have."""
    return name if name.startswith("text_model.") else f"text_model.{name}"


def nhwc(value: torch.Tensor) -> np.ndarray:
    """Images as this project keeps them."""
    return np.moveaxis(value.detach().numpy(), 1, -1)


def images(name: str, *shape: int) -> torch.Tensor:
    """NCHW float64 input by rule."""
    return torch.from_numpy(np.moveaxis(tiny.noise(name, shape), -1, 1).astype(np.float64).copy())


def networks() -> dict[str, np.ndarray]:
    """Answers of the three reduced networks."""
    unet = filled(diffusers.UNet2DConditionModel(**tiny.UNET))
    vae = filled(diffusers.AutoencoderKL(**tiny.VAE))
    text = filled(transformers.CLIPTextModel(transformers.CLIPTextConfig(**tiny.TEXT)), prefixed)
    latents = images("latents", *tiny.LATENTS)
    states = torch.from_numpy(tiny.noise("states", (2, tiny.POSITIONS, tiny.CONTEXT)).astype(np.float64))
    found = {
        f"unet/{t}": nhwc(unet(latents, torch.tensor(t, dtype=torch.float64), states).sample)
        for t in tiny.TIMES
    }
    pictures = images("pictures", *tiny.PICTURES)
    posterior = vae.encode(pictures).latent_dist
    found["vae/mean"], found["vae/logvar"] = nhwc(posterior.mean), nhwc(posterior.logvar)
    found["vae/decoded"] = nhwc(vae.decode(latents).sample)
    tokens = torch.tensor(tiny.TOKENS)
    found["text/states"] = text(tokens).last_hidden_state.detach().numpy()
    return found


def schedulers() -> dict[str, np.ndarray]:
    """Paths of diffusers' DDIM and DDPM schedulers under a denoiser that any language can write down."""
    beta = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    found = {}
    start = torch.from_numpy(tiny.noise("start", (2, 4, 4, 4)).astype(np.float64))
    for name, make in {
        "ddim": lambda: diffusers.DDIMScheduler(
            **beta, clip_sample=False, set_alpha_to_one=False, steps_offset=1
        ),
        "ddim-eta": lambda: diffusers.DDIMScheduler(
            **beta, clip_sample=False, set_alpha_to_one=False, steps_offset=1
        ),
        "ddpm": lambda: diffusers.DDPMScheduler(**beta, clip_sample=False, variance_type="fixed_small"),
    }.items():
        scheduler = make()
        # Tables in float64: diffusers keeps float32 ones, whose rounding would be most of any difference.
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        scheduler.betas, scheduler.alphas = betas, 1 - betas
        scheduler.alphas_cumprod = torch.cumprod(1 - betas, 0)
        if hasattr(scheduler, "final_alpha_cumprod"):
            scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
        scheduler.one = torch.tensor(1.0, dtype=torch.float64)
        scheduler.set_timesteps(tiny.STEPS)
        x, path = start, [start]
        for index, t in enumerate(scheduler.timesteps):
            epsilon = tiny.predicted_noise(x, int(t))
            draw = torch.from_numpy(tiny.noise(f"draw{index}", (2, 4, 4, 4)).astype(np.float64))
            options = {"eta": 1.0, "variance_noise": draw} if name == "ddim-eta" else {}
            if name == "ddpm":
                step = _ddpm_step(scheduler, epsilon, t, x, draw)
            else:
                step = scheduler.step(epsilon, t, x, **options).prev_sample
            x = step
            path.append(x)
        found[f"{name}/timesteps"] = scheduler.timesteps.numpy()
        found[f"{name}/path"] = torch.stack(path).numpy()
    return found


def _ddpm_step(scheduler, epsilon, t, x, draw):
    """The step with a draw of ours: the scheduler makes its own inside `randn_tensor`."""
    module = diffusers.schedulers.scheduling_ddpm
    original, module.randn_tensor = module.randn_tensor, lambda *args, **kwargs: draw
    try:
        return scheduler.step(epsilon, t, x).prev_sample
    finally:
        module.randn_tensor = original


def names() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the full-size networks, from modules without memory."""
    with torch.device("meta"):
        modules = {
            "unet": diffusers.UNet2DConditionModel(
                sample_size=64, cross_attention_dim=768, attention_head_dim=8
            ),
            "vae": diffusers.AutoencoderKL(**FULL_VAE),
            "text_encoder": transformers.CLIPTextModel(transformers.CLIPTextConfig(**tiny.FULL_TEXT)),
        }
    rename = {"text_encoder": prefixed}
    return {
        part: {
            rename.get(part, str)(name): list(value.shape)
            for name, value in module.state_dict().items()
            if value.is_floating_point()
        }
        for part, module in modules.items()
    }


def main() -> None:
    """Write both files."""
    DATA.mkdir(parents=True, exist_ok=True)
    versions = {m.__name__: m.__version__ for m in (diffusers, transformers, torch)}
    with torch.no_grad():
        arrays = networks() | schedulers()
    small = {
        key: value.astype(np.float32) if key.split("/")[0] in tiny.NETWORKS else value
        for key, value in arrays.items()
    }
    np.savez_compressed(DATA / "golden.npz", versions=json.dumps(versions), **small)
    (DATA / "names.json").write_text(json.dumps(names(), separators=(",", ":")).replace("],", "],\n") + "\n")


if __name__ == "__main__":
    main()
