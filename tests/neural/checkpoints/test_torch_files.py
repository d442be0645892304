"""Honest files of every format, against the safetensors package and NumPy."""

import os
import pickle
import struct

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from neural import CheckpointError, read_torch_pickle
from tests.neural.checkpoints import forge
from tests.neural.checkpoints.forge import Layout

DTYPES = sorted(forge.TYPES)


def values_of(dtype, shape=(3, 4)):
    values = np.random.default_rng(0).normal(size=shape) * 50
    return (values > 0) if dtype == "bool" else np.abs(values).astype(jnp.dtype(dtype))


def read(tmp_path, contents):
    path = tmp_path / "file"
    path.write_bytes(contents)
    return read_torch_pickle(path)


def state_dict(values, layout=forge.PLAIN):
    return {"a.weight": forge.rebuild(forge.identity(values), values, layout)}


@pytest.mark.parametrize("name", ["tiny", "tiny-uncond"])
def test_an_official_pickle_holds_what_the_safetensors_package_reads(name, data):
    found = read_torch_pickle(data / f"{name}.pkl")
    expected = load_file(data / f"{name}.safetensors")
    assert found.tensors.keys() == expected.keys()
    for key, values in expected.items():
        assert found.tensors[key].dtype == values.dtype == np.float16
        assert found.tensors[key].shape == values.shape
        np.testing.assert_array_equal(found.tensors[key], values)


def test_an_official_pickle_tells_its_options(data):
    attributes = read_torch_pickle(data / "tiny.pkl").attributes
    assert attributes["class_name"] == "Precond"
    told = {"img_resolution": 16, "img_channels": 4, "label_dim": 10, "model_channels": 32, "use_fp16": True}
    # Constants stand in the attributes of the modules, not among the constructor's arguments.
    held = {"sigma_data": 0.5, "res_balance": 0.3, "clip_act": 256, "channels_per_head": 64}
    assert (told | held).items() <= attributes["init_kwargs"].items()
    np.testing.assert_allclose(attributes["encoder"]["scale"], 0.5 / np.array([4.17, 4.62, 3.71, 3.28]))


def test_tensors_are_views_that_nobody_can_write_to(data):
    tensor = read_torch_pickle(data / "tiny.pkl").tensors["unet.out_conv.weight"]
    assert not tensor.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        tensor[...] = 0


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_every_protocol_of_pickle(protocol, module, tmp_path):
    tensors = {
        "unet.out_conv.weight": values_of("float16", (2, 3, 3, 3)),
        "unet.enc.4x4_conv.weight": values_of("float16"),
        "logvar_fourier.freqs": values_of("float32", (8,)),
        "unet.out_gain": np.array(0.5, np.float16),
    }
    bias = np.arange(4, dtype=np.float32)
    encoder = forge.persistent("StabilityVAEEncoder", {"_init_args": (), "bias": forge.array(bias, module)})
    network = forge.network(tensors, {"dropout": 0.0})
    network.items["encoder"] = encoder
    found = read(tmp_path, forge.dump(network, protocol))
    assert found.tensors.keys() == tensors.keys()
    for key, values in tensors.items():
        np.testing.assert_array_equal(found.tensors[key], values, strict=True)
    assert found.attributes["init_kwargs"] == {"dropout": 0.0}
    assert found.attributes["encoder"]["bias"] == bias.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["zip", "legacy", "network"])
