"""``speciation show``."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

import gmm
from paper_figures import cli
from paper_figures.commands import saved_files
from paper_figures.drawing import curve as curve_picture
from paper_figures.figures.job import Job
from paper_figures.figures.registry import FIGURES
from paper_figures.figures.settings import Settings
from theory import entropy_curve, window

CURVE = entropy_curve(gmm.vp(), np.linspace(0.1, 6.0, 60), 100.0)


@pytest.fixture
def curve_file(tmp_path):
    CURVE.save(tmp_path / "pair.nc")
    return tmp_path / "pair.nc"


def test_curve_is_printed_and_drawn(curve_file, capsys):
    assert cli.run(["show", str(curve_file)]) == 0
    out = capsys.readouterr().out
    low, middle, high = window(CURVE, 0.8).sigma
    for text in (
        "quadrature",
        "vp()",
        f"{low:.5g} .. {high:.5g}",
        f"{middle:.5g}",
        "0.693147 nats",
        "60, t = 0.1 .. 6",
    ):
        assert text in out
    assert curve_file.with_name("pair.png").stat().st_size > 1000


def test_units_and_axis_change_numbers_and_name(curve_file, capsys):
    assert cli.run(["show", str(curve_file), "--units", "bits", "--axis", "t"]) == 0
    assert "1 bits" in capsys.readouterr().out
    assert curve_file.with_name("pair-t-bits.png").exists()
    assert not curve_file.with_name("pair.png").exists()


@pytest.mark.parametrize("suffix", saved_files.SUFFIXES)
def test_out_chooses_the_format(curve_file, tmp_path, suffix):
    target = tmp_path / "new" / f"x{suffix}"
    assert cli.run(["show", str(curve_file), "--out", str(target)]) == 0
    start = target.read_bytes()[:5]
    assert start == {".png": b"\x89PNG\r", ".pdf": b"%PDF-", ".svg": b"<?xml"}[suffix]


def test_sampled_curve_with_cross_entropy_shows_both(tmp_path):
    errors = np.full_like(CURVE.t, 0.01)
    curve = dataclasses.replace(
        CURVE, entropy_stderr=errors, cross_entropy=CURVE.entropy + 0.1, cross_entropy_stderr=errors
    )
    picture = curve_picture.draw(curve, saved_files.View())
    assert [line.get_label() for line in picture.axes[0].lines] == ["entropy", "cross-entropy"]
    assert dict(saved_files._curve_facts(curve, saved_files.View()))["largest standard error"] == "0.01 nats"


def test_curve_that_does_not_cover_its_window_says_so(tmp_path, capsys):
    entropy_curve(gmm.vp(), np.linspace(2.2, 2.6, 10), 100.0).save(tmp_path / "part.nc")
    assert cli.run(["show", str(tmp_path / "part.nc")]) == 0
    assert "not covered by the curve's noise range" in capsys.readouterr().out


def test_figure_data_are_drawn_again_without_computing(tmp_path, capsys, monkeypatch):
    job = Job(FIGURES["log-time-vp"], Settings(fast=True), tmp_path)
    job.save(job.figure.compute(job.settings))
    module = "paper_figures.figures.fig02_log_time_vp.compute"
    monkeypatch.setattr(module, lambda settings: pytest.fail("computed"))
    assert cli.run(["show", str(job.path(".nc")), "--axis", "sigma"]) == 0
    out = capsys.readouterr().out
    assert "log-time-vp" in out
    assert "(expected 0.5)" in out
    assert (tmp_path / "log-time-vp-fast-sigma.png").exists()


_FIGURE_OF_ANOTHER_VERSION = {
    "format": "speciation-figure/1", "figure": "old", "settings": "{}", "figure_version": "1", "fingerprint": "0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"nonsense"), "cannot read .*x.nc as NetCDF"),
        (
            lambda path: xr.Dataset({"a": 1}).to_netcdf(path, engine="h5netcdf"),
            "FILE must hold one of speciation-entropy-curve/1, .*; .* has format None",
        ),
        (
            lambda path: xr.Dataset(attrs={"format": "speciation-figure/1", "figure": "old"}).to_netcdf(
                path, engine="h5netcdf"
            ),
            "x.nc is marked speciation-figure/1 but lacks settings, figure_version, fingerprint",
        ),
        (
            lambda path: xr.Dataset(attrs=_FIGURE_OF_ANOTHER_VERSION).to_netcdf(path, engine="h5netcdf"),
            "FILE must hold a figure of this version, got 'old': four-points",
        ),
    ],
)
def test_files_that_are_not_ours_are_refused(tmp_path, make, message):
    make(tmp_path / "x.nc")
    with pytest.raises(ValueError, match=message):
        saved_files.show_file(tmp_path / "x.nc", saved_files.View())
    assert [path.name for path in tmp_path.iterdir()] == ["x.nc"]


def test_unknown_picture_format_is_refused_before_reading(tmp_path):
    with pytest.raises(ValueError, match=r"out must end in one of .png, .pdf, .svg, got .*x.jpg"):
        saved_files.show_file(tmp_path / "none.nc", saved_files.View(), tmp_path / "x.jpg")
