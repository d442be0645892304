"""The files of a tokenizer: its words, merges, added tokens and special tokens, read without any library.

A folder holds ``vocab.json`` with ``merges.txt``, or ``tokenizer.json``, or all of them; beside these
``tokenizer_config.json``, ``special_tokens_map.json`` and ``added_tokens.json``, where transformers has written them.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from neural.checkpoints import CheckpointError
from neural.checkpoints.other_files import other_kind
from neural.stable_diffusion.architecture import TOKENS
from neural.stable_diffusion.settings import TOKENIZER_SETTINGS, check_settings

START_WORD, END_WORD = "<|startoftext|>", "<|endoftext|>"
SPECIAL_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
WORD_END = "</w>"
MAX_BYTES = 1 << 25
MAX_ADDED = 10_000
SHOWN = 40


@dataclasses.dataclass(frozen=True)
class Added:
    """A token beside the byte pairs, with the flags of the library `tokenizers`.

    Attributes:
        content: its text.
        token: its number.
        single_word: only found as a word of its own.
        lstrip, rstrip: white space before or after it belongs to it.
        normalized: searched in the text after it was brought to lower case.
        special: never split.
    """

    content: str
    token: int
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What the files of a tokenizer say.

    Attributes:
        words: their tokens.
        merges: in order of rank.
        added: tokens beside them.
        start, end: tokens around a text.
        padding: the token that fills a text up.
        length: tokens of a text, start, end and filling included.
    """

    words: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]
    added: tuple[Added, ...]
    start: int
    end: int
    padding: int
    length: int

    @property
    def largest(self) -> int:
        """The largest token."""
        return max([*self.words.values(), *(added.token for added in self.added)])

    @property
    def tokens(self) -> dict[str, int]:
        """All tokens by their text."""
        return {**self.words, **{added.content: added.token for added in self.added}}

    def empty(self) -> tuple[int, ...]:
        """The tokens of the empty text."""
        return (self.start, self.end, *[self.padding] * (self.length - 2))


def read_vocabulary(folder: Path, length: int = TOKENS) -> Vocabulary:
    """The vocabulary of a folder.

    Args:
        folder: with the files.
        length: most tokens of a text that the text encoder reads.

    Raises:
        CheckpointError: when files are missing, are not what they should be, contradict one another, or ask for
            something that CLIP's tokenizer does not do.
    """
    try:
        whole = _json(folder / "tokenizer.json")
        words, merges = _byte_pairs(folder, whole)
        _check_pipeline(whole)
        config = _settings(folder)
        return _assembled(words, merges, _added(folder, whole, config), config, length)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def has_vocabulary(folder: Path) -> bool:
    """Whether `read_vocabulary` would find its files."""
    return (folder / "tokenizer.json").is_file() or all(
        (folder / name).is_file() for name in ("vocab.json", "merges.txt")
    )


def _byte_pairs(folder: Path, whole: Mapping[str, Any]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = whole.get("model")
    model = model if isinstance(model, dict) else {}
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        words = _checked_words(_json(folder / "vocab.json"))
        if model and model.get("vocab") != words:
            raise CheckpointError(
                "vocab.json and tokenizer.json have different words; remove the one that is stale"
            )
        lines = _text(folder / "merges.txt").split("\n")
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    elif whole:
        words, listed = _checked_words(model.get("vocab")), model.get("merges")
        if not isinstance(listed, list):
            raise CheckpointError("the tokenizer's merges must be a list")
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in listed]
    else:
        raise CheckpointError("holds neither vocab.json with merges.txt nor tokenizer.json")
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise CheckpointError(f"a merge must join two words, got {str(pair)[:SHOWN]!r}")
    return words, [(first, second) for first, second in pairs]


def _checked_words(words: Any) -> dict[str, int]:
    if not isinstance(words, dict) or any(type(index) is not int or index < 0 for index in words.values()):
        raise CheckpointError("the vocabulary must map words to whole numbers")
    if len(set(words.values())) < len(words):
        raise CheckpointError("the vocabulary gives one number to two words")
    return words


# What tokenizer.json may say about the steps from a text to its byte pairs: those of CLIP.
_NORMALIZERS = [
    {"type": "NFC"},
    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
    {"type": "Lowercase"},
]
_MODEL = {
    "type": "BPE", "dropout": None, "unk_token": END_WORD, "continuing_subword_prefix": "",
    "end_of_word_suffix": WORD_END, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
}  # fmt: skip


def _check_pipeline(whole: Mapping[str, Any]) -> None:
    """Refuse a tokenizer.json that splits texts in another way than CLIP."""
    model = whole.get("model")
    for name, value in _MODEL.items():
        if isinstance(model, dict) and model.get(name, value) != value:
            raise CheckpointError(
                f"tokenizer.json: model.{name} must be {value!r}, got {str(model[name])[:SHOWN]!r}"
            )
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}
        for pattern in (SPECIAL_WORDS + WORDS, WORDS)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False}
    allowed = {
        "normalizer": [{"type": "Sequence", "normalizers": _NORMALIZERS}],
        "pre_tokenizer": [{"type": "Sequence", "pretokenizers": [split, byte_level]} for split in splits],
    }
    for name, values in allowed.items():
        value = whole.get(name)
        if value is not None and not any(_covers(value, choice) for choice in values):
            raise CheckpointError(
                f"tokenizer.json: {name} is not that of CLIP, got {json.dumps(value)[:SHOWN]!r}"
            )


