"""Grids of equal information against their definition and their limits."""

import numpy as np
import pytest

import gmm
from neural.samplers import edm_times
from theory import entropy_curve

CURVE = entropy_curve(gmm.edm(), np.geomspace(0.05, 500, 200), 64.0, family="pair")


def test_every_step_takes_the_same_part_of_the_information():
    times = gmm.entropic_times(CURVE, gmm.edm(), 9, share=1.0)
    entropy = entropy_curve(gmm.edm(), times[1:-1], 64.0, family="pair").entropy
    last = entropy_curve(gmm.edm(), times[:1], 64.0, family="pair").entropy[0]
    # The cubic through 200 points of the curve.
    np.testing.assert_allclose(entropy / last, np.arange(7, 0, -1) / 8, atol=1e-4)
    assert times[0] == pytest.approx(80)
    assert times[-1] == pytest.approx(0.002)


def test_no_share_is_the_grid_of_edm():
    np.testing.assert_allclose(
        gmm.entropic_times(CURVE, gmm.edm(), 16, share=0.0), edm_times(gmm.edm(), 16), rtol=1e-5
    )


def test_a_mixed_grid_lies_between_and_falls_on_every_process():
    for process in (gmm.edm(), gmm.vp(), gmm.flow()):
        times = gmm.entropic_times(CURVE, process, 12)
        assert (np.diff(times) < 0).all()
        inside = np.exp(-0.5 * np.asarray(process.log_snr(times)))
        counts = [
            np.sum((grid > 3) & (grid < 20))
            for grid in (
                edm_times(gmm.edm(), 12),
                inside,
                gmm.entropic_times(CURVE, gmm.edm(), 12, share=1.0),
            )
        ]
        assert counts[0] < counts[1] < counts[2]


def test_bad_input():
    for words, more in (
        ("share", {"share": 1.5}),
        ("steps", {"steps": 1}),
        ("sigma_min", {"sigma_min": 100.0}),
        ("gain information", {"sigma_min": 1e-6, "sigma_max": 1e-5}),
    ):
        with pytest.raises(ValueError, match=words):
            gmm.entropic_times(CURVE, gmm.edm(), **({"steps": 8} | more))
