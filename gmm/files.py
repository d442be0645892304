"""Writing results so that a file is never incomplete, even if the writer is killed."""

import contextlib
import functools
import os
import socket
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
_MARK = ".partial-"
_MOMENT = 60.0
"""Seconds between the making of a temporary file and its lock, at the very most."""


@contextlib.contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, else removed.

    The temporary file is in the same folder, because only a rename within one file system is atomic. Those of
    processes that were killed are removed by the next process that writes into the folder.

    Raises:
        ValueError: when the folder cannot be created or written, `path` is a folder, or the disk is full.
    """
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"cannot write {target}: it is a folder; name a file in it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target.parent)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.name}{_MARK}", suffix=target.suffix, dir=target.parent
        )
    except OSError as error:
        raise ValueError(f"cannot write {target}: {error.strerror}; name a folder you can write") from error
    aside = Path(name)
    try:
        with _locked(handle):
            yield aside
            with aside.open("rb+") as written:
                os.fsync(written.fileno())
        # mkstemp makes private files; a result gets the permissions of any new file.
        mask = os.umask(0)
        os.umask(mask)
        aside.chmod(0o666 & ~mask)
        aside.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ValueError(
                f"cannot write {target}: {error.strerror or error}; free some space and run the same command again"
            ) from error
        raise


def write_whole(path: str | os.PathLike[str], contents: bytes | memoryview) -> None:
    """Write a file in one piece, aside and then renamed; errors as `write_aside`."""
    with write_aside(path) as aside:
        aside.write_bytes(contents)


def damaged(path: str | os.PathLike[str]) -> None:
    """Warn that a kept part is not whole."""
    warnings.warn(f"{os.fspath(path)} is damaged or of another version; it is computed again", stacklevel=3)


@contextlib.contextmanager
def alone_in(folder: Path | None) -> Iterator[None]:
    """Hold a folder's lock, so that two processes do not compute the same parts; wait for another one that holds it.

    The lock is the file `LOCK` in the folder, which names its owner. It ends with the process, whatever ends that.

    Args:
        folder: created if missing; None locks nothing.
    """
    if folder is None or fcntl is None:
        yield
        return
    was_there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _own_lock(folder, fcntl)
    except OSError as error:
        raise ValueError(f"cannot write {folder}: {error.strerror}; name a folder you can write") from error
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        os.close(handle)
        if not was_there:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def _own_lock(folder: Path, fcntl: Any) -> int:
    """An open, locked file. Its last owner may have removed the folder meanwhile: then it is made again."""
    while True:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 100, 0).decode("ascii", "replace").strip()
            warnings.warn(
                f"{owner or 'another process'} is at work in {folder}; waiting until it is done", stacklevel=5
            )
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # no locks on this file system
            return handle
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), (folder / LOCK).stat()):
                os.truncate(handle, 0)
                os.pwrite(
                    handle, f"process {os.getpid()} on {socket.gethostname()}".encode("ascii", "replace"), 0
                )
                return handle
        os.close(handle)
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _locked(handle: int) -> Iterator[None]:
    """Hold a lock on an open file, which ends with the process whatever ends it."""
    if fcntl is None:  # an open file cannot be renamed there
        os.close(handle)
        yield
        return
    try:
        with contextlib.suppress(OSError):  # no locks on this file system
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@functools.cache
def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of dead processes: those that are not new and not locked."""
    if fcntl is None:
        return
    for aside in folder.glob(f".*{_MARK}*"):
        with contextlib.suppress(OSError):
            handle = os.open(aside, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - os.fstat(handle).st_mtime > _MOMENT:
                    aside.unlink()
            finally:
                os.close(handle)
