"""CLIP's byte-pair tokenizer: texts to the 77 tokens that the text encoder reads.

The work is done by the `tokenizers` library on the model's own vocabulary and merges. A text is normalised (NFC,
white space to one blank, lower case), split into words, digits and runs of other characters, and merged from
bytes; start and end go around it and it is filled up with ends (Radford et al. 2021, section 2.4).
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from neural.checkpoints import CheckpointError
from neural.stable_diffusion.architecture import TOKENS

START_WORD, END_WORD = "<|startoftext|>", "<|endoftext|>"
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
WORD_END = "</w>"
MAX_BYTES = 1 << 25
SHOWN = 40


class Tokenizer:
    """Texts to tokens.

    Attributes:
        length: tokens of a text, start, end and filling included.
        start, end: their tokens.
        largest: token of the vocabulary.
    """

    def __init__(
        self, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], length: int = TOKENS
    ) -> None:
        """A tokenizer from a vocabulary and merges in order of rank.

        Raises:
            ValueError: when the package `tokenizers` is missing, or the merges do not fit the vocabulary.
        """
        library = _library()
        self.length = length
        self.start, self.end = vocabulary[START_WORD], vocabulary[END_WORD]
        self.largest = max(vocabulary.values())
        # Programs are compiled once for equal tokenizers, not once for each object.
        facts = json.dumps([sorted(vocabulary.items()), list(merges), length])
        self._digest = hashlib.sha256(facts.encode()).hexdigest()
        try:
            model = library.models.BPE(
                vocab=dict(vocabulary), merges=list(merges), continuing_subword_prefix="",
                end_of_word_suffix=WORD_END, fuse_unk=False, unk_token=END_WORD,
            )  # fmt: skip
        except Exception as error:  # the library raises plain Exception
            raise CheckpointError(f"the merges do not fit the vocabulary: {error}") from error
        found = library.Tokenizer(model)
        spaces = library.normalizers.Replace(library.Regex(r"\s+"), " ")
        found.normalizer = library.normalizers.Sequence(
            [library.normalizers.NFC(), spaces, library.normalizers.Lowercase()]
        )
        words = library.pre_tokenizers.Split(library.Regex(WORDS), behavior="removed", invert=True)
        found.pre_tokenizer = library.pre_tokenizers.Sequence(
            [words, library.pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        found.add_special_tokens([START_WORD, END_WORD])
        self._tokenizer = found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __call__(self, texts: str | Sequence[str]) -> Int[np.ndarray, "n tokens"]:
        """The tokens of some texts.

        A text of more than `length` - 2 tokens is cut, as CLIP's own tokenizer does; a warning says so.

        Raises:
            ValueError: when something is no text.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"texts must be strings, got {type(text).__name__}")
        tokens = np.full((len(texts), self.length), self.end, np.int32)
        tokens[:, 0] = self.start
        for row, text in zip(tokens, texts, strict=True):
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
            kept = ids[: self.length - 2]
            if len(ids) > len(kept):
                warnings.warn(_cut(text, len(ids), len(kept)), stacklevel=2)
            row[1 : 1 + len(kept)] = kept
        return tokens


def _cut(text: str, count: int, kept: int) -> str:
    shown = text if len(text) <= SHOWN else text[:SHOWN] + "..."
    return f"prompt {shown!r} has {count} tokens; CLIP reads the first {kept}, the rest is cut off"


WITHOUT_LIBRARY = "prompts need the package tokenizers; run: pip install 'speciation[models]'"


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
        CheckpointError: when there is neither, or one is not what it should be.
        ValueError: when the package `tokenizers` is missing.
    """
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    try:
        if vocabulary.is_file() and merges.is_file():
            words = _json(vocabulary)
            lines = _text(merges).split("\n")
            pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        elif (folder / "tokenizer.json").is_file():
            model = _json(folder / "tokenizer.json").get("model")
            model = model if isinstance(model, dict) else {}
            words, listed = model.get("vocab"), model.get("merges")
            pairs = [one.split(" ") if isinstance(one, str) else one for one in _list(listed)]
        else:
            raise CheckpointError("holds neither vocab.json with merges.txt nor tokenizer.json")
        return Tokenizer(_vocabulary(words), _pairs(pairs), length)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def has_tokenizer(folder: Path) -> bool:
    """Whether `read_tokenizer` would find its files."""
    return (folder / "tokenizer.json").is_file() or all(
        (folder / name).is_file() for name in ("vocab.json", "merges.txt")
    )


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path.name} has more than {MAX_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.name} cannot be read as UTF-8") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is not JSON") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path.name} must hold a JSON object")
    return found


def _list(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise CheckpointError("the tokenizer's merges must be a list")
    return found


def _vocabulary(words: Any) -> dict[str, int]:
    if not isinstance(words, dict) or any(type(index) is not int or index < 0 for index in words.values()):
        raise CheckpointError("the vocabulary must map words to whole numbers")
    if len(set(words.values())) < len(words):
        raise CheckpointError("the vocabulary gives one number to two words")
    for word in (START_WORD, END_WORD):
        if word not in words:
            raise CheckpointError(f"the vocabulary has no {word}")
    return words


def _pairs(pairs: list[Any]) -> list[tuple[str, str]]:
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise CheckpointError(f"a merge must join two words, got {str(pair)[:SHOWN]!r}")
    return [(first, second) for first, second in pairs]
