"""How the networks of diffusers are called, family by family: text encoded once a prompt, latents in, prediction out.

A family is recognised by the class of the pipeline's network. The inputs are those of the pipeline's own ``__call__``
without guidance.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Family(abc.ABC):
    """Networks that are called alike; subclasses say how.

    Attributes:
        channels: channels of the latents.
        height, width: of the latents.
        scale: pixels along a side of one latent pixel.
        guidance: guidance scale of distilled networks.
    """

    channels: int
    height: int
    width: int
    scale: int
    guidance: float

    null: Any = ""  # the condition that stands for none
    part = "unet"  # the attribute of the pipeline that holds the network

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of latents."""
        return (self.height, self.width, self.channels)

    def network(self, pipeline: Any) -> Any:
        """The network of a pipeline."""
        return getattr(pipeline, self.part)

    @abc.abstractmethod
    def encode(self, pipeline: Any, condition: Any) -> Any:
        """The network's inputs for one condition: a tuple of tensors with a leading axis of length one."""

    @abc.abstractmethod
    def call(self, network: Any, x: Any, t: Any, inputs: Sequence[Any]) -> Any:
        """The network's prediction of latents (n, C, H, W) at timesteps (n,), one entry of inputs for each."""


class StableDiffusion(Family):
    """Stable Diffusion 1.x and 2.x."""

    def encode(self, pipeline: Any, condition: Any) -> Any:
        return (pipeline.encode_prompt(_prompt(condition), _device(pipeline), 1, False)[0],)

    def call(self, network: Any, x: Any, t: Any, inputs: Sequence[Any]) -> Any:
        (text,) = _stacked(inputs)
        return network(x, t, encoder_hidden_states=text, return_dict=False)[0]


