"""The loop: optax on any task, in blocks of steps that are one program, with states that can be kept.

Every step draws its random numbers from its own number, so that a run that was stopped and resumed gives the
numbers of one that was not.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jaxtyping import Array, Float, Int, PRNGKeyArray

from neural import checkpoints
from neural.progress import Progress

Params = dict[str, Array]


class Task(Protocol):
    """What is learned from what; a pytree of its data.

    Attributes:
        scans: whether many steps run best as one program.
    """

    scans: ClassVar[bool]

    def initial(self, key: PRNGKeyArray) -> Params:
        """Weights to start from."""
        ...

    def loss(self, params: Params, key: PRNGKeyArray, batch: int) -> Float[Array, ""]:
        """The loss on a batch drawn with `key`."""
        ...

    def project(self, params: Params) -> Params:
        """Weights as they should be after a step."""
        ...


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        steps: optimiser steps.
        batch: samples per step.
        learning_rate: peak of the schedule: a linear rise over the first twentieth, then a cosine to zero.
        ema_std: width of the power-function average of the weights, relative to the training so far
            (Karras et al. 2024, eq. 127).
        seed: of everything random.
    """

    steps: int
    batch: int = 256
    learning_rate: float = 2e-3
    ema_std: float = 0.05
    seed: int = 0

    def schedule(self) -> optax.Schedule:
        """Learning rate by step."""
        warmup = max(1, self.steps // 20)
        return optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, warmup, self.steps)

    def optimiser(self) -> optax.GradientTransformation:
        """Adam with the second moment's memory that suits short runs (EDM2's)."""
        return optax.adam(self.schedule(), b1=0.9, b2=0.99)

    def ema_exponent(self) -> float:
        """γ of the average with weights ∝ t^γ whose standard deviation is `ema_std` of the time passed."""
        width = lambda g: (g + 1) ** 0.5 / ((g + 2) * (g + 3) ** 0.5) - self.ema_std
        return float(scipy.optimize.brentq(width, 0.0, 1e6))  # type: ignore[arg-type]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["step", "params", "ema", "moments"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class TrainingState:
    """The state of a run: everything that the next step depends on.

    Attributes:
        step: steps taken.
        params: weights.
        ema: their average, which is the result.
        moments: the optimiser's state.
    """

    step: Int[Array, ""]
    params: Params
    ema: Params
    moments: Any


def start(task: Task, recipe: Recipe) -> TrainingState:
    """The state before the first step."""
    params = task.project(task.initial(jax.random.fold_in(jax.random.key(recipe.seed), 0)))
    return TrainingState(jnp.zeros((), jnp.int32), params, params, recipe.optimiser().init(params))


@functools.partial(jax.jit, static_argnames=("recipe",))
def one_step(task: Task, state: TrainingState, *, recipe: Recipe) -> tuple[TrainingState, Array]:
    """The next state, and the loss of the step."""
    number = state.step + 1
    key = jax.random.fold_in(jax.random.key(recipe.seed), number)
    loss, gradient = jax.value_and_grad(task.loss)(state.params, key, recipe.batch)
    updates, moments = recipe.optimiser().update(gradient, state.moments, state.params)
    params = task.project(optax.apply_updates(state.params, updates))  # type: ignore[arg-type]
    kept = (1 - 1 / number) ** (recipe.ema_exponent() + 1)
    ema = jax.tree.map(lambda a, b: a * kept + b * (1 - kept), state.ema, params)
    return TrainingState(number, params, ema, moments), loss.astype(jnp.float32)


@functools.partial(jax.jit, static_argnames=("recipe", "count"))
def _scanned(task: Task, state: TrainingState, *, recipe: Recipe, count: int) -> tuple[TrainingState, Array]:
    step = lambda state, _: one_step(task, state, recipe=recipe)
    return jax.lax.scan(step, state, None, length=count)


def advance(
    task: Task, state: TrainingState, recipe: Recipe, count: int
) -> tuple[TrainingState, Float[np.ndarray, " count"]]:
    """`count` steps; also the loss of each.

    One program if the task allows it (`scans`); on a CPU, convolutions run three times slower inside a loop of XLA's.
    """
    if task.scans:
        state, losses = _scanned(task, state, recipe=recipe, count=count)
        return state, np.asarray(losses)
    losses = []
    for _ in range(count):
        state, loss = one_step(task, state, recipe=recipe)
        losses.append(loss)
    return state, np.asarray(losses)


