"""The three kinds of file that torch users save, read without torch: bytes in, named arrays out.

- A plain pickle of a network, as NVIDIA's EDM2 code writes it: `neural.checkpoints.persistence`.
- A zip archive, what ``torch.save`` writes: one pickle of the object, and an entry for each storage.
- The format before that: five pickles in a row, then the storages. Pickled networks hold one such file in
  miniature for every tensor.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from neural.checkpoints import machine, persistence
from neural.checkpoints.archive import Entry, read_archive
from neural.checkpoints.checkpoint import Checkpoint, CheckpointError, Cursor, quoted, read_mapped
from neural.checkpoints.machine import Budget, Global, Globals, Opaque, Unknown
from neural.checkpoints.objects import (
    MAX_DEPTH,
    MAX_NAME,
    MAX_TENSORS,
    STATE_DICT,
    STORAGES,
    TRAINER,
    Storage,
    Tensor,
    check_name,
    check_sharing,
    fields,
    plain,
)
from neural.checkpoints.stand_ins import StandIns

_LEGACY_NUMBER = 0x1950A86A20F9469CFC6C
LEGACY_MAGIC = b"\x80\x02\x8a\x0a" + _LEGACY_NUMBER.to_bytes(10, "little") + b"."
ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_VERSION = 1001
_PICKLE_START = b"\x80"
MAX_ATTRIBUTES = 200


def read_torch_pickle(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a file that torch, or code on top of it, has saved; nothing in it is executed.

    Pickled networks in the format of NVIDIA's EDM2 release give the tensors of the network that is to be used
    (the one averaged over training), by `state_dict` name, and its constructor's arguments as the attribute
    ``init_kwargs``. Files of ``torch.save`` (zip or legacy) give the tensors of the ``state_dict`` entry where
    there is one, else all tensors, nested names joined with dots; plain values beside them are attributes.
    Objects that a trainer keeps beside the tensors are neither looked up nor read: `ignored` names them.

    Args:
        path: the file.

    Returns:
        Its tensors, as views of the mapped file, and its attributes.

    Raises:
        CheckpointError: whatever is wrong with the file: it cannot be opened, is cut short or contradicts
            itself, uses anything but plain data, holds a tensor that overlaps itself or reaches outside
            its storage, or more than a network needs.
    """
    return read_mapped(path, read_torch_bytes)


def read_torch_bytes(buffer: memoryview) -> Checkpoint:
    """The contents of such a file."""
    checkpoint = _read_torch(buffer)
    check_sharing(checkpoint.tensors, len(buffer))
    return checkpoint


def _read_torch(buffer: memoryview) -> Checkpoint:
    budget, stand_ins = Budget(len(buffer)), StandIns()
    if buffer[:4] == ZIP_MAGIC:
        return _from_dictionary(_read_zip(buffer, budget, stand_ins), stand_ins)
    if buffer[:1] != _PICKLE_START:
        raise CheckpointError("neither a pickle of protocol 2 or later, nor a zip archive, nor safetensors")
    cursor = Cursor(buffer)
    if buffer[: len(LEGACY_MAGIC)] == LEGACY_MAGIC:
        contents = read_legacy(cursor, TRAINER, budget, stand_ins)
    else:
        # A network stores nothing of a trainer.
        contents = machine.run(cursor, _pickled_network(budget), budget)
    if cursor.left:
        raise CheckpointError(f"{cursor.left} bytes after the end of the pickle")
    return (
        persistence.network(contents)
        if persistence.is_network(contents)
        else _from_dictionary(contents, stand_ins)
    )


def _pickled_network(budget: Budget) -> Globals:
    """What the pickle of a network may name: its storages are files of their own, by the narrower rules."""

    def load(arguments: tuple) -> Storage:
        (raw,) = fields("_load_from_bytes", arguments, memoryview)
        cursor = Cursor(raw)
        storage = read_legacy(cursor, STORAGES, budget)
        if not isinstance(storage, Storage) or cursor.left:
            raise CheckpointError("the bytes of a tensor hold something else than one storage")
        return storage

    nested = {("torch.storage", "_load_from_bytes"): Global("torch.storage._load_from_bytes", call=load)}
    return {**STATE_DICT, **persistence.GLOBALS, **nested}


# Storages are named by persistent ids ('storage', class, key, place, number of values, view).


def _storage(identity: object) -> tuple[Storage, str]:
    word, cls, key, _, count, view = fields(
        "a storage", identity, str, Global, str, str, int, None, optional=1
    )
    if word != "storage" or not isinstance(cls.value, np.dtype) or view is not None:
        raise CheckpointError(f"a storage must be a plain one of a known type, got {cls.name}")
    if not 0 <= count <= 1 << 40:
        raise CheckpointError(f"a storage of {count} values")
    return Storage(cls.value, count), key


def _is_text(parts: tuple, text: str) -> bool:
    # An array would be compared value by value.
    return len(parts) == 1 and type(parts[0]) is str and parts[0] == text


def _known(storages: dict[str, Storage], identity: object) -> tuple[Storage, str]:
    """The storage of a key, and the key; tensors that share it must agree on what it is."""
    storage, key = _storage(identity)
    known = storages.setdefault(key, storage)
    if known.dtype != storage.dtype or known.count != storage.count:
        raise CheckpointError(f"storage {quoted(key)} is announced twice, differently")
    return known, key


