"""Weights as training has them, against weights as they are loaded."""

import jax
import numpy as np

from neural import checkpoints
from neural.edm2.architecture import read_config
from neural.edm2.weights import fold, fold_traced, forced

TINY = "tests/neural/data/edm2/tiny.safetensors"


def test_traced_and_loaded_weights_are_the_same(request):
    tensors = _tiny(request)
    config = read_config({name: tensor.shape for name, tensor in tensors.items()})
    loaded = fold(tensors, config, np.dtype(np.float64))
    traced = jax.jit(lambda t: fold_traced(t, config))(tensors)
    assert traced.keys() == loaded.keys()
    for name, weight in loaded.items():
        np.testing.assert_allclose(traced[name], weight, rtol=1e-12, atol=1e-14, err_msg=name)


def test_forced_rows_have_magnitude_one_and_the_same_direction(request):
    tensors = _tiny(request)
    for name, tensor in jax.jit(forced)(tensors).items():
        if not name.endswith(".weight"):
            np.testing.assert_array_equal(tensor, tensors[name])
            continue
        rows, before = (np.asarray(t).reshape(len(t), -1) for t in (tensor, tensors[name]))
        size, was = (np.sqrt(np.mean(r**2, axis=1)) for r in (rows, before))
        # The ε of the normalisation keeps rows of size 1e-5 small, and rows of zeros zero.
        np.testing.assert_allclose(size, was / (was + 1e-4), rtol=1e-9)
        np.testing.assert_allclose(rows * was[:, None], before * size[:, None], atol=1e-9)


def _tiny(request):
    found = checkpoints.read(request.config.rootpath / TINY)
    return {name: np.asarray(tensor, np.float64) for name, tensor in found.tensors.items()}
