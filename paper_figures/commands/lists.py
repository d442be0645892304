"""Commands whose options take several values (``--classes 3 8``) and whose errors name options.

The command-line library supports only the repeated form of an option, ``--classes 3 --classes 8``, so a `Command`
rewrites the other forms into it. Errors from below the commands name arguments, as a notebook needs them; here, and
nowhere else, they get the spelling of the command line.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from typer.core import TyperCommand

from paper_figures import compiled_programs

# "-8", "-.5e3" and "- a cat" are values; "-x" and "--x=a b" are options.
_OPTION = re.compile(r"-(?![\d.])[^\s=]+(=.*)?", re.DOTALL)


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
        if _OPTION.fullmatch(argument):
            name, equals, _ = argument.partition("=")
            current, waiting = (name if name in options else None), not equals
        elif current and not waiting:
            repeated.append(current)
        else:
            waiting = False
        repeated.append(argument)
    return repeated


def spelled(message: str, options: Mapping[str, str]) -> str:
    """An error's message with arguments in the spelling of their options.

    A message names an argument in its first words ("samples must be at least 2") or between backticks.

    Args:
        message: the message.
        options: name of an argument -> spelling of its option.
    """
    for name, option in options.items():
        message = re.sub(rf"^{name}(?= must )|`{name}`", option, message)
    return message


class Command(TyperCommand):
    """A command whose ``list`` options take several values after them, and whose errors name its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        several = {name for option in self._options() if option.multiple for name in option.opts}
        return super().parse_args(ctx, spread(args, several))

    def invoke(self, ctx: Any) -> Any:
        try:
            self._refuse_what_is_no_text(ctx.params)
            with compiled_programs.kept():
                return super().invoke(ctx)
        except ValueError as error:
            options = {option.name: option.opts[0] for option in self._options()}
            error.args = (spelled(str(error), options),)
            raise

    def _refuse_what_is_no_text(self, given: Mapping[str, Any]) -> None:
        """Refuse bytes that are no text, before any work: no result could record them. Paths may hold any bytes."""
        for name, value in given.items():
            for text in value if isinstance(value, list | tuple) else [value]:
                if isinstance(text, str) and not text.isascii():
                    from gmm.checks import check_text  # it imports JAX

                    check_text(name, text)

    def _options(self) -> list[Any]:
        return [parameter for parameter in self.params if parameter.param_type_name == "option"]
