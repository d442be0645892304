"""Files that lie, break off or attack: each is one clear error, and nothing happens besides."""

import io
import itertools
import os
import pickle
import pickletools
import struct
import sys
import zipfile

import numpy as np
import pytest

from neural import CheckpointError
from neural.checkpoints import machine, read
from neural.checkpoints.formats import read_torch_bytes
from neural.edm2 import check_network
from tests.neural.checkpoints import forge
from tests.neural.checkpoints.forge import Call, Layout, Name, New, Raw

VALUES = np.arange(12, dtype=np.float16).reshape(3, 4)
TENSORS = {"unet.out_gain": np.array(0.5, np.float16), "unet.enc.4x4_conv.weight": VALUES}
MARKER = "marker"

# Names that a trainer's file might honestly hold; there they are stand-ins, in a network they are refused.
UNNEEDED = {
    "numpy.zeros": ((1 << 40,),),
    "numpy.ndarray.tofile": (MARKER,),
    "torch._utils._rebuild_device_tensor_from_numpy": (),
    "collections.defaultdict": (None,),
    "__main__.anything": (),
    "builtins.bytearray": (1 << 40,),
    "functools.partial": (None, 1 << 40),
    "__builtin__.xrange": (0, 1 << 60, 1),
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint": (),
    "ldm.util.instantiate_from_config": ({"target": "os.system", "params": f"touch {MARKER}"},),
}  # fmt: skip

ATTACKS = {
    "os.system": (f"touch {MARKER}",),
    "posix.system": (f"touch {MARKER}",),
    "nt.system": (f"touch {MARKER}",),
    "os.remove": ("kept",),
    "shutil.rmtree": (".",),
    "subprocess.Popen": (["touch", MARKER],),
    "subprocess.check_output": (["touch", MARKER],),
    "builtins.eval": (f"open('{MARKER}', 'w')",),
    "builtins.exec": (f"open('{MARKER}', 'w')",),
    "__builtin__.raw_input": (),
    "commands.getoutput": (f"touch {MARKER}",),
    "__builtin__.eval": (f"open('{MARKER}', 'w')",),
    "builtins.open": (MARKER, "w"),
    "io.open": (MARKER, "w"),
    "builtins.getattr": ("os", "system"),
    "builtins.__import__": ("antigravity",),
    "importlib.import_module": ("this",),
    "runpy.run_path": (MARKER,),
    "pickle.loads": (b"cos\nsystem\n(S'touch marker'\ntR.",),
    "_pickle.loads": (b"cos\nsystem\n(S'touch marker'\ntR.",),
    "torch.load": (MARKER,),
    "torch.hub.load": ("repository", "model"),
    "torch.storage._load_from_bytes_": (b"",),
    "torch.serialization._load": (),
    "torch.jit._pickle.build_intlist": ([],),
    "torch_utils.persistence._src_to_module": ("import os",),
    "dnnlib.util.call_func_by_name": ("os.system",),
    "dnnlib.util.get_obj_by_name": ("os.system",),
    "numpy.load": (MARKER,),
    "numpy.testing._private.utils.runstring": ("import os", {}),
    "collections.OrderedDict.fromkeys": ([],),
    "operator.attrgetter": ("system",),
    "operator.methodcaller": ("system", "touch"),
    "codecs.encode": ("a", "latin1"),
    "copyreg._reconstructor": (),
    "types.CodeType": (),
    "types.FunctionType": (),
    "marshal.loads": (b"",),
    "ctypes.CDLL": ("libc.so.6",),
    "socket.socket": (),
    "webbrowser.open": ("http://127.0.0.1",),
    "sys.exit": (0,),
    ".": (),
    "__builtins__.eval": ("1",),
}  # fmt: skip


def _attack(name, arguments, place):
    module, _, attribute = name.rpartition(".")
    call = Call(Name(module, attribute), *arguments)
    match place:
        case "network":
            return forge.dump(forge.top(call))
        case "storage":
            loader = Name("torch.storage", "_load_from_bytes")
            return forge.dump(forge.top(Call(loader, forge.legacy(call, {}))))
        case "zip":
            return forge.archive({"a": call}, {})
        case "legacy":
            return forge.legacy({"a": call}, {})
    raise AssertionError(place)


def _network(tensors=TENSORS, **changes):
    """A network around one changed tensor, option or state."""
    return forge.dump(forge.network(tensors, **changes))


def _numbers(count):
    """An array, made in one piece."""
    dtype = Call(Name("numpy", "dtype"), "f8")
    return Call(Name("numpy._core.numeric", "_frombuffer"), bytes(8 * count), dtype, (count,), "C")


def _many_modules():
    """A module that holds another a hundred times, which holds another a hundred times, and so on."""
    inner = forge.module_dict({})
    for _ in range(6):
        inner = forge.module_dict(dict.fromkeys(map(str, range(100)), inner))
    return _state(_modules={"a": inner})


def _around(tensor):
    state = forge.module_state({"weight": tensor})
    return forge.dump(forge.top(forge.persistent("Precond", state)))


def _layout(**changes):
    return _around(forge.tensor(VALUES, Layout(**changes)))


def _state(**changes):
    return forge.dump(forge.top(forge.persistent("Precond", forge.module_state() | changes)))


def _legacy(found=None, **changes):
    found = {"a": forge.rebuild(forge.identity(VALUES), VALUES)} if found is None else found
    return forge.legacy(found, {"0": VALUES}, **changes)


def _zip(found=None, storages=None, **others):
    found = {"a": forge.rebuild(forge.identity(VALUES), VALUES)} if found is None else found
    return forge.archive(found, {"0": VALUES} if storages is None else storages, **others)


def _identity(**changes):
    return {"a": forge.rebuild(forge.identity(VALUES, **changes), VALUES)}


