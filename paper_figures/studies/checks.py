"""Checks that several studies make of what a person hands in."""

from gmm.checks import check_values

GIB = 2**30


def check_sampling(samples: int, seed: int) -> None:
    """Raise ValueError unless a sampled curve can be made: two samples or more, and a seed that JAX takes."""
    check_values("samples", samples, ">= 2", lambda count: count >= 2)
    check_values("seed", seed, "in 0..2^63-1", lambda number: (number >= 0) & (number < 2**63))


def check_memory_limit(gib: float) -> None:
    """Raise ValueError unless the largest amount of memory, in GiB, is a positive number."""
    check_values("memory_limit", gib, "positive, in GiB", lambda size: size > 0)
