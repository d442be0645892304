"""Independent work on every device of this host, or of all hosts that have joined.

After `jax.distributed.initialize` (called before anything else) `jax.devices()` lists the devices of all hosts;
nothing else changes. See docs/how-to/scaling.md.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Int

T = TypeVar("T")
AXIS = "devices"
_alone: contextvars.ContextVar[bool] = contextvars.ContextVar("alone", default=False)


def over_devices(
    work: Callable[..., T], combine: Callable[[T], T], numbers: Int[Array, "b s"], shared: object
) -> T:
    """The result of `work(shared, numbers)` with the rows of `numbers` distributed over all devices.

    Args:
        work: (shared, rows of numbers) -> pytree; pure, and the same for any split of the rows up to how
            its results combine.
        combine: merges results stacked over devices (leading axis) into one.
        numbers: (b, s) work items; b is a multiple of the number of devices (see `rows_for`).
        shared: pytree that is copied to every device.
    """
    count = jax.device_count()
    if count == 1:
        return work(shared, numbers)
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))

    def on_one(shared: object, rows: Int[Array, "r s"]) -> T:
        return jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, AXIS), work(shared, rows))

    everywhere = PartitionSpec()
    specs = {"in_specs": (everywhere, PartitionSpec(AXIS)), "out_specs": everywhere}
    # The gathered results are the same on every device, which the checker cannot see through a scan.
    return combine(jax.shard_map(on_one, mesh=mesh, check_vma=False, **specs)(shared, numbers))


def rows_for(items: int, most: int) -> Int[Array, "b s"]:
    """Numbers 0.. of at least `items` work items, in rows of at most `most`, equally many rows for each device."""
    count = jax.device_count()
    rows = -(-items // (most * count)) * count
    size = -(-items // rows)
    return jnp.arange(rows * size).reshape(rows, size)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within, this process computes whole results by itself: the work is divided among processes already."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def sharing() -> int:
    """How many processes share one result: all that have joined, or one within `alone`."""
    return 1 if _alone.get() else jax.process_count()


def of_every_host(tree: T) -> T:
    """The arrays of every process, stacked along a new first axis in the order of the processes; the same on each.

    Args:
        tree: pytree of NumPy arrays of real numbers, of the same shapes on every process; returned as float64.
    """
    leaves, structure = jax.tree.flatten(tree)
    flat = np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in leaves])
    if jax.process_count() == 1:
        rows = flat[None]
    else:
        from jax.experimental import multihost_utils

        # As words of 32 bits, because JAX may be restricted to them.
        words = np.asarray(multihost_utils.process_allgather(flat.view(np.uint32)))
        rows = words.view(np.float64)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
    parts = np.split(rows, ends, axis=1)
    stacked = [part.reshape(-1, *np.shape(leaf)) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, stacked)


def agreed(flags: Callable[[], Sequence[bool]], count: int = 1) -> list[bool]:
    """The flags of the first process, on every process: with different flags, processes would wait for each other.

    Args:
        flags: computes the flags, for instance from files; called by the first process only.
        count: how many flags it returns.

    Raises:
        ValueError: on every process, when `flags` raises one on the first.
    """
    if jax.process_count() == 1:
        return list(flags())
    from jax.experimental import multihost_utils

    answers, refusal = [0] * count, ValueError("the first process raised an error; see its message")
    if jax.process_index() == 0:
        try:
            answers = list(map(int, flags()))
        except ValueError as error:
            answers, refusal = [-1] * count, error
    answers = np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(answers, np.int32)))
    if (answers < 0).any():
        raise refusal
    return answers.astype(bool).tolist()
