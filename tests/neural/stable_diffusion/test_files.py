"""Every layout that checkpoints are published in, and what is wrong with others, without running a network."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from neural import CheckpointError, load_sd15, load_vae
from neural.checkpoints import presets
from neural.stable_diffusion.files import read_files
from tests.neural.stable_diffusion import folders, tiny


def assert_whole(files, parts=tuple(folders.SHAPES), scale=None):
    """Every tensor under our name, equal to the rule's."""
    assert files.networks.keys() == set(parts)
    for part in parts:
        network, expected = files.networks[part], folders.tensors(part)
        assert network.config == folders.CONFIGS[part]
        assert set(network.tensors) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(
                network.tensors[name], value * np.float32((scale or {}).get(part, 1))
            )


def unprefixed(part, found):
    if part != "text_encoder":
        return found
    return {name.removeprefix("text_model."): value for name, value in found.items()}


def with_extras(part, found):
    if part != "text_encoder":
        return found
    extras = {
        "text_model.embeddings.position_ids": folders.POSITION_IDS,
        "logit_scale": np.float32(1).reshape(1),
    }
    return found | extras


def old_attention(part, found):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    pattern = re.compile(r"(attentions\.0\.)(to_q|to_k|to_v|to_out\.0)\.")
    return {
        pattern.sub(lambda m: f"{m[1]}{old[m[2]]}.", name) if part == "vae" else name: v
        for name, v in found.items()
    }


@pytest.mark.parametrize("change", [unprefixed, with_extras, old_attention])
def test_folders_of_every_age(change, tmp_path):
    assert_whole(read_files(folders.write_folder(tmp_path / "m", change)))


@pytest.mark.parametrize(
    "index", ["safetensors.index.json", "safetensors.index.fp16.json", "fp16.safetensors.index.json"]
)
def test_shards(index, tmp_path):
    folder = folders.write_folder(tmp_path / "m")
    folders.shard(folder / "unet" / "diffusion_pytorch_model.safetensors", 3, index)
    assert_whole(read_files(folder))


def test_half_precision_variant(tmp_path):
    folder = folders.write_folder(tmp_path / "m", ending="fp16.safetensors", dtype="float16")
    files = read_files(folder)
    kept = files.networks["unet"].tensors["conv_in.weight"]
    assert kept.dtype == np.float16
    # The full precision file is preferred where both are there.
    save_file(folders.tensors("unet"), folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert read_files(folder).networks["unet"].tensors["conv_in.weight"].dtype == np.float32


def test_torch_folder(tmp_path):
    folder = folders.write_folder(tmp_path / "m")
    for part, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")):
        (path,) = (folder / part).glob("*.safetensors")
        (folder / part / f"{stem}.bin").write_bytes(folders.torch_file(load_file(path)))
        path.unlink()
    assert_whole(read_files(folder))


@pytest.mark.parametrize("ema", [False, True])
def test_single_safetensors(ema, tmp_path):
    path = tmp_path / "v1-5-pruned.safetensors"
    save_file(folders.single_file(ema=True), path)
    assert_whole(read_options(path, ema), scale={"unet": 0.5 if ema else 1})


def read_options(path, ema=False):
    """A single file has no configuration: heads and groups are the published ones, so give it the tiny ones."""
    return read_files(path, ema=ema, options=folders.OPTIONS)


def test_single_ckpt_with_a_trainers_objects(tmp_path):
    path = tmp_path / "v1-5-pruned.ckpt"
    path.write_bytes(folders.torch_file(folders.single_file(ema=True), folders.trainer()))
    assert_whole(read_options(path))


def test_one_network_alone(tmp_path):
    folder = folders.write_folder(tmp_path / "m")
    assert_whole(read_files(folder / "vae", ("vae",)), ("vae",))
    assert_whole(read_files(folder, ("vae",)), ("vae",))
    vae = load_vae(folder / "vae")
    assert vae.config == folders.VAE
    single = {name: v for name, v in folders.single_file().items() if name.startswith("first_stage_model.")}
    alone = {name.removeprefix("first_stage_model."): v for name, v in single.items()} | {
        "loss.logvar": np.zeros(1)
    }
    save_file(alone, tmp_path / "vae-ft-mse.safetensors")
    path = tmp_path / "vae-ft-mse.safetensors"
    assert_whole(read_files(path, ("vae",), options=folders.OPTIONS), ("vae",))


def without(*names):
    return lambda part, found: {name: value for name, value in found.items() if name not in names}


def replaced(name, value):
    return lambda part, found: {key: value if key == name else old for key, old in found.items()}


def added(where, name, value):
    return lambda part, found: found | {name: value} if part == where else found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("mid_block.resnets.0.conv1.bias"), r"unet: 1 tensor\(s\) missing: mid_block.resnets.0.conv1.bias"),
        (without("conv_in.weight"), "not the U-Net of Stable Diffusion: tensor conv_in.weight is missing"),
        (
            added("vae", "decoder.extra.weight", np.zeros(3, np.float32)),
            r"vae: 1 tensor\(s\) that this network does not have: decoder.extra.weight",
        ),
        (
            replaced("conv_out.bias", np.zeros(5, np.float32)),
            r"unet: tensor conv_out.bias must have shape \(4,\), got \(5,\)",
        ),
        (
            replaced("conv_out.bias", np.zeros(4, np.int32)),
            "tensor conv_out.bias must hold floating-point numbers, got int32",
        ),
        (
            added("unet", "add_embedding.linear_1.weight", np.zeros((2, 2), np.float32)),
            "this is Stable Diffusion XL; load_sd15 reads .*; neural.from_diffusers reads a folder",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change, message, tmp_path):
    folder = folders.write_folder(tmp_path / "m", change)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_files(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "entries", "message"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}, "XLPipeline.*diffusers:FOLDER"),
        ("unet/config.json", {"act_fn": "gelu"}, "unet: act_fn must be 'silu' or 'swish', as in Stable Diffusion 1.5"),
        ("unet/config.json", {"norm_num_groups": 7}, r"has 32 channels, which are not whole groups \(7\)"),
        ("unet/config.json", {"attention_head_dim": [4, 8]}, r"must be a positive integer, got \[4, 8\]"),
        ("unet/config.json", {"sample_size": "big"}, "sample_size must be a positive integer"),
        ("text_encoder/config.json", {"hidden_act": "gelu"}, "text_encoder: hidden_act must be 'quick_gelu'"),
        ("vae/config.json", {"scaling_factor": -1}, "vae: scaling_factor must be a positive number, got -1"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "must be epsilon, v_prediction or sample"),
        ("scheduler/scheduler_config.json", {"beta_start": "x"}, "beta_start must be a number in"),
    ],
)  # fmt: skip
def test_configurations_that_compute_something_else(file, entries, message, tmp_path):
    folder = folders.write_folder(tmp_path / "m")
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    with pytest.raises(CheckpointError, match=message):
        load_sd15(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"weight_map": {"a": "../../secret.safetensors"}}', "is no name of a file beside it"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "is no name of a file beside it"),
        ('{"weight_map": ["a"]}', "weight_map must map names to files"),
        ("[", "is not JSON"),
        ('{"weight_map": {"a": "missing.safetensors"}}', "no such file"),
    ],
)
def test_hostile_indices(text, message, tmp_path):
    folder = folders.write_folder(tmp_path / "m")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_files(folder)


