"""The model that a name or a path stands for.

A kind of model is one value, `Kind`. A new kind is a module listed in `_MODULES`, or a call of `register` from outside.
"""

import dataclasses
import difflib
import functools
import importlib
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from gmm.checks import choose
from neural import checkpoints
from neural.checkpoints import Checkpoint, CheckpointError
from neural.models.model import Model
from neural.models.own import is_own, load_own

# Each defines KIND. Kinds that recognise files by fewer features come later.
_MODULES = (
    "neural.models.mixtures",
    "neural.models.trained",
    "neural.models.edm2",
    "neural.models.sd15",
    "neural.models.diffusers",
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A file or a folder that some kind of model may recognise."""

    path: Path

    @functools.cached_property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint in the file, or None if the file is not a readable checkpoint."""
        if not self.path.is_file():
            return None
        try:
            return checkpoints.read(self.path)
        except CheckpointError:
            return None


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        name: one word.
        names: names of models of this kind, with a line on each.
        answers: whether a further name is of this kind.
        recognises: whether a file or folder holds such a model.
        half: whether it supports bfloat16 and float16.
        settings: names of the settings of `load_model` that it takes.
        load: (name or path, dtype, **settings) -> model; raises ValueError with what to fetch or what to install.
    """

    name: str
    names: Mapping[str, str]
    load: Callable[..., Model]
    recognises: Callable[[Candidate], bool] = lambda _: False
    answers: Callable[[str], bool] = lambda _: False
    half: bool = False
    settings: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> None:
    """Add a kind of model, in place of one of the same name."""
    KINDS[kind.name] = kind


def model_names() -> dict[str, str]:
    """Every model name, with a line on each."""
    return {name: about for kind in _kinds() for name, about in kind.names.items()}


def load_model(
    source: str | os.PathLike[str], *, dtype: str = "float32", trust_code: bool = False, **settings: Any
) -> Model:
    """The model that a name or a path stands for.

    Args:
        source: a name (`model_names`), or a file or folder that holds a model: an EDM2 ``.pkl`` or
            ``.safetensors``; or an own denoiser, ``module:object`` or ``path/to/file.py:object`` (`neural.models.own`).
        dtype: precision of the computation: "float32", or "float64" where JAX is set to 64 bit; for some networks
            also "bfloat16" or "float16". An own denoiser chooses its own.
        trust_code: whether an own denoiser may be loaded, which executes the user's code.
        settings: of some kinds of model: `lora`, `embeddings`, `prediction` and `clip_skip` of Stable Diffusion, as in
            `neural.load_sd15`. None and empty lists count as not given.

    Raises:
        ValueError: for an unknown name, with the nearest known one; for a path without a known model; for a precision
            or a setting that the kind does not support; when files are missing, with the way to get them.
    """
    name = os.fspath(source)
    given = {setting: value for setting, value in settings.items() if value is not None and value != []}
    for kind in _kinds():
        if name in kind.names or kind.answers(name):
            return _load(kind, name, dtype, given)
    path = Path(name).expanduser()
    if not path.exists() and is_own(name):
        if not trust_code:
            raise ValueError(
                f"model {name!r} is a Python object, and loading it executes its code; say with `trust_code` that you "
                "trust that code"
            )
        _check_settings(name, "own", (), given)
        return load_own(name)
    if not path.exists():
        known = list(model_names())
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"model must be a name or a file or folder that exists, got {name!r}; {hint}"
            f"known names: {', '.join(known)}"
        )
    candidate = Candidate(path)
    for kind in _kinds():
        if kind.recognises(candidate):
            return _load(kind, str(path), dtype, given)
    if path.is_file():
        checkpoints.read(path)  # raises the more precise error where the file cannot be read
    raise ValueError(f"{path} holds no model of a known kind ({', '.join(KINDS)})")


def _load(kind: Kind, name: str, dtype: str, settings: Mapping[str, Any]) -> Model:
    choose(f"dtype of {name}", dtype, ("float32", "float64", *(("bfloat16", "float16") if kind.half else ())))
    _check_settings(name, kind.name, kind.settings, settings)
    return kind.load(name, dtype, **settings)


def _check_settings(name: str, kind: str, known: Collection[str], settings: Mapping[str, Any]) -> None:
    for setting in settings:
        if setting not in known:
            takers = ", ".join(other.name for other in _kinds() if setting in other.settings)
            raise ValueError(
                f"`{setting}` applies to models of kind {takers or 'none'} alone, and {name} is of kind {kind}; "
                "leave it out"
            )


def _kinds() -> list[Kind]:
    for module in _MODULES:
        kind = importlib.import_module(module).KIND
        KINDS.setdefault(kind.name, kind)
    return list(KINDS.values())
