"""Sizes of the three networks read off the shapes of their tensors, and every tensor held to them."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from neural.stable_diffusion.architecture import (
    Shape,
    Shapes,
    TextConfig,
    UNetConfig,
    VAEConfig,
    text_shapes,
    unet_shapes,
    vae_shapes,
)

Options = Mapping[str, Any]

# Entries of the configuration files that change what a network computes, and the only value known here.
_UNET_FIXED = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "only_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "transformer_layers_per_block": 1,
}
_VAE_FIXED = {"act_fn": "silu", "mid_block_add_attention": True, "shift_factor": None}
_TEXT_FIXED = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}


def structure(names: Mapping[str, Shape], level: str, layer: str) -> tuple[int, int]:
    """Number of levels, and of residual blocks in the first, by patterns with one group, the number."""

    def count(pattern: str) -> int:
        return len({match[1] for match in map(re.compile(pattern).match, names) if match})

    return count(level), count(layer)


def read_unet(shapes: Shapes, options: Options | None = None) -> UNetConfig:
    """The U-Net's sizes.

    Args:
        shapes: by our names.
        options: entries of its configuration file, where there is one.

    Raises:
        ValueError: naming the tensor that is missing, superfluous or of the wrong shape (with both shapes), or
            the entry that this reader does not know how to compute with.
    """
    options = dict(options or {})
    _check_fixed("unet", options, _UNET_FIXED)
    size = _sizer("the U-Net of Stable Diffusion", shapes)
    levels, layers = structure(
        shapes, r"down_blocks\.(\d{1,2})\.resnets\.0\.", r"down_blocks\.0\.resnets\.(\d{1,2})\."
    )
    attends = [f"down_blocks.{level}.attentions.0.norm.weight" in shapes for level in range(levels)]
    texts = [name for name in shapes if name.endswith("attn2.to_k.weight")]
    if not texts:
        raise ValueError("not the U-Net of Stable Diffusion: no tensor is named like ...attn2.to_k.weight")
    # Stable Diffusion 1.x calls the number of heads by the name of their width.
    heads = options.get("num_attention_heads") or options.get("attention_head_dim") or UNetConfig.heads
    config = UNetConfig(
        in_channels=size("conv_in.weight", 1),
        out_channels=size("conv_out.weight", 0),
        widths=tuple(size(f"down_blocks.{level}.resnets.0.conv1.weight", 0) for level in range(levels)),
        attends=tuple(attends),
        layers=layers,
        context=size(texts[0], 1),
        heads=_positive("unet", "attention_head_dim", heads),
        groups=_positive("unet", "norm_num_groups", options.get("norm_num_groups", UNetConfig.groups)),
    )
    _check_fit("unet", unet_shapes(config), shapes)
    for stage in config.stages():
        _check_divides(stage.resnet, stage.channels_in + stage.channels_skip, config.groups, "groups")
        if stage.attention:
            _check_divides(stage.attention, stage.channels_out, config.heads, "heads")
    return config


def read_vae(shapes: Shapes, options: Options | None = None) -> VAEConfig:
    """The autoencoder's sizes; arguments and errors as `read_unet`."""
    options = dict(options or {})
    _check_fixed("vae", options, _VAE_FIXED)
    size = _sizer("the autoencoder of Stable Diffusion", shapes)
    levels, layers = structure(
        shapes,
        r"encoder\.down_blocks\.(\d{1,2})\.resnets\.0\.",
        r"encoder\.down_blocks\.0\.resnets\.(\d{1,2})\.",
    )
    scaling = options.get("scaling_factor", VAEConfig.scaling_factor)
    if isinstance(scaling, bool) or not isinstance(scaling, int | float) or not 0 < scaling < 1e6:
        raise ValueError(f"vae: scaling_factor must be a positive number, got {scaling!r}")
    config = VAEConfig(
        image_channels=size("encoder.conv_in.weight", 1),
        latent_channels=size("post_quant_conv.weight", 0),
        widths=tuple(size(f"encoder.down_blocks.{i}.resnets.0.conv1.weight", 0) for i in range(levels)),
        layers=layers,
        groups=_positive("vae", "norm_num_groups", options.get("norm_num_groups", VAEConfig.groups)),
        scaling_factor=float(scaling),
    )
    _check_fit("vae", vae_shapes(config), shapes)
    for width in config.widths:
        _check_divides("vae", width, config.groups, "groups")
    return config


