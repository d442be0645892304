"""Sizes against the published parameter counts and the golden lists; refusals by message."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural.checkpoints import Checkpoint
from neural.edm2 import Config, check_network, denoiser, read_config, tensor_shapes

WIDTHS = {"xs": 128, "s": 192, "m": 256, "l": 320, "xl": 384, "xxl": 448}
# Karras et al. 2024, table 2 and the published networks; the uncertainty head has 128 weights more.
PUBLISHED = {
    "xs": 124_713_125,
    "s": 280_212_709,
    "m": 497_807_653,
    "l": 777_497_957,
    "xl": 1_119_283_621,
    "xxl": 1_523_164_645,
}
PUBLISHED_XS_UNCONDITIONAL = 124_201_125
UNCERTAINTY_HEAD = 128
PUBLISHED_MULTIPLY_ADDS_XS = 44.9e9


def img512(size: str, label_dim: int = 1000) -> Config:
    width = WIDTHS[size]
    channels = (width, 2 * width, 3 * width, 4 * width)
    return Config(64, 4, label_dim, channels, 3, (16, 8), width, channels[-1])


def parameters(config: Config) -> int:
    shapes = tensor_shapes(config).items()
    return sum(math.prod(shape) for name, shape in shapes if "fourier" not in name)


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameter_counts_are_the_published_ones(size):
    assert parameters(img512(size)) == PUBLISHED[size] + UNCERTAINTY_HEAD


def test_unconditional_parameter_count_is_the_published_one():
    assert parameters(img512("xs", 0)) == PUBLISHED_XS_UNCONDITIONAL + UNCERTAINTY_HEAD


def test_xs_has_36_blocks_15_with_attention_and_the_published_work():
    config = img512("xs")
    blocks = config.encoder() + config.decoder()
    assert (len(blocks), sum(block.heads > 0 for block in blocks)) == (36, 15)
    pixels = {block.name: block.resolution**2 for block in blocks}
    attention = sum(2 * pixels[b.name] ** 2 * b.channels_out for b in blocks if b.heads)
    convolutions = sum(
        math.prod(shape) * pixels.get(name.rsplit(".", 2)[0], 64**2)
        for name, shape in tensor_shapes(config).items()
        if len(shape) == 4
    )
    # The published number has three digits.
    assert convolutions + attention == pytest.approx(PUBLISHED_MULTIPLY_ADDS_XS, abs=0.05e9)


@pytest.mark.parametrize("name", ["tiny", "tiny-uncond", "rule64-golden"])
def test_tensors_of_real_checkpoints(tensors, name):
    shapes = {key: tensor.shape for key, tensor in tensors(name).items()}
    assert tensor_shapes(read_config(shapes)) == shapes


def test_tensors_of_the_full_size_network(golden):
    listed = dict(zip(golden("xs-golden")["names"], golden("xs-golden")["shapes"], strict=True))
    shapes = {name: ",".join(map(str, shape)) for name, shape in tensor_shapes(img512("xs")).items()}
    assert shapes == listed


@pytest.mark.parametrize("label_dim", [1000, 0])
@pytest.mark.parametrize(("resolution", "channels"), [(64, 4), (64, 3)], ids=["img512", "img64"])
@pytest.mark.parametrize("size", WIDTHS)
def test_every_published_size_is_read_off_its_tensors(size, resolution, channels, label_dim):
    # Arrays of the full shapes that take no memory: every stride is zero.
    config = dataclasses.replace(img512(size, label_dim), img_resolution=resolution, img_channels=channels)
    zero = np.zeros((), np.float16)
    tensors = {name: np.broadcast_to(zero, shape) for name, shape in tensor_shapes(config).items()}
    options = {"img_resolution": resolution, "img_channels": channels, "label_dim": label_dim, "dropout": 0.1,
               "model_channels": WIDTHS[size], "use_fp16": True}  # fmt: skip
    assert check_network(Checkpoint(tensors, {"init_kwargs": options})) == config
    assert sum(tensor.size for tensor in tensors.values()) == parameters(config) + 2 * (WIDTHS[size] + 128)


@pytest.mark.parametrize("size", ["xs", "xxl"])
def test_the_largest_network_is_traced_through(size):
    config = img512(size)
    weights = {}
    for name, shape in tensor_shapes(config).items():
        if not name.endswith("_gain"):
            weights[name] = jax.ShapeDtypeStruct((*shape[2:], *reversed(shape[:2])), jnp.float32)
    x = jax.ShapeDtypeStruct((2, 64, 64, 4), jnp.float32)
    t, label = jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((6,), jnp.int32)
    traced = functools.partial(denoiser._denoise, config=config, dtype=np.dtype("float32"))
    assert jax.eval_shape(traced, weights, x, t, label).shape == (6, 64, 64, 4)


configs = st.builds(
    lambda levels, **sizes: Config(img_resolution=8 << len(levels), channels=tuple(levels), **sizes),
    st.lists(st.sampled_from([64, 128, 192]), min_size=1, max_size=4),
    img_channels=st.integers(1, 4),
    label_dim=st.integers(0, 3),
    num_blocks=st.integers(1, 3),
    attn_resolutions=st.just(()),
    noise_channels=st.integers(1, 9),
    emb_channels=st.integers(1, 9),
    logvar_channels=st.integers(1, 9),
)


@given(configs)
@settings(max_examples=50, deadline=None)
def test_sizes_are_read_back_from_the_shapes_that_they_imply(config):
    assert read_config(tensor_shapes(config)) == config


@pytest.fixture
def shapes(tensors):
    return {name: tensor.shape for name, tensor in tensors("tiny").items()}


OPTIONS = {"img_resolution": 16, "label_dim": 10, "channel_mult": [1, 2], "dropout": 0.0, "use_fp16": True}


def test_options_supply_what_shapes_cannot_tell(shapes):
    config = read_config(shapes, OPTIONS | {"channels_per_head": 32, "clip_act": None, "sigma_data": 1})
    assert (config.channels_per_head, config.clip_act, config.sigma_data) == (32, None, 1.0)
    assert config.decoder()[0].heads == 2


def test_a_missing_tensor_is_named(shapes):
    del shapes["unet.dec.8x8_in1.conv_res1.weight"]
    with pytest.raises(ValueError, match=r"1 tensor\(s\) missing: unet\.dec\.8x8_in1\.conv_res1\.weight"):
        read_config(shapes)


@pytest.mark.parametrize("name", ["unet.emb_noise.weight", "unet.out_conv.weight", "logvar_fourier.freqs"])
def test_a_missing_tensor_that_shows_a_size_is_named(shapes, name):
    del shapes[name]
    with pytest.raises(ValueError, match=f"tensor {name} is missing"):
        read_config(shapes)


def test_a_superfluous_tensor_is_named(shapes):
    shapes["unet.enc.16x16_block0.bias"] = (32,)
    with pytest.raises(
        ValueError, match=r"1 tensor\(s\) that this network does not have: unet\.enc\.16x16_b"
    ):
        read_config(shapes)


def test_a_wrong_shape_is_named_with_both_shapes(shapes):
    shapes["unet.enc.8x8_down.conv_res0.weight"] = (32, 33, 3, 3)
    with pytest.raises(ValueError, match=r"8x8_down\.conv_res0.*\(32, 32, 3, 3\), got \(32, 33, 3, 3\)"):
        read_config(shapes)


def test_a_tensor_without_axes_where_a_size_is_read(shapes):
    shapes["unet.emb_noise.weight"] = ()
    with pytest.raises(ValueError, match=r"unet\.emb_noise\.weight is of shape \(\)"):
        read_config(shapes)


def test_a_checkpoint_of_something_else():
    with pytest.raises(ValueError, match="not an EDM2 network"):
        read_config({"conv.weight": (3, 3)})


def test_levels_must_halve():
    block = "unet.enc.{0}x{0}_block0.conv_res0.weight"
    with pytest.raises(ValueError, match=r"must halve from level to level, got \[16, 5\]"):
        read_config({block.format(16): (8, 8, 3, 3), block.format(5): (8, 8, 3, 3)})


def test_few_tensors_cannot_promise_many_blocks(shapes):
    # 14 levels of 20,000 blocks: two million tensors, laid out one by one before 20,018 are found too few.
    names = [f"unet.enc.16384x16384_block{index}.conv_res0.weight" for index in range(20_000)]
    names += [f"unet.enc.{16384 >> level}x{16384 >> level}_block0.conv_res0.weight" for level in range(1, 14)]
    many = {name: shape for name, shape in shapes.items() if ".enc." not in name}
    with pytest.raises(ValueError, match="14 levels of 20000 blocks have at least 2240000 tensors"):
        read_config(many | dict.fromkeys(names, (32, 32, 3, 3)))


@pytest.mark.parametrize("resolutions", [(3, 1), (1, 0), (16, 4), (12, 6, 3, 1)])
def test_resolutions_halve_exactly(resolutions):
    shapes = {f"unet.enc.{r}x{r}_block0.conv_res0.weight": (32, 32, 3, 3) for r in resolutions}
    with pytest.raises(ValueError, match="must halve from level to level"):
        read_config(shapes)


def test_block_numbers_do_not_set_the_amount_of_work(shapes):
    shapes["unet.enc.16x16_block99999.conv_res0.weight"] = (32, 32, 3, 3)
    with pytest.raises(ValueError, match="missing"):
        read_config(shapes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_dim": 1000}, "label_dim is 1000, but the tensors say 10"),
        ({"num_blocks": 3}, "num_blocks is 3, but the tensors say 1"),
        ({"resample_filter": [1, 3, 3, 1]}, r"resample_filter must be \[1, 1\]"),
        ({"channels_per_head": 0}, "channels_per_head must be a positive integer"),
        ({"channels_per_head": [64]}, "channels_per_head must be a positive integer"),
        ({"sigma_data": "0.5"}, "sigma_data must be a positive number, got '0.5'"),
        ({"res_balance": True}, r"res_balance must be a number in 0\.\.1, got True"),
        ({"clip_act": 10**400}, "clip_act must be a positive number or None, got 10000"),
        ({"sigma_data": -(10**400)}, "sigma_data must be a positive number, got -10000"),
        ({"clip_act": float("nan")}, "clip_act must be a positive number or None"),
        ({"channels_per_head": 48}, "enc.8x8_block0 has 64 channels, which are not whole heads of"),
        ({"\x1b[2J\n": "x" * 999}, r"unknown network option .x1b.2J.n='x{79}\.\.\.; the supported ones are"),
        ({"rotary": True}, "unknown network option rotary=True; the supported ones are"),
    ],
)
def test_options_that_contradict_or_are_unknown(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        read_config(shapes, options)


def test_shapes_may_be_of_any_integer_sequence(shapes):
    assert read_config({name: tuple(np.asarray(shape)) for name, shape in shapes.items()}).label_dim == 10
