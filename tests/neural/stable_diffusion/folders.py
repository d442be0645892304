"""Checkpoints of reduced size in every layout, written without torch."""

import json
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from neural.stable_diffusion import names
from neural.stable_diffusion.architecture import (
    TextConfig,
    UNetConfig,
    VAEConfig,
    tensor_shapes,
)
from tests.neural.checkpoints import forge
from tests.neural.stable_diffusion import rule, tiny

UNET = UNetConfig(4, 4, (32, 64), (True, False), 1, tiny.CONTEXT, 4, 16)
VAE = VAEConfig(3, 4, (16, 32), 1, 8)
TEXT = TextConfig(tiny.VOCABULARY, tiny.POSITIONS, tiny.CONTEXT, 2, 3, 48)
CONFIGS = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}
SHAPES = {"unet": tensor_shapes(UNET), "vae": tensor_shapes(VAE), "text_encoder": tensor_shapes(TEXT)}
OPTIONS = {
    "unet": {"_class_name": "UNet2DConditionModel", **tiny.UNET},
    "vae": {"_class_name": "AutoencoderKL", "scaling_factor": 0.18215, **tiny.VAE},
    "text_encoder": {"architectures": ["CLIPTextModel"], **tiny.TEXT},
}
STEM = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
POSITION_IDS = np.arange(tiny.POSITIONS)[None]


def tensors(part, dtype="float32"):
    return {name: value.astype(dtype) for name, value in rule.tensors(SHAPES[part]).items()}


def write_folder(folder: Path, change=lambda part, found: found, ending="safetensors", dtype="float32"):
    """A folder as diffusers writes it; `change` may rename or replace tensors of a part."""
    for part, options in OPTIONS.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(options))
        save_file(change(part, tensors(part, dtype)), folder / part / f"{STEM[part]}.{ending}")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (folder / "scheduler").mkdir()
    scheduler = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
    }
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    write_tokenizer(folder / "tokenizer")
    return folder


def shard(path: Path, count=2, index="safetensors.index.json"):
    """Cut a safetensors file of a folder into shards beside an index."""
    from safetensors.numpy import load_file

    found = load_file(path)
    stem, parts = path.name.removesuffix(".safetensors"), {}
    for number in range(count):
        file = f"{stem}-{number + 1:05d}-of-{count:05d}.safetensors"
        some = {name: found[name] for name in sorted(found)[number::count]}
        save_file(some, path.with_name(file))
        parts |= dict.fromkeys(some, file)
    path.unlink()
    path.with_name(f"{stem}.{index}").write_text(json.dumps({"metadata": {}, "weight_map": parts}))


def alphabet() -> list[str]:
    """The characters that stand for the 256 bytes in byte-level vocabularies."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + number) for number in range(len(rest))]


def write_tokenizer(folder: Path, merges=tiny.MERGES):
    folder.mkdir(parents=True)
    letters = alphabet()
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *map("".join, merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return folder


def single_file(dtype="float32", ema=False):
    """All tensors under the names of the single file, with the extras of the published ones."""
    found = {}
    for part, config in CONFIGS.items():
        original = names.original_names(config)
        for name, value in tensors(part, dtype).items():
            if part == "vae" and re.search(r"attentions\.0\.to_.*weight", name):
                value = value[:, :, None, None]
            found[names.PREFIXES[part] + original[name]] = value
            if part == "unet" and ema:
                found[names.ema_name(original[name])] = value * np.float32(0.5)
    if ema:
        found |= {"model_ema.decay": np.float32(0.9999), "model_ema.num_updates": np.array(7, np.int32)}
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha_bar = np.cumprod(1 - betas)
    tables = {
        "betas": betas,
        "alphas_cumprod": alpha_bar,
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - alpha_bar),
        "posterior_mean_coef2": np.linspace(0.1, 0.9, 1000),
    }
    found |= {name: table.astype(dtype) for name, table in tables.items()}
    found["cond_stage_model.transformer.text_model.embeddings.position_ids"] = POSITION_IDS
    return {name: np.array(value) for name, value in found.items()}


def torch_file(found, beside=None):
    """A zip file as torch.save writes it: of a dictionary of tensors, or with a trainer's objects beside it."""
    storages = {str(number): np.asarray(value, order="C") for number, value in enumerate(found.values())}
    stored = {
        name: forge.rebuild(forge.identity(storages[key], key), storages[key])
        for name, key in zip(found, storages, strict=True)
    }
    return forge.archive(stored if beside is None else {"state_dict": stored, **beside}, storages)


def trainer():
    """What pytorch-lightning leaves in a .ckpt."""
    callback = forge.Name("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    scheduler = forge.Call(forge.Name("ldm.lr_scheduler", "LambdaLinearScheduler"), state={"f": 1.0})
    return {
        "epoch": 7,
        "global_step": 840_000,
        "pytorch-lightning_version": "1.4.2",
        "callbacks": {callback: {"best_model_score": None, "monitor": "val/loss"}},
        "lr_schedulers": [scheduler],
        "optimizer_states": [{"state": {}, "param_groups": []}],
    }
