"""Sweeps: cells against other routes, files against interruption."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import xarray as xr

import gmm
import paper_figures
from gmm.clock import times_at
from paper_figures import cli
from paper_figures.studies import sweep_cell, sweep_laws
from paper_figures.studies.sweep_axes import Cell, SweepSettings
from paper_figures.studies.sweep_cell import compute, exact_curve
from theory import CRITERIA, peak, speciation_time
from theory.landmarks import fastest_of, half_entropy_of

# Sampled values of fixed seeds within this many standard errors: 6e-7 a comparison by chance.
FIVE_SIGMA = 5.0
# Two exact routes to a time: each solves to 1e-9 or better, relative.
SOLVED = 1e-6

SMALL = {"points": 40, "samples": 2048}
TREE = Cell("vp", 10, 1000, branching=(2, 5))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------------------------------------- cells


def test_dataset_is_labelled_as_promised():
    found = paper_figures.sweep(process=["vp", "edm"], dims=[100, 10**9], points=40)
    assert found.t_peak.dims == ("process", "classes", "dim")
    assert found.entropy.dims == ("process", "classes", "dim", "point")
    assert found.process.values.tolist() == ["vp", "edm"]
    assert found.dim.values.tolist() == [100, 10**9]
    assert set(found.status.values.ravel()) == {"ok"}
    assert set(found.method.values.ravel()) == {"quadrature"}
    varied = paper_figures.sweep(dims=[100], variance=[0.5, 1.0], points=40)
    assert varied.t_peak.dims == ("process", "classes", "dim", "variance")


@pytest.mark.parametrize("family", ["simplex", "orthogonal"])
@pytest.mark.parametrize("process", ["vp", "edm", "flow"])
def test_generic_roots_are_those_of_the_closed_form(process, family):
    """Unequal priors that are equal go through the interpolant: the closed form's own roots are the oracle."""
    equal = Cell(process, 4, 1000)
    clock = gmm.process.PROCESSES[process]()
    settings = SweepSettings(family, points=100)
    exact = exact_curve(equal, family, clock)
    noise = sweep_cell.noise_grid(equal, clock, settings)
    energy = sweep_cell.energy(equal, family)
    for place, criterion in ((fastest_of, "entropy-rate"), (half_entropy_of, "half-entropy")):
        found = times_at(clock, np.array(place(exact, clock, noise)))
        wanted = speciation_time(clock, energy, classes=4, family=family, criterion=criterion)
        assert found == pytest.approx(float(wanted), rel=SOLVED)
    stated = dataclasses.replace(equal, prior="0.25")
    again = compute(stated, settings)
    assert float(again.arrays["t_peak"]) == pytest.approx(
        float(speciation_time(clock, energy, classes=4, family=family)), rel=SOLVED
    )


@pytest.mark.parametrize(
    ("family", "cell"),
    [
        ("simplex", Cell("vp", 3, 1000)),
        ("orthogonal", Cell("edm", 3, 1000)),
        ("simplex", Cell("vp", 3, 1000, prior="0.8")),
        ("tree", TREE),
        ("pair", Cell("ve", 2, 300, prior="0.1", variance=0.5)),
    ],
)
def test_sampling_agrees_with_quadrature(family, cell):
    settings = SweepSettings(family, **SMALL)
    exact = compute(cell, settings)
    sampled = compute(cell, dataclasses.replace(settings, method="reduced"))
    assert (exact.method, sampled.method) == ("quadrature", "reduced")
    for field in ("entropy", "rate"):
        error = np.maximum(sampled.arrays[f"{field}_stderr"], 1e-12)
        assert (np.abs(sampled.arrays[field] - exact.arrays[field]) < FIVE_SIGMA * error + 1e-9).all()
    for field in ("t_peak", "t_half"):
        error = float(sampled.arrays[f"{field}_stderr"])
        assert abs(float(sampled.arrays[field] - exact.arrays[field])) < FIVE_SIGMA * error
        assert error < 0.1 * float(exact.arrays[field])
    assert float(sampled.arrays["t_instability"]) == pytest.approx(float(exact.arrays["t_instability"]))


