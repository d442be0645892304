"""Loading Stable Diffusion 1.5: a folder, a file or a preset becomes a denoiser."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from gmm.checks import choose
from neural import checkpoints
from neural.checkpoints import CheckpointError
from neural.checkpoints.presets import cache_folder
from neural.stable_diffusion.architecture import END, START, TextConfig, tensor_shapes
from neural.stable_diffusion.autoencoder import VAE
from neural.stable_diffusion.denoiser import SD15, Config
from neural.stable_diffusion.embeddings import Learnt, read_embeddings, with_embeddings
from neural.stable_diffusion.files import Files, Network, read_files
from neural.stable_diffusion.lora import with_lora
from neural.stable_diffusion.names import TEXT, UNET
from neural.stable_diffusion.names import VAE as AUTOENCODER
from neural.stable_diffusion.scheduler import PREDICTIONS, Noise, read_scheduler
from neural.stable_diffusion.settings import plain
from neural.stable_diffusion.sizes import text_options
from neural.stable_diffusion.tokenizer import Tokenizer, has_library
from neural.stable_diffusion.vocabulary import Vocabulary, has_vocabulary, read_vocabulary, with_added
from neural.stable_diffusion.weights import check_dtype, convert

Source = str | os.PathLike[str]
PRESET = "sd15"


def load_sd15(
    source: Source = PRESET,
    *,
    dtype: DTypeLike = jnp.float32,
    tokenizer: Source | None = None,
    ema: bool = False,
    prediction: str | None = None,
    clip_skip: int | None = None,
    lora: Sequence[Source | tuple[Source, float]] = (),
    embeddings: Sequence[Source | tuple[Source, str]] = (),
) -> SD15:
    """Stable Diffusion 1.5, or a fine-tune of the same shape.

    Every setting of the folder's configuration files, and everything that a single file says about itself, is
    used or refused by name (`neural.stable_diffusion.settings`).

    Args:
        source: a folder as diffusers writes it (safetensors or torch, whole or sharded, float32 or float16), a
            single ``.safetensors`` or ``.ckpt`` under the original names, or the preset ``sd15``, which must lie
            in the cache (`speciation weights fetch sd15`).
        dtype: float32, bfloat16 or float16 to compute in. Times, norms and softmax stay in at least float32.
        tokenizer: folder with vocab.json and merges.txt. Default: the checkpoint's own, else the preset's where
            that is in the cache. Without one, or without the package `tokenizers`, only strings are refused.
        ema: of a single file with both, take the U-Net averaged over training (``model_ema.``) in place of the
            one under ``model.diffusion_model.``.
        prediction: what the U-Net predicts: "epsilon", "v" or "sample". Default: what the files say, else
            "epsilon". Given, it replaces what they say.
        clip_skip: the last layers of the text encoder to leave out before its final norm, counted as diffusers
            does: 1 is what other programs call "clip skip 2". Default: what a single file says, else 0.
        lora: LoRA files, or pairs of a file and its scale (1 where none is given), added to the weights in this
            order. Their spelling may be that of diffusers, PEFT or kohya.
        embeddings: files of learnt words (textual inversion), or pairs of a file and the word that stands for it
            in a prompt. Default: the word in the file, else the file's name.

    Raises:
        CheckpointError: (a ValueError) when a file is not there, cannot be read or trusted, is another model
            (named), has a setting that is not supported (named), or a tensor is missing, superfluous or of
            the wrong shape (named, with both shapes).
        ValueError: on another dtype, prediction, clip_skip or scale; when `tokenizer` is given and the package of
            that name is missing.
    """
    dtype = check_dtype(dtype)
    prediction = None if prediction is None else choose("prediction", prediction, PREDICTIONS)
    path = checkpoints.locate(source)[0]
    files = read_files(path, ema=ema, prediction=prediction)
    networks = with_lora(files.networks, lora)
    unet, text, vae = (networks[part] for part in (UNET, TEXT, AUTOENCODER))
    if text.config.width != unet.config.context:
        raise CheckpointError(
            f"{path}: the text encoder is {text.config.width} wide, the U-Net reads texts {unet.config.context} wide"
        )
    learnt = read_embeddings(embeddings, text.config.width)
    vocabulary, words = _words(files, tokenizer, text, learnt)
    text = _shortened(with_embeddings(text, learnt), files.clip_skip if clip_skip is None else clip_skip)
    noise = _noise(path, files, prediction)
    config = Config(
        unet.config, text.config, _sample_size(path, unet), noise.prediction, _empty(vocabulary, text)
    )
    return SD15(
        unet_weights=convert(unet.tensors, dtype),
        text_weights=convert(text.tensors, dtype),
        vae=VAE(convert(vae.tensors, dtype), vae.config, dtype),
        process=noise.process,
        config=config,
        dtype=dtype,
        tokenizer=words,
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


def _noise(path: Path, files: Files, prediction: str | None) -> Noise:
    try:
        return read_scheduler(files.scheduler, prediction)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _sample_size(path: Path, unet: Network) -> int:
    size = plain(unet.options.get("sample_size"))
    if size is None:
        return Config.sample_size
    if type(size) is not int or size < 1:
        raise CheckpointError(
            f"{path}: unet: sample_size must be a positive integer, the same along both sides, got {size!r}"
        )
    return size


def _shortened(text: Network, skip: int) -> Network:
    """The text encoder without its last layers."""
    layers = text.config.layers
    if isinstance(skip, bool) or not isinstance(skip, int) or not 0 <= skip < layers:
        raise ValueError(f"clip_skip must be an integer in 0..{layers - 1}, got {skip!r}")
    config = dataclasses.replace(text.config, layers=layers - skip)
    return Network(config, text.options, text.tensors).only(tensor_shapes(config))


# Words.


def _words(
    files: Files, chosen: Source | None, text: Network, learnt: Sequence[Learnt]
) -> tuple[Vocabulary | None, Tokenizer | None]:
    """The vocabulary, where there is one, and the tokenizer, where its package is installed too."""
    folder = files.tokenizer if chosen is None else Path(chosen)
    if chosen is None and folder is None:
        preset = cache_folder() / PRESET / "tokenizer"
        folder = preset if has_vocabulary(preset) else None
    if folder is None:
        if learnt:
            raise ValueError(
                "embeddings need the model's vocabulary, and none was found; use tokenizer=FOLDER"
            )
        return None, None
    vocabulary = read_vocabulary(folder, text.config.positions)
    if vocabulary.largest >= text.config.vocabulary:
        raise CheckpointError(
            f"{folder} has token {vocabulary.largest}, but the text encoder has {text.config.vocabulary} tokens"
        )
    vocabulary = with_added(
        vocabulary, [word for embedding in learnt for word in embedding.words], text.config.vocabulary
    )
    if chosen is None and not has_library():
        return vocabulary, None
    try:
        return vocabulary, Tokenizer(vocabulary)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def _empty(vocabulary: Vocabulary | None, text: Network) -> tuple[int, ...]:
    """Tokens of the empty prompt; () where neither a vocabulary nor the published numbers give them."""
    config: TextConfig = text.config
    if vocabulary is not None:
        return vocabulary.empty()
    start, end = START, END
    if config.vocabulary <= END:
        start, end = (_token(text.options, name, config) for name in ("bos_token_id", "eos_token_id"))
    return () if start is None or end is None else (start, *[end] * (config.positions - 1))


def _token(options: Any, name: str, config: TextConfig) -> int | None:
    token = text_options(options).get(name)
    # Older releases of transformers wrote 0, 1 and 2, which are no special tokens of CLIP.
    return token if type(token) is int and 2 < token < config.vocabulary else None
