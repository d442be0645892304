"""Safetensors files: written to equal bytes for equal values, read as views of the mapped file.

The package's reader copies every tensor that it is asked for. Weights are converted right after they are read,
so a view, which costs nothing, halves the memory of a load. A header is checked by the rules of
that package: sizes that agree, no holes, no overlaps, nothing left over.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from gmm.files import write_whole
from neural.checkpoints.checkpoint import Checkpoint, CheckpointError, Cursor, quoted, read_mapped
from neural.checkpoints.machine import kind
from neural.checkpoints.objects import check_name, check_shape, plain

MAX_HEADER = 1 << 23

DTYPES: dict[str, np.dtype] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BF16": np.dtype(jnp.bfloat16),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "BOOL": np.dtype("?"),
}

_QUANTISED = ("F8_", "F6_", "F4", "E8M0")


def read_safetensors(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a safetensors file.

    Metadata whose text is JSON, as `write_safetensors` writes it, become attributes of that value, others
    attributes of their text.

    Returns:
        Its tensors, as views of the mapped file, and its attributes.

    Raises:
        CheckpointError: when the file is cut short, its header is no table of tensors, or these overlap, leave
            holes or do not fill the file.
    """
    return read_mapped(path, read_safetensors_bytes)


def read_safetensors_bytes(buffer: memoryview) -> Checkpoint:
    """The contents of such a file."""
    cursor = Cursor(buffer)
    length = cursor.number(8)
    if length > min(MAX_HEADER, cursor.left):
        raise CheckpointError(
            f"a header of {length} bytes; at most {MAX_HEADER} are read and {cursor.left} are left"
        )
    header = _parse(bytes(cursor.take(length)))
    if type(header) is not dict:
        raise CheckpointError("the header must be a JSON object")
    metadata = header.pop("__metadata__", {})
    return Checkpoint(_views(header, cursor.take(cursor.left)), _attributes(metadata))


def is_safetensors(start: bytes) -> bool:
    """Whether the first nine bytes of a file look like a safetensors header."""
    return len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER


def _views(header: dict[str, Any], data: memoryview) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in header.items():
        tensors[check_name(name)], span = _view(name, entry, data)
        spans.append(span)
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            raise CheckpointError(f"tensors overlap or leave a hole at byte {reached} of the data")
        reached = end
    if reached != len(data):
        raise CheckpointError(f"tensors take {reached} bytes, the file has {len(data)} for them")
    # After the check that no bytes belong to two tensors: looking at all values costs as much as the file is long.
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "b" and tensor.size and tensor.view(np.uint8).max() > 1:
            raise CheckpointError(f"tensor {quoted(name)} is BOOL but holds bytes other than 0 and 1")
    return tensors


def _view(name: str, entry: object, data: memoryview) -> tuple[np.ndarray, tuple[int, int]]:
    if type(entry) is not dict or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"tensor {quoted(name)} must have dtype, shape and data_offsets, nothing else")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(code) is str and code.startswith(_QUANTISED):
        raise CheckpointError(
            f"tensor {quoted(name)} is stored in fp8 or less ({quoted(code)}), which is not read; take the fp16, bf16 "
            "or float32 file of the same model"
        )
    if type(code) is not str or code not in DTYPES:
        raise CheckpointError(f"the dtype of tensor {quoted(name)} must be one of {', '.join(DTYPES)}")
    if type(shape) is not list:
        raise CheckpointError(f"the shape of tensor {quoted(name)} must be a list, got {kind(shape)}")
    check_shape(f"tensor {quoted(name)}", shape)
    if type(offsets) is not list or len(offsets) != 2 or any(type(offset) is not int for offset in offsets):
        raise CheckpointError(f"data_offsets of tensor {quoted(name)} must be two integers")
    begin, end = offsets
    dtype = DTYPES[code]
    if not 0 <= begin <= end <= len(data) or end - begin != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(
            f"tensor {quoted(name)} of shape {shape} and dtype {code} cannot be bytes {begin} to {end} of "
            f"{len(data)}"
        )
    return np.frombuffer(data[begin:end], dtype).reshape(shape), (begin, end)


def _attributes(metadata: object) -> dict[str, Any]:
    if type(metadata) is not dict or any(type(value) is not str for value in metadata.values()):
        raise CheckpointError("__metadata__ must be an object of texts")
    return {key: _json_or_text(value) for key, value in metadata.items()}


def _json_or_text(text: str) -> Any:
    try:
        # The reader of headers took lone surrogates, which are not text.
        return plain(_parse(text.encode()))
    except UnicodeEncodeError as error:
        raise CheckpointError("__metadata__ is not UTF-8") from error
    except CheckpointError:
        return text


def _parse(text: bytes) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        dictionary = dict(pairs)
        if len(dictionary) < len(pairs):
            raise CheckpointError("the header names something twice")
        return dictionary

    try:
        return json.loads(text, object_pairs_hook=unique)
    except CheckpointError:
        raise
    # Text that is not UTF-8 or not JSON, numbers of thousands of digits; brackets nested without end.
    except (ValueError, RecursionError) as error:
        raise CheckpointError("the header is not JSON") from error


def write_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], attributes: Mapping[str, Any]
) -> None:
    """Write tensors and attributes to `path`, beside it first and then renamed; equal ones to equal bytes.

    The package's own writer orders metadata by a hash that changes from process to process.

    Args:
        path: the file, replaced if it exists.
        tensors: by name.
        attributes: values of JSON's types; each becomes one entry of the file's metadata.

    Raises:
        ValueError: when `path` cannot be written, or a tensor has a dtype that the format does not have.
    """
    write_whole(path, to_bytes(tensors, attributes))


def to_bytes(tensors: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> bytes:
    """The file that `write_safetensors` writes."""
    header: dict[str, Any] = {
        "__metadata__": {key: json.dumps(attributes[key]) for key in sorted(attributes)}
    }
    codes = {dtype: code for code, dtype in DTYPES.items()}
    # Not ascontiguousarray, which gives a number of no axes one.
    whole = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    # Large items first, as the package does it: every tensor then lies at a multiple of its item's size.
    order = sorted(whole, key=lambda name: (-whole[name].itemsize, name))
    at = 0
    for name in order:
        values = whole[name]
        if values.dtype not in codes:
            raise ValueError(
                f"tensor {quoted(name)} must have a dtype of {', '.join(codes.values())}; got {values.dtype}"
            )
        offsets = [at, at := at + values.nbytes]
        header[name] = {"dtype": codes[values.dtype], "shape": list(values.shape), "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(whole[name].tobytes() for name in order)])
