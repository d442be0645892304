"""Plain objects that trainers keep beside the weights, as Python's own pickler writes them."""

import argparse
import collections
import collections.abc
import datetime
import decimal
import enum
import functools
import inspect
import logging
import pathlib
import random
import re
import types
import typing

import numpy as np
import pytest

from neural import CheckpointError
from neural.checkpoints.torch_files import read_torch_bytes
from tests.neural.checkpoints import forge

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
OBJECTS = {
    "Namespace(type=int)": argparse.Namespace(type=int),
    "defaultdict(int)": collections.defaultdict(int),
    "range": range(3),
    "array of class names": np.array(["cat", "dog"]),
    "array of objects": np.array([None, {"a": 1}], object),
    "array of dates": np.array(["2020-01-01"], "M8[D]"),
    "array of records": np.zeros(2, [("a", "f4"), ("b", "i8")]),
    "array of complex numbers": np.zeros(2, "c8"),
    "masked array": np.ma.array([1, 2], mask=[True, False]),
    "text of NumPy": np.str_("cat"),
    "state of a generator": np.random.default_rng(0),
    "state of an old generator": np.random.RandomState(0),
    "partial": functools.partial(int, base=2),
    "partial of a method": functools.partial(datetime.date.fromisoformat, "2020-01-01"),
    "bound method": pathlib.PurePosixPath("a").joinpath,
    "Optional[int]": typing.Optional[int],  # noqa: UP045
    "int | None": int | None,
    "Dict[str, int]": typing.Dict[str, int],  # noqa: UP006
    "Literal": typing.Literal["a"],
    "list[int]": list[int],
    "Callable": collections.abc.Callable[[int], str],
    "type of None": type(None),
    "Ellipsis": ...,
    "NotImplemented": NotImplemented,
    "bytearray": bytearray(b"abc"),
    "complex": 1j,
    "slice": slice(1, 2),
    "logger": logging.getLogger("trainer"),
    "root logger": logging.getLogger(),
    "regex": re.compile("a+", re.IGNORECASE),
    "flag": re.DOTALL,
    "exception": ValueError("a"),
    "interruption": KeyboardInterrupt(),
    "time": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    "decimal": decimal.Decimal("1.5"),
    "path": pathlib.PurePosixPath("a/b"),
    "signature": inspect.signature(enum.unique),
    "namespace": types.SimpleNamespace(a=1),
    "random state": random.Random(0),
    "large number": 2**70,
    "set of texts": {"a", "b"},
    "user dictionary": collections.UserDict(a=1),
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", OBJECTS)
def test_plain_objects_beside_the_weights_are_read_over(name, protocol):
    found = {
        "state_dict": {"w": forge.rebuild(forge.identity(VALUES), VALUES)},
        "hyper_parameters": {"x": OBJECTS[name]},
        "epoch": 3,
    }
    for form in (forge.archive, forge.legacy):
        checkpoint = read_torch_bytes(memoryview(form(found, {"0": VALUES}, protocol=protocol)))
        np.testing.assert_array_equal(checkpoint.tensors["w"], VALUES)
        assert checkpoint.attributes["epoch"] == 3


def test_what_is_inert_is_no_weight():
    names = {"w": np.array(["cat"])}
    with pytest.raises(CheckpointError, match="the file holds no tensors"):
        read_torch_bytes(memoryview(forge.archive({"state_dict": names}, {})))


def test_numbers_of_another_byte_order_are_attributes():
    found = {"w": forge.rebuild(forge.identity(VALUES), VALUES), "mean": np.arange(3, dtype=">f4")}
    assert read_torch_bytes(memoryview(forge.archive(found, {"0": VALUES}))).attributes == {"mean": [0, 1, 2]}


def test_a_checksum_of_zero_has_not_been_computed():
    # As torch writes with torch.utils.serialization.config.save.compute_crc32 = False.
    contents = bytearray(forge.archive({"w": forge.rebuild(forge.identity(VALUES), VALUES)}, {"0": VALUES}))
    for mark, place in ((b"PK\3\4", 14), (b"PK\1\2", 16)):
        at = contents.find(mark)
        while at >= 0:
            contents[at + place : at + place + 4] = bytes(4)
            at = contents.find(mark, at + 4)
    np.testing.assert_array_equal(read_torch_bytes(memoryview(bytes(contents))).tensors["w"], VALUES)
