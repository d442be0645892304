"""Validation of arguments: done once, in constructors and in the functions that users call.

Under a JAX transformation values are unknown; then only shapes are checked and non-finite numbers pass
through, so that inner functions stay jit-able.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike

# How far rounding may move a class mean, in units of the within-class deviation and the distance to the next class:
# a hundredth changes an entropy by less than 1e-4 nat.
MOST_MOVED = 0.01


P = ParamSpec("P")
R = TypeVar("R")


def may_be_infinite(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, whose result or steps hold infinities by definition (log 0): `jax_debug_infs` does not stop it.

    A NaN in the result still stops it under `jax_debug_nans`.
    """

    @functools.wraps(function)
    def checked_for_nan_alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.debug_infs(False):
            return function(*args, **kwargs)

    return checked_for_nan_alone


def is_concrete(*values: object) -> bool:
    """Whether every value (arrays, numbers or pytrees of them) is known now, outside any JAX trace."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def as_float(value: ArrayLike) -> Array:
    """A JAX array of floating dtype; float64 input stays so where 64 bit is enabled.

    Integers become floats as Python's numbers do: a plain 1 must not promote float32 values beside it.
    """
    if not isinstance(value, jax.Array):
        # What is wrong with a value is said by name, by the checks that follow.
        with jax.debug_nans(False), jax.debug_infs(False):
            value = jnp.asarray(value)
    array = value
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    with jax.numpy_dtype_promotion("standard"):
        return array * 1.0


def common_dtype(*values: ArrayLike | jnp.dtype) -> jnp.dtype:
    """The dtype that holds all of `values`: promotion on purpose, which JAX's strict mode does not forbid here."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*values)


def check_finite(name: str, value: object, way_out: str = "") -> None:
    """Raise ValueError when a concrete `value` holds a NaN or an infinity."""
    if not is_concrete(value):
        return
    array = np.asarray(value)
    bad = ~np.isfinite(array)
    if bad.any():
        first = array[tuple(np.argwhere(bad)[0])] if array.ndim else array
        hint = f"; {way_out}" if way_out else ""
        raise ValueError(f"{name} must be finite, got {int(bad.sum())} value(s) like {first}{hint}")


def check_detached(name: str, value: object) -> None:
    """Raise ValueError for a tensor of torch that carries gradients, which JAX cannot follow."""
    if getattr(value, "requires_grad", False) is True:
        raise ValueError(
            f"{name} must carry no gradients of torch, got a tensor that does; pass {name}.detach()"
        )


def check_values(name: str, value: object, allowed: str, ok: Callable[[np.ndarray], np.ndarray]) -> None:
    """Raise ValueError naming the first concrete entry of `value` for which `ok` is false.

    Args:
        name: the argument, as the caller spells it.
        value: number or array.
        allowed: what is allowed, in words.
        ok: elementwise predicate on a NumPy array; NaN must give false.
    """
    if not is_concrete(value):
        return
    array = np.asarray(value)
    try:
        bad = ~np.asarray(ok(array), bool)
    except TypeError:  # text, or an object that has no order
        bad = np.ones(array.shape, bool)
    if bad.any():
        first = array[tuple(np.argwhere(bad)[0])] if array.ndim else array[()]
        raise ValueError(f"{name} must be {allowed}, got {first}")


def check_index(name: str, value: object, count: int, what: str) -> None:
    """Raise ValueError unless every concrete entry of `value` is a whole number 0..count-1, which counts `what`."""
    whole = lambda a: np.issubdtype(a.dtype, np.integer) & (a >= 0) & (a < count)
    check_values(name, value, f"{what} 0..{count - 1}", whole)


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raise ValueError unless `value` is a whole number of Python or NumPy that is at least `least`.

    A float is refused even where it is whole: sizes of arrays and static arguments of compiled programs must be
    integers.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least:  # type: ignore[operator]
        raise ValueError(f"{name} must be {'' if whole else 'a whole number '}>= {least}, got {value!r}")


def check_text(name: str, value: str) -> None:
    """Raise ValueError when a text holds half of a surrogate pair, which no file or encoding can hold."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} must be valid Unicode, got {value!a:.60}; it may have been read in another encoding"
        ) from error


def check_shape(name: str, value: object, allowed: str, shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise ValueError unless the shape of `value` is one of `shapes`, described by `allowed`."""
    shape = np.shape(value)  # type: ignore[arg-type]
    if shape not in shapes:
        raise ValueError(f"{name} must have shape {allowed}, got {shape}")


def check_rounding(name: str, means: np.ndarray, moved: np.ndarray, deviation: float, way_out: str) -> None:
    """Raise ValueError when rounding moves two classes against one another by more than `MOST_MOVED`.

    Args:
        name: the argument that holds the means, as the caller spells it.
        means: (K, d) exact class means.
        moved: (K, m) by what rounding moves each, in any frame.
        deviation: within-class standard deviation. Points, which have none, must be resolved beside their scatter.
        way_out: what to do instead.
    """
    scale = deviation or MOST_MOVED * math.sqrt(means.var(axis=0).sum())
    suspect = np.linalg.norm(moved, axis=1) > 0.5 * MOST_MOVED * scale
    for k in np.flatnonzero(suspect) if scale else ():
        distances, changes = (np.linalg.norm(rows - rows[k], axis=1) for rows in (means, moved))
        excess = np.where(distances > 0, changes - MOST_MOVED * (deviation + distances), 0)
        if excess.max() > 0:
            other = int(np.argmax(excess))
            raise ValueError(
                f"{name} must keep the distances between classes, got classes {k} and {other} at a distance of "
                f"{distances[other]:.3g} that rounding changes by up to {changes[other]:.2g}; {way_out}"
            )


def choose(name: str, value: str, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of `allowed`, else raise ValueError listing them."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    return value


def padded(values: np.ndarray, multiple: int = 256) -> np.ndarray:
    """Concrete values, flat and repeated up to a multiple of `multiple`, so that one compiled program has many uses."""
    return np.resize(values, -(-max(values.size, 1) // multiple) * multiple)
