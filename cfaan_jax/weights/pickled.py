"""A restricted unpickler: the part of the pickle language that files of tensors use, for untrusted files.

A pickle is a program. Python's own unpickler can be told what it must not call, but not what it must not allocate: an
index of nine digits makes it reserve gigabytes. Here a step costs a few dozen bytes and their number is limited, only
the functions that `resolve` returns can be called, and only text is kept as a key.
"""

import io
import pickletools
from collections.abc import Callable
from typing import Any

_MAX_STEPS = 1 << 21  # enough for fifty thousand tensors
_LITERALS = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8"))
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def load(file: io.BytesIO, resolve: Callable[[str, str], Any], persistent: Callable[[Any], Any]) -> Any:
    """The object that one pickle describes; `file` is positioned at it, and afterwards at its end.

    Args:
        resolve: (module, name) -> a value; if it is a function, the file may call it.
        persistent: persistent id of torch, any object -> a value.
    Returns:
        Numbers, text, bytes, lists, tuples, dictionaries with text as keys, and what the functions return. One part may
        occur in many places, so that a walk through all of them may never end.
    Raises:
        ValueError, TypeError, KeyError, IndexError: not such a pickle.
    """
    machine = _Machine(resolve, persistent)
    for opcode, argument, _ in pickletools.genops(file):
        machine.spend(1)
        machine.step(opcode.name, argument)
    return machine.stack.pop()


def dictionary(pairs: Any = ()) -> dict[str, Any]:
    """In place of an OrderedDict; keys that are not text are left out: an optimiser's state is numbered."""
    return {key: value for key, value in pairs if isinstance(key, str)}


def _from_values(values: list) -> dict[str, Any]:
    return dictionary(zip(values[::2], values[1::2], strict=True))


_CONTAINERS: dict[str, Callable[[list], Any]] = {"TUPLE": tuple, "LIST": list, "DICT": _from_values}


class _Machine:
    """Executes opcodes, as `pickletools` names them, on a stack; `_marks` are heights of the stack."""

    def __init__(self, resolve: Callable[[str, str], Any], persistent: Callable[[Any], Any]):
        self._resolve, self._persistent = resolve, persistent
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._left = _MAX_STEPS
        self.stack: list[Any] = []

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise ValueError(f"a pickle of more than {_MAX_STEPS:,} steps")

    def step(self, name: str, argument: Any) -> None:
        stack, memo = self.stack, self._memo
        match name:
            case _ if name in _LITERALS:
                stack.append(argument)
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[argument])
            case "MARK":
                self._marks.append(len(stack))
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append(_CONTAINERS[name.removeprefix("EMPTY_")]([]))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop_above(len(stack) - int(name[-1]))))
            case "TUPLE" | "LIST" | "DICT":
                stack.append(_CONTAINERS[name](self._pop_above(self._marks.pop())))
            case "APPEND" | "SETITEM":
                self._extend(name, self._pop_above(len(stack) - (1 if name == "APPEND" else 2)))
            case "APPENDS" | "SETITEMS":
                self._extend(name, self._pop_above(self._marks.pop()))
            case "GLOBAL":
                stack.append(self._resolve(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                if not (isinstance(module, str) and isinstance(attribute, str)):
                    raise ValueError("a name that is not text")
                stack.append(self._resolve(module, attribute))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "BUILD" | "POP":  # BUILD sets attributes, which weights do not need
                stack.pop()
            case "BINPERSID":
                stack.append(self._persistent(stack.pop()))
            case "DUP":
                stack.append(stack[-1])
            case "POP_MARK":
                self._pop_above(self._marks.pop())
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                raise ValueError(f"{name}, which weights do not need")

    def _call(self, function: Any, arguments: Any) -> Any:
        if not (callable(function) and isinstance(arguments, tuple)):
            raise ValueError("a call of something that is not a function")
        # One long list can be the argument of many calls that return something as long.
        self.spend(len(arguments) + sum(len(value) for value in arguments if isinstance(value, list | tuple | dict)))
        return function(*arguments)

    def _extend(self, name: str, values: list) -> None:
        """Adds values to the list or dictionary on top of the stack."""
        target, kind = self.stack[-1], list if name.startswith("APPEND") else dict
        if not isinstance(target, kind):
            raise ValueError(f"{name} to a {type(target).__name__}")
        if isinstance(target, list):
            target.extend(values)
        else:
            target.update(_from_values(values))

    def _pop_above(self, height: int) -> list[Any]:
        """Removes and returns the values above a height of the stack."""
        if not 0 <= height <= len(self.stack):
            raise ValueError("a step takes more from the stack than it holds")
        values = self.stack[height:]
        del self.stack[height:]
        return values
