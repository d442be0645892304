"""What a single file says about itself, and files that are something else, without running a network."""

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import save_file

from neural import CheckpointError, load_sd15
from neural.checkpoints import presets
from neural.stable_diffusion.files import read_files
from neural.stable_diffusion.scheduler import read_scheduler
from tests.neural.stable_diffusion import folders

BETAS = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
ALPHA_BAR = np.cumprod(1 - BETAS)
# Tables of float16 have three digits.
HALF = 2e-3


def saved(path, change=lambda found: found, metadata=None):
    save_file(change(folders.single_file()), path, metadata)
    return path


def said(path, **options):
    """The process and the prediction of a single file."""
    return read_scheduler(read_files(path, options=folders.OPTIONS, **options).scheduler)


def alpha_bar(noise):
    return np.asarray(noise.process.alpha(np.arange(noise.process.t_max + 1))) ** 2


def test_a_file_that_says_nothing_is_stable_diffusion(tmp_path):
    noise = said(saved(tmp_path / "a.safetensors"))
    assert noise.prediction == "epsilon"
    np.testing.assert_allclose(alpha_bar(noise), ALPHA_BAR, rtol=1e-12)


@pytest.mark.parametrize(
    ("metadata", "prediction"),
    [
        ({"modelspec.prediction_type": "v"}, "v"),
        ({"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ({"prediction_type": "v_prediction"}, "v"),
        (
            {"modelspec.architecture": "stable-diffusion-v1", "modelspec.title": "x", "format": "pt"},
            "epsilon",
        ),
    ],
)
def test_metadata(metadata, prediction, tmp_path):
    assert said(saved(tmp_path / "a.safetensors", metadata=metadata)).prediction == prediction


def test_marker_tensors(tmp_path):
    marks = {"v_pred": np.zeros(0, np.float32), "ztsnr": np.zeros(0, np.float32)}
    noise = said(saved(tmp_path / "a.safetensors", lambda found: found | marks))
    assert noise.prediction == "v"
    assert alpha_bar(noise)[-1] < 1e-14
    # √ᾱ is shifted and scaled: its first value stays.
    np.testing.assert_allclose(alpha_bar(noise)[0], ALPHA_BAR[0], rtol=1e-6)


def test_clip_skip_that_a_file_asks_for(tmp_path):
    path = saved(tmp_path / "a.safetensors", metadata={"modelspec.encoder_layer": "2"})
    assert read_files(path, options=folders.OPTIONS).clip_skip == 1


@pytest.mark.parametrize("rounded", [False, True])
def test_the_table_in_the_file_counts(rounded, tmp_path):
    """That of Stable Diffusion in float16 is taken for Stable Diffusion's; another one is used."""
    own = np.linspace(1e-4, 0.02, 1000)
    kind = np.float16 if rounded else np.float32

    def change(found, betas=own):
        return found | {"betas": betas.astype(kind), "alphas_cumprod": np.cumprod(1 - betas).astype(kind)}

    if rounded:
        noise = said(saved(tmp_path / "a.safetensors", lambda found: change(found, BETAS)))
        np.testing.assert_allclose(alpha_bar(noise), ALPHA_BAR, rtol=1e-12)
    else:
        noise = said(saved(tmp_path / "b.safetensors", change))
        np.testing.assert_allclose(alpha_bar(noise), np.cumprod(1 - own), rtol=HALF)


def test_scale_of_the_latents(tmp_path):
    for scale, expected in ((np.array(0.5, np.float32), 0.5), (np.array(0.18215, np.float16), 0.18215)):
        path = saved(tmp_path / "a.safetensors", lambda found, scale=scale: found | {"scale_factor": scale})
        options = {part: dict(entries) for part, entries in folders.OPTIONS.items()}
        del options["vae"]["scaling_factor"]
        assert read_files(path, options=options).networks["vae"].config.scaling_factor == expected


YAML = """
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.00085
    linear_end: {end}
    timesteps: 1000
    parameterization: "{kind}"
    cond_stage_key: "txt"
    conditioning_key: {key}
    scale_factor: 0.18215
    use_ema: False
    unet_config:
      params: {{image_size: 32, context_dim: 24, model_channels: 32, num_heads: {heads}, legacy: False}}
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
"""


def with_yaml(tmp_path, end=0.012, kind="v", key="crossattn", heads=8):
    pytest.importorskip("yaml")
    path = saved(tmp_path / "a.safetensors")
    path.with_suffix(".yaml").write_text(YAML.format(end=end, kind=kind, key=key, heads=heads))
    return path


def test_yaml_beside_the_file(tmp_path):
    noise = said(with_yaml(tmp_path, end=0.02))
    assert noise.prediction == "v"
    expected = np.cumprod(1 - np.linspace(0.00085**0.5, 0.02**0.5, 1000) ** 2)
    np.testing.assert_allclose(alpha_bar(noise), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "flow"}, "parameterization must be one of"),
        ({"key": "hybrid"}, "conditioning_key must be 'crossattn', got 'hybrid'"),
        (
            {"kind": "v\n    of_tomorrow: 3"},
            "not YAML|parameterization must be|of_tomorrow = '3' is not known here",
        ),
    ],
)
def test_yaml_that_asks_for_something_else(change, message, tmp_path):
    path = with_yaml(tmp_path, **change)
    with pytest.raises(CheckpointError, match=message) as caught:
        said(path)
    assert str(path.with_suffix(".yaml")) in str(caught.value)


