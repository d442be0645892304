"""Writes trainer.ckpt with real torch: a state_dict amid what a trainer keeps.

    python tests/neural/data/trainer/make.py

PyTorch 2.13, NumPy 2.4. Lightning itself is not needed: its one class that such files name is put in its place.
"""

import argparse
import collections
import datetime
import pathlib
import sys
import types

import numpy as np
import torch


class ModelCheckpoint:
    """What Lightning's files name as a key of their callbacks."""

    __module__ = "pytorch_lightning.callbacks.model_checkpoint"


class Options(dict):
    """A dictionary of the trainer's own, with attributes, that holds itself."""

    def __init__(self) -> None:
        super().__init__(paths=argparse.Namespace(root=pathlib.PurePosixPath("/data")), pairs={(1, 2): 3})
        self.hidden, self.itself = {1, 2}, self


def main() -> None:
    """Train one step and save."""
    for name in ("", ".callbacks", ".callbacks.model_checkpoint"):
        sys.modules[f"pytorch_lightning{name}"] = types.ModuleType(f"pytorch_lightning{name}")
    sys.modules[ModelCheckpoint.__module__].ModelCheckpoint = ModelCheckpoint  # type: ignore[attr-defined]
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    best = {"best_model_score": torch.tensor(1.0), "best_model_path": "best.ckpt", "self": ModelCheckpoint()}
    contents = {
        "epoch": 3,
        "global_step": np.int64(470_000),
        "pytorch-lightning_version": "1.4.2",
        "state_dict": net.state_dict(),
        "callbacks": {ModelCheckpoint: best},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"dtype": torch.float32, "device": torch.device("cpu")}],
        "hyper_parameters": Options(),
        "history": collections.defaultdict(list, loss=[1.0]),
        "ended": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        "kinds": frozenset([1, (2, 3)]),
        "model": net,
        "random": np.random.default_rng(0).bit_generator.state,
    }
    torch.save(contents, pathlib.Path(__file__).with_name("trainer.ckpt"))
    np.savez(
        pathlib.Path(__file__).with_name("trainer.npz"), **{k: v.numpy() for k, v in net.state_dict().items()}
    )


if __name__ == "__main__":
    main()
