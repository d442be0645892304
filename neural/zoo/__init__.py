"""Small trained networks that ship with the project, each with a card that names the command that made it."""

from pathlib import Path

ZOO = {
    "tree": "MLP on a mixture of eight Gaussian classes in a binary tree, 64 dimensions",
    "digits": "EDM2 network on scikit-learn's digits, 8x8",
    "fashion": "EDM2 network on Fashion-MNIST, 28x28",
}


def path(name: str) -> Path:
    """The file of a network of the zoo.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in ZOO:
        raise ValueError(f"zoo has {', '.join(ZOO)}; got {name!r}")
    return Path(__file__).with_name(f"{name}.safetensors")
