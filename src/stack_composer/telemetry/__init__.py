"""Observability that stays on its user's computer; see ``docs/``.

``span``, ``metric``, ``log`` and their relatives record; ``flush`` makes durable;
``configure`` is optional. Names that need more than the recording calls load when
they are first used.
"""

from __future__ import annotations

from stack_composer.telemetry.api import (
    configure,
    counter,
    flush,
    gauge,
    generation,
    histogram,
    log,
    metric,
    shutdown,
    span,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stack_composer.telemetry.errors import (
        ConfigError,
        GuardError,
        StoreError,
        TelemetryError,
    )
    from stack_composer.telemetry.events import TELEMETRY, Telemetry, TelemetryEvent
    from stack_composer.telemetry.record.logging_handler import LoggingHandler
    from stack_composer.telemetry.testing import capture

__all__ = [
    "TELEMETRY",
    "ConfigError",
    "GuardError",
    "LoggingHandler",
    "StoreError",
    "Telemetry",
    "TelemetryError",
    "TelemetryEvent",
    "capture",
    "configure",
    "counter",
    "flush",
    "gauge",
    "generation",
    "histogram",
    "log",
    "metric",
    "shutdown",
    "span",
]

_LAZY = {
    "TELEMETRY": "events",
    "Telemetry": "events",
    "TelemetryEvent": "events",
    "LoggingHandler": "record.logging_handler",
    "capture": "testing",
    "ConfigError": "errors",
    "GuardError": "errors",
    "StoreError": "errors",
    "TelemetryError": "errors",
}


def __getattr__(name: str) -> object:
    place = _LAZY.get(name)
    if place is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{place}"), name)
