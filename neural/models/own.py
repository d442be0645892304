"""A user's own denoiser as a model: ``module:object`` or ``path/to/file.py:object``.

Loading one executes the user's code, so the caller must say ``trust_code=True``.
"""

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from neural.denoiser import Denoiser, state_shape
from neural.models.grids import Grid
from neural.models.model import Model

_FORM = re.compile(r"(?P<module>[^:]+|[A-Za-z]:[^:]+):(?P<object>[A-Za-z_][A-Za-z0-9_.]*)")
# What a wrapped network says of itself, for the facts of results; its `repr` may hold addresses of one run.
_FACTS = ("prediction", "data_range")
FORM = "module:object or path/to/file.py:object"


def is_own(name: str) -> bool:
    """Whether a name has the form ``module:object`` or ``file.py:object``, with a module or file that exists."""
    match = _FORM.fullmatch(name)
    if match is None:
        return False
    module = match["module"]
    if module.endswith(".py"):
        return True
    try:
        return all(part.isidentifier() for part in module.split(".")) and _exists(module)
    except (ImportError, ValueError):
        return False


def _exists(module: str) -> bool:
    # The first part only: finding a submodule would already execute its package.
    return importlib.util.find_spec(module.split(".")[0]) is not None


def load_own(name: str) -> Model:
    """The model that a user's object is, or makes when it is called without arguments.

    Raises:
        ValueError: when the module, the file or the object is not there, its code fails, or the object is neither a
            `neural.Model` nor a denoiser.
    """
    match = _FORM.fullmatch(name)
    if match is None:
        raise ValueError(f"model must be {FORM}, got {name!r}")
    value: Any = _module(match["module"], name)
    for part in match["object"].split("."):
        if not hasattr(value, part):
            raise ValueError(f"{match['module']} has no object {match['object']!r}")
        value = getattr(value, part)
    if _is_maker(value):
        try:
            value = value()
        except Exception as error:
            raise ValueError(f"calling {name} failed: {type(error).__name__}: {error}") from error
    if isinstance(value, Model):
        return dataclasses.replace(value, name=name)
    if isinstance(value, Denoiser) and not isinstance(value, type):
        return dataclasses.replace(_of_denoiser(name, value), files=_code(match["module"]))
    raise ValueError(
        f"{name} must be a neural.Model or a denoiser (process, conditions, denoise), or a function without arguments "
        f"that returns one; got {type(value).__name__}. neural.from_torch makes a denoiser of a PyTorch network, and "
        "neural.from_function of a function of (x, t, condition)"
    )


def _is_maker(value: Any) -> bool:
    """Whether a value is a class or function that is called without arguments; a network is not called."""
    if not isinstance(value, type | functools.partial) and not inspect.isroutine(value):
        return False
    try:
        inspect.signature(value).bind()
    except (TypeError, ValueError):  # it has arguments, or none that are known
        return False
    return True


def _module(name: str, whole: str) -> ModuleType:
    """The user's module, by import or from a file."""
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise FileNotFoundError(f"model must name a file that exists, got {whole!r}")
        spec = importlib.util.spec_from_file_location(f"_own_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        # Modules beside the file are found as when Python runs it.
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    except Exception as error:
        raise ValueError(f"loading {whole} failed: {type(error).__name__}: {error}") from error


def _of_denoiser(name: str, denoiser: Any) -> Model:
    """A denoiser with names for its conditions: words are their own names."""
    conditions = tuple(denoiser.conditions or ())
    return Model(
        name=name,
        kind="own",
        denoiser=denoiser,
        shape=state_shape(denoiser),
        conditions=conditions,
        names=tuple(map(str, conditions)),
        grid=Grid("edm"),
        unconditional=getattr(denoiser, "unconditional", None),
        facts={
            "network": type(denoiser).__name__,
            **{fact: getattr(denoiser, fact) for fact in _FACTS if hasattr(denoiser, fact)},
        },
    )


def _code(module: str) -> tuple[Path, ...]:
    """The user's file: finished parts of a run are not used again after it changes."""
    return (Path(module).expanduser().resolve(),) if module.endswith(".py") else ()
