"""Read the data in a pickle without executing it: a stack machine over `pickletools.genops`.

Python's unpickler imports and calls whatever a file names. This one has no import and no call: a
global is its name, what would be called is remembered as an `Unknown` with its arguments, and the
few constructors that data are made of (tensors, numbers, arrays, ordered dicts) are built as plain
values. Whoever asks for an `Unknown` where a value must be gets an error; what nobody asks for (an
optimizer, a Namespace of options) is left as it is.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Sequence
from typing import IO, Any

from ...errors import TTDError
from .pickled_values import Global, Storage, Unknown, construct

MOST_OPCODES = 200_000_000  # the largest label list known has about 10 million
MARK = object()
ERRORS = (ValueError, IndexError, KeyError, TypeError, EOFError, OverflowError, MemoryError)


def load_data(file: IO[bytes], name: str) -> Any:
    """The next pickle in an open file as plain data; the file stands behind it afterwards.

    Dicts, lists, tuples, sets (as lists), strings, numbers, None; `TensorRef` for torch's tensors;
    `Global` and `Unknown` for everything else (`array_of` reads numpy's). Nothing is executed.
    Errors: TTDError naming the file: not a pickle, cut short, or built in a way no writer builds.
    """
    try:
        return _Machine(name).run(file)
    except TTDError:
        raise
    except RecursionError:
        raise TTDError(f"{name}: nested too deeply to be data; make the file again") from None
    except ERRORS as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise TTDError(
            f"{name}: not a readable pickle ({reason}); was its download cut short?"
        ) from None


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, name: str):
        self.name = name
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: IO[bytes]) -> Any:
        """Every opcode up to STOP."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MOST_OPCODES:
                raise TTDError(f"{self.name}: more than {MOST_OPCODES} opcodes; split the file")
            if opcode.name == "STOP":
                return self.stack.pop()
            action = ACTIONS.get(opcode.name)
            if action is None:
                raise TTDError(f"{self.name}: pickles with opcode {opcode.name} are not supported")
            action(self, argument)
        raise TTDError(f"{self.name}: the pickle has no end; was its download cut short?")

    def push(self, value: Any) -> None:
        """On top."""
        self.stack.append(value)

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark, and the mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not MARK:
            place -= 1
            if place < 0:
                raise ValueError("a mark is missing")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def set_items(self, pairs: Sequence[Any]) -> None:
        """Keys and values in turn into the dict on top."""
        target = self.stack[-1]
        if isinstance(target, Unknown):
            target.items.extend(pairs)
            return
        if type(target) is not dict:
            raise ValueError("items for something that is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int | float | bytes | None):
                raise ValueError("a dict whose keys are no strings or numbers")
            target[key] = value

    def extend(self, values: Sequence[Any]) -> None:
        """Into the list on top."""
        target = self.stack[-1]
        items = target.items if isinstance(target, Unknown) else target
        if type(items) is not list:
            raise ValueError("items for something that is no list")
        items.extend(values)

    def reduce(self) -> None:
        """What would be a call: the known constructors, else an `Unknown`."""
        arguments, called = self.stack.pop(), self.stack.pop()
        self.push(construct(called, arguments))

    def build(self) -> None:
        """What would set attributes: remembered, so that numpy's arrays can be read from it."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Unknown):
            if target.state is not None:
                raise ValueError("an object built twice")
            target.state = state

    def instance(self, called: Any, arguments: Sequence[Any]) -> None:
        """INST, OBJ, NEWOBJ: an instance of a class."""
        self.push(construct(called, tuple(arguments)))

    def persistent(self, identity: Any) -> None:
        """A storage of a torch file: ("storage", type, key, device, count, ...)."""
        if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
            raise ValueError("a reference to something outside of the file")
        _, kind, key, _, numel = identity[:5]
        if not isinstance(kind, Global) or type(numel) is not int or numel < 0:
            raise ValueError("a storage without type or size")
        self.push(Storage(kind.name.rpartition(".")[2], str(key), numel))


Action = Callable[[_Machine, Any], None]


def _literal(machine: _Machine, value: Any) -> None:
    machine.push(value)


def _text(machine: _Machine, value: Any) -> None:
    """Strings of Python 2: bytes that nearly always are text."""
    machine.push(value.encode("latin-1").decode("utf-8", errors="replace"))


def _dict(machine: _Machine, _: Any) -> None:
    pairs = machine.pop_mark()
    machine.push({})
    machine.set_items(pairs)


def _pop_mark(machine: _Machine, _: Any) -> None:
    machine.pop_mark()


def _get(machine: _Machine, key: int) -> None:
    machine.push(machine.memo[key])


def _put(machine: _Machine, key: Any) -> None:
    machine.memo[int(key)] = machine.stack[-1]


def _tuple(count: int) -> Action:
    def action(machine: _Machine, _: Any) -> None:
        """Take so many items from the stack, push their tuple."""
        items = tuple(machine.stack[len(machine.stack) - count :])
        if len(items) < count or any(item is MARK for item in items):
            raise ValueError("a tuple without its items")
        del machine.stack[len(machine.stack) - count :]
        machine.push(items)

    return action


def _global(machine: _Machine, name: str) -> None:
    machine.push(Global(name.replace(" ", ".")))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError("a global without a name")
    machine.push(Global(f"{module}.{name}"))


def _append(machine: _Machine, _: Any) -> None:
    value = machine.stack.pop()
    machine.extend([value])


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


def _object(machine: _Machine, _: Any) -> None:
    called, *arguments = machine.pop_mark()
    machine.instance(called, arguments)


def _instance(machine: _Machine, name: str) -> None:
    machine.instance(Global(name.replace(" ", ".")), machine.pop_mark())


def _new_object(machine: _Machine, _: Any) -> None:
    arguments, called = machine.stack.pop(), machine.stack.pop()
    machine.instance(called, arguments)


def _new_object_ex(machine: _Machine, _: Any) -> None:
    _, arguments, called = (machine.stack.pop() for _ in range(3))
    machine.instance(called, arguments)


ACTIONS: dict[str, Action] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _literal),
    **dict.fromkeys(("FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE"), _literal),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "BINBYTES8"), _literal),
    **dict.fromkeys(("SHORT_BINBYTES", "BYTEARRAY8"), _literal),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _text),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.push(MARK),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda machine, _: machine.push([])),
    **dict.fromkeys(("LIST", "FROZENSET"), lambda machine, _: machine.push(machine.pop_mark())),
    "DICT": _dict,
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_mark())),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": _append,
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda machine, _: machine.extend(machine.pop_mark())),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": _pop_mark,
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
    "INST": _instance,
    "OBJ": _object,
    "NEWOBJ": _new_object,
    "NEWOBJ_EX": _new_object_ex,
    "BINPERSID": lambda machine, _: machine.persistent(machine.stack.pop()),
}
