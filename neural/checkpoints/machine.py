"""Pickles, read without Python's unpickler: a stack machine that can build data and nothing else.

A pickle is a program. Python's own machine imports any name and calls anything that the program names. This one
has only the opcodes that data need, looks names up in a table that its caller wrote, never imports, and calls only
the constructors of that table. The cost of a program is bounded: opcodes, stack, open marks, and what the
constructors read and copy. Bytes are views of the file; a length field alone never makes it allocate memory.
"""

import dataclasses
import pickletools
import struct
from collections.abc import Callable, Mapping, Sized

from neural.checkpoints.checkpoint import CheckpointError, Cursor, quoted

MAX_OPCODES = 1_000_000
"""A network of 1,000 tensors takes about 100,000, most of them to build empty dictionaries of hooks."""
MAX_STACK = 100_000
MAX_MARKS = 1_000
MAX_TEXT = 1 << 24
WORK = 4
"""Work allowed for each byte of a file: ordinary files use a value twice, and protocol 2 writes bytes as text."""
FREE_WORK = 1 << 16

# Hashing a tuple takes time exponential in its depth where parts are shared, and whole numbers with equal hashes,
# such as multiples of 2^61 - 1, make a dictionary take quadratic time. Keys are therefore texts, whose hashes cannot be
# predicted, and numbers too small to have equal hashes.
_KEYS = (str, bool, type(None))
_LARGEST_KEY = 1 << 31
_FLOAT64 = struct.Struct(">d")


@dataclasses.dataclass(frozen=True, eq=False)
class Global:
    """What stands for a name that a pickle may use.

    Attributes:
        name: as it is written in the file.
        call: takes the tuple of arguments where the program calls the name; None if it must not.
        new: makes the empty object where the program makes an instance; None if it must not.
        value: what else the table records of the name, e.g. the dtype of a storage class.
    """

    name: str
    call: Callable[[tuple], object] | None = None
    new: Callable[[], object] | None = None
    value: object = None


class Buildable:
    """An object whose state comes after it in the program."""

    def build(self, state: object) -> None:
        """Set the state. A second call for one object is an error, since no correct file makes it."""
        raise CheckpointError(f"{type(self).__name__} takes no state")


@dataclasses.dataclass(frozen=True, eq=False)
class Opaque:
    """What stands for a name that is not needed here, for its instances and for the results of its calls.

    The program may put anything into it; nothing is kept.
    """

    name: str


Globals = Mapping[tuple[str, str], Global]
Unknown = Callable[[str, str], Opaque]
Persistent = Callable[[object], object]


class Budget:
    """The work that a file may still cause, over all pickles in it: opcodes, and bytes in proportion to its size.

    Two bytes of the file use a value of the memo again, however large it is. The arguments of a constructor, which it
    may read or copy, are therefore counted at each use.

    Args:
        size: of the file, in bytes.
        opcodes: how many may run.
    """

    def __init__(self, size: int, opcodes: int = MAX_OPCODES) -> None:
        self.left = opcodes
        self.work_left = WORK * size + FREE_WORK

    def spend(self) -> None:
        """Count one opcode."""
        self.left -= 1
        if self.left < 0:
            raise CheckpointError(f"more than {MAX_OPCODES} opcodes in the pickles of one file")

    def use(self, arguments: tuple) -> None:
        """Count the arguments of a constructor and the sizes of those that have one.

        Raises:
            CheckpointError: when a file uses its values so often that its cost is out of proportion to its size.
        """
        self.work_left -= len(arguments)
        if self.work_left >= 0:
            self.work_left -= sum(len(part) for part in arguments if isinstance(part, Sized))
        if self.work_left < 0:
            raise CheckpointError(
                "the file uses the same values again and again, out of proportion to its size"
            )


