"""Names and hashes of the files that a result comes from, by which another machine finds them; no paths."""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from neural.checkpoints import hub


def portable(source: str | os.PathLike[str]) -> str:
    """A name or a path as it was given, of an absolute path the last part only."""
    path = Path(source)
    return path.name if path.is_absolute() else os.fspath(source)


def hashes(paths: Sequence[Path]) -> dict[str, str]:
    """The sha256 of every file, and of every file in a folder, by name; the recorded one where there is one.

    Files of a folder are named by their path in it.
    """
    return {
        name: hub.recorded(file) or _sha256(file, file.stat().st_mtime_ns) for name, file in _files(paths)
    }


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix != ".sha256")
            yield from ((file.relative_to(path).as_posix(), file) for file in inside)
        else:
            yield path.name, path


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, _changed: int) -> str:
    return hub.sha256(path)
