"""From the published names of a vision network's tensors to this project's, and the sizes that they imply.

Known layouts: DINOv2 as its authors publish it (``blocks.0.attn.qkv``) and as transformers does
(``encoder.layer.0.attention.attention.query``), CLIP's image tower as transformers does
(``vision_model.encoder.layers.0.self_attn.q_proj``), and Inception-v3 of the Fréchet inception distance
(``Mixed_5b.branch1x1.conv``).
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from neural.checkpoints import CheckpointError
from neural.checkpoints.checkpoint import quoted
from neural.vision import inception

Tensors = Mapping[str, np.ndarray]
Parts = dict[str, np.ndarray]

_NORMS = r"(norm[12])\.(weight|bias)"
# Pattern of a published name -> this project's name; groups are filled in.
_DINO_ORIGINAL = {
    r"cls_token": "class_token",
    r"register_tokens": "registers",
    r"pos_embed": "positions",
    r"patch_embed\.proj\.(weight|bias)": r"patch.\1",
    rf"blocks\.(\d+)\.{_NORMS}": r"layers.\1.\2.\3",
    r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)": r"layers.\1.qkv.\2",
    r"blocks\.(\d+)\.attn\.proj\.(weight|bias)": r"layers.\1.out.\2",
    r"blocks\.(\d+)\.ls([12])\.gamma": r"layers.\1.scale\2",
    r"blocks\.(\d+)\.mlp\.(?:fc1|w12)\.(weight|bias)": r"layers.\1.up.\2",
    r"blocks\.(\d+)\.mlp\.(?:fc2|w3)\.(weight|bias)": r"layers.\1.down.\2",
    r"norm\.(weight|bias)": r"norm.\1",
    r"linear_head\.(weight|bias)": r"head.\1",
}
_DINO = {
    r"embeddings\.cls_token": "class_token",
    r"embeddings\.register_tokens": "registers",
    r"embeddings\.position_embeddings": "positions",
    r"embeddings\.patch_embeddings\.projection\.(weight|bias)": r"patch.\1",
    rf"encoder\.layer\.(\d+)\.{_NORMS}": r"layers.\1.\2.\3",
    r"encoder\.layer\.(\d+)\.attention\.attention\.(q|k|v)(?:uery|ey|alue)\.(weight|bias)": r"layers.\1.\2.\3",
    r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(weight|bias)": r"layers.\1.out.\2",
    r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1": r"layers.\1.scale\2",
    r"encoder\.layer\.(\d+)\.mlp\.(?:fc1|weights_in)\.(weight|bias)": r"layers.\1.up.\2",
    r"encoder\.layer\.(\d+)\.mlp\.(?:fc2|weights_out)\.(weight|bias)": r"layers.\1.down.\2",
    r"layernorm\.(weight|bias)": r"norm.\1",
    r"classifier\.(weight|bias)": r"head.\1",
}
_CLIP = {
    r"vision_model\.embeddings\.class_embedding": "class_token",
    r"vision_model\.embeddings\.position_embedding\.weight": "positions",
    r"vision_model\.embeddings\.patch_embedding\.weight": "patch.weight",
    r"vision_model\.pre_layrnorm\.(weight|bias)": r"pre_norm.\1",
    r"vision_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.(weight|bias)": r"layers.\1.norm\2.\3",
    r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.(q|k|v|out)_proj\.(weight|bias)": r"layers.\1.\2.\3",
    r"vision_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.(weight|bias)": r"layers.\1.up.\2",
    r"vision_model\.encoder\.layers\.(\d+)\.mlp\.fc2\.(weight|bias)": r"layers.\1.down.\2",
    r"vision_model\.post_layernorm\.(weight|bias)": r"norm.\1",
    r"visual_projection\.weight": "projection.weight",
}
LAYOUTS = {"dinov2-original": _DINO_ORIGINAL, "dinov2": _DINO, "clip": _CLIP}
# What only one layout has.
_MARKS = {
    "dinov2-original": "patch_embed.proj.weight",
    "dinov2": "embeddings.patch_embeddings.projection.weight",
    "clip": "vision_model.embeddings.patch_embedding.weight",
    "inception": "Mixed_5b.branch1x1.conv.weight",
}
_PREFIX = re.compile(r"^(module\.|_orig_mod\.|backbone\.|dinov2\.|dinov2_with_registers\.)+")
# Read in training only, stored but never learnt, or of the text tower, which is read by other code.
_UNUSED = re.compile(
    r"mask_token|embeddings\.mask_token|.*\.position_ids|.*num_batches_tracked|AuxLogits\..*|logit_scale|"
    r"text_model\..*|text_projection\.weight"
)


def layout_of(names: Mapping[str, object]) -> str | None:
    """The layout that names belong to: a key of `LAYOUTS`, "inception", or None for none that is known."""
    bare = {_PREFIX.sub("", name) for name in names}
    return next((layout for layout, mark in _MARKS.items() if mark in bare), None)


def translated(tensors: Tensors, layout: str) -> Parts:
    """The tensors that the network computes with, by this project's names.

    Raises:
        CheckpointError: when a tensor belongs to no part of the network, one comes twice, or one is missing.
    """
    bare: dict[str, str] = {}
    for name in tensors:
        short = _PREFIX.sub("", name)
        if _UNUSED.fullmatch(short):
            continue
        if short in bare:
            raise CheckpointError(f"tensors {quoted(bare[short])} and {quoted(name)} are the same one")
        bare[short] = name
    renamed = {short: tensors[name] for short, name in bare.items()}
    for short, tensor in renamed.items():
        if tensor.dtype.kind != "f" and tensor.dtype.name != "bfloat16":
            raise CheckpointError(
                f"tensor {quoted(short)} must hold floating-point numbers, got {tensor.dtype}"
            )
    return _inception(renamed) if layout == "inception" else _transformer(renamed, LAYOUTS[layout])


def _transformer(tensors: Tensors, patterns: Mapping[str, str]) -> Parts:
    compiled = [(re.compile(pattern), ours) for pattern, ours in patterns.items()]
    parts: Parts = {}
    for name, tensor in tensors.items():
        match, ours = next(
            ((m, ours) for pattern, ours in compiled if (m := pattern.fullmatch(name))), (None, "")
        )
        if match is None:
            raise CheckpointError(f"tensor {quoted(name)} belongs to no part of the network that is read")
        parts.update(_split(match.expand(ours), tensor))
    for name, axes in {"class_token": 1, "positions": 2, "registers": 2}.items():
        if name in parts:
            parts[name] = _without_leading_ones(name, parts[name], axes)
    return parts


def _split(name: str, tensor: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """One tensor; queries, keys and values that lie in one are three."""
    if ".qkv." not in name:
        yield name, tensor
    elif tensor.ndim and tensor.shape[0] % 3 == 0:
        for part, third in zip("qkv", np.split(tensor, 3), strict=True):
            yield name.replace("qkv", part), third
    else:
        raise CheckpointError(f"tensor {name} of shape {tensor.shape} does not hold queries, keys and values")


def _without_leading_ones(name: str, tensor: np.ndarray, axes: int) -> np.ndarray:
    extra = tensor.ndim - axes
    if extra < 0 or tensor.shape[:extra] != (1,) * extra:
        raise CheckpointError(f"{name} has shape {tensor.shape}, which is not one row of {axes} axes")
    return tensor.reshape(tensor.shape[extra:])


def _inception(tensors: Tensors) -> Parts:
    parts: Parts = {}
    used = {"fc.weight", "fc.bias"}
    for name in inception.convolutions():
        needed = [f"{name}.conv.weight"]
        needed += [f"{name}.bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        if missing := [part for part in needed if part not in tensors]:
            raise CheckpointError(f"tensor {missing[0]} is missing")
        used.update(needed)
        parts[f"{name}.weight"] = tensors[needed[0]]
        parts |= inception.normalisation(tensors, name)
    if extra := sorted(tensors.keys() - used):
        raise CheckpointError(f"tensor {quoted(extra[0])} belongs to no part of the network")
    return parts | {name: tensors[name] for name in ("fc.weight", "fc.bias") if name in tensors}
