"""``force_flush`` that means it: the official exporters' returns True and does nothing."""

from __future__ import annotations

from stack_composer.telemetry.record import recorder


class Durable:
    """Something that OpenTelemetry's users may tell to write what it holds."""

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Wait until all is durable on disk; False if it is not within ``timeout_millis``."""
        try:
            recorder.flush(timeout_millis / 1000)
        except Exception:
            return False
        return True
