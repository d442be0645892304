"""Networks of reduced size and their inputs, for both sides of a comparison."""

import zlib

import numpy as np

NETWORKS = ("unet", "vae", "text")
POSITIONS, CONTEXT = 77, 24
# Every byte within a word and at its end, the merges, start and end.
MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>"), ("a", "n</w>")]
VOCABULARY = 2 * 256 + len(MERGES) + 2
START, END = VOCABULARY - 2, VOCABULARY - 1
UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": CONTEXT,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 16,
}
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": CONTEXT,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": POSITIONS,
    "hidden_act": "quick_gelu",
    "bos_token_id": START,
    "eos_token_id": END,
    "pad_token_id": END,
}
FULL_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
LATENTS, PICTURES = (2, 8, 8, 4), (2, 16, 16, 3)
TIMES = (1.0, 437.25, 999.0)
STEPS = 10


def noise(name, shape):
    """Unit normal input of a name."""
    rng = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    return rng.standard_normal(shape, np.float32)


TOKENS = [[START, *range(7, 7 + length), *[END] * (POSITIONS - 1 - length)] for length in (5, POSITIONS - 2)]


def predicted_noise(x, t):
    """Some smooth prediction of the noise; torch, NumPy or JAX arrays."""
    return x * 0.7 + (x * x) * 0.05 - 0.1 * (t / 1000)