class StableDiffusionXL(Family):
    """SDXL: two text encoders, and the size of the image as a further input."""

    def encode(self, pipeline: Any, condition: Any) -> Any:
        text, _, pooled, _ = pipeline.encode_prompt(
            prompt=_prompt(condition),
            device=_device(pipeline),
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return text, pooled

    def call(self, network: Any, x: Any, t: Any, inputs: Sequence[Any]) -> Any:
        text, pooled = _stacked(inputs)
        size = (self.height * self.scale, self.width * self.scale)
        time_ids = x.new_tensor([[*size, 0, 0, *size]]).expand(len(x), -1)
        added = {"text_embeds": pooled, "time_ids": time_ids}
        return network(x, t, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False)[0]


class StableDiffusion3(Family):
    """SD3 and SD3.5: flow matching."""

    part = "transformer"

    def encode(self, pipeline: Any, condition: Any) -> Any:
        word = _prompt(condition)
        text, _, pooled, _ = pipeline.encode_prompt(
            prompt=word,
            prompt_2=word,
            prompt_3=word,
            device=_device(pipeline),
            do_classifier_free_guidance=False,
        )
        return text, pooled

    def call(self, network: Any, x: Any, t: Any, inputs: Sequence[Any]) -> Any:
        text, pooled = _stacked(inputs)
        return network(
            hidden_states=x,
            timestep=t,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            return_dict=False,
        )[0]


class Flux(Family):
    """Flux: flow matching on 2x2 patches; distilled networks take a guidance scale."""

    part = "transformer"

    def encode(self, pipeline: Any, condition: Any) -> Any:
        word = _prompt(condition)
        text, pooled, ids = pipeline.encode_prompt(prompt=word, prompt_2=word, device=_device(pipeline))
        return text, pooled, ids[None]

    def call(self, network: Any, x: Any, t: Any, inputs: Sequence[Any]) -> Any:
        text, pooled, ids = _stacked(inputs)
        n, c, h, w = x.shape
        packed = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, c * 4)
        places = x.new_zeros(h // 2, w // 2, 3)
        places[..., 1] += x.new_tensor(range(h // 2))[:, None]
        places[..., 2] += x.new_tensor(range(w // 2))[None, :]
        guidance = x.new_full((n,), self.guidance) if network.config.guidance_embeds else None
        output = network(
            hidden_states=packed, timestep=t / 1000, guidance=guidance, pooled_projections=pooled,
            encoder_hidden_states=text, txt_ids=ids[0], img_ids=places.reshape(-1, 3), return_dict=False,
        )[0]  # fmt: skip
        return output.reshape(n, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)


class PixArt(Family):
    """PixArt-α and -Σ; the second half of the output, a variance, is not used."""

    part = "transformer"

    def encode(self, pipeline: Any, condition: Any) -> Any:
        text, mask, _, _ = pipeline.encode_prompt(
            _prompt(condition), do_classifier_free_guidance=False, device=_device(pipeline)
        )
        return text, mask

    def call(self, network: Any, x: Any, t: Any, inputs: Sequence[Any]) -> Any:
        text, mask = _stacked(inputs)
        size = x.new_tensor([[self.height * self.scale, self.width * self.scale]]).expand(len(x), -1)
        ratio = x.new_full((len(x), 1), self.height / self.width)
        sized = network.config.sample_size == 128
        added = {"resolution": size if sized else None, "aspect_ratio": ratio if sized else None}
        output = network(
            x, encoder_hidden_states=text, encoder_attention_mask=mask, timestep=t, added_cond_kwargs=added,
            return_dict=False,
        )[0]  # fmt: skip
        return output[:, : self.channels]


class DiT(Family):
    """DiT: class labels; the second half of the output, a variance, is not used."""

    part = "transformer"

    def encode(self, pipeline: Any, condition: Any) -> Any:
        classes = pipeline.transformer.config.num_embeds_ada_norm
        number = classes if condition == self.null else condition
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or not 0 <= number <= classes:
            raise ValueError(f"conditions must be class labels 0..{classes - 1}, got {condition!r}")
        import torch  # pyright: ignore[reportMissingImports]

        return (torch.tensor([int(number)], device=_device(pipeline)),)

    def call(self, network: Any, x: Any, t: Any, inputs: Sequence[Any]) -> Any:
        (labels,) = _stacked(inputs)
        return network(x, timestep=t, class_labels=labels, return_dict=False)[0][:, : self.channels]


def family_of(pipeline: Any, height: int | None, width: int | None, guidance: float) -> Family:
    """The family of a pipeline's network at an image size in pixels; by default the network's own.

    Raises:
        ValueError: for a pipeline of another family, or a size that its latents cannot have.
    """
    network = _network(pipeline)
    kind = type(network).__name__
    family: type[Family] | None = {
        "SD3Transformer2DModel": StableDiffusion3, "FluxTransformer2DModel": Flux,
        "PixArtTransformer2DModel": PixArt, "DiTTransformer2DModel": DiT,
    }.get(kind)  # fmt: skip
    if kind == "UNet2DConditionModel":
        extra = network.config.addition_embed_type
        family = StableDiffusionXL if extra == "text_time" else StableDiffusion if extra is None else None
    if family is None:
        raise ValueError(
            f"pipeline must be Stable Diffusion, SDXL, SD3, Flux, PixArt or DiT, got {type(pipeline).__name__} with a "
            f"{kind}; wrap its network with neural.from_torch"
        )
    vae = getattr(pipeline, "vae", None)
    scale = 8 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)
    channels = network.config.in_channels // (4 if family is Flux else 1)
    rows, columns = (_side(network, size, scale, family) for size in (height, width))
    return family(channels, rows, columns, scale, guidance)


def _side(network: Any, pixels: int | None, scale: int, family: type[Family]) -> int:
    """Latent pixels along a side."""
    if pixels is None:
        return int(getattr(network.config, "sample_size", None) or 128)
    step = 2 * scale if family is Flux else scale
    if pixels < step or pixels % step:
        raise ValueError(f"height and width must be multiples of {step} pixels, got {pixels}")
    return pixels // scale


def _prompt(condition: Any) -> str:
    if not isinstance(condition, str):
        raise ValueError(f"conditions must be prompts, got {condition!r}")
    return condition


def _network(pipeline: Any) -> Any:
    network = getattr(pipeline, "transformer", None)
    return getattr(pipeline, "unet", None) if network is None else network


def _device(pipeline: Any) -> Any:
    return next(_network(pipeline).parameters()).device


def _stacked(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The parts of several conditions, each joined along its first axis."""
    import torch  # pyright: ignore[reportMissingImports]

    return tuple(torch.cat(parts) for parts in zip(*inputs, strict=True))
