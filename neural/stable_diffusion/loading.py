"""Loading Stable Diffusion 1.5: a folder, a file or a preset becomes a denoiser."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from gmm.process import DDPM, ddpm, scaled_linear_betas
from neural import checkpoints
from neural.checkpoints import CheckpointError
from neural.checkpoints.presets import cache_folder
from neural.stable_diffusion.architecture import TextConfig
from neural.stable_diffusion.autoencoder import VAE
from neural.stable_diffusion.denoiser import SD15, Config
from neural.stable_diffusion.files import Files, read_files
from neural.stable_diffusion.names import TEXT, UNET
from neural.stable_diffusion.names import VAE as AUTOENCODER
from neural.stable_diffusion.tokenizer import Tokenizer, has_library, has_tokenizer, read_tokenizer
from neural.stable_diffusion.weights import check_dtype, convert

Source = str | os.PathLike[str]
PRESET = "sd15"
STEPS = 1000


def load_sd15(
    source: Source = PRESET,
    *,
    dtype: DTypeLike = jnp.float32,
    tokenizer: Source | None = None,
    ema: bool = False,
) -> SD15:
    """Stable Diffusion 1.5, or a fine-tune of the same shape.

    Args:
        source: a folder as diffusers writes it (safetensors or torch, whole or sharded, float32 or float16), a
            single ``.safetensors`` or ``.ckpt`` under the original names, or the preset ``sd15``, which must lie
            in the cache (`speciation weights fetch sd15`).
        dtype: float32, bfloat16 or float16 to compute in. Times, norms and softmax stay in at least float32.
        tokenizer: folder with vocab.json and merges.txt. Default: the checkpoint's own, else the preset's where
            that is in the cache. Without one, or without the package `tokenizers`, only strings are refused.
        ema: of a single file with both, take the U-Net averaged over training (``model_ema.``) in place of the
            one under ``model.diffusion_model.``.

    Raises:
        CheckpointError: (a ValueError) when a file is not there, cannot be read or trusted, is another model
            (named), or a tensor is missing, superfluous or of the wrong shape (named, with both shapes).
        ValueError: on another dtype; when `tokenizer` is given and the package of that name is missing.
    """
    dtype = check_dtype(dtype)
    path = checkpoints.locate(source)[0]
    files = read_files(path, ema=ema)
    unet, text, vae = (files.networks[part] for part in (UNET, TEXT, AUTOENCODER))
    if text.config.width != unet.config.context:
        raise CheckpointError(
            f"{path}: the text encoder is {text.config.width} wide, the U-Net reads texts {unet.config.context} wide"
        )
    size = unet.options.get("sample_size", Config.sample_size)
    if type(size) is not int or size < 1:
        raise CheckpointError(f"{path}: unet: sample_size must be a positive integer, got {size!r}")
    return SD15(
        unet_weights=convert(unet.tensors, dtype),
        text_weights=convert(text.tensors, dtype),
        vae=VAE(convert(vae.tensors, dtype), vae.config, dtype),
        process=_process(path, files.scheduler),
        config=Config(unet.config, text.config, size),
        dtype=dtype,
        tokenizer=_tokenizer(files, tokenizer, text.config),
    )


def load_vae(source: Source = "sd-vae-ft-mse", *, dtype: DTypeLike = jnp.float32) -> VAE:
    """The autoencoder of Stable Diffusion, alone.

    Args:
        source: a folder or file of the autoencoder, or of a whole checkpoint; or a preset: ``sd-vae-ft-mse``, the
            one that EDM2's ImageNet-512 latents belong to.
        dtype: as in `load_sd15`.

    Raises:
        CheckpointError, ValueError: as `load_sd15`.
    """
    dtype = check_dtype(dtype)
    files = read_files(checkpoints.locate(source)[0], (AUTOENCODER,))
    vae = files.networks[AUTOENCODER]
    return VAE(convert(vae.tensors, dtype), vae.config, dtype)


def _process(path: Path, options: Mapping[str, Any]) -> DDPM:
    """The process that the scheduler's configuration describes; Stable Diffusion's where there is none."""
    for key, allowed in {"prediction_type": "epsilon", "beta_schedule": "scaled_linear"}.items():
        if options.get(key, allowed) != allowed:
            raise CheckpointError(f"{path}: the scheduler's {key} must be {allowed}, got {options[key]!r}")
    if options.get("trained_betas") is not None or options.get("rescale_betas_zero_snr", False):
        raise CheckpointError(f"{path}: the scheduler has a beta table of its own, which is not read")
    start, stop = options.get("beta_start", 0.00085), options.get("beta_end", 0.012)
    steps = options.get("num_train_timesteps", STEPS)
    try:
        return ddpm(scaled_linear_betas(start, stop, steps))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the scheduler's betas are no table: {error}") from error


def _tokenizer(files: Files, chosen: Source | None, config: TextConfig) -> Tokenizer | None:
    folder = files.tokenizer if chosen is None else Path(chosen)
    if chosen is None and folder is None:
        preset = cache_folder() / PRESET / "tokenizer"
        folder = preset if has_tokenizer(preset) else None
    if folder is None or (chosen is None and not has_library()):
        return None
    found = read_tokenizer(folder, config.positions)
    if found.largest >= config.vocabulary:
        raise CheckpointError(
            f"{folder} has token {found.largest}, but the text encoder knows {config.vocabulary} tokens"
        )
    return found
