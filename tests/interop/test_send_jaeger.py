"""What we upload to Jaeger, as OTLP or as its own Thrift, is what its query API answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

import records
from interop import everything, peers, uploading

pytestmark = [pytest.mark.e2e, pytest.mark.interop]

KINDS = ("", "internal", "server", "client", "producer", "consumer")
STATUS = ("", "OK", "ERROR")


def wanted(store: Path) -> list[dict[str, Any]]:
    """What Jaeger has to tell of each span in our store; sorted by ids."""
    told = []
    for line in records.lines(store, "traces"):
        for resource in line["resourceSpans"]:
            service = records.attributes(resource["resource"])["service.name"]
            for scope in resource["scopeSpans"]:
                told += [_wanted(service, scope["scope"], span) for span in scope["spans"]]
    return sorted(told, key=itemgetter("trace", "id"))


def _wanted(service: str, scope: dict[str, Any], span: dict[str, Any]) -> dict[str, Any]:
    status = span.get("status", {})
    tags = dict(_tags(span)) | {
        "otel.scope.name": scope["name"],
        "span.kind": KINDS[span["kind"]],
        "otel.status_code": STATUS[status.get("code", 0)],
        "otel.status_description": status.get("message", ""),
        "w3c.tracestate": span.get("traceState", ""),
    }
    links = [("FOLLOWS_FROM", link["traceId"], link["spanId"]) for link in span.get("links", ())]
    if "parentSpanId" in span:
        links.append(("CHILD_OF", span["traceId"], span["parentSpanId"]))
    begun, ended = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
    return {
        "service": service,
        "trace": span["traceId"],
        "id": span["spanId"],
        "name": span["name"],
        "references": sorted(links),
        "start_us": begun // 1000,
        "duration_us": (ended - begun) // 1000,
        "is_error": status.get("code") == STATUS.index("ERROR"),
        "tags": {key: value for key, value in tags.items() if value != ""},
        "events": [
            (int(event["timeUnixNano"]) // 1000, {"event": event["name"], **dict(_tags(event))})
            for event in span.get("events", ())
        ],
    }


def _tags(held: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Attributes as Jaeger answers them: what has parts is a text of JSON."""
    for attribute in held.get("attributes", ()):
        value = attribute["value"]
        if "intValue" in value:
            yield attribute["key"], int(value["intValue"])
        elif "arrayValue" in value or "kvlistValue" in value:
            parts = json.dumps(_plain(value), separators=(",", ":"), sort_keys=True)
            yield attribute["key"], parts
        else:
            yield attribute["key"], next(iter(value.values()))


def _plain(value: dict[str, Any]) -> Any:
    if "arrayValue" in value:
        return [_plain(item) for item in value["arrayValue"]["values"]]
    if "kvlistValue" in value:
        return {item["key"]: _plain(item["value"]) for item in value["kvlistValue"]["values"]}
    ((kind, held),) = value.items()
    return int(held) if kind == "intValue" else held


def found(doors: peers.Doors, service: str) -> list[dict[str, Any]]:
    """What Jaeger says of the spans of one service."""
    url = f"{doors.url('query')}/api/traces?limit=1500&service={service}"
    told = []
    for trace in peers.ask(url)["data"]:
        for span in trace["spans"]:
            tags = _fields(span["tags"])
            told.append(
                {
                    "service": trace["processes"][span["processID"]]["serviceName"],
                    # Jaeger leaves the first zeros out, if they are half of it.
                    "trace": span["traceID"].zfill(32),
                    "id": span["spanID"],
                    "name": span["operationName"],
                    "references": sorted(
                        (one["refType"], one["traceID"], one["spanID"])
                        for one in span["references"]
                    ),
                    "start_us": span["startTime"],
                    "duration_us": span["duration"],
                    "is_error": tags.pop("error", False),
                    "tags": tags,
                    "events": [(log["timestamp"], _fields(log["fields"])) for log in span["logs"]],
                }
            )
    of_service = [span for span in told if span["service"] == service]
    return sorted(of_service, key=itemgetter("trace", "id"))


def all_of(doors: peers.Doors, service: str, count: int) -> list[dict[str, Any]]:
    """The same, once there are as many as that."""

    def enough() -> list[dict[str, Any]]:
        told = found(doors, service)
        return told if len(told) >= count else []

    return peers.until(enough, f"the spans of {service} in Jaeger")


def _fields(fields: list[dict[str, Any]]) -> dict[str, Any]:
    """Numbers beyond what JavaScript counts exactly come as texts."""
    return {
        field["key"]: int(field["value"]) if field["type"] == "int64" else field["value"]
        for field in fields
    }


def agreed(told: dict[str, Any], want: dict[str, Any], *, by_thrift: bool) -> dict[str, Any]:
    """What Jaeger says, less what it may say besides."""
    tags = {key: value for key, value in told["tags"].items() if key in want["tags"]}
    if by_thrift and want["tags"].get("span.kind") == "internal":
        # OpenTelemetry's rules for Jaeger leave the tag out for this kind.
        tags["span.kind"] = "internal"
    events = [
        (at, {key: value for key, value in fields.items() if key in dict(_all(want["events"]))})
        for at, fields in told["events"]
    ]
    if by_thrift:
        # Jaeger's references have no attributes: an event has those of a link.
        events = [event for event in events if event[1].get("event") != "link"]
    return {**told, "tags": tags, "events": events}


def _all(events: list[tuple[int, dict[str, Any]]]) -> Iterator[tuple[str, Any]]:
    for _, fields in events:
        yield from fields.items()


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("way", ["http/protobuf", "http/json", "grpc", "jaeger"])
def test_jaeger_tells_of_every_span_what_we_have_stored(
    way: str, compression: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    # Jaeger takes a tag that is not a number, and then answers 500 to whoever asks.
    everything.write(store, finite=True)
    with peers.jaeger(tmp_path / "jaeger") as doors:
        thrift = f"{doors.url('thrift')}/api/traces"
        url = {"grpc": doors.url("grpc"), "jaeger": thrift}.get(way, doors.url())
        environ = uploading.configured(
            tmp_path / "config",
            upload_endpoint=url,
            upload_compression=compression,
            # By its path Jaeger's own address tells what it takes.
            upload_protocol="auto" if way == "jaeger" else way,
        )
        uploading.upload(store, environ, "--signal", "traces")
        for service in (everything.SERVICE, "sealed"):
            want = [span for span in wanted(store) if span["service"] == service]
            told = all_of(doors, service, len(want))
            assert [
                agreed(one, other, by_thrift=way == "jaeger")
                for one, other in zip(told, want, strict=True)
            ] == want
