"""Writes the two tables of this folder from WordNet 3.0 and the list of ImageNet's 1000 class identifiers.

    python -m neural.imagenet.build DICT SYNSETS

DICT is WordNet 3.0's folder with ``data.noun`` (Debian's package ``wordnet-base``, or Princeton's archive);
SYNSETS is a text file with the 1000 identifiers ``nXXXXXXXX`` in the order of the classes, one per line (timm
has one as ``imagenet_synsets.txt``). An identifier is the byte offset of a noun's entry in ``data.noun``, so
that names and groups are looked up, not matched.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from gmm.files import write_aside
from neural.imagenet import CLASSES_FILE, GROUPS_FILE, spans

# WordNet's lexicographer files (lexnames(5WN)) that tell two classes of one name apart.
_DOMAINS = {5: "animal", 6: "artifact", 13: "food", 17: "object", 18: "person", 20: "plant"}


class Synset(NamedTuple):
    """A noun: its words, the domain of its lexicographer file, and the nouns that it is a kind of."""

    lemmas: tuple[str, ...]
    domain: str
    hypernyms: tuple[int, ...]


def read_nouns(path: Path) -> dict[int, Synset]:
    """Every noun of WordNet by offset; the format is wndb(5WN)."""
    nouns = {}
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields = line.split(" | ")[0].split()
        words = int(fields[3], 16)
        pointers = fields[5 + 2 * words :]
        lemmas = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * words : 2])
        above = tuple(
            int(pointers[i + 1])
            for i in range(0, 4 * int(fields[4 + 2 * words]), 4)
            if pointers[i] in ("@", "@i")
        )
        nouns[int(fields[0])] = Synset(lemmas, _DOMAINS.get(int(fields[1]), "other"), above)
    return nouns


def ancestors(nouns: dict[int, Synset], offset: int) -> set[int]:
    """All nouns that a noun is a kind of, directly or not."""
    reached: set[int] = set()
    waiting = [offset]
    while waiting:
        for above in nouns[waiting.pop()].hypernyms:
            if above not in reached:
                reached.add(above)
                waiting.append(above)
    return reached


def class_names(synsets: Sequence[Synset]) -> list[str]:
    """First lemmas; a lemma that two classes share is followed by the second lemma, or by the domain, in brackets."""
    count = Counter(synset.lemmas[0].casefold() for synset in synsets)
    domains = defaultdict(set)
    for synset in synsets:
        domains[synset.lemmas[0].casefold()].add(synset.domain)
    names = []
    for first, domain, second in ((s.lemmas[0], s.domain, s.lemmas[1:2]) for s in synsets):
        shared = count[first.casefold()] > 1
        apart = domain if len(domains[first.casefold()]) > 1 else "".join(second)
        names.append(f"{first} ({apart})" if shared and apart else first)
    return names


def group_rows(nouns: dict[int, Synset], classes: Sequence[int]) -> list[tuple[str, ...]]:
    """Every noun that two classes or more are a kind of, with its members; the largest first."""
    members = defaultdict(list)
    for index, offset in enumerate(classes):
        for above in ancestors(nouns, offset) | {offset}:
            members[above].append(index)
    groups = {above: below for above, below in members.items() if len(below) > 1}
    ordered = sorted(groups, key=lambda above: (-len(groups[above]), above))
    count = Counter(nouns[above].lemmas[0] for above in ordered)
    rows = []
    for above in ordered:
        first, *others = nouns[above].lemmas
        name = first if count[first] == 1 else f"{first} ({others[0] if others else _wnid(above)})"
        rows.append((_wnid(above), name, spans(groups[above])))
    return rows


def main(arguments: Sequence[str]) -> None:
    """Write both tables."""
    folder, listed = map(Path, arguments)
    nouns = read_nouns(folder / "data.noun")
    classes = [int(word[1:]) for word in listed.read_text().split()]
    synsets = [nouns[offset] for offset in classes]
    rows = zip(classes, class_names(synsets), synsets, strict=True)
    _write(CLASSES_FILE, ((_wnid(c), name, ", ".join(synset.lemmas)) for c, name, synset in rows))
    _write(GROUPS_FILE, group_rows(nouns, classes))


def _wnid(offset: int) -> str:
    return f"n{offset:08d}"


def _write(path: Path, rows: Iterable[Sequence[str]]) -> None:
    text = "".join("\t".join(row) + "\n" for row in rows)
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