def _covers(value: Any, expected: Any) -> bool:
    """Whether `value` has all that is expected; entries beside it are details of offsets."""
    if isinstance(expected, dict):
        return isinstance(value, dict) and all(
            name in value and _covers(value[name], part) for name, part in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(value, list) and len(value) == len(expected) and all(map(_covers, value, expected))
    return value == expected


def _settings(folder: Path) -> dict[str, Any]:
    """The entries of tokenizer_config.json and special_tokens_map.json; those of both files must agree."""
    config, special = (_json(folder / f"{name}.json") for name in ("tokenizer_config", "special_tokens_map"))
    check_settings("tokenizer_config.json", _contents(config), TOKENIZER_SETTINGS)
    check_settings("special_tokens_map.json", _contents(special), TOKENIZER_SETTINGS)
    for name, value in special.items():
        if name in config and name.endswith("_token") and _content(config[name]) != _content(value):
            raise CheckpointError(f"special_tokens_map.json and tokenizer_config.json give another {name}")
    return {**special, **config}


def _contents(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _content(value) if name.endswith("_token") else value for name, value in config.items()}


def _content(entry: Any) -> Any:
    """The text of a token, which is spelled as text or with its flags."""
    return entry.get("content") if isinstance(entry, dict) else entry


def _added(folder: Path, whole: Mapping[str, Any], config: Mapping[str, Any]) -> list[Added]:
    """Added tokens from every file that lists some; the one with flags counts first."""
    listed = config.get("added_tokens_decoder") or {}
    entries = whole.get("added_tokens") or []
    plain_entries = _json(folder / "added_tokens.json")
    if not isinstance(listed, dict) or not isinstance(entries, list):
        raise CheckpointError("added_tokens_decoder must be an object, added_tokens a list")
    sources: Iterator[tuple[Any, Any]] = (
        *((token, entry) for token, entry in listed.items()),
        *((entry.get("id") if isinstance(entry, dict) else None, entry) for entry in entries),
        *((token, {"content": content}) for content, token in plain_entries.items()),
    )  # type: ignore[assignment]
    by_content: dict[str, Added] = {}
    for token, entry in sources:
        added = _read_added(token, entry)
        if by_content.setdefault(added.content, added).token != added.token:
            raise CheckpointError(f"the added token {added.content[:SHOWN]!r} has two numbers")
    if len(by_content) > MAX_ADDED:
        raise CheckpointError(f"more than {MAX_ADDED} added tokens")
    return list(by_content.values())


def _read_added(token: Any, entry: Any) -> Added:
    if isinstance(token, str) and token.isdecimal() and len(token) < 10:
        token = int(token)
    content = _content(entry)
    if type(token) is not int or token < 0 or not isinstance(content, str) or not content:
        raise CheckpointError(f"an added token must have a number and a text, got {str(entry)[:SHOWN]!r}")
    flags = {
        name: bool(entry[name]) for name in ("single_word", "lstrip", "rstrip", "special") if name in entry
    }
    normalized = bool(entry.get("normalized", not flags.get("special", False)))
    return Added(content, token, normalized=normalized, **flags)


def _assembled(
    words: dict[str, int],
    merges: list[tuple[str, str]],
    added: list[Added],
    config: Mapping[str, Any],
    length: int,
) -> Vocabulary:
    tokens = dict(words)
    for further in added:
        if tokens.setdefault(further.content, further.token) != further.token:
            raise CheckpointError(
                f"the added token {further.content[:SHOWN]!r} is word {tokens[further.content]}, not {further.token}"
            )
    if len(set(tokens.values())) < len(tokens):
        raise CheckpointError("an added token has the number of a word")
    listed = config.get("additional_special_tokens") or config.get("extra_special_tokens") or ()
    for entry in listed.values() if isinstance(listed, dict) else listed:
        if _content(entry) not in tokens:
            raise CheckpointError(f"the special token {str(_content(entry))[:SHOWN]!r} has no number")
    defaults = {"bos_token": START_WORD, "eos_token": END_WORD, "pad_token": END_WORD}
    special = {}
    for name, default in defaults.items():
        word = _content(config.get(name)) or default
        if word not in tokens:
            raise CheckpointError(f"the vocabulary has no {str(word)[:SHOWN]}, which is the {name}")
        special[name] = tokens[word]
    start, end, padding = special.values()
    return Vocabulary(words, tuple(merges), tuple(added), start, end, padding, _length(config, length))


def _length(config: Mapping[str, Any], most: int) -> int:
    said = config.get("model_max_length")
    if said is None:
        return most
    # Without a length of its own, transformers writes 1e30.
    if isinstance(said, bool) or not isinstance(said, int | float) or not said >= 2:
        raise CheckpointError(f"model_max_length must be a number of at least 2, got {str(said)[:SHOWN]!r}")
    return int(min(said, most))


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path.name} has more than {MAX_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.name} cannot be read as UTF-8") from error


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    if not path.is_file():
        return {}
    text = _text(path)
    try:
        contents = json.loads(text)
    except (ValueError, RecursionError) as error:
        other = other_kind(text[:1000].encode())
        raise CheckpointError(f"{path.name} is {other or 'not JSON'}") from error
    if not isinstance(contents, dict):
        raise CheckpointError(f"{path.name} must hold a JSON object")
    return contents


def with_added(vocabulary: Vocabulary, contents: Iterable[str], first: int) -> Vocabulary:
    """A vocabulary with further tokens, numbered from `first`.

    Raises:
        ValueError: when a text is a token already.
    """
    known, added = vocabulary.tokens, list(vocabulary.added)
    for number, content in enumerate(contents):
        if content in known:
            raise ValueError(
                f"the token {content!r} is in the vocabulary already; give the embedding another name"
            )
        known[content] = first + number
        added.append(Added(content, first + number))
    return dataclasses.replace(vocabulary, added=tuple(added))
