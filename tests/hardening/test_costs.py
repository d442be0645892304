"""Small files that ask for large costs: what a reader does is proportional to the file that it reads.

Operations are counted, not seconds: calls of functions, and bytes that are allocated or looked at.
"""

import json
import struct
import sys
import tracemalloc

import numpy as np
import pytest

from neural import CheckpointError
from neural.checkpoints import objects, read
from neural.models import load_model
from neural.zoo import path as zoo_path
from tests.neural.checkpoints import forge

# An honest file of n bytes takes a few calls for each opcode; 1,000,000 opcodes at most are run.
FREE_CALLS, CALLS = 200_000, 20
# Views cost nothing; names and texts are copied, and Python's smallest object takes some 50 bytes for one opcode.
FREE_BYTES, BYTES = 1 << 22, 100


def _text(letters):
    return b"X" + struct.pack("<I", len(letters)) + letters


def _encoded_again_and_again(length, times):
    """One text of the memo, encoded to bytes again and again, each result alive on the stack."""
    return (
        b"\x80\x04}c_codecs\nencode\n\x94" + _text(b"A" * length) + b"\x94" + _text(b"latin1") + b"\x94"
        b"(" + b"h\x00h\x01h\x02\x86R" * times + b"t."
    )  # fmt: skip


def _scanned_again_and_again(length, times):
    """One array of bools of the memo, made again and again, each time looked at for other bytes than 0 and 1."""
    count = b"J" + struct.pack("<i", length)
    return (
        b"\x80\x04}N\x94cnumpy._core.numeric\n_frombuffer\n\x94B" + struct.pack("<I", length) + bytes(length)
        + b"\x94cnumpy\ndtype\n" + _text(b"b1") + b"\x85R\x94" + count + b"\x85\x94" + _text(b"C") + b"\x94"
        b"(" + b"h\x01(h\x02h\x03h\x04h\x05tR" * times + b"t."
    )  # fmt: skip


def _set_again_and_again(length, times):
    """One list of the memo, made a set again and again."""
    items = b"](" + b"K\x00" * length + b"e\x94"
    return (
        b"\x80\x02}cbuiltins\nset\nq\x00"
        + items.replace(b"\x94", b"q\x01\x85q\x02")
        + b"("
        + b"h\x00h\x02R" * times
        + b"t."
    )


def _shaped_again_and_again(length, times):
    """One shape of far too many axes, checked again and again."""
    shape = b"(" + b"K\x01" * length + b"tq\x01\x85q\x02"
    return b"\x80\x02}ctorch\nSize\nq\x00" + shape + b"(" + b"h\x00h\x02R" * times + b"t."


def _bools_that_overlap(length, count):
    """Tensors of one span each, all the same: looked at one by one they would be many times the file."""
    entry = {"dtype": "BOOL", "shape": [length], "data_offsets": [0, length]}
    return forge.safetensors({f"t{i}": entry for i in range(count)}, bytes(length))


COSTLY = {
    "texts encoded again and again": _encoded_again_and_again(1 << 16, 30_000),
    "bools looked at again and again": _scanned_again_and_again(1 << 18, 3_000),
    "lists made sets again and again": _set_again_and_again(50_000, 3_000),
    "shapes checked again and again": _shaped_again_and_again(50_000, 3_000),
    "bools that overlap": _bools_that_overlap(1 << 20, 2_000),
}


def _counted(work):
    """What `work` costs: calls of functions, the most bytes allocated at once, and bytes looked at for bools."""
    calls, looked = 0, 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    fill = objects.Storage.fill

    def counted_fill(self, data):
        nonlocal looked
        looked += len(data)
        fill(self, data)

    tracemalloc.start()
    objects.Storage.fill = counted_fill
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        objects.Storage.fill = fill
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return calls, peak, looked


def _check_cost(work, size):
    calls, peak, looked = _counted(work)
    assert calls <= FREE_CALLS + CALLS * size
    assert peak <= FREE_BYTES + BYTES * size
    assert looked <= FREE_BYTES + 8 * size


@pytest.mark.parametrize("name", COSTLY)
def test_a_checkpoint_costs_what_its_size_allows(name, tmp_path, held):
    path = tmp_path / "file"
    path.write_bytes(COSTLY[name])

    def work():
        with pytest.raises(CheckpointError, match=r"again and again|overlap"):
            read(path)

    _check_cost(work, len(COSTLY[name]))
    held("costs out of proportion")


def _changed(tmp_path, name, place, value):
    """A shipped network whose description says something else."""
    contents = zoo_path(name).read_bytes()
    length = int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8 : 8 + length])
    first, *inner, last = place
    told = json.loads(header["__metadata__"][first])
    part = told
    for key in inner:
        part = part[key]
    part[last] = value
    header["__metadata__"][first] = json.dumps(told)
    path = tmp_path / "model.safetensors"
    path.write_bytes(forge.safetensors(header, contents[8 + length :]))
    return path


DESCRIPTIONS = {
    "depth": ("tree", ("init_kwargs", "depth"), 10**9),
    "width": ("tree", ("init_kwargs", "width"), 10**12),
    "a constant of 400 digits": ("tree", ("init_kwargs", "sigma_max"), 10**400),
    "classes": ("tree", ("init_kwargs", "label_dim"), 1 << 62),
    "dimension": ("tree", ("trained", "family", "dim"), 10**9),
    "dimension as text": ("tree", ("trained", "family", "dim"), "64"),
    "leaves": ("tree", ("trained", "family", "branching"), [2] * 40),
    "branching of a number": ("tree", ("trained", "family", "branching"), 5),
    "family": ("tree", ("trained", "family"), {"family": "simplex", "dim": 10**6, "classes": 10**6}),
    "family of a list": ("tree", ("trained", "family"), [1]),
    "blocks": ("digits", ("init_kwargs", "num_blocks"), 10**9),
    "resolution": ("digits", ("init_kwargs", "img_resolution"), 10**9),
    "data of nothing": ("digits", ("trained", "data"), None),
    "classes of a number": ("digits", ("trained", "data", "classes"), 5),
    "source of a number": ("digits", ("trained", "data", "source"), 5),
    "range of three": ("digits", ("trained", "data", "range"), [1, 2, 3]),
    "range of nothing": ("digits", ("trained", "data", "range"), [None, {}]),
    "patch": ("digits", ("trained", "data", "states", "patch"), 2**40),
    "shift of 400 digits": ("digits", ("trained", "data", "states", "shift"), 10**400),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_what_a_network_says_about_itself_costs_what_its_size_allows(name, tmp_path, held):
    path = _changed(tmp_path, *DESCRIPTIONS[name])

    def work():
        with pytest.raises(ValueError, match=r"model[.]safetensors: ") as caught:
            load_model(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600

    _check_cost(work, path.stat().st_size)
    held("descriptions of networks")


def test_an_honest_network_stays_within_its_budget(tmp_path):
    values = np.zeros(100_000, np.float32)
    found = {"w": forge.rebuild(forge.identity(values), values), "mean": np.zeros(30_000, "f4")}
    for contents in (forge.archive(found, {"0": values}), forge.dump(forge.network({"w": values}), 2)):
        path = tmp_path / "file"
        path.write_bytes(contents)
        _check_cost(lambda path=path: read(path), len(contents))
