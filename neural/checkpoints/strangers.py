"""Names that the checkpoints of trainers ask for and that no weights need: inert stand-ins.

Beside its ``state_dict`` such a file holds whatever the trainer keeps: callbacks, schedulers, configurations,
objects of any package. A stand-in is a word that nothing is looked up for: not imported, not called; what is
put into it is dropped (`neural.checkpoints.machine.Opaque`). That alone is what makes it safe. Names of the
standard library that are no plain values, and names that load or run code, are refused all the same: no trainer
stores ``os.system``, and a file that asks for it deserves no trust in its numbers either.
"""

import sys

from neural.checkpoints.checkpoint import CheckpointError, quoted
from neural.checkpoints.machine import Opaque

MAX_NAMES = 1_000
"""Different names in one file; a trainer's has some tens."""

_VALUES: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "argparse": "Namespace",
        "builtins": "bool bytes complex dict float frozenset int list object range set slice str tuple",
        "__builtin__": "bool bytes complex dict float frozenset int list object range set slice str tuple unicode",
        "collections": "ChainMap Counter UserDict defaultdict deque",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        "random": "Random",
        "types": "SimpleNamespace",
        "typing": "Any Dict List Optional Tuple Union",
        "uuid": "UUID",
    }.items()
}
# What Python 2 called its modules, and the parts of this one that are no modules.
_LIBRARY = sys.stdlib_module_names | {"__builtin__", "__builtins__", "cPickle", "commands", "copy_reg", "os2"}
# Of packages that trainers do use: what reads files or runs programs.
_LOADERS = (
    "dnnlib.util", "numpy.ctypeslib", "numpy.distutils", "numpy.f2py", "numpy.load", "numpy.testing",
    "torch._dynamo", "torch._inductor", "torch.classes", "torch.hub", "torch.jit", "torch.load", "torch.ops",
    "torch.package", "torch.serialization", "torch.storage", "torch.utils.cpp_extension", "torch_utils",
)  # fmt: skip


class Strangers:
    """Makes the stand-ins of one file, and remembers their names."""

    def __init__(self) -> None:
        self._met: dict[tuple[str, str], Opaque] = {}

    def __call__(self, module: str, name: str) -> Opaque:
        """The stand-in of a name; the same for the same name.

        Raises:
            CheckpointError: for a name of the standard library that is no plain value, for one that loads or
                runs code, for text that is no name, and when there are too many.
        """
        if not (_is_path(module) and _is_path(name)) or _is_refused(module, name):
            raise CheckpointError(
                f"the file asks for {quoted(module)}.{quoted(name)}, which a checkpoint does not need; "
                "nothing of it was run"
            )
        if len(self._met) == MAX_NAMES and (module, name) not in self._met:
            raise CheckpointError(f"the file asks for more than {MAX_NAMES} names that weights do not need")
        return self._met.setdefault((module, name), Opaque(f"{module}.{name}"))

    @property
    def names(self) -> tuple[str, ...]:
        """What was asked for, sorted."""
        return tuple(sorted(stranger.name for stranger in self._met.values()))


def _is_refused(module: str, name: str) -> bool:
    if module.split(".")[0] in _LIBRARY:
        return name not in _VALUES.get(module, ())
    return any(f"{module}.{name}.".startswith(f"{loader}.") for loader in _LOADERS)


def _is_path(text: str) -> bool:
    return len(text) <= 256 and text.isascii() and all(part.isidentifier() for part in text.split("."))