@pytest.mark.parametrize(
    ("classes", "route"), [(2, {"pair"}), (3, {"cluster", "orthogonal"}), (4, {"cluster"})]
)
def test_random_means_of_few_classes_are_exact(classes, route):
    """|z| < 5 at 16 noise levels, of samples of the same classes."""
    cell, settings = Cell("vp", classes, 30), SweepSettings("random", points=16)
    exact = compute(cell, settings)
    assert exact.method in route
    assert (exact.arrays["entropy_stderr"] == 0).all()
    mixture = sweep_cell.mixture(cell, settings, full=False)
    options = {"key": jax.random.key(0), "samples": 4096}
    sampled = gmm.class_entropy(mixture, gmm.vp(), exact.arrays["t"], **options)
    gap = np.abs(sampled.entropy - exact.arrays["entropy"])
    assert (gap < FIVE_SIGMA * sampled.entropy_stderr + 1e-9).all()
    assert np.isfinite([exact.arrays["t_peak"], exact.arrays["t_half"]]).all()
    errors = np.array([exact.arrays["t_peak_stderr"], exact.arrays["t_half_stderr"]])
    # The cluster expansion is computed to a tolerance, the others to rounding.
    assert ((errors > 0) & (errors < 1e-3)).all() if exact.method == "cluster" else (errors == 0).all()


def test_random_means_follow_from_the_seed_and_the_cell_alone():
    """One problem for every method, clock, number of points and precision; another one for another seed or cell."""

    def distances(cell, full=False, **options):
        options = {"points": 16} | options
        with jax.enable_x64(True):
            means = np.asarray(sweep_cell.mixture(cell, SweepSettings("random", **options), full=full).means)
        return np.linalg.norm(means[:, None] - means, axis=-1)

    cell = Cell("vp", 3, 30)
    plain = distances(cell)
    for same in (
        distances(cell, method="reduced"),
        distances(cell, method="full", full=True),
        distances(cell, samples=64, dtype="float32"),
        distances(cell, points=20),
        distances(dataclasses.replace(cell, process="edm")),
    ):
        np.testing.assert_allclose(same, plain, rtol=1e-10)
    for other in (distances(cell, seed=1), distances(dataclasses.replace(cell, variance=2.0))):
        assert np.abs(other - plain).max() > 1e-3 * plain.max()


@pytest.mark.parametrize("method", ["reduced", "full"])
def test_sampled_random_means_are_those_of_the_exact_route(method):
    """|z| < 5 at 16 noise levels."""
    cell, settings = Cell("vp", 3, 30), SweepSettings("random", points=16, samples=1024)
    exact = compute(cell, settings)
    sampled = compute(cell, dataclasses.replace(settings, method=method))
    gap = np.abs(sampled.arrays["entropy"] - exact.arrays["entropy"])
    assert (gap < FIVE_SIGMA * sampled.arrays["entropy_stderr"] + 1e-9).all()
    assert float(sampled.arrays["t_instability"]) == pytest.approx(float(exact.arrays["t_instability"]))


def test_full_sampling_agrees_with_quadrature():
    cell, settings = Cell("vp", 3, 200), SweepSettings(points=16, samples=1024)
    exact = compute(cell, settings)
    full = compute(cell, dataclasses.replace(settings, method="full"))
    assert full.method == "full"
    gap = np.abs(full.arrays["entropy"] - exact.arrays["entropy"])
    assert (gap < FIVE_SIGMA * full.arrays["entropy_stderr"] + 1e-9).all()


@pytest.mark.parametrize(
    ("family", "cell"),
    [("simplex", Cell("vp", 5, 50)), ("orthogonal", Cell("vp", 5, 50)), ("tree", TREE)],
)
def test_largest_between_class_eigenvalue_is_that_of_the_means(family, cell):
    settings = SweepSettings(family)
    low = sweep_cell.mixture(cell, settings, full=False)
    means = np.asarray(low.means) - np.asarray(low.means).mean(0, keepdims=True)
    wanted = np.linalg.eigvalsh(means.T @ means / cell.classes)[-1]
    assert sweep_cell.between(cell, settings) == pytest.approx(wanted)


