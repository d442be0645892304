"""Checks of the arguments that networks of several kinds share: noise levels and class indices."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gmm.checks import as_float, check_detached, check_shape, check_values
from gmm.process import EDM, edm
from neural.arithmetic import wide

NO_CLASS = -1
"""The label of no class: the null condition, or the zero label."""


class ClassLabels:
    """What networks of class labels share: EDM's forward process, and conditions 0..C-1."""

    config: Any

    @property
    def process(self) -> EDM:
        """The forward process: α = 1, σ = t."""
        return edm()

    @property
    def conditions(self) -> tuple[int, ...]:
        """Every class index; empty for an unconditional network."""
        return tuple(range(self.config.label_dim))


def noise_levels(t: Any) -> Float[Array, "..."]:
    """Noise standard deviations of any shape as an array of at least float32.

    Raises:
        ValueError: when one is not positive and finite.
    """
    check_detached("t", t)
    check_values("t", t, "a positive noise standard deviation", lambda a: (a > 0) & np.isfinite(a))
    # Half precision is widened before any arithmetic; integers become the default float.
    levels = as_float(t)
    return levels.astype(wide(levels.dtype))


def noise_level_of_each(t: Any, n: int) -> Float[Array, " n"]:
    """The noise level of each of n states, given for each or once for all.

    Raises:
        ValueError: for another shape, or a level that is not positive and finite.
    """
    check_shape("t", t, f"() or ({n},)", [(), (n,)])
    return jnp.broadcast_to(noise_levels(t), (n,))


def label_of_each(condition: Any, classes: int, n: int) -> Int[Array, " n"]:
    """The class of each of n states, given for each or once for all; None is no class.

    Raises:
        ValueError: for another shape, or a class that does not exist.
    """
    label = _labels("condition", NO_CLASS if condition is None else condition, classes)
    check_shape("condition", label, f"() or ({n},)", [(), (n,)])
    return jnp.broadcast_to(label, (n,))


def labels_of_all(conditions: Any, classes: int) -> Int[Array, " k"]:
    """(K,) classes, K >= 1, under each of which every state is denoised.

    Raises:
        ValueError: for another shape, or a class that does not exist.
    """
    labels = _labels("conditions", conditions, classes)
    if labels.ndim != 1 or not labels.size:
        raise ValueError(f"conditions must have shape (K,), K >= 1, got {labels.shape}")
    return labels


def _labels(name: str, labels: Any, classes: int) -> Int[Array, "..."]:
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"{name} must be integers (class indices, -1 for no class), got {labels.dtype}")
    allowed = f"a class index 0..{classes - 1} or -1 for no class"
    allowed = allowed if classes else "-1: this network has no classes"
    check_values(name, labels, allowed, lambda a: (a >= NO_CLASS) & (a < classes))
    return labels
