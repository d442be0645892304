"""Families of curves in a Dataset, and what is read off a curve."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

import gmm
from gmm.curve import EntropyCurve
from paper_figures.formats.curves import (
    WINDOW_SHARE,
    axis_positions,
    fastest_time,
    half_entropy_time,
    join,
    stack,
    unstack,
    vp_curve,
    window_ends,
)
from theory import entropy_curve, window

TIMES = np.linspace(0.05, 6.0, 400)
# Linear interpolation of a smooth rate on this grid.
GRID_ERROR = 1e-4
# Interpolation between sixty points, in time; `gmm.landmarks` states 2e-4 for exact curves.
INTERPOLATED = 1e-3


@pytest.fixture(scope="module")
def curves():
    return [entropy_curve(gmm.vp(), TIMES, energy) for energy in (10.0, 100.0)]


def test_stacked_curves_come_back_from_disk(curves, tmp_path):
    data = stack(curves, "dim", [10, 100], prefix="a_").merge(stack(curves[::-1], "dim", [10, 100]))
    data.to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    read = xr.load_dataset(tmp_path / "x.nc", engine="h5netcdf")
    for prefix, expected in (("a_", curves), ("", curves[::-1])):
        for found, curve in zip(unstack(read, "dim", prefix), expected, strict=True):
            for name in (
                "t",
                "log_snr",
                "entropy",
                "rate",
                "rate_stderr",
                "clone_agreement",
                "log_snr_slope",
            ):
                np.testing.assert_array_equal(getattr(found, name), getattr(curve, name))
            assert found.prior_entropy == curve.prior_entropy


def test_joined_pieces_are_the_curve(curves):
    whole = curves[0]

    def piece(part):
        fields = {f.name: getattr(whole, f.name) for f in dataclasses.fields(whole)}
        cut = {n: v[part] for n, v in fields.items() if isinstance(v, np.ndarray)}
        return EntropyCurve(**fields | cut)

    found = join([piece(slice(0, 150)), piece(slice(150, None))])
    np.testing.assert_array_equal(found.entropy, whole.entropy)
    np.testing.assert_array_equal(found.log_snr_slope, whole.log_snr_slope)


def test_vp_curve_knows_its_process(curves):
    exact = curves[0]
    found = vp_curve(TIMES, exact.entropy, exact.rate, exact.prior_entropy)
    np.testing.assert_allclose(found.log_snr, exact.log_snr, rtol=1e-12)
    np.testing.assert_allclose(found.log_snr_slope, exact.log_snr_slope, rtol=1e-12)


def test_axis_positions_are_those_of_a_curve(curves):
    for axis in gmm.curve.AXES:
        found = axis_positions(curves[0].t, curves[0].log_snr, axis)
        np.testing.assert_array_equal(found, curves[0].axis(axis))


def test_landmarks_in_the_process_time():
    # H = ½ (1 + tanh(t - 2)) log 2 passes half of log 2, and rises fastest, at t = 2.
    times = np.linspace(0.02, 5, 60)
    rate = 0.5 * np.log(2) / np.cosh(times - 2) ** 2
    curve = vp_curve(times, 0.5 * np.log(2) * (1 + np.tanh(times - 2)), rate, float(np.log(2)))
    assert half_entropy_time(gmm.vp(), curve) == pytest.approx(2, abs=INTERPOLATED)
    assert fastest_time(gmm.vp(), curve) == pytest.approx(2, abs=INTERPOLATED)
    assert np.isnan(fastest_time(gmm.vp(), curve.take(np.flatnonzero(times > 2))))


def test_window_ends(curves):
    found = window(curves[0], WINDOW_SHARE)
    assert window_ends(curves[0]) == (found.low, found.high)
