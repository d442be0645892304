"""What does it cost to load EDM2-XS from the published format, in seconds and in memory?

    python -m benchmarks checkpoint_loading

The file is made in a temporary folder: the structure of an official pickle, every size that of EDM2-XS
(float16, 250 MB), random values. Each load runs in a process of its own that has imported everything, with
the file warm; NumPy's own cost of the conversion that a load cannot do without, float16 to float32, stands
beside it in the same process. Peak memory is that of the process above its idle state with jax, pages of the
mapped file included, and is given as a share of float32 weights plus file.
"""

import collections
import io
import json
import pickle
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.edm2_forward import XS, XS_ARGUMENTS
from benchmarks.harness import show
from neural import checkpoints
from neural.edm2 import tensor_shapes

LOAD = """
import json, sys, time
import jax, numpy as np
from benchmarks.harness import peak_memory
from neural import checkpoints, load_edm2
from pathlib import Path
path = Path(sys.argv[1])
jax.block_until_ready(jax.numpy.ones(1))
path.read_bytes()                                  # warm
Path("/proc/self/clear_refs").write_text("5")      # reset the recorded peak
idle = peak_memory()
start = time.perf_counter()
checkpoints.read(path)
read = time.perf_counter() - start
start, busy = time.perf_counter(), time.process_time()
model = load_edm2(path, unconditional=None)
jax.block_until_ready(model.weights)
load, busy = time.perf_counter() - start, time.process_time() - busy
peak = peak_memory() - idle
values = sum(weight.size for weight in model.weights.values())
start = time.perf_counter()
for tensor in checkpoints.read(path).tensors.values():
    tensor.astype(np.float32)
convert = time.perf_counter() - start
print(json.dumps({"read": read, "load": load, "busy": busy, "convert": convert,
                  "share": peak / (4 * values + path.stat().st_size), "peak": peak}))
"""


class Call:
    """Pickles as a call of a name that exists while the file is written."""

    def __init__(self, module: str, name: str, *arguments: object) -> None:
        self.reduced = _stand_in(module, name), arguments

    def __reduce__(self) -> tuple:
        return self.reduced


class _Identity(tuple):
    """Pickles as a persistent id."""


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> tuple | None:
        return tuple(obj) if isinstance(obj, _Identity) else None


def _stand_in(module: str, name: str) -> type:
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:depth]), ModuleType(module))
    if not hasattr(sys.modules[module], name):
        setattr(sys.modules[module], name, type(name, (), {"__module__": module}))
    return getattr(sys.modules[module], name)


def make_pickle(path: Path) -> None:
    """An EDM2-XS of random float16 tensors as the official code pickles it."""
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.standard_normal(shape, np.float32).astype(np.float16)
        for name, shape in tensor_shapes(XS).items()
    }
    with mock.patch.dict(sys.modules), path.open("wb") as file:
        pickle.dump({"encoder": None, "ema": _module("", tensors, XS_ARGUMENTS)}, file, 4)


def _module(path: str, tensors: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> object:
    parameters = {name: _tensor(values) for name, values in tensors.items() if "." not in name}
    inside: dict[str, dict] = collections.defaultdict(dict)
    for name, values in tensors.items():
        head, dot, rest = name.partition(".")
        if dot:
            inside[head][rest] = values
    parts = {head: _module(f"{path}.{head}", tensors_inside, {}) for head, tensors_inside in inside.items()}
    state = {
        "_parameters": parameters,
        "_buffers": {},
        "_modules": parts,
        "_init_args": (),
        "_init_kwargs": dict(options),
    }
    if path in (".unet.enc", ".unet.dec"):
        container = _stand_in("torch.nn.modules.container", "ModuleDict")()
        vars(container).update(state)
        return container
    name = {"": "Precond", ".unet": "UNet"}.get(path, "Block" if parts else "MPConv")
    meta = {"type": "class", "version": 6, "module_src": "", "class_name": name, "state": state}
    return Call("torch_utils.persistence", "_reconstruct_persistent_obj", meta)


def _tensor(values: np.ndarray) -> Call:
    """A storage is a file in torch's legacy format: five pickles, a count and the values."""
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    identity = _Identity(("storage", _stand_in("torch", "HalfStorage"), "0", "cpu", values.size, None))
    file = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, system, identity, ["0"]):
        _Pickler(file, 2).dump(part)
    file.write(struct.pack("<q", values.size) + values.tobytes())
    strides = tuple(stride // values.itemsize for stride in values.strides)
    storage = Call("torch.storage", "_load_from_bytes", file.getvalue())
    return Call("torch._utils", "_rebuild_tensor_v2", storage, 0, values.shape, strides, False, {})


def measure(path: Path) -> tuple[str, ...]:
    """One row: the file's loads, each in a fresh process, medians over them."""
    runs = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(path)], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout))
    read, load, busy, convert, share, peak = (
        float(np.median([run[key] for run in runs]))
        for key in ("read", "load", "busy", "convert", "share", "peak")
    )
    return (
        path.suffix, f"{path.stat().st_size / 1e6:.0f}", f"{read:.3f}", f"{load:.2f}", f"{busy:.2f}",
        f"{load / convert:.1f}", f"{peak / 1e6:.0f}", f"{share:.2f}",
    )  # fmt: skip


def run() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        pickled = Path(folder, "xs.pkl")
        make_pickle(pickled)
        plain = pickled.with_suffix(".safetensors")
        checkpoint = checkpoints.read(pickled)
        checkpoints.write_safetensors(plain, checkpoint.tensors, checkpoint.attributes)
        show(
            "Loading EDM2-XS in float32, warm file, medians of five processes",
            (
                "format",
                "file MB",
                "read s",
                "load s",
                "of processor",
                "load / float16 to float32",
                "peak MB",
                "peak / (weights + file)",
            ),
            [measure(pickled), measure(plain)],
        )


if __name__ == "__main__":
    run()
