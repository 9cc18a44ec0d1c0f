"""Texts so plain that no rule can hit them, found without any pattern.

A short program records span names, keys and small words only. Compiling the rules for
those would cost it more than all else that telemetry does, so ``is_plain`` lets them
by. It is never right about a text that a rule hits (a property test holds it to
that), and often wrong about one that is clean.
"""

from __future__ import annotations

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.-"
_WITH_DIGITS = _LETTERS + "0123456789"
_LETTERS_CHARS_MAX = 16  # The shortest hit without a digit is a MAC address of 17.
_OURS = frozenset(
    {
        "stack-composer-telemetry",
        "stack_composer.telemetry",
        "stack_composer.telemetry.dropped",
        "stack_composer.telemetry.faults",
        "stack_composer.telemetry.redacted",
    }
)
"""What every program's lines hold, whatever it records."""
_SERVICE = "unknown_service:"  # OpenTelemetry's default, before the executable's name
_DIGITS_CHARS_MAX = 10  # The shortest number of a person has 11, with its separators.

_STRICT_DIGITS_CHARS_MAX = 4


def is_plain(text: str, profile: str) -> bool:
    """Whether ``text`` needs no search: short, and of letters, ``_``, ``.``, ``-``.

    A shorter one may have digits too. In the profile strict dots make an address,
    ``abcd.ef01.abcd`` is one of a network card, and a vehicle's plate has five characters.
    """
    text = text.removeprefix(_SERVICE)
    length = len(text)
    if text in _OURS:
        return True
    if length > _LETTERS_CHARS_MAX:
        return False
    dots = text.count(".") if profile == "strict" else 0
    # strip() is the quickest test of every character against a set.
    if dots < 2 and not text.strip(_LETTERS):
        return True
    if length > (_DIGITS_CHARS_MAX if profile != "strict" else _STRICT_DIGITS_CHARS_MAX) or dots:
        return False
    return not text.strip(_WITH_DIGITS)
