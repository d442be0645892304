"""Published checkpoints: the same tensors by another route, and refusal of what is hostile or broken."""

import os
import pickle
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import neural
from neural.checkpoints import read_safetensors, write_safetensors

DATA = Path(__file__).parents[1] / "data" / "edm2"
TINY = DATA / "tiny.pkl"
# Mutations of the good file with a fixed seed.
MUTATIONS, CUTS = 150, 80


def test_pickle_and_safetensors_hold_the_same_tensors():
    """The safetensors beside the pickle were written from it by the format's own library."""
    ours = neural.read_torch_pickle(TINY).tensors
    theirs = read_safetensors(DATA / "tiny.safetensors").tensors
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        np.testing.assert_array_equal(np.asarray(tensor, np.float64), np.asarray(theirs[name], np.float64))


def test_safetensors_return_what_was_written(tmp_path):
    checkpoint = neural.read_torch_pickle(TINY)
    attributes = {"init_kwargs": checkpoint.attributes["init_kwargs"]}
    write_safetensors(tmp_path / "x.safetensors", checkpoint.tensors, attributes)
    again = read_safetensors(tmp_path / "x.safetensors")
    assert again.attributes["init_kwargs"] == checkpoint.attributes["init_kwargs"]
    for name, tensor in checkpoint.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor)


def test_networks_of_both_formats_agree():
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 16, 16, 4)))
    pickled, safe = (neural.load_edm2(DATA / f"tiny.{suffix}") for suffix in ("pkl", "safetensors"))
    assert pickled.unconditional is not None
    first, second = (model.denoise(x, 0.5, np.array([1, 2])) for model in (pickled, safe))
    np.testing.assert_array_equal(first, second)


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "function", [os.system, eval, exec, __import__, getattr, os.remove, sys.exit], ids=lambda f: f.__name__
)
def test_calls_are_refused_and_not_made(tmp_path, function, protocol):
    victim = tmp_path / "victim"
    victim.touch()
    argument = {os.system: f"rm {victim}", os.remove: str(victim)}.get(function, "1")
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"ema": Call(function, argument)}, protocol))
    with pytest.raises(neural.CheckpointError):
        neural.read_torch_pickle(path)
    assert victim.exists()


def test_every_mutation_is_read_or_refused(tmp_path):
    """Nothing but `CheckpointError` leaves the reader, whatever bytes it is given."""
    good, path = TINY.read_bytes(), tmp_path / "x.pkl"
    rng = np.random.default_rng(0)
    for _ in range(MUTATIONS):
        bad = bytearray(good)
        # The stream's own bytes are few beside those of the tensors: most changes near both ends.
        places = rng.integers(0, 20_000, 4) if rng.random() < 0.5 else -rng.integers(1, 20_000, 4)
        for place in places:
            bad[place] = rng.integers(256)
        _read_or_refuse(path, bytes(bad))
    for cut in rng.integers(0, len(good), CUTS):
        path.write_bytes(good[:cut])
        with pytest.raises(neural.CheckpointError):
            neural.read_torch_pickle(path)


def _read_or_refuse(path, content):
    path.write_bytes(content)
    try:
        neural.read_torch_pickle(path)
    except neural.CheckpointError as error:
        assert "\n" not in str(error)  # noqa: PT017
