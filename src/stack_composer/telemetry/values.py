"""Turn what an application passes as a value into what OTLP can hold.

Runs on the caller's thread, so that a list or an object is recorded as it was when
it was passed. Never raises: a value whose own code fails is replaced by a note.
"""

from __future__ import annotations

from gc import is_tracked
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from stack_composer.telemetry.model import AnyValue

DEPTH_MAX = 8
"""Containers nested deeper are replaced by a note; OTLP sets no bound, readers do."""
ITEMS_MAX = 1_024
"""Items of one container; the rest is cut."""
VALUES_MAX = 16_384
"""Items of one value in all, at every depth: a list that holds itself thirty times
would otherwise have more of them than any memory."""
TEXT_CHARS_MAX = 1 << 20
"""Characters of one text; the guard refuses to judge far shorter ones anyway."""

UNPRINTABLE = "[unprintable]"
"""Stands for a value whose own code raised."""
TOO_DEEP = "[nested too deep]"
"""Stands for a container below ``DEPTH_MAX``, which includes one that holds itself."""
TOO_MANY = "[too many values]"
"""Stands for what comes after ``VALUES_MAX`` items."""

_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})


def copy_attributes(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Copy ``attributes`` so that nobody can change them any more.

    A dict that the garbage collector does not track holds immutable atoms only, so
    one cheap question usually spares a look at each value. (From 3.14 on CPython
    tracks every dict; then each value is looked at.)
    """
    try:
        copied = dict(attributes)
    except Exception:
        return {"telemetry.unreadable_attributes": UNPRINTABLE}
    return copied if not is_tracked(copied) else settle(copied)


def settle(attributes: dict[Any, Any]) -> dict[str, Any]:
    """Replace, in place, every value that is not an immutable atom."""
    for key, value in attributes.items():
        if type(value) not in _ATOMS:
            attributes[key] = plain(value)
    return attributes


def text_keys(attributes: dict[Any, Any]) -> dict[str, Any]:
    """Give ``attributes`` with every key a text; nearly always they are, and stay as given."""
    if all(type(key) is str for key in attributes):
        return attributes
    return {plain_key(key): value for key, value in attributes.items()}


def plain(value: object) -> AnyValue:
    """Give the AnyValue nearest to ``value``; of an unknown type, its ``str``.

    Bounds: ``DEPTH_MAX``, ``ITEMS_MAX``, ``VALUES_MAX`` and ``TEXT_CHARS_MAX``; what
    is beyond is cut or replaced by a note in square brackets.
    """
    return _Walk().plain(value, 0)


class _Walk:
    """One value's way through all that it holds, with what may still come."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = VALUES_MAX

    def plain(self, value: object, depth: int) -> AnyValue:
        try:
            return self._plain(value, depth)
        except Exception:
            # The value's own __str__, __iter__ or keys() failed; recording must not.
            return UNPRINTABLE

    def _plain(self, value: object, depth: int) -> AnyValue:  # noqa: PLR0911 - one answer a type
        kind = type(value)
        if kind is str:
            return text if len(text := str(value)) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX]
        if kind in _ATOMS:
            return value  # type: ignore[return-value]  # an atom, as just tested
        if isinstance(value, str):
            # Not str(value): an enum that is also a str would give its member's name.
            return str.__str__(value)[:TEXT_CHARS_MAX]
        if isinstance(value, bool | int):
            return int.__int__(value)
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        if isinstance(value, dict) or hasattr(value, "keys"):
            return self._mapping(value, depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._items(value, depth)
        return self._object(value)

    def _mapping(self, value: Any, depth: int) -> AnyValue:
        if depth >= DEPTH_MAX:
            return TOO_DEEP
        found: dict[str, AnyValue] = {}
        for key in islice(value.keys(), ITEMS_MAX):
            if self._is_over():
                break
            found[plain_key(key)] = self.plain(value[key], depth + 1)
        return found

    def _items(self, value: Any, depth: int) -> AnyValue:
        if depth >= DEPTH_MAX:
            return TOO_DEEP
        found: list[AnyValue] = []
        for item in islice(value, ITEMS_MAX):
            if self._is_over():
                found.append(TOO_MANY)
                break
            found.append(self.plain(item, depth + 1))
        return found

    def _is_over(self) -> bool:
        self.left -= 1
        return self.left < 0

    def _object(self, value: object) -> AnyValue:
        if isinstance(value, type):
            return f"{value.__module__}.{value.__qualname__}"
        item = getattr(value, "item", None)
        if item is not None and getattr(value, "shape", None) == ():
            return self._plain(item(), DEPTH_MAX)  # a numpy scalar
        return exact(str(value))[:TEXT_CHARS_MAX]


def plain_key(key: object) -> str:
    """Give the text of an attribute key; a key that is no string is turned into one."""
    if type(key) is str:
        return key
    try:
        return exact(key if isinstance(key, str) else str(key))
    except Exception:
        return UNPRINTABLE


def exact(text: str) -> str:
    """Give ``text`` as a ``str`` of no subclass, whose methods could lie to the guard."""
    return text if type(text) is str else str.__str__(text)
