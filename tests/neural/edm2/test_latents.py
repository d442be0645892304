"""The affine map of the ImageNet-512 latents, against the official numbers."""

import numpy as np

from neural.edm2.latents import IMG512

# One float32 rounding in each of three operations.
FLOAT32 = 5e-7


def test_scale_and_bias_are_the_published_ones(golden):
    file = golden("tiny")
    np.testing.assert_allclose(IMG512.scale, file["encoder/scale"], rtol=FLOAT32)
    np.testing.assert_allclose(IMG512.bias, file["encoder/bias"], rtol=FLOAT32)


def test_there_and_back(golden):
    file = golden("tiny")
    # The golden latents have zero standard deviation in channels 4-7: the sample is the mean.
    mean = file["encoder/raw"][..., :4]
    np.testing.assert_allclose(IMG512.from_raw(mean), file["encoder/final"], atol=FLOAT32)
    np.testing.assert_allclose(
        IMG512.to_raw(file["encoder/final"]), file["encoder/back"], rtol=1e-5, atol=1e-6
    )


def test_statistics_become_zero_and_one_half():
    raw = np.array(IMG512.raw_mean) + np.array([[-1.0], [1.0]]) * np.array(IMG512.raw_std)
    final = np.asarray(IMG512.from_raw(raw[:, None, None]))
    np.testing.assert_allclose(final.mean((0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(final.std((0, 1, 2)), 0.5, rtol=1e-12)
