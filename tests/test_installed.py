"""The wheel, as a user has it: what it holds, and what a type checker makes of a script that uses it."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "import os, sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
SCRIPT = """
from typing import assert_type

import jax
import numpy as np

import gmm
import neural
import paper_figures
import speciation
import theory
import xarray as xr

process = gmm.vp()
mixture = gmm.families.simplex(classes=10, dim=1000)
curve = gmm.class_entropy(gmm.reduce(mixture), process, [1.0, 2.0], key=jax.random.key(0), samples=64)
assert_type(curve, gmm.EntropyCurve)
assert_type(curve.entropy, np.ndarray)
assert_type(theory.window(curve), theory.Window)
assert_type(theory.entropy_curve(process, [1.0, 2.0], 1000.0), gmm.EntropyCurve)
assert_type(paper_figures.sweep(dims=[100]), xr.Dataset)
denoiser = speciation.neural.mixture_denoiser(mixture, process)
assert_type(neural.online_entropy(denoiser, [3, 5], key=jax.random.key(0), samples=8, steps=4), gmm.EntropyCurve)
assert_type(speciation.__version__, str)
gmm.class_entropy(mixture, process, [1.0], key=jax.random.key(0), sample=64)  # one error: samples
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built by the installed setuptools."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for path in ROOT.iterdir():  # the build leaves its folders beside the sources
        if not path.name.startswith(".") and path.name not in ("build", "tests", "figures"):
            (source / path.name).symlink_to(path)
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=source, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return folder / built.stdout.splitlines()[-1]


@pytest.mark.slow
def test_the_wheel_holds_types_and_data_of_every_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"gmm", "theory", "neural", "paper_figures", "speciation.py"}
    for package in tops - {"speciation.py"}:
        assert f"{package}/py.typed" in names
    assert {"paper_figures/drawing/paper.mplstyle", "paper_figures/shipped/law.nc"} <= {*names}
    assert any(name.startswith("neural/zoo/") and name.endswith(".safetensors") for name in names)


@pytest.mark.slow
def test_a_users_script_has_types(wheel, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    packages = next(home.glob("lib/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(packages)
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "pyrightconfig.json").write_text(
        '{"reportUnknownVariableType": "error", "include": ["script.py"]}'
    )
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", str(home / "bin" / "python")]
    report = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout)
    found = [(each["range"]["start"]["line"], each["message"]) for each in report["generalDiagnostics"]]
    last = len(SCRIPT.splitlines()) - 1
    assert [line for line, _ in found] == [last, last] or [line for line, _ in found] == [last], found
    assert all("sample" in message for _, message in found)
