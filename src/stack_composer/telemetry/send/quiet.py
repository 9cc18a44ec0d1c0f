"""While we send, nothing observes it: no instrumentation, no log record of a library.

A program may trace its HTTP calls and record its log. Ours among them would be recorded
and sent, which would be recorded: a loop without end. And what urllib3 writes to its log
are whole addresses, which of an object store hold a signature.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_KEYS: Final = ("suppress_instrumentation", "suppress_http_instrumentation")
"""By these names the official instrumentations agree to look away."""
_LOGGERS: Final = ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry")

_here = threading.local()


def _is_of_others(_record: logging.LogRecord) -> bool:
    """Whether a record of urllib3 comes of somebody else's request."""
    return not getattr(_here, "sends", False)


@contextmanager
def unobserved() -> Iterator[None]:
    """Keep instrumentations and the log from what this thread does meanwhile."""
    for name in _LOGGERS:
        # Adding it again changes nothing.
        logging.getLogger(name).addFilter(_is_of_others)
    found = context.get_current()
    for key in _KEYS:
        found = context.set_value(key, value=True, context=found)
    token = context.attach(found)
    _here.sends = True
    try:
        yield
    finally:
        _here.sends = False
        context.detach(token)
