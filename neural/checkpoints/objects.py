"""The objects that checkpoints of torch are made of, and the only constructors that a pickle may call.

Every constructor checks its arguments before anything is made, and none allocates: a tensor is a shape and
strides on a storage, a storage is a piece of the file.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from neural.checkpoints.checkpoint import CheckpointError, quoted
from neural.checkpoints.machine import Buildable, Global, Globals, Opaque, is_key, kind

# PyTorch itself stops at 64 axes, NumPy at 64; a network's tensors have at most five.
MAX_AXES = 16
MAX_SIZE = 1 << 40
MAX_VALUES = 1_000
"""Numbers of an array that is an attribute, e.g. the statistics of latents."""
MAX_PARTS = 10_000
"""Numbers, texts by their length, lists and dictionaries of one attribute, shared ones once for each place."""
_LETTERS = 16
MAX_TENSORS = 100_000
MAX_SHARING = 4
MAX_NAME = 500
MAX_DEPTH = 32
MAX_ATTRIBUTE = 10_000
"""Characters of a text that is an attribute; an error may have to show it."""

STORAGE_DTYPES: dict[str, np.dtype] = {
    "HalfStorage": np.dtype("<f2"),
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "ShortStorage": np.dtype("<i2"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
    "BoolStorage": np.dtype("?"),
}
_ARRAY_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


@dataclasses.dataclass(eq=False)
class Storage:
    """Values in a row; `data` is None until the reader has come to it."""

    dtype: np.dtype
    count: int
    data: memoryview | None = None

    def fill(self, data: memoryview) -> None:
        """Take the bytes, which must be as many as were announced."""
        if len(data) != self.count * self.dtype.itemsize:
            raise CheckpointError(
                f"a storage of {self.count} {self.dtype} values must have "
                f"{self.count * self.dtype.itemsize} bytes, got {len(data)}"
            )
        # NumPy takes a bool's byte at its word, and other bytes than 0 and 1 break its arithmetic.
        if self.dtype.kind == "b" and len(data) and np.frombuffer(data, np.uint8).max() > 1:
            raise CheckpointError("a bool storage holds bytes other than 0 and 1")
        self.data = data


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage whose extent has been checked; offset and strides in values."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """The tensor as a read-only view of the file."""
        if self.storage.data is None:
            raise CheckpointError("a tensor's storage is not in the file")
        if 0 in self.shape:
            return np.frombuffer(b"", self.storage.dtype).reshape(self.shape)
        size = self.storage.dtype.itemsize
        # Along an axis of one value a stride means nothing, and may be larger than a machine's word.
        strides = tuple(s * size if n > 1 else size for s, n in zip(self.strides, self.shape, strict=True))
        array = np.ndarray(self.shape, self.storage.dtype, self.storage.data, self.offset * size, strides)
        array.flags.writeable = False
        return array


class ArrayShell(Buildable):
    """A NumPy array, which a pickle makes empty and fills afterwards; one of text or objects stays empty."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def build(self, state: object) -> None:
        version, shape, dtype, fortran, raw = fields("ndarray", state, int, tuple, None, bool, None)
        if isinstance(dtype, Opaque):
            return
        fields("ndarray", (dtype, raw), DtypeShell, memoryview)
        if version != 1 or self.array is not None:
            raise CheckpointError(f"a NumPy array of version {version}, or built twice")
        self.array = as_array(raw, dtype, shape, "F" if fortran else "C")


class DtypeShell(Buildable):
    """A NumPy dtype of plain numbers, little-endian until the pickle says otherwise."""

    def __init__(self, code: str) -> None:
        if code not in _ARRAY_DTYPES:
            raise CheckpointError(
                f"a NumPy dtype must be one of {', '.join(_ARRAY_DTYPES)}; got {quoted(code)}"
            )
        self.dtype = np.dtype(f"<{code}")

    def build(self, state: object) -> None:
        _, order, *_ = fields("dtype", state, int, str, None, None, None, int, int, int)
        if order not in ("<", "|", "=", ">"):
            raise CheckpointError(f"NumPy's byte orders are < > | =, got {quoted(order)}")
        self.dtype = self.dtype.newbyteorder("<" if order == "=" else order)


