"""LoRA in every spelling, held to diffusers and PEFT; learnt words and added tokens held to diffusers. `make torch`."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

import peft
from safetensors.numpy import load_file, save_file

from neural import CheckpointError, load_sd15
from neural.stable_diffusion import names
from neural.stable_diffusion.files import read_files
from tests.neural.stable_diffusion import tiny
from tests.neural.stable_diffusion.oracles import diffusers, torch
from tests.neural.stable_diffusion.pipelines import CONTEXT, FLOAT32, PROMPT, X, clean, far, make, single_file

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:The following alpha_pattern keys:RuntimeWarning"),
]

T = 500
RANK, ALPHA = 3, 5.0
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
ALL = [
    *ATTENTION,
    "proj_in",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "time_emb_proj",
    "conv_shortcut",
    "conv_in",
]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline")
    make(path / "tokenizer").save_pretrained(path / "tiny")
    return path / "tiny"


def loaded(folder):
    return diffusers.StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, requires_safety_checker=False
    )


def adapted(folder, targets=ALL, text=TEXT, **options):
    """The folder's pipeline with random adapters of PEFT in its U-Net and text encoder."""
    pipe = loaded(folder)
    torch.manual_seed(1)
    options = {"r": RANK, "lora_alpha": ALPHA, "init_lora_weights": False, **options}
    pipe.unet.add_adapter(peft.LoraConfig(target_modules=targets, **options))
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=text, **options), pipe.text_encoder)
    return pipe


def state(module):
    """An adapter's tensors by PEFT's names."""
    parameters = module.named_parameters()
    return {
        name.replace(".default.", "."): value.detach().numpy()
        for name, value in parameters
        if "lora_" in name
    }


def scaled(pipe, scale):
    for module in (pipe.unet, pipe.text_encoder):
        for layer in module.modules():
            if isinstance(layer, peft.tuners.tuners_utils.BaseTunerLayer):
                layer.set_scale("default", scale)
    return pipe


def diffusers_spelling(pipe):
    """As diffusers saves it; the alpha is in the metadata alone."""
    found = {f"unet.{name}": value for name, value in state(pipe.unet).items()}
    return found | {f"text_encoder.{name}": value for name, value in state(pipe.text_encoder).items()}


def kohya(pipe, alpha=ALPHA):
    found = {}
    for prefix, module in (("lora_unet_", pipe.unet), ("lora_te_", pipe.text_encoder)):
        for name, value in state(module).items():
            name = name if prefix == "lora_unet_" or name.startswith("text_model.") else f"text_model.{name}"
            layer, factor = name.split(".lora_")
            layer = prefix + layer.replace(".", "_")
            found[f"{layer}.lora_{'down' if factor[0] == 'A' else 'up'}.weight"] = value
            if alpha is not None:
                found[f"{layer}.alpha"] = np.array(alpha, np.float32)
    return found


def old_diffusers(pipe):
    """Attention processors of 2023; no alpha, so that it counts as the rank."""
    found = {}
    for name, value in state(pipe.unet).items():
        layer, factor = name.split(".lora_")
        attention, part = (
            layer.rsplit(".", 1)
            if not layer.endswith("to_out.0")
            else (layer.removesuffix(".to_out.0"), "to_out")
        )
        found[f"unet.{attention}.processor.{part}_lora.{'down' if factor[0] == 'A' else 'up'}.weight"] = value
    for name, value in state(pipe.text_encoder).items():
        name = name if name.startswith("text_model.") else f"text_model.{name}"
        layer, factor = name.split(".lora_")
        found[f"text_encoder.{layer}.lora_linear_layer.{'down' if factor[0] == 'A' else 'up'}.weight"] = value
    return found


def test_every_layer_in_kohyas_spelling(folder, tmp_path):
    pipe = adapted(folder)
    assert any("conv_shortcut" in name for name in state(pipe.unet))
    save_file(kohya(pipe), tmp_path / "lora.safetensors")
    for scale in (1.0, 0.7, -0.5):
        found = load_sd15(folder, lora=[(tmp_path / "lora.safetensors", scale)]).denoise(X, T, PROMPT)
        assert far(found, clean(scaled(pipe, scale), T)) < FLOAT32
    assert far(load_sd15(folder).denoise(X, T, PROMPT), clean(scaled(pipe, 1.0), T)) > 0.01


def test_diffusers_reads_the_same_file_to_the_same_end(folder, tmp_path):
    """The whole way by diffusers: its own conversion of kohya's names and alphas."""
    pipe = adapted(folder, [*ATTENTION, "proj_in", "conv1"])
    found = kohya(pipe)
    # The text encoder's part would need a later release of PEFT.
    save_file({k: v for k, v in found.items() if k.startswith("lora_unet_")}, tmp_path / "lora.safetensors")
    other = loaded(folder)
    other.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    found = load_sd15(folder, lora=[tmp_path / "lora.safetensors"]).denoise(X, T, PROMPT)
    assert far(found, clean(other, T)) < FLOAT32


