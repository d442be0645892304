"""Names of tensors: the maps from all published names to those of diffusers and transformers, which are used here.

The networks were published under the names of the code that trained them (CompVis/latent-diffusion), in one
file; diffusers renamed them, and renamed the autoencoder's attention once more later. `original_names` is the
map from the former to the latter, one to one; `translated` applies the part of it that a checkpoint needs.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from neural.stable_diffusion.architecture import (
    Stage,
    TextConfig,
    UNetConfig,
    VAEConfig,
    tensor_shapes,
)

UNET, VAE, TEXT = "unet", "vae", "text_encoder"
PARTS = (UNET, VAE, TEXT)

PREFIXES = {
    UNET: "model.diffusion_model.",
    VAE: "first_stage_model.",
    TEXT: "cond_stage_model.transformer.",
}
"""What stands before the original names of each network in the single file."""
EMA_PREFIX = "model_ema."
"""Before the names of the copies averaged over training, whose dots are left out."""

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OLD_VAE_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

# What else lies in published files and has no part in a prediction. Names that the code for training gave to
# its schedules, losses and counters, and buffers and heads that CLIP has beside its text encoder.
_EXTRAS = {
    UNET: re.compile(r"(?!)"),
    VAE: re.compile(r"loss\..*|model_ema\..*"),
    TEXT: re.compile(r"(text_model\.)?embeddings\.position_ids|logit_scale|text_projection\.weight"),
}
_SINGLE_EXTRAS = re.compile(
    r"model_ema\..*|v_pred|ztsnr|betas|logvar|lvlb_weights|scale_factor|log_one_minus_alphas_cumprod|"
    r"(sqrt_)?(one_minus_|recip_|recipm1_)?alphas_cumprod(_prev)?|"
    r"posterior_(variance|log_variance_clipped|mean_coef1|mean_coef2)|"
    r"(epoch|global_step|current_epoch)|(optimizer_states|callbacks|lr_schedulers|loops)\..*"
)


def original_names(config: UNetConfig | VAEConfig | TextConfig) -> dict[str, str]:
    """The original name, without the single file's prefix, of every tensor of a network."""
    layers: dict[str, str] = {}
    if not isinstance(config, TextConfig):
        layers = dict(_unet_layers(config) if isinstance(config, UNetConfig) else _vae_layers(config))
    return {name: _renamed(name, layers) for name in tensor_shapes(config)}


