"""``speciation show``."""

import dataclasses
import json
import re

import numpy as np
import pandas
import pytest
import xarray as xr

import gmm
from gmm.netcdf import save_dataset
from paper_figures import cli
from paper_figures.commands import saved_files
from paper_figures.drawing import curve as curve_picture
from paper_figures.figures.job import Job
from paper_figures.figures.registry import FIGURES
from paper_figures.figures.settings import Settings
from paper_figures.studies import comparison, sweep_laws
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
    with pytest.raises(ValueError, match=r"out must end in one of .png, .pdf, .svg, .csv, got .*x.jpg"):
        saved_files.show_file(tmp_path / "none.nc", saved_files.View(), tmp_path / "x.jpg")


def test_curve_becomes_a_table(curve_file, tmp_path, capsys):
    assert cli.run(["show", str(curve_file), "--out", str(tmp_path / "x.csv"), "--units", "bits"]) == 0
    assert f"table: {tmp_path / 'x.csv'}" in capsys.readouterr().out
    found = pandas.read_csv(tmp_path / "x.csv")
    np.testing.assert_allclose(found.t, CURVE.t)
    np.testing.assert_allclose(found.entropy, CURVE.entropy / np.log(2))
    assert {"log_snr", "sigma", "rate", "rate_stderr"} <= set(found)
    assert not curve_file.with_suffix(".png").exists()


@pytest.fixture
def sweep_file(tmp_path):
    import paper_figures

    path = tmp_path / "s.nc"
    paper_figures.sweep(process=["vp", "edm"], dims=[100, 10_000], classes=[2, 10], points=40, out=path)
    return path


def test_sweep_prints_its_times_and_a_slope_of_two_points(sweep_file, tmp_path, capsys):
    assert cli.run(["show", str(sweep_file), "--out", str(tmp_path / "x.csv")]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "when each cell decides" in out
    assert "± ? (expected 0.5)" in out
    found, dataset = pandas.read_csv(tmp_path / "x.csv"), xr.load_dataset(sweep_file, engine="h5netcdf")
    assert len(found) == 8
    for row in found.itertuples():
        at = dataset.sel(process=row.process, classes=row.classes, dim=row.dim)
        assert row.t_peak == pytest.approx(float(at.t_peak))
        assert row.t_half == pytest.approx(float(at.t_half))
        assert f"{row.t_peak:.6g}" in out
    (vp, *_) = sweep_laws.laws(dataset)
    two = dataset.t_peak.sel(process="vp", classes=2).values
    assert vp.value == pytest.approx((two[1] - two[0]) / np.log(100))
    assert np.isnan(vp.stderr)
    assert vp.short == f"{vp.value:.4f}(?)"


def test_numbers_of_a_figure_become_a_table(tmp_path):
    job = Job(FIGURES["log-time-vp"], Settings(fast=True), tmp_path)
    job.save(job.figure.compute(job.settings))
    saved_files.show_file(job.path(".nc"), saved_files.View(), tmp_path / "x.csv")
    found = pandas.read_csv(tmp_path / "x.csv")
    assert list(found) == ["label", "value", "stderr", "expected"]
    assert found.label.str.contains("largest dH/dt").any()


def test_window_and_schedules_are_shown(tmp_path, capsys):
    curve = entropy_curve(gmm.edm(), np.geomspace(80, 0.02, 60), 100.0)
    found = gmm.MeasuredWindow.from_curve(curve, samplers={"mine": [40.0, 10.0, 0.4]}, model="m")
    gmm.save_window(tmp_path / "window.json", found)
    assert cli.run(["show", str(tmp_path / "window.json")]) == 0
    out = capsys.readouterr().out
    assert f"σ/α = {str(found.median.sigma)[:5]}" in out
    assert "of 3 mine steps (0 the noisiest): 1 to 1" in out
    assert "decided: " in out
    # Beside the picture that `speciation window` drew from the curve, not over it.
    assert (tmp_path / "window-json.png").exists()
    assert not (tmp_path / "window.png").exists()
    assert cli.run(["show", str(tmp_path / "window.json"), "--out", str(tmp_path / "w.csv")]) == 0
    np.testing.assert_allclose(pandas.read_csv(tmp_path / "w.csv").sigma, found.sigma)

    every = {"flat": gmm.cfg(2.0), "inside": gmm.limited_interval(3.0, 0.5, 2.0), "state": gmm.feedback()}
    gmm.save_guidance(tmp_path / "guidance.json", every)
    assert cli.run(["show", str(tmp_path / "guidance.json"), "--axis", "log-snr"]) == 0
    assert "inside" in capsys.readouterr().out
    assert (tmp_path / "guidance-log-snr-json.png").exists()
    table = saved_files._SCHEDULES.table(every, saved_files.View())
    assert set(table[table.schedule == "flat"].weight) == {2.0}
    assert table[(table.schedule == "inside") & (table.sigma > 0.51) & (table.sigma < 1.9)].weight.eq(3).all()
    assert table[table.schedule == "state"].weight.isna().all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "(?s).*"),
        ('{"format": "x"}', "FILE must hold speciation-window/1 or speciation-guidance/1 where it is JSON"),
        ('{"format": "speciation-window/1"}', "cannot read .*x.json as a window"),
    ],
)
def test_json_that_is_not_ours_is_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        saved_files.show_file(tmp_path / "x.json", saved_files.View())
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def page_data(path):
    """What a page holds for its script."""
    (text,) = re.findall(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(text)


def test_a_sweep_has_a_page_with_every_cell_and_its_times(sweep_file, tmp_path):
    page = tmp_path / "new" / "sweep.html"
    assert cli.run(["show", str(sweep_file), "--html", str(page)]) == 0
    data, dataset = page_data(page), xr.load_dataset(sweep_file, engine="h5netcdf")
    assert len(data["curves"]) == int((dataset.status == "ok").sum())
    assert data["curves"][0]["prior"] == pytest.approx(np.log(dataset.classes.values[0]), rel=1e-5)
    times = next(series for series in data["series"] if series["name"] == "t peak")
    assert sum(len(line["y"]) for line in times["lines"]) == np.isfinite(dataset.t_peak.values).sum()


def test_a_comparison_has_a_page_with_every_source(tmp_path):
    lines = {
        name: [comparison.saved_line(curve)]
        for name, curve in (("one", CURVE), ("two", CURVE.take(slice(9))))
    }
    made = comparison.dataset_of(lines, ["classes"], "one", asks={})
    save_dataset(tmp_path / "compare.nc", made)
    assert cli.run(["show", str(tmp_path / "compare.nc"), "--html", str(tmp_path / "page.html")]) == 0
    data = page_data(tmp_path / "page.html")
    assert [(line["name"], len(line["h"])) for line in data["curves"]] == [("one", 60), ("two", 9)]
    assert any("one: σ/α at half" in label for label, _ in data["facts"])
    place = next(series for series in data["series"] if series["name"] == "place")
    assert place["ticks"] == list(made.landmark.values)
