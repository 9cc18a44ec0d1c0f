"""The three providers under one roof: what entry points name and ``install`` sets.

``OTEL_PYTHON_TRACER_PROVIDER=stack_composer`` and its relatives for meters and loggers
have OpenTelemetry load these without a line of code.
"""

from __future__ import annotations

from opentelemetry import _logs, metrics, trace

from stack_composer.telemetry.errors import ConfigError
from stack_composer.telemetry.record.otel.context import join
from stack_composer.telemetry.record.otel.logs import LoggerProvider
from stack_composer.telemetry.record.otel.metrics import MeterProvider
from stack_composer.telemetry.record.otel.trace import TracerProvider

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LoggerProvider", "MeterProvider", "TracerProvider", "install_providers"]


def install_providers() -> None:
    """See ``otel.install``."""
    join()
    wanted: list[tuple[str, Any, type[Any], Any]] = [
        ("tracer", trace.get_tracer_provider(), TracerProvider, trace.set_tracer_provider),
        ("meter", metrics.get_meter_provider(), MeterProvider, metrics.set_meter_provider),
        ("logger", _logs.get_logger_provider(), LoggerProvider, _logs.set_logger_provider),
    ]
    for what, present, ours, _ in wanted:
        if not (isinstance(present, ours) or _is_proxy(present)):
            raise ConfigError(
                f"opentelemetry: another {what} provider is installed, "
                f"{type(present).__module__}.{type(present).__qualname__}",
                hint="call configure() before it is set, or add our exporter to it: "
                "docs/opentelemetry.md",
            )
    for _, present, ours, set_globally in wanted:
        if not isinstance(present, ours):
            set_globally(ours())


def _is_proxy(provider: Any) -> bool:
    """Tell whether ``provider`` is what the API gives while none is installed."""
    return "Proxy" in type(provider).__name__ and type(provider).__module__.startswith(
        "opentelemetry."
    )
