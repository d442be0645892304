"""The map between the two families of names, both ways."""

import numpy as np
import pytest

from neural.stable_diffusion import kinds, names, sizes
from neural.stable_diffusion.architecture import TextConfig, UNetConfig, VAEConfig
from tests.neural.stable_diffusion import folders

CONFIGS = {"unet": UNetConfig(), "vae": VAEConfig(), "text_encoder": TextConfig()}

# As they stand in v1-5-pruned.ckpt.
PUBLISHED = {
    "conv_in.weight": "input_blocks.0.0.weight",
    "time_embedding.linear_2.bias": "time_embed.2.bias",
    "down_blocks.0.resnets.0.conv1.weight": "input_blocks.1.0.in_layers.2.weight",
    "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.3.0.op.weight",
    "down_blocks.1.resnets.0.conv_shortcut.weight": "input_blocks.4.0.skip_connection.weight",
    "down_blocks.2.attentions.1.proj_in.weight": "input_blocks.8.1.proj_in.weight",
    "down_blocks.3.resnets.1.time_emb_proj.weight": "input_blocks.11.0.emb_layers.1.weight",
    "mid_block.attentions.0.proj_in.weight": "middle_block.1.proj_in.weight",
    "mid_block.resnets.1.norm2.weight": "middle_block.2.out_layers.0.weight",
    "up_blocks.0.upsamplers.0.conv.weight": "output_blocks.2.1.conv.weight",
    "up_blocks.1.upsamplers.0.conv.weight": "output_blocks.5.2.conv.weight",
    "up_blocks.3.attentions.2.proj_out.bias": "output_blocks.11.1.proj_out.bias",
    "conv_norm_out.weight": "out.0.weight",
    "conv_out.bias": "out.2.bias",
    "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": "encoder.down.1.block.0.nin_shortcut.weight",
    "encoder.down_blocks.0.downsamplers.0.conv.bias": "encoder.down.0.downsample.conv.bias",
    "encoder.mid_block.attentions.0.to_out.0.weight": "encoder.mid.attn_1.proj_out.weight",
    "decoder.mid_block.attentions.0.group_norm.bias": "decoder.mid.attn_1.norm.bias",
    "decoder.up_blocks.0.resnets.2.conv2.weight": "decoder.up.3.block.2.conv2.weight",
    "decoder.up_blocks.2.upsamplers.0.conv.weight": "decoder.up.1.upsample.conv.weight",
    "decoder.conv_norm_out.weight": "decoder.norm_out.weight",
    "post_quant_conv.bias": "post_quant_conv.bias",
}


def test_published_names():
    found = names.original_names(UNetConfig()) | names.original_names(VAEConfig())
    assert {ours: found[ours] for ours in PUBLISHED} == PUBLISHED


@pytest.mark.parametrize("part", names.PARTS)
def test_round_trip(part):
    original = names.original_names(CONFIGS[part])
    assert len(set(original.values())) == len(original)
    back = names.translated(part, original.values(), {theirs: ours for ours, theirs in original.items()})
    assert back == original


def test_layout_is_read_off_original_names():
    for part, read in (("unet", sizes.original_unet), ("vae", sizes.original_vae)):
        for config in (CONFIGS[part], folders.CONFIGS[part]):
            shapes = dict.fromkeys(names.original_names(config).values(), ())
            # Widths are not read: more blocks may have a shortcut than do.
            assert names.original_names(read(shapes)).items() >= names.original_names(config).items()


def test_averaged_copies_have_no_dots():
    assert names.ema_name("input_blocks.0.0.weight") == "model_ema.diffusion_modelinput_blocks00weight"


def test_two_names_of_one_tensor():
    both = ["decoder.mid_block.attentions.0.query.weight", "decoder.mid_block.attentions.0.to_q.weight"]
    with pytest.raises(ValueError, match="are names of the same tensor"):
        names.translated("vae", both, {})


@pytest.mark.parametrize(
    ("shapes", "model"),
    [
        ({"conditioner.embedders.0.transformer.text_model.x": (1,)}, "Stable Diffusion XL"),
        ({"add_embedding.linear_1.weight": (1280, 2816)}, "Stable Diffusion XL"),
        ({"cond_stage_model.model.transformer.resblocks.0.ln_1.weight": (1024,)}, "Stable Diffusion 2"),
        ({"x.attn2.to_k.weight": (320, 1024)}, "Stable Diffusion 2"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3)}, "inpainting"),
        ({"conv_in.weight": (320, 8, 3, 3)}, "InstructPix2Pix"),
        ({"model.diffusion_model.joint_blocks.0.x": (1,)}, "Stable Diffusion 3"),
        ({"double_blocks.0.img_attn.proj.weight": (1, 1)}, "FLUX"),
        ({"lora_unet_down_blocks_0.alpha": ()}, "LoRA"),
        ({"control_model.input_blocks.0.0.weight": (320, 4, 3, 3)}, "ControlNet"),
    ],
)
def test_other_models_are_known(shapes, model):
    assert model in kinds.other_model(shapes)


def test_own_model_is_no_other():
    for part in names.PARTS:
        assert kinds.other_model(folders.SHAPES[part]) is None
    assert (
        kinds.other_model({name: np.shape(value) for name, value in folders.single_file(ema=True).items()})
        is None
    )
