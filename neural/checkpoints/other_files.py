"""Files that are often found in the place of weights, by their first bytes."""

_LFS = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml")


def other_kind(start: bytes) -> str | None:
    """What a file is instead of weights or a configuration, with the way to the right one; None if nothing known.

    Args:
        start: its first bytes, some hundred.
    """
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_LFS):
        return "a Git LFS pointer, which stands for the real file; run `git lfs pull` in its repository, or download it"
    if text.startswith(_PAGES):
        return "an HTML page, probably the login page of a server; download the file itself"
    if start.startswith(b"GGUF"):
        return "a GGUF file, whose weights are quantised; take the safetensors file of the same model"
    if start.startswith((b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!")):
        return "a compressed archive; unpack it first"
    return None
