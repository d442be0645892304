"""CLIP's byte-pair tokenizer: texts to the 77 tokens that the text encoder reads.

The work is done by the `tokenizers` library on the model's own vocabulary and merges. A text is normalised (NFC,
white space to one blank, lower case), split into words, digits and runs of other characters, and merged from
bytes; start and end go around it and it is filled up (Radford et al. 2021, section 2.4). Added tokens are found
first. One that stands for several vectors, added as ``<cat>``, ``<cat>_1``, ..., is written once in a prompt, as
in diffusers.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from neural.checkpoints import CheckpointError
from neural.stable_diffusion.architecture import TOKENS
from neural.stable_diffusion.vocabulary import (
    END_WORD,
    SHOWN,
    SPECIAL_WORDS,
    START_WORD,
    WORD_END,
    WORDS,
    Vocabulary,
    read_vocabulary,
)


class Tokenizer:
    """Texts to tokens.

    Attributes:
        vocabulary: words, merges, added and special tokens.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        """A tokenizer of a vocabulary.

        Raises:
            ValueError: when the package `tokenizers` is missing, or the merges do not fit the vocabulary.
        """
        self.vocabulary = vocabulary
        self._tokenizer = _byte_pairs(_library(), vocabulary)
        # The library numbers added tokens itself.
        self._tokens = {
            int(self._tokenizer.token_to_id(added.content)): added.token for added in vocabulary.added
        }
        self._added = {added.content for added in vocabulary.added}
        # Programs are compiled once for equal tokenizers, not once for each object.
        facts = [
            sorted(vocabulary.tokens.items()),
            vocabulary.merges,
            repr(vocabulary.added),
            vocabulary.empty(),
        ]
        self._digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __call__(self, texts: str | Sequence[str]) -> Int[np.ndarray, "n tokens"]:
        """The tokens of some texts.

        A text of more than `length` - 2 tokens is cut, as CLIP's own tokenizer does; a warning says so.

        Raises:
            ValueError: when something is not a text, or not valid Unicode.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        empty = self.vocabulary.empty()
        tokens = np.tile(np.array(empty, np.int32), (len(texts), 1))
        for row, text in zip(tokens, texts, strict=True):
            ids = self._ids(_checked(text))
            kept = ids[: len(empty) - 2]
            if len(ids) > len(kept):
                warnings.warn(_cut(text, len(ids), len(kept)), stacklevel=2)
            row[1 : 1 + len(kept)] = kept
            row[1 + len(kept)] = self.vocabulary.end
        return tokens

    def _ids(self, text: str) -> list[int]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        longer = self._with_further_vectors(text, encoding.tokens)
        if longer != text:
            encoding = self._tokenizer.encode(longer, add_special_tokens=False)
        return [self._tokens.get(int(token), int(token)) for token in encoding.ids]

    def _with_further_vectors(self, text: str, tokens: Sequence[str]) -> str:
        """The text with ``<cat>`` replaced by ``<cat> <cat>_1 ...``, for every such token that it has."""
        for token in sorted(self._added.intersection(tokens)):
            number = 1
            while f"{token}_{number}" in self._added:
                number += 1
            further = [f"{token}_{index}" for index in range(1, number)]
            text = text.replace(token, " ".join([token, *further]))
        return text


def _byte_pairs(library: Any, vocabulary: Vocabulary) -> Any:
    try:
        model = library.models.BPE(
            vocab=dict(vocabulary.words), merges=list(vocabulary.merges), continuing_subword_prefix="",
            end_of_word_suffix=WORD_END, fuse_unk=False, unk_token=END_WORD,
        )  # fmt: skip
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"the merges do not fit the vocabulary: {error}") from error
    tokenizer = library.Tokenizer(model)
    spaces = library.normalizers.Replace(library.Regex(r"\s+"), " ")
    tokenizer.normalizer = library.normalizers.Sequence(
        [library.normalizers.NFC(), spaces, library.normalizers.Lowercase()]
    )
    words = library.pre_tokenizers.Split(
        library.Regex(SPECIAL_WORDS + WORDS), behavior="removed", invert=True
    )
    tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence(
        [words, library.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.add_special_tokens([word for word in (START_WORD, END_WORD) if word in vocabulary.words])
    for added in vocabulary.added:
        flags = {
            name: getattr(added, name)
            for name in ("single_word", "lstrip", "rstrip", "normalized", "special")
        }
        tokenizer.add_tokens([library.AddedToken(added.content, **flags)])
    return tokenizer


def _checked(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError(f"texts must be strings, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text {text!a} is not valid Unicode; it may have been read in a wrong encoding"
        ) from error
    return text


def _cut(text: str, count: int, kept: int) -> str:
    shown = text if len(text) <= SHOWN else text[:SHOWN] + "..."
    return f"prompt {shown!r} has {count} tokens; CLIP reads the first {kept}, the rest is cut off"


WITHOUT_LIBRARY = "prompts need the package tokenizers; run: python -m pip install tokenizers"


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ValueError(WITHOUT_LIBRARY) from error
    return tokenizers


def has_library() -> bool:
    """Whether the package `tokenizers` is installed."""
    try:
        _library()
    except ValueError:
        return False
    return True


def read_tokenizer(folder: Path, length: int = TOKENS) -> Tokenizer:
    """The tokenizer of a folder with vocab.json and merges.txt, or with tokenizer.json.

    Raises:
        CheckpointError: as `read_vocabulary`.
        ValueError: when the package `tokenizers` is missing.
    """
    vocabulary = read_vocabulary(folder, length)
    try:
        return Tokenizer(vocabulary)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error
