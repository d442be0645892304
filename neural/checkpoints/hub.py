"""Fetching published weights: resumed after an interruption, checked, and recorded by their sha256.

No checksums are published for these files, so the first fetch records what it got, as ``FILE.sha256`` beside
the file, in the format of sha256sum; from then on the file must match.
"""

import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import IO, Any

from gmm.files import write_aside
from neural.checkpoints.checkpoint import CheckpointError
from neural.checkpoints.formats import read
from neural.checkpoints.presets import Published

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TIMEOUT = 30.0
"""Seconds for one packet."""
OPENING = 120.0
"""Seconds until a server has answered, redirections included."""
GRACE, SLOWEST = 60.0, 1_000
"""After so many seconds, the fewest bytes a second."""
MAX_BYTES = 1 << 36
"""No published network is a tenth of this; a server that never ends must not fill the disk."""
_CHUNK = 1 << 20
_OUT_OF_RANGE = http.client.REQUESTED_RANGE_NOT_SATISFIABLE

DownloadProgress = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all, where the server says how many."""


def fetch(file: Published, progress: DownloadProgress | None = None) -> Path:
    """Bring one published file into the cache, unless it lies there already.

    The bytes go to ``FILE.part``, which a later fetch continues if the server still has the same file. Once it
    is complete and has been read as a checkpoint, its sha256 is recorded and it is renamed.

    Returns:
        Where it lies.

    Raises:
        ValueError: when the address cannot be reached, the transfer breaks off, what came is no checkpoint, or
            the file of an earlier fetch has changed.
    """
    path = file.path
    if path.exists():
        record(path, is_checkpoint=file.is_checkpoint)
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(part.parent):
            return _fetch(file, part, progress or _silent)
    except OSError as error:
        raise ValueError(f"cannot write {part}: {error.strerror or error}") from error


def _fetch(file: Published, part: Path, progress: DownloadProgress) -> Path:
    path = file.path
    # Another process may have brought it since this one looked.
    if path.exists():
        return path
    _complete(file, part, progress)
    try:
        digest = _accepted(file, part)
    except CheckpointError:
        # Continuing it would end in the same place.
        _discard(part)
        raise
    _write_record(path, digest)
    part.replace(path)
    _facts_path(part).unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: two that write to one part would make a file of the right length and wrong values.

    The lock is the system's, on the folder itself: nothing is left behind, whatever ends the process. Where
    there are no such locks (Windows, some network file systems) it is not held.

    Raises:
        ValueError: when another process holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another process is fetching into {folder}; wait until it is done") from error
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def _accepted(file: Published, part: Path) -> str:
    """The checksum of what came, once it is known to be what was asked for."""
    if file.is_checkpoint:
        read(part)
    digest = sha256(part)
    if file.sha256 is not None and digest != file.sha256:
        raise CheckpointError(
            f"what came as {file.name} has the sha256 {digest[:16]}..., published is {file.sha256[:16]}...; fetch again"
        )
    return digest


def sha256(path: Path) -> str:
    """The checksum of a file's contents, in hexadecimal."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def recorded(path: Path) -> str | None:
    """The checksum recorded beside a file; None if there is none.

    Raises:
        CheckpointError: when the record is not one.
    """
    beside = _record_path(path)
    if not beside.exists():
        return None
    words = beside.read_text(encoding="utf-8", errors="replace").split()
    if not words or len(words[0]) != 64 or set(words[0]) - set("0123456789abcdef"):
        raise CheckpointError(f"{beside} holds no sha256; remove it to record the file anew")
    return words[0]


def verify(path: Path) -> str | None:
    """Hold a file to its recorded checksum and return it; None if none is recorded.

    Raises:
        CheckpointError: when the file is not what was recorded.
    """
    expected = recorded(path)
    if expected is None:
        return None
    actual = sha256(path)
    if actual != expected:
        raise CheckpointError(
            f"{path} has changed since it was fetched: its sha256 is {actual[:16]}..., recorded was "
            f"{expected[:16]}...; remove it and fetch it again"
        )
    return actual


def record(path: Path, *, is_checkpoint: bool = True) -> None:
    """Hold a file to its recorded checksum, or, where none is recorded, read it and record what it has.

    Args:
        path: the file.
        is_checkpoint: whether it must be one.

    Raises:
        CheckpointError: when the file is not what was recorded, or no checkpoint.
    """
    if verify(path) is None:
        if is_checkpoint:
            read(path)
        _write_record(path, sha256(path))


def drop(path: Path) -> None:
    """Remove a file and its recorded checksum, if they are there."""
    path.unlink(missing_ok=True)
    _record_path(path).unlink(missing_ok=True)


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _write_record(path: Path, digest: str) -> None:
    with write_aside(_record_path(path)) as aside:
        aside.write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def _silent(done: int, total: int | None) -> None:
    pass


# The transfer. Beside FILE.part lies FILE.part.json: what the server said of the file that it is a part of.


