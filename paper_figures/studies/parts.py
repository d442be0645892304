"""Finished parts of long work, kept at once, so that a run that was stopped goes on where it was."""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import jax
import numpy as np

from gmm import programs
from gmm.curve import EntropyCurve
from gmm.devices import agreed, alone
from gmm.netcdf import load_whole
from neural.checkpoints import read_kept, write_kept
from neural.progress import Progress
from paper_figures.progress import share

T = TypeVar("T")
Compute = Callable[[int, Progress | None], T]
"""(number of a part, its own progress) -> the part."""
POLL_SECONDS = 0.5


def whole_curve(path: Path) -> EntropyCurve | None:
    """A curve that was kept, or None where there is none that is whole."""
    dataset = load_whole(path)
    return None if dataset is None else EntropyCurve.from_dataset(dataset)


def kept_arrays(folder: Path | None) -> "Parts[Mapping[str, np.ndarray]]":
    """Parts that are arrays by name."""

    def read(path: Path) -> Mapping[str, np.ndarray] | None:
        kept = read_kept(path)
        return None if kept is None else kept.tensors

    return Parts(folder, ".safetensors", read, lambda arrays, path: write_kept(path, arrays, {}))


@dataclasses.dataclass(frozen=True)
class Parts(Generic[T]):
    """Files of finished parts in one folder, each named by everything that its numbers follow from.

    Attributes:
        folder: where they lie; None keeps nothing.
        suffix: of the files.
        read: path -> part, or None where there is none that is whole; a file that is not whole is a warning.
        write: (part, path); writes aside and renames.
    """

    folder: Path | None
    suffix: str
    read: Callable[[Path], T | None]
    write: Callable[[T, Path], None]

    def load(self, name: str) -> T | None:
        """A finished part, or None where there is none that is whole."""
        return None if self.folder is None else self.read(self._path(name))

    def each(
        self, names: Sequence[str], compute: Compute[T], progress: Progress | None = None
    ) -> Iterator[T]:
        """Every part, in order: from its file where there is one, else computed and kept.

        Where several processes share the work, the first one decides which parts are there, and writes.

        Args:
            names: of the parts.
            compute: computes one of them.
            progress: called while parts are computed.

        Raises:
            ValueError: when a part that the first process sees is not there for another one.
        """
        there = agreed(lambda: [self.load(name) is not None for name in names], len(names))
        for number, (name, is_there) in enumerate(zip(names, there, strict=True)):
            part = self.load(name) if is_there else None
            if is_there and part is None:
                raise ValueError(f"every process must see {self.folder}: name a folder that they share")
            ours = share(progress, number, len(names))
            if part is None:
                programs.drop_if_many()
                part = compute(number, ours)
                if self.folder is not None and jax.process_index() == 0:
                    self.write(part, self._path(name))
            if ours is not None:
                ours(1, 1)
            yield part

    def divided(self, names: Sequence[str], compute: Compute[T], progress: Progress | None = None) -> list[T]:
        """Every part, in order, as `each`; several processes divide those that are missing among themselves.

        Each process writes the parts that it computed, and reads the others, so that all must share the folder. It
        waits for the others' files, not in a collective operation, which has a time limit.

        Args:
            names: of the parts.
            compute: as for `each`; it must not wait for other processes.
            progress: called while this process computes.

        Raises:
            ValueError: when several processes have no folder.
        """
        if jax.process_count() > 1:
            there = agreed(lambda: [self.load(name) is not None for name in names], len(names))
            missing = [number for number, is_there in enumerate(there) if not is_there]
            mine = missing[jax.process_index() :: jax.process_count()]
            self._compute(mine, names, compute, progress)
            while not all(self._path(names[number]).exists() for number in missing):
                time.sleep(POLL_SECONDS)
            progress = None
        return list(self.each(names, compute, progress))

    def _compute(
        self,
        numbers: Sequence[int],
        names: Sequence[str],
        compute: Callable[[int, Progress | None], T],
        progress: Progress | None,
    ) -> None:
        """Compute and write some of the parts."""
        for rank, number in enumerate(numbers):
            programs.drop_if_many()
            with alone():
                part = compute(number, share(progress, rank, len(numbers)))
            self.write(part, self._path(names[number]))

    def _path(self, name: str) -> Path:
        """Where a part lies."""
        if self.folder is None:
            raise ValueError("several processes need a folder that they share")
        return self.folder / f"{name}{self.suffix}"

    def remove(self) -> None:
        """Remove the folder, once the whole result is written."""
        if self.folder is not None and jax.process_index() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
