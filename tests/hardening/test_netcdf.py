"""NetCDF files of strangers: nothing outside the file is read, and nothing takes more than its size allows."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr

import gmm
from gmm.netcdf import load_dataset
from gmm.window_file import load_window
from paper_figures.shipped import measure
from tests.hardening import hdf5


@pytest.fixture(scope="module")
def curve(tmp_path_factory):
    path = tmp_path_factory.mktemp("curve") / "curve.nc"
    times = np.linspace(0.5, 5, 16)
    gmm.EntropyCurve(
        t=times, log_snr=-times, entropy=np.tanh(times), entropy_stderr=0 * times, rate=times, rate_stderr=times,
        prior_entropy=1.0, per_cell=np.ones((16, 2)), per_cell_stderr=np.ones((16, 2)), metadata={"seed": 1},
    ).save(path)  # fmt: skip
    return path


@pytest.fixture
def folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "secret").write_bytes(np.full(64, 42.0).tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["entropy"] = np.full(16, 42.0)
    return tmp_path


@pytest.mark.parametrize("change", hdf5.REFUSED, ids=lambda change: change.__name__)
def test_what_reaches_beyond_numbers_and_texts_is_refused(change, curve, folder, held):
    path = hdf5.make(change, curve, folder)
    with pytest.raises(ValueError, match=f"^cannot read {path} as NetCDF: ") as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)
    held("NetCDF that reaches out")


@pytest.mark.filterwarnings("ignore:.*has changed since it was written")
@pytest.mark.parametrize("change", hdf5.READ, ids=lambda change: change.__name__)
def test_what_is_left_out_does_no_harm(change, curve, folder, held):
    assert gmm.EntropyCurve.load(hdf5.make(change, curve, folder)).metadata == {"seed": 1}
    held("NetCDF that reaches out")


@pytest.mark.parametrize("attribute", [False, True])
def test_texts_that_multiply_are_refused(attribute, curve, tmp_path, held):
    path = hdf5.texts_that_multiply(curve, tmp_path / "a.nc", 1 << 18, 20_000, attribute=attribute)
    with pytest.raises(ValueError, match=r"texts take more than 64 MiB|more memory than its size|damaged"):
        load_dataset(path)
    held("NetCDF that multiplies")


@pytest.mark.parametrize("name", ["pipe", "."])
def test_what_is_no_regular_file_is_refused(name, folder, held):
    for read in (load_dataset, gmm.EntropyCurve.load, load_window, gmm.load_guidance):
        with pytest.raises(ValueError, match="a folder, a pipe or a device"):
            read(folder / name)
        with pytest.raises(ValueError, match="no such file"):
            read(folder / "missing")
    held("pipes and folders", 4)


def test_the_reader_is_small_and_confined(curve, monkeypatch):
    # A reader that never ends and one that takes all memory, in place of the real one.
    monkeypatch.setattr(gmm.netcdf, "PATIENCE", 1)
    for program in ("while True: pass", "import os; os.kill(os.getpid(), 11)", "print('{')", "print('[1]')"):
        script = curve.with_name("reader.py")
        script.write_text(program)
        monkeypatch.setattr(gmm.netcdf, "_READER", script)
        with pytest.raises(ValueError, match=r"cannot read .* as NetCDF"):
            load_dataset(curve)


def test_the_reader_limits_itself():
    code = (
        "import resource, sys; sys.argv = ['', '']\n"
        "from gmm import netcdf_reader as r\n"
        "r._confine(3, 1 << 30)\n"
        "print([resource.getrlimit(x)[1] for x in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE)])\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"[3, {1 << 30}, 0]"


def test_neither_jax_nor_the_project_is_imported_by_the_reader():
    program = gmm.netcdf._READER.read_text()
    code = f"import sys; sys.argv = ['x']; exec({program!r}.partition('if __name__')[0]); import h5netcdf\n"
    code += "print(sorted({'jax', 'gmm', 'xarray'} & sys.modules.keys()))"
    out = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("path", sorted(measure.FOLDER.glob("*.nc")), ids=lambda path: path.stem)
def test_what_is_read_is_what_xarray_reads(path):
    with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as expected:
        found = load_dataset(path)
        xr.testing.assert_identical(found, expected)
        assert {n: v.dtype for n, v in found.variables.items()} == {
            n: v.dtype for n, v in expected.variables.items()
        }


def test_every_kind_of_variable_comes_back(tmp_path):
    written = xr.Dataset(
        {
            "float32": ("x", np.arange(3, dtype=np.float32)),
            "float64": (("x", "y"), np.array([[1.0, np.nan], [np.inf, 2], [3, -np.inf]])),
            "whole": ("x", np.array([1, -2, 2**62])),
            "small": ("x", np.array([1, 2, 3], np.uint8)),
            "bool": ("x", np.array([True, False, True])),
            "empty": ("none", np.zeros(0)),
            "number": ((), 3.5),
            "text": ((), "Süß\n€ 🙂"),
        },
        coords={"x": ["a", "bc", ""], "y": [0.1, 0.2]},
        attrs={
            "one": 1,
            "many": np.arange(4.0),
            "text": "x" * 100_000,
            "texts": ["a", "b"],
            "scalar": np.float32(2),
        },
    )
    written.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as expected:
        xr.testing.assert_identical(load_dataset(tmp_path / "a.nc"), expected)


def test_arrays_without_named_dimensions_are_read(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["x"], file["y"] = np.arange(3.0), np.ones((3, 2))
    found = load_dataset(tmp_path / "a.nc")
    np.testing.assert_array_equal(found["y"], np.ones((3, 2)))


def test_a_limit_of_ones_own(curve):
    with pytest.raises(ValueError, match="its values would take"):
        load_dataset(curve, limit=100)


METADATA = ("[" * 30_000, "[1]", "true", "3", '"a"', "{", "null", "1" * 5000)


@pytest.mark.parametrize("text", METADATA, ids=lambda text: text[:6])
def test_facts_of_a_curve_that_are_none(text, curve, tmp_path, held):
    changed = load_dataset(curve).assign_attrs(metadata=text)
    changed.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match=r"^[^\n]{,300}$"):
        gmm.EntropyCurve.load(tmp_path / "a.nc")
    held("curves that are none")


CHANGES = {
    "attribute of numbers": lambda d: d.assign_attrs(metadata=np.arange(3)),
    "units of numbers": lambda d: d.assign_attrs(units=3.0),
    "format of numbers": lambda d: d.assign_attrs(format=np.arange(3)),
    "entropy of text": lambda d: d.assign(entropy=("point", ["a"] * 16)),
    "entropy of bools": lambda d: d.assign(entropy=("point", [True] * 16)),
    "prior entropy of three": lambda d: d.assign(prior_entropy=("three", [1.0, 2, 3])),
    "entropy of two axes": lambda d: d.assign(entropy=(("point", "cell"), np.ones((16, 2)))),
    "times of another length": lambda d: d.drop_vars("t").assign(t=("more", np.arange(17.0))),
    "cells of one axis": lambda d: d.assign(per_cell=("point", np.ones(16))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_curves_of_other_kinds_and_shapes(name, curve, tmp_path, held):
    CHANGES[name](load_dataset(curve)).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match=r"^[^\n]{,300}$"):
        gmm.EntropyCurve.load(tmp_path / "a.nc")
    held("curves that are none")