def test_missing_folders_and_files(tmp_path):
    folder = folders.write_folder(tmp_path / "m")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"unet holds no weights \(diffusion_pytorch_model.safetensors"):
        read_files(folder)
    with pytest.raises(CheckpointError, match="has no folder unet"):
        read_files(folder / "vae")
    with pytest.raises(CheckpointError, match="no such file"):
        load_sd15(tmp_path / "nowhere")
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(
        CheckpointError, match=r"not Stable Diffusion: no tensor is named like model.diffusion_model"
    ):
        load_sd15(tmp_path / "other.safetensors")


def test_single_files_of_other_models(tmp_path):
    path = tmp_path / "file.safetensors"
    found = folders.single_file()
    save_file(found | {"model.diffusion_model.label_emb.0.0.weight": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(CheckpointError, match="this is Stable Diffusion XL"):
        load_sd15(path)
    save_file(found | {"mystery.weight": np.zeros(2, np.float32)}, path)
    with pytest.raises(CheckpointError, match=r"1 tensor\(s\) that belong to no network: 'mystery.weight'"):
        load_sd15(path)
    save_file({name: v for name, v in found.items() if not name.startswith("first_stage")}, path)
    with pytest.raises(CheckpointError, match="the file has no vae"):
        load_sd15(path)


def test_ema_is_for_files_that_have_it(tmp_path):
    with pytest.raises(CheckpointError, match="ema is for single files"):
        read_files(folders.write_folder(tmp_path / "m"), ema=True)
    path = tmp_path / "file.safetensors"
    save_file(folders.single_file(), path)
    with pytest.raises(CheckpointError, match="has no unet"):
        read_options(path, ema=True)


def test_presets_lie_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(presets.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(
        CheckpointError,
        match=r"model_index.json of sd15 is not on this machine; run `speciation weights fetch sd15`",
    ):
        load_sd15("sd15")
    folder = folders.write_folder(tmp_path / "sd15")
    model = load_sd15()
    assert model.config.unet == folders.UNET
    assert model.tokenizer is not None
    # The preset's vocabulary serves files that come without one.
    single = tmp_path / "elsewhere"
    folders.write_folder(single)
    for path in (single / "tokenizer").iterdir():
        path.unlink()
    (single / "tokenizer").rmdir()
    assert load_sd15(single).tokenizer is not None
    assert load_sd15(single, tokenizer=folder / "tokenizer").tokenizer is not None
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"vae/config.json of sd15 is not on this machine"):
        load_sd15("sd15")


def test_vocabulary_of_another_model(tmp_path):
    folder = folders.write_folder(tmp_path / "m")
    folders.write_tokenizer(tmp_path / "other", [*tiny.MERGES, ("x", "y")])
    with pytest.raises(
        CheckpointError,
        match=f"has token {tiny.VOCABULARY}, but the text encoder has {tiny.VOCABULARY} tokens",
    ):
        load_sd15(folder, tokenizer=tmp_path / "other")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_stays_in_full_precision(folder, dtype):
    model = load_sd15(folder, dtype=dtype)
    for name, weight in model.unet_weights.items():
        wide = weight.ndim < 2 or "time_emb" in name
        assert weight.dtype == (jnp.float32 if wide else jnp.dtype(dtype)), name


def test_numbers_that_do_not_fit_float16(tmp_path):
    change = replaced("conv_out.weight", np.full((4, 32, 3, 3), 1e5, np.float32))
    folder = folders.write_folder(tmp_path / "m", change)
    with pytest.raises(
        ValueError, match=r"tensor conv_out.weight does not fit float16; load with dtype='bfloat16'"
    ):
        load_sd15(folder, dtype="float16")


def test_another_dtype_is_refused(folder):
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, float16"):
        load_sd15(folder, dtype="int8")
