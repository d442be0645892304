"""Vision judges at full size, with random weights, against transformers.

    python -m pytest -m parity tests/parity/test_vision.py

Needs the `parity` extra and about 3 GB of memory. Inception-v3 is held to pytorch-fid at full size in the normal tests.
"""

import numpy as np
import pytest

pytest.importorskip("tests.neural.stable_diffusion.oracles")

from neural import load_judge
from tests.neural.stable_diffusion.oracles import torch, transformers

pytestmark = pytest.mark.parity

FLOAT32 = 1e-5  # of the largest value, through 12 to 24 layers
DINOV2 = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
# Published positions are those of 518 pixels, and features are taken at 224: positions are interpolated.
PIXELS = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def shaken(network):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return network.eval()


def gap(judge, expected):
    found = np.asarray(judge.forward(PIXELS.permute(0, 2, 3, 1).numpy()))
    return np.abs(found - expected.numpy()).max() / float(expected.abs().max())


@pytest.mark.parametrize("size", DINOV2)
@pytest.mark.parametrize("registers", [False, True])
def test_dinov2(size, registers, tmp_path):
    width, depth, heads = DINOV2[size]
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
    name = "Dinov2WithRegisters" if registers else "Dinov2"
    config = getattr(transformers, f"{name}Config")(**sizes, image_size=518, patch_size=14)
    network = shaken(getattr(transformers, f"{name}Model")(config))
    network.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = network(PIXELS).pooler_output
    assert gap(load_judge(tmp_path), expected) < FLOAT32


def test_clip_large(tmp_path):
    config = transformers.CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14,
        projection_dim=768,
    )  # fmt: skip
    network = shaken(transformers.CLIPVisionModelWithProjection(config))
    network.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = network(PIXELS).image_embeds
    assert gap(load_judge(tmp_path), expected) < FLOAT32
