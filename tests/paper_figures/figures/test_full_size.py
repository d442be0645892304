"""Every experiment once at full size: the published architectures with random weights, few paths and few steps.

    python -m pytest -m slow tests/paper_figures/figures/test_full_size.py

Minutes, and up to 10 GB of memory. Random weights decide nothing; what is shown is that programs of that size compile,
fit into memory, and leave files whose numbers are finite and within their bounds.
"""

import math

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.edm2_forward import XS, XS_ARGUMENTS
from benchmarks.sd15_forward import CONFIGS, FOLDERS, STEM
from benchmarks.sd15_forward import random_tensors as sd15_tensors
from gmm.curve import load_dataset
from neural.checkpoints import write_safetensors
from neural.edm2 import tensor_shapes
from neural.vision.transformer import TransformerConfig
from paper_figures.studies import image_quality, judged_u_turn
from tests.neural.edm2.conftest import rule as edm2_rule
from tests.neural.stable_diffusion import folders
from tests.neural.vision import rule as inception_rule
from tests.paper_figures.asked import run
from tests.paper_figures.figures.test_experiments import tiny_clip

pytestmark = pytest.mark.slow
FEW = ["--paths", 2, "--steps", 3]


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    write_safetensors(folder / f"{STEM['decoder']}.safetensors", sd15_tensors("decoder"), {})
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def xs(tmp_path_factory):
    """EDM2-XS and its unconditional network, weights by rule."""
    folder = tmp_path_factory.mktemp("xs")
    tensors = {name: edm2_rule(name, shape) for name, shape in tensor_shapes(XS).items()}
    write_safetensors(folder / "xs.safetensors", tensors, {"init_kwargs": XS_ARGUMENTS})
    del tensors["unet.emb_label.weight"]
    alone = {"init_kwargs": XS_ARGUMENTS | {"label_dim": 0}}
    write_safetensors(folder / "xs-uncond.safetensors", tensors, alone)
    return folder / "xs.safetensors"


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    """Stable Diffusion 1.5 in diffusers' layout, random weights, a vocabulary of letters."""
    folder = tmp_path_factory.mktemp("sd15")
    for part in CONFIGS:
        target = folder / FOLDERS[part]
        target.mkdir()
        write_safetensors(target / f"{STEM[part]}.safetensors", sd15_tensors(part), {})
        (target / "config.json").write_text("{}")
    folders.write_tokenizer(folder / "tokenizer")
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("edm2-classes", ["--classes", "tench", "--highlight", "tabby"]),
        ("edm2-partitions", ["--partitions", "dog-cat", "--fast"]),
        ("edm2-guidance", ["--classes", "tench", "--schedules", "interval:2.8:0.15..1.6"]),
    ],
)
def test_entropies_of_edm2_xs(name, words, xs, tmp_path, capsys):
    run(capsys, "figures", "--only", name, "--weights", xs, *FEW, *words, "--out", tmp_path)
    stem = f"{name}-fast" if "--fast" in words else name
    found = load_dataset(tmp_path / f"{stem}.nc")
    entropy = found.entropy.values[np.isfinite(found.entropy.values)]
    assert entropy.size
    assert ((entropy >= 0) & (entropy <= float(found.prior_entropy.max()) + 1e-6)).all()


