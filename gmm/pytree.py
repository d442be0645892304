"""Immutable values as JAX pytrees whose constructors validate.

JAX rebuilds pytrees with tracers, placeholders and batched leaves inside, so rebuilding must skip the checks
that a call of the constructor makes.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")
C = TypeVar("C", bound=type)


def set_fields(self: object, **fields: Any) -> None:
    """Set fields of an immutable value, from its own constructor."""
    for name, value in fields.items():
        object.__setattr__(self, name, value)


def build(cls: type[T], **fields: Any) -> T:
    """A value of `cls` from its fields, without its constructor's checks."""
    self = object.__new__(cls)
    set_fields(self, **fields)
    return self


def pytree(*names: str) -> Callable[[C], C]:
    """Class decorator: immutable, with a short repr, and a pytree of the fields `names`."""

    def refuse(self: object, name: str, _value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: build a new one instead of setting {name}")

    def describe(self: object) -> str:
        fields = ", ".join(f"{name}: {np.shape(getattr(self, name))}" for name in names)
        return f"{type(self).__name__}({fields})"

    def flatten(self: object) -> tuple[tuple[tuple[Any, Any], ...], None]:
        return tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names), None

    def register(cls: C) -> C:
        cls.__setattr__ = refuse  # type: ignore[method-assign, assignment]
        if cls.__repr__ is object.__repr__:
            cls.__repr__ = describe  # type: ignore[method-assign, assignment]
        unflatten = lambda _, leaves: build(cls, **dict(zip(names, leaves, strict=True)))
        jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
        return cls

    return register
