"""diffusers, transformers and torch, imported without what they do not need.

A torchvision that was not built for the torch beside it cannot be imported, and transformers would try:
no image goes through it here, so it is hidden.
"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]

import diffusers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

__all__ = ["diffusers", "torch", "transformers"]
