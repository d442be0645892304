"""Checks that several studies make of what a person hands in."""

from gmm.checks import check_values, choose

GIB = 2**30


def check_sampling(samples: int, seed: int, dtype: str, **levels: int) -> None:
    """Raise ValueError unless a sampled curve can be made.

    Args:
        samples: two or more.
        seed: one that JAX takes.
        dtype: "float32" or "float64".
        **levels: number of noise levels, under the name that a person gives it; enough for a window and a maximum.
    """
    choose("dtype", dtype, ("float32", "float64"))
    for name, count in levels.items():
        check_values(name, count, ">= 16 for a window and a maximum", lambda count: count >= 16)
    check_values("samples", samples, ">= 2", lambda count: count >= 2)
    check_values("seed", seed, "in 0..2^63-1", lambda number: (number >= 0) & (number < 2**63))


def check_memory_limit(gib: float) -> None:
    """Raise ValueError unless the largest amount of memory, in GiB, is a positive number."""
    check_values("memory_limit", gib, "positive, in GiB", lambda size: size > 0)
