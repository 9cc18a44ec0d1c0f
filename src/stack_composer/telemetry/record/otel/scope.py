"""Instrumentation scopes: one object for each identity, and a bound on how many.

A program that makes a tracer a request, under a name of its own each time, would
otherwise fill the memory with classes and scopes.
"""

from __future__ import annotations

import os
from threading import RLock

from stack_composer.telemetry.model import Scope
from stack_composer.telemetry.record.instruments import series_key
from stack_composer.telemetry.values import copy_attributes, plain_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SCOPES_MAX = 1_000
"""Scopes of a process; whatever asks for a further one gets ``OVERFLOW``."""

OVERFLOW = Scope("stack_composer.telemetry.overflow")

_lock = RLock()
"""Reentrant: a signal handler or a ``__del__`` may come here while this thread has it."""
_scopes: dict[tuple[Any, ...], Scope] = {}


def scope_of(
    name: object,
    version: object = None,
    schema_url: object = None,
    attributes: Mapping[str, Any] | None = None,
) -> Scope:
    """Give the scope of this name, version, schema URL and attributes; always the same."""
    copied = copy_attributes(attributes) if attributes else None
    texts = [plain_key(text) if text else "" for text in (name, version, schema_url)]
    key = (*texts, series_key(copied))
    with _lock:
        found = _scopes.get(key)
        if found is None:
            if len(_scopes) >= SCOPES_MAX:
                return OVERFLOW
            found = _scopes.setdefault(key, Scope(texts[0], texts[1], copied, texts[2]))
    return found


def _renew_lock_after_fork() -> None:
    global _lock
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    # Another thread may have held it when the process forked.
    os.register_at_fork(after_in_child=_renew_lock_after_fork)
