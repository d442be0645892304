"""The three networks of Stable Diffusion 1.5: their sizes, and the shape of every tensor.

The networks are those of Rombach et al. 2022 (arXiv 2112.10752): a U-Net that predicts noise, the autoencoder
whose latents it works on, and the text encoder of CLIP (Radford et al. 2021, arXiv 2103.00020). Tensors have
the names under which diffusers and transformers save them; `neural.stable_diffusion.names` maps other names to these.

The shapes of the tensors in a checkpoint determine the sizes, except for the number of attention heads and of
normalisation groups. These come from the configuration files of a folder, or else from the published networks.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

KERNEL = (3, 3)
START, END = 49406, 49407
"""Tokens of the start and the end of a text in the published vocabulary."""
TOKENS = 77
"""Tokens of one text, start, end and padding included."""
FEED_FORWARD = 4
"""Width of a feed-forward layer, divided by the width of its input."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A residual block, and the text attention after it if there is one.

    Attributes:
        resnet: the block's prefix in the checkpoint.
        attention: the attention's prefix; None where there is none.
        channels_in: channels of the main path at its input.
        channels_skip: channels of the skip connection appended to them; 0 where there is none.
        channels_out: channels of its output.
        resample: prefix of the convolution that follows and changes the resolution; None where none does.
    """

    resnet: str
    attention: str | None
    channels_in: int
    channels_skip: int
    channels_out: int
    resample: str | None = None


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Sizes of the U-Net.

    Attributes:
        in_channels, out_channels: of the latents.
        widths: channels of each level, finest resolution first; every level has half the resolution of the one before.
        attends: for each level, whether its blocks attend to the text.
        layers: residual blocks in each level on the way down; there is one more on the way up.
        context: width of the text states.
        heads: attention heads of every level.
        groups: of the group normalisation.
    """

    in_channels: int = 4
    out_channels: int = 4
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    attends: tuple[bool, ...] = (True, True, True, False)
    layers: int = 2
    context: int = 768
    heads: int = 8
    groups: int = 32

    @property
    def embedding(self) -> int:
        """Width of the embedding of the time step."""
        return 4 * self.widths[0]

    def down(self) -> tuple[Stage, ...]:
        """The stages on the way down, in the order of execution."""
        return tuple(_down(self.widths, self.layers, self.attends))

    def middle(self) -> tuple[Stage, ...]:
        """The stages between the way down and the way up."""
        width = self.widths[-1]
        names = ("mid_block.resnets.0", "mid_block.resnets.1")
        return (
            Stage(names[0], "mid_block.attentions.0", width, 0, width),
            Stage(names[1], None, width, 0, width),
        )

    def up(self) -> tuple[Stage, ...]:
        """The stages on the way up, in the order of execution."""
        skips = [self.widths[0]]
        for stage in self.down():
            skips += [stage.channels_out] * (2 if stage.resample else 1)
        return tuple(_up(self.widths, self.layers, self.attends, reversed(skips)))

    def stages(self) -> tuple[Stage, ...]:
        """All stages, in the order of execution."""
        return (*self.down(), *self.middle(), *self.up())


def _down(widths: Sequence[int], layers: int, attends: Sequence[bool], before: str = "") -> Iterator[Stage]:
    """The stages from the finest level to the coarsest; their names begin with `before`."""
    width, last = widths[0], len(widths) - 1
    for level, out in enumerate(widths):
        prefix = f"{before}down_blocks.{level}"
        for index in range(layers):
            ends = index == layers - 1 and level < last
            yield Stage(
                f"{prefix}.resnets.{index}",
                f"{prefix}.attentions.{index}" if attends[level] else None,
                width,
                0,
                out,
                f"{prefix}.downsamplers.0.conv" if ends else None,
            )
            width = out


