"""Options that take several values: ``--classes 3 8``, ``--dims 1e3,1e5``, ``--process vp --process edm``.

The command-line library knows only the repeated form, so a `ListCommand` rewrites the other forms into it.
A command declares such an option as ``list[str]`` and turns what comes into values with `words`, `numbers`
or `integers`, which own the error messages.
"""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from typer.core import TyperCommand

# "-8" and "-.5e3" are values; "-x" and "--x" are options.
_OPTION = re.compile(r"-(?![\d.])")


def spread(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """Repeat a list option before each further value: ``--classes 3 8`` -> ``--classes 3 --classes 8``.

    Args:
        arguments: the command line.
        options: the spellings of the options that take several values.

    Returns:
        The command line in repeated form. What follows ``--`` is left alone.
    """
    repeated: list[str] = []
    current, waiting = None, False
    for position, argument in enumerate(arguments):
        if argument == "--":
            return repeated + list(arguments[position:])
        if _OPTION.match(argument):
            name, equals, _ = argument.partition("=")
            current, waiting = (name if name in options else None), not equals
        elif current and not waiting:
            repeated.append(current)
        else:
            waiting = False
        repeated.append(argument)
    return repeated


class ListCommand(TyperCommand):
    """A command whose ``list`` options take several values after them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = {name for option in self.params if _repeats(option) for name in option.opts}
        return super().parse_args(ctx, spread(args, options))


def _repeats(parameter: Any) -> bool:
    return parameter.param_type_name == "option" and parameter.multiple


def words(option: str, given: Sequence[str], allowed: Collection[str] | None = None) -> list[str]:
    """Values of a list option, commas split, each once and in the order given.

    Args:
        option: its spelling, for messages.
        given: what came from the command line.
        allowed: the known names; None allows any.

    Raises:
        ValueError: on an empty or unknown name; the message offers the nearest known one.
    """
    found = [part.strip() for value in given for part in value.split(",")]
    if "" in found:
        raise ValueError(f"{option} must list names, got an empty one in {' '.join(given)!r}")
    for name in found if allowed is not None else ():
        if name not in (allowed or ()):
            raise ValueError(f"{option} does not know {name!r}{_nearest(name, allowed or ())}")
    return _once(found)


def numbers(option: str, given: Sequence[str]) -> list[float]:
    """Finite numbers of a list option, ``1e3`` and commas understood, each once and in the order given.

    Raises:
        ValueError: naming the value that is not a finite number.
    """
    return _once(_number(option, word) for word in words(option, given))


def integers(option: str, given: Sequence[str]) -> list[int]:
    """Whole numbers of a list option; ``1e6`` is one.

    Raises:
        ValueError: naming the value that is not a whole number.
    """
    return _once(_integer(option, word) for word in words(option, given))


def _number(option: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{option} must list finite numbers such as 8 or 1e3, got {word!r}")
    return value


def _integer(option: str, word: str) -> int:
    # Digits first: a float cannot hold every integer beyond 2^53.
    if re.fullmatch(r"[+-]?\d+", word):
        return int(word)
    value = _number(option, word)
    if not value.is_integer():
        raise ValueError(f"{option} must list whole numbers such as 8 or 1e3, got {word!r}")
    return int(value)


def _nearest(name: str, allowed: Collection[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} known: {', '.join(allowed)}"


def _once(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
