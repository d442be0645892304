"""Sizes of the three networks from the shapes of their tensors; every tensor and setting is compared with them."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neural.checkpoints.shapes import check_shapes
from neural.stable_diffusion.architecture import (
    Shape,
    Shapes,
    TextConfig,
    UNetConfig,
    VAEConfig,
    tensor_shapes,
)
from neural.stable_diffusion.settings import (
    TEXT_SETTINGS,
    UNET_SETTINGS,
    VAE_SETTINGS,
    Options,
    check_settings,
    plain,
)


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
    check_settings("unet", options, UNET_SETTINGS)
    size = _sizer("the U-Net of Stable Diffusion", shapes)
    levels, layers = structure(
        shapes, r"down_blocks\.(\d{1,2})\.resnets\.0\.", r"down_blocks\.0\.resnets\.(\d{1,2})\."
    )
    attends = [f"down_blocks.{level}.attentions.0.norm.weight" in shapes for level in range(levels)]
    texts = [name for name in shapes if name.endswith("attn2.to_k.weight")]
    if not texts:
        raise ValueError("not the U-Net of Stable Diffusion: no tensor is named like ...attn2.to_k.weight")
    # diffusers calls the number of heads by the name of their width.
    heads = plain(options.get("attention_head_dim", UNetConfig.heads))
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
    _check_stated("unet", options, _stated_unet(config))
    check_shapes(shapes, tensor_shapes(config), network="unet")
    if config.in_channels != config.out_channels:
        raise ValueError(
            f"unet: it must predict as many channels as it reads, got {config.out_channels} of {config.in_channels}"
        )
    for stage in config.stages():
        _check_divides(stage.resnet, stage.channels_in + stage.channels_skip, config.groups, "groups")
        if stage.attention:
            _check_divides(stage.attention, stage.channels_out, config.heads, "heads")
    return config


def read_vae(shapes: Shapes, options: Options | None = None) -> VAEConfig:
    """The autoencoder's sizes; arguments and errors as `read_unet`."""
    options = dict(options or {})
    check_settings("vae", options, VAE_SETTINGS)
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
    _check_stated("vae", options, _stated_vae(config))
    check_shapes(shapes, tensor_shapes(config), network="vae")
    for width in config.widths:
        _check_divides("vae", width, config.groups, "groups")
    return config


def read_text(shapes: Shapes, options: Options | None = None) -> TextConfig:
    """The text encoder's sizes; arguments and errors as `read_unet`.

    Its layers are as many as the configuration states: a folder that leaves out the last ones states fewer than
    it has tensors for.
    """
    options = text_options(options or {})
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
    _check_stated("text_encoder", options, _stated_text(config))
    check_shapes(shapes, tensor_shapes(config), network="text_encoder")
    _check_divides("text_encoder", width, config.heads, "heads")
    stated = _positive("text_encoder", "num_hidden_layers", options.get("num_hidden_layers", layers))
    if stated > layers:
        raise ValueError(
            f"text_encoder: num_hidden_layers is {stated}, but there are tensors of {layers} layers"
        )
    return dataclasses.replace(config, layers=stated)


def text_options(options: Options) -> Options:
    """The text encoder's entries of its configuration file, which may be that of CLIP as a whole.

    Raises:
        ValueError: for a setting that is not supported, by name.
    """
    check_settings("text_encoder", options, TEXT_SETTINGS)
    inner = options.get("text_config")
    if not isinstance(inner, dict):
        return options
    check_settings("text_encoder", inner, TEXT_SETTINGS)
    return inner


# What a configuration states of the sizes that the tensors show.


def _levels(config: UNetConfig | VAEConfig, down: Sequence[str], up: Sequence[str]) -> dict[str, Any]:
    return {
        "block_out_channels": config.widths,
        "layers_per_block": config.layers,
        "down_block_types": tuple(down),
        "up_block_types": tuple(up),
    }


def _stated_unet(config: UNetConfig) -> dict[str, Any]:
    kinds = [("CrossAttn" if attends else "") + "{}Block2D" for attends in config.attends]
    return {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "cross_attention_dim": config.context,
        **_levels(
            config, [kind.format("Down") for kind in kinds], [kind.format("Up") for kind in kinds[::-1]]
        ),
    }


def _stated_vae(config: VAEConfig) -> dict[str, Any]:
    levels = len(config.widths)
    return {
        "in_channels": config.image_channels,
        "out_channels": config.image_channels,
        "latent_channels": config.latent_channels,
        **_levels(config, ["DownEncoderBlock2D"] * levels, ["UpDecoderBlock2D"] * levels),
    }


def _stated_text(config: TextConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward,
        "max_position_embeddings": config.positions,
    }


def _check_stated(part: str, options: Options, shown: Mapping[str, Any]) -> None:
    for name, value in shown.items():
        stated = options.get(name, value)
        whole = tuple(stated) if isinstance(value, tuple) and isinstance(stated, list) else stated
        if whole != value and plain(stated) != value:
            raise ValueError(
                f"{part}: the configuration states {name} = {stated!r}, the tensors are those of {value!r}"
            )


def _sizer(network: str, shapes: Shapes) -> Callable[[str, int], int]:
    """A function that reads a size from one tensor; the other tensors are compared with it afterwards."""

    def size(name: str, axis: int) -> int:
        shape = shapes.get(name)
        if shape is None or axis >= len(shape) or 0 in shape:
            shown = "missing" if shape is None else f"of shape {tuple(shape)}"
            raise ValueError(f"not {network}: tensor {name} is {shown}, so the sizes cannot be read")
        return shape[axis]

    return size


def _positive(part: str, key: str, value: Any) -> int:
    value = plain(value)
    if type(value) is not int or value < 1:
        raise ValueError(f"{part}: {key} must be a positive integer, got {value!r}")
    return value


def _check_divides(name: str, channels: int, parts: int, what: str) -> None:
    if channels % parts:
        raise ValueError(f"{name} has {channels} channels, which are not whole {what} ({parts})")


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
