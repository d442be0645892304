"""pytorch-fid's network with given weights; torchvision is imported without its compiled operators.

torchvision's wheels are built for one build of torch and refuse others while they describe their operators. The
network uses none of them, so that empty descriptions suffice.
"""

import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import torch


def _describe_operators() -> torch.library.Library:
    spec = find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in set(re.findall(r'register_fake\("torchvision::(\w+)"\)', text)):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def fid_network(tensors: Mapping[str, np.ndarray]) -> torch.nn.Module:
    """The network of the Fréchet inception distance, which resizes its input itself."""
    if sys.modules.get("torchvision", 0) is None:
        del sys.modules["torchvision"]
    library = _describe_operators()
    from pytorch_fid import inception

    state = {name: torch.from_numpy(value) for name, value in tensors.items()}
    with mock.patch.object(inception, "load_state_dict_from_url", return_value=state):
        network = inception.InceptionV3().eval()
    del library
    return network
