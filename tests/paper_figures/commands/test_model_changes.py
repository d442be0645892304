"""LoRA, learnt words, prediction and clip skip on the command line, on a folder of Stable Diffusion's form."""

import json

import jax
import numpy as np
import pytest

import gmm
from neural import load_sd15, online_entropy
from neural.checkpoints import read, write_safetensors
from paper_figures.commands.model_options import ChangeOptions
from tests.neural.stable_diffusion import folders, tiny
from tests.paper_figures.asked import run

PROMPT = "a photo of a cat"
LAYER, KOHYA = "mid_block.attentions.0.proj_in", "lora_unet_mid_block_attentions_0_proj_in"
SCALE, RANK, ALPHA = 0.5, 2, 6.0
# Weights that are added up in another order, through a small network in float32.
ROUNDING = 1e-4
SAMPLED = ["sample", "--prompt", PROMPT, "--steps", 2, "--latents", "--guidance-scale", 1]


def factors():
    rng = np.random.default_rng(0)
    width = folders.SHAPES["unet"][f"{LAYER}.weight"][0]
    return [rng.standard_normal(shape).astype(np.float32) for shape in ((width, RANK), (RANK, width))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.write_folder(tmp_path_factory.mktemp("sd15") / "tiny")


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    path = tmp_path_factory.mktemp("lora") / "style.safetensors"
    up, down = (factor.reshape(*factor.shape, 1, 1) for factor in factors())
    found = {"lora_up.weight": up, "lora_down.weight": down, "alpha": np.float32(ALPHA)}
    write_safetensors(path, {f"{KOHYA}.{name}": np.asarray(value) for name, value in found.items()}, {})
    return path


def states(folder):
    """The states that `sample --latents` left in a folder."""
    (path,) = folder.glob("*.safetensors")
    (found,) = read(path).tensors.values()
    return np.asarray(found)


def test_a_lora_of_the_command_line_is_the_change_of_the_weights(folder, lora, tmp_path, capsys):
    up, down = factors()

    def change(part, found):
        name = f"{LAYER}.weight"
        added = SCALE * ALPHA / RANK * (up @ down)
        return found | {name: found[name] + added.reshape(found[name].shape)} if part == "unet" else found

    by_hand = folders.write_folder(tmp_path / "changed", change)
    options = {"plain": ["--model", folder], "by hand": ["--model", by_hand]}
    options |= {"lora": ["--model", folder, "--lora", f"{lora}:{SCALE}"]}
    found = {}
    for name, given in options.items():
        run(capsys, *SAMPLED, *given, "--out", tmp_path / name)
        found[name] = states(tmp_path / name)
    largest = np.abs(found["by hand"]).max()
    np.testing.assert_allclose(found["lora"], found["by hand"], atol=ROUNDING * largest)
    assert np.abs(found["lora"] - found["plain"]).max() > 100 * ROUNDING * largest
    # What was made without the LoRA does not count as made with it.
    again = run(capsys, *SAMPLED, *options["lora"], "--out", tmp_path / "plain", "--dry-run")
    assert "there already" not in again
    assert "there already" in run(capsys, *SAMPLED, *options["lora"], "--out", tmp_path / "lora", "--dry-run")


@pytest.mark.slow
def test_what_changed_the_model_stands_in_the_result(folder, lora, tmp_path, capsys):
    asked = ["window", "--model", folder, "--prompts", PROMPT, "a dog", "--samples", 2, "--steps", 6]
    changes = ["--lora", f"{lora}:0.5", "--prediction", "v", "--clip-skip", 1]
    run(capsys, *asked, *changes, "--allow-partial", "--out", tmp_path)
    text = json.dumps(gmm.EntropyCurve.load(tmp_path / "window.nc").metadata, default=dict)
    settings = json.loads(text)["model_facts"]["settings"]
    ((files, scale),) = settings["lora"]
    assert (list(files), scale) == (["style.safetensors"], 0.5)
    assert (settings["prediction"], settings["clip_skip"]) == ("v", 1)
    assert str(lora) not in text


@pytest.mark.slow
def test_parts_of_another_prediction_are_not_taken_up(folder, tmp_path):
    options = {"key": jax.random.key(0), "samples": 2, "steps": 2, "folder": tmp_path}
    entropies = [
        online_entropy(load_sd15(folder, prediction=prediction), [PROMPT, "a dog"], **options).entropy
        for prediction in ("epsilon", "v", "epsilon")
    ]
    assert not np.array_equal(entropies[0], entropies[1])
    np.testing.assert_array_equal(entropies[0], entropies[2])


def test_options_become_the_arguments_of_the_loader(lora, tmp_path):
    other = tmp_path / "odd:0.5"
    other.write_bytes(lora.read_bytes())
    given = ChangeOptions(
        lora=[str(lora), f"{lora}:-0.25", str(other), "absent:2"], embeddings=[f"{lora}:<toy>"]
    )
    assert given.settings["lora"] == [str(lora), (str(lora), -0.25), str(other), "absent:2"]
    assert given.settings["embeddings"] == [(str(lora), "<toy>")]
    assert all(value is None for value in ChangeOptions().settings.values())
    with pytest.raises(ValueError, match="FILE:SCALE with a number, got the scale 'high'"):
        _ = ChangeOptions(lora=[f"{lora}:high"]).settings


def test_a_learnt_word_is_a_token_of_prompts(folder, tmp_path, capsys):
    word = tmp_path / "toy.safetensors"
    write_safetensors(word, {"<toy>": np.ones((1, tiny.CONTEXT), np.float32)}, {})
    asked = [
        "sample",
        "--model",
        folder,
        "--prompt",
        "a <cat-toy>",
        "--steps",
        2,
        "--latents",
        "--guidance-scale",
        1,
    ]
    run(capsys, *asked, "--embeddings", f"{word}:<cat-toy>", "--out", tmp_path / "with")
    run(capsys, *asked, "--out", tmp_path / "without")
    assert not np.allclose(states(tmp_path / "with"), states(tmp_path / "without"))
    model = load_sd15(folder, embeddings=[(word, "<cat-toy>")])
    assert len(set(model.tokenize("a <cat-toy>")[0]) - set(load_sd15(folder).tokenize("a <cat-toy>")[0])) == 1


OPTIONS = {"--lora": "x.safetensors", "--embeddings": "x.pt", "--prediction": "v", "--clip-skip": "1"}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("command", ["compare", "window", "guidance", "sample", "check"])
def test_models_without_such_a_setting_refuse_it_by_name(command, option, capsys):
    asked = [command, "--model", "zoo:digits", option, OPTIONS[option]]
    printed = run(capsys, *asked, *(["--dry-run"] if command != "check" else []), code=2)
    assert printed.startswith(f"speciation: {option} applies to models of kind sd15 alone, and zoo:digits")


def test_mistakes_are_one_line(folder, lora, tmp_path, capsys):
    asked = ["sample", "--model", folder, "--prompt", PROMPT, "--dry-run"]
    assert "the scale 'high'" in run(capsys, *asked, "--lora", f"{lora}:high", code=2)
    assert "finite number, got nan" in run(capsys, *asked, "--lora", f"{lora}:nan", code=2)
    assert "absent.safetensors" in run(capsys, *asked, "--lora", tmp_path / "absent.safetensors:1", code=2)
    printed = run(capsys, *asked, "--clip-skip", 99, code=2)
    assert "--clip-skip must be an integer in 0.." in printed
