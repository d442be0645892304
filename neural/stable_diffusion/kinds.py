"""What a file is that is not a checkpoint of Stable Diffusion 1.x, by its name, its tensors and their shapes."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from neural.checkpoints import CheckpointError
from neural.stable_diffusion.architecture import Shapes

READ_HERE = "load_sd15 reads Stable Diffusion 1.x (text states 768 wide, 4 latent channels)"
# Folders of these, as diffusers saves them, are read through diffusers.
WITH_DIFFUSERS = (
    "a folder that diffusers saved is read by neural.from_diffusers "
    "(the model diffusers:FOLDER); extra `diffusers`"
)
_OF_DIFFUSERS = ("Stable Diffusion XL", "Stable Diffusion 2", "Stable Diffusion 3", "FLUX")
_PIPELINES = re.compile(r"'(StableDiffusion(XL|3)?|Flux|PixArt(Alpha|Sigma)|DiT)Pipeline'")
_MERGE = "merge it into its model with the tool that made it, then load the merged model"

_LORA = r".*(lora_|\.lora\.|_lora\.)"
# Changes to a network, told by how their tensors end. The first that fits counts.
_CHANGES = {
    re.compile(pattern): text
    for pattern, text in {
        r".*\.hada_[wt][12]": f"a LoHa, which is not supported; {_MERGE}",
        r".*\.lokr_": f"a LoKr, which is not supported; {_MERGE}",
        r".*(oft_blocks|oft_diag|\.oft_|\.boft_)": f"an OFT adapter, which is not supported; {_MERGE}",
        r".*(dora_scale|lora_magnitude_vector)": f"a DoRA, which is not supported; {_MERGE}",
        r".*(\.lora_mid\.|\.lora_m\.)": f"a LoRA in Tucker form, which is not supported; {_MERGE}",
        r".*\.[ab][12]\.weight": f"a GLoRA, which is not supported; {_MERGE}",
        r".*(\.on_input|ia3_l)": f"an IA3 adapter, which is not supported; {_MERGE}",
        r"lora_.*\.diff(_b)?$": f"full differences of weights (LyCORIS), which are not supported; {_MERGE}",
        r"lora_te2_|text_encoder_2\.": "a LoRA of Stable Diffusion XL, which is another model",
        _LORA: "a LoRA, which changes a model; use load_sd15(MODEL, lora=[(FILE, 1.0)])",
    }.items()
}
# Names that only other models have.
_OTHERS = {
    re.compile(pattern): text
    for pattern, text in {
        r"conditioner\.embedders\.|add_embedding\.": "Stable Diffusion XL",
        r"(model\.diffusion_model\.)?label_emb\.": "Stable Diffusion XL",
        r"cond_stage_model\.model\.": "Stable Diffusion 2",
        r"(model\.diffusion_model\.)?joint_blocks\.|transformer_blocks\.0\.attn\.add_": "Stable Diffusion 3",
        r"(model\.diffusion_model\.)?double_blocks\.|single_transformer_blocks\.": "FLUX",
        r"control_model\.|controlnet_|zero_convs\.": "a ControlNet, whose condition is a picture",
        r".*motion_modules\.": "a motion module of AnimateDiff, which belongs to videos",
        r"ip_adapter\.|image_proj\.": "an IP-Adapter, whose condition is a picture",
        r"adapter\.body\.|body\.0\.in_conv": "a T2I-Adapter, whose condition is a picture",
        r"(768|1024|320|640|1280)\.\d\.linear": "a hypernetwork, which is not supported",
        r"unet\.out_gain": "EDM2; use load_edm2",
        r"(edm_mean|edm_std|edm_vpred)": "a model preconditioned as in EDM",
        r"quant_conv\.weight_scale|.*\.(scale_weight|weight_scale)$|scaled_fp8": "a model of scaled fp8 weights",
        r".*\.(absmax|quant_map|quant_state)": "a model quantised by bitsandbytes",
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
    """What tensors belong to that load_sd15 does not read as a model, with the way out where there is one."""
    for text in (_first(_CHANGES, shapes), _first(_OTHERS, shapes), _inversion(shapes)):
        if text:
            return text
    for key, shape in shapes.items():
        if key.endswith("attn2.to_k.weight") and len(shape) == 2 and shape[1] in _BY_CONTEXT:
            return _BY_CONTEXT[shape[1]]
        first = re.fullmatch(r"(model\.diffusion_model\.)?(conv_in|input_blocks\.0\.0)\.weight", key)
        if first and len(shape) == 4 and shape[1] in _BY_CHANNELS:
            return _BY_CHANNELS[shape[1]]
    return None


def of_diffusers(model: str) -> bool:
    """Whether `neural.from_diffusers` reads a model, by what `other_model` calls it or by its pipeline's class."""
    return model in _OF_DIFFUSERS or _PIPELINES.search(model) is not None


def unsupported_change(names: Iterable[str]) -> str | None:
    """Which change to a network that is not a plain LoRA tensors describe, with the way out."""
    return _first(_CHANGES, names, but=_LORA)


def _first(texts: Mapping[re.Pattern[str], str], names: Iterable[str], but: str = "") -> str | None:
    names = list(names)
    return next(
        (
            text
            for pattern, text in texts.items()
            if pattern.pattern != but and any(map(pattern.match, names))
        ),
        None,
    )


def _inversion(shapes: Shapes) -> str | None:
    learned = {"emb_params"} & shapes.keys() or any(name.startswith("string_to_param.") for name in shapes)
    few = 0 < len(shapes) <= 2 and all(len(shape) <= 2 and shape[-1:] == (768,) for shape in shapes.values())
    if learned or (few and not any(name.endswith((".weight", ".bias")) for name in shapes)):
        return "a textual inversion, which is a learnt word; use load_sd15(MODEL, embeddings=[FILE])"
    return None


def network_alone(shapes: Shapes) -> str | None:
    """Which of the three networks tensors are, if they are one alone."""
    marks = {
        "a U-Net alone": ("conv_in.weight", "input_blocks.0.0.weight"),
        "an autoencoder alone": ("encoder.conv_in.weight", "first_stage_model.encoder.conv_in.weight"),
        "a text encoder alone": ("text_model.final_layer_norm.weight", "final_layer_norm.weight"),
    }
    return next((text for text, names in marks.items() if not shapes.keys().isdisjoint(names)), None)


_TRAINING_STATE = re.compile(r"training-state-.*\.pt")


def check_file_name(path: Path) -> None:
    """Raise CheckpointError for a file whose name says that it is the state of a training run."""
    if _TRAINING_STATE.fullmatch(path.name):
        raise CheckpointError(
            f"{path} is the state of a training run (networks, optimiser and all); use the network-snapshot-*.pkl "
            "of the same run"
        )
