"""Thousands of changed files over every reader: each is read, or refused by a ValueError of one line.

``--fuzz N`` says how many; NetCDF files, each of which takes a process of its own, are few among them.
"""

import gzip
import io
import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from gmm.curve import EntropyCurve
from gmm.datasets import load_data
from gmm.guidance_specs import load_guidance
from gmm.netcdf import load_whole, save_dataset
from gmm.window_file import load_window
from neural.checkpoints import read, read_kept, write_kept
from neural.decisions import files
from neural.models import load_model
from neural.zoo import path as zoo_path
from paper_figures.files import save_image
from paper_figures.studies import pictures
from tests.hardening.mutate import mutated
from tests.hardening.test_schemas import GOOD
from tests.neural.checkpoints import forge
from tests.neural.checkpoints.test_hostile import BASES

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)
LONGEST = 700
# Of all changed files, the share of each reader. A NetCDF file takes half a second.
SHARES = {
    "pickled network": 0.12, "zip archive": 0.15, "legacy file": 0.15, "protocol 2": 0.06, "safetensors": 0.15,
    "description of a network": 0.05, "window": 0.08, "guidance": 0.08, "partition in JSON": 0.05,
    "partition in TOML": 0.05, "arrays of NumPy": 0.05, "images in IDX": 0.02, "NetCDF": 0.02,
}  # fmt: skip


def _curve_file(folder):
    times = np.linspace(0.5, 5, 9)
    EntropyCurve(
        t=times, log_snr=-times, entropy=np.tanh(times), entropy_stderr=0 * times, rate=times, rate_stderr=times,
        prior_entropy=1.0, metadata={"seed": 1},
    ).save(folder / "curve.nc")  # fmt: skip
    return (folder / "curve.nc").read_bytes()


def _safetensors():
    entry = {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}
    return forge.safetensors({"__metadata__": {"a": "[1, 2]"}, "w": entry}, VALUES.tobytes())


def _arrays():
    file = io.BytesIO()
    np.savez(
        file,
        x=np.random.default_rng(0).normal(size=(20, 3)),
        y=np.arange(20) % 2,
        classes=np.array(["a", "b"]),
    )
    return file.getvalue()


def _idx(folder):
    folder.mkdir()
    images = b"\0\0\x08\3" + b"".join(n.to_bytes(4, "big") for n in (8, 2, 2)) + bytes(range(32))
    labels = b"\0\0\x08\1" + (8).to_bytes(4, "big") + bytes([0, 1] * 4)
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    return gzip.compress(images, mtime=0)


def _header_of(name):
    """Header and values of a shipped network apart: the description is in the header."""
    contents = zoo_path(name).read_bytes()
    length = int.from_bytes(contents[:8], "little")
    return json.loads(contents[8 : 8 + length]), contents[8 + length :]


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """By name: what is changed, how the changed bytes are put into a file, and how it is read."""
    folder = tmp_path_factory.mktemp("fuzz")
    header, values = _header_of("tree")
    described = json.dumps(header["__metadata__"]).encode()
    shipped = (files.FOLDER / "digits-parity.toml").read_bytes()

    def network(contents):
        try:
            header["__metadata__"] = json.loads(contents)
        except ValueError:
            return contents
        return forge.safetensors(header, values)

    same = lambda contents: contents
    text = {name: json.dumps(value).encode() for name, value in GOOD.items()}
    return folder, {
        "pickled network": (BASES["network"], same, "a.pkl", read),
        "zip archive": (BASES["zip"], same, "a.pt", read),
        "legacy file": (BASES["legacy"], same, "a.pt", read),
        "protocol 2": (BASES["protocol 2"], same, "a.pkl", read),
        "safetensors": (_safetensors(), same, "a.safetensors", read),
        "description of a network": (described, network, "a.safetensors", load_model),
        "window": (text["window"], same, "a.json", load_window),
        "guidance": (text["guidance"], same, "a.json", load_guidance),
        "partition in JSON": (text["partition"], same, "a.json", files.parse),
        "partition in TOML": (shipped, same, "a.toml", files.parse),
        "arrays of NumPy": (_arrays(), same, "a.npz", load_data),
        "images in IDX": (
            _idx(folder / "idx"), same, "idx/train-images-idx3-ubyte.gz", lambda path: load_data(path.parent),
        ),
        "NetCDF": (_curve_file(folder), same, "a.nc", EntropyCurve.load),
    }  # fmt: skip


