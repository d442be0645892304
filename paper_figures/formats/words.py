"""Words for people: lists of values as they type them, and lengths of time and lists as they read them."""

import difflib
import math
import re
from collections.abc import Collection, Sequence


def words(
    argument: str, given: Sequence[str], allowed: Collection[str] | None = None, *, unique: bool = True
) -> list[str]:
    """The words of a list, commas taken as separators, in the order given.

    Args:
        argument: its name, for messages.
        given: one or more texts.
        allowed: the known words; None allows any.
        unique: whether to leave out what has come before.

    Raises:
        ValueError: on an empty or unknown word; the message offers the nearest known one.
    """
    separated = [word.strip() for text in given for word in text.split(",")]
    if "" in separated:
        raise ValueError(f"{argument} must list names, got an empty one in {' '.join(given)!r}")
    for word in separated:
        if allowed is not None and word not in allowed:
            raise ValueError(f"{argument} must list known names, got {word!r}{_nearest(word, allowed)}")
    return list(dict.fromkeys(separated)) if unique else separated


def numbers(argument: str, given: Sequence[str]) -> list[float]:
    """The finite numbers of a list, ``1e3`` and commas understood, in the order given, each as often as it comes.

    Raises:
        ValueError: naming the word that is no finite number.
    """
    return [_number(argument, word) for word in words(argument, given, unique=False)]


def integers(argument: str, given: Sequence[str]) -> list[int]:
    """The whole numbers of a list, as `numbers`; ``1e6`` is one.

    Raises:
        ValueError: naming the word that is not a whole number.
    """
    return [_integer(argument, word) for word in words(argument, given, unique=False)]


def tree_shape(argument: str, text: str, least: int = 2) -> tuple[int, ...]:
    """Children of each node, level by level, of a text such as "2x5x10".

    Raises:
        ValueError: when it is none, or a level has fewer than `least`.
    """
    parts = text.split("x")
    if not all(part.isdecimal() and int(part) >= least for part in parts):
        raise ValueError(
            f"{argument} must list shapes such as 2x5x10, whole numbers >= {least}, got {text!r}"
        )
    return tuple(map(int, parts))


def _number(argument: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{argument} must list finite numbers such as 8 or 1e3, got {word!r}")
    return value


def _integer(argument: str, word: str) -> int:
    # Digits first: a float cannot hold every integer beyond 2^53.
    if re.fullmatch(r"[+-]?\d+", word):
        return int(word)
    value = _number(argument, word)
    if not value.is_integer():
        raise ValueError(f"{argument} must list whole numbers such as 8 or 1e3, got {word!r}")
    return int(value)


def _nearest(word: str, allowed: Collection[str]) -> str:
    close = difflib.get_close_matches(word, allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} known: {', '.join(allowed)}"


def shortened(names: Sequence[str], most: int = 10) -> str:
    """Names separated by commas; of many only the first, and how many more there are."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


def duration(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 1:
        return "less than a second"
    for limit, size, unit in ((100, 1, "s"), (100 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}" if size < 3600 else f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"


def slug(text: str, other: str = "") -> str:
    """Letters, digits and full stops of a text, with a dash for every run of other signs; `other` if none is left."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or other
