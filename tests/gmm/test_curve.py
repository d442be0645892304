"""EntropyCurve: units, axes, and the way to NetCDF and back, as `docs/reference/curves.md` describes."""

import re
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
import xarray as xr

import gmm
import theory
from gmm import EntropyCurve, ddpm, scaled_linear_betas, vp
from gmm.clock import times_at
from gmm.curve import AXES, FORMAT, load_dataset, versions

LOG2 = np.log(2)
ROUNDING = 1e-14  # one multiplication and one division in float64
T = np.array([2.0, 0.5, 1.0])  # as asked for, not sorted

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "curves.md"


def make_curve(**changes):
    log_snr = np.asarray(vp().log_snr(T))
    fields = {
        "t": T,
        "log_snr": log_snr,
        "entropy": [0.6, 0.1, 0.3],
        "entropy_stderr": [0.01, 0.02, 0.03],
        "rate": [0.2, 0.4, 0.5],
        "rate_stderr": [0.001, 0.002, 0.003],
        "prior_entropy": LOG2,
    }
    return EntropyCurve(**(fields | changes))


def full_curve(**changes):
    """Every field set."""
    fields = {
        "per_cell": np.arange(6.0).reshape(3, 2),
        "per_cell_stderr": np.full((3, 2), 0.1),
        "surprise_variance": [0.1, 0.2, 0.3],
        "clone_agreement": [0.5, 0.9, 0.7],
        "clone_agreement_stderr": [0.01, 0.01, 0.01],
        "cross_entropy": [0.7, 0.2, 0.4],
        "cross_entropy_stderr": [0.01, 0.02, 0.03],
        "log_snr_slope": [-2.1, -3.2, -2.3],
        "metadata": {"source": "test", "seed": 3, "sizes": [1, 2], "process": "vp()"},
    }
    return make_curve(**(fields | changes))


def assert_same(a, b):
    for name in a.__dataclass_fields__:
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, np.ndarray):
            np.testing.assert_array_equal(x, y, err_msg=name)
        else:
            assert x == y, name


# -------------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize(
    "curve", [make_curve(), full_curve(), full_curve().in_bits()], ids=["least", "full", "bits"]
)
def test_curves_survive_the_way_through_netcdf(curve, tmp_path):
    curve.save(tmp_path / "curve.nc")
    assert_same(EntropyCurve.load(tmp_path / "curve.nc"), curve)
    assert_same(EntropyCurve.from_dataset(curve.to_dataset()), curve)
    assert [path.name for path in tmp_path.iterdir()] == ["curve.nc"]


def test_saving_makes_folders_and_replaces_files(tmp_path):
    path = tmp_path / "new" / "deeper" / "curve.nc"
    make_curve().save(path)
    full_curve().save(str(path))
    assert_same(EntropyCurve.load(path), full_curve())


def test_facts_that_json_does_not_know_are_saved_all_the_same(tmp_path):
    facts = {
        "seed": np.int64(3),
        "share": np.float32(0.5),
        "key": np.arange(2),
        "path": Path("x"),
        "none": None,
    }
    make_curve(metadata=facts).save(tmp_path / "curve.nc")
    expected = {"seed": 3, "share": 0.5, "key": [0, 1], "path": "x", "none": None}
    assert EntropyCurve.load(tmp_path / "curve.nc").metadata == expected


def test_long_facts_fit_into_a_file(tmp_path):
    labels = list(range(30_000))  # an ordinary HDF5 attribute ends at 64 KiB
    make_curve(metadata={"labels": labels}).save(tmp_path / "curve.nc")
    assert EntropyCurve.load(tmp_path / "curve.nc").metadata == {"labels": labels}


def test_versions_name_what_a_number_depends_on():
    assert set(versions()) == {f"version_{n}" for n in ("speciation", "jax", "jaxlib", "numpy", "python")}


# -------------------------------------------------------------------------------------------------- units and axes


def test_bits_are_nats_over_log_two():
    nats, bits = full_curve(), full_curve().in_bits()
    assert bits.units == "bits"
    assert bits.prior_entropy == pytest.approx(1, rel=ROUNDING)
    for name in ("entropy", "entropy_stderr", "rate", "rate_stderr", "per_cell", "cross_entropy_stderr"):
        np.testing.assert_allclose(getattr(bits, name), getattr(nats, name) / LOG2, rtol=ROUNDING)
    np.testing.assert_allclose(bits.surprise_variance, nats.surprise_variance / LOG2**2, rtol=ROUNDING)
    for name in ("t", "log_snr", "clone_agreement", "log_snr_slope"):
        np.testing.assert_array_equal(getattr(bits, name), getattr(nats, name))
    again = bits.in_units("nats")
    np.testing.assert_allclose(again.surprise_variance, nats.surprise_variance, rtol=ROUNDING)
    assert bits.in_bits() is bits


