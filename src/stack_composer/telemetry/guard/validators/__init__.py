"""The last word on a hit: does what the pattern found hold what its form promises?

A pattern knows characters; a validator knows check digits, decodes, and tells a value
made by a machine from a word. Each takes the data and the span of the secret in it,
is total (any bytes, no exception) and looks at the span and a little before it, never
at the rest: its cost is bounded by the pattern's.

Its answer is yes or no, or the place where the secret ends, if that is further than the
pattern could see; then it must not be called in vain: what it looks at is masked.

A rule names one as "module.function". The modules load with the first hit that needs
them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Check: TypeAlias = Callable[[bytes, int, int], int]


def find_validator(name: str) -> Check:
    """Import the validator called ``name`` ("tokens.jwt"); "" accepts every hit.

    Raises:
        ImportError: There is no such module.
        AttributeError: The module has no such function.
    """
    if not name:
        return accept
    from importlib import import_module

    module, _, function = name.partition(".")
    check: Check = getattr(import_module(f"{__name__}.{module}"), function)
    return check


def accept(_data: bytes, _start: int, _end: int) -> bool:
    """For a pattern that needs no second look."""
    return True