def _up(
    widths: Sequence[int], layers: int, attends: Sequence[bool], skips: Iterator[int], before: str = ""
) -> Iterator[Stage]:
    """The stages from the coarsest level to the finest, each with the channels of its skip connection."""
    width = widths[-1]
    for block, level in enumerate(reversed(range(len(widths)))):
        out, prefix = widths[level], f"{before}up_blocks.{block}"
        for index in range(layers + 1):
            ends = index == layers and level > 0
            yield Stage(
                f"{prefix}.resnets.{index}",
                f"{prefix}.attentions.{index}" if attends[level] else None,
                width,
                next(skips),
                out,
                f"{prefix}.upsamplers.0.conv" if ends else None,
            )
            width = out


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """Sizes of the autoencoder.

    Attributes:
        image_channels: of the pictures.
        latent_channels: of the latents; each has a mean and a log variance in the encoder's output.
        widths: channels of each level, finest resolution first; every level has half the resolution of the one before.
        layers: residual blocks in each level of the encoder; the decoder has one more.
        groups: of the group normalisation.
        scaling_factor: what Stable Diffusion multiplies latents by.
    """

    image_channels: int = 3
    latent_channels: int = 4
    widths: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    groups: int = 32
    scaling_factor: float = 0.18215

    @property
    def shrinks(self) -> int:
        """Pixels along a side over latents along a side."""
        return 2 ** (len(self.widths) - 1)

    def encoder(self) -> tuple[Stage, ...]:
        """The stages of the encoder, in the order of execution."""
        return tuple(_down(self.widths, self.layers, [False] * len(self.widths), "encoder."))

    def decoder(self) -> tuple[Stage, ...]:
        """The stages of the decoder, in the order of execution."""
        none = [False] * len(self.widths)
        return tuple(_up(self.widths, self.layers, none, itertools.repeat(0), "decoder."))


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Sizes of the text encoder.

    Attributes:
        vocabulary: number of tokens, the rows of its table.
        positions: largest number of tokens of a text.
        width: of its states.
        layers: transformer layers.
        heads: attention heads of each.
        feed_forward: width of the feed-forward layers.
    """

    vocabulary: int = 49408
    positions: int = TOKENS
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward: int = 3072


# Costs.


def unet_multiply_adds(config: UNetConfig, side: int) -> int:
    """Multiply-adds of one evaluation of the U-Net on one state of `side` rows and columns: weights and attention."""
    total = 0
    for name, shape in tensor_shapes(config).items():
        if name.endswith(".weight") and len(shape) > 1:
            total += math.prod(shape) * _places(name, config, side)
    for stage in (*config.down(), *config.middle(), *config.up()):
        if stage.attention is not None:
            pixels = _side(stage.attention, config, side) ** 2
            total += 2 * pixels * (pixels + TOKENS) * stage.channels_out
    return total


def _places(name: str, config: UNetConfig, side: int) -> int:
    """At how many places a weight is applied: pixels, tokens of the text, or once."""
    if "time_emb" in name:
        return 1
    if ".attn2.to_k." in name or ".attn2.to_v." in name:
        return TOKENS
    return _side(name, config, side) ** 2


def _side(name: str, config: UNetConfig, side: int) -> int:
    """Rows of the images that a layer writes."""
    deepest = len(config.widths) - 1
    kind, _, rest = name.partition(".")
    if kind not in ("down_blocks", "up_blocks", "mid_block"):
        return side
    if kind == "mid_block":
        return side >> deepest
    number = int(rest.partition(".")[0])
    level = number if kind == "down_blocks" else deepest - number
    # Samplers between levels write at the resolution of the next one.
    return side >> (level + ("downsamplers" in name) - ("upsamplers" in name))


# Shapes. A layer is its weight (out, in, ...) and a bias (out,).


def _layer(name: str, out: int, *rest: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out, *rest), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _resnet(stage: Stage, embedding: int | None) -> dict[str, Shape]:
    name, out = stage.resnet, stage.channels_out
    width = stage.channels_in + stage.channels_skip
    shapes = {
        **_norm(f"{name}.norm1", width),
        **_layer(f"{name}.conv1", out, width, *KERNEL),
        **_norm(f"{name}.norm2", out),
        **_layer(f"{name}.conv2", out, out, *KERNEL),
    }
    if embedding is not None:
        shapes |= _layer(f"{name}.time_emb_proj", out, embedding)
    if width != out:
        shapes |= _layer(f"{name}.conv_shortcut", out, width, 1, 1)
    if stage.resample:
        shapes |= _layer(stage.resample, out, out, *KERNEL)
    return shapes


def _text_attention(name: str, width: int, context: int) -> dict[str, Shape]:
    block = f"{name}.transformer_blocks.0"
    shapes = {
        **_norm(f"{name}.norm", width),
        **_layer(f"{name}.proj_in", width, width, 1, 1),
        **_layer(f"{name}.proj_out", width, width, 1, 1),
        **_layer(f"{block}.ff.net.0.proj", 2 * FEED_FORWARD * width, width),
        **_layer(f"{block}.ff.net.2", width, FEED_FORWARD * width),
    }
    for index in (1, 2, 3):
        shapes |= _norm(f"{block}.norm{index}", width)
    for attention, source in (("attn1", width), ("attn2", context)):
        for part, size in (("to_q", width), ("to_k", source), ("to_v", source)):
            shapes[f"{block}.{attention}.{part}.weight"] = (width, size)
        shapes |= _layer(f"{block}.{attention}.to_out.0", width, width)
    return shapes


@functools.singledispatch
def tensor_shapes(config: UNetConfig | VAEConfig | TextConfig) -> dict[str, Shape]:
    """Shape of every tensor of the network with these sizes."""
    raise TypeError(f"config must be that of a U-Net, an autoencoder or a text encoder, got {config!r}")


@tensor_shapes.register
def _unet_shapes(config: UNetConfig) -> dict[str, Shape]:
    first, emb = config.widths[0], config.embedding
    shapes = {
        **_layer("conv_in", first, config.in_channels, *KERNEL),
        **_layer("time_embedding.linear_1", emb, first),
        **_layer("time_embedding.linear_2", emb, emb),
        **_norm("conv_norm_out", first),
        **_layer("conv_out", config.out_channels, first, *KERNEL),
    }
    for stage in config.stages():
        shapes |= _resnet(stage, emb)
        if stage.attention:
            shapes |= _text_attention(stage.attention, stage.channels_out, config.context)
    return shapes


@tensor_shapes.register
def _vae_shapes(config: VAEConfig) -> dict[str, Shape]:
    first, last, latent = config.widths[0], config.widths[-1], config.latent_channels
    shapes = {
        **_layer("encoder.conv_in", first, config.image_channels, *KERNEL),
        **_norm("encoder.conv_norm_out", last),
        **_layer("encoder.conv_out", 2 * latent, last, *KERNEL),
        **_layer("quant_conv", 2 * latent, 2 * latent, 1, 1),
        **_layer("post_quant_conv", latent, latent, 1, 1),
        **_layer("decoder.conv_in", last, latent, *KERNEL),
        **_norm("decoder.conv_norm_out", first),
        **_layer("decoder.conv_out", config.image_channels, first, *KERNEL),
    }
    for stage in (*config.encoder(), *config.decoder()):
        shapes |= _resnet(stage, None)
    for side in ("encoder", "decoder"):
        for index in (0, 1):
            shapes |= _resnet(Stage(f"{side}.mid_block.resnets.{index}", None, last, 0, last), None)
        name = f"{side}.mid_block.attentions.0"
        shapes |= _norm(f"{name}.group_norm", last)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes |= _layer(f"{name}.{part}", last, last)
    return shapes


@tensor_shapes.register
def _text_shapes(config: TextConfig) -> dict[str, Shape]:
    width = config.width
    shapes: dict[str, Shape] = {
        "text_model.embeddings.token_embedding.weight": (config.vocabulary, width),
        "text_model.embeddings.position_embedding.weight": (config.positions, width),
        **_norm("text_model.final_layer_norm", width),
    }
    for index in range(config.layers):
        name = f"text_model.encoder.layers.{index}"
        shapes |= {
            **_norm(f"{name}.layer_norm1", width),
            **_norm(f"{name}.layer_norm2", width),
            **_layer(f"{name}.mlp.fc1", config.feed_forward, width),
            **_layer(f"{name}.mlp.fc2", width, config.feed_forward),
        }
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _layer(f"{name}.self_attn.{part}", width, width)
    return shapes
