"""Put a new span around each call of a function, whatever kind of function it is.

A generator's span lasts from its first step to its end, but is current only while
the generator itself runs: what its consumer does in between is not its child.
"""

from __future__ import annotations

import functools
import inspect
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from stack_composer.telemetry.record.span import Span


def decorate(pattern: Span, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``function``; ``pattern`` itself is never started."""
    if isinstance(function, staticmethod | classmethod):
        return type(function)(decorate(pattern, function.__func__))
    if inspect.iscoroutinefunction(function):
        return _around_coroutine(pattern, function)
    if inspect.isasyncgenfunction(function):
        return _around_async_generator(pattern, function)
    if inspect.isgeneratorfunction(function):
        return _around_generator(pattern, function)
    return _around_function(pattern, function)


def _around_function(pattern: Span, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with pattern.again():
            return function(*args, **kwargs)

    return wrapper


def _around_coroutine(pattern: Span, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with pattern.again():
            return await function(*args, **kwargs)

    return wrapper


class _Steps:
    """A span that is current during the steps of a generator, and not in between."""

    def __init__(self, pattern: Span) -> None:
        self._span = pattern.again()
        self._started = False

    def __enter__(self) -> None:
        if self._started:
            self._span.resume()
        else:
            self._span.__enter__()
            self._started = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._span.leave()
        else:
            # A generator's end is no failure of its span.
            ended = issubclass(kind, StopIteration | StopAsyncIteration)
            self._span.__exit__(*((None, None, None) if ended else (kind, error, trace)))


def _around_generator(pattern: Span, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        inner = function(*args, **kwargs)
        steps = _Steps(pattern)
        step: Callable[..., Any] = inner.send
        given: tuple[Any, ...] = (None,)
        while True:
            try:
                with steps:
                    produced = step(*given)
            except StopIteration as end:
                return end.value
            try:
                given = ((yield produced),)
                step = inner.send
            except BaseException:
                # throw() hands on what the consumer threw, GeneratorExit included.
                step, given = inner.throw, (sys.exc_info()[1],)

    return wrapper


def _around_async_generator(pattern: Span, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        inner = function(*args, **kwargs)
        steps = _Steps(pattern)
        step: Callable[..., Any] = inner.asend
        given: tuple[Any, ...] = (None,)
        while True:
            try:
                with steps:
                    produced = await step(*given)
            except StopAsyncIteration:
                return
            try:
                given = ((yield produced),)
                step = inner.asend
            except BaseException:
                step, given = inner.athrow, (sys.exc_info()[1],)

    return wrapper