class Record(Buildable):
    """An instance of a class without meaning for us, e.g. a container of modules, and its attributes."""

    def __init__(self, class_name: str, state: dict[str, Any] | None = None) -> None:
        self.class_name = class_name
        self.state = state

    def build(self, state: object) -> None:
        if self.state is not None or type(state) is not dict:
            raise CheckpointError(f"{self.class_name} gets {kind(state)} as its state, or a second one")
        self.state = state


def fields(name: str, given: object, *types: type | None, optional: int = 0) -> Any:
    """The parts of a tuple after a check of their number and exact types; None for any type.

    Args:
        name: of what the parts belong to.
        given: the tuple.
        types: one a part.
        optional: how many parts at the end may be absent; they come out as None.
    """
    least = len(types) - optional
    if type(given) is not tuple or not least <= len(given) <= len(types):
        shown = f"{len(given)} part(s)" if type(given) is tuple else kind(given)
        raise CheckpointError(f"{name} must have {least} to {len(types)} parts, got {shown}")
    for part, wanted in zip(given, types, strict=False):
        if wanted is not None and type(part) is not wanted:
            raise CheckpointError(f"{name} has {kind(part)} where {wanted.__name__} belongs")
    return (*given, *(None,) * (len(types) - len(given)))


def as_array(raw: memoryview, dtype: DtypeShell, shape: tuple, order: Any = "C") -> np.ndarray:
    """A NumPy array on bytes of the file, of exactly their length."""
    check_shape("an array", shape)
    storage = Storage(dtype.dtype, math.prod(shape))
    storage.fill(raw)
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def check_shape(name: str, shape: Sequence[object]) -> None:
    """Raise unless every size is an integer of sane magnitude, and their product as well."""
    sane = len(shape) <= MAX_AXES and all(type(size) is int and 0 <= size <= MAX_SIZE for size in shape)
    if not sane or math.prod(max(size, 1) for size in shape) > MAX_SIZE:  # type: ignore[type-var]
        shown = [size if type(size) is int else kind(size) for size in shape[:MAX_AXES]]
        raise CheckpointError(f"{name} has a shape that no network has: {shown}"[:200])


def check_extent(tensor: Tensor) -> None:
    """Raise unless every value has a place of its own inside the storage.

    Axes sorted by stride must each step over all that the smaller ones reach. Transposed, sliced and
    channels-last tensors do; a tensor that repeats values, and so could be larger than the file, does not.
    """
    check_shape("a tensor", tensor.shape)
    if len(tensor.shape) != len(tensor.strides) or any(type(stride) is not int for stride in tensor.strides):
        raise CheckpointError(f"a tensor of {len(tensor.shape)} axes has {len(tensor.strides)} strides")
    if not 0 <= tensor.offset <= tensor.storage.count:
        raise CheckpointError(
            f"a tensor begins at value {tensor.offset} of a storage of {tensor.storage.count}"
        )
    if 0 in tensor.shape:
        return
    extent = 1
    for stride, size in sorted(zip(tensor.strides, tensor.shape, strict=True)):
        if size > 1:
            if stride < extent:
                raise CheckpointError(
                    f"a tensor of shape {tensor.shape} overlaps itself with strides {tensor.strides}"
                )
            extent += stride * (size - 1)
    if tensor.offset + extent > tensor.storage.count:
        raise CheckpointError(
            f"a tensor of shape {tensor.shape}, strides {tensor.strides}, offset {tensor.offset} reaches outside "
            f"its storage of {tensor.storage.count} values"
        )


class Allowance:
    """How many parts may still be copied or looked at. A few bytes can share one part a million times."""

    def __init__(self, left: int, what: str = "an attribute") -> None:
        self.left, self.what = left, what

    def spend(self, parts: int = 1) -> None:
        """Count parts.

        Raises:
            CheckpointError: when more are wanted than are left.
        """
        self.left -= parts
        if self.left < 0:
            raise CheckpointError(f"{self.what} has too many parts")