def _array(state=(), **dtype):
    good = {"code": "f4", "order": "<", "shape": (2,), "raw": bytes(8), "version": 1} | dtype
    kind = Call(Name("numpy", "dtype"), good["code"], False, True,
                state=(3, good["order"], None, None, None, -1, -1, 0))  # fmt: skip
    made = Call(
        Name("numpy.core.multiarray", "_reconstruct"),
        forge.NDARRAY,
        (0,),
        b"b",
        state=state or (good["version"], good["shape"], kind, False, good["raw"]),
    )
    return forge.dump(forge.top(forge.persistent("Precond", forge.module_state()), extra=made))


def _repeated(opening, count, closing=b""):
    return b"\x80\x04" + opening * count + closing + b"."


def _doubling(levels):
    """A tuple of twice the tuple before, and so on: a few bytes for 2^levels parts."""
    return b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(200, 200 + levels))


def _multiplying(levels):
    """A dictionary that holds twice the dictionary before, and so on."""
    inner = b"".join(b"K%c}(K\x00h%cK\x01h%cuq%c" % (i, i, i, i + 1) for i in range(levels))
    return b"\x80\x04}(K\xff}q\x00" + inner + b"u."


def _deflated():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a/data.pkl", forge.dump(_identity(), 2))
        opened.writestr("a/data/0", bytes(1 << 20))
    return file.getvalue()


def _patched(contents, old, new):
    assert old in contents
    return contents.replace(old, new)


def _end(**changes):
    contents = _zip()
    names = ("disk", "first", "here", "count", "size", "start", "comment")
    fields = dict(zip(names, struct.unpack("<4H2LH", contents[-18:]), strict=True)) | changes
    return contents[:-18] + struct.pack("<4H2LH", *fields.values())


def _cyclic_module():
    """A module that is its own submodule: the state is fetched from the memo inside itself."""
    state = {"_parameters": {}, "_buffers": {}, "_init_args": (), "_init_kwargs": {}}
    inner: dict = {}
    record = New(Name("torch.nn.modules.container", "ModuleDict"),
                 state={"_parameters": {}, "_buffers": {}, "_modules": inner})  # fmt: skip
    inner["self"] = record
    return forge.dump(forge.top(forge.persistent("Precond", state | {"_modules": {"a": record}})))


def _again(count):
    """One large storage, opened many times."""
    raw = forge.legacy(forge.identity(VALUES), {"0": VALUES})
    loader = Name("torch.storage", "_load_from_bytes")
    return forge.dump({"raw": raw, "all": [Call(loader, raw) for _ in range(count)]})


HUGE = 1 << 62
MUCH = np.zeros(5_000, np.float16)
UNEQUAL = {"unet.a.weight": VALUES, "unet.enc.x.y": VALUES}