def test_diffusers_own_file_with_its_metadata(folder, tmp_path):
    pipe = adapted(folder, alpha_pattern={"to_q": 2.0, "q_proj": 1.0})
    type(pipe).save_lora_weights(
        tmp_path,
        unet_lora_layers={name: torch.from_numpy(value) for name, value in state(pipe.unet).items()},
        text_encoder_lora_layers={
            name: torch.from_numpy(value) for name, value in state(pipe.text_encoder).items()
        },
        unet_lora_adapter_metadata=pipe.unet.peft_config["default"].to_dict(),
        text_encoder_lora_adapter_metadata={"r": RANK, "lora_alpha": ALPHA, "alpha_pattern": {"q_proj": 1.0}},
    )
    found = load_sd15(folder, lora=[(tmp_path, 1.0)]).denoise(X, T, PROMPT)
    assert far(found, clean(pipe, T)) < FLOAT32


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}])
def test_pefts_own_folder(options, folder, tmp_path):
    pipe = adapted(folder, ATTENTION, TEXT[:1], **options)
    for layer in pipe.text_encoder.modules():
        if isinstance(layer, peft.tuners.tuners_utils.BaseTunerLayer):
            layer.set_scale("default", 0.0)
    found = {f"base_model.model.{name}": value for name, value in state(pipe.unet).items()}
    save_file(found, tmp_path / "adapter_model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"in the spelling of PEFT needs adapter_config\.json beside it"
    ):
        load_sd15(folder, lora=[tmp_path])
    config = pipe.unet.peft_config["default"].to_dict()
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (tmp_path / "adapter_config.json").write_text(json.dumps(plain, default=str))
    assert far(load_sd15(folder, lora=[tmp_path]).denoise(X, T, PROMPT), clean(pipe, T)) < FLOAT32
    (tmp_path / "adapter_config.json").write_text(json.dumps(plain | {"use_dora": True}, default=str))
    with pytest.raises(CheckpointError, match="the LoRA's configuration: use_dora must be False"):
        load_sd15(folder, lora=[tmp_path])


def test_attention_processors_of_old_releases(folder, tmp_path):
    pipe = adapted(folder, ATTENTION, TEXT[:4], lora_alpha=RANK)
    save_file(old_diffusers(pipe), tmp_path / "lora.safetensors")
    found = load_sd15(folder, lora=[tmp_path / "lora.safetensors"]).denoise(X, T, PROMPT)
    assert far(found, clean(pipe, T)) < FLOAT32


def original(folder):
    """Layers of the U-Net under their original names, by diffusers' names."""
    found = names.original_names(read_files(folder, ("unet",)).networks["unet"].config)
    weights = {ours: theirs for ours, theirs in found.items() if ours.endswith(".weight")}
    return {ours.removesuffix(".weight"): theirs.removesuffix(".weight") for ours, theirs in weights.items()}


def test_two_files_and_a_single_file_as_the_base(folder, tmp_path):
    """Changes add up; kohya's names of the original blocks are understood too."""
    pipe = adapted(folder)
    blocks = {ours.replace(".", "_"): theirs.replace(".", "_") for ours, theirs in original(folder).items()}
    found = {}
    for name, value in kohya(pipe).items():
        layer, rest = name.split(".", 1)
        inner = layer.removeprefix("lora_unet_")
        found[f"lora_unet_{blocks[inner]}.{rest}" if inner in blocks else name] = value
    assert any(name.startswith("lora_unet_input_blocks_") for name in found)
    save_file(found, tmp_path / "lora.safetensors")
    twice = [(tmp_path / "lora.safetensors", 0.4), (tmp_path / "lora.safetensors", 0.6)]
    expected = clean(pipe, T)
    assert far(load_sd15(folder, lora=twice).denoise(X, T, PROMPT), expected) < FLOAT32
    save_file(single_file(folder), tmp_path / "model.safetensors")
    model = load_sd15(tmp_path / "model.safetensors", tokenizer=folder / "tokenizer", lora=twice)
    assert far(model.denoise(X, T, PROMPT), expected) < FLOAT32


