"""Making checkpoints, honest and hostile, without torch.

`dump` is Python's own pickler, the slow one in Python, taught to write names, calls and persistent ids that
need not exist here. Everything about torch's and EDM2's formats is spelled out from their descriptions.
"""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

TYPES = {
    "float16": "HalfStorage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "bfloat16": "BFloat16Storage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "int16": "ShortStorage",
    "int32": "IntStorage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
}
MAGIC = 0x1950A86A20F9469CFC6C


class Name:
    """A global."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """REDUCE, then BUILD where there is a state."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.function, self.arguments, self.state = function, arguments, state


class New(Call):
    """NEWOBJ, then SETITEMS or BUILD."""

    def __init__(self, cls: Any, *arguments: Any, items: Mapping | None = None, state: Any = None) -> None:
        super().__init__(cls, *arguments, state=state)
        self.items = items


class Persistent:
    """A persistent id."""

    def __init__(self, identity: Any) -> None:
        self.identity = identity


class Raw(bytes):
    """Opcodes, written as they are."""


class _Pickler(pickle._Pickler):  # type: ignore[name-defined]
    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        match obj:
            case Raw():
                self.write(obj)
            case Name():
                self._save_name(obj)
            case Call():
                self._save_call(obj)
            case Persistent():
                self.save(obj.identity)
                self.write(pickle.BINPERSID)
            case _:
                super().save(obj, save_persistent_id)

    def _save_name(self, obj: Name) -> None:
        if self.proto < 4:
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        else:
            self.save(obj.module)
            self.save(obj.name)
            self.write(pickle.STACK_GLOBAL)

    def _save_call(self, obj: Call) -> None:
        if id(obj) in self.memo:
            self.write(self.get(self.memo[id(obj)][0]))
            return
        self.save(obj.function)
        self.save(obj.arguments)
        self.write(pickle.NEWOBJ if isinstance(obj, New) else pickle.REDUCE)
        self.memoize(obj)
        if isinstance(obj, New) and obj.items is not None:
            self._batch_setitems(obj.items.items())
        if obj.state is not None:
            self.save(obj.state)
            self.write(pickle.BUILD)


def dump(value: Any, protocol: int = 4) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol).dump(value)
    return file.getvalue()


ORDERED = Name("collections", "OrderedDict")
NDARRAY = Name("numpy", "ndarray")


def ordered() -> Call:
    return Call(ORDERED)


def array(values: np.ndarray, module: str = "numpy.core.multiarray") -> Call:
    code = values.dtype.str[1:]
    dtype = Call(Name("numpy", "dtype"), code, False, True, state=(3, "<", None, None, None, -1, -1, 0))
    state = (1, values.shape, dtype, False, values.tobytes())
    return Call(Name(module, "_reconstruct"), NDARRAY, (0,), b"b", state=state)


class Layout(NamedTuple):
    """How a tensor lies on its storage; None for what an honest file would say."""

    offset: Any = 0
    shape: Any = None
    strides: Any = None
    hooks: Any = None
    metadata: tuple = ()


PLAIN = Layout()


