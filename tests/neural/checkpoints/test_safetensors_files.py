"""Our reader of safetensors against the package of that name, on honest and on broken files."""

import json
import os
import struct
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load, load_file, save

from neural import CheckpointError
from neural.checkpoints import read, read_safetensors, write_safetensors
from neural.checkpoints.safetensors_files import DTYPES, read_safetensors_bytes
from tests.neural.checkpoints import forge

ATTRIBUTES = {
    "init_kwargs": {"label_dim": 10, "clip_act": None, "channel_mult": [1, 2]},
    "class_name": "Precond",
}
GOOD = {"a": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "I64", "shape": [], "data_offsets": [8, 16]}}  # fmt: skip


def with_a(**changes):
    return forge.safetensors(GOOD | {"a": GOOD["a"] | changes}, bytes(16))


BROKEN = {
    "empty header": b"\0" * 8,
    "no header": b"\1\0\0",
    "header longer than the file": forge.safetensors(GOOD, bytes(16), length=1 << 40),
    "header longer than allowed": forge.safetensors(GOOD, bytes(16), length=(1 << 63) + 5),
    "header shorter than it is": forge.safetensors(GOOD, bytes(16), length=20),
    "header is a list": forge.safetensors([], b""),
    "header is not JSON": forge.safetensors(b"{nonsense}", b""),
    "header is not UTF-8": forge.safetensors(b'{"\xff": 1}', b""),
    "header of brackets": forge.safetensors(b"[" * 100_000, b""),
    "header with a long number": forge.safetensors(b'{"a": ' + b"9" * 5000 + b"}", b""),
    "a name twice": forge.safetensors(b'{"a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},"a":'
                                      b'{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}', bytes(8)),
    "tensor is a list": forge.safetensors({"a": []}, b""),
    "tensor without a shape": forge.safetensors({"a": {"dtype": "F16", "data_offsets": [0, 0]}}, b""),
    "dtype unknown": with_a(dtype="F13"),
    "dtype is a number": with_a(dtype=16),
    "dtype of another size": with_a(dtype="F32"),
    "shape too large": with_a(shape=[2, 3]),
    "shape too small": with_a(shape=[2]),
    "shape absurd": with_a(shape=[1 << 62, 1 << 62]),
    "shape that wraps around": with_a(shape=[1 << 32, 1 << 32]),
    "shape negative": with_a(shape=[-2, -2]),
    "shape of fractions": with_a(shape=[2.0, 2.0]),
    "shape is text": with_a(shape="22"),
    "shape of bools": with_a(shape=[True, 4]),
    "offsets outside": with_a(data_offsets=[16, 24]),
    "offsets turned": with_a(data_offsets=[8, 0]),
    "offsets negative": with_a(data_offsets=[-8, 0]),
    "offsets overlap": with_a(data_offsets=[4, 12]),
    "offsets are one": with_a(data_offsets=[0]),
    "offsets are text": with_a(data_offsets=["0", "8"]),
    "a hole": forge.safetensors(GOOD | {"b": GOOD["b"] | {"data_offsets": [16, 24]}}, bytes(24)),
    "bytes left over": forge.safetensors(GOOD, bytes(17)),
    "bytes missing": forge.safetensors(GOOD, bytes(15)),
    "metadata of numbers": forge.safetensors(GOOD | {"__metadata__": {"a": 1}}, bytes(16)),
    "name of lone surrogates": forge.safetensors(
        b'{"\\ud800":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}', bytes(8)),
    "name that moves the cursor": forge.safetensors({"\x1b[2J": GOOD["a"], "b": GOOD["b"]}, bytes(16)),
    "metadata of lone surrogates": forge.safetensors(b'{"__metadata__":{"a":"\\ud800"}}', b""),
    "metadata is a list": forge.safetensors(GOOD | {"__metadata__": []}, bytes(16)),
}  # fmt: skip
# What the package lets pass and this reader does not.
STRICTER = {
    "name that moves the cursor",
    "header of brackets",
    "tensor without a shape",
    "shape of bools",
    "empty header",
    "a name twice",
}


@pytest.mark.parametrize("name", ["tiny", "tiny-uncond"])
def test_reads_what_the_package_reads(name, data):
    found, expected = read(data / f"{name}.safetensors"), load_file(data / f"{name}.safetensors")
    assert found.tensors.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_array_equal(found.tensors[key], values, strict=True)


@pytest.mark.parametrize("code", DTYPES)
def test_what_is_written_is_read_by_both(code, tmp_path):
    values = np.random.default_rng(0).integers(0, 2, (3, 4)).astype(DTYPES[code])
    tensors = {"matrix": values, "turned": values.T, "number": values[0, 0, ...], "empty": values[:0]}
    path = tmp_path / "a.safetensors"
    write_safetensors(path, tensors, ATTRIBUTES)
    found = read_safetensors(path)
    assert found.attributes == ATTRIBUTES
    for read_back in (found.tensors, load_file(path)):
        assert read_back.keys() == tensors.keys()
        for key, expected in tensors.items():
            np.testing.assert_array_equal(read_back[key], expected, strict=True)