LIES = {
    # Layouts.
    "offset outside": (lambda: _layout(offset=1), "reaches outside its storage of 12 values"),
    "offset far outside": (lambda: _layout(offset=HUGE), "begins at value"),
    "offset negative": (lambda: _layout(offset=-1), "begins at value -1"),
    "offset is text": (lambda: _layout(offset="0"), "a tensor has str where int belongs"),
    "offset is a bool": (lambda: _layout(offset=False), "a tensor has bool where int belongs"),
    "shape too large": (lambda: _layout(shape=(4, 4)), "reaches outside"),
    "shape absurd": (lambda: _layout(shape=(HUGE, HUGE)), "a shape that no network has"),
    "shape of absurd product": (lambda: _layout(shape=(1 << 30, 1 << 30), strides=(1 << 30, 1)), "no network has"),
    "shape empty but absurd": (lambda: _layout(shape=(0, 1 << 39, 1 << 39), strides=(1, 1, 1)), "no network has"),
    "shape negative": (lambda: _layout(shape=(-3, 4)), "no network has"),
    "shape of text": (lambda: _layout(shape=("3", 4)), "no network has"),
    "shape of fractions": (lambda: _layout(shape=(3.0, 4)), "no network has"),
    "shape of many axes": (lambda: _layout(shape=(1,) * 40, strides=(1,) * 40), "no network has"),
    "shape is a list": (lambda: _layout(shape=[3, 4]), "has list where tuple belongs"),
    "strides expand one value": (lambda: _layout(shape=(1 << 30,), strides=(0,)), "overlaps itself"),
    "strides overlap": (lambda: _layout(strides=(2, 1)), "overlaps itself"),
    "strides overlap crosswise": (lambda: _layout(shape=(2, 3), strides=(3, 2)), "overlaps itself"),
    "strides negative": (lambda: _layout(strides=(-4, 1)), "overlaps itself"),
    "strides outside": (lambda: _layout(strides=(5, 1)), "reaches outside"),
    "strides huge": (lambda: _layout(strides=(HUGE, 1)), "reaches outside"),
    "strides too few": (lambda: _layout(strides=(1,)), "has 1 strides"),
    "strides of text": (lambda: _layout(strides=("4", "1")), "has 2 strides"),
    "hooks": (lambda: _layout(hooks={"hook": 1}), "hooks or metadata"),
    "metadata": (lambda: _layout(metadata=({"conj": True},)), "hooks or metadata"),
    "metadata is a list": (lambda: _layout(metadata=([1],)), "hooks or metadata"),
    "too many arguments": (lambda: _layout(metadata=({}, 1)), "must have 6 to 7 parts, got 8"),
    "tensor of a tensor": (lambda: _around(forge.rebuild(forge.tensor(VALUES), VALUES)), "Tensor where Storage"),
    "tensor of bytes": (lambda: _around(forge.rebuild(b"12", VALUES)), "memoryview where Storage"),
    "tensor without arguments": (
        lambda: _around(Call(Name("torch._utils", "_rebuild_tensor_v2"))), "must have 6 to 7 parts, got 0",
    ),
    "parameter of a storage": (
        lambda: _around(Call(Name("torch._utils", "_rebuild_parameter"), forge.storage(VALUES), False, {})),
        "a parameter has Storage where Tensor belongs",
    ),
    "parameter with hooks": (
        lambda: _around(Call(Name("torch._utils", "_rebuild_parameter"), forge.tensor(VALUES), False, {"a": 1})),
        "a parameter comes with hooks",
    ),
    # Storages inside a network.
    "storage with another number": (lambda: _around(forge.rebuild(forge.storage(VALUES, number=1), VALUES)), "format"),
    "storage with a text for a number": (
        lambda: _around(forge.rebuild(forge.storage(VALUES, number="x"), VALUES)), "not in torch's format",
    ),
    "storage of another version": (
        lambda: _around(forge.rebuild(forge.storage(VALUES, version=1002), VALUES)), "must have version 1001",
    ),
    "storage big-endian": (
        lambda: _around(forge.rebuild(forge.storage(VALUES, system={"little_endian": False}), VALUES)),
        "not written on a little-endian machine",
    ),
    "storage with wrong keys": (
        lambda: _around(forge.rebuild(forge.storage(VALUES, keys=["1"]), VALUES)), "does not name those",
    ),
    "storage with a key twice": (
        lambda: _around(forge.rebuild(forge.storage(VALUES, keys=["0", "0"]), VALUES)), "names one twice",
    ),
    "storage with keys of lists": (
        lambda: _around(forge.rebuild(forge.storage(VALUES, keys=[[], []]), VALUES)), "does not name those",
    ),
    "storage with another count": (
        lambda: _around(forge.rebuild(forge.storage(VALUES, counts={"0": 11}), VALUES)), "has 11 in its header",
    ),
    "storage with a negative count": (
        lambda: _around(forge.rebuild(forge.storage(VALUES, counts={"0": -1}), VALUES)), "has -1 in its header",
    ),
    "storage with a tail": (
        lambda: _around(forge.rebuild(forge.storage(VALUES, tail=b"x"), VALUES)), "something else than one storage",
    ),
    "storage of nothing": (
        lambda: _around(forge.rebuild(Call(Name("torch.storage", "_load_from_bytes"), b""), VALUES)), "cut short",
    ),
    "storage of text": (
        lambda: _around(forge.rebuild(Call(Name("torch.storage", "_load_from_bytes"), "text"), VALUES)),
        "str where memoryview belongs",
    ),
    "storage that is a dictionary": (
        lambda: _around(forge.rebuild(Call(Name("torch.storage", "_load_from_bytes"), forge.legacy({}, {})), VALUES)),
        "something else than one storage",
    ),
    "storage that loads another": (
        lambda: _around(
            Call(Name("torch.storage", "_load_from_bytes"), forge.legacy(forge.storage(VALUES), {"0": VALUES}))
        ),
        "uses 'torch.storage'.'_load_from_bytes'",
    ),
    "storage that is larger than the file": (
        lambda: _around(Call(Name("torch.storage", "_load_from_bytes"),
            forge.legacy(forge.identity(VALUES, count=1 << 39), {"0": VALUES}, counts={"0": 1 << 39}))),
        "cut short: 1099511627776 bytes wanted",
    ),
    "the same storage again and again": (lambda: _again(500), "uses the same values again and again"),
    # Storages of archives and of the legacy format.
    "identity of another word": (lambda: _zip(_identity(word="module")), "a plain one of a known type"),
    "identity of a view": (lambda: _legacy(_identity(view=("1", 0, 4))), "a plain one of a known type"),
    "identity of too few parts": (
        lambda: _zip({"a": forge.rebuild(forge.Persistent(("storage",)), VALUES)}), "must have 5 to 6 parts, got 1",
    ),
    "identity is text": (lambda: _zip({"a": forge.rebuild(forge.Persistent("storage"), VALUES)}), "got str"),
    "identity with no class": (lambda: _zip(_identity(cls="HalfStorage")), "str where Global belongs"),
    "identity with a function": (
        lambda: _zip(_identity(cls=Name("collections", "OrderedDict"))), "got collections.OrderedDict",
    ),
    "identity with an unknown class": (
        lambda: _zip(_identity(cls=Name("torch", "QInt8Storage"))), "has torch.QInt8Storage where Global belongs",
    ),
    "identity with a number for a key": (lambda: _zip(_identity(key=0)), "a storage has int where str belongs"),
    "identity of too many values": (lambda: _zip(_identity(count=13)), "must have 26 bytes, got 24"),
    "identity of absurdly many": (lambda: _zip(_identity(count=HUGE)), "a storage of 4611686018427387904 values"),
    "identity of negative size": (lambda: _legacy(_identity(count=-1)), "a storage of -1 values"),
    "identity announced differently": (
        lambda: _zip(_identity() | {"b": forge.rebuild(forge.identity(VALUES.view(np.int16)), VALUES)}),
        "announced twice, differently",
    ),
    "identity that climbs out": (lambda: _zip(_identity(key="../../kept")), "has no storage '../../kept'"),
    "identity in a network": (lambda: forge.dump(forge.top(forge.identity(VALUES))), "a persistent id where none"),
    "legacy with a tail": (lambda: _legacy(tail=b"x"), "1 bytes after the end"),
    "legacy with a storage too many": (lambda: _legacy({"a": 1}), "does not name those that the tensors use"),
    "bools of other bytes": (
        lambda: _zip(_identity(cls=Name("torch", "BoolStorage"), count=24)), "bytes other than 0 and 1",
    ),
    # Archives.
    "archive without a pickle": (lambda: _zip(root="a/b"), "must have one entry NAME/data.pkl"),
    "archive of two pickles": (lambda: _zip(**{"/b/data.pkl": b"."}), "must have one entry NAME/data.pkl"),
    "archive with a program": (lambda: _zip(**{"constants.pkl": b"."}), "TorchScript"),
    "archive without a storage": (lambda: _zip(storages={}), "has no storage '0'"),
    "archive of damaged values": (
        lambda: _patched(_zip(), VALUES.tobytes(), bytes(24)), "wrong checksum; the file is damaged",
    ),
    "archive compressed": (_deflated, "is compressed or encrypted"),
    "archive with a comment": (lambda: _end(comment=1), "with a comment"),
    "archive in volumes": (lambda: _end(disk=1), "in several volumes"),
    "archive of too many entries": (lambda: _end(here=6, count=6), "cut short"),
    "archive of too few entries": (lambda: _end(here=3, count=3), "goes on after its 3 entries"),
    "archive whose directory is outside": (lambda: _end(start=1 << 31), "lies outside the file"),
    "archive whose directory is huge": (lambda: _end(size=1 << 31), "lies outside the file"),
    "archive whose directory is elsewhere": (lambda: _end(start=0), "."),
    "archive with missing 64 bit sizes": (lambda: _end(size=0xFFFFFFFF), "."),
    "archive cut short": (lambda: _zip()[:-1], "no directory at its end"),
    "archive of nothing": (lambda: b"PK\3\4", "no directory at its end"),
    "archive with a pickle's tail": (lambda: _zip(forge.Raw(b"N.N")), "after the end of the archive's pickle"),
    # Networks.
    "class unknown": (lambda: forge.dump(forge.top(forge.persistent("Evil", {}))), "class Precond, got 'Evil'"),
    "class of a container": (lambda: forge.dump(forge.top(forge.persistent("ModuleDict", {}))), "got 'ModuleDict'"),
    "class is a number": (lambda: forge.dump(forge.top(forge.persistent(1, {}))), "must be an identifier, got int"),
    "class of a loss": (
        lambda: forge.dump(forge.top(forge.persistent("EDM2Loss", forge.module_state()))), "got 'EDM2Loss'",
    ),
    "version": (lambda: forge.dump(forge.top(forge.persistent("Precond", {}, version=7))), "class of version 6"),
    "version is true": (lambda: forge.dump(forge.top(forge.persistent("UNet", {}, version=True))), "of version 6"),
    "type": (lambda: forge.dump(forge.top(forge.persistent("UNet", {}, type="function"))), "class of version 6"),
    "state is a list": (lambda: forge.dump(forge.top(forge.persistent("Precond", []))), "must be a dictionary"),
    "state of numbers": (lambda: forge.dump(forge.top(forge.persistent("Precond", {1: 2}))), "keys that are not text"),
    "state missing": (lambda: forge.dump(forge.top(forge.persistent("Precond", {}))), "keyword arguments alone"),
    "state huge": (
        lambda: forge.dump(forge.top(forge.persistent("Precond", {str(i): i for i in range(2000)}))),
        "more than 500 entries",
    ),
    "positional arguments": (lambda: _state(_init_args=(1,)), "keyword arguments alone"),
    "options of a name": (lambda: _state(_init_kwargs={"a": forge.NDARRAY}), "which is not plain data"),
    "options of bytes": (lambda: _state(_init_kwargs={"a": b"x"}), "which is not plain data"),
    "options of numbers as keys": (lambda: _state(_init_kwargs={1: 2}), "which is not plain data"),
    "options of long text": (lambda: _state(_init_kwargs={"a": "x" * 20_000}), "which is not plain data"),
    "options of many parts": (lambda: _state(_init_kwargs={"a": list(range(20_000))}), "too many parts"),
    "options that multiply": (lambda: _state(_init_kwargs={"a": Raw(_doubling(50))}), "too many parts|levels"),
    "options that disagree": (lambda: _network(options={"sigma_data": 1.0}, sigma_data=0.5), "sigma_data = '0.5'"),
    "module tables missing": (lambda: _state(_modules=None), "must have a dictionary _modules, got NoneType"),
    "module tables as lists": (lambda: _state(_parameters=[]), "must have a dictionary _parameters, got list"),
    "module table huge": (lambda: _state(_buffers=dict.fromkeys(map(str, range(2000)))), "a dictionary _buffers"),
    "module that is a number": (lambda: _state(_modules={"a": 1}), "_modules of Precond holds int as 'a'"),
    "module that is a loss": (
        lambda: _state(_modules={"a": forge.persistent("EDM2Loss", {})}), "'a' is of class 'EDM2Loss', which",
    ),
    "module of a class unknown": (
        lambda: _state(_modules={"a": forge.persistent("Unet2", forge.module_state())}), "'a' is of class 'Unet2'",
    ),
    "class with a name that is none": (
        lambda: forge.dump(forge.top(forge.persistent("\x1b[2J", {}))), "must be an identifier, got '.x1b.2J'",
    ),
    "class with a name without end": (lambda: forge.dump(forge.top(forge.persistent("a" * 999, {}))), "identifier"),
    "name that moves the cursor": (lambda: _network(TENSORS | {"a\x1b[2J": VALUES}), "a tensor is named 'a.x1b.2J'"),
    "arrays that multiply": (
        lambda: _state(_init_kwargs={"a": [_numbers(1000)] * 11}), "an attribute has too many parts",
    ),
    "texts that multiply": (lambda: _state(_init_kwargs={"a": ["x" * 9000] * 20}), "an attribute has too many parts"),
    "modules that multiply": (_many_modules, "more than 5000 modules"),
    "tensors that multiply": (
        lambda: _zip(dict.fromkeys(map(str, range(99)), forge.rebuild(forge.identity(MUCH), MUCH)), {"0": MUCH}),
        "tensors that share storage come to 990000 bytes, the file has",
    ),
    "parameter that is a module": (
        lambda: _state(_parameters={"a": forge.module_dict({})}), "_parameters of Precond holds Record as 'a'",
    ),
    "name with a dot": (lambda: _state(_parameters={"a.b": forge.tensor(VALUES)}), "named 'a.b'"),
    "name of nothing": (lambda: _state(_parameters={"": forge.tensor(VALUES)}), "named ''"),
    "name that is long": (lambda: _state(_parameters={"a" * 9999: forge.tensor(VALUES)}), "an entry of _parameters"),
    "name that is a number": (lambda: _state(_buffers={1: forge.tensor(VALUES)}), "named int"),
    "name used twice": (
        lambda: _state(_parameters={"a": forge.tensor(VALUES)}, _buffers={"a": forge.tensor(VALUES)}),
        "a parameter and a buffer of the same name",
    ),
    "module inside itself": (_cyclic_module, "levels of them"),
    "heads that are not whole": (
        lambda: _state(_modules={"b": forge.persistent("Block", forge.module_state(num_heads=3, out_channels=64))}),
        "must be a multiple of its heads",
    ),
    "container without a state": (
        lambda: _state(_modules={"a": New(Name("torch.nn.modules.container", "ModuleDict"))}), "has no state",
    ),
    "container with a list for a state": (
        lambda: _state(_modules={"a": New(Name("torch.nn.modules.container", "ModuleDict"), state=[1])}),
        "gets list as its state",
    ),
    "container with two states": (
        lambda: forge.dump([forge.module_dict({}), Raw(b"}b")]), "or a second one",
    ),
    "container with arguments": (
        lambda: forge.dump(New(Name("torch.nn.modules.container", "ModuleDict"), 1)), "made with arguments",
    ),
    "container called": (lambda: forge.dump(Call(Name("torch.nn.modules.container", "ModuleDict"))), "calls"),
    "encoder of names": (
        lambda: forge.dump(forge.top(forge.persistent("Precond", forge.module_state()),
            encoder=forge.persistent("StandardRGBEncoder", {"scale": forge.NDARRAY}))),
        "which is not plain data",
    ),
    # NumPy arrays.
    "array of objects": (lambda: _array(code="O8"), "a NumPy dtype must be one of f2"),
    "array of records": (lambda: _array(code="V8"), "a NumPy dtype must be one of f2"),
    "array of another byte order": (lambda: _array(order="!"), "byte orders are < > | =, got '!'"),
    "array of too few bytes": (lambda: _array(raw=bytes(7)), "must have 8 bytes, got 7"),
    "array of absurd shape": (lambda: _array(shape=(HUGE,)), "an array has a shape that no network has"),
    "array of another version": (lambda: _array(version=2), "a NumPy array of version 2"),
    "array without a state": (lambda: _array(state=(1,)), "ndarray must have 5 to 5 parts, got 1"),
    "array of a list": (lambda: _array(state=[1]), "ndarray must have 5 to 5 parts, got list"),
    "array of another class": (
        lambda: forge.dump(Call(Name("numpy.core.multiarray", "_reconstruct"), forge.ORDERED, (0,), b"b")),
        "asked for collections.OrderedDict",
    ),
    "array made of an array": (
        lambda: forge.dump(Call(Name("numpy.core.multiarray", "_reconstruct"), forge.NDARRAY, (_numbers(2),), b"b")),
        "the shape of an array has ndarray where int belongs",
    ),
    "array made large": (
        lambda: forge.dump(Call(Name("numpy.core.multiarray", "_reconstruct"), forge.NDARRAY, (1 << 40,), b"b")),
        "not an empty array",
    ),
    "array by NEWOBJ": (lambda: forge.dump(New(forge.NDARRAY, (1 << 40,))), "makes an instance of numpy.ndarray"),
    "array by a call": (lambda: forge.dump(Call(forge.NDARRAY, (1 << 40,))), "calls numpy.ndarray"),
    "scalar of an object": (
        lambda: forge.dump(Call(Name("numpy.core.multiarray", "scalar"), 1, b"")), "int where DtypeShell belongs",
    ),
    "buffer in another order": (
        lambda: forge.dump(Call(Name("numpy._core.numeric", "_frombuffer"), bytes(4),
            Call(Name("numpy", "dtype"), "f4"), (1,), "K")),
        "the order of an array must be C or F",
    ),
    "bytes of another encoding": (lambda: forge.dump(Call(Name("_codecs", "encode"), "ff", "hex")), "must be latin1"),
    "bytes that are not latin1": (
        lambda: forge.dump(Call(Name("_codecs", "encode"), "\u0394", "latin1")), "must be latin1",
    ),
    "ordered dictionary of pairs": (lambda: forge.dump(Call(forge.ORDERED, [(1, 2)])), "must have 0 to 0 parts"),
    "set of lists": (lambda: forge.dump(Call(Name("builtins", "set"), [[]])), "holds set, not a dictionary"),
    # Programs.
    "state set on a list": (lambda: forge.dump([Raw(b"]}b")]), "sets the state of list"),
    "state set on a name": (
        lambda: forge.dump([Raw(b"ccollections\nOrderedDict\n}\x8c\x0c__setstate__Nsb")]), "sets the state of",
    ),
    "state of a text on a dictionary": (lambda: forge.dump([Raw(b"}Nb")]), "sets the state of dict"),
    "call of a text": (lambda: forge.dump([Raw(b"\x8c\x04eval)R")]), "the file calls str"),
    "call of a result": (lambda: forge.dump(Call(Call(forge.ORDERED))), "the file calls dict"),
    "call with a list": (lambda: forge.dump([Raw(b"ccollections\nOrderedDict\n]R")]), "must be a tuple, got list"),
    "instance of a number": (lambda: forge.dump([Raw(b"K\x01)\x81")]), "an instance of int"),
    "name from numbers": (lambda: forge.dump([Raw(b"K\x01K\x02\x93")]), "a name must be text, got int and int"),
    "name from bytes": (lambda: forge.dump([Raw(b"C\x02osC\x06system\x93")]), "a name must be text"),
    "name without an end": (lambda: forge.dump([Raw(b"c" + b"a" * 999)]), "no name of at most 256"),
    "name that is not ASCII": (lambda: forge.dump([Raw(b"cos\xe9\nsystem\n")]), "no name of at most 256"),
    "key is a list": (lambda: forge.dump([Raw(b"}]Ns")]), "a key must be text or .*, got list"),
    "key that takes forever to hash": (lambda: b"\x80\x04}" + _doubling(50) + b"Ns.", "32 bits, got tuple"),
    "key of 32 bits": (lambda: forge.dump({1 << 31: 1}), "whole number of 32 bits, got int"),
    "key that is a fraction": (lambda: forge.dump({0.5: 1}), "whole number of 32 bits, got float"),
    "odd number of items": (lambda: forge.dump([Raw(b"}(Nu")]), "sets 1 keys and values in dict"),
    "items in a list": (lambda: forge.dump([Raw(b"]NNs")]), "keys and values in list"),
    "append to a dictionary": (lambda: forge.dump([Raw(b"}Na")]), "appends to dict"),
    "append to a tuple": (lambda: forge.dump([Raw(b")(Ne")]), "appends to tuple"),
    "add to a list": (lambda: forge.dump([Raw(b"](N\x90")]), "adds to list as to a set"),
    "add a list": (lambda: forge.dump([Raw(b"\x8f(]\x90")]), "a key must be text or a whole number"),
    "fetch what was not kept": (lambda: forge.dump([Raw(b"h\x63")]), "fetches value 99"),
    "pop below a mark": (lambda: forge.dump([Raw(b"N(\x85")]), "runs empty"),
    "no mark": (lambda: b"\x80\x04t.", "no mark"),
    "empty": (lambda: b"\x80\x04.", "runs empty"),
    "values left over": (lambda: b"\x80\x04NN.", "values left on its stack"),
    "mark left over": (lambda: b"\x80\x04N(N.", "."),
    "protocol 0": (lambda: pickle.dumps({"a": 1}, 0), "neither a pickle of protocol 2"),
    "protocol 1": (lambda: b"\x80\x01}.", "protocol must be 2 to 5, got 1"),
    "protocol 9": (lambda: b"\x80\x09}.", "protocol must be 2 to 5, got 9"),
    "frame outside": (lambda: b"\x80\x04\x95" + struct.pack("<Q", HUGE) + b"}.", "a frame of"),
    "text outside": (lambda: b"\x80\x04X" + struct.pack("<L", 99) + b"a.", "cut short: 99 bytes wanted"),
    "text of absurd length": (lambda: b"\x80\x04\x8d" + struct.pack("<Q", HUGE) + b"a.", "at most 16777216 are read"),
    "text that is not UTF-8": (lambda: b"\x80\x04\x8c\x01\xff.", "is not UTF-8"),
    "bytes of absurd length": (lambda: b"\x80\x04\x8e" + struct.pack("<Q", HUGE) + b"a.", "cut short"),
    "bytearray of absurd length": (lambda: b"\x80\x05\x96" + struct.pack("<Q", HUGE) + b"a.", "cut short"),
    "deep lists": (lambda: _repeated(b"]", 200_000, b"a" * 199_999), "stack is too deep"),
    "deep tuples": (lambda: _repeated(b"\x85", 500_000).replace(b"\x04", b"\x04N", 1), "holds tuple"),
    "many marks": (lambda: _repeated(b"(", 5_000), "stack is too deep"),
    "many opcodes": (lambda: _repeated(b"N\x85\x94", 500_000), "stack is too deep|opcodes"),
    "endless work": (lambda: b"\x80\x04}" + b"NNs" * 400_000 + b".", "more than 1000000 opcodes"),
    "a list inside itself": (lambda: forge.dump({"ema": Raw(b"]\x94h\x01a"), "x": 1}), "holds no tensors"),
    "a dictionary inside itself": (
        lambda: b"\x80\x04}\x94\x8c\x01ah\x00s.", "levels of dictionaries",
    ),
    "dictionaries that multiply": (lambda: _multiplying(28), "entries or 32 levels"),
    "not a dictionary": (lambda: forge.dump([1, 2]), "holds list, not a dictionary of tensors"),
    "no tensors": (lambda: forge.dump({"a": 1}), "the file holds no tensors"),
    "names that meet": (
        lambda: _zip({"a": {"b": (t := forge.rebuild(forge.identity(VALUES), VALUES))}, "a.b": t}), "named 'a.b'",
    ),
    "a name without end": (
        lambda: _zip({"a" * 9999: forge.rebuild(forge.identity(VALUES), VALUES)}), "a tensor is named 'aaa",
    ),
    "something after the end": (lambda: _network() + b"N.", "2 bytes after the end"),
}  # fmt: skip