def test_axes():
    curve = make_curve()
    np.testing.assert_array_equal(curve.axis(), T)
    np.testing.assert_array_equal(curve.axis("log-snr"), curve.log_snr)
    # VP: σ/α = sqrt(e^{2t} - 1).
    np.testing.assert_allclose(curve.axis("sigma"), np.sqrt(np.expm1(2 * T)), rtol=1e-13)
    assert set(AXES) == {"t", "log-snr", "sigma", "timestep"}


def test_timesteps_are_those_of_stable_diffusion_and_end_where_it_ends():
    chain = ddpm(scaled_linear_betas())
    t = np.array([0.0, 321.25, 999.0])
    log_snr = np.append(np.asarray(chain.log_snr(t)), [8.0, -6.0])
    curve = EntropyCurve(np.arange(5), log_snr, *np.zeros((4, 5)), prior_entropy=1.0)
    np.testing.assert_allclose(curve.axis("timestep"), [*t, np.nan, np.nan], rtol=1e-10, atol=1e-10)


def test_rate_per_log_noise_is_that_of_any_clock():
    """H = log(1+σ/α): its slope in log(σ/α) is s/(1+s), whichever process runs through it."""
    for process, t in (
        (vp(), np.array([0.3, 1.0, 2.5])),
        (ddpm(scaled_linear_betas()), np.array([10.5, 500.5])),
    ):
        log_snr, slope = np.asarray(process.log_snr(t)), np.array([float(_slope(process, x)) for x in t])
        s = np.exp(-log_snr / 2)
        rate = s / (1 + s) * (-slope / 2)
        curve = EntropyCurve(
            t, log_snr, np.log1p(s), 0 * t, rate, rate / 10, prior_entropy=9.0, log_snr_slope=slope
        )
        value, error = curve.rate_per_log_noise()
        np.testing.assert_allclose(value, s / (1 + s), rtol=1e-12)
        np.testing.assert_allclose(error, value / 10, rtol=1e-12)


def _slope(process, t, h=1e-6):
    return (process.log_snr(t + h) - process.log_snr(t - h)) / (2 * h)


def test_a_slope_that_is_not_given_comes_from_neighbours_in_time():
    t = np.array([3.0, 1.0, 2.0, 2.0])
    curve = EntropyCurve(t, -(t**2), *np.zeros((4, 4)), prior_entropy=1.0)
    # Central differences are exact for a parabola inside, one-sided at the ends.
    np.testing.assert_allclose(curve.log_snr_slope, [-5.0, -3.0, -4.0, -4.0], rtol=1e-14)
    alone = EntropyCurve([1.0], [0.0], *np.zeros((4, 1)), prior_entropy=1.0)
    assert np.isnan(alone.log_snr_slope).all()


def test_what_a_source_does_not_give_is_nan_empty_or_absent():
    curve = make_curve()
    assert np.isnan(curve.clone_agreement).all()
    assert np.isnan(curve.surprise_variance).all()
    assert curve.per_cell.shape == curve.per_cell_stderr.shape == (3, 0)
    assert curve.cross_entropy is None
    assert np.isnan(make_curve(per_cell=np.ones((3, 2))).per_cell_stderr).all()


def test_curves_do_not_change_when_their_sources_do():
    entropy = np.ones(3)
    curve = make_curve(entropy=entropy)
    entropy[0] = 7
    np.testing.assert_array_equal(curve.entropy, 1)
    with pytest.raises(AttributeError):
        curve.entropy = entropy


# ------------------------------------------------------------------------------------------------------- bad input

