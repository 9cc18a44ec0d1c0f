"""Encode the structs of ``store.otlp`` as protobuf, by the table that ``wire`` reads by.

One table, two directions: what a field's number and kind is stands in ``wire.TABLE``
alone. The rules are proto3's: fields in the order of their numbers; a zero is left out,
but for what is optional or a member of a oneof, which tells by being there; numbers of a
list are packed. Of a oneof one member is written, though a line may have had several:
the one that ``store.otlp`` takes, too.

Nothing that a struct holds makes a message that a strict reader refuses. A number beyond
its field counts as absent; an integer attribute beyond 64 bits becomes text, as the
encoder of lines has it (OTLP.md, A7); an id that is none is left out.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp import wire
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, TypeAlias

    Write: TypeAlias = Callable[[Any, int], bytes]
    """Gives a field, tag and all, of a value and how deep it is; b"" to leave it out."""

_pack_u64 = struct.Struct("<Q").pack
_pack_i64 = struct.Struct("<q").pack
_pack_u32 = struct.Struct("<I").pack
_pack_double = struct.Struct("<d").pack

_I64_MAX: Final = (1 << 63) - 1
_I32_MAX: Final = (1 << 31) - 1
_U64_MAX: Final = (1 << 64) - 1
_U32_MAX: Final = (1 << 32) - 1


class _Field:
    """How one field is written.

    Attributes:
        name: Of the struct's field.
        tag: Its number and wire type, as they are written.
        write: See ``Write``.
        rivals: Members of its oneof that go before it.
    """

    __slots__ = ("name", "rivals", "tag", "write")

    def __init__(self, name: str, tag: bytes, write: Write, rivals: tuple[str, ...]) -> None:
        self.name = name
        self.tag = tag
        self.write = write
        self.rivals = rivals


def encode(data: otlp.TracesData | otlp.MetricsData | otlp.LogsData) -> bytes:
    """Encode what a line held as an ``Export*ServiceRequest``, which ``*Data`` is too.

    Two such messages one after the other are one message with the records of both.

    Raises:
        LineRefusedError: It is nested more than ``wire.DEPTH_MAX`` deep, or has bytes
            that are not base64; nothing of it is quoted.
    """
    return encode_message(data)


def encode_message(value: msgspec.Struct, depth: int = 0) -> bytes:
    """Encode one struct of ``store.otlp``, without tag and length.

    Raises:
        LineRefusedError: As ``encode``.
    """
    if depth > wire.DEPTH_MAX:
        raise LineRefusedError("is nested too deeply")
    out = []
    for field in _FIELDS[type(value)]:
        held = getattr(value, field.name)
        if held is not None and not _is_beaten(value, field.rivals):
            out.append(field.write(held, depth))
    return b"".join(out)


def writers(kind: type[msgspec.Struct]) -> dict[str, Write]:
    """Give how each field of a struct is written, by its name."""
    return {field.name: field.write for field in _FIELDS[kind]}


def tags(kind: type[msgspec.Struct]) -> dict[str, bytes]:
    """Give the tag of each field of a struct, by its name."""
    return {field.name: field.tag for field in _FIELDS[kind]}


def varint(value: int) -> bytes:
    """Write a number from 0 to 2**64 - 1 in up to ten bytes."""
    if value < 0x80:
        return _SMALL[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def with_length(raw: bytes) -> bytes:
    """Put the length of ``raw`` before it."""
    return varint(len(raw)) + raw


_SMALL: Final = [bytes([number]) for number in range(0x80)]


def _is_beaten(value: Any, rivals: tuple[str, ...]) -> bool:
    return any(getattr(value, name) is not None for name in rivals)


# -- payloads: what stands behind the tag ------------------------------------------------


def _text(value: str) -> bytes:
    return with_length(value.encode("utf-8", "replace"))


def _id(length: int) -> Callable[[str], bytes]:
    def payload(value: str) -> bytes:
        # Most were looked at while they were decoded; those of exemplars were not.
        return with_length(bytes.fromhex(otlp.id_of(value, length, Counter())))

    return payload


def _base64(value: str) -> bytes:
    return with_length(otlp.value_of(otlp.AnyValue(bytes_value=value)))


def _bool(value: int) -> bytes:
    return b"\x01" if value else b"\0"


def _int32(value: int) -> bytes:
    # A negative number of 32 bits is written as one of 64.
    return varint(value & _U64_MAX) if -_I32_MAX - 1 <= value <= _I32_MAX else b"\0"


def _uint32(value: int) -> bytes:
    return varint(value) if 0 <= value <= _U32_MAX else b"\0"


def _uint64(value: int) -> bytes:
    return varint(value) if 0 <= value <= _U64_MAX else b"\0"


def _zigzag32(value: int) -> bytes:
    is_one = -_I32_MAX - 1 <= value <= _I32_MAX
    return varint((value << 1 ^ value >> 31) & _U32_MAX) if is_one else b"\0"


def _fixed64(value: int) -> bytes:
    return _pack_u64(value if 0 <= value <= _U64_MAX else 0)


def _sfixed64(value: int) -> bytes:
    return _pack_i64(value if -_I64_MAX - 1 <= value <= _I64_MAX else 0)


def _fixed32(value: int) -> bytes:
    return _pack_u32(value if 0 <= value <= _U32_MAX else 0)


_PAYLOADS: Final[dict[str, Callable[[Any], bytes]]] = {
    "text": _text,
    "bytes": _base64,
    "bool": _bool,
    "enum": _int32,
    "uint32": _uint32,
    "uint64": _uint64,
    "sint32": _zigzag32,
    "fixed64": _fixed64,
    "sfixed64": _sfixed64,
    "double": _pack_double,
    "fixed32": _fixed32,
}
_ZEROS: Final = frozenset({b"\0", bytes(4), bytes(8)})
"""Payloads that say what a missing field says."""


# -- fields: tag and payload, or nothing -------------------------------------------------


def _scalar(tag: bytes, payload: Callable[[Any], bytes], *, always: bool) -> Write:
    def write(value: Any, _depth: int) -> bytes:
        raw = payload(value)
        return b"" if raw in _ZEROS and not always else tag + raw

    return write


def _packed(tag: bytes, payload: Callable[[Any], bytes]) -> Write:
    def write(values: list[Any], _depth: int) -> bytes:
        return tag + with_length(b"".join(map(payload, values))) if values else b""

    return write


def _message(tag: bytes, *, always: bool) -> Write:
    def write(value: Any, depth: int) -> bytes:
        raw = with_length(encode_message(value, depth + 1))
        return b"" if raw in _ZEROS and not always else tag + raw

    return write


def _messages(tag: bytes) -> Write:
    def write(values: list[Any], depth: int) -> bytes:
        depth += 1
        return b"".join([tag + with_length(encode_message(value, depth)) for value in values])

    return write


def _integer(tag: bytes) -> Write:
    def write(value: int, _depth: int) -> bytes:
        if -_I64_MAX - 1 <= value <= _I64_MAX:
            return tag + varint(value & _U64_MAX)
        # Only an AnyValue has such a field, and its text is field 1.
        return b"\x0a" + _text(f"{value:#x}")

    return write


# -- the table, read for writing ---------------------------------------------------------

_FIRST: Final = frozenset({"string_value", "int_value", "as_int"})
"""Of several members of a oneof these go first, as in ``value_of`` and ``number_of``."""


def _compiled() -> dict[type, list[_Field]]:
    kinds = {kind.__name__ for kind in wire.TABLE}
    compiled = {}
    for struct_type, text in wire.TABLE.items():
        defaults = {field.name: field.default for field in msgspec.structs.fields(struct_type)}
        numbered = []
        for group in text.split(";"):
            rows = [row.split() for row in group.split("|")]
            rows.sort(key=lambda row: row[1] not in _FIRST)
            for at, (number, name, sort) in enumerate(rows):
                # An attribute without a value has one all the same: that is no value.
                is_value = struct_type is otlp.KeyValue and name == "value"
                always = is_value or defaults[name] is None
                tag = varint(int(number) << 3 | _wire_type(sort, kinds))
                write = _writing(tag, name, sort, kinds, always=always)
                rivals = tuple(row[1] for row in rows[:at])
                numbered.append((int(number), _Field(name, tag, write, rivals)))
        compiled[struct_type] = [field for _, field in sorted(numbered, key=lambda one: one[0])]
    return compiled


def _wire_type(sort: str, kinds: set[str]) -> int:
    is_length = sort.endswith("*") or sort in kinds
    return wire.LENGTH if is_length else wire.READERS[sort][0]


def _writing(tag: bytes, name: str, sort: str, kinds: set[str], *, always: bool) -> Write:
    many = sort.endswith("*")
    sort = sort.rstrip("*")
    if sort in kinds:
        return _messages(tag) if many else _message(tag, always=always)
    if sort == "id":
        return _scalar(tag, _id(32 if name == "trace_id" else 16), always=False)
    if sort == "int64":
        return _integer(tag)
    payload = _PAYLOADS[sort]
    return _packed(tag, payload) if many else _scalar(tag, payload, always=always)


_FIELDS: Final = _compiled()
