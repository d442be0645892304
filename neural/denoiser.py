"""The protocol of networks, ``denoise(x, t, condition) -> E[x_0 | x_t, condition]``, and functions on it.

Samplers, estimators and guidance take a `Denoiser`: a process, the conditions, and one function. Four more attributes
are used where they exist::

    state_shape                        shape of one state; else the caller passes `shape=`
    unconditional                      a denoiser whose condition None stands for the law without a condition
    denoise_classes(x, t, conditions)  (n, K, ...): one state under many conditions, with shared work done once
    encode(conditions)                 arrays that `denoise` takes in the conditions' place: a pytree with one leading
                                       axis K. Needed where conditions are not integers (prompts), because a traced
                                       program cannot select among words

A denoiser that is a JAX pytree is compiled once for all its weights. The arrays of any other object become constants
of the compiled program.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from gmm.checks import check_values
from gmm.mixture import Mixture, denoise
from gmm.process import Process
from gmm.pytree import pytree, set_fields
from neural.arithmetic import wide
from neural.predictions import check_prediction, to_x0

State = Float[Array, "n ..."]
Conditions = Any  # what `encode` returns: a pytree of arrays (K, ...), integers (K,) in the simplest case


@runtime_checkable
class Denoiser(Protocol):
    """The protocol; see the docstring of the module."""

    @property
    def process(self) -> Process:
        """The forward process."""
        ...

    @property
    def conditions(self) -> Sequence[Any]:
        """The possible conditions; empty for an unconditional network."""
        ...

    def denoise(self, x: State, t: Any, condition: Any = None) -> State:
        """E[x_0 | x_t, condition].

        Args:
            x: (n, ...) noisy states.
            t: () time of the process.
            condition: one for the whole batch, or one for each state (leading axis n); encoded. None stands for the
                law without a condition, where the denoiser supports it.
        """
        ...


# ------------------------------------------------------------------------------------------------ denoisers


@pytree("mixture", "process")
class MixtureDenoiser:
    """The exact denoiser of a Gaussian mixture, which a perfectly trained network equals.

    Attributes:
        mixture: law of x_0; conditions are its components.
        process: forward process.
    """

    mixture: Mixture
    process: Process

    def __init__(self, mixture: Mixture, process: Process) -> None:
        set_fields(self, mixture=mixture, process=process)

    @property
    def conditions(self) -> range:
        """Component indices."""
        return range(self.mixture.components)

    @property
    def state_shape(self) -> tuple[int]:
        """(d,)."""
        return (self.mixture.dim,)

    @property
    def dtype(self) -> jnp.dtype:
        """Floating type of the mixture."""
        return self.mixture.dtype

    @property
    def unconditional(self) -> "MixtureDenoiser":
        """The denoiser itself: condition None stands for the whole mixture, with the mixture's own weights."""
        return self

    def denoise(self, x: State, t: Any, condition: Any = None) -> State:
        """E[x_0 | x_t, component], or E[x_0 | x_t] for condition None; see `gmm.denoise`."""
        return denoise(self.mixture, self.process, x, t, condition)

    def denoise_classes(self, x: State, t: Any, conditions: Int[Array, " K"]) -> Float[Array, "n K d"]:
        """E[x_0 | x_t, component] of every state under each of K components."""
        given_class = functools.partial(denoise, self.mixture, self.process, x, t)
        return jax.vmap(given_class, out_axes=1)(jnp.asarray(conditions))


def mixture_denoiser(mixture: Mixture, process: Process) -> MixtureDenoiser:
    """The exact denoiser of `mixture` under `process`; conditions are component indices."""
    return MixtureDenoiser(mixture, process)


