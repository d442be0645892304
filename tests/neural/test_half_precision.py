"""The class entropy of networks that compute in bfloat16 against the same networks in float32.

Noise levels, preconditioning, posteriors and averages are float32 in both, and the random numbers are the same, so
that the difference is what the network's own rounding changes.
"""

from typing import Any

import jax
import numpy as np
import pytest

from gmm.landmarks import half_entropy
from neural import online_entropy
from neural.models import load_model

SAMPLES, STEPS = 96, 24
# Largest difference of the entropy as a part of H[Z], and of half entropy in log(σ/α). bfloat16 has eight bits, so that
# a network is off by 0.4% in each of its numbers, and independent roundings average out along a path.
ENTROPY, PLACE = 0.02, 0.05
DECISIONS: dict[str, list[Any]] = {"zoo:digits": [3, 8], "zoo:tree": list(range(8)), "zoo:fashion": [0, 9]}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(DECISIONS))
def test_entropy_hardly_changes(name: str) -> None:
    curves = []
    for dtype in ("float32", "bfloat16"):
        model = load_model(name, dtype=dtype)
        times = model.grid.times(model.process, STEPS)
        conditions = [(model.conditions or ())[i] for i in DECISIONS[name]]
        arguments: dict[str, Any] = {"key": jax.random.key(0), "samples": SAMPLES, "times": times}
        curves.append(online_entropy(model.denoiser, conditions, shape=model.shape, **arguments))
    single, half = curves
    assert half.entropy.dtype == single.entropy.dtype
    assert np.abs(half.entropy - single.entropy).max() < ENTROPY * single.prior_entropy
    assert abs(half_entropy(half).value - half_entropy(single).value) < PLACE
