"""Options declared as fields of a dataclass, so that several commands share them and each is spelled once.

typer reads the options of a command from the parameters of a function. Here a function may also take a dataclass whose
fields are declared by `option`, or annotated as typer's parameters are; `expanded` puts one parameter for each field
in its place.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer


def option(default: Any, text: str, *names: str, metavar: str | None = None, least: int | None = None) -> Any:
    """A field of a dataclass that is an option of the command line.

    Args:
        default: the value where the option is not given; ``...`` for an option that must be given. A list is copied.
        text: the help, one or two sentences.
        names: spelling of the option; by default the field's name with hyphens.
        metavar: what the help shows for the value; by default all values of a choice, and nothing for a flag.
        least: smallest number allowed.
    """
    metadata = {"option": functools.partial(typer.Option, *names, metavar=metavar, help=text, min=least)}
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=dataclasses.MISSING if default is ... else default, metadata=metadata)


def expanded(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with one parameter for each field of the dataclasses that it takes, in the same order.

    Args:
        command: a function of named arguments; those whose type is a dataclass are groups of options.
    """
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            groups[parameter.name] = kind
            types = get_type_hints(kind, include_extras=True)
            parameters += [_parameter(field, types[field.name]) for field in dataclasses.fields(kind)]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def with_groups(**given: Any) -> Any:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
            for name, kind in groups.items()
        }
        return command(**given, **made)

    with_groups.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    return with_groups


def values(*groups: Any) -> dict[str, Any]:
    """The values of all options of some groups, by name."""
    return {field.name: getattr(group, field.name) for group in groups for field in dataclasses.fields(group)}


def _parameter(field: dataclasses.Field[Any], kind: Any) -> inspect.Parameter:
    """The parameter that typer reads for one field of a group."""
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    declared = field.metadata.get("option")
    if declared is not None:
        choices = _choices(kind)
        how = {"metavar": "|".join(choices)} if choices and declared.keywords["metavar"] is None else {}
        # A flag is given its name, because typer adds the opposite, --no-NAME, otherwise.
        names = [f"--{field.name.replace('_', '-')}"] if kind is bool and not declared.args else []
        kind = Annotated[kind, declared(*names, **how)]
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is dataclasses.MISSING else default,
        annotation=kind,
    )


def _choices(kind: Any) -> tuple[str, ...]:
    """The values of a Literal, or of a Literal that may be None; empty for other types."""
    literals = [part for part in (kind, *get_args(kind)) if get_origin(part) is Literal]
    return get_args(literals[0]) if literals else ()