def test_what_is_no_lora_of_this_model_is_named(folder, tmp_path):
    path = tmp_path / "lora.safetensors"
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    down, up = np.ones((2, 64), np.float32), np.ones((64, 2), np.float32)
    good = {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
    tried = {
        "it changes the layer 'lora_unet_nowhere', which this model does not have": {
            "lora_unet_nowhere.lora_down.weight": down, "lora_unet_nowhere.lora_up.weight": up,
        },
        "has only one of its two factors": {f"{layer}.lora_down.weight": down},
        r"factors of shapes \(2, 32\) and \(64, 2\) do not fit a weight of shape": {
            **good, f"{layer}.lora_down.weight": np.ones((2, 32), np.float32),
        },
        "a DoRA, which is not supported; merge it": {**good, f"{layer}.dora_scale": up},
        "a LoHa, which is not supported": {f"{layer}.hada_w1_a": up},
        "a LoKr, which is not supported": {f"{layer}.lokr_w1": up},
        "an OFT adapter, which is not supported": {f"{layer}.oft_blocks": up},
        "tensor 'bundle_emb.x.string_to_param' is no part of a LoRA": {**good, "bundle_emb.x.string_to_param": up},
        "Stable Diffusion XL": {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": down},
        "has an alpha, but no factors": {**good, "lora_unet_conv_in.alpha": np.array(1, np.float32)},
        "a textual inversion, which is a learnt word; use load_sd15": {"emb_params": up},
    }  # fmt: skip
    for message, tensors in tried.items():
        save_file(tensors, path)
        with pytest.raises(CheckpointError, match=message) as caught:
            load_sd15(folder, lora=[path])
        assert "\n" not in str(caught.value)
    save_file(good, path)
    for scale in (np.inf, "1", True):
        with pytest.raises(ValueError, match="the scale of a LoRA must be a finite number"):
            load_sd15(folder, lora=[(path, scale)])
    with pytest.raises(ValueError, match="lora must be a list of files"):
        load_sd15(folder, lora=str(path))
    with pytest.raises(
        CheckpointError, match=r"this is a LoRA, which changes a model; use load_sd15\(MODEL, lora="
    ):
        load_sd15(path)


# Learnt words and added tokens.


def with_tokens(pipe, *tokens):
    pipe.tokenizer.add_tokens(list(tokens))
    pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer))
    return pipe


@pytest.mark.parametrize(
    "prompt", ["", "a photo of <frida>", "<FRIDA> and <Frida>s", "a cat<|endoftext|> dog"]
)
def test_added_tokens_of_a_folder(prompt, tmp_path):
    pipe = with_tokens(make(tmp_path / "tokenizer"), "<frida>", "<frida>_1", "Casimir")
    pipe.save_pretrained(tmp_path / "m")
    model = load_sd15(tmp_path / "m")
    assert far(model.denoise(X, T, prompt), clean(pipe, T, prompt=prompt)) < FLOAT32
    assert far(model.denoise(X, T, None), clean(pipe, T, prompt="")) < FLOAT32
    assert far(model.unconditional.denoise(X, T), clean(pipe, T, prompt="")) < FLOAT32


def test_padding_and_length_of_the_tokenizer(tmp_path):
    pipe = make(tmp_path / "tokenizer")
    pipe.tokenizer.pad_token = "!"
    pipe.tokenizer.model_max_length = 20
    pipe.save_pretrained(tmp_path / "m")
    model = load_sd15(tmp_path / "m")
    assert model.tokenize("a cat").shape == (1, 20)
    for prompt in ("", "a cat"):
        assert far(model.denoise(X, T, prompt), clean(pipe, T, prompt=prompt)) < FLOAT32


def automatic(vectors):
    """As AUTOMATIC1111 saves it, in the layout of torch.save."""
    return {
        "string_to_token": {"*": 265}, "string_to_param": {"*": torch.from_numpy(vectors)}, "name": "<frida>",
        "step": 5000, "sd_checkpoint": "x", "sd_checkpoint_name": None,
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "form", ["diffusers.bin", "diffusers.safetensors", "automatic.pt", "<frida>.safetensors"]
)
def test_learnt_words_saved_alone(form, count, folder, tmp_path):
    vectors = tiny.noise("learnt", (count, CONTEXT))
    path = tmp_path / form
    if form == "diffusers.bin":
        torch.save({"<frida>": torch.from_numpy(vectors[0] if count == 1 else vectors)}, path)
    elif form == "automatic.pt":
        torch.save(automatic(vectors), path)
    else:
        save_file({"<frida>" if form[0] == "d" else "emb_params": vectors}, path)
    pipe = loaded(folder)
    pipe.load_textual_inversion({"<frida>": torch.from_numpy(vectors)})
    model = load_sd15(folder, embeddings=[path])
    for prompt in ("a photo of <frida>, twice <frida>", ""):
        assert far(model.denoise(X, T, prompt), clean(pipe, T, prompt=prompt)) < FLOAT32
    named = load_sd15(folder, embeddings=[(path, "kahlo")])
    assert far(named.denoise(X, T, "a kahlo"), model.denoise(X, T, "a <frida>")) < FLOAT32


def test_learnt_words_that_do_not_fit(folder, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"<x>": np.ones((2, 32), np.float32)}, path)
    with pytest.raises(CheckpointError, match=r"embedding '<x>' must have shape \(n, 64\)"):
        load_sd15(folder, embeddings=[path])
    save_file({"<x>": np.ones((2, 64), np.float32), "y": np.ones((2, 64), np.float32)}, path)
    with pytest.raises(CheckpointError, match="is no learnt word: it has 2 tensors"):
        load_sd15(folder, embeddings=[path])
    save_file({"<x>": np.ones(768, np.float32)}, path)
    with pytest.raises(CheckpointError, match=r"a textual inversion.*embeddings=\[FILE\]"):
        load_sd15(path)
    save_file({"cat</w>": np.ones(64, np.float32)}, path)
    with pytest.raises(ValueError, match="the token 'cat</w>' is in the vocabulary already"):
        load_sd15(folder, embeddings=[path])
    assert load_file(path)["cat</w>"].shape == (64,)
