"""The 1000 classes of ImageNet (ILSVRC 2012) by index: names, spellings, and their groups in WordNet.

A class is a noun of WordNet 3.0 (Russakovsky et al. 2015, arXiv 1409.0575, section 3); models index the
classes in the order of their WordNet identifiers. Names are WordNet's, groups its "is a kind of" relation.
The tables beside this file are made by `neural.imagenet.build`; WordNet's licence is in ``WORDNET-LICENSE``.
"""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

CLASSES = 1000
CLASSES_FILE = Path(__file__).with_name("classes.tsv")
GROUPS_FILE = Path(__file__).with_name("groups.tsv")


class ImageNetClass(NamedTuple):
    """One class: WordNet identifier, a unique name, and every spelling in WordNet."""

    wnid: str
    name: str
    spellings: tuple[str, ...]


@functools.cache
def classes() -> tuple[ImageNetClass, ...]:
    """(1000,) classes in the order of their indices."""
    return tuple(
        ImageNetClass(wnid, name, tuple(spellings.split(", ")))
        for wnid, name, spellings in _rows(CLASSES_FILE)
    )


@functools.cache
def groups() -> dict[str, tuple[int, ...]]:
    """The classes below every noun with two classes or more, by name, the largest first: "dog" has the 118 breeds."""
    return {name: indices(spanned) for _, name, spanned in _rows(GROUPS_FILE)}


def names() -> tuple[str, ...]:
    """(1000,) names."""
    return tuple(c.name for c in classes())


def aliases() -> dict[str, tuple[str, ...]]:
    """Every spelling, and the WordNet identifier, by name."""
    return {c.name: (*c.spellings, c.wnid) for c in classes()}


def spans(members: Iterable[int]) -> str:
    """Whole numbers as text: "7-24,80"."""
    runs: list[list[int]] = []
    for index in sorted(members):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(f"{low}-{high}" if high > low else f"{low}" for low, high in runs)


def indices(text: str) -> tuple[int, ...]:
    """The inverse of `spans`."""
    ends = (run.partition("-") for run in text.split(","))
    return tuple(index for low, _, high in ends for index in range(int(low), int(high or low) + 1))


def _rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
