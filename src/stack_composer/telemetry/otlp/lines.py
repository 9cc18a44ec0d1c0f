"""Give OTLP JSON lines that hold only the records asked for.

What stays should stay as it was written, unknown fields too (OTLP.md, A14). So a line
whose records all match goes out as its own bytes, and one that is cut is cut as
plain JSON, by position. Only a line that had to be mended to be read (base64 ids,
enum names, nulls) is written anew from what was understood, in the protocol's
strict form.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

_RECORDS = {
    "resourceSpans": ("scopeSpans", "spans"),
    "resourceLogs": ("scopeLogs", "logRecords"),
    "resourceMetrics": ("scopeMetrics", "metrics"),
}
_POINT_KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")

_LAYOUT = (b"\n", b"\r", b"\t")
"""White space that a document over many lines has, and one line of JSON has not."""

_WIDE_FIELDS = frozenset(
    {
        "start_time_unix_nano",
        "end_time_unix_nano",
        "time_unix_nano",
        "observed_time_unix_nano",
        "int_value",
        "as_int",
        "count",
        "zero_count",
        "bucket_counts",
    }
)
"""64-bit integers, which OTLP JSON writes as decimal text (OTLP.md, A4)."""


def filtered_line(
    line: bytes, data: msgspec.Struct, flags: list[bool], *, mended: bool
) -> bytes | None:
    """Return one line without newline that holds the flagged records; None if none is.

    Args:
        line: What was read.
        data: The same, decoded by store/otlp.py.
        flags: For each record of ``walk.items(data)`` whether it stays.
        mended: Whether decoding had to mend the line.
    """
    if not any(flags):
        return None
    if mended or has_null(line):
        return msgspec.json.encode(narrowed(written(data), flags))
    if all(flags) and is_one_line(line):
        return line
    try:
        tree = msgspec.json.decode(line)
    except msgspec.DecodeError:
        # Read by the forgiving parser; what was understood is written strictly.
        tree = written(data)
    return msgspec.json.encode(narrowed(tree, flags))


def has_null(line: bytes) -> bool:
    """Whether the decoder may have left a null out, so that positions are not the text's."""
    return b"null" in line


def is_one_line(line: bytes) -> bool:
    """Whether a document is one line, of one signal, and can go out as it is."""
    # Found in an attribute's text a mark only costs the longer way.
    of_signals = sum(b'"' + key.encode() + b'"' in line for key in _RECORDS)
    return of_signals == 1 and not any(white in line for white in _LAYOUT)


def narrowed(tree: dict[str, Any], flags: list[bool]) -> dict[str, Any]:
    """Take the unflagged records out of a tree of JSON, and the envelopes left empty.

    What stays has its unknown fields still.
    """
    remaining = iter(flags)
    for key, (scopes_key, records_key) in _RECORDS.items():
        if key not in tree:
            continue
        for resource in tree[key]:
            for scope in resource.get(scopes_key, ()):
                if records_key == "metrics":
                    scope["metrics"] = _metrics(scope.get("metrics", []), remaining)
                else:
                    scope[records_key] = [r for r in scope.get(records_key, ()) if next(remaining)]
            _drop_empty(resource, scopes_key, records_key)
        _drop_empty(tree, key, scopes_key)
        # Of several signals in one object only the first was read.
        return {key: tree[key]}
    return {}


def _metrics(metrics: list[dict[str, Any]], remaining: Any) -> list[dict[str, Any]]:
    kept = []
    for metric in metrics:
        found = False
        for kind in _POINT_KINDS:
            held = metric.get(kind)
            if held is not None:
                held["dataPoints"] = [p for p in held.get("dataPoints", ()) if next(remaining)]
                found = found or bool(held["dataPoints"])
        if found:
            kept.append(metric)
    return kept


def _drop_empty(holder: dict[str, Any], key: str, inner: str) -> None:
    holder[key] = [part for part in holder.get(key, ()) if part.get(inner)]


def written(value: Any) -> Any:
    """Return a struct as OTLP's strict JSON: defaults left out, wide integers as text."""
    if isinstance(value, msgspec.Struct):
        tree = {}
        for name, camel, default in _fields(type(value)):
            held = getattr(value, name)
            # An AnyValue's own fields tell by their presence, also when they are 0 or "".
            if held is None or (default is not None and held == default):
                continue
            tree[camel] = _wide(held) if name in _WIDE_FIELDS else written(held)
        return tree
    if isinstance(value, list):
        return [written(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _wide(value: Any) -> Any:
    return [str(item) for item in value] if isinstance(value, list) else str(value)


_FIELDS: dict[type, list[tuple[str, str, Any]]] = {}


def _fields(kind: type[msgspec.Struct]) -> list[tuple[str, str, Any]]:
    """Return name, written name and default (None: always written) of each field."""
    known = _FIELDS.get(kind)
    if known is None:
        known = _FIELDS[kind] = [
            (field.name, field.encode_name, _default(field))
            for field in msgspec.structs.fields(kind)
        ]
    return known


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.name == "value":
        return None  # An attribute without a value is written as one with none: {}.
    if field.default is not msgspec.NODEFAULT:
        return field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None
