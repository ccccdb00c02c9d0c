"""Pickles read as data: nothing is imported and nothing is called, whatever the bytes ask for.

Python's own unpickler imports and calls what a file names. Here a pickle is the list of
instructions that pickletools reads, and those that torch.save writes are followed on plain dicts,
lists, tuples, numbers and text. Functions stay names; a few have a stand-in given by the caller.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

MOST_STEPS = 500_000  # a ResNet-101 with its optimiser takes about a hundred thousand

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
    "SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES",
}  # fmt: skip


@runtime_checkable
class Stream(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes, fewer at the end; must not allocate for more than there are."""
        ...

    def readline(self) -> bytes:
        """The bytes up to the end of the line."""
        ...


@dataclass(frozen=True)
class Name:
    """A function or class that a pickle names, as module.name."""

    text: str


class ForeignCall(ValueError):
    """A pickle that wants something called for which there is no stand-in."""


def read_pickle(
    stream: Stream,
    stand_ins: Mapping[str, Callable[..., Any]],
    stored: Callable[[Any], Any],
) -> Any:
    """The value of the next pickle of a stream, which is left behind it.

    ``stand_ins`` by name take the arguments of calls; ``stored`` turns persistent ids into values.
    Attributes that an object is given beside its construction are left out. Raises ForeignCall, or
    for damaged or unusual bytes ValueError, LookupError, TypeError or AttributeError. Memory and
    time are bounded by the stream's length and MOST_STEPS.
    """
    machine = _Machine(stand_ins, stored)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(Any, stream))):
        if opcode.name == "STOP":
            return machine.stack.pop()
        if count == MOST_STEPS:
            raise ValueError("no end of instructions")
        machine.step(opcode.name, argument)
    raise ValueError("no end")


@dataclass
class _Machine:
    """The stack on which a pickle's instructions build values."""

    stand_ins: Mapping[str, Callable[..., Any]]
    stored: Callable[[Any], Any]
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        push = self.stack.append
        match name:
            case "PROTO":
                pass
            case "EMPTY_DICT":
                push({})
            case "EMPTY_LIST":
                push([])
            case "MARK":
                self.marks.append(len(self.stack))
            case "TUPLE":
                push(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self._last(int(name[-1]))))
            case "APPEND":
                self._append(self._last(1))
            case "APPENDS":
                self._append(self._since_mark())
            case "SETITEM":
                self._set(self._last(2))
            case "SETITEMS":
                self._set(self._since_mark())
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "GLOBAL":
                push(Name(argument.replace(" ", ".", 1)))
            case "BINPERSID":
                push(self.stored(self.stack.pop()))
            case "REDUCE":
                push(self._call(*self._last(2)))
            case "BUILD":
                self._last(1)  # state_dict's _metadata, a byte order: nothing of the value
            case _ if name in _CONSTANTS:
                push(_CONSTANTS[name])
            case _ if name in _LITERALS:
                push(argument)
            case _:
                raise ValueError(f"instruction {name}")

    def _last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("too few values")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ValueError("no list to append to")
        target.extend(values)

    def _set(self, items: list[Any]) -> None:
        target, keys = self.stack[-1], items[::2]
        # Nested tuples as keys could take for ever to hash.
        if not isinstance(target, dict) or not all(isinstance(key, str | int) for key in keys):
            raise ValueError("no dictionary of text or whole numbers")
        target.update(zip(keys, items[1::2], strict=True))

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of no function")
        if function.text not in self.stand_ins:
            raise ForeignCall(function.text)
        return self.stand_ins[function.text](*arguments)