def _renamed(name: str, layers: Mapping[str, str]) -> str:
    """The name with its longest prefix that is in `layers` replaced."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        new = layers.get(".".join(parts[:length]))
        if new is not None:
            return ".".join([new, *parts[length:]])
    return name


def _unet_layers(config: UNetConfig) -> Iterator[tuple[str, str]]:
    yield "time_embedding.linear_1", "time_embed.0"
    yield "time_embedding.linear_2", "time_embed.2"
    yield "conv_in", "input_blocks.0.0"
    yield "conv_norm_out", "out.0"
    yield "conv_out", "out.2"
    place = 0
    for stage in config.down():
        place += 1
        yield from _stage_layers(stage, f"input_blocks.{place}.0", f"input_blocks.{place}.1")
        if stage.resample:
            place += 1
            yield stage.resample, f"input_blocks.{place}.0.op"
    first, second = config.middle()
    yield from _stage_layers(first, "middle_block.0", "middle_block.1")
    yield from _stage_layers(second, "middle_block.2", "")
    for place, stage in enumerate(config.up()):
        yield from _stage_layers(stage, f"output_blocks.{place}.0", f"output_blocks.{place}.1")
        if stage.resample:
            yield stage.resample, f"output_blocks.{place}.{2 if stage.attention else 1}.conv"


def _stage_layers(stage: Stage, resnet: str, attention: str) -> Iterator[tuple[str, str]]:
    for ours, theirs in _RESNET.items():
        yield f"{stage.resnet}.{ours}", f"{resnet}.{theirs}"
    if stage.attention:
        yield stage.attention, attention


def _vae_layers(config: VAEConfig) -> Iterator[tuple[str, str]]:
    last = len(config.widths) - 1
    for stage in (*config.encoder(), *config.decoder()):
        side, _, block, _, index = stage.resnet.split(".")
        # The original counts the decoder's levels from the finest.
        level = int(block) if side == "encoder" else last - int(block)
        prefix = f"{side}.{'down' if side == 'encoder' else 'up'}.{level}"
        yield stage.resnet, f"{prefix}.block.{index}"
        yield f"{stage.resnet}.conv_shortcut", f"{prefix}.block.{index}.nin_shortcut"
        if stage.resample:
            yield stage.resample, f"{prefix}.{'down' if side == 'encoder' else 'up'}sample.conv"
    for side in ("encoder", "decoder"):
        yield f"{side}.conv_norm_out", f"{side}.norm_out"
        for index in (0, 1):
            yield f"{side}.mid_block.resnets.{index}", f"{side}.mid.block_{index + 1}"
        for ours, theirs in _VAE_ATTENTION.items():
            yield f"{side}.mid_block.attentions.0.{ours}", f"{side}.mid.attn_1.{theirs}"


# Towards our names.

_WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)
"""What training in parallel or compiled puts between the parts of a name."""


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """The names by what they are without the words that wrappers of a network have put into them.

    Raises:
        ValueError: when two become the same.
    """
    originals: dict[str, str] = {}
    for name in names:
        plain = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if plain in originals:
            raise ValueError(f"{originals[plain]} and {name} are names of the same tensor")
        originals[plain] = name
    return originals


def without_extras(part: str, names: Iterable[str]) -> list[str]:
    """The names that a network may have, without those that are known to have no part in a prediction."""
    return [name for name in names if not _EXTRAS[part].fullmatch(name)]


def split_single_file(names: Iterable[str], *, ema: bool = False) -> dict[str, dict[str, str]]:
    """Which names of a single file belong to which network.

    Args:
        names: all names of the file.
        ema: take the U-Net's copy that was averaged over training.

    Returns:
        For each of `PARTS` the full name by the original name without prefix; what belongs to none of them and
        is not known to be harmless is under "".
    """
    tensors: dict[str, dict[str, str]] = {part: {} for part in (*PARTS, "")}
    names = list(names)
    copies = {name for name in names if name.startswith(EMA_PREFIX)} if ema else set()
    for name in names:
        part = next((part for part in PARTS if name.startswith(PREFIXES[part])), "")
        inner = name.removeprefix(PREFIXES[part]) if part else name
        if part == UNET and ema:
            copy = ema_name(inner)
            if copy not in copies:
                continue  # reported as missing by its own name
            tensors[part][inner] = copy
        elif part or not (_SINGLE_EXTRAS.fullmatch(name) or _is_clip_extra(name)):
            tensors[part][inner] = name
    return tensors


def ema_name(inner: str) -> str:
    """What the averaged copy of a tensor of the U-Net is called in the single file."""
    return EMA_PREFIX + f"diffusion_model.{inner}".replace(".", "")


def _is_clip_extra(name: str) -> bool:
    return bool(_EXTRAS[TEXT].fullmatch(name.removeprefix("cond_stage_model.")))


def translated(part: str, names: Iterable[str], plan: Mapping[str, str]) -> dict[str, str]:
    """The names of one network's tensors by our names.

    Args:
        part: which network.
        names: in any layout.
        plan: our name by the original one, from `original_names` turned round.

    Returns:
        Every name but the known extras; one that no layout has stands for itself, for the reader to report.

    Raises:
        ValueError: when two names are the same tensor's.
    """
    originals: dict[str, str] = {}
    for name in without_extras(part, names):
        ours = plan.get(name) or _modern(part, name)
        if ours in originals:
            raise ValueError(f"{part}: {originals[ours]} and {name} are names of the same tensor")
        originals[ours] = name
    return originals


def _modern(part: str, name: str) -> str:
    if part == TEXT and not name.startswith("text_model."):
        return f"text_model.{name}"
    if part == VAE and ".attentions." in name:
        prefix, leaf = name.rsplit(".", 1)
        for ours, old in _OLD_VAE_ATTENTION.items():
            if prefix.endswith(f".{old}"):
                return f"{prefix.removesuffix(old)}{ours}.{leaf}"
    return name