@dataclasses.dataclass(frozen=True, eq=False)
class FunctionDenoiser:
    """A function as a denoiser; made by `from_function`."""

    function: Callable[..., Any]
    process: Process
    conditions: tuple[int, ...]
    state_shape: tuple[int, ...]
    traceable: bool
    has_unconditional: bool
    prediction: str = "x0"
    data_range: tuple[float, float] | None = None
    sigma_data: float = 0.5

    @property
    def unconditional(self) -> "FunctionDenoiser | None":
        """The denoiser itself, if the function takes condition None."""
        return self if self.has_unconditional else None

    def denoise(self, x: State, t: Any, condition: Any = None) -> State:
        """E[x_0 | x_t, condition]; through a callback to the host where JAX cannot trace the function."""
        return self.to_x0(x, t, self.output(x, t, condition))

    def to_x0(self, x: State, t: Any, output: State) -> State:
        """E[x_0 | x_t, condition] from the function's output."""
        denoised = to_x0(self.prediction, self.process, x, t, output, self.sigma_data)
        return denoised if self.data_range is None else jnp.clip(denoised, *self.data_range)

    def output(self, x: State, t: Any, condition: Any = None) -> State:
        """The function's own output."""
        if self.traceable:
            try:
                return self.function(x, t, condition)
            except _UNTRACEABLE as error:
                raise ValueError(
                    "JAX cannot trace the denoiser's function; pass traceable=False, and it is called with NumPy arrays"
                ) from error
        arguments = (x, t) if condition is None else (x, t, condition)
        result = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(
            self._on_host, result, *map(jnp.asarray, arguments), vmap_method="sequential"
        )

    def _on_host(self, x: Any, t: Any, condition: Any = None) -> np.ndarray:
        condition = None if condition is None else np.asarray(condition)
        output = np.asarray(self.function(np.asarray(x), np.asarray(t), condition))
        if output.shape != x.shape:
            raise ValueError(
                f"the denoiser's function must return the shape of x, {x.shape}; got {output.shape}"
            )
        return output.astype(x.dtype)


_UNTRACEABLE = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.ConcretizationTypeError,
)


def from_function(
    function: Callable[..., Any],
    process: Process,
    conditions: Sequence[int],
    state_shape: Sequence[int],
    *,
    traceable: bool = True,
    unconditional: bool = False,
    prediction: str = "x0",
    data_range: tuple[float, float] | None = None,
    sigma_data: float = 0.5,
) -> FunctionDenoiser:
    """A denoiser from a function (x, t, condition) -> prediction.

    Args:
        function: called with x (n, *state_shape), t () and an integer, or n integers, of `conditions`; must
            return an array like x.
        process: forward process with the time t.
        conditions: integers that the function takes; for words, their numbers in a list.
        state_shape: shape of one state.
        traceable: False for functions that JAX cannot trace (torch, plain NumPy). They are called with NumPy arrays
            on the host, once per step; this is slower, since states travel and the devices wait.
        unconditional: whether the function takes condition None for the law without a condition.
        prediction: what the function returns: "x0" (E[x_0 | x_t] itself), "eps", "v", "velocity" or "F"; formulas
            in `neural.predictions`.
        data_range: (low, high) to clip E[x_0 | x_t] to, or None. Clipping removes values that no data have, such as
            those of an eps-network at much noise; the result is then no longer a posterior mean near the ends.
        sigma_data: standard deviation of the data in EDM's preconditioning, for "F".

    Raises:
        ValueError: when conditions are not integers, the shape is not one, process is none, or prediction or
            data_range is not allowed.
    """
    check_prediction(prediction, process, data_range, sigma_data)
    shape = check_conditions(conditions, state_shape)
    return FunctionDenoiser(
        function,
        process,
        tuple(conditions),
        shape,
        traceable,
        unconditional,
        prediction,
        data_range,
        sigma_data,
    )