def test_yaml_runs_nothing(tmp_path):
    path = with_yaml(tmp_path)
    path.with_suffix(".yaml").write_text("model: !!python/object/apply:os.system ['false']")
    with pytest.raises(CheckpointError, match="not YAML"):
        said(path)


@pytest.mark.parametrize(
    ("change", "metadata", "message"),
    [
        (
            {"v_pred": np.zeros(0, np.float32)},
            {"modelspec.prediction_type": "epsilon"},
            "says prediction_type",
        ),
        ({}, {"modelspec.architecture": "stable-diffusion-xl-v1-base"}, "got 'stable-diffusion-xl-v1-base'"),
        ({}, {"modelspec.prediction_type": "flow"}, "modelspec.prediction_type must be one of"),
        (
            {"betas": np.full(1000, 0.5, np.float32)},
            {},
            "tables betas and alphas_cumprod of the file contradict",
        ),
        ({"alphas_cumprod": np.linspace(0.1, 0.9, 1000)}, {}, "must describe noise that grows"),
    ],
)
def test_contradictions_are_refused(change, metadata, message, tmp_path):
    path = saved(tmp_path / "a.safetensors", lambda found: found | change, metadata)
    with pytest.raises(CheckpointError, match=message):
        said(path)


def test_a_prediction_given_by_hand_settles_a_contradiction(tmp_path):
    mark = {"v_pred": np.zeros(0, np.float32)}
    path = saved(tmp_path / "a.safetensors", lambda found: found | mark, {"prediction_type": "epsilon"})
    assert said(path, prediction="v").prediction == "v"


# Names that wrappers have changed, and files of other kinds.


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_stripped(prefix, tmp_path):
    path = saved(
        tmp_path / "a.safetensors", lambda found: {prefix + name: value for name, value in found.items()}
    )
    files = read_files(path, options=folders.OPTIONS)
    np.testing.assert_array_equal(
        files.networks["unet"].tensors["conv_in.weight"], folders.tensors("unet")["conv_in.weight"]
    )
    folder = folders.write_folder(
        tmp_path / "m", lambda part, found: {f"_orig_mod.{name}": value for name, value in found.items()}
    )
    assert read_files(folder).networks["unet"].config == folders.UNET


def test_full_precision_of_torch_before_half_of_safetensors(tmp_path):
    folder = folders.write_folder(tmp_path / "m", ending="fp16.safetensors", dtype="float16")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(folders.torch_file(folders.tensors("unet")))
    assert read_files(folder).networks["unet"].tensors["conv_in.weight"].dtype == np.float32


def raw(text):
    return lambda path: path.write_bytes(text)


def header(dtype):
    entry = {"conv_in.weight": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2]}}
    text = json.dumps(entry).encode()
    return len(text).to_bytes(8, "little") + text + b"\0\0"