def read_text(shapes: Shapes, options: Options | None = None) -> TextConfig:
    """The text encoder's sizes; arguments and errors as `read_unet`."""
    options = dict(options or {})
    _check_fixed("text_encoder", options, _TEXT_FIXED)
    size = _sizer("the text encoder of Stable Diffusion", shapes)
    width = size("text_model.embeddings.token_embedding.weight", 1)
    layers, _ = structure(shapes, r"text_model\.encoder\.layers\.(\d{1,3})\.", r"(?!)")
    # Published: 64 channels a head.
    heads = options.get("num_attention_heads") or max(1, width // 64)
    config = TextConfig(
        vocabulary=size("text_model.embeddings.token_embedding.weight", 0),
        positions=size("text_model.embeddings.position_embedding.weight", 0),
        width=width,
        layers=layers,
        heads=_positive("text_encoder", "num_attention_heads", heads),
        feed_forward=size("text_model.encoder.layers.0.mlp.fc1.weight", 0),
    )
    _check_fit("text_encoder", text_shapes(config), shapes)
    _check_divides("text_encoder", width, config.heads, "heads")
    return config


def _sizer(network: str, shapes: Shapes) -> Callable[[str, int], int]:
    """Each size from the one tensor that shows it; whether the rest agrees is asked afterwards."""

    def size(name: str, axis: int) -> int:
        shape = shapes.get(name)
        if shape is None or axis >= len(shape) or 0 in shape:
            found = "missing" if shape is None else f"of shape {tuple(shape)}"
            raise ValueError(f"not {network}: tensor {name} is {found}, so the sizes cannot be read")
        return shape[axis]

    return size


def _check_fixed(part: str, options: Options, fixed: Options) -> None:
    for key, value in fixed.items():
        if key in options and options[key] != value:
            raise ValueError(
                f"{part}: {key} must be {value!r}, as in Stable Diffusion 1.5; the configuration says {options[key]!r}"
            )


def _positive(part: str, key: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{part}: {key} must be a positive integer, got {value!r}")
    return value


def _check_divides(name: str, channels: int, parts: int, what: str) -> None:
    if channels % parts:
        raise ValueError(f"{name} has {channels} channels, which are not whole {what} ({parts})")


def _check_fit(part: str, expected: Shapes, shapes: Shapes) -> None:
    if missing := sorted(expected.keys() - shapes.keys()):
        raise ValueError(f"{part}: {len(missing)} tensor(s) missing: {_list(missing)}")
    if extra := sorted(shapes.keys() - expected.keys()):
        raise ValueError(f"{part}: {len(extra)} tensor(s) that this network does not have: {_list(extra)}")
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape:
            raise ValueError(f"{part}: tensor {name} must have shape {shape}, got {tuple(shapes[name])}")


def _list(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


# Layout of the original names: what the map to ours depends on.


def original_unet(shapes: Shapes) -> UNetConfig:
    """Levels, layers and attention of a U-Net under its original names; its widths are not read."""
    steps = sorted(
        int(match[1])
        for match in map(re.compile(r"input_blocks\.(\d{1,3})\.0\.op\.weight").fullmatch, shapes)
        if match
    )
    layers = steps[0] - 1 if steps else UNetConfig.layers
    levels = len(steps) + 1
    attends = [f"input_blocks.{1 + level * (layers + 1)}.1.norm.weight" in shapes for level in range(levels)]
    return UNetConfig(widths=tuple(range(1, levels + 1)), attends=tuple(attends), layers=layers)


def original_vae(shapes: Shapes) -> VAEConfig:
    """Levels and layers of an autoencoder under its original names; its widths are not read."""
    levels, layers = structure(
        shapes, r"encoder\.down\.(\d{1,2})\.block\.0\.", r"encoder\.down\.0\.block\.(\d{1,2})\."
    )
    return dataclasses.replace(VAEConfig(), widths=tuple(range(1, levels + 1)), layers=layers)


# Names that only other models have.
_OTHERS = {
    name: re.compile(pattern)
    for name, pattern in {
        "Stable Diffusion XL": r"conditioner\.embedders\.|add_embedding\.|(model\.diffusion_model\.)?label_emb\.",
        "Stable Diffusion 2": r"cond_stage_model\.model\.",
        "Stable Diffusion 3": r"(model\.diffusion_model\.)?joint_blocks\.|transformer_blocks\.0\.attn\.add_",
        "FLUX": r"(model\.diffusion_model\.)?double_blocks\.|single_transformer_blocks\.",
        "a ControlNet": r"control_model\.|controlnet_",
        "a LoRA, which changes a network but is none": r".*(lora_|\.lora\.)",
        "EDM2": r"unet\.out_gain",
    }.items()
}
_BY_CONTEXT = {
    1024: "Stable Diffusion 2",
    2048: "Stable Diffusion XL",
    1280: "the refiner of Stable Diffusion XL",
}
_BY_CHANNELS = {
    9: "Stable Diffusion for inpainting",
    8: "InstructPix2Pix",
    5: "Stable Diffusion 2 with depth",
    7: "the upscaler of Stable Diffusion",
}


def other_model(shapes: Shapes) -> str | None:
    """What model tensors belong to that this reader does not read, as far as their names and shapes tell."""
    for name, pattern in _OTHERS.items():
        if any(pattern.match(key) for key in shapes):
            return name
    for key, shape in shapes.items():
        if key.endswith("attn2.to_k.weight") and len(shape) == 2 and shape[1] in _BY_CONTEXT:
            return _BY_CONTEXT[shape[1]]
        first = re.fullmatch(r"(model\.diffusion_model\.)?(conv_in|input_blocks\.0\.0)\.weight", key)
        if first and len(shape) == 4 and shape[1] in _BY_CHANNELS:
            return _BY_CHANNELS[shape[1]]
    return None
