"""Stand-ins for the names that a trainer's checkpoint uses and that no weights need.

Besides its ``state_dict`` such a file holds whatever the trainer keeps: callbacks, schedulers, configurations,
objects of any package. A stand-in holds nothing but a name: nothing is imported or called for it, and what is put
into it is dropped (`neural.checkpoints.machine.Opaque`). That alone makes it safe. Names of the standard library that
are not plain values, and names that load or run code, are refused all the same: no trainer stores ``os.system``, and
the numbers of a file that uses it cannot be trusted either.
"""

import _compat_pickle  # how Python's own pickle module translates the names of Python 2
import builtins
import collections.abc
import sys

from neural.checkpoints.checkpoint import CheckpointError, quoted
from neural.checkpoints.machine import Opaque

MAX_NAMES = 1_000
"""Different names in one file; a trainer's file has some tens."""

# Plain values of the standard library, and the functions by which Python's pickler spells plain values:
# `int | None` is functools.reduce(operator.or_, ...), `Optional[int]` operator.getitem(Union, ...).
_VALUES: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "_functools": "reduce",
        "_operator": "getitem or_",
        "argparse": "Namespace",
        "array": "_array_reconstructor array",
        "collections": "ChainMap Counter UserDict UserList UserString defaultdict deque",
        "dataclasses": "_MISSING_TYPE",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "functools": "partial reduce",
        "inspect": "Parameter Signature _ParameterKind _empty",
        "itertools": "count",
        "logging": "Logger RootLogger getLogger",
        "operator": "getitem or_",
        "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        "random": "Random",
        "re": "RegexFlag _compile",
        "types": "GenericAlias SimpleNamespace",
        "typing": "Any Callable ClassVar Dict Final FrozenSet Generic Iterable Iterator List Literal Mapping "
        "NamedTuple NewType NoneType Optional ParamSpec Sequence Set Tuple Type TypeVar Union",
        "uuid": "UUID",
    }.items()
} | {
    "builtins": frozenset({"Ellipsis", "NotImplemented"}).union(
        name for name, value in vars(builtins).items() if isinstance(value, type) and name[0] != "_"
    ),
    "collections.abc": frozenset({*collections.abc.__all__, "_CallableGenericAlias"}),
}
_LIBRARY = sys.stdlib_module_names | {"__builtins__", "os2"}
# Of packages that trainers do use: what reads files or runs programs.
_LOADERS = (
    "dnnlib.util", "numpy.ctypeslib", "numpy.distutils", "numpy.f2py", "numpy.load", "numpy.testing",
    "torch._dynamo", "torch._inductor", "torch.classes", "torch.hub", "torch.jit", "torch.load", "torch.ops",
    "torch.package", "torch.serialization", "torch.storage", "torch.utils.cpp_extension", "torch_utils",
)  # fmt: skip


class StandIns:
    """The stand-ins of one file, by name."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[str, str], Opaque] = {}

    def __call__(self, module: str, name: str) -> Opaque:
        """The stand-in of a name; the same for the same name.

        Raises:
            CheckpointError: for a name of the standard library that is not a plain value, for one that loads or
                runs code, for text that is not a name, and when there are too many.
        """
        if not (_is_path(module) and _is_path(name)) or _is_refused(module, name):
            raise CheckpointError(
                f"the file uses {quoted(module)}.{quoted(name)}, which a checkpoint does not need; "
                "nothing of it was run"
            )
        if len(self._by_name) == MAX_NAMES and (module, name) not in self._by_name:
            raise CheckpointError(f"the file uses more than {MAX_NAMES} names that weights do not need")
        return self._by_name.setdefault((module, name), Opaque(f"{module}.{name}"))

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the file uses, sorted."""
        return tuple(sorted(stand_in.name for stand_in in self._by_name.values()))


def _is_refused(module: str, name: str) -> bool:
    # Protocol 2, torch's default, spells names as Python 2 did: `int` is __builtin__.long.
    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
    module = _compat_pickle.IMPORT_MAPPING.get(module, module)
    if module.split(".")[0] in _LIBRARY:
        return name not in _VALUES.get(module, ())
    return any(f"{module}.{name}.".startswith(f"{loader}.") for loader in _LOADERS)


def _is_path(text: str) -> bool:
    return len(text) <= 256 and text.isascii() and all(part.isidentifier() for part in text.split("."))
