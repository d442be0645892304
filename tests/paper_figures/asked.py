"""What the tests of compare and window ask: small models through the code that real ones take."""

import numpy as np

from neural.checkpoints import read, write_safetensors
from paper_figures import cli

PAIR = "mixture:pair:2:4"
TREE = "mixture:tree:2x2:16"


def run(capsys, *arguments, code=0):
    """What a command prints, on standard output if it succeeds, else the one line on standard error."""
    assert cli.run([*map(str, arguments)]) == code
    captured = capsys.readouterr()
    if code:
        assert captured.err.startswith("speciation: ")
        assert captured.err.count("\n") == 1
    return captured.err if code else captured.out


def thousand_classes(folder, data):
    """The tiny pair with ImageNet's number of classes: the ten columns of the label embedding a hundred times."""
    held = read(data / "tiny.pkl")
    tensors = {name: np.array(tensor) for name, tensor in held.tensors.items()}
    tensors["unet.emb_label.weight"] = np.tile(tensors["unet.emb_label.weight"], 100)
    options = dict(held.attributes["init_kwargs"]) | {"label_dim": 1000}
    path = folder / "many.safetensors"
    write_safetensors(path, tensors, dict(held.attributes) | {"init_kwargs": options})
    return path
