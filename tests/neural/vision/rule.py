"""Full-size Inception-v3 with weights by rule, under the names of its PyTorch port: the same on every machine."""

import numpy as np

from neural.vision import inception

# Output channels in the order of execution (Szegedy et al. 2016, table 1, and the published file).
_A = {"branch1x1": 64, "branch5x5_1": 48, "branch5x5_2": 64, "branch3x3dbl_1": 64, "branch3x3dbl_2": 96}
_A |= {"branch3x3dbl_3": 96}
_B = {"branch3x3": 384, "branch3x3dbl_1": 64, "branch3x3dbl_2": 96, "branch3x3dbl_3": 96}
_D = {"branch3x3_1": 192, "branch3x3_2": 320} | {f"branch7x7x3_{i}": 192 for i in (1, 2, 3, 4)}
_E = {"branch1x1": 320, "branch3x3_1": 384, "branch3x3_2a": 384, "branch3x3_2b": 384, "branch3x3dbl_1": 448}
_E |= {"branch3x3dbl_2": 384, "branch3x3dbl_3a": 384, "branch3x3dbl_3b": 384, "branch_pool": 192}
STEM = {
    "Conv2d_1a_3x3": 32,
    "Conv2d_2a_3x3": 32,
    "Conv2d_2b_3x3": 64,
    "Conv2d_3b_1x1": 80,
    "Conv2d_4a_3x3": 192,
}
INPUTS = {
    "Mixed_5b": 192, "Mixed_5c": 256, "Mixed_5d": 288, "Mixed_6a": 288, "Mixed_6b": 768, "Mixed_6c": 768,
    "Mixed_6d": 768, "Mixed_6e": 768, "Mixed_7a": 768, "Mixed_7b": 1280, "Mixed_7c": 2048,
}  # fmt: skip


def _c(width: int) -> dict[str, int]:
    seven = {f"branch7x7_{i}": width for i in (1, 2)} | {"branch7x7_3": 192}
    twice = {f"branch7x7dbl_{i}": width for i in (1, 2, 3, 4)} | {"branch7x7dbl_5": 192}
    return {"branch1x1": 192} | seven | twice | {"branch_pool": 192}


OUTPUTS = {
    "Mixed_5b": _A | {"branch_pool": 32}, "Mixed_5c": _A | {"branch_pool": 64}, "Mixed_5d": _A | {"branch_pool": 64},
    "Mixed_6a": _B, "Mixed_6b": _c(128), "Mixed_6c": _c(160), "Mixed_6d": _c(160), "Mixed_6e": _c(192),
    "Mixed_7a": _D, "Mixed_7b": _E, "Mixed_7c": _E,
}  # fmt: skip


def shapes() -> dict[str, tuple[int, ...]]:
    """The shape of every convolution's kernel, by full name."""
    found, channels = {}, 3
    for name, out in STEM.items():
        found[name] = (out, channels, *inception.kernel(inception.STEM[name]))
        channels = out
    for block, outputs in OUTPUTS.items():
        for branch in inception.branches(inception.BLOCKS[block]):
            channels = INPUTS[block]
            for part in branch:
                kind = inception.BLOCKS[block][part]
                found[f"{block}.{part}"] = (outputs[part], channels, *inception.kernel(kind))
                channels = channels if part[-1] in "ab" else outputs[part]
    return found


def tensors() -> dict[str, np.ndarray]:
    """Every tensor of the published file, float32, kernels of variance 2 over the number of inputs."""
    rng, found = np.random.default_rng(20151205), {}
    for name, shape in shapes().items():
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        found[f"{name}.conv.weight"] = scale * rng.standard_normal(shape, np.float32)
        found[f"{name}.bn.weight"] = 0.5 + rng.random(shape[0], np.float32)
        found[f"{name}.bn.bias"] = 0.1 * rng.standard_normal(shape[0], np.float32)
        found[f"{name}.bn.running_mean"] = 0.1 * rng.standard_normal(shape[0], np.float32)
        found[f"{name}.bn.running_var"] = 0.5 + rng.random(shape[0], np.float32)
    found["fc.weight"] = rng.standard_normal((1008, 2048), np.float32) / np.float32(45)
    found["fc.bias"] = np.zeros(1008, np.float32)
    return found


def images(name: str, *shape: int) -> np.ndarray:
    """8-bit images with some structure: products of waves, and noise."""
    rng = np.random.default_rng(list(name.encode()))
    n, height, width, channels = shape
    rows, columns = np.arange(height)[None, :, None, None], np.arange(width)[None, None, :, None]
    frequency, phase = (
        rng.uniform(0.02, 0.4, (2, n, 1, 1, channels)),
        rng.uniform(0, 6, (2, n, 1, 1, channels)),
    )
    waves = np.sin(frequency[0] * rows + phase[0]) * np.sin(frequency[1] * columns + phase[1])
    return np.clip(127 + 90 * waves + 20 * rng.standard_normal(shape), 0, 255).astype(np.uint8)