def test_u_turns_of_edm2_xs(xs, autoencoder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(judged_u_turn, "TURNS", 2)
    monkeypatch.setattr(judged_u_turn, "SAMPLING_STEPS", 2)
    weights = ["--weights", xs, autoencoder, dinov2_large(tmp_path / "dinov2")]
    asked = ["figures", "--only", "edm2-u-turn", *weights, "--classes", "tench", *FEW]
    run(capsys, *asked, "--out", tmp_path / "out")
    found = load_dataset(tmp_path / "out" / "edm2-u-turn.nc")
    assert ((found.u_turn >= 0) & (found.u_turn <= 1)).all()
    assert float(found.share[0]) == pytest.approx(1e-3)


def test_quality_of_edm2_xs(xs, autoencoder, tmp_path, capsys):
    save_file(inception_rule.tensors(), tmp_path / "pt_inception.safetensors")
    rng = np.random.default_rng(0)
    mean, root = rng.normal(size=2048), rng.normal(size=(2048, 64))
    np.savez(tmp_path / "reference.npz", mu=mean, sigma=root @ root.T)
    words = ["--images", image_quality.LEAST, "--schedules", "none", "--classes", "tench", *FEW]
    weights = ["--weights", xs, autoencoder, tmp_path / "pt_inception.safetensors"]
    asked = ["figures", "--only", "edm2-quality", *weights, *words, "--reference", tmp_path / "reference.npz"]
    said = run(capsys, *asked, "--out", tmp_path / "out")
    assert "20 generated images are fewer than the 2048 dimensions" in said
    found = load_dataset(tmp_path / "out" / "edm2-quality.nc")
    assert float(found.value.sel(measure="frechet")[0, 0]) > 0
    assert np.isnan(found.value.sel(measure="precision")).all()


def dinov2_large(folder):
    """DINOv2 ViT-L/14 with its head, random weights, under its authors' names."""
    config = TransformerConfig(width=1024, depth=24, heads=16, patch=14, grid=37)
    rng = np.random.default_rng(0)
    hidden, classes = 4 * config.width, 1000

    def normal(*shape):
        return rng.standard_normal(shape, np.float32) / np.float32(math.sqrt(np.prod(shape[1:])))

    tensors = {
        "cls_token": normal(1, 1, config.width), "pos_embed": normal(1, config.grid**2 + 1, config.width),
        "patch_embed.proj.weight": normal(config.width, 3, 14, 14), "patch_embed.proj.bias": normal(config.width),
        "norm.weight": np.ones(config.width, np.float32), "norm.bias": normal(config.width),
        "linear_head.weight": normal(classes, 2 * config.width), "linear_head.bias": normal(classes),
    }  # fmt: skip
    for index in range(config.depth):
        block = f"blocks.{index}"
        shapes = {"attn.qkv": (3 * config.width, config.width), "attn.proj": (config.width, config.width)}
        shapes |= {"mlp.fc1": (hidden, config.width), "mlp.fc2": (config.width, hidden)}
        for name, shape in shapes.items():
            tensors |= {f"{block}.{name}.weight": normal(*shape), f"{block}.{name}.bias": normal(shape[0])}
        for name in ("norm1", "norm2"):
            tensors |= {f"{block}.{name}.weight": np.ones(config.width, np.float32)}
            tensors |= {f"{block}.{name}.bias": normal(config.width)}
        tensors |= {f"{block}.ls{i}.gamma": np.full(config.width, 0.1, np.float32) for i in (1, 2)}
    folder.mkdir()
    save_file(tensors, folder / "dinov2.safetensors")
    return folder / "dinov2.safetensors"


def test_prompts_of_stable_diffusion(sd15, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(judged_u_turn, "TURNS", 2)
    monkeypatch.setattr(judged_u_turn, "SAMPLING_STEPS", 2)
    prompts = ["--prompts", "a cat", "a dog"]
    asked = ["figures", "--weights", sd15, *prompts, *FEW, "--out", tmp_path]
    run(capsys, *asked, "--only", "sd15-prompts")
    run(capsys, *asked, "--only", "sd15-guidance", "--schedules", "cfg:7.5")
    for name in ("sd15-prompts", "sd15-guidance"):
        found = load_dataset(tmp_path / f"{name}.nc")
        assert ((found.entropy >= 0) & (found.entropy <= math.log(2) + 1e-6)).all()
    weights = ["--weights", sd15, tiny_clip(tmp_path / "clip")]
    run(capsys, "figures", "--only", "sd15-u-turn", *weights, *prompts[:2], *FEW, "--out", tmp_path)
    found = load_dataset(tmp_path / "sd15-u-turn.nc")
    assert ((found.u_turn >= 0) & (found.u_turn <= 1)).all()
