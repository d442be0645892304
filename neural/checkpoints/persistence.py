"""Networks pickled by NVIDIA's ``torch_utils.persistence``, as in the EDM2 release (Karras et al. 2024).

Such a pickle contains the source text of its classes, which the official loader executes. Only the class names and
the dictionaries of attributes are needed to read it: a network is a tree of modules, each with its ``_parameters``,
``_buffers`` and ``_modules``.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from neural.checkpoints.checkpoint import Checkpoint, CheckpointError, quoted
from neural.checkpoints.machine import Global, Globals, kind
from neural.checkpoints.objects import (
    MAX_DEPTH,
    MAX_NAME,
    MAX_TENSORS,
    Record,
    Tensor,
    check_name,
    fields,
    plain,
)

VERSION = 6
MAX_MODULES = 5_000
MAX_ENTRIES = 500
"""Attributes, tensors or parts of one module."""

_NETWORK = "Precond"
_MODULES = (_NETWORK, "UNet", "Block", "MPConv", "MPFourier", "ModuleDict")
_ENCODERS = ("StabilityVAEEncoder", "StandardRGBEncoder")

# Attributes of modules that change what the network computes, under the name of the constructor's argument.
_CONSTANTS = {
    "Precond": ("img_resolution", "img_channels", "label_dim", "sigma_data"),
    "UNet": ("label_balance", "concat_balance"),
    "Block": ("resample_filter", "res_balance", "attn_balance", "clip_act"),
}


def _persistent(arguments: tuple) -> Record:
    (meta,) = fields("a persistent object", arguments, dict)
    category, version, name, state = (meta.get(key) for key in ("type", "version", "class_name", "state"))
    if type(category) is not str or category != "class" or type(version) is not int or version != VERSION:
        raise CheckpointError(f"a persistent object must be a class of version {VERSION}")
    # Any class is accepted here: loss and encoder are not used, and `_modules` checks the classes of the network.
    if type(name) is not str or len(name) > MAX_NAME or not name.isidentifier():
        raise CheckpointError(
            f"the name of a class must be an identifier, got {quoted(name) if type(name) is str else kind(name)}"
        )
    if type(state) is not dict:
        raise CheckpointError(f"the state of {quoted(name)} must be a dictionary, got {kind(state)}")
    return Record(name, state)


GLOBALS: Globals = {
    ("dnnlib.util", "EasyDict"): Global("dnnlib.util.EasyDict", new=dict),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Global(
        "torch_utils.persistence._reconstruct_persistent_obj", call=_persistent
    ),
    ("torch.nn.modules.container", "ModuleDict"): Global(
        "torch.nn.modules.container.ModuleDict", new=lambda: Record("ModuleDict")
    ),
}


def is_network(contents: object) -> bool:
    """Whether this is the dictionary that the EDM2 code pickles."""
    return type(contents) is dict and isinstance(contents.get("ema"), Record)


def network(contents: Any) -> Checkpoint:
    """The network of such a dictionary: its tensors, and its constructor's arguments as ``init_kwargs``.

    Constants that the modules have as attributes are added to the arguments, because the official code computes with
    the attributes; the two must agree.
    """
    ema = contents["ema"]
    if ema.class_name != _NETWORK:
        raise CheckpointError(f"the network must be of EDM2's class {_NETWORK}, got {quoted(ema.class_name)}")
    tensors: dict[str, np.ndarray] = {}
    options = dict(_arguments(ema))
    for path, module in _modules(ema):
        for key, value in _constants(module):
            if key in options and options[key] != value:
                raise CheckpointError(
                    f"{quoted('.'.join(path))} has {key} = {quoted(repr(value))}, but elsewhere it is "
                    f"{quoted(repr(options[key]))}"
                )
            options[key] = value
        for name, tensor in _tensors_of(module):
            tensors[check_name(".".join((*path, name)))] = tensor.array()
        if len(tensors) > MAX_TENSORS:
            raise CheckpointError(f"the network has more than {MAX_TENSORS} tensors")
    attributes = {"class_name": _NETWORK, "init_kwargs": options}
    encoder = contents.get("encoder")
    if isinstance(encoder, Record) and encoder.class_name in _ENCODERS:
        attributes["encoder"] = _encoder(encoder)
    return Checkpoint(tensors, attributes)


def _arguments(module: Record) -> dict[str, Any]:
    state = _state(module)
    positional, keywords = state.get("_init_args"), state.get("_init_kwargs")
    if type(positional) is not tuple or positional or type(keywords) is not dict:
        raise CheckpointError(f"{module.class_name} must have been built from keyword arguments alone")
    return plain(keywords)


def _encoder(encoder: Record) -> dict[str, Any]:
    """The attributes of the encoder, which maps images to the network's input, as far as they are plain values."""
    state = {key: value for key, value in _state(encoder).items() if not key.startswith("_")}
    return {"class_name": encoder.class_name, **plain(state)}


