"""Makes ../data/vision/: small networks that transformers saved, and answers of transformers, pytorch-fid and torch.

    python -m tests.neural.vision.make_golden

It needs the `parity` extra. Versions are written into the file.
"""

from pathlib import Path

import numpy as np

from tests.neural.stable_diffusion.oracles import torch, transformers
from tests.neural.vision import rule
from tests.neural.vision.pytorch_fid_network import fid_network

DATA = Path(__file__).parents[1] / "data" / "vision"
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 14}
CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**CLIP, "projection_dim": 16, "vocab_size": 100, "bos_token_id": 1, "eos_token_id": 99}
VISION = {**CLIP, "image_size": 42, "patch_size": 14, "projection_dim": 16}


def networks() -> dict[str, torch.nn.Module]:
    """Small networks with random weights, by the name of their folder."""
    torch.manual_seed(0)
    t = transformers
    made = {
        "dinov2": t.Dinov2ForImageClassification(t.Dinov2Config(**SMALL, image_size=70, num_labels=10)),
        "dinov2-swiglu": t.Dinov2Model(t.Dinov2Config(**SMALL, image_size=42, use_swiglu_ffn=True)),
        "dinov2-registers": t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**SMALL, image_size=70)),
        "clip": t.CLIPModel(t.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)),
        "clip-vision": t.CLIPVisionModelWithProjection(t.CLIPVisionConfig(**VISION)),
    }
    for network in made.values():
        with torch.no_grad():
            # Initial weights leave norms, scales and biases at 0 and 1, where a mistake would not show.
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        network.eval()
    return made


def answers(made: dict[str, torch.nn.Module], pixels: torch.Tensor) -> dict[str, np.ndarray]:
    """What the small networks say of pixels."""
    tokens = torch.from_numpy(np.array([[1, 5, 7, 99, 99], [1, 9, 99, 99, 99]]))
    found = {
        "dinov2.features": made["dinov2"].dinov2(pixels).pooler_output,
        "dinov2.logits": made["dinov2"](pixels).logits,
        "dinov2-swiglu.features": made["dinov2-swiglu"](pixels).pooler_output,
        "dinov2-registers.features": made["dinov2-registers"](pixels).pooler_output,
        "clip.features": _tensor(made["clip"].get_image_features(pixel_values=pixels)),
        "clip-vision.features": made["clip-vision"](pixels).image_embeds,
        "clip.text_features": _tensor(made["clip"].get_text_features(input_ids=tokens)),
    }
    return {name: value.numpy() for name, value in found.items()} | {"tokens": tokens.numpy()}


def _tensor(value: object) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else value.pooler_output  # type: ignore[attr-defined]


def resizes() -> dict[str, np.ndarray]:
    """torch's own resizing of images and of positions."""
    resize = torch.nn.functional.interpolate
    images = torch.from_numpy(rule.images("resize", 1, 40, 53, 3)).permute(0, 3, 1, 2).double()
    grid = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 4, 5, 5)))
    found = {
        "bicubic-antialias": resize(images, size=(24, 61), mode="bicubic", antialias=True),
        "bicubic": resize(images, size=(24, 61), mode="bicubic"),
        "bilinear": resize(images, size=(99, 30), mode="bilinear"),
        "bilinear-antialias": resize(images, size=(99, 30), mode="bilinear", antialias=True),
        "grid": grid,
        "grid-offset": resize(grid, scale_factor=((3 + 0.1) / 5, (7 + 0.1) / 5), mode="bicubic"),
    }
    return {f"resize.{name}": value.permute(0, 2, 3, 1).numpy() for name, value in found.items()}


def fid() -> dict[str, np.ndarray]:
    """Features of pytorch-fid's network, with the weights of `rule`, of images of two sizes."""
    network, found = fid_network(rule.tensors()), {}
    for name, size in {"small": (32, 32), "wide": (120, 310)}.items():
        images = torch.from_numpy(rule.images(name, 1, *size, 3)).permute(0, 3, 1, 2).float() / 255
        found[f"fid.{name}"] = network(images)[0][:, :, 0, 0].numpy()
    return found


def main() -> None:
    """Write the folders and the answers."""
    made = networks()
    for name, network in made.items():
        network.save_pretrained(DATA / name)
    pixels = torch.randn(2, 3, 42, 42, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = answers(made, pixels) | resizes() | fid()
    versions = np.array([f"torch {torch.__version__}", f"transformers {transformers.__version__}"])
    np.savez_compressed(
        DATA / "golden.npz", pixels=pixels.permute(0, 2, 3, 1).numpy(), versions=versions, **found
    )


if __name__ == "__main__":
    main()
