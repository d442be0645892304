"""Hostile HDF5 files, made from an honest entropy curve."""

import shutil
import struct

import h5py
import numpy as np


def _without(file, name):
    points = file[name].shape[0]
    del file[name]
    return points


def external_storage(file, folder):
    """The rate is the bytes of another file."""
    points = _without(file, "rate")
    file.create_dataset("rate", (points,), "f8", external=[(str(folder / "secret"), 0, 8 * points)])


def external_pipe(file, folder):
    """The rate is what comes out of a pipe: nothing, for ever."""
    points = _without(file, "rate")
    file.create_dataset("rate", (points,), "f8", external=[(str(folder / "pipe"), 0, 8 * points)])


def external_link(file, folder):
    _without(file, "entropy")
    file["entropy"] = h5py.ExternalLink(str(folder / "secret.h5"), "/entropy")


def external_link_to_a_pipe(file, folder):
    _without(file, "entropy")
    file["entropy"] = h5py.ExternalLink(str(folder / "pipe"), "/entropy")


def soft_links_in_a_circle(file, _):
    file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")


def virtual(file, folder):
    points = _without(file, "entropy")
    layout = h5py.VirtualLayout(shape=(points,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "entropy", shape=(16,))[:points]
    file.create_virtual_dataset("entropy", layout)


def virtual_on_itself(file, _):
    points = _without(file, "entropy")
    layout = h5py.VirtualLayout(shape=(points,), dtype="f8")
    layout[:] = h5py.VirtualSource(".", "entropy", shape=(points,))[:]
    file.create_virtual_dataset("entropy", layout)


def many_variables(file, _):
    for index in range(5_000):
        file.create_dataset(f"v{index}", data=0.0)


def many_attributes(file, _):
    for index in range(500):
        file["entropy"].attrs[f"a{index}"] = 1


def values_that_take_no_room(file, _):
    file.create_dataset("h", (7 << 27,), "f8", chunks=(1 << 20,), compression="gzip")


def a_long_text(file, _):
    file.create_dataset("s", (1,), "S2147483647")


def references(file, _):
    file.create_dataset("r", (3,), h5py.ref_dtype)[0] = file["t"].ref


def regions(file, _):
    file.create_dataset("r", (2,), h5py.regionref_dtype)


def opaque(file, _):
    file.create_dataset("o", data=np.zeros(2, "V5"))


def compound(file, _):
    file.create_dataset("c", data=np.zeros(3, "c16"))


def numbers_of_variable_length(file, _):
    file.create_dataset("v", (2,), h5py.vlen_dtype("f8"))


def attribute_of_references(file, _):
    file.attrs.create("r", file["t"].ref, dtype=h5py.ref_dtype)


def attribute_of_numbers_of_variable_length(file, _):
    file.attrs.create("v", np.array([np.arange(3.0), np.arange(2.0)], object), dtype=h5py.vlen_dtype("f8"))


def named_type(file, _):
    file["type"] = np.dtype([("a", "f8")])


REFUSED = (
    external_storage, external_pipe, external_link, external_link_to_a_pipe, soft_links_in_a_circle, virtual,
    virtual_on_itself, many_variables, many_attributes, values_that_take_no_room, a_long_text, references, regions,
    opaque, compound, numbers_of_variable_length, attribute_of_references, attribute_of_numbers_of_variable_length,
    named_type,
)  # fmt: skip


def groups_in_a_circle(file, _):
    group = file.create_group("g")
    group["up"], group["self"] = file["/"], group


def deep_groups(file, _):
    group = file
    for _level in range(1_000):
        group = group.create_group("x")


def an_empty_attribute(file, _):
    file.attrs["empty"] = h5py.Empty("f8")


READ = (groups_in_a_circle, deep_groups, an_empty_attribute)


def make(change, curve, folder):
    """The path of a copy of a curve's file, changed."""
    path = folder / f"{change.__name__}.nc"
    shutil.copy(curve, path)
    with h5py.File(path, "r+") as file:
        change(file, folder)
    return path


def texts_that_multiply(curve, path, length, count, *, attribute):
    """A file in which many texts are the same text of the heap: a few bytes each, all of its length once read."""
    shutil.copy(curve, path)
    with h5py.File(path, "r+") as file:
        kind = h5py.string_dtype()
        if attribute:
            texts = np.array(["A" * length, *[""] * (count - 1)], object)
            file["t"].attrs.create("bomb", texts, dtype=kind)
        else:
            file.create_dataset("bomb", (count,), kind)[0] = "A" * length
    contents = path.read_bytes()
    one, at = b"", -1
    while not one:
        at = contents.index(struct.pack("<I", length), at + 1)
        address, index = struct.unpack("<QI", contents[at + 4 : at + 16])
        if contents[address : address + 4] == b"GCOL" and 0 < index < 100:
            one = contents[at : at + 16]
    path.write_bytes(contents[:at] + one * count + contents[at + 16 * count :])
    return path