def test_the_shares_are_all():
    assert sum(SHARES.values()) >= 1


def _refusal(reader, path):
    """Why a file is refused; None where it is read, and every value of its tensors with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a curve's checksum
        try:
            found = reader(path)
        except ValueError as error:
            return str(error)
    for tensor in getattr(found, "tensors", {}).values():
        tensor.tobytes()
    return None


@pytest.mark.parametrize("name", SHARES)
def test_changed_files_are_read_or_refused(name, readers, request, held):
    folder, known = readers
    contents, wrap, file_name, reader = known[name]
    count = int(np.ceil(SHARES[name] * request.config.getoption("fuzz")))
    rng = np.random.default_rng(sorted(SHARES).index(name))
    path, modules, outcomes = folder / file_name, None, {True: 0, False: 0}
    for number in range(-1, count):
        changed = contents if number < 0 else mutated(contents, rng)
        path.write_bytes(wrap(changed))
        refused = _refusal(reader, Path(path))
        outcomes[refused is None] += 1
        if refused is not None:
            assert number >= 0, refused
            assert "\n" not in refused, refused
            assert len(refused) < LONGEST, refused
        # The honest file has imported all that there is to import.
        modules = modules or set(sys.modules)
        assert set(sys.modules) <= modules
    assert outcomes[False] > 0
    held(f"changed: {name}", count)


def _no_longer_whole(contents, rng):
    changed = mutated(contents, rng)
    while changed == contents:
        changed = mutated(contents, rng)
    return changed


def _kept_arrays(folder):
    path = folder / "a.part"
    write_kept(path, {"a": VALUES, "b": np.arange(3)}, {"status": "ok"})
    return path, read_kept


def _kept_curve(folder):
    path = folder / "a.nc"
    save_dataset(path, xr.Dataset({"a": ("x", np.arange(4.0))}, attrs={"b": "c"}))
    return path, load_whole


def _kept_picture(folder):
    settings = pictures.PictureSettings("m", "heun", 3, 1.0, "float32", "")
    picture = pictures.Picture("cat", 0, 1)
    path = picture.path(folder)
    texts = {pictures.SETTINGS_KEY: pictures._as_text(settings, picture)}
    save_image(np.zeros((4, 4, 3), np.uint8), path, texts)
    return path, lambda _: pictures.is_made(folder, settings, picture) or None


PARTS = {"arrays": (_kept_arrays, 0.12), "curves": (_kept_curve, 0.01), "pictures": (_kept_picture, 0.08)}


@pytest.mark.parametrize("name", PARTS)
def test_no_damaged_part_is_used(name, tmp_path, request, held):
    make, share = PARTS[name]
    path, read_whole = make(tmp_path)
    assert read_whole(path) is not None
    contents, rng = path.read_bytes(), np.random.default_rng(1)
    count = int(np.ceil(share * request.config.getoption("fuzz")))
    for _ in range(count):
        path.write_bytes(_no_longer_whole(contents, rng))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = read_whole(path)
        if found is None:
            assert any(
                "is damaged or of another version; it is computed again" in str(one.message) for one in said
            )
        else:
            # HDF5 has bytes that mean nothing: what is read must be what was written.
            assert name == "curves"
            xr.testing.assert_identical(found, xr.Dataset({"a": ("x", np.arange(4.0))}, attrs={"b": "c"}))
    os.unlink(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_whole(path) is None
    held(f"damaged parts: {name}", count)
