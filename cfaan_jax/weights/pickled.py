"""The part of the pickle language that files of tensors are written in, for files from strangers.

A pickle is a program. Python's own unpickler can be told what it must not call, but not what it must not allocate: an
index of nine digits makes it reserve gigabytes. Here a step costs a few dozen bytes and their number is limited,
nothing can be called but the functions given, and what a file names by text is the only kind of key that is kept.
"""

import io
import pickletools
from collections.abc import Callable
from typing import Any

_MOST_STEPS = 1 << 21  # fifty thousand tensors take as many
_LITERALS = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8"))


def load(file: io.BytesIO, find: Callable[[str, str], Any], refer: Callable[[Any], Any]) -> Any:
    """The object that one pickle describes; the file stands behind it afterwards.

    Args:
        file: stands at the beginning of the pickle.
        find: (module, name) -> what stands for it; a function may be called by the file, nothing else can.
        refer: what a persistent id of torch, any object, stands for.

    Returns:
        Numbers, text, bytes, lists, tuples, dictionaries whose keys are text, and what `find`'s functions return. The
        same part may stand in many places, so that walking through all of it can take for ever.

    Raises:
        ValueError, TypeError, KeyError, IndexError: no such pickle.
    """
    machine = _Machine(find, refer)
    for opcode, argument, _ in pickletools.genops(file):
        machine.spend(1)
        machine.step(opcode.name, argument)
    return machine.result()


def dictionary(pairs: Any = ()) -> dict[str, Any]:
    """What stands for an OrderedDict; other keys than text are left out: an optimiser's state is numbered."""
    return {key: value for key, value in pairs if isinstance(key, str)}


class _Machine:
    """Opcodes as `pickletools` names them, on a stack; `_marks` are heights of the stack."""

    def __init__(self, find: Callable[[str, str], Any], refer: Callable[[Any], Any]):
        self._find, self._refer = find, refer
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._left = _MOST_STEPS

    def result(self) -> Any:
        return self._stack.pop()

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise ValueError(f"a pickle of more than {_MOST_STEPS:,} steps")

    def step(self, name: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        match name:
            case _ if name in _LITERALS:
                stack.append(argument)
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[argument])
            case "MARK":
                self._marks.append(len(stack))
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3" | "TUPLE" | "EMPTY_LIST" | "LIST" | "EMPTY_DICT" | \
                    "DICT" | "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(self._made(name))
            case "APPEND" | "APPENDS" | "SETITEM" | "SETITEMS":
                self._extend(name)
            case "GLOBAL":
                stack.append(self._find(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                if not (isinstance(module, str) and isinstance(attribute, str)):
                    raise ValueError("a reference that is no text")
                stack.append(self._find(module, attribute))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._called(function, arguments))
            case "BUILD":
                stack.pop()  # attributes, which weights do not need
            case "BINPERSID":
                stack.append(self._refer(stack.pop()))
            case "POP" | "POP_MARK" | "DUP":
                self._drop(name)
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                raise ValueError(f"{name}, which no weights need")

    def _called(self, function: Any, arguments: Any) -> Any:
        if not (callable(function) and isinstance(arguments, tuple)):
            raise ValueError("a call of what is no function")
        # The same long list can be the argument of many calls, and each makes something as long.
        self.spend(len(arguments) + sum(len(each) for each in arguments if isinstance(each, list | tuple | dict)))
        return function(*arguments)

    def _made(self, name: str) -> Any:
        match name:
            case "NONE":
                return None
            case "NEWTRUE" | "NEWFALSE":
                return name == "NEWTRUE"
            case "EMPTY_LIST":
                return []
            case "EMPTY_DICT":
                return {}
            case "EMPTY_TUPLE":
                return ()
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                return tuple(self._above(len(self._stack) - int(name[-1])))
        values = self._above(self._marks.pop())
        if name == "DICT":
            return dictionary(zip(values[::2], values[1::2], strict=True))
        return values if name == "LIST" else tuple(values)

    def _extend(self, name: str) -> None:
        """Puts what lies on top into the list or dictionary below it."""
        single = {"APPEND": 1, "SETITEM": 2}
        values = self._above(len(self._stack) - single[name] if name in single else self._marks.pop())
        target = self._stack[-1]
        if not isinstance(target, list if name.startswith("APPEND") else dict):
            raise ValueError(f"{name} to a {type(target).__name__}")
        if isinstance(target, list):
            target.extend(values)
        else:
            target.update(dictionary(zip(values[::2], values[1::2], strict=True)))

    def _drop(self, name: str) -> None:
        if name == "DUP":
            self._stack.append(self._stack[-1])
        elif name == "POP":
            self._stack.pop()
        else:
            self._above(self._marks.pop())

    def _above(self, height: int) -> list[Any]:
        """Takes what lies above a height of the stack."""
        if not 0 <= height <= len(self._stack):
            raise ValueError("more is taken from the stack than lies there")
        values = self._stack[height:]
        del self._stack[height:]
        return values
