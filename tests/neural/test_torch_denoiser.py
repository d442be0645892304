"""A torch function as a denoiser: the example of docs/explanation/estimators.md, on a law whose answer is known."""

import jax
import numpy as np
import pytest

import gmm
from neural import from_function, gap_entropy, mixture_denoiser, online_entropy

# torch computes in float32, the oracle in float64; a path's errors grow over eight steps.
SINGLE = 2e-4
MEANS = np.array([[4.0, 0.0], [-4.0, 1.0], [0.0, -4.0]])
TIMES = np.geomspace(20.0, 0.5, 8)


@pytest.mark.parity
@pytest.mark.parametrize("estimator", [online_entropy, gap_entropy])
def test_torch_gives_the_same_curve(estimator):
    torch = pytest.importorskip("torch")
    means = torch.tensor(MEANS, dtype=torch.float32)

    @torch.no_grad()
    def denoise(x, t, condition):
        x, sigma = torch.from_numpy(x.copy()).float(), torch.full((len(x), 1), float(t))
        label = torch.from_numpy(condition.copy()).long().broadcast_to(len(x))
        return (means[label] + (x - means[label]) / (1 + sigma**2)).numpy()

    mixture = gmm.Mixture(np.full(3, 1 / 3), MEANS, gmm.Isotropic(1.0))
    call = {"key": jax.random.key(0), "samples": 40, "times": TIMES, "batch": 16}
    found = estimator(from_function(denoise, gmm.edm(), range(3), (2,), traceable=False), range(3), **call)
    wanted = estimator(mixture_denoiser(mixture, gmm.edm()), range(3), **call)
    np.testing.assert_allclose(found.entropy, wanted.entropy, atol=SINGLE)
    np.testing.assert_allclose(found.per_cell, wanted.per_cell, atol=10 * SINGLE)
