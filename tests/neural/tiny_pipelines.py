"""Pipelines of diffusers with random weights, small enough for a test: every family that `from_diffusers` takes."""

import functools
import json

import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

torch.set_num_threads(1)  # networks this small lose by more, and wait for each other on a busy machine

MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
STEP = 500  # the one step of a sampler with leading spacing
SIZE = 8  # of the latents


def words():
    """CLIP's byte letters, the merges, and its two special tokens."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in plain] + [chr(256 + n) for n in range(256 - len(plain))]
    merged = ["".join(pair) for pair in MERGES]
    return [*letters, *(f"{letter}</w>" for letter in letters), *merged, "<|startoftext|>", "<|endoftext|>"]


def clip_tokenizer(folder):
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words())}))
    lines = "".join(f"{a} {b}\n" for a, b in MERGES)
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines)
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def clip_encoder(projected=False, width=24):
    count = len(words())
    config = CLIPTextConfig(
        vocab_size=count, hidden_size=width, intermediate_size=48, num_hidden_layers=2, num_attention_heads=3,
        max_position_embeddings=77, bos_token_id=count - 2, eos_token_id=count - 1, pad_token_id=count - 1,
        projection_dim=width,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def t5():
    """A tokenizer of letters and a T5 encoder."""
    letters = {
        letter: i for i, letter in enumerate(["<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz"])
    }
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=32,
    )
    config = transformers.T5Config(
        vocab_size=len(letters), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4
    )
    return fast, transformers.T5EncoderModel(config).eval()


def vae(channels=4):
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(
        block_out_channels=(16, 32), layers_per_block=1, latent_channels=channels, norm_num_groups=8, **blocks
    )


def chain(**more):
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=STEP, clip_sample=False,
        set_alpha_to_one=True, **more,
    )  # fmt: skip


def stable_diffusion(folder, **scheduler):
    unet = UNet2DConditionModel(
        sample_size=SIZE, block_out_channels=(32, 64), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1, cross_attention_dim=24,
        attention_head_dim=4, norm_num_groups=16,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=vae(), text_encoder=clip_encoder(), tokenizer=clip_tokenizer(folder), unet=unet,
        scheduler=chain(**scheduler), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl(folder):
    unet = UNet2DConditionModel(
        sample_size=SIZE, block_out_channels=(32, 64), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=1, cross_attention_dim=48,
        attention_head_dim=(2, 4), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, transformer_layers_per_block=(1, 2), projection_class_embeddings_input_dim=72,
        norm_num_groups=16,
    )  # fmt: skip
    tokenizer = clip_tokenizer(folder)
    return StableDiffusionXLPipeline(
        vae=vae(), text_encoder=clip_encoder(), text_encoder_2=clip_encoder(True), tokenizer=tokenizer,
        tokenizer_2=tokenizer, unet=unet, scheduler=chain(), add_watermarker=False,
    )  # fmt: skip


def sd3(folder):
    transformer = SD3Transformer2DModel(
        sample_size=SIZE, patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=48,
    )  # fmt: skip
    tokenizer = clip_tokenizer(folder)
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae(),
        text_encoder=clip_encoder(True), tokenizer=tokenizer, text_encoder_2=clip_encoder(True), tokenizer_2=tokenizer,
        text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip


def flux(folder):
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=24, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    tokenizer, encoder = t5()
    return FluxPipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae(), text_encoder=clip_encoder(),
        tokenizer=clip_tokenizer(folder), text_encoder_2=encoder, tokenizer_2=tokenizer,
    )  # fmt: skip


def pixart(folder):
    transformer = PixArtTransformer2DModel(
        sample_size=SIZE, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        cross_attention_dim=16, out_channels=8, caption_channels=32, use_additional_conditions=False,
    )  # fmt: skip
    tokenizer, encoder = t5()
    return PixArtAlphaPipeline(
        tokenizer=tokenizer, text_encoder=encoder, vae=vae(), transformer=transformer, scheduler=chain()
    )


def dit(folder):
    transformer = DiTTransformer2DModel(
        sample_size=SIZE, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        out_channels=8, num_embeds_ada_norm=10,
    )  # fmt: skip
    return DiTPipeline(transformer=transformer, vae=vae(), scheduler=chain())


PIPELINES = {
    "sd": stable_diffusion,
    "sd2": functools.partial(stable_diffusion, prediction_type="v_prediction"),
    "sd2, zero SNR": functools.partial(
        stable_diffusion, prediction_type="v_prediction", rescale_betas_zero_snr=True
    ),
    "sdxl": sdxl,
    "sd3": sd3,
    "flux": flux,
    "pixart": pixart,
}


def made(build, folder):
    """A pipeline with the same random weights every time."""
    torch.manual_seed(0)
    pipeline = build(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
