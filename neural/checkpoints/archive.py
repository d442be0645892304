"""The zip archives that torch writes: entries lie uncompressed, so an archive is a table of views.

Nothing is inflated. Values that are written twice in an entry's headers must agree, entries must not overlap, and the
checksum of an entry is verified when the entry is read.
"""

import dataclasses
import itertools
import struct
import zlib
from collections.abc import Mapping

from neural.checkpoints.checkpoint import CheckpointError, Cursor, quoted

MAX_ENTRIES = 100_000

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED = 1
_ZIP64_FIELD = 1


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of the archive: its bytes and their checksum; 0 where the writer has computed none, as torch may."""

    data: memoryview
    crc: int

    def checked(self) -> memoryview:
        """The bytes, after a check of their checksum."""
        if self.crc and zlib.crc32(self.data) != self.crc:
            raise CheckpointError("an entry of the archive has the wrong checksum; the file is damaged")
        return self.data


def read_archive(buffer: memoryview) -> Mapping[str, Entry]:
    """The entries of a zip archive by name.

    Raises:
        CheckpointError: when the archive is cut short, contradicts itself, is compressed or encrypted, or
            has entries that overlap or share a name.
    """
    count, start, size = _directory(buffer)
    if count > MAX_ENTRIES:
        raise CheckpointError(f"an archive of {count} entries; at most {MAX_ENTRIES} are read")
    cursor = Cursor(_part(buffer, start, size, "the directory"))
    entries: dict[str, Entry] = {}
    spans = [(start, start + size)]
    for _ in range(count):
        name, entry, span = _entry(buffer, cursor)
        if name in entries:
            raise CheckpointError(f"the archive has two entries named {quoted(name)}")
        entries[name] = entry
        spans.append(span)
    if cursor.left:
        raise CheckpointError(f"the archive's directory goes on after its {count} entries")
    spans.sort()
    if any(end > begin for (_, end), (begin, _) in itertools.pairwise(spans)):
        raise CheckpointError("entries of the archive overlap")
    return entries


def _part(buffer: memoryview, start: int, size: int, what: str) -> memoryview:
    if start + size > len(buffer):
        raise CheckpointError(f"{what} of the archive lies outside the file; it is cut short or damaged")
    return buffer[start : start + size]


def _directory(buffer: memoryview) -> tuple[int, int, int]:
    """Number of entries, and start and size of the central directory."""
    end = len(buffer) - _END.size
    # torch writes no comment, so the record stands at the very end.
    if end < 0 or bytes(buffer[end : end + 4]) != b"PK\5\6":
        raise CheckpointError("the archive has no directory at its end; the file is cut short")
    _, disk, first, here, count, size, start, comment = _END.unpack(buffer[end:])
    if disk or first or comment or here != count:
        raise CheckpointError("an archive in several volumes or with a comment")
    if _FULL16 in (count,) or _FULL32 in (size, start):
        count, start, size = _directory64(buffer, end - _LOCATOR.size)
    return count, start, size


def _directory64(buffer: memoryview, at: int) -> tuple[int, int, int]:
    if at < 0:
        raise CheckpointError("the archive's directory is cut short")
    mark, _, where, _ = _LOCATOR.unpack(buffer[at : at + _LOCATOR.size])
    record = _part(buffer, where, _END64.size, "the directory")
    mark64, _, _, _, _, _, here, count, size, start = _END64.unpack(record)
    if mark != b"PK\6\7" or mark64 != b"PK\6\6" or here != count:
        raise CheckpointError("the archive's directory is damaged")
    return count, start, size


def _entry(buffer: memoryview, cursor: Cursor) -> tuple[str, Entry, tuple[int, int]]:
    """Name and contents of the next entry of the directory, and the bytes that it takes in the file."""
    mark, *_, flags, method, _, _, crc, packed, size, name_size, extra, comment, _, _, _, at = cursor.unpack(
        _ENTRY
    )
    name = bytes(cursor.take(name_size))
    packed, size, at = _wide(Cursor(cursor.take(extra)), [size, packed, at])
    cursor.take(comment)
    if mark != b"PK\1\2":
        raise CheckpointError("the archive's directory is damaged")
    if method or flags & _ENCRYPTED or packed != size:
        raise CheckpointError(f"entry {name[:80]!a} of the archive is compressed or encrypted")
    local = _part(buffer, at, _LOCAL.size, "an entry")
    mark, _, _, method, _, _, _, _, _, local_name, local_extra = _LOCAL.unpack(local)
    begin = at + _LOCAL.size + local_name + local_extra
    again = _part(buffer, at + _LOCAL.size, local_name, "a name")
    if mark != b"PK\3\4" or method or bytes(again) != name:
        raise CheckpointError(f"entry {name[:80]!a} of the archive contradicts the directory")
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError("a name in the archive is not UTF-8") from error
    return text, Entry(_part(buffer, begin, size, "an entry"), crc), (at, begin + size)


def _wide(extra: Cursor, sizes: list[int]) -> tuple[int, int, int]:
    """Packed size, size and position, those that do not fit 32 bits from the entry's extra field."""
    while extra.left >= 4:
        kind, length = extra.number(2), extra.number(2)
        field = Cursor(extra.take(length))
        if kind == _ZIP64_FIELD:
            sizes = [field.number(8) if value == _FULL32 else value for value in sizes]
    size, packed, at = sizes
    return packed, size, at
