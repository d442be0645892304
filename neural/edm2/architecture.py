"""The sizes of an EDM2 network, read from a checkpoint, and the shape of every tensor that follows from them.

The network is configuration G of Karras et al. 2024, "Analyzing and Improving the Training Dynamics of
Diffusion Models" (arXiv 2312.02696, figure 21 and appendix B). The shapes of a checkpoint's
tensors determine its sizes. The other constants (the balances of the sums, the clipping limit, the width of a head)
come from the keyword arguments stored beside the tensors, else from the values that all published networks use.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from neural.checkpoints.shapes import check_shapes

Shape = tuple[int, ...]
Resample = Literal["keep", "down", "up"]


@dataclasses.dataclass(frozen=True)
class Block:
    """One residual block.

    Attributes:
        name: its prefix in the checkpoint, e.g. ``unet.enc.16x16_block0``.
        resolution: pixels along a side of its output.
        channels_in: channels of the main path at its input.
        channels_skip: channels of the skip connection appended to them; 0 where there is none.
        channels_out: channels of its output.
        resample: change of the resolution at the block's input.
        heads: attention heads; 0 for a block without attention.
    """

    name: str
    resolution: int
    channels_in: int
    channels_skip: int
    channels_out: int
    resample: Resample = "keep"
    heads: int = 0

    @property
    def is_encoder(self) -> bool:
        """Encoder blocks normalise their input pixel by pixel; decoder blocks do not."""
        return self.name.startswith("unet.enc.")

    @property
    def has_conv_skip(self) -> bool:
        """Whether a 1x1 convolution fits the main path to the block's width."""
        return self.channels_in + self.channels_skip != self.channels_out


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and constants of a network.

    Attributes:
        img_resolution: pixels (or latents) along a side.
        img_channels: channels of the image.
        label_dim: number of classes; 0 for an unconditional network.
        channels: width of each level, finest resolution first; each level halves the resolution.
        num_blocks: encoder blocks a level, resampling blocks not counted.
        attn_resolutions: resolutions whose blocks have attention.
        noise_channels: Fourier features of the noise level.
        emb_channels: width of the embedding that modulates the blocks.
        logvar_channels: Fourier features of the uncertainty output.
        channels_per_head: width of an attention head.
        sigma_data: standard deviation of the data.
        label_balance, concat_balance, res_balance, attn_balance: weight t of the second term in the
            magnitude-preserving sums and concatenations (eqs. 88 and 103).
        clip_act: activations are clipped to ± this value at the end of every block; None for no limit.
    """

    img_resolution: int
    img_channels: int
    label_dim: int
    channels: tuple[int, ...]
    num_blocks: int
    attn_resolutions: tuple[int, ...]
    noise_channels: int
    emb_channels: int
    logvar_channels: int = 128
    channels_per_head: int = 64
    sigma_data: float = 0.5
    label_balance: float = 0.5
    concat_balance: float = 0.5
    res_balance: float = 0.3
    attn_balance: float = 0.3
    clip_act: float | None = 256.0

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Resolution of each level, finest first."""
        return tuple(self.img_resolution >> level for level in range(len(self.channels)))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return (self.img_resolution, self.img_resolution, self.img_channels)

    @property
    def input_conv(self) -> str:
        """Prefix of the first convolution."""
        return f"unet.enc.{self.img_resolution}x{self.img_resolution}_conv"

    def encoder(self) -> tuple[Block, ...]:
        """Encoder blocks in the order of execution; the input convolution comes before them."""
        return tuple(_encoder(self))

    def decoder(self) -> tuple[Block, ...]:
        """Decoder blocks in the order of execution."""
        return tuple(_decoder(self))

    def heads(self, resolution: int, width: int) -> int:
        """Attention heads of an ordinary block of this resolution."""
        return width // self.channels_per_head if resolution in self.attn_resolutions else 0


def _encoder(config: Config) -> Iterator[Block]:
    width = config.channels[0]
    for level, (resolution, out) in enumerate(zip(config.resolutions, config.channels, strict=True)):
        prefix = f"unet.enc.{resolution}x{resolution}"
        if level:
            yield Block(f"{prefix}_down", resolution, width, 0, width, "down")
        for index in range(config.num_blocks):
            yield Block(
                f"{prefix}_block{index}", resolution, width, 0, out, heads=config.heads(resolution, out)
            )
            width = out