def test_cells_that_cannot_exist_say_why():
    found = paper_figures.sweep(dims=[10, 1000], classes=[2, 100], points=40)
    assert (
        found.status.sel(classes=100, dim=10).item()
        == "a simplex of 100 classes needs more than 10 dimensions"
    )
    assert np.isnan(found.t_peak.sel(classes=100, dim=10).item())
    assert np.isfinite(found.t_peak.sel(classes=100, dim=1000).item())
    late = paper_figures.sweep(process=["vp_linear"], dims=[10**10], points=40)
    assert late.status.item() == "vp_linear ends before anything is decided"
    random = paper_figures.sweep(family="random", method="quadrature", dims=[100], points=40)
    assert random.status.item() == "no quadrature for a random family with prior uniform"


def test_numbers_do_not_depend_on_the_grid_around_them():
    whole = paper_figures.sweep(family="random", dims=[100, 1000], classes=[3, 5], points=16, samples=512)
    alone = paper_figures.sweep(family="random", dims=[1000], classes=[5], points=16, samples=512)
    np.testing.assert_array_equal(
        whole.entropy.sel(classes=5, dim=1000), alone.entropy.sel(classes=5, dim=1000)
    )


def test_axes_are_one_value_or_several_of_any_kind():
    one = paper_figures.sweep(process="vp", classes=np.int64(3), dims=1e3, prior=0.5, points=40)
    same = paper_figures.sweep(process=["vp"], classes=[3, 3], dims=np.array([1000]), prior="0.5", points=40)
    xr.testing.assert_identical(one, same)
    assert one.dim.values.tolist() == [1000]
    for axis, values, message in (
        ("dims", 10.5, "dims must list whole numbers from 1 to 9.2e+18, got 10.5"),
        ("dims", np.inf, "dims must list whole numbers from 1 to 9.2e+18, got inf"),
        ("classes", 2.5, "classes must list whole numbers from 2 to 9.2e+18, got 2.5"),
        ("dims", [], "dims must list at least one value"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            paper_figures.sweep(**({"dims": 10} | {axis: values}))


def test_slope_of_the_law():
    found = paper_figures.sweep(process=["vp", "edm"], dims=[10**k for k in range(3, 9)], points=40)
    for law in sweep_laws.laws(found):
        assert law.value == pytest.approx(0.5, abs=2e-3)
        assert law.expected == 0.5


def test_bootstrap_error_is_the_scatter_of_slopes():
    rng = np.random.default_rng(1)
    x = np.linspace(0, 10, 40)
    slopes, errors = zip(*(sweep_laws.slope(x, 2 * x + rng.normal(size=40)) for _ in range(20)), strict=True)
    # The standard deviation of 20 slopes is known to 16%; five times that.
    assert np.mean(errors) == pytest.approx(np.std(slopes, ddof=1), rel=0.8)
    few = sweep_laws.slope(x[:3], 2 * x[:3])
    assert few[0] == pytest.approx(2)
    assert np.isnan(few[1])
    assert np.isnan(sweep_laws.slope(x[:1], x[:1])).all()


# ---------------------------------------------------------------------------------------------- files


def test_a_stopped_sweep_goes_on_with_the_same_numbers(tmp_path, monkeypatch):
    asked = {"family": "random", "dims": [100, 1000, 10000], "classes": [3], "points": 16, "samples": 256}
    whole = paper_figures.sweep(**asked)
    count, original = [], compute

    def stops_after_two(*arguments):
        count.append(None)
        if len(count) > 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(sweep_cell, "compute", stops_after_two)
    with pytest.raises(KeyboardInterrupt):
        paper_figures.sweep(**asked, out=tmp_path / "a.nc")
    assert names(tmp_path) == ["a.nc.parts"]
    count[:] = [None]  # two more calls would stop it again
    found = paper_figures.sweep(**asked, out=tmp_path / "a.nc")
    assert len(count) == 2
    xr.testing.assert_identical(found.drop_attrs(), whole.drop_attrs())
    assert names(tmp_path) == ["a.nc"]
    monkeypatch.setattr(sweep_cell, "compute", lambda *_: pytest.fail("computed again"))
    xr.testing.assert_equal(paper_figures.sweep(**asked, out=tmp_path / "a.nc"), whole)


def test_a_damaged_part_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.setattr("paper_figures.studies.sweep.save_dataset", lambda *_: None)
    monkeypatch.setattr("paper_figures.studies.parts.Parts.remove", lambda *_: None)
    asked = {"dims": [100], "points": 40, "out": tmp_path / "a.nc"}
    whole = paper_figures.sweep(**asked)
    part = next((tmp_path / "a.nc.parts").glob("*.part"))
    for damage in (b"", b"PK", part.read_bytes()[:-200], b"\x80\x04."):
        part.write_bytes(damage)
        with pytest.warns(UserWarning, match="damaged or of another version; it is computed again"):
            xr.testing.assert_equal(paper_figures.sweep(**asked), whole)


def test_other_settings_are_refused(tmp_path):
    paper_figures.sweep(dims=[100], points=40, out=tmp_path / "a.nc")
    with pytest.raises(ValueError, match="holds a sweep of other settings"):
        paper_figures.sweep(dims=[100], points=41, out=tmp_path / "a.nc")
    with pytest.raises(ValueError, match="holds a sweep of other grid"):
        paper_figures.sweep(dims=[101], points=40, out=tmp_path / "a.nc")
    parts = tmp_path / "b.nc.parts"
    parts.mkdir()
    (parts / "settings.json").write_text(json.dumps({"settings": "others"}))
    with pytest.raises(ValueError, match="holds a sweep of other settings"):
        paper_figures.sweep(dims=[100], points=40, out=tmp_path / "b.nc")
    (parts / "settings.json").write_text("[")
    with pytest.raises(ValueError, match="is no folder of a sweep"):
        paper_figures.sweep(dims=[100], points=40, out=tmp_path / "b.nc")
    (tmp_path / "c.nc").write_bytes(b"foreign")
    with pytest.raises(ValueError, match="cannot read"):
        paper_figures.sweep(dims=[100], points=40, out=tmp_path / "c.nc")


def test_files_that_only_say_they_are_sweeps(tmp_path, capsys):
    part = xr.Dataset({"t_peak": (("process",), [1.0])}, {"process": ["vp"]})
    for kind in (
        "speciation-sweep/1",
        "speciation-data/1",
        "speciation-figure/1",
        "speciation-entropy-curve/1",
    ):
        part.assign_attrs(format=kind).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
        assert cli.run(["show", str(tmp_path / "a.nc")]) == 2
        error = capsys.readouterr().err
        assert "lacks" in error
        assert error.count("\n") == 1
    assert names(tmp_path) == ["a.nc"]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_numbers(tmp_path):
    out = tmp_path / "a.nc"
    grid = ["--family", "random", "--dims", "1e2,1e3,1e4,1e5", "--classes", "3,5"]
    words = ["sweep", *grid, "--points", "16", "--samples", "2048", "--out"]
    line = "import sys; from paper_figures import cli; sys.exit(cli.run(sys.argv[1:]))"
    rng = np.random.default_rng(0)
    for wait in rng.uniform(3, 12, 4):
        with subprocess.Popen(
            [sys.executable, "-c", line, *words, str(out)], stdout=subprocess.DEVNULL
        ) as run:
            time.sleep(wait)
            run.send_signal(signal.SIGKILL)
    subprocess.run([sys.executable, "-c", line, *words, str(out)], check=True, timeout=300)
    whole = paper_figures.sweep(
        family="random", dims=[100, 1000, 10**4, 10**5], classes=[3, 5], points=16, samples=2048
    )
    xr.testing.assert_allclose(gmm.curve.load_dataset(out), whole, rtol=1e-9)
    assert names(tmp_path) == ["a.nc"]


def test_command_writes_draws_and_shows(tmp_path, capsys):
    out = tmp_path / "a.nc"
    line = f"sweep --process vp flow --dims 1e2,1e3 1e4,1e5 --classes 2 5 --points 40 --out {out} --plot"
    assert cli.run(line.split()) == 0
    assert names(tmp_path) == ["a.nc", "a.pdf", "a.png"]
    printed = capsys.readouterr().out
    assert "slope of t_peak" in printed
    assert cli.run(["show", str(out), "--units", "bits"]) == 0
    assert cli.run(["sweep", "--dims", "10,1000", "--classes", "100", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "nothing was computed" in printed


def test_known_numbers():
    found = paper_figures.sweep(dims=[10**8], points=40)
    assert found.t_peak.item() == pytest.approx(peak(gmm.vp(), 1e8).t, rel=SOLVED)
    assert found.t_peak.item() - 0.5 * np.log(1e8) == pytest.approx(-0.2055, abs=1e-4)
    assert "sde-instability" in CRITERIA