def run(
    cursor: Cursor,
    names: Globals,
    budget: Budget,
    persistent: Persistent | None = None,
    unknown: Unknown | None = None,
) -> object:
    """Run one pickle and return what it built.

    Args:
        cursor: where it begins; afterwards, the byte after its end.
        names: the globals that it may use, by (module, name).
        budget: shared by all pickles of a file.
        persistent: returns the object of a persistent id; None where there must be none.
        unknown: makes the stand-in of any other name; None where there must be no other. With it, entries of
            dictionaries and sets under keys that are neither text nor small numbers are left out; without it
            they are an error.

    Raises:
        CheckpointError: on any opcode, name, call or value outside the rules, and when the bytes end early.
    """
    return _Machine(cursor, names, budget, persistent, unknown).run()


class _Machine:
    def __init__(
        self,
        cursor: Cursor,
        names: Globals,
        budget: Budget,
        persistent: Persistent | None,
        unknown: Unknown | None,
    ) -> None:
        self.cursor, self.names, self.budget = cursor, names, budget
        self.persistent, self.unknown = persistent, unknown
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        while True:
            self.budget.spend()
            at = self.cursor.position
            code = self.cursor.number(1)
            if code == _STOP:
                break
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise CheckpointError(f"{_opcode(code)} at byte {at} is not allowed in a checkpoint")
            operation(self)
            if len(self.stack) > MAX_STACK or len(self.marks) > MAX_MARKS:
                raise CheckpointError(f"the pickle's stack is too deep at byte {at}")
        result = self.pop()
        if self.stack or self.marks:
            raise CheckpointError("the pickle stops with values left on its stack")
        return result

    # The stack. Nothing below the last mark can be reached until the mark is gone.

    def pop(self) -> object:
        self.need(1)
        return self.stack.pop()

    def top(self) -> object:
        self.need(1)
        return self.stack[-1]

    def need(self, count: int) -> None:
        floor = self.marks[-1] if self.marks else 0
        if len(self.stack) - floor < count:
            raise CheckpointError(f"the pickle's stack runs empty before byte {self.cursor.position}")

    def pop_to_mark(self) -> list[object]:
        if not self.marks:
            raise CheckpointError(f"no mark on the pickle's stack before byte {self.cursor.position}")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def pop_tuple(self, size: int) -> None:
        self.need(size)
        items = tuple(self.stack[-size:])
        del self.stack[-size:]
        self.stack.append(items)

    # Framing and memo.

    def protocol(self) -> None:
        version = self.cursor.number(1)
        if not 2 <= version <= 5:
            raise CheckpointError(f"pickle protocol must be 2 to 5, got {version}")

    def frame(self) -> None:
        length = self.cursor.number(8)
        if length > self.cursor.left:
            raise CheckpointError(
                f"the pickle declares a frame of {length} bytes, but only {self.cursor.left} are left in the file"
            )

    def memoize(self, index: int) -> None:
        self.memo[index] = self.top()

    def fetch(self, index: int) -> None:
        if index not in self.memo:
            raise CheckpointError(f"the pickle fetches value {index}, which it has not kept")
        self.stack.append(self.memo[index])

    # Values.

    def text(self, length_bytes: int) -> None:
        length = self.cursor.number(length_bytes)
        if length > MAX_TEXT:
            raise CheckpointError(f"the pickle has a text of {length} bytes; at most {MAX_TEXT} are read")
        try:
            self.stack.append(str(self.cursor.take(length), "utf-8"))
        except UnicodeDecodeError as error:
            raise CheckpointError(f"text before byte {self.cursor.position} is not UTF-8") from error

    def binary(self, length_bytes: int) -> None:
        self.stack.append(self.cursor.take(self.cursor.number(length_bytes)))

    def append(self, items: list[object]) -> None:
        target = self.top()
        if type(target) is list:
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise CheckpointError(f"the pickle appends to {kind(target)}")

    def append_one(self) -> None:
        item = self.pop()
        self.append([item])

    def set_items(self, items: list[object]) -> None:
        target = self.top()
        if len(items) % 2 or not (type(target) is dict or isinstance(target, Opaque)):
            raise CheckpointError(f"the pickle sets {len(items)} keys and values in {kind(target)}")
        if type(target) is dict:
            pairs = zip(items[::2], items[1::2], strict=True)
            target.update((key, value) for key, value in pairs if self.accepts(key))

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def add_items(self) -> None:
        items = self.pop_to_mark()
        target = self.top()
        if type(target) is set:
            target.update(item for item in items if self.accepts(item))
        elif not isinstance(target, Opaque):
            raise CheckpointError(f"the pickle adds to {kind(target)} as to a set")

    def accepts(self, key: object) -> bool:
        """Whether a key is stored in a dictionary or a set; without stand-ins, a key that cannot be is an error."""
        if self.unknown is None:
            as_key(key)
        return is_key(key)

    # Names and what is made from them.

    def find(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise CheckpointError(f"a name must be text, got {kind(module)} and {kind(name)}")
        meaning = self.names.get((module, name)) or (self.unknown and self.unknown(module, name))
        if meaning is None:
            raise CheckpointError(
                f"the file uses {quoted(module)}.{quoted(name)}, which a checkpoint does not need; "
                "nothing of it was run"
            )
        self.stack.append(meaning)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.find(module, name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple:
            raise CheckpointError(f"arguments of a call must be a tuple, got {kind(arguments)}")
        if isinstance(function, Opaque):
            self.stack.append(function)
            return
        if not isinstance(function, Global) or function.call is None:
            raise CheckpointError(f"the file calls {kind(function)}, which is not allowed")
        self.budget.use(arguments)
        self.stack.append(function.call(arguments))

    def new(self) -> None:
        arguments, cls = self.pop(), self.pop()
        if isinstance(cls, Opaque) and type(arguments) is tuple:
            self.stack.append(cls)
            return
        if not isinstance(cls, Global) or cls.new is None:
            raise CheckpointError(f"the file makes an instance of {kind(cls)}, which is not allowed")
        if type(arguments) is not tuple or arguments:
            raise CheckpointError(f"an instance of {cls.name} is made with arguments")
        self.stack.append(cls.new())

    def new_with_keywords(self) -> None:
        keywords, arguments, cls = self.pop(), self.pop(), self.pop()
        if not isinstance(cls, Opaque) or type(arguments) is not tuple or type(keywords) is not dict:
            raise CheckpointError(f"the file makes an instance of {kind(cls)}, which is not allowed")
        self.stack.append(cls)

    def build(self) -> None:
        state = self.pop()
        target = self.top()
        if isinstance(target, Buildable):
            self.budget.use(state if type(state) is tuple else (state,))
            target.build(state)
        # A state_dict keeps version numbers of its modules as attributes of the dictionary; they are not needed.
        elif not isinstance(target, Opaque) and (type(target) is not dict or type(state) is not dict):
            raise CheckpointError(f"the file sets the state of {kind(target)}, which is not allowed")

    def persistent_id(self) -> None:
        if self.persistent is None:
            raise CheckpointError("the pickle has a persistent id where none is allowed")
        identity = self.pop()
        self.stack.append(self.persistent(identity))


def is_key(value: object) -> bool:
    """Whether the value may be a key of a dictionary or a member of a set."""
    return type(value) in _KEYS or (type(value) is int and abs(value) < _LARGEST_KEY)


def as_key(value: object) -> object:
    """The value, if it may be a key.

    Raises:
        CheckpointError: when it may not.
    """
    if not is_key(value):
        raise CheckpointError(f"a key must be text or a whole number of 32 bits, got {kind(value)}")
    return value


def kind(value: object) -> str:
    """The type of a value, for messages; its contents may be endless, so they are never shown."""
    return value.name if isinstance(value, Global | Opaque) else type(value).__name__


def _opcode(code: int) -> str:
    name = _NAMES.get(chr(code))
    return f"the opcode {name}" if name else f"the byte {code:#04x}, which is no opcode,"


Operation = Callable[[_Machine], None]


def _push(make: Callable[[], object]) -> Operation:
    return lambda machine: machine.stack.append(make())


def _push_number(size: int, *, signed: bool = False) -> Operation:
    return lambda machine: machine.stack.append(machine.cursor.number(size, signed=signed))


_NAMES = {opcode.code: opcode.name for opcode in pickletools.opcodes}
_STOP = ord(".")

_OPERATIONS: dict[int, Operation] = {
    ord(opcode): operation
    for opcode, operation in {
        "\x80": _Machine.protocol,  # PROTO
        "\x95": _Machine.frame,  # FRAME
        "(": lambda m: m.marks.append(len(m.stack)),  # MARK
        "\x94": lambda m: m.memoize(len(m.memo)),  # MEMOIZE
        "q": lambda m: m.memoize(m.cursor.number(1)),  # BINPUT
        "r": lambda m: m.memoize(m.cursor.number(4)),  # LONG_BINPUT
        "h": lambda m: m.fetch(m.cursor.number(1)),  # BINGET
        "j": lambda m: m.fetch(m.cursor.number(4)),  # LONG_BINGET
        "N": _push(lambda: None),  # NONE
        "\x88": _push(lambda: True),  # NEWTRUE
        "\x89": _push(lambda: False),  # NEWFALSE
        "K": _push_number(1),  # BININT1
        "M": _push_number(2),  # BININT2
        "J": _push_number(4, signed=True),  # BININT
        "\x8a": lambda m: m.stack.append(m.cursor.number(m.cursor.number(1), signed=True)),  # LONG1
        "G": lambda m: m.stack.extend(m.cursor.unpack(_FLOAT64)),  # BINFLOAT
        "\x8c": lambda m: m.text(1),  # SHORT_BINUNICODE
        "X": lambda m: m.text(4),  # BINUNICODE
        "\x8d": lambda m: m.text(8),  # BINUNICODE8
        "C": lambda m: m.binary(1),  # SHORT_BINBYTES
        "B": lambda m: m.binary(4),  # BINBYTES
        "\x8e": lambda m: m.binary(8),  # BINBYTES8
        "\x96": lambda m: m.binary(8),  # BYTEARRAY8
        ")": _push(tuple),  # EMPTY_TUPLE
        "\x85": lambda m: m.pop_tuple(1),  # TUPLE1
        "\x86": lambda m: m.pop_tuple(2),  # TUPLE2
        "\x87": lambda m: m.pop_tuple(3),  # TUPLE3
        "t": lambda m: m.stack.append(tuple(m.pop_to_mark())),  # TUPLE
        "]": _push(list),  # EMPTY_LIST
        "a": _Machine.append_one,  # APPEND
        "e": lambda m: m.append(m.pop_to_mark()),  # APPENDS
        "}": _push(dict),  # EMPTY_DICT
        "s": _Machine.set_item,  # SETITEM
        "u": lambda m: m.set_items(m.pop_to_mark()),  # SETITEMS
        "\x8f": _push(set),  # EMPTY_SET
        "\x90": _Machine.add_items,  # ADDITEMS
        "\x91": lambda m: m.stack.append(frozenset(filter(m.accepts, m.pop_to_mark()))),  # FROZENSET
        "c": lambda m: m.find(m.cursor.line(), m.cursor.line()),  # GLOBAL
        "\x93": _Machine.stack_global,  # STACK_GLOBAL
        "R": _Machine.reduce,  # REDUCE
        "\x81": _Machine.new,  # NEWOBJ
        "\x92": _Machine.new_with_keywords,  # NEWOBJ_EX
        "b": _Machine.build,  # BUILD
        "Q": _Machine.persistent_id,  # BINPERSID
    }.items()
}
