"""Which records a question is about.

A decoded line is one flat sequence of ``Item`` (``otlp.walk``).

A span is in a window if it overlaps it; a log record or a data point if its time
lies within. A record that tells no time is in every window: nothing says otherwise.
"""

from __future__ import annotations

import fnmatch
import re

from stack_composer.telemetry.errors import QueryError
from stack_composer.telemetry.otlp.walk import POINT_KINDS, Item, items

__all__ = ["POINT_KINDS", "TRACE_ID_CHARS", "Item", "Selection", "items"]

TRACE_ID_CHARS = 32
_HEX = re.compile(r"[0-9a-f]{1,32}")


class Selection:
    """What is asked for; None means any.

    Attributes:
        since_ns: Unix nanoseconds, 0 for no limit.
        until_ns: The first moment that is too late, 0 for no limit.
        signals: Of "traces", "metrics", "logs".
        trace: The beginning of a trace id, in lower case.
    """

    __slots__ = ("_name", "signals", "since_ns", "trace", "until_ns")

    def __init__(
        self,
        *,
        since_ns: int = 0,
        until_ns: int = 0,
        signals: frozenset[str] | None = None,
        name: str | None = None,
        trace: str | None = None,
    ) -> None:
        """Check and keep the question.

        Args:
            since_ns: See the attribute.
            until_ns: See the attribute.
            signals: See the attribute.
            name: A pattern with ``*``, ``?`` and ``[...]``, case-sensitive, for the
                names of spans, metrics and events; a plain log record has none.
            trace: A trace id or its beginning; data points belong to no trace.

        Raises:
            QueryError: ``trace`` is not hexadecimal.
        """
        if trace is not None and not _HEX.fullmatch(trace.lower()):
            raise QueryError(
                "--trace is not a trace id",
                hint=f"give up to {TRACE_ID_CHARS} hexadecimal digits, from the beginning",
            )
        self.since_ns = since_ns
        self.until_ns = until_ns
        self.signals = signals
        self._name = None if name is None else re.compile(fnmatch.translate(name))
        self.trace = None if trace is None else trace.lower()

    def wants(self, signal: str) -> bool:
        """Whether any record of this signal can match."""
        if signal == "metrics" and self.trace is not None:
            return False
        return self.signals is None or signal in self.signals

    @property
    def is_everything(self) -> bool:
        """Whether each record of a wanted signal matches, so none need be looked at."""
        return not (self.since_ns or self.until_ns or self._name or self.trace)

    def takes(self, item: Item) -> bool:
        """Whether this record is asked for."""
        if not self.wants(item.signal) or not self._in_window(item):
            return False
        if self._name is not None and not (item.name and self._name.match(item.name)):
            return False
        return self.trace is None or item.record.trace_id.startswith(self.trace)

    def _in_window(self, item: Item) -> bool:
        end_ns = item.end_ns
        if not end_ns:
            return True
        if end_ns < self.since_ns:
            return False
        return not self.until_ns or item.start_ns < self.until_ns
