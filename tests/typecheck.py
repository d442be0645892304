"""Run-time checks of array annotations: `pytest --typecheck`.

Functions are held to what their signatures say about JAX arrays: floating or integer, and axes of one name of
one length, across arguments and result. What a person may hand in (annotated as array-like, or no array at all)
stays unchecked here: the functions themselves refuse it, in words that the tests hold them to.
"""

import types
import typing
from typing import Any

import jax
import numpy as np
from beartype import beartype
from jaxtyping import AbstractArray, Bool, Float, Int, Shaped


def _is_array(annotation: Any) -> bool:
    return (
        isinstance(annotation, type)
        and issubclass(annotation, AbstractArray)
        and annotation.array_type is jax.Array
        and annotation.dtype in (Bool, Float, Int, Shaped)  # random keys are refused in words
    )


def _loosened(annotation: Any) -> Any:
    """Arrays of JAX or NumPy where JAX's are asked for, None where it is allowed; anything for anything else."""
    if _is_array(annotation):
        return annotation | annotation.dtype[np.ndarray, annotation.dim_str]
    parts = typing.get_args(annotation)
    if parts and all(part is types.NoneType or _is_array(part) for part in parts):
        union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
        return typing.Union[tuple(map(_loosened, parts))] if union else annotation  # noqa: UP007
    return None if annotation in (None, types.NoneType) else Any


def check_arrays(function: Any) -> Any:
    """The typechecker for jaxtyping's import hook."""
    function.__annotations__ = {name: _loosened(a) for name, a in function.__annotations__.items()}
    return beartype(function)