UNKNOWN_OPCODES = [
    code for code in map(chr, range(256)) if ord(code) not in machine._OPERATIONS and code != "."
]


@pytest.fixture
def refuse(tmp_path, monkeypatch):
    """Reading these bytes is refused, on one line, and leaves the folder and the modules as they were."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    open("kept", "w").close()
    before = set(sys.modules)

    def check(contents, message):
        path = tmp_path / "file"
        path.write_bytes(contents)
        with pytest.raises(CheckpointError, match=message) as caught:
            read(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: ")
        assert "\n" not in text
        assert len(text) < 600
        assert os.listdir(".") == ["kept"]
        assert set(sys.modules) == before

    return check


@pytest.mark.parametrize("place", ["network", "storage", "zip", "legacy"])
@pytest.mark.parametrize("name", ATTACKS)
def test_names_that_no_checkpoint_needs(name, place, refuse):
    module, _, attribute = name.rpartition(".")
    refuse(
        _attack(name, ATTACKS[name], place),
        f"uses '{module}'.'{attribute}'.*; nothing of it was run".replace(".'", "[.]'"),
    )


def _global(name):
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


@pytest.mark.parametrize("place", ["network", "storage"])
@pytest.mark.parametrize("name", UNNEEDED)
def test_a_network_holds_nothing_of_a_trainer(name, place, refuse):
    refuse(_attack(name, UNNEEDED[name], place), "uses .*; nothing of it was run")


@pytest.mark.parametrize("form", [forge.archive, forge.legacy])
@pytest.mark.parametrize("name", UNNEEDED)
def test_objects_of_a_trainer_are_inert(name, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    module, _, attribute = name.rpartition(".")
    unneeded = Name(module, attribute)
    made = Call(unneeded, *UNNEEDED[name], state={"values": VALUES.tobytes(), "more": [unneeded]})
    found = {
        "state_dict": {"a": forge.rebuild(forge.identity(VALUES), VALUES)},
        "callbacks": made,
        "instance": New(unneeded, items={"a": made, 3: 4}, state=(None, {"slot": 1})),
        "appended": Raw(_global(name) + b"(NNeNa"),
        "added": Raw(_global(name) + b"(NN\x90"),
        "new": Raw(_global(name) + b")}\x92"),
        "frozen": Raw(b"(NK\x01(NN\x86t\x91"),
        # Under a name that is not needed: a fraction, a tuple and a number of 72 bits.
        "keys": Raw(
            b"}" + _global(name) + b"NsG" + bytes(8) + b"Ns(K\x01K\x02tNs\x8a\x09" + b"\x7f" * 9 + b"Ns"
        ),
        "epoch": 3,
    }
    checkpoint = read_torch_bytes(memoryview(form(found, {"0": VALUES})))
    assert checkpoint.ignored == (name,)
    assert checkpoint.attributes == {"epoch": 3, "keys": {}}
    assert checkpoint.tensors.keys() == {"a"}
    np.testing.assert_array_equal(checkpoint.tensors["a"], VALUES)
    assert os.listdir() == []
    assert set(sys.modules) == before


def test_pickled_modules_of_the_legacy_format_are_inert():
    module = forge.Persistent(("module", Name("a", "Net"), "net.py", "import os; os.system('touch marker')"))
    found = {
        "state_dict": {"a": forge.rebuild(forge.identity(VALUES), VALUES)},
        "model": New(module, state={}),
    }
    assert read_torch_bytes(memoryview(forge.legacy(found, {"0": VALUES}))).ignored == ("a.Net",)
    nameless = New(forge.Persistent(("module", Name("a", "Net"), None, None)), state={})
    assert read_torch_bytes(memoryview(forge.legacy(found | {"model": nameless}, {"0": VALUES}))).ignored == (
        "a.Net",
    )
    for wrong in (("module",), ("module", Name("torch", "HalfStorage"), "", ""), ("module", "a.Net", "", "")):
        with pytest.raises(
            CheckpointError, match=r"a module (must have 4 to 4 parts|has .* where Opaque belongs)"
        ):
            read_torch_bytes(memoryview(forge.legacy(found | {"x": forge.Persistent(wrong)}, {"0": VALUES})))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"state_dict": {"a": Call(Name("a", "Tensor"))}}, "entry 'a' of state_dict is of a kind unknown here"),
        ({"state_dict": Call(Name("a", "Dict"))}, "state_dict must be a dictionary of tensors, got a.Dict"),
        (Call(Name("a", "Model")), "the file holds a.Model, not a dictionary of tensors"),
        ({"x": [Name("a", f"n{i}") for i in range(1001)]}, "more than 1000 names"),
        ({"x": Name("a b", "c")}, "uses 'a b'.'c'"),
        ({"x": Name("a", "c\x1b[2J")}, r"uses 'a'.'c.x1b.2J'"),
        ({"x": Call(Name("a", "b"), state=Call(Name("a", "c"), Call(Name("posix", "system"))))}, "'posix'.'system'"),
        ({"x": Name("a.b", "c"), "y": Name("collections", "abc")}, "'collections'.'abc'"),
        ({"x": Raw(_global("a.b") + b"N\x81")}, "makes an instance of a.b"),
        ({"x": Raw(_global("a.b") + b"NR")}, "arguments of a call must be a tuple"),
        ({"x": Raw(_global("collections.OrderedDict") + b")}\x92")}, "makes an instance of collections.OrderedDict"),
        ({"x": Raw(_global("a.b") + b"N}\x92")}, "makes an instance of a.b"),
        ({"x": forge.Persistent(("module", Name("a", "b"), "b.py", "import os"))}, "a storage must have 5 to 6 parts"),
        ({"x": Raw(b"}]Ns")}, "holds no tensors"),
    ],
)  # fmt: skip
def test_what_a_trainer_cannot_say(found, message, refuse):
    refuse(forge.archive(found, {}), message)


@pytest.mark.parametrize("name", LIES)
def test_lies(name, refuse):
    make, message = LIES[name]
    refuse(make(), message)


@pytest.mark.parametrize("code", UNKNOWN_OPCODES, ids=[f"{ord(code):02x}" for code in UNKNOWN_OPCODES])
def test_opcodes_that_are_not_needed(code, refuse):
    refuse(b"\x80\x04" + code.encode("latin-1") + b"." * 9, "is not allowed in a checkpoint")


def test_the_corpus_is_large_and_would_do_harm():
    assert 4 * len(ATTACKS) + len(LIES) + len(UNKNOWN_OPCODES) > 400


def test_the_attacks_are_real(tmp_path, monkeypatch):
    # What Python's own reader makes of one of them.
    monkeypatch.chdir(tmp_path)
    attack = Call(Name("os", "system"), *ATTACKS["os.system"])
    assert pickle.loads(forge.dump(attack)) == 0
    assert os.listdir(".") == [MARKER]


def test_opcodes_are_those_that_the_standard_library_knows():
    # Names in comments apart, each code here is one of Python's, and takes from the stream what it takes there.
    known = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
    assert machine._OPERATIONS.keys() <= known.keys()
    lengths = {"uint1": 1, "uint2": 2, "int4": 4, "uint4": 4, "uint8": 8, "float8": 8}
    for code in machine._OPERATIONS:
        argument = known[code].arg
        wanted = lengths.get(argument.name, 0) if argument else 0
        cursor = machine.Cursor(memoryview(b"\x03" + bytes(31)))
        run = machine._Machine(cursor, {}, machine.Budget(99), None, None)
        run.stack, run.memo = [None, [], []], {0: None, 3: None}
        try:
            machine._OPERATIONS[code](run)
        except CheckpointError:
            continue  # it needs something else on the stack; the tests of honest files run it
        if wanted:
            assert cursor.position == wanted, known[code].name


BASES = {
    "network": _network(options={"dropout": 0.0}),
    "zip": _zip(),
    "legacy": _legacy(),
    "protocol 2": forge.dump(forge.network(TENSORS), 2),
}


@pytest.mark.parametrize("name", BASES)
def test_truncation_at_every_byte(name):
    contents = BASES[name]
    read_torch_bytes(memoryview(contents))
    for length in range(len(contents)):
        with pytest.raises(CheckpointError):
            read_torch_bytes(memoryview(contents[:length]))


def _mutated(contents, rng):
    """A few bytes changed, a piece doubled, dropped or moved, or two opcodes put in."""
    out = bytearray(contents)
    at = int(rng.integers(len(out)))
    length = int(rng.integers(1, 9))
    match rng.integers(5):
        case 0 | 1:
            for place in rng.integers(len(out), size=length):
                out[place] = rng.integers(256)
        case 2:
            del out[at : at + length]
        case 3:
            out[at:at] = out[at : at + 8 * length]
        case 4:
            out[at:at] = bytes(rng.choice(list(machine._OPERATIONS), size=2).astype(np.uint8))
    return bytes(out)


@pytest.mark.parametrize("name", BASES)
def test_mutations_are_read_or_refused(name):
    contents = BASES[name]
    rng = np.random.default_rng(1)
    outcomes = {True: 0, False: 0}
    for _ in range(2000):
        try:
            found = read_torch_bytes(memoryview(_mutated(contents, rng)))
        except CheckpointError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
            for tensor in found.tensors.values():
                tensor.tobytes()  # every value can be reached
    # Some only change values; most are noticed.
    assert outcomes[False] > outcomes[True] > 0


def test_mutations_inside_a_trainers_archive(data):
    # The archive's checksums would notice a changed pickle before it is run, so it is put together anew.
    with zipfile.ZipFile(data.parent / "trainer" / "trainer.ckpt") as opened:
        entries = {name: opened.read(name) for name in opened.namelist()}
    program = next(name for name in entries if name.endswith("/data.pkl"))
    rng = np.random.default_rng(3)
    outcomes = {True: 0, False: 0}
    for _ in range(600):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as opened:
            for name, contents in entries.items():
                opened.writestr(name, _mutated(contents, rng) if name == program else contents)
        try:
            found = read_torch_bytes(memoryview(file.getvalue()))
        except CheckpointError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
            assert sum(tensor.nbytes for tensor in found.tensors.values()) <= 4 * len(file.getvalue())
    assert outcomes[False] > outcomes[True] > 0


def test_mutations_of_an_official_file_are_loaded_or_refused(data):
    contents = (data / "tiny.pkl").read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(150):
        # Structure is at the front and between the tensors: nine tenths of the file are values.
        head = _mutated(contents[:60_000], rng)
        try:
            found = read_torch_bytes(memoryview(head + contents[60_000:]))
        except CheckpointError:
            continue
        try:
            check_network(found)
        except ValueError:
            continue


@pytest.mark.parametrize("stride", [0, -1, HUGE, -(1 << 70), 1 << 70])
@pytest.mark.parametrize("shape", [(1, 4), (0, 4), (4, 1, 0)])
def test_strides_that_mean_nothing_may_be_anything(shape, stride):
    strides = (stride, *(1,) * (len(shape) - 1))
    found = read_torch_bytes(memoryview(_layout(shape=shape, strides=strides))).tensors["weight"]
    np.testing.assert_array_equal(found, VALUES.ravel()[: found.size].reshape(shape))


def test_the_layout_rule_is_exact():
    # Every small layout: allowed exactly if no two indices meet and none is outside.
    for shape in itertools.product(range(1, 4), repeat=2):
        for strides in itertools.product(range(5), repeat=2):
            for offset in (0, 2):
                places = [offset + i * strides[0] + j * strides[1] for i, j in np.ndindex(shape)]
                contents = _layout(shape=shape, strides=strides, offset=offset)
                try:
                    found = read_torch_bytes(memoryview(contents)).tensors["weight"]
                except CheckpointError:
                    # Interleaved strides such as (3, 2) are refused though they may not meet: no layout of a
                    # tensor that was ever contiguous has them.
                    nested = all(a >= 1 + b * (n - 1) for a, b, n in _pairs(strides, shape))
                    assert len(set(places)) < len(places) or max(places) >= VALUES.size or not nested
                else:
                    assert len(set(places)) == len(places)
                    np.testing.assert_array_equal(found.ravel(), VALUES.ravel()[places])


def _pairs(strides, shape):
    """Larger stride, smaller stride and the size of the smaller one's axis, of axes longer than one."""
    axes = sorted((stride, size) for stride, size in zip(strides, shape, strict=True) if size > 1)
    return [(big, small, size) for (small, size), (big, _) in itertools.pairwise(axes)]
