"""Named NumPy arrays out of pickles, without executing anything: statistics that others published."""

import os
from collections.abc import Iterator, Mapping

import numpy as np

from neural.checkpoints import machine
from neural.checkpoints.checkpoint import CheckpointError, Cursor, map_file, quoted
from neural.checkpoints.machine import Budget
from neural.checkpoints.objects import STATE_DICT, ArrayShell

MAX_DEPTH = 4
MAX_ARRAYS = 1000


def read_array_pickle(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays and numbers of a pickled dictionary (of dictionaries), by dotted name, as copies.

    Raises:
        CheckpointError: when the file is no such pickle, uses anything but plain data, is cut short, or holds more
            than a thousand arrays or four levels.
    """
    mapped = map_file(path)
    try:
        cursor = Cursor(memoryview(mapped))
        contents = machine.run(cursor, STATE_DICT, Budget(len(mapped)))
        if cursor.left or type(contents) is not dict:
            raise CheckpointError("the file does not hold one pickled dictionary")
        return {
            name: np.array(value) for name, value in _named(contents, (), MAX_DEPTH, iter(range(MAX_ARRAYS)))
        }
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from error


def _named(
    contents: Mapping, path: tuple[str, ...], depth: int, places: Iterator[int]
) -> Iterator[tuple[str, np.ndarray | int | float]]:
    for key, value in contents.items():
        if depth == 0 or next(places, None) is None or type(key) is not str:
            raise CheckpointError(
                f"more than {MAX_ARRAYS} entries or {MAX_DEPTH} levels, or a name that is no text"
            )
        here = (*path, key)
        if type(value) is dict:
            yield from _named(value, here, depth - 1, places)
            continue
        number = value.array if isinstance(value, ArrayShell) else value
        if isinstance(number, np.ndarray | int | float):
            yield ".".join(here), number
        else:
            raise CheckpointError(
                f"{quoted('.'.join(here))} is {machine.kind(value)}, no array and no number"
            )
