"""Reading files from outside: regular files only, of a size that is known before anything is read.

A pipe or a device would block or never end. Sizes that a file declares are not trusted.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_outside(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, opened to read bytes.

    Raises:
        ValueError: when it does not exist, is no regular file or cannot be opened.
    """
    name = os.fspath(path)
    try:
        # Opening a pipe that nobody writes to would wait without O_NONBLOCK; regular files ignore it.
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise ValueError(f"no such file: {name}") from error
    except OSError as error:
        raise ValueError(f"cannot read {name}: {error.strerror}") from error
    except ValueError as error:  # a null character, a lone surrogate
        raise ValueError(f"no such file: {name!a}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"cannot read {name}: it is a folder, a pipe or a device, not a regular file")
    return os.fdopen(descriptor, "rb")


def read_outside(path: str | os.PathLike[str], most: int) -> bytes:
    """The contents of a regular file.

    Args:
        path: the file.
        most: bytes that such a file may have.

    Raises:
        ValueError: as `open_outside`, and when the file is larger.
    """
    with open_outside(path) as file:
        # A read of a large limit takes that much memory at once.
        contents = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)
    if len(contents) > most:
        raise ValueError(
            f"cannot read {os.fspath(path)}: such a file must have at most {most} bytes, and this one has more"
        )
    return contents


def read_text(path: str | os.PathLike[str], most: int) -> str:
    """The contents of a regular file of UTF-8 text; errors as `read_outside`."""
    try:
        return read_outside(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{Path(path)}: text must be UTF-8: {error}") from error
