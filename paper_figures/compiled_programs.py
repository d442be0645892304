"""Compiled programs, kept in the user's cache folder from one command to the next.

JAX writes and reads them. What it leaves open is done here: a place for each kind of machine, since a program for one
processor may crash on another; a checksum for each file, since JAX neither writes them whole nor checks them; a limit
on their size. A folder that cannot be written or read is no error: the command compiles.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import stat
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_BYTES = 2**28
"""The programs of one machine; the oldest go first. A large command compiles some ten megabytes."""

_INDEX = "index.json"
_COMPLAINTS = ("Error reading persistent compilation cache", "Error writing persistent compilation cache")


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Let JAX keep what it compiles within this block, and find it again next time.

    Nothing happens where JAX is loaded already or the environment says where its cache is.
    """
    folder = None if _chosen_already() else _folder()
    if folder is None:
        yield
        return
    os.environ.update(_settings(folder))
    with _silent_about_the_cache() as complaints:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                _remember({} if complaints else _sums(folder), folder)


def _chosen_already() -> bool:
    return "jax" in sys.modules or any(
        name in os.environ for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
    )


def _settings(folder: Path) -> dict[str, str]:
    """JAX's variables, and Python's for the processes that a command starts."""
    quiet = [f"ignore:{start}" for start in _COMPLAINTS]
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONWARNINGS": ",".join([*filter(None, [os.environ.get("PYTHONWARNINGS")]), *quiet]),
    }


def _folder() -> Path | None:
    """The folder of this machine's programs, holding only files that are as they were written; None without one."""
    import platformdirs

    chosen = os.environ.get("SPECIATION_CACHE")
    try:
        place = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("speciation", False)
        folder = place / "compiled" / _machine()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            return None  # JAX runs what it finds there
        _remove_strangers(folder)
    except (OSError, RuntimeError):  # no home folder
        return None
    return folder


@functools.cache
def _machine() -> str:
    """A name for the processor's abilities and the releases that programs were compiled with."""
    abilities = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        abilities += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    releases = [importlib.metadata.version(name) for name in ("jax", "jaxlib")]
    return hashlib.sha256(json.dumps([abilities, releases]).encode()).hexdigest()[:16]


def _remove_strangers(folder: Path) -> None:
    """Remove every file whose checksum the index does not name: half written, damaged, or put there by others."""
    try:
        known = json.loads((folder / _INDEX).read_bytes())
    except (OSError, ValueError, RecursionError):
        known = {}
    known = known if isinstance(known, dict) else {}
    for name, checksum in _sums(folder).items():
        if checksum is None or known.get(name) != checksum:
            with contextlib.suppress(OSError):
                (folder / name).unlink()


def _sums(folder: Path) -> dict[str, int | None]:
    """File name -> CRC-32 of the newest programs, as many as the limit allows, and None for the others."""
    files = {}
    for path in folder.glob("*-cache"):
        with contextlib.suppress(OSError):
            files[path] = path.stat(follow_symlinks=False)
    sums: dict[str, int | None] = {}
    bytes_left = MOST_BYTES
    for path, facts in sorted(files.items(), key=lambda entry: entry[1].st_mtime, reverse=True):
        bytes_left -= facts.st_size
        sums[path.name] = None
        if bytes_left >= 0 and stat.S_ISREG(facts.st_mode):
            with contextlib.suppress(OSError):
                sums[path.name] = zlib.crc32(path.read_bytes())
    return sums


def _remember(sums: dict[str, int | None], folder: Path) -> None:
    """Write the index, aside and then renamed."""
    handle, aside = tempfile.mkstemp(prefix=_INDEX, dir=folder)
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(sums, file)
    Path(aside).replace(folder / _INDEX)


@contextlib.contextmanager
def _silent_about_the_cache() -> Iterator[list[str]]:
    """Collect JAX's warnings about its cache, which are nothing that a user must act on; show the others."""
    complaints: list[str] = []
    shown = warnings.showwarning

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        if str(message).startswith(_COMPLAINTS):
            complaints.append(str(message))
        else:
            shown(message, *rest, **more)

    warnings.showwarning = show
    try:
        yield complaints
    finally:
        warnings.showwarning = shown