def test_a_pickle_keeps_everything_in_conversion(data, tmp_path):
    pickled = read(data / "tiny.pkl")
    write_safetensors(tmp_path / "a.safetensors", pickled.tensors, pickled.attributes)
    converted = read(tmp_path / "a.safetensors")
    assert converted.attributes == pickled.attributes
    for key, expected in pickled.tensors.items():
        assert converted.tensors[key].tobytes() == expected.tobytes()


def test_metadata_of_others_are_texts():
    contents = save({"a": np.zeros(2, np.float32)}, {"format": "pt", "step": "3", "broken": "{"})
    assert read_safetensors_bytes(memoryview(contents)).attributes == {
        "format": "pt",
        "step": 3,
        "broken": "{",
    }


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_as_the_package_refuses_them(name):
    with pytest.raises(CheckpointError):
        read_safetensors_bytes(memoryview(BROKEN[name]))
    if name not in STRICTER:
        with pytest.raises(SafetensorError):
            load(BROKEN[name])


def test_truncation_at_every_byte():
    contents = save({"a": np.arange(4, dtype=np.float16), "b": np.zeros((), np.int64)}, {"k": "v"})
    for length in range(len(contents)):
        with pytest.raises(CheckpointError):
            read_safetensors_bytes(memoryview(contents[:length]))


def test_mutations_are_read_as_the_package_reads_them_or_refused():
    contents = save({"a": np.arange(4, dtype=np.float16), "b": np.zeros((), np.int64)}, {"k": "v"})
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(3000):
        out = bytearray(contents)
        for place in rng.integers(len(out), size=rng.integers(1, 3)):
            out[place] = rng.integers(256)
        try:
            found = read_safetensors_bytes(memoryview(bytes(out)))
        except CheckpointError:
            refused += 1
            continue
        expected = load(bytes(out))
        assert {key: value.tobytes() for key, value in found.tensors.items()} == {
            key: value.tobytes() for key, value in expected.items()
        }
    assert 1000 < refused < 3000


def test_bools_of_other_bytes():
    header = {"a": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}
    with pytest.raises(CheckpointError, match="tensor 'a' is BOOL but holds bytes other than 0 and 1"):
        read_safetensors_bytes(memoryview(forge.safetensors(header, b"\1\2")))


def test_a_header_is_bounded_before_it_is_parsed():
    contents = struct.pack("<Q", 1 << 24) + b"{" + b" " * (1 << 24)
    with pytest.raises(CheckpointError, match="a header of 16777216 bytes; at most 8388608 are read"):
        read_safetensors_bytes(memoryview(contents))


def test_half_of_a_file_is_never_seen(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"before")
    with pytest.raises(TypeError):
        write_safetensors(path, {"a": np.zeros(2)}, {"b": {1, 2}})

    def broken(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("gmm.files.os.fsync", broken)
    with pytest.raises(KeyboardInterrupt):
        write_safetensors(path, {"a": np.zeros(2)}, {})
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_equal_values_are_equal_bytes():
    # Texts hash differently from process to process.
    code = (
        "import sys, numpy as np, tempfile, hashlib, pathlib; from neural.checkpoints import write_safetensors as w\n"
        "p = pathlib.Path(tempfile.mkdtemp()) / 'a'; t = {f't{i}': np.full(i, i, 'f4') for i in range(20)}\n"
        "w(p, t, {f'a{i}': i for i in range(20)}); print(hashlib.sha256(p.read_bytes()).hexdigest()); p.unlink()"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] != b""


def test_tensors_lie_at_multiples_of_their_items(tmp_path):
    tensors = {
        "a": np.ones(3, np.uint8),
        "b": np.ones((2, 2)),
        "c": np.float16(1.5),
        "d": np.zeros((0, 4), "f4"),
    }
    path = tmp_path / "a"
    write_safetensors(path, tensors, {"x": "y\n€"})
    for name, values in load_file(path).items():
        np.testing.assert_array_equal(values, tensors[name], strict=True)
    found = read_safetensors(path)
    assert found.attributes == {"x": "y\n€"}
    for name, values in found.tensors.items():
        assert values.ctypes.data % values.itemsize == 0, name


def test_types_that_the_format_has_not_are_refused(tmp_path):
    with pytest.raises(ValueError, match="tensor 'a' must have a dtype of F16"):
        write_safetensors(tmp_path / "a", {"a": np.zeros(2, complex)}, {})
    assert list(tmp_path.iterdir()) == []


def test_types_are_those_of_jax():
    assert DTYPES["BF16"] == jnp.bfloat16
    assert json.loads(json.dumps(ATTRIBUTES)) == ATTRIBUTES