def _state(module: Record) -> dict[str, Any]:
    state = module.state
    # Many modules may share one state, so its size is bounded here, at each use.
    if state is None or len(state) > MAX_ENTRIES or any(type(key) is not str for key in state):
        raise CheckpointError(
            f"{quoted(module.class_name)} has no state, more than {MAX_ENTRIES} entries, or keys that are not text"
        )
    return state


def _modules(root: Record) -> Iterator[tuple[tuple[str, ...], Record]]:
    """Every module of the tree with its path. The depth is bounded, because a module may contain itself."""
    waiting: list[tuple[tuple[str, ...], Record]] = [((), root)]
    seen = 0
    while waiting:
        path, module = waiting.pop()
        seen += 1
        if seen > MAX_MODULES or len(path) > MAX_DEPTH:
            raise CheckpointError(
                f"the network has more than {MAX_MODULES} modules, or more than {MAX_DEPTH} levels of them"
            )
        if module.class_name not in _MODULES:
            raise CheckpointError(
                f"{quoted('.'.join(path))} is of class {quoted(module.class_name)}, which EDM2's networks do not "
                f"have; their classes are {', '.join(_MODULES)}"
            )
        yield path, module
        children = _entries(module, "_modules", Record)
        waiting.extend(((*path, name), child) for name, child in reversed(children))


def _tensors_of(module: Record) -> Iterator[tuple[str, Tensor]]:
    tensors = [*_entries(module, "_parameters", Tensor), *_entries(module, "_buffers", Tensor)]
    if len({name for name, _ in tensors}) < len(tensors):
        raise CheckpointError(f"{module.class_name} has a parameter and a buffer of the same name")
    return iter(tensors)


def _entries(module: Record, table: str, wanted: type) -> list[tuple[str, Any]]:
    """Names and values of one of a module's three tables; absent ones (None) are left out."""
    entries = _state(module).get(table)
    if type(entries) is not dict or len(entries) > MAX_ENTRIES:
        raise CheckpointError(f"{module.class_name} must have a dictionary {table}, got {kind(entries)}")
    for name, value in entries.items():
        if type(name) is not str or not 0 < len(name) <= MAX_NAME or "." in name:
            shown = quoted(name) if type(name) is str else kind(name)
            raise CheckpointError(f"{module.class_name} has an entry of {table} named {shown}")
        if value is not None and not isinstance(value, wanted):
            raise CheckpointError(f"{table} of {module.class_name} holds {kind(value)} as {quoted(name)}")
    return [(name, value) for name, value in entries.items() if value is not None]


def _constants(module: Record) -> Iterator[tuple[str, Any]]:
    state = _state(module)
    for key in _CONSTANTS.get(module.class_name, ()):
        if key in state:
            yield key, plain(state[key], 10)
    if module.class_name == "Block" and type(state.get("num_heads")) is int and state["num_heads"] > 0:
        width = state.get("out_channels")
        if type(width) is not int or width % state["num_heads"]:
            raise CheckpointError("a block's channels must be a multiple of its heads")
        yield "channels_per_head", width // state["num_heads"]