def tensors(**found):
    arrays = {name.replace("__", "."): np.ones(shape, np.float32) for name, shape in found.items()}
    return lambda path: save_file(arrays, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"), "this is a Git LFS pointer"),
        (raw(b"<!DOCTYPE html><html>"), "this is an HTML page"),
        (raw(b"\n<HTML>"), "this is an HTML page"),
        (raw(b"GGUF\x03\0\0\0"), "this is a GGUF file, whose weights are quantised"),
        (raw(b"\x1f\x8b\x08\0"), "this is a compressed archive; unpack it first"),
        (raw(header("F8_E4M3")), "stored in fp8 or less \\('F8_E4M3'\\)"),
        (raw(header("F8_E5M2")), "stored in fp8 or less \\('F8_E5M2'\\)"),
        (tensors(lora_unet_conv_in__lora_down__weight=(2, 3)), r"a LoRA, which changes a model; use load_sd15\(MODEL"),
        (tensors(lora_unet_conv_in__hada_w1_a=(2, 3)), "a LoHa, which is not supported; merge it"),
        (tensors(lora_unet_conv_in__oft_blocks=(2, 3)), "an OFT adapter, which is not supported"),
        (tensors(emb_params=(2, 768)), r"a textual inversion, .*; use load_sd15\(MODEL, emb"),
        (tensors(control_model__input_blocks__0__0__weight=(2, 3)), "a ControlNet"),
        (tensors(ip_adapter__1__to_k_ip__weight=(2, 3)), "an IP-Adapter"),
    ],
)  # fmt: skip
def test_files_of_other_kinds_are_named(write, message, tmp_path):
    path = tmp_path / "file.safetensors"
    write(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match=message) as caught:
            load_sd15(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "what"),
    [("unet", "a U-Net alone"), ("vae", "an autoencoder alone"), ("text_encoder", "a text encoder alone")],
)
def test_one_network_alone_is_named(part, what, tmp_path):
    folder = folders.write_folder(tmp_path / "m")
    (path,) = (folder / part).glob("*.safetensors")
    with pytest.raises(
        CheckpointError, match=f"this is {what}; load_sd15 needs all three networks: a folder with"
    ):
        load_sd15(path)


def test_states_of_training_runs_are_named(tmp_path):
    path = tmp_path / "training-state-0001024.pt"
    path.write_bytes(folders.torch_file({"net.weight": np.ones(2, np.float32)}))
    with pytest.raises(CheckpointError, match=r"use the network-snapshot-\*\.pkl of the same run"):
        load_sd15(path)


@pytest.mark.parametrize("file", ["unet/config.json", "model_index.json", "tokenizer/vocab.json"])
def test_configurations_that_are_pointers_are_named(file, tmp_path):
    pytest.importorskip("tokenizers")
    folder = folders.write_folder(tmp_path / "m")
    (folder / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(CheckpointError, match="is a Git LFS pointer"):
        load_sd15(folder)


# Prompts.


def test_one_text_is_one_prompt(model):
    assert len(model.encode("a cat")) == 1
    np.testing.assert_array_equal(model.encode("a cat").states, model.encode(["a cat"]).states)
    np.testing.assert_array_equal(model.encode(None).states, model.encode([""]).states)
    assert len(model.encode(np.array(["a cat", "a dog"]))) == 2
    with pytest.raises(ValueError, match="at least one prompt, got none"):
        model.encode([])
    with pytest.raises(ValueError, match="is not valid Unicode"):
        model.encode("\ud800")


def test_the_empty_prompt_of_a_larger_vocabulary(tmp_path, monkeypatch):
    """Start and end are not the last two rows of a table that has been enlarged."""

    def change(part, found):
        name = "text_model.embeddings.token_embedding.weight"
        more = np.ones((3, found[name].shape[1]), np.float32) if name in found else None
        return found | {name: np.concatenate([found[name], more])} if name in found else found

    monkeypatch.setenv(presets.CACHE_VARIABLE, str(tmp_path / "cache"))
    folder = folders.write_folder(tmp_path / "m", change)
    config = folder / "text_encoder" / "config.json"
    entries = json.loads(config.read_text())
    config.write_text(json.dumps(entries | {"vocab_size": entries["vocab_size"] + 3}))
    model = load_sd15(folder)
    np.testing.assert_array_equal(model.config.empty, model.tokenize("")[0])
    for path in (folder / "tokenizer").iterdir():
        path.unlink()
    (folder / "tokenizer").rmdir()
    # The configuration has the numbers of start and end.
    assert load_sd15(folder).config.empty == model.config.empty
    config.write_text(
        json.dumps(entries | {"vocab_size": entries["vocab_size"] + 3, "bos_token_id": 0, "eos_token_id": 2})
    )
    with pytest.raises(ValueError, match="the empty prompt needs the model's vocabulary"):
        load_sd15(folder).denoise(np.zeros((1, 8, 8, 4), np.float32), 1)