def read_legacy(cursor: Cursor, names: Globals, budget: Budget, unknown: Unknown | None = None) -> object:
    """One file in torch's legacy format: number, version, machine, object, keys, then the storages.

    Args:
        cursor: where the file begins; afterwards, its end.
        names: what the object's pickle may name.
        budget: opcodes left.
        unknown: makes the stand-in of any other name in it; None where there must be no other.

    Returns:
        The object, its storages filled.
    """
    storages: dict[str, Storage] = {}

    def answer(identity: object) -> object:
        # The file and text of a pickled module's class come along, or None; the class itself is what is wanted.
        if unknown is not None and type(identity) is tuple and _is_text(identity[:1], "module"):
            _, cls, _, _ = fields("a module", identity, str, Opaque, None, None)
            return cls
        return _known(storages, identity)[0]

    number = machine.run(cursor, {}, budget)
    version = machine.run(cursor, {}, budget)
    system = machine.run(cursor, {}, budget)
    if type(number) is not int or number != _LEGACY_NUMBER:
        raise CheckpointError("the bytes of a tensor are not in torch's format")
    if type(version) is not int or version != _LEGACY_VERSION:
        raise CheckpointError(f"torch's legacy format must have version {_LEGACY_VERSION}")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise CheckpointError("the file was not written on a little-endian machine")
    contents = machine.run(cursor, names, budget, answer, unknown)
    keys = machine.run(cursor, {}, budget)
    if type(keys) is not list or {key for key in keys if type(key) is str} != storages.keys():
        raise CheckpointError("the list of storages does not name those that the tensors use")
    if len(keys) != len(storages):
        raise CheckpointError("the list of storages names one twice")
    for key in keys:
        storage = storages[key]
        count = cursor.number(8, signed=True)
        if count != storage.count:
            raise CheckpointError(f"a storage of {storage.count} values has {count} in its header")
        storage.fill(cursor.take(count * storage.dtype.itemsize))
    return contents


def _read_zip(buffer: memoryview, budget: Budget, unknown: Unknown) -> object:
    entries = read_archive(buffer)
    roots = [name.removesuffix("data.pkl") for name in entries if name.split("/")[1:] == ["data.pkl"]]
    if len(roots) != 1:
        raise CheckpointError("not an archive of torch: it must have one entry NAME/data.pkl")
    (root,) = roots
    if f"{root}constants.pkl" in entries:
        raise CheckpointError("the archive holds a program (TorchScript), not a state_dict")
    order = entries.get(f"{root}byteorder")
    if order is not None and order.checked() != b"little":
        raise CheckpointError("the archive was not written on a little-endian machine")
    cursor = Cursor(entries[f"{root}data.pkl"].checked())
    contents = machine.run(cursor, TRAINER, budget, _from_entries(entries, root), unknown)
    if cursor.left:
        raise CheckpointError(f"{cursor.left} bytes after the end of the archive's pickle")
    return contents


def _from_entries(entries: Mapping[str, Entry], root: str) -> Callable[[object], Storage]:
    storages: dict[str, Storage] = {}

    def find(identity: object) -> Storage:
        storage, key = _known(storages, identity)
        if storage.data is None:
            entry = entries.get(f"{root}data/{key}")
            if entry is None:
                raise CheckpointError(f"the archive has no storage {quoted(key)}")
            storage.fill(entry.checked())
        return storage

    return find


# From the object to names.


def _from_dictionary(contents: object, stand_ins: StandIns) -> Checkpoint:
    if type(contents) is not dict:
        raise CheckpointError(f"the file holds {machine.kind(contents)}, not a dictionary of tensors")
    tensors: dict[str, np.ndarray] = {}
    for name, tensor in _named(_weights(contents), (), MAX_DEPTH, iter(range(MAX_TENSORS))):
        if name in tensors:
            raise CheckpointError(f"two tensors are named {quoted(name)}")
        tensors[name] = tensor.array()
    if not tensors:
        raise CheckpointError("the file holds no tensors")
    return Checkpoint(tensors, dict(_plain_entries(contents)), stand_ins.names)


def _weights(contents: dict) -> dict:
    """The entry ``state_dict``, where a trainer keeps the weights beside its own things, else all of it."""
    inner = contents.get("state_dict", contents)
    # Taking the optimiser's tensors for the network's, or leaving some out, would be worse than refusing.
    if type(inner) is not dict:
        raise CheckpointError(f"state_dict must be a dictionary of tensors, got {machine.kind(inner)}")
    if inner is not contents:
        for name, value in inner.items():
            if isinstance(value, Opaque):
                raise CheckpointError(
                    f"entry {quoted(str(name))} of state_dict is of a kind unknown here: {value.name}"
                )
    return inner


def _named(
    contents: dict, path: tuple[str, ...], depth: int, nodes: Iterator[int]
) -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested dictionaries by dotted name."""
    for key, value in contents.items():
        if next(nodes, None) is None or depth == 0:
            raise CheckpointError(f"more than {MAX_TENSORS} entries or {MAX_DEPTH} levels of dictionaries")
        here = (*path, str(key))
        if isinstance(value, Tensor):
            yield check_name(".".join(here)), value
        elif type(value) is dict:
            yield from _named(value, here, depth - 1, nodes)


def _plain_entries(contents: dict) -> Iterator[tuple[str, Any]]:
    """What lies beside the tensors and is plain data; an optimiser's state and the like are not."""
    entries = [(key, value) for key, value in contents.items() if type(key) is str and key != "state_dict"]
    for key, value in entries[:MAX_ATTRIBUTES]:
        if not isinstance(value, Tensor) and len(key) <= MAX_NAME:
            with contextlib.suppress(CheckpointError):
                yield key, plain(value)