def _decoder(config: Config) -> Iterator[Block]:
    skips = [config.channels[0], *(block.channels_out for block in _encoder(config))]
    width = config.channels[-1]
    for level in reversed(range(len(config.channels))):
        resolution, out = config.resolutions[level], config.channels[level]
        prefix = f"unet.dec.{resolution}x{resolution}"
        if level == len(config.channels) - 1:
            yield Block(f"{prefix}_in0", resolution, width, 0, width, heads=width // config.channels_per_head)
            yield Block(f"{prefix}_in1", resolution, width, 0, width)
        else:
            yield Block(f"{prefix}_up", resolution, width, 0, width, "up")
        for index in range(config.num_blocks + 1):
            heads = config.heads(resolution, out)
            yield Block(f"{prefix}_block{index}", resolution, width, skips.pop(), out, heads=heads)
            width = out


def tensor_shapes(config: Config) -> dict[str, Shape]:
    """Shape of every tensor of a checkpoint with these sizes, by `state_dict` name; () for the gains."""
    emb, label_dim = config.emb_channels, config.label_dim
    shapes: dict[str, Shape] = {
        "unet.emb_fourier.freqs": (config.noise_channels,),
        "unet.emb_fourier.phases": (config.noise_channels,),
        "unet.emb_noise.weight": (emb, config.noise_channels),
        # One channel of ones is appended to the image, in place of biases.
        f"{config.input_conv}.weight": (config.channels[0], config.img_channels + 1, 3, 3),
        "unet.out_conv.weight": (config.img_channels, config.channels[0], 3, 3),
        "unet.out_gain": (),
        "logvar_fourier.freqs": (config.logvar_channels,),
        "logvar_fourier.phases": (config.logvar_channels,),
        "logvar_linear.weight": (1, config.logvar_channels),
    }
    if label_dim:
        shapes["unet.emb_label.weight"] = (emb, label_dim)
    for block in (*config.encoder(), *config.decoder()):
        shapes |= _block_shapes(block, emb)
    return shapes


def _block_shapes(block: Block, emb: int) -> dict[str, Shape]:
    width_in, out = block.channels_in + block.channels_skip, block.channels_out
    shapes: dict[str, Shape] = {
        # The encoder fits the width before the residual branch, the decoder after it.
        "conv_res0.weight": (out, out if block.is_encoder else width_in, 3, 3),
        "conv_res1.weight": (out, out, 3, 3),
        "emb_linear.weight": (out, emb),
        "emb_gain": (),
    }
    if block.has_conv_skip:
        shapes["conv_skip.weight"] = (out, width_in, 1, 1)
    if block.heads:
        shapes["attn_qkv.weight"] = (3 * out, out, 1, 1)
        shapes["attn_proj.weight"] = (out, out, 1, 1)
    return {f"{block.name}.{leaf}": shape for leaf, shape in shapes.items()}


_BLOCK_LEAVES = ("conv_res0.weight", "conv_res1.weight", "emb_linear.weight", "emb_gain")
_BLOCK_NAME = re.compile(r"unet\.enc\.(\d{1,5})x\1_block\d{1,5}\.conv_res0\.weight")

# Keyword arguments of a stored network that shapes do not determine, and those that shapes determine or that do not
# change a prediction.
_CONSTANTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "channels_per_head": ("a positive integer", lambda v: type(v) is int and v > 0),
    "sigma_data": ("a positive number", lambda v: _is_number(v) and v > 0),
    "label_balance": ("a number in 0..1", lambda v: _is_number(v) and 0 <= v <= 1),
    "concat_balance": ("a number in 0..1", lambda v: _is_number(v) and 0 <= v <= 1),
    "res_balance": ("a number in 0..1", lambda v: _is_number(v) and 0 <= v <= 1),
    "attn_balance": ("a number in 0..1", lambda v: _is_number(v) and 0 <= v <= 1),
    "clip_act": ("a positive number or None", lambda v: v is None or (_is_number(v) and v > 0)),
}
_LARGEST = 1e30
_SIZES = ("img_resolution", "img_channels", "label_dim", "num_blocks", "logvar_channels")
_IGNORED = (
    "model_channels", "channel_mult", "channel_mult_noise", "channel_mult_emb", "attn_resolutions",
    "use_fp16", "dropout",
)  # fmt: skip