BAD = {
    "units": (lambda _: make_curve(units="hartleys"), "units must be one of nats, bits; got 'hartleys'"),
    "t": (lambda _: make_curve(t=1.0), r"t must have shape \(T,\), got \(\)"),
    "shape": (lambda _: make_curve(rate=np.ones(4)), r"rate must have shape \(3,\) like t, got \(4,\)"),
    "cells": (lambda _: make_curve(per_cell=np.ones(3)), r"per_cell must have shape \(T, C\), got \(3,\)"),
    "cell errors": (
        lambda _: make_curve(per_cell=np.ones((3, 2)), per_cell_stderr=np.ones((3, 4))),
        r"per_cell_stderr must have shape \(3, 2\) like t, got \(3, 4\)",
    ),
    "no noise": (lambda _: make_curve(log_snr=[0, np.inf, 1]), "log_snr must be finite; leave out times"),
    "axis": (
        lambda _: make_curve().axis("noise"),
        "axis must be one of t, log-snr, sigma, timestep; got 'noise'",
    ),
    "convert": (lambda _: make_curve().in_units("bit"), "units must be one of nats, bits; got 'bit'"),
    "missing": (lambda folder: EntropyCurve.load(folder / "no.nc"), "no such file: .*no.nc"),
    "folder": (lambda folder: EntropyCurve.load(folder), "cannot read .*: it is a folder"),
    "save to folder": (
        lambda folder: make_curve().save(folder),
        "cannot write .*: it is a folder; name a file",
    ),
    "format": (
        lambda _: EntropyCurve.from_dataset(xr.Dataset()),
        r"dataset must be an entropy curve \(speciation-entropy-curve/1\), got format None",
    ),
    "newer": (
        lambda _: EntropyCurve.from_dataset(make_curve().to_dataset().assign_attrs(format=FORMAT[:-1] + "2")),
        "got format 'speciation-entropy-curve/2'",
    ),
    "lacks": (
        lambda _: EntropyCurve.from_dataset(make_curve().to_dataset().drop_vars(["rate", "prior_entropy"])),
        "entropy curve lacks rate, prior_entropy",
    ),
    "no facts": (
        lambda _: EntropyCurve.from_dataset(xr.Dataset(attrs={"format": FORMAT, "units": "nats"})),
        "entropy curve lacks the attribute metadata",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_curves_are_refused_by_name(case, tmp_path):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_that_declare_more_than_memory_are_refused_unread(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        # Eight exabytes that take no room in the file.
        file.create_dataset("x", (2**30, 2**30), "f8", chunks=(2**10, 2**10))
    assert (tmp_path / "a.nc").stat().st_size < 2**20
    with pytest.raises(
        ValueError, match=r"a.nc as NetCDF: its values would take 8796093022208 MiB, above the 256 MiB"
    ):
        load_dataset(tmp_path / "a.nc")


def test_damaged_files_are_refused_by_name(tmp_path):
    path = tmp_path / "curve.nc"
    make_curve().save(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"cannot read .*curve\.nc as NetCDF"):
        EntropyCurve.load(path)


# ---------------------------------------------------------------------------------------------------- the document


def tables():
    """Rows of the document's tables by heading: name -> further columns, backticks removed."""
    found = {}
    for section in re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE)[1:]:
        heading = section.splitlines()[0]
        cells = [
            re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("| `")
        ]
        found[heading] = {row[0].strip(" `"): [c.replace("`", "").strip() for c in row[1:]] for row in cells}
    return found


@pytest.mark.parametrize("units", ["nats", "bits"])
def test_the_document_names_just_what_is_written(units, tmp_path):
    full_curve().in_units(units).save(tmp_path / "curve.nc")
    with xr.open_dataset(tmp_path / "curve.nc", engine="h5netcdf") as dataset:
        document = tables()
        assert set(document["Dimensions"]) == set(dataset.dims)
        assert set(document["Attributes"]) == set(dataset.attrs)
        for heading, written in (("Coordinates", dataset.coords), ("Variables", dataset.data_vars)):
            assert set(document[heading]) == set(written)
            for name, (dims, unit, _) in document[heading].items():
                assert tuple(d.strip() for d in dims.split(",") if d) == written[name].dims, name
                assert written[name].attrs.get("units", "") == unit.replace("nats", units), name
                assert written[name].attrs["long_name"]
                assert written[name].dtype == np.float64
        assert dataset.attrs["format"] in document["Attributes"]["format"][0]


def test_the_example_in_the_document_runs(tmp_path, monkeypatch, capsys):
    full_curve().save(tmp_path / "curve.nc")
    monkeypatch.chdir(tmp_path)
    example = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL).group(1)
    scope = {}
    exec(example, scope)
    scope["curve"].close()
    assert scope["decided"].sizes["point"] == 2
    assert "nats" in capsys.readouterr().out


def test_a_data_frame_has_one_row_for_each_time_and_all_fields():
    made = gmm.class_entropy(
        gmm.families.pair(2), gmm.vp(), [0.5, 1.0, 2.0], key=jax.random.key(0), samples=32
    )
    frame = made.to_dataframe()
    assert len(frame) == 3
    for name in ("t", "log_snr", "sigma", "entropy", "entropy_stderr", "rate", "clone_agreement"):
        np.testing.assert_array_equal(frame[name], getattr(made, name))
    np.testing.assert_array_equal(frame[["per_cell_0", "per_cell_1"]], made.per_cell)
    assert "cross_entropy" not in frame


def test_datasets_of_curves_without_cells_have_no_empty_dimension(tmp_path):
    made = theory.entropy_curve(gmm.vp(), np.linspace(1, 5, 7), energy=100.0, classes=10)
    dataset = made.to_dataset()
    assert set(dataset.dims) == {"point"}
    assert len(dataset.to_dataframe()) == 7
    made.save(tmp_path / "new.nc")
    # Earlier versions wrote the fields of the cells with length zero.
    older = dataset.assign(
        {name: (("point", "cell"), np.empty((7, 0))) for name in ("per_cell", "per_cell_stderr")}
    )
    older.to_netcdf(tmp_path / "old.nc", engine="h5netcdf")
    for name in ("new.nc", "old.nc"):
        loaded = EntropyCurve.load(tmp_path / name)
        assert loaded.per_cell.shape == loaded.per_cell_stderr.shape == (7, 0)
        np.testing.assert_array_equal(loaded.entropy, made.entropy)


def test_the_repr_has_three_lines_and_names_the_route():
    sampled = gmm.class_entropy(gmm.families.pair(2), gmm.vp(), [0.5], key=jax.random.key(0), samples=32)
    exact = theory.entropy_curve(gmm.edm(), [0.5, 80.0], 4.0, classes=3)
    for made, words in (
        (sampled, ("1 points", "sampled", "vp")),
        (exact, ("80", "simplex", "1.099 nats", "edm")),
    ):
        lines = repr(made).splitlines()
        assert len(lines) == 3
        assert all(word in repr(made) for word in words)


@pytest.mark.parametrize("axis", ["t", "log-snr", "sigma", "timestep"])
def test_the_plot_shows_the_entropies_on_their_axis(axis):
    from matplotlib.figure import Figure

    made = theory.entropy_curve(gmm.edm(), [10.0, 0.5, 2.0], 4.0)
    ax = made.plot(Figure().add_subplot(), axis=axis, units="bits")
    at, entropy = ax.lines[0].get_data()
    order = np.argsort(made.axis(axis))
    np.testing.assert_array_equal(at, made.axis(axis)[order])
    np.testing.assert_allclose(entropy, made.in_bits().entropy[order])
    assert "bits" in ax.get_ylabel()
    with pytest.raises(ValueError, match="units must be one of"):
        made.plot(Figure().add_subplot(), units="hartleys")


def test_points_of_a_curve_and_its_own_times():
    made = theory.entropy_curve(gmm.flow(), np.linspace(0.1, 0.9, 60), 100.0)
    some = made.take(slice(10, 20))
    np.testing.assert_array_equal(some.entropy, made.entropy[10:20])
    assert some.per_cell.shape == (10, 0)
    noise = np.log(made.sigma[15:45]) + 0.01
    # The cubic between points 1/75 apart in t.
    np.testing.assert_allclose(made.times_at(noise), 1 / (1 + np.exp(-noise)), rtol=1e-6)
    assert np.isnan(made.times_at(np.log(made.sigma.max()) + 1))


@pytest.mark.parametrize("process", [gmm.vp(), gmm.vp_linear(), gmm.edm(), gmm.flow()], ids=lambda p: p.name)
def test_places_between_points_follow_the_process(process):
    """Against the process's own clock, which the curve does not hold."""
    noise = np.linspace(-3, 2, 60)
    between = noise[:-1] + 0.31 * np.diff(noise)
    curve = theory.entropy_curve(process, times_at(process, noise), 4.0)
    np.testing.assert_allclose(curve.positions_at(between, "t"), times_at(process, between), rtol=1e-5)
    np.testing.assert_allclose(curve.noise_at(times_at(process, between)), between, atol=1e-5)
    np.testing.assert_allclose(curve.positions_at(between, "sigma"), np.exp(between), rtol=1e-12)
    np.testing.assert_allclose(curve.positions_at(between, "log-snr"), -2 * between, rtol=1e-12)
    assert np.isnan(curve.positions_at([-3.1, 2.1])).all()
    assert np.isnan(curve.noise_at(times_at(process, np.array([-3.1, 2.1])))).all()


def test_one_point_has_one_place():
    curve = theory.entropy_curve(gmm.edm(), [2.0], 4.0)
    np.testing.assert_array_equal(curve.positions_at([np.log(2.0), 3.0]), [2.0, np.nan])
    np.testing.assert_allclose(curve.noise_at([2.0, 3.0]), [np.log(2.0), np.nan])


def test_facts_that_are_no_text_leave_a_file_that_can_be_read(tmp_path):
    facts = {"model": "a\ud800b", "\udcff": ["σ é", "\0\n\x7f"], "n": 10**400}
    curve = make_curve(metadata=facts)
    curve.save(tmp_path / "a.nc")
    expected = {"model": "a?b", "?": ["σ é", "\0\n\x7f"], "n": 10**400}
    assert EntropyCurve.load(tmp_path / "a.nc").metadata == expected
