"""Learnt words: embeddings that textual inversion has saved alone (Gal et al. 2022, arXiv 2208.01618).

They become rows of the text encoder's table of tokens, and tokens of the vocabulary. Files are those of diffusers
(a word and its vectors) and of AUTOMATIC1111 and kohya (vectors under ``string_to_param`` or ``emb_params``).
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from neural import checkpoints
from neural.checkpoints import Checkpoint, CheckpointError
from neural.checkpoints.checkpoint import quoted
from neural.stable_diffusion.files import Lazy, Network
from neural.stable_diffusion.kinds import check_file_name

Source = str | os.PathLike[str]
TABLE = "text_model.embeddings.token_embedding.weight"
MAX_VECTORS = 75
_UNNAMED = ("emb_params", "string_to_param.*")


@dataclasses.dataclass(frozen=True, eq=False)
class Learnt:
    """One learnt word.

    Attributes:
        word: what stands for it in a prompt.
        vectors: (n, width).
    """

    word: str
    vectors: np.ndarray

    @property
    def words(self) -> tuple[str, ...]:
        """A token for each vector, named as in diffusers."""
        return (self.word, *(f"{self.word}_{number}" for number in range(1, len(self.vectors))))


def read_embeddings(sources: Sequence[Source | tuple[Source, str]], width: int) -> list[Learnt]:
    """The learnt words of some files.

    Args:
        sources: files, or pairs of a file and the word to use.
        width: of the text encoder.

    Raises:
        CheckpointError: when a file is not a learnt word of this width.
    """
    if isinstance(sources, str | os.PathLike):
        raise ValueError(f"embeddings must be a list of files or of pairs (file, word), got {str(sources)!r}")
    return [_read(*(source if isinstance(source, tuple) else (source, None)), width) for source in sources]


def _read(source: Source, word: str | None, width: int) -> Learnt:
    path = Path(source)
    check_file_name(path)
    checkpoint = checkpoints.read(path)
    name = next((name for name in _UNNAMED if name in checkpoint.tensors), None)
    if name is None and len(checkpoint.tensors) != 1:
        raise CheckpointError(
            f"{path} is no learnt word: it has {len(checkpoint.tensors)} tensors, not one embedding"
        )
    name = name or next(iter(checkpoint.tensors))
    vectors = np.asarray(checkpoint.tensors[name], np.float32)
    vectors = vectors[None] if vectors.ndim == 1 else vectors
    if vectors.ndim != 2 or vectors.shape[1] != width or not 0 < len(vectors) <= MAX_VECTORS:
        raise CheckpointError(
            f"{path}: embedding {quoted(name)} must have shape (n, {width}) with n in 1..{MAX_VECTORS}, as this text "
            f"encoder's, got {vectors.shape}"
        )
    return Learnt(word or _word(path, name, checkpoint), vectors)


def _word(path: Path, name: str, checkpoint: Checkpoint) -> str:
    """The word in the file, else the file's name."""
    said = checkpoint.attributes.get("name") if name in _UNNAMED else name
    return said if isinstance(said, str) and said else path.stem


def with_embeddings(text: Network, learnt: Sequence[Learnt]) -> Network:
    """A text encoder whose table of tokens has further rows, one for each vector."""
    if not learnt:
        return text
    rows = np.concatenate([word.vectors for word in learnt])
    makers: dict[str, Callable[[], np.ndarray]] = {
        name: functools.partial(text.tensors.__getitem__, name) for name in text.tensors
    }
    makers[TABLE] = lambda: np.concatenate([np.asarray(text.tensors[TABLE], np.float32), rows])
    config = dataclasses.replace(text.config, vocabulary=text.config.vocabulary + len(rows))
    return Network(config, text.options, Lazy(makers))
