"""What a checkpoint is to this project, the one error of every reader, and a cursor that cannot leave its bytes."""

import dataclasses
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


class CheckpointError(ValueError):
    """A file that is damaged, or that contains something that a checkpoint does not need."""


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """Named arrays and plain attributes.

    Attributes:
        tensors: by name. Arrays are read-only views of the mapped file where the format allows it: a tensor
            takes memory of its own only once it is converted.
        attributes: what else the file says, in JSON's types. ``init_kwargs`` are the keyword arguments that
            the network was built with.
        ignored: names of what else the file holds, objects of a trainer, which were neither looked up nor read.
    """

    tensors: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any]
    ignored: tuple[str, ...] = ()


def map_file(path: str | os.PathLike[str]) -> mmap.mmap:
    """The bytes of a file, mapped, not read.

    Raises:
        CheckpointError: when it does not exist, is no regular file, cannot be opened, or is empty.
    """
    if "\0" in str(path):
        raise CheckpointError(f"no such file: {quoted(str(path))}")
    try:
        # A pipe or a device would block or never end.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise CheckpointError(f"{path} is not a file")
        with Path(path).open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise CheckpointError(f"{path} is empty")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise CheckpointError(f"no such file: {path}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error


def read_mapped(path: str | os.PathLike[str], parse: Callable[[memoryview], Checkpoint]) -> Checkpoint:
    """Map a file and parse it; an error about its contents comes with its name."""
    mapped = map_file(path)
    try:
        checkpoint = parse(memoryview(mapped))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return dataclasses.replace(checkpoint, tensors=_Views(checkpoint.tensors, mapped))


class _Views(Mapping[str, np.ndarray]):
    """Views of a mapped file that lets go of its pages now and then.

    Pages that have been read count as this process's memory until they are let go; who reads tensors one
    after the other should not end up with the whole file. A page that is still in use comes back by itself.

    A file that another process shortens loses pages that a view may stand on, and the system ends a process
    that touches them. A view is therefore handed out only while the file is as long as it was.
    """

    every = 1 << 26

    def __init__(self, views: Mapping[str, np.ndarray], mapped: mmap.mmap) -> None:
        self._views, self._mapped, self._read = views, mapped, 0

    def __getitem__(self, name: str) -> np.ndarray:
        view = self._views[name]
        if self._mapped.size() < len(self._mapped):
            raise CheckpointError(
                f"the file has been shortened to {self._mapped.size()} of {len(self._mapped)} bytes since it was "
                "opened; nothing may write to a checkpoint while it is read"
            )
        self._read += view.nbytes
        if self._read > self.every and hasattr(self._mapped, "madvise"):
            self._read = 0
            self._mapped.madvise(mmap.MADV_DONTNEED)
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


def quoted(text: str, shown: int = 80) -> str:
    """A name out of an untrusted file, fit for one line of an error message."""
    return ascii(text if len(text) <= shown else text[:shown] + "...")


class Cursor:
    """A position in bytes; whatever is taken is first known to be there."""

    def __init__(self, buffer: memoryview, position: int = 0) -> None:
        self.buffer = buffer
        self.position = position

    @property
    def left(self) -> int:
        """Bytes that have not been taken."""
        return len(self.buffer) - self.position

    def take(self, count: int) -> memoryview:
        """The next `count` bytes, as a view.

        Raises:
            CheckpointError: when fewer are left.
        """
        if count > self.left:
            raise CheckpointError(
                f"the file is cut short: {count} bytes wanted at byte {self.position}, {self.left} left"
            )
        self.position += count
        return self.buffer[self.position - count : self.position]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next values in a fixed layout."""
        return layout.unpack(self.take(layout.size))

    def number(self, size: int, *, signed: bool = False) -> int:
        """A little-endian integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self, longest: int = 256) -> str:
        """ASCII text up to a newline, which is taken too."""
        window = bytes(self.buffer[self.position : self.position + longest])
        text, newline, _ = window.partition(b"\n")
        if not newline or not text.isascii():
            raise CheckpointError(f"no name of at most {longest} ASCII characters at byte {self.position}")
        self.position += len(text) + 1
        return text.decode("ascii")
