"""What may be left of a folder when the power fails, simulated from a trace of calls.

``Trace`` notes each call that changes the folder, in its order, while the real files
are written. ``after_power_loss`` then builds, for a moment in that order, a folder as a
disk might hold it: what was forced to the disk is there; of what was not, by chance, a
part of the bytes, zeros in their place, or nothing, and any of the names. That is what
POSIX promises and no more; file systems that keep more order leave fewer states.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Call(NamedTuple):
    """One call: what it did, to which file (by its number), with which names or bytes."""

    what: str
    file: int = 0
    name: str = ""
    other: str = ""
    data: bytes = b""
    size: int = 0
    confirmed: int = -1


class Trace:
    """The calls so far."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._next = 0

    def confirm(self, number: int) -> None:
        """Note that this line was said to be safe."""
        self.calls.append(Call("confirm", confirmed=number))

    def _number(self, fd: int, *, new: bool = False) -> int:
        found = os.fstat(fd)
        key = (found.st_dev, found.st_ino)
        # A number of a deleted file is used again by the system, never by us.
        if new or key not in self._numbers:
            self._next += 1
            self._numbers[key] = self._next
        return self._numbers[key]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note calls; those that fail have done nothing."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("open", "write", "fsync", "ftruncate", "replace", "unlink"):
                patch.setattr(os, name, self._noting(name, getattr(os, name)))
            yield

    def _noting(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            getattr(self, "_" + name)(args, result)
            return result

        return wrapper

    def _open(self, args: tuple[Any, ...], fd: int) -> None:
        if args[1] & os.O_CREAT:
            self.calls.append(Call("create", self._number(fd, new=True), str(args[0])))

    def _write(self, args: tuple[Any, ...], written: int) -> None:
        data = bytes(args[1][:written])
        self.calls.append(Call("write", self._number(args[0]), data=data))

    def _fsync(self, args: tuple[Any, ...], _: None) -> None:
        if stat.S_ISDIR(os.fstat(args[0]).st_mode):
            self.calls.append(Call("sync folder"))
        else:
            self.calls.append(Call("sync", self._number(args[0])))

    def _ftruncate(self, args: tuple[Any, ...], _: None) -> None:
        self.calls.append(Call("cut", self._number(args[0]), size=args[1]))

    def _replace(self, args: tuple[Any, ...], _: None) -> None:
        self.calls.append(Call("rename", name=str(args[0]), other=str(args[1])))

    def _unlink(self, args: tuple[Any, ...], _: None) -> None:
        self.calls.append(Call("remove", name=str(args[0])))

    def confirmed(self, until: int) -> set[int]:
        """The lines that were said to be safe before call number ``until``."""
        return {call.confirmed for call in self.calls[:until] if call.what == "confirm"}

    def after_power_loss(self, until: int, place: Path, dice: random.Random) -> None:
        """Make the folder that a disk may hold when power fails before call ``until``."""
        calls = self.calls[:until]
        names = self._names(calls, dice)
        place.mkdir(mode=0o700)
        for name, file in names.items():
            (place / name).write_bytes(self._content(calls, file, dice))

    def _names(self, calls: list[Call], dice: random.Random) -> dict[str, int]:
        safe = max((at for at, call in enumerate(calls) if call.what == "sync folder"), default=-1)
        # Between everything and nothing of what was not yet safe.
        share = dice.choice((0.0, 0.5, 1.0))
        names: dict[str, int] = {}
        for at, call in enumerate(calls):
            if call.what not in ("create", "rename", "remove"):
                continue
            if at > safe and dice.random() >= share:
                continue
            if call.what == "create":
                names[call.name] = call.file
            elif call.what == "remove":
                names.pop(call.name, None)
            elif call.name in names:
                names[call.other] = names.pop(call.name)
        return names

    def _content(self, calls: list[Call], file: int, dice: random.Random) -> bytes:
        data = safe = b""
        for call in calls:
            if call.file != file:
                continue
            if call.what == "write":
                data += call.data
            elif call.what == "cut":
                data = data[: call.size]
            elif call.what == "sync":
                safe = data
        if len(data) <= len(safe):
            return data if dice.random() < 0.5 else safe
        rest = data[len(safe) :]
        kept = dice.choice((0, dice.randint(0, len(rest)), len(rest)))
        zeros = dice.choice((0, len(rest) - kept))
        return safe + rest[:kept] + bytes(zeros)
