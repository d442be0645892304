"""Model: a denoiser with the names of its conditions, its training data, and the usual grid of its samplers."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmm.datasets import LabelledData
from gmm.mixture import Mixture
from gmm.partition import Partition
from gmm.process import Process
from neural.models.grids import Grid

_SUGGESTIONS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A model that a name or a path stands for.

    Attributes:
        name: the name or path that the user gave.
        kind: name of the loader.
        denoiser: ``process``, ``conditions`` and ``denoise(x, t, condition) -> E[x_0 | x_t, condition]``.
        shape: shape of one state, e.g. (64, 64, 4).
        conditions: what ``denoise`` takes, in the order of `names`; None for a model of free text, which takes
            every prompt.
        names: (K,) names of the conditions, all different; empty for free text.
        classes_of: the data set that defines the classes, e.g. "imagenet"; empty where it is the model's own.
        aliases: further spellings by name of a condition.
        groups: names of sets of conditions ("dog"), each with the indices of its members.
        grid: noise levels of its samplers.
        unconditional: a denoiser of the unconditional law, called with condition None, or None where the model
            has no trained one.
        mixture: the law that the model was trained on, where it is a mixture; component k is condition k.
        levels: partitions of the conditions by name, coarsest first.
        data: reads the data that the model was trained on, in the model's own coordinates, y[i] the index of
            point i's condition; None where the data are not available. It may raise a ValueError that says what to get.
        tokenize: reads prompts, for a model of free text; raises ValueError where it cannot, before any computation
            starts.
        pictures: states (n, ...) as pictures, bytes (n, H, W, 1 or 3); None where states are not pictures.
        files: what the model was read from, files and folders.
        facts: further facts that results carry, such as the licence.
    """

    name: str
    kind: str
    denoiser: Any
    shape: tuple[int, ...]
    conditions: tuple[Any, ...] | None
    names: tuple[str, ...]
    grid: Grid
    unconditional: Any = None
    classes_of: str = ""
    aliases: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    groups: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    mixture: Mixture | None = None
    levels: Mapping[str, Partition] = dataclasses.field(default_factory=dict)
    data: Callable[[], LabelledData] | None = None
    tokenize: Callable[[Sequence[str]], Any] | None = None
    pictures: Callable[[Any], Any] | None = None
    files: tuple[Path, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def process(self) -> Process:
        """The forward process that the denoiser inverts."""
        return self.denoiser.process

    @property
    def free_text(self) -> bool:
        """Whether conditions are prompts."""
        return self.conditions is None

    def find(self, word: str) -> int:
        """Index of the condition with this name, index, or alias.

        Upper and lower case count only where two conditions differ by nothing else.

        Raises:
            ValueError: for an unknown word, with the nearest names; for one that several conditions share,
                with their indices.
        """
        if word in self.names:
            return self.names.index(word)
        if word.isdecimal() and int(word) < len(self.names):
            return int(word)
        for fold in (str, str.casefold):
            spelled = self._spellings(fold).get(fold(word), ())
            if len(spelled) == 1:
                return spelled[0]
            if spelled:
                several = ", ".join(f"{self.names[i]!r} ({i})" for i in spelled)
                raise ValueError(f"{word!r} may be any of {several}; name one of these or its index")
        raise ValueError(f"{self.name} has no class {word!r}{self._nearest(word)}")

    def _spellings(self, fold: Callable[[str], str]) -> dict[str, tuple[int, ...]]:
        spellings: dict[str, tuple[int, ...]] = {}
        for index, name in enumerate(self.names):
            for spelling in dict.fromkeys(map(fold, (name, *self.aliases.get(name, ())))):
                spellings[spelling] = (*spellings.get(spelling, ()), index)
        return spellings

    def _nearest(self, word: str) -> str:
        last = f"indices 0..{len(self.names) - 1}"
        known = {s.casefold(): s for n in self.names for s in (n, *self.aliases.get(n, ()))}
        known |= {group.casefold(): group for group in self.groups}
        within = [known[k] for k in known if word.casefold() in k.split()]
        close = difflib.get_close_matches(word.casefold(), known, n=_SUGGESTIONS, cutoff=0.6)
        near = list(dict.fromkeys([*(known[k] for k in close), *within]))[:_SUGGESTIONS]
        if near:
            return f"; did you mean {' or '.join(map(repr, near))}? ({last} work too)"
        listed = f"names are {', '.join(self.names)}" if len(self.names) <= 20 else "the names are listed by"
        command = "" if len(self.names) <= 20 else f" `speciation models classes {self.name}`"
        return f"; {listed}{command} ({last} work too)"