def rebuild(storage: Any, values: np.ndarray, layout: Layout = PLAIN) -> Call:
    shape = values.shape if layout.shape is None else layout.shape
    itemsize = max(values.dtype.itemsize, 1)
    strides = tuple(s // itemsize for s in values.strides) if layout.strides is None else layout.strides
    hooks = ordered() if layout.hooks is None else layout.hooks
    return Call(
        Name("torch._utils", "_rebuild_tensor_v2"),
        storage, layout.offset, shape, strides, False, hooks, *layout.metadata,
    )  # fmt: skip


def legacy(
    found: Any,
    storages: Mapping[str, np.ndarray],
    *,
    number: Any = MAGIC,
    version: Any = 1001,
    system: Any = None,
    keys: Any = None,
    counts: Mapping[str, int] | None = None,
    tail: bytes = b"",
    protocol: int = 2,
) -> bytes:
    """A file in torch's legacy format."""
    sizes = {"short": 2, "int": 4, "long": 4}
    system = (
        {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes} if system is None else system
    )
    keys = sorted(storages) if keys is None else keys
    head = (
        b"".join(dump(part, 2) for part in (number, version, system)) + dump(found, protocol) + dump(keys, 2)
    )
    data = b"".join(
        struct.pack("<q", (counts or {}).get(key, storages[key].size)) + storages[key].tobytes()
        for key in sorted(storages)
    )
    return head + data + tail


def identity(values: np.ndarray, key: Any = "0", **changes: Any) -> Persistent:
    parts = {
        "word": "storage",
        "cls": Name("torch", TYPES[values.dtype.name]),
        "key": key,
        "place": "cpu",
        "count": values.size,
        "view": None,
    } | changes
    return Persistent(tuple(parts.values()))


def storage(values: np.ndarray, **changes: Any) -> Call:
    """A storage inside a pickled network: a legacy file of its own."""
    return Call(Name("torch.storage", "_load_from_bytes"), legacy(identity(values), {"0": values}, **changes))


def tensor(values: np.ndarray, layout: Layout = PLAIN) -> Call:
    return rebuild(storage(values), values, layout)


def parameter(values: np.ndarray, layout: Layout = PLAIN) -> Call:
    return Call(Name("torch._utils", "_rebuild_parameter"), tensor(values, layout), False, ordered())


def persistent(class_name: Any, state: Any, **changes: Any) -> Call:
    meta = {"type": "class", "version": 6, "module_src": "", "class_name": class_name, "state": state}
    return Call(Name("torch_utils.persistence", "_reconstruct_persistent_obj"), meta | changes)


def module_state(
    parameters: Mapping | None = None,
    buffers: Mapping | None = None,
    modules: Mapping | None = None,
    options: Mapping | None = None,
    **attributes: Any,
) -> dict[str, Any]:
    return {
        "training": False,
        "_parameters": dict(parameters or {}),
        "_buffers": dict(buffers or {}),
        "_non_persistent_buffers_set": set(),
        "_forward_hooks": ordered(),
        "_modules": dict(modules or {}),
        "_init_args": (),
        "_init_kwargs": dict(options or {}),
        **attributes,
    }


def module_dict(modules: Mapping) -> New:
    state = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": dict(modules)}
    return New(Name("torch.nn.modules.container", "ModuleDict"), state=state)


def easy_dict(items: Mapping) -> New:
    return New(Name("dnnlib.util", "EasyDict"), items=items)


def top(ema: Any, **others: Any) -> New:
    return easy_dict(
        {"encoder": None, "dataset_kwargs": easy_dict({"use_labels": True}), **others, "ema": ema}
    )


def network(tensors: Mapping[str, np.ndarray], options: Mapping | None = None, **attributes: Any) -> New:
    """A pickled network with these tensors, in the tree that their names tell."""
    return top(_module("", tensors, options or {}, attributes))


def _module(path: str, tensors: Mapping[str, np.ndarray], options: Mapping, attributes: Mapping) -> Any:
    own = {name: values for name, values in tensors.items() if "." not in name}
    children: dict[str, dict] = {}
    for name, values in tensors.items():
        head, dot, rest = name.partition(".")
        if dot:
            children.setdefault(head, {})[rest] = values
    modules = {
        head: _module(f"{path}.{head}".strip("."), inside, {}, {}) for head, inside in children.items()
    }
    if path in ("unet.enc", "unet.dec"):
        return module_dict(modules)
    fourier = "freqs" in own
    class_name = {"": "Precond", "unet": "UNet"}.get(
        path, "MPFourier" if fourier else "Block" if modules else "MPConv"
    )
    parameters = {} if fourier else {name: parameter(values) for name, values in own.items()}
    buffers = {name: tensor(values) for name, values in own.items()} if fourier else {}
    return persistent(class_name, module_state(parameters, buffers, modules, options, **attributes))


def archive(
    found: Any,
    storages: Mapping[str, np.ndarray],
    *,
    root: str = "archive",
    protocol: int = 2,
    **others: bytes,
) -> bytes:
    """A zip file as ``torch.save`` writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as opened:
        opened.writestr(f"{root}/data.pkl", dump(found, protocol))
        opened.writestr(f"{root}/byteorder", "little")
        for key, values in storages.items():
            opened.writestr(f"{root}/data/{key}", values.tobytes())
        for name, contents in others.items():
            opened.writestr(name[1:] if name.startswith("/") else f"{root}/{name}", contents)
        opened.writestr(f"{root}/version", "3\n")
    return file.getvalue()


def safetensors(header: Any, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def directory(archive: bytes) -> tuple[int, int]:
    """Start and size of a zip file's central directory."""
    size, start = struct.unpack("<2L", archive[-10:-2])
    return start, size