def read_config(shapes: Mapping[str, Shape], options: Mapping[str, Any] | None = None) -> Config:
    """The sizes of a network from the shapes of its tensors, after a check that every tensor fits.

    Args:
        shapes: shape of each tensor by `state_dict` name.
        options: keyword arguments that the network was built with, where the checkpoint has them. They
            supply the constants that shapes do not determine, and must not contradict the shapes.

    Raises:
        ValueError: naming the tensor that is missing, superfluous or of the wrong shape (with both shapes),
            or the option that is unknown or contradicts the tensors.
    """
    options = dict(options or {})
    _check_options(options)
    constants = {key: options[key] for key in _CONSTANTS if key in options}
    config = dataclasses.replace(_read_sizes(shapes), **constants)
    _check_fit(config, shapes)
    for key in _SIZES:
        if key in options and options[key] != getattr(config, key):
            raise ValueError(
                f"network option {key} is {_shown(options[key])}, but the tensors say {getattr(config, key)!r}; "
                "the checkpoint contradicts itself"
            )
    return config


def _check_options(options: Mapping[str, Any]) -> None:
    known = {*_CONSTANTS, *_SIZES, *_IGNORED, "resample_filter"}
    for key in sorted(options.keys() - known):
        raise ValueError(
            f"unknown network option {_shown(key)[1:-1]}={_shown(options[key])}; "
            f"the supported ones are {', '.join(sorted(known))}"
        )
    if options.get("resample_filter", [1, 1]) not in ([1, 1], (1, 1)):
        raise ValueError(
            f"network option resample_filter must be [1, 1], got {_shown(options['resample_filter'])}"
        )
    for key, (allowed, is_allowed) in _CONSTANTS.items():
        if key in options and not is_allowed(options[key]):
            raise ValueError(f"network option {key} must be {allowed}, got {_shown(options[key])}")


def _is_number(value: object) -> bool:
    # Compared, not converted: a whole number in a file may be larger than every float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _read_sizes(shapes: Mapping[str, Shape]) -> Config:
    """The sizes, each from one tensor; `_check_fit` checks that the other tensors agree."""

    def size(name: str, axis: int) -> int:
        shape = shapes.get(name)
        if shape is None or not -len(shape) <= axis < len(shape) or 0 in shape:
            state = "missing" if shape is None else f"of shape {tuple(shape)}"
            raise ValueError(f"not an EDM2 network: tensor {name} is {state}, so the sizes cannot be read")
        return shape[axis]

    blocks = [int(match[1]) for match in map(_BLOCK_NAME.fullmatch, shapes) if match]
    if not blocks:
        raise ValueError(
            "not an EDM2 network: no tensor is named like unet.enc.64x64_block0.conv_res0.weight"
        )
    resolutions = sorted(set(blocks), reverse=True)
    # Computed from the coarsest level up, because an odd number of pixels cannot be halved.
    doubled = [resolutions[-1] << level for level in reversed(range(len(resolutions)))]
    if resolutions != doubled or not resolutions[-1]:
        raise ValueError(f"encoder resolutions must halve from level to level, got {resolutions[:20]}")
    # Counted before any name is built, because the names of a few tensors can imply millions of blocks.
    count = blocks.count(resolutions[0])
    least = 2 * len(resolutions) * count * len(_BLOCK_LEAVES)
    if least > 2 * len(shapes) + 100:
        raise ValueError(
            f"not an EDM2 network: {len(resolutions)} levels of {count} blocks have at least {least} tensors, "
            f"of which most are missing: the file has {len(shapes)}"
        )

    def first(resolution: int) -> str:
        return f"unet.enc.{resolution}x{resolution}_block0"

    return Config(
        img_resolution=resolutions[0],
        img_channels=size("unet.out_conv.weight", 0),
        label_dim=size("unet.emb_label.weight", 1) if "unet.emb_label.weight" in shapes else 0,
        channels=tuple(size(f"{first(resolution)}.conv_res0.weight", 0) for resolution in resolutions),
        num_blocks=count,
        attn_resolutions=tuple(r for r in resolutions if f"{first(r)}.attn_qkv.weight" in shapes),
        noise_channels=size("unet.emb_fourier.freqs", 0),
        emb_channels=size("unet.emb_noise.weight", 0),
        logvar_channels=size("logvar_fourier.freqs", 0),
    )


def _check_fit(config: Config, shapes: Mapping[str, Shape]) -> None:
    check_shapes(shapes, tensor_shapes(config))
    for block in (*config.encoder(), *config.decoder()):
        if block.heads and block.channels_out % config.channels_per_head:
            raise ValueError(
                f"{block.name} has {block.channels_out} channels, which are not whole heads of "
                f"channels_per_head = {config.channels_per_head}"
            )


def _shown(value: object, longest: int = 80) -> str:
    text = ascii(value)
    return text if len(text) <= longest else text[:longest] + "..."
