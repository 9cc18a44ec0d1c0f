"""Ours as the providers of the OpenTelemetry API, so that any instrumentation works.

A package whose import does nearly nothing: OpenTelemetry itself loads
``otel.context`` by its entry point, while it is in the middle of its own import.
"""

from __future__ import annotations

# First of all, and not for a name in it. When OTEL_PYTHON_CONTEXT names our runtime
# context, this very import loads it; were it loaded the other way round, our module
# would be asked for a class that it has not come to define.
import opentelemetry.context  # noqa: F401


def install() -> None:
    """Make ours the global tracer, meter and logger providers, and join the contexts.

    May be called again. Tracers, meters and loggers that were made before through the
    API's proxies record here from now on.

    Raises:
        ConfigError: Another provider is installed, which OpenTelemetry does not allow
            to replace; nothing has changed.
    """
    from stack_composer.telemetry.record.otel.providers import install_providers

    install_providers()