def test_every_type_of_values(dtype, form, tmp_path):
    values = values_of(dtype)
    contents = {
        "zip": lambda: forge.archive(state_dict(values), {"0": values}),
        "legacy": lambda: forge.legacy(state_dict(values), {"0": values}),
        "network": lambda: forge.dump(forge.network({"a.weight": values})),
    }[form]()
    found = read(tmp_path, contents).tensors["a.weight"]
    np.testing.assert_array_equal(found, values, strict=True)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T,
        lambda a: a[1:, ::2],
        lambda a: a.reshape(2, 3, 2).transpose(1, 2, 0),
        lambda a: a[:0],
        lambda a: a[1, 1, ...],
        lambda a: a[:, None, 2:3],
    ],
    ids=["transposed", "sliced", "channels-last", "empty", "scalar", "axis-of-one"],
)
@pytest.mark.parametrize("form", [forge.archive, forge.legacy])
def test_views_of_a_storage(view, form, tmp_path):
    whole = values_of("float32")
    seen = view(whole)
    start = (seen.__array_interface__["data"][0] - whole.__array_interface__["data"][0]) // 4
    layout = Layout(start, seen.shape, tuple(stride // 4 for stride in seen.strides))
    found = {"a.weight": forge.rebuild(forge.identity(whole), whole, layout)}
    np.testing.assert_array_equal(read(tmp_path, form(found, {"0": whole})).tensors["a.weight"], seen)


@pytest.mark.parametrize("form", [forge.archive, forge.legacy])
def test_a_state_dict_inside_a_training_checkpoint(form, tmp_path):
    first, second = values_of("float32"), values_of("int64", (5,))
    shared = forge.rebuild(forge.identity(first), first)
    tensors = forge.Call(forge.ORDERED, state={"_metadata": {"": {"version": 1}}})
    found = {
        "epoch": 3,
        "size": forge.Call(forge.Name("torch", "Size"), (1, 2)),
        "loss": forge.Call(
            forge.Name("numpy.core.multiarray", "scalar"),
            forge.Call(
                forge.Name("numpy", "dtype"), "f8", False, True, state=(3, "<", *(None,) * 3, -1, -1, 0)
            ),
            np.float64(0.25).tobytes(),
        ),
        "state_dict": {"a": shared, "b": forge.rebuild(forge.identity(second, "1"), second), "tied": shared},
        "optimizer": {"state": {0: {"exp_avg": shared}}},
        "empty": tensors,
    }
    read_back = read(tmp_path, form(found, {"0": first, "1": second}))
    assert set(read_back.tensors) == {"a", "b", "tied"}
    np.testing.assert_array_equal(read_back.tensors["tied"], first)
    np.testing.assert_array_equal(read_back.tensors["b"], second)
    assert read_back.attributes == {"epoch": 3, "size": [1, 2], "loss": 0.25, "empty": {}}


def test_a_checkpoint_that_torch_wrote_for_a_trainer(data):
    # ../data/trainer/make.py wrote it; its classes exist nowhere here.
    folder = data.parent / "trainer"
    found, expected = read_torch_pickle(folder / "trainer.ckpt"), np.load(folder / "trainer.npz")
    assert set(found.tensors) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(found.tensors[name], expected[name], strict=True)
    assert found.attributes["epoch"] == 3
    assert found.attributes["global_step"] == 470_000
    assert "hyper_parameters" not in found.attributes
    assert found.ignored == (
        "__builtin__.frozenset", "__builtin__.list", "__main__.Options", "argparse.Namespace",
        "collections.defaultdict", "datetime.datetime", "datetime.timedelta",
        "datetime.timezone", "pathlib.PurePosixPath", "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "torch.device", "torch.float32", "torch.nn.modules.batchnorm.BatchNorm1d",
        "torch.nn.modules.container.Sequential", "torch.nn.modules.linear.Linear",
    )  # fmt: skip


def test_nested_dictionaries_have_dotted_names(tmp_path):
    values = values_of("float32")
    found = {"model": {0: state_dict(values)}, "step": 1}
    assert set(read(tmp_path, forge.archive(found, {"0": values})).tensors) == {"model.0.a.weight"}


def test_arrays_as_protocol_5_writes_them(tmp_path):
    values = np.arange(6, dtype=np.int32).reshape(2, 3)
    dtype = forge.Call(
        forge.Name("numpy", "dtype"), "i4", False, True, state=(3, "<", *(None,) * 3, -1, -1, 0)
    )
    name = forge.Name("numpy._core.numeric", "_frombuffer")
    found = {"x": forge.Call(name, values.tobytes(), dtype, (2, 3), "C"), **state_dict(values)}
    assert read(tmp_path, forge.legacy(found, {"0": values})).attributes == {"x": values.tolist()}


def test_an_archive_with_64_bit_sizes(tmp_path):
    # zipfile writes them only past 4 GiB; the fields are put there by hand.
    values = values_of("float32")
    plain = forge.archive(state_dict(values), {"0": values})
    start, size = forge.directory(plain)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, size, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + size, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    contents = plain[: start + size] + end64 + locator + end
    np.testing.assert_array_equal(read(tmp_path, contents).tensors["a.weight"], values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "no such file: .*missing"),
        (lambda path: path.mkdir(), "missing is not a file"),
        (lambda path: path.touch(), "missing is empty"),
        (
            lambda path: path.write_text("hello"),
            "missing: neither a pickle of protocol 2 or later, nor a zip",
        ),
    ],
)
def test_files_that_are_none(make, message, tmp_path):
    make(tmp_path / "missing")
    with pytest.raises(CheckpointError, match=message):
        read_torch_pickle(tmp_path / "missing")


def test_a_forged_pickle_is_one_that_python_reads():
    # The forge itself: what it writes around names and calls is what Python's unpickler reads.
    call = forge.Call(forge.Name("collections", "OrderedDict"), [("a", 1)])
    assert pickle.loads(forge.dump({"x": [call, call]})) == {"x": [{"a": 1}, {"a": 1}]}


def test_a_file_that_is_shortened_under_its_reader(data, tmp_path):
    # Touching a page that is gone would end the process.
    path = tmp_path / "a.pkl"
    path.write_bytes((data / "tiny.pkl").read_bytes())
    tensors = read_torch_pickle(path).tensors
    first, *others = tensors
    assert tensors[first].size
    os.truncate(path, 100)
    with pytest.raises(CheckpointError, match="shortened to 100 of 1482680 bytes since it was opened"):
        tensors[others[0]]


def test_values_survive_that_pages_are_let_go(data, monkeypatch):
    monkeypatch.setattr("neural.checkpoints.checkpoint._Views.every", 0)
    tensors = read_torch_pickle(data / "tiny.pkl").tensors
    kept = {name: tensors[name] for name in tensors}
    for name, expected in load_file(data / "tiny.safetensors").items():
        np.testing.assert_array_equal(kept[name], expected)