def check_conditions(conditions: Sequence[int], state_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one state as integers; raises ValueError unless conditions are integers and sizes positive."""
    check_values("conditions", np.asarray(conditions), "integers", _whole)
    shape = tuple(int(size) for size in state_shape)
    check_values("state_shape", np.asarray(shape, int), "positive sizes", lambda a: a > 0)
    return shape


def _whole(values: np.ndarray) -> np.ndarray:
    return np.full(values.shape, np.issubdtype(values.dtype, np.integer) or not values.size)


# ------------------------------------------------------------------------------- functions on any denoiser


def state_shape(denoiser: Denoiser, shape: Sequence[int] | None = None) -> tuple[int, ...]:
    """Shape of one state: `shape` where the caller passes it, else the denoiser's own `state_shape`.

    Raises:
        ValueError: when there is neither.
    """
    sizes = getattr(denoiser, "state_shape", None) if shape is None else shape
    if sizes is None:
        raise ValueError(
            f"shape must be given: {type(denoiser).__name__} has no `state_shape`; pass shape=(...), that of one state"
        )
    return tuple(int(size) for size in sizes)


def state_dtype(denoiser: Denoiser) -> jnp.dtype:
    """Floating type of states: the denoiser's own `dtype`, at least float32, else JAX's default."""
    dtype = getattr(denoiser, "dtype", None)
    return jnp.dtype(jnp.result_type(float) if dtype is None else wide(jnp.dtype(dtype)))


def encode(denoiser: Denoiser, conditions: Sequence[Any]) -> Conditions:
    """Conditions as arrays with leading axis K, by the denoiser's own `encode` where it has one.

    Raises:
        ValueError: when there are none, one is unknown, or they are not integers and the denoiser cannot encode.
    """
    # A text is one condition, not as many as it has letters.
    conditions = [conditions] if isinstance(conditions, str) else list(conditions)
    if not conditions:
        raise ValueError("conditions must name at least one condition, got none")
    encoder = getattr(denoiser, "encode", None)
    if encoder is not None:
        return encoder(conditions)
    array = np.asarray(conditions)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"conditions must be integers for {type(denoiser).__name__}, got {conditions[0]!r}; "
            "a denoiser with other conditions needs a method `encode`"
        )
    known = np.asarray(denoiser.conditions)
    check_values(
        "conditions", array, f"among the denoiser's {len(known)} conditions", lambda a: np.isin(a, known)
    )
    return jnp.asarray(array)


def denoise_each(
    denoiser: Denoiser, x: State, t: Any, conditions: Conditions, at_once: int | None = None
) -> Float[Array, "n K ..."]:
    """E[x_0 | x_t, c] of every state under each of K encoded conditions.

    Args:
        denoiser: any denoiser.
        x: (n, ...) noisy states.
        t: () time.
        conditions: encoded, leading axis K.
        at_once: number of conditions in one call of `denoise_classes`; None for all. Without that method every
            condition is a call of its own.
    """
    shared = getattr(denoiser, "denoise_classes", None)
    count = len(jax.tree.leaves(conditions)[0])
    if shared is None:
        by_condition = jax.lax.map(lambda condition: denoiser.denoise(x, t, condition), conditions)
        return jnp.moveaxis(by_condition, 0, 1)
    if at_once is None or at_once >= count:
        return shared(x, t, conditions)
    blocks = -(-count // at_once)
    number = jnp.minimum(jnp.arange(blocks * at_once), count - 1).reshape(blocks, at_once)

    def block(index: Array) -> Array:
        return shared(x, t, jax.tree.map(lambda leaf: leaf[index], conditions))

    by_condition = jnp.moveaxis(jax.lax.map(block, number), 0, 1)
    return by_condition.reshape(x.shape[0], blocks * at_once, *x.shape[1:])[:, :count]


# ----------------------------------------------------------------------------- denoisers as arguments of jit


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class _Opaque:
    """An object that is not a pytree, wrapped as a pytree without leaves; equal only to itself."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Opaque) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def as_pytree(denoiser: Any) -> Any:
    """`denoiser` if it is a pytree, else a wrapper that jitted functions accept; `from_pytree` is the inverse."""
    return _Opaque(denoiser) if jax.tree_util.all_leaves([denoiser]) else denoiser


def from_pytree(wrapped: Any) -> Any:
    """The object that `as_pytree` was called with."""
    return wrapped.value if isinstance(wrapped, _Opaque) else wrapped


def as_partial(denoiser: Any) -> Partial:
    """`denoiser.denoise` as a pytree of the denoiser's arrays; without leaves where the denoiser is not a pytree."""
    if jax.tree_util.all_leaves([denoiser]):
        return Partial(denoiser.denoise)
    return Partial(type(denoiser).denoise, denoiser)