def plain(value: object, parts: int = MAX_PARTS) -> Any:
    """A copy in JSON's types: arrays become lists.

    Args:
        value: anything that a pickle has built.
        parts: how many it may have.

    Raises:
        CheckpointError: when it holds anything else, too much, or itself.
    """
    return _plain(value, Allowance(parts), MAX_DEPTH)


def _plain(value: Any, allowance: Allowance, depth: int) -> Any:
    # Shared parts are copied once for each place, so it is the copy that must be bounded.
    allowance.spend()
    if depth == 0:
        raise CheckpointError(f"an attribute has more than {MAX_DEPTH} levels")
    if value is None or type(value) in (bool, int, float):
        return value
    if type(value) is str and len(value) <= MAX_ATTRIBUTE:
        allowance.spend(len(value) // _LETTERS)
        return value
    if isinstance(value, ArrayShell) and value.array is not None:
        value = value.array
    if isinstance(value, np.ndarray) and value.size <= MAX_VALUES:
        allowance.spend(value.size)
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item, allowance, depth - 1) for item in value]
    if type(value) is dict and all(type(key) is str for key in value):
        allowance.spend(sum(len(key) for key in value) // _LETTERS)
        return {key: _plain(item, allowance, depth - 1) for key, item in value.items()}
    raise CheckpointError(f"an attribute holds {kind(value)}, which is not plain data")


def check_name(name: str) -> str:
    """The name of a tensor, if it can stand in a line of text.

    Raises:
        CheckpointError: when it is long, or could move a terminal's cursor.
    """
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise CheckpointError(f"a tensor is named {quoted(name)}; at most {MAX_NAME} printable characters")
    return name


def check_sharing(tensors: Mapping[str, np.ndarray], size: int) -> None:
    """Raise when tensors that share storage would, converted one by one, be much larger than their file.

    Tied weights share; files of a few megabytes that say they hold every weight of a large network do too.
    """
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total > MAX_SHARING * size:
        raise CheckpointError(
            f"tensors that share storage come to {total} bytes, the file has {size}; "
            f"at most {MAX_SHARING} times as much is read"
        )


# The constructors. Each takes the tuple of arguments that the file calls it with.


def _ordered_dict(arguments: tuple) -> dict:
    fields("OrderedDict", arguments)
    return {}


def _set(arguments: tuple) -> set:
    """How protocols 2 and 3, which have no sets, spell them."""
    (items,) = fields("set", arguments, list)
    return {item for item in items if is_key(item)}


def _rebuild_tensor(arguments: tuple) -> Tensor:
    """Storage, offset, size, strides, requires_grad, hooks and, in newer files, metadata."""
    storage, offset, shape, strides, _, hooks, metadata = fields(
        "a tensor", arguments, Storage, int, tuple, tuple, bool, dict, None, optional=1
    )
    # Metadata would say that values are to be negated or conjugated.
    if hooks or (metadata is not None and (type(metadata) is not dict or metadata)):
        raise CheckpointError("a tensor comes with hooks or metadata")
    tensor = Tensor(storage, offset, shape, strides)
    check_extent(tensor)
    return tensor


def _rebuild_parameter(arguments: tuple) -> Tensor:
    tensor, _, hooks = fields("a parameter", arguments, Tensor, bool, dict)
    if hooks:
        raise CheckpointError("a parameter comes with hooks")
    return tensor


def _size(arguments: tuple) -> tuple:
    (shape,) = fields("torch.Size", arguments, tuple)
    return shape


def _reconstruct_array(arguments: tuple) -> ArrayShell:
    cls, shape, code = fields("_reconstruct", arguments, Global, tuple, memoryview)
    (length,) = fields("the shape of an array", shape, int)
    if cls is not _NDARRAY or length or bytes(code[:2]) != b"b":
        raise CheckpointError(f"_reconstruct is asked for {kind(cls)}, which is not an empty array")
    return ArrayShell()


def _dtype(arguments: tuple) -> DtypeShell:
    code, _, _ = fields("dtype", arguments, str, None, None, optional=2)
    return DtypeShell(code)


def _inert_if_unknown(at: int, make: Callable[[tuple], object]) -> Callable[[tuple], object]:
    """`make`, which returns the stand-in unchanged where argument `at` is the stand-in of an unknown type."""

    def call(arguments: tuple) -> object:
        unknown = len(arguments) > at and isinstance(arguments[at], Opaque)
        return arguments[at] if unknown else make(arguments)

    return call


def _trainers_dtype(arguments: tuple) -> DtypeShell | Opaque:
    """Arrays of text, objects, dates or records may lie beside the weights; their values are not read."""
    code, _, _ = fields("dtype", arguments, str, None, None, optional=2)
    return DtypeShell(code) if code in _ARRAY_DTYPES else Opaque("numpy.dtype")


def _attribute(arguments: tuple) -> Opaque:
    """The owner's stand-in, for a bound method or a member of an enumeration, spelled getattr(owner, name)."""
    if len(arguments) != 2 or not isinstance(arguments[0], Opaque) or type(arguments[1]) is not str:
        raise CheckpointError(
            "the file uses 'builtins'.'getattr', which a checkpoint does not need; nothing of it was run"
        )
    return arguments[0]


def _scalar(arguments: tuple) -> object:
    dtype, raw = fields("scalar", arguments, DtypeShell, memoryview)
    return as_array(raw, dtype, ()).item()


def _array_from_buffer(arguments: tuple) -> np.ndarray:
    raw, dtype, shape, order = fields("_frombuffer", arguments, memoryview, DtypeShell, tuple, str)
    if order not in ("C", "F"):
        raise CheckpointError(f"the order of an array must be C or F, got {quoted(order)}")
    return as_array(raw, dtype, shape, order)


def _encode(arguments: tuple) -> memoryview:
    """How protocol 2, which has no bytes, spells them."""
    text, encoding = fields("encode", arguments, str, str)
    if encoding not in ("latin1", "latin-1"):
        raise CheckpointError(f"bytes spelled as text must be latin1, got {quoted(encoding)}")
    try:
        return memoryview(text.encode("latin-1"))
    except UnicodeEncodeError as error:
        raise CheckpointError("bytes spelled as text must be latin1; other letters are in it") from error


_NDARRAY = Global("numpy.ndarray")


def _table(*entries: Global) -> Globals:
    return {tuple(entry.name.rsplit(".", 1)): entry for entry in entries}  # type: ignore[misc]


STORAGES: Globals = _table(*(Global(f"torch.{name}", value=dtype) for name, dtype in STORAGE_DTYPES.items()))
"""All that the pickle of one storage may name."""

STATE_DICT: Globals = {
    **STORAGES,
    **_table(
        Global("collections.OrderedDict", call=_ordered_dict),
        Global("builtins.set", call=_set),
        Global("__builtin__.set", call=_set),
        Global("torch._utils._rebuild_tensor_v2", call=_rebuild_tensor),
        Global("torch._utils._rebuild_parameter", call=_rebuild_parameter),
        Global("torch.Size", call=_size),
        Global("_codecs.encode", call=_encode),
        _NDARRAY,
        Global("numpy.dtype", call=_dtype),
        # NumPy 2 renamed its inner modules.
        *(
            Global(f"numpy.{core}.{name}", call=_inert_if_unknown(at, make))
            for core in ("core", "_core")
            for name, at, make in (
                ("multiarray._reconstruct", 0, _reconstruct_array),
                ("multiarray.scalar", 0, _scalar),
                ("numeric._frombuffer", 1, _array_from_buffer),
            )
        ),
    ),
}
"""What the pickle of a dictionary of tensors may name."""

TRAINER: Globals = {
    **STATE_DICT,
    **_table(
        Global("numpy.dtype", call=_trainers_dtype),
        Global("builtins.getattr", call=_attribute),
        Global("__builtin__.getattr", call=_attribute),
    ),
}
"""The same where a trainer's objects may lie beside the tensors."""
