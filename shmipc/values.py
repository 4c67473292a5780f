"""Numbers that processes share without a lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.arena import SmallObject
from shmipc.lock import name_in_repr
from shmipc.segment import check_spin

__all__ = ["AtomicInt64", "AtomicUInt64"]


@dataclass(frozen=True)
class _NumberParameters:
    value: int = 0
    spin: float | None = None

    least: ClassVar[int] = -(1 << 63)
    most: ClassVar[int] = (1 << 63) - 1

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise TypeError(f"value: expected an int, found {type(self.value).__name__}")
        if not self.least <= self.value <= self.most:
            raise OverflowError(f"value: expected {self.least} to {self.most}, found {self.value}")
        check_spin(self.spin)


class _UnsignedParameters(_NumberParameters):
    least = 0
    most = (1 << 64) - 1


class _Atomic(SmallObject):
    """What the two numbers share."""

    _Parameters: ClassVar[type[Any]] = _NumberParameters

    @classmethod
    def _format(cls, attachment: Attachment, cell: int, parameters: Any) -> None:
        binding.format_cell(attachment, cell, cls._kind, parameters.value)

    @classmethod
    def _kept(cls, attachment: Attachment) -> Any:
        return cls._Parameters(binding.first_word(attachment, cls._kind))

    def __init__(self, value: int = 0, *, spin: float | None = None) -> None:
        self._start(self._Parameters(value, spin))

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__} closed>"
        return f"<{name_in_repr(self)}({self.load()})>"

    load: Any


class AtomicInt64(binding.NumberCore, _Atomic):
    """A signed 64-bit number that any process changes in one step, and waits for.

    Nothing of it is ever half done: a process killed in a call has changed it or not.  What does
    not fit is an `OverflowError`, and nothing has changed.  Whatever a process wrote anywhere in
    shared memory before it stored, added or exchanged is seen by who sees the number that came of
    it.
    """

    _kind = binding.KIND_INT64


class AtomicUInt64(binding.UnsignedCore, _Atomic):
    """An `AtomicInt64` without a sign: 0 to 2**64 - 1."""

    _kind = binding.KIND_UINT64
    _Parameters = _UnsignedParameters