def _facts_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _facts(part: Path) -> dict[str, Any]:
    try:
        facts = json.loads(_facts_path(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _facts_path(part).unlink(missing_ok=True)


def _complete(file: Published, part: Path, progress: DownloadProgress) -> None:
    """Make `part` the whole file, from where it is if the server still has the same one, else anew."""
    done, validator, total = _standing(file, part)
    if done and done == total:
        return None
    with _opened(file, {"Range": f"bytes={done}-", "If-Range": validator} if done else {}) as reply:
        if reply.status == http.client.OK:
            # The whole file: there is another one by now, or the server does not know ranges.
            done = 0
        elif not done or not _continues(reply, done, validator, total):
            _discard(part)
            if not done:
                raise ValueError(f"cannot fetch {file.address}: the server sends a part of a file, unasked")
            return _complete(file, part, progress)
        length = _number(reply.headers.get("Content-Length", ""))
        total = None if length is None else done + length
        _check_size(file, total or 0)
        facts = {"address": file.address, "validator": _validator(reply.headers), "total": total}
        with write_aside(_facts_path(part)) as aside:
            aside.write_text(json.dumps(facts), encoding="utf-8")
        with open(part, "ab" if done else "wb", opener=_through_no_link) as target:
            _copy(file, reply, target, done, total, progress)
    # Also notices another fetch that wrote to the same file meanwhile.
    size = part.stat().st_size
    if total is not None and size != total:
        if size > total:
            _discard(part)
        raise ValueError(_interrupted(file, size, total))
    return None


def _standing(file: Published, part: Path) -> tuple[int, str, int | None]:
    """Bytes of the part, and the validator and size of the file that it is a part of; a part of unknown origin goes."""
    facts = _facts(part)
    done = part.stat().st_size if part.exists() else 0
    validator: Any = facts.get("validator")
    total: Any = facts.get("total")
    known = isinstance(validator, str) and isinstance(total, int) and facts.get("address") == file.address
    if known and done <= total:
        return done, validator, total
    _discard(part)
    return 0, "", None


def _continues(reply: Any, done: int, validator: str, total: int | None) -> bool:
    """Whether a reply is the rest of the same file: the server's word for it is not enough."""
    place, _, whole = reply.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    return (
        reply.status == http.client.PARTIAL_CONTENT
        and _validator(reply.headers) == validator
        and _number(place.partition("-")[0]) == done
        and _number(whole) in (total, None)
    )


def _copy(
    file: Published, reply: Any, target: IO[bytes], done: int, total: int | None, progress: DownloadProgress
) -> None:
    chunk, before, started = b"", done, time.monotonic()
    while True:
        done += target.write(chunk)
        _check_size(file, done)
        progress(done, total)
        seconds = time.monotonic() - started
        if seconds > GRACE and done - before < SLOWEST * seconds:
            raise ValueError(
                f"{_interrupted(file, done, total)} (the server sent less than {SLOWEST} bytes a second)"
            )
        try:
            # What has come, not a whole chunk: a server that sends a byte now and then would hold it up for ever.
            chunk = reply.read1(_CHUNK)
        # A connection that is cut is an error of the socket or of the protocol; writing has errors of its own.
        except (http.client.HTTPException, OSError) as error:
            raise ValueError(_interrupted(file, done, total)) from error
        if not chunk:
            return


def _through_no_link(path: str, flags: int) -> int:
    # What lies under the part's name in a folder that others can write to may point anywhere.
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _check_size(file: Published, size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"{file.address} sends more than {MAX_BYTES} bytes, which is no network; given up")


def _interrupted(file: Published, done: int, total: int | None) -> str:
    of = f" of {total}" if total is not None else ""
    return (
        f"the transfer of {file.name} was interrupted after {done}{of} bytes; run the command again to go on"
    )


@contextlib.contextmanager
def _opened(file: Published, headers: dict[str, str]) -> Iterator[Any]:
    request = urllib.request.Request(file.address, headers={"User-Agent": "speciation", **headers})
    opener = urllib.request.build_opener(_NoDowngrade)
    try:
        reply = _within(OPENING, lambda: opener.open(request, timeout=TIMEOUT))
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError) and headers and error.code == _OUT_OF_RANGE:
            reply = error
        else:
            reason = getattr(error, "reason", None) or error
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise ValueError(
                f"cannot fetch {file.address}: {reason}; on a machine without network, get {file.name} elsewhere "
                f"and put it at {file.path}"
            ) from error
    with reply:
        yield reply


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """What a call returns or raises; TimeoutError when that takes longer. A socket's limit is for one packet."""
    outcome: concurrent.futures.Future = concurrent.futures.Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    # A thread of its own, which nobody waits for at the end of the process.
    threading.Thread(target=run, daemon=True).start()
    try:
        return outcome.result(timeout=seconds)
    except concurrent.futures.TimeoutError as error:
        if outcome.done():
            raise
        raise TimeoutError(f"no complete answer within {seconds:g} seconds") from error


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but not from an encrypted address to a plain one."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.type == "https" and urllib.parse.urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError(f"redirected to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _validator(headers: Message) -> str | None:
    """What If-Range may name: a strong entity tag, else the time of the last change."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")
