"""Golden vectors and the networks that they belong to; ../data/edm2/ORIGIN.md says where they come from."""

import functools
import json
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from neural.edm2 import EDM2, from_tensors

DATA = Path(__file__).parents[1] / "data" / "edm2"


class Golden:
    """One npz of golden vectors, images turned to NHWC."""

    def __init__(self, name: str) -> None:
        self._file = np.load(DATA / f"{name}.npz")

    def __getitem__(self, key: str) -> np.ndarray:
        array = self._file[key]
        return np.moveaxis(array, -3, -1) if array.ndim >= 4 else array

    def __contains__(self, key: str) -> bool:
        return key in self._file.files

    def inputs(self, case: str, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """x, sigma and class indices (-1 for the zero label; None without labels) of a case."""
        labels = None
        if f"{case}/labels" in self:
            one_hot = self[f"{case}/labels"]
            labels = np.where(one_hot.any(1), one_hot.argmax(1), -1)
        return self[f"{case}/x"].astype(dtype), self[f"{case}/sigma"].astype(dtype), labels


def rule(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor that the rule behind `rule64-golden` and `xs-golden` gives a name."""

    def generator() -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))

    match name.rsplit(".", 1)[-1]:
        case "out_gain":
            return np.full(shape, 1.0, np.float32)
        case "emb_gain":
            return np.full(shape, 0.5, np.float32)
        case "freqs":
            return np.float32(2 * np.pi) * generator().standard_normal(shape, dtype=np.float32)
        case "phases":
            return np.float32(2 * np.pi) * generator().random(shape, dtype=np.float32)
    return generator().standard_normal(shape, dtype=np.float32)


@functools.cache
def _golden(name: str) -> Golden:
    return Golden(name)


@functools.cache
def _tensors(name: str) -> dict[str, np.ndarray]:
    if name.startswith("tiny"):
        return load_file(DATA / f"{name}.safetensors")
    golden = _golden(name)
    shapes = [tuple(int(size) for size in text.split(",") if size) for text in golden["shapes"]]
    tensors = {str(key): rule(str(key), shape) for key, shape in zip(golden["names"], shapes, strict=True)}
    # Should a NumPy release change its streams, say so instead of reporting a wrong network.
    assert [zlib.crc32(tensor.tobytes()) for tensor in tensors.values()] == list(golden["weights_crc32"])
    return tensors


@functools.cache
def _network(name: str, dtype: str = "float32", *, as_published: bool = False) -> EDM2:
    options = json.loads(str(_golden(name)["net_kwargs"])) if "golden" in name else None
    return from_tensors(_tensors(name), options, dtype=jnp.dtype(dtype), as_published=as_published)


@pytest.fixture
def data():
    return DATA


@pytest.fixture
def golden():
    return _golden


@pytest.fixture
def tensors():
    return _tensors


@pytest.fixture
def network():
    return _network
