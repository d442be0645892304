"""The training loop: resumed runs, kept states, refusals."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from neural.families import FamilySpec
from neural.training import Recipe, advance, mixture_plan, start, train
from neural.training.trainer import keep

PLAN = mixture_plan(FamilySpec("pair", 3, 2), Recipe(40, batch=16), depth=0)


@pytest.fixture(scope="module")
def straight():
    return train(PLAN.task, PLAN.recipe, block=10)


def _run(path, **changed):
    return train(PLAN.task, PLAN.recipe, kept=path, describe=PLAN.facts, block=10, **changed)


def test_the_loss_falls(straight):
    """On the same large batch before and after: losses of steps differ more by their noise than by training."""
    before, after = (
        float(PLAN.task.loss(params, jax.random.key(9), 4096))
        for params in (start(PLAN.task, PLAN.recipe).params, straight[0].ema)
    )
    assert after < before


def test_an_interrupted_run_goes_on_with_the_same_numbers(straight, tmp_path):
    kept = tmp_path / "state.safetensors"

    def interrupt(done, total):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(kept, progress=interrupt)
    steps = []
    state, losses = _run(kept, progress=lambda done, total: steps.append(done))
    assert steps == [30, 40]
    np.testing.assert_array_equal(losses, straight[1])
    for name, weight in straight[0].ema.items():
        np.testing.assert_array_equal(state.ema[name], weight)


def test_a_killed_write_leaves_the_state_before_it(straight, tmp_path, monkeypatch):
    kept = tmp_path / "state.safetensors"
    state, losses = advance(PLAN.task, start(PLAN.task, PLAN.recipe), PLAN.recipe, 10)
    facts = {**PLAN.facts, "recipe": dataclasses.asdict(PLAN.recipe)}
    keep(kept, state, losses, facts)

    def half_a_file(path, contents):
        path.write_text("half")
        raise SystemExit  # what a kill leaves: no clean-up of ours can be relied on after it

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", half_a_file)
        with pytest.raises(SystemExit):
            keep(kept, state, losses, facts)
    np.testing.assert_array_equal(_run(kept)[1], straight[1])


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "another"])
def test_a_damaged_state_is_not_used(damage, straight, tmp_path):
    kept = tmp_path / "state.safetensors"
    state, losses = advance(PLAN.task, start(PLAN.task, PLAN.recipe), PLAN.recipe, 10)
    keep(kept, state, losses, {**PLAN.facts, "recipe": dataclasses.asdict(PLAN.recipe)})
    contents = bytearray(kept.read_bytes())
    contents[-9] ^= 1
    damaged = {"flip": contents, "cut": contents[:-9], "empty": b"", "another": b"{}"}[damage]
    kept.write_bytes(damaged)
    with pytest.warns(
        UserWarning, match=r"state[.]safetensors is damaged or of another version; it is computed again"
    ):
        np.testing.assert_array_equal(_run(kept)[1], straight[1])


def test_a_finished_run_takes_no_step(straight, tmp_path):
    kept = tmp_path / "state.safetensors"
    _run(kept)
    steps = []
    _, losses = _run(kept, progress=lambda done, total: steps.append(done))
    assert not steps
    np.testing.assert_array_equal(losses, straight[1])


def test_another_runs_state_is_refused_with_what_differs(tmp_path):
    kept = tmp_path / "state.safetensors"
    facts = {**PLAN.facts, "recipe": dataclasses.asdict(PLAN.recipe)}
    keep(kept, start(PLAN.task, PLAN.recipe), np.zeros(0, np.float32), facts)
    other = mixture_plan(FamilySpec("pair", 5, 2), PLAN.recipe, depth=0)
    with pytest.raises(ValueError, match="holds another run: family: dim is 3 there, 5 here"):
        train(other.task, other.recipe, kept=kept, describe=other.facts)
    with pytest.raises(ValueError, match="recipe: seed is 0 there, 1 here"):
        train(PLAN.task, dataclasses.replace(PLAN.recipe, seed=1), kept=kept, describe=PLAN.facts)
    # A file that claims to be this run and is not.
    keep(kept, start(other.task, other.recipe), np.zeros(0, np.float32), facts)
    with pytest.raises(ValueError, match=r"must have shape \(3, 3, 3\), got \(3, 3, 5\)"):
        _run(kept)


def test_a_loss_that_is_not_finite_stops_the_run():
    wild = dataclasses.replace(PLAN.recipe, learning_rate=1e30)
    with pytest.raises(ValueError, match=r"not finite after \d+ steps; lower the learning rate"):
        train(PLAN.task, wild, block=10)


def test_the_average_has_the_width_that_was_asked_for():
    for std in (0.05, 0.1, 0.2):
        g = Recipe(1, ema_std=std).ema_exponent()
        # Moments of the density (g+1) t^g on [0, 1], by quadrature.
        t = (np.arange(200_000) + 0.5) / 200_000
        weight = (g + 1) * t**g / 200_000
        mean = (weight * t).sum()
        assert np.isclose(np.sqrt((weight * (t - mean) ** 2).sum()), std, rtol=1e-4)


def test_the_average_is_that_of_the_weights_passed():
    recipe = dataclasses.replace(PLAN.recipe, steps=5, ema_std=0.2)
    state, passed = start(PLAN.task, recipe), []
    for _ in range(5):
        state, _ = advance(PLAN.task, state, recipe, 1)
        passed.append(np.asarray(state.params["affine.shift"]))
    kept = [(1 - 1 / t) ** (recipe.ema_exponent() + 1) for t in range(1, 6)]
    weights = [(1 - kept[i]) * np.prod(kept[i + 1 :]) for i in range(5)]
    expected = sum(w * p for w, p in zip(weights, passed, strict=True))
    np.testing.assert_allclose(state.ema["affine.shift"], expected, rtol=1e-6, atol=1e-9)


def test_batches_differ_from_step_to_step_and_not_from_run_to_run():
    keys = [jax.random.fold_in(jax.random.key(0), n) for n in (1, 2)]
    losses = [float(PLAN.task.loss(start(PLAN.task, PLAN.recipe).params, key, 16)) for key in keys]
    assert losses[0] != losses[1]
