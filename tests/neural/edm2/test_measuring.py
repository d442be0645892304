"""The measurement on an EDM2 network: from the pickles to an entropy curve."""

import jax
import numpy as np
import pytest

from neural import load_edm2
from neural.denoiser import from_function
from neural.estimators import online_entropy

# float32 networks whose classes are evaluated together or one by one; log-ratios add the rounding of every step.
FLOAT32 = 1e-3


@pytest.mark.slow
@pytest.mark.usefixtures("x32")
@pytest.mark.parametrize("tracker", ["classes", "unconditional"])
def test_entropy_of_the_pair_by_two_routes(data, tracker):
    model = load_edm2(data / "tiny.pkl")
    conditions = [1, 6] if tracker == "classes" else [6]
    options = {"tracker": tracker, "samples": 4, "steps": 4, "key": jax.random.key(0)}
    # As a function alone there is nothing that could be shared between classes.
    plain = from_function(model.denoise, model.process, model.conditions, model.state_shape)
    found = online_entropy(model, conditions, guide=model.unconditional, **options)
    expected = online_entropy(plain, conditions, guide=model.unconditional, **options)
    np.testing.assert_allclose(found.entropy, expected.entropy, atol=FLOAT32)
    np.testing.assert_allclose(found.log_snr, -2 * np.log(found.t), rtol=1e-6)
    assert found.prior_entropy == pytest.approx(np.log(2))
    assert ((found.entropy >= 0) & (found.entropy <= np.log(2) + 1e-6)).all()
