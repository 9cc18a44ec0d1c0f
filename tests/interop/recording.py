"""A program that records, while its exporters send. Ends when its standard input does."""

from __future__ import annotations

import sys

from stack_composer import telemetry

SPANS = 300

with telemetry.span("root", {"app.note": "Grüße"}, answer=42, ratio=0.5, parts=["a", "b"]) as root:
    for number in range(SPANS):
        with telemetry.span("step", n=number):
            pass
    telemetry.log("warning", "watch out", code=7)
    telemetry.counter("hits", {"route": "/a"}).add(3)
    telemetry.histogram("wait", unit="s").record(0.25)
    telemetry.gauge("level").set(7)
try:
    with telemetry.span("broken"):
        raise ValueError("on purpose")
except ValueError:
    pass
telemetry.flush()
sys.stdin.read()