SAVE_SECONDS = 30.0  # how much work a kill can cost


def train(
    task: Task,
    recipe: Recipe,
    *,
    kept: Path | None = None,
    describe: Mapping[str, Any] | None = None,
    block: int = 100,
    progress: Progress | None = None,
) -> tuple[TrainingState, Float[np.ndarray, " steps"]]:
    """Train a task to the end of its recipe.

    Args:
        task: what is learned.
        recipe: how.
        kept: file of the run's state, written every half minute and when the run stops for any reason that
            lets it; a run whose file is there goes on from it, with the numbers that it would have had.
        describe: what the run is (data, sizes), as JSON; a kept state of another run is refused.
        block: steps of one program.
        progress: called with (steps done, total) after every block.

    Returns:
        The final state and the loss of every step.

    Raises:
        ValueError: when the kept state is another run's, or a loss is not finite.
    """
    facts = {**(describe or {}), "recipe": dataclasses.asdict(recipe)}
    state, losses = _resumed(kept, start(task, recipe), facts)
    saved = time.monotonic()
    try:
        while len(losses) < recipe.steps:
            state, block_losses = advance(task, state, recipe, min(block, recipe.steps - len(losses)))
            losses = np.append(losses, block_losses)
            if not np.isfinite(losses[-1]):
                raise ValueError(
                    f"the loss is not finite after {len(losses)} steps; lower the learning rate "
                    f"({recipe.learning_rate:g})"
                )
            if kept and time.monotonic() - saved > SAVE_SECONDS:
                keep(kept, state, losses, facts)
                saved = time.monotonic()
            if progress is not None:
                progress(len(losses), recipe.steps)
    finally:
        if kept and len(losses) == int(state.step) and np.isfinite(losses).all():
            keep(kept, state, losses, facts)
    return state, losses


def keep(path: Path, state: TrainingState, losses: np.ndarray, facts: Mapping[str, Any]) -> None:
    """Write a state: aside first, then renamed, so that a kill leaves the previous one."""
    tensors = {"losses": losses, **{name: np.asarray(leaf) for name, leaf in _named(state)}}
    checkpoints.write_kept(path, tensors, {"run": dict(facts)})


def _resumed(
    path: Path | None, fresh: TrainingState, facts: Mapping[str, Any]
) -> tuple[TrainingState, np.ndarray]:
    checkpoint = None if path is None else checkpoints.read_kept(path)
    if checkpoint is None:
        return fresh, np.zeros(0, np.float32)
    recorded, wanted = checkpoint.attributes.get("run"), json.loads(json.dumps(facts))
    if recorded != wanted:
        raise ValueError(f"{path} holds another run: {_difference(recorded, wanted)}; choose another folder")
    leaves = []
    for name, leaf in _named(fresh):
        tensor = checkpoint.tensors.get(name)
        if tensor is None or tensor.shape != leaf.shape:
            shape = None if tensor is None else tensor.shape
            raise ValueError(f"{path} does not fit: {name} must have shape {leaf.shape}, got {shape}")
        leaves.append(jnp.asarray(np.array(tensor), leaf.dtype))
    state = jax.tree.unflatten(jax.tree.structure(fresh), leaves)
    return state, np.array(checkpoint.tensors["losses"])


def _named(state: TrainingState) -> list[tuple[str, Array]]:
    return [
        (jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    ]


def _difference(recorded: Any, wanted: Mapping[str, Any]) -> str:
    if not isinstance(recorded, dict):
        return "it does not describe its run"
    for key in sorted(recorded.keys() | wanted.keys()):
        if isinstance(recorded.get(key), dict) and isinstance(wanted.get(key), dict):
            if recorded[key] != wanted[key]:
                return f"{key}: " + _difference(recorded[key], wanted[key])
        elif recorded.get(key) != wanted.get(key):
            return f"{key} is {recorded.get(key)!r} there, {wanted.get(key)!r} here"
    return "nothing"
