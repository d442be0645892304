"""A limit on the compiled programs that one process holds.

JAX keeps every program that it compiles, some megabytes each, as long as the process lives. Work on many shapes, such
as a sweep of a thousand dimensions, would fill the memory with programs that are never used again.
"""

import collections

import jax

MOST = 64
"""Programs after which those of finished work are dropped: some 300 MB."""

_COMPILATION = "/jax/core/compile/backend_compile_duration"
_held: collections.Counter[str] = collections.Counter()


def drop_if_many(most: int = MOST) -> None:
    """Drop all compiled programs of this process once more than `most` were compiled since the last time.

    A program that is used again is compiled again, so this belongs between parts of work that are long beside that.
    """
    if _held[_COMPILATION] > most:
        _held.clear()
        jax.clear_caches()


def _count(event: str, duration_secs: float, **kwargs: str | int) -> None:  # noqa: ARG001
    if event == _COMPILATION:
        _held[event] += 1


jax.monitoring.register_event_duration_secs_listener(_count)
