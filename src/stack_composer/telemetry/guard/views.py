"""Read a text as its reader would: undo the writing under which a secret may hide.

A rule knows a credential in plain writing. In a log it may stand percent-encoded, as a
JSON or HTML escape, in quoted-printable or base64, in full-width letters, with invisible
characters in between, or broken over two lines. ``views`` gives the text in plain
writing, each view with a map that leads back: what a rule sees after decoding is what is
masked, in the writing it had.

A view is never longer than what it was made of, so its cost is bounded by the text's.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate

from .hidden import BASE64_FOUR, QUOTED
from .lookalikes import LETTERS_AND_SIGNS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final

ROUNDS_MAX: Final = 5
"""Writings within each other that are undone; deeper ones cannot be judged."""
NESTING_MAX: Final = 2
"""Base64 within base64 is read so often."""

_UTF8_CHAR: Final = rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
_ESCAPE: Final = (
    rb"%(?:u[0-9A-Fa-f]{4}|[0-9A-Fa-f]{2})"
    # A run from its first backslash only: from each of them it would be read again.
    rb"|(?<!\\)\\+(?:u[0-9A-Fa-f]{4}|u\{[0-9A-Fa-f]{1,8}\}|U[0-9A-Fa-f]{8}|x[0-9A-Fa-f]{2}"
    rb"|[nrtbfv\"'/])"
    rb"|&(?:#[0-9]{1,10};?|#[xX][0-9A-Fa-f]{1,8};?|[A-Za-z]{2,8};)"
    # What a terminal takes for an order (a colour, a link), and what it does not show.
    rb"|\x1b(?:\[[0-?]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b\0]{0,400}(?:\x07|\x1b\\))"
    rb"|[\x02-\x08\x0e-\x1b\x7f]"
)
_BASE64: Final = rb"(?:[A-Za-z0-9+/_-]{4}){5,}[A-Za-z0-9+/_-]{0,3}={0,2}"
_NAME: Final = rb"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
# A break inside a word: letters before it, and after it a line that is nothing else. A
# line that sets another name goes on with nothing; padding of base64 sets none.
_BREAK: Final = (
    rb"(?<=[A-Za-z0-9+/_.=~-])[\"']?[ \t]{0,8}[+\\]?[ \t]{0,8}\r?\n[ \t]{0,64}(?:[>|*#] ?)?[\"']?"
    rb"(?!" + _NAME + rb"=[A-Za-z0-9+/_.~-])"
    rb"(?=[A-Za-z0-9+/_.=~-]{4,}[\"'`,;)\]}>]{0,8}[ \t]{0,8}[+\\]?[ \t]{0,8}(?:\r?\n|\Z))"
)
# A word or a number, as prose and settings have it, before a line or alone in it: no part of
# a secret, most likely. Letters of both cases mixed, or with digits among them, may be one.
_PLAIN_WORD: Final = rb"(?:[A-Z]?[a-z]{1,32}|[0-9]{1,12}|[A-Z]{1,3})\.?"
_LINE_OF_WORD: Final = rb"(?<![A-Za-z0-9+/_.=~-])(?:" + _NAME + rb"=)?" + _PLAIN_WORD + rb"\r?\n"
_UNESCAPE: Final = re.compile(_ESCAPE + rb"|" + _UTF8_CHAR)
# What a form writes has these escapes, and a plus for each space.
_FORM: Final = re.compile(rb"(?i)\+%2[2F]|%(?:22|2C|3A|3D)\+|\+[a-z0-9]+%[23]")
_PLUS: Final = re.compile(rb"\+")
# Behind base64, before a line that sets another name, it is padding and no soft break.
_PADDING: Final = rb"(?<=[A-Za-z0-9+/]{16})=\r?\n[ \t]{0,64}" + _NAME + rb"(?:[ ]?=(?!3D)|:[ ])"
_QUOTED_PRINTABLE: Final = re.compile(rb"(?!" + _PADDING + rb")=(?:\r?\n|[0-9A-F]{2})")
_SOFT: Final = re.compile(QUOTED)
_LINE_BREAK: Final = re.compile(_BREAK)
_TOKEN_BREAK: Final = re.compile(
    _LINE_OF_WORD + rb"|" + _BREAK + rb"(?!" + _PLAIN_WORD + rb"[ \t]*(?:\r?\n|\Z))"
)
_BASE64_RUN: Final = re.compile(_BASE64)
_BASE64_TEXT: Final = re.compile(BASE64_FOUR + rb"{5}")
_PRINTABLE: Final = bytes([9, 10, 13, *range(32, 127)])


class View:
    """A text in plainer writing, and where each part of it came from.

    Attributes:
        data: The text as it reads.
        joined: Lines were joined that may not belong together: only a credential that
            is known by its own form is to be looked for.
    """

    __slots__ = ("_below", "_ends", "_literal", "_origins", "_starts", "data", "joined")

    def __init__(
        self, parts: Sequence[tuple[bytes, int, int, bool]], below: View | None, *, joined: bool
    ) -> None:
        """Put ``parts`` together: each its bytes, where it stood in ``below``, if unchanged."""
        self.data = b"".join(part[0] for part in parts)
        self.joined: bool = joined or (below is not None and below.joined)
        self._below = below
        self._starts = list(accumulate((len(part[0]) for part in parts[:-1]), initial=0))
        self._origins = [part[1] for part in parts]
        self._ends = [part[2] for part in parts]
        self._literal = [part[3] for part in parts]

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Where ``[start, end)`` of this view, not empty, stood in the text itself.

        A part that was decoded counts whole.
        """
        first = bisect_right(self._starts, start) - 1
        last = bisect_right(self._starts, end - 1) - 1
        began, ended = self._origins[first], self._ends[last]
        if self._literal[first]:
            began += start - self._starts[first]
        if self._literal[last]:
            ended = self._origins[last] + end - self._starts[last]
        return (began, ended) if self._below is None else self._below.origin(began, ended)


class TooDeepError(Exception):
    """A text is written in more writings within each other than are undone."""


def views(data: bytes, nesting: int = NESTING_MAX, below: View | None = None) -> Iterator[View]:
    """Give ``data`` in each plainer writing that it has; none for most texts.

    ``below`` is the view that ``data`` is of, if it is of one.

    Raises:
        TooDeepError: There are more than ``ROUNDS_MAX`` writings within each other.
    """
    written = data
    levels = _unescaped(data, below)
    if levels:
        # The levels in between too: in JSON that is percent-encoded an escaped quote is
        # a part of the value, and undone it would look like the value's end.
        yield from levels
        below = levels[-1]
        data = below.data
        if _FORM.search(written) and b"+" in data:
            yield from _some(rewrite(data, _PLUS, _space, below))
    if _SOFT.search(data):
        yield from _some(rewrite(data, _QUOTED_PRINTABLE, _unquote, below))
    if b"\n" in data:
        yield from _joined(data, below)
    decoded = rewrite(data, _BASE64_RUN, _decode_base64, below) if nesting else None
    if decoded is not None:
        yield decoded
        yield from views(decoded.data, nesting - 1, decoded)


def _some(view: View | None) -> tuple[View, ...]:
    return () if view is None else (view,)


def _joined(data: bytes, below: View | None) -> Iterator[View]:
    """Join the lines that a secret may be broken over; then no words around it with them.

    A secret that begins or ends with its line is found only if no word touches it.
    """
    joined = rewrite(data, _LINE_BREAK, _nothing, below, joined=True)
    if joined is None:
        return
    yield joined
    alone = rewrite(data, _TOKEN_BREAK, _no_break, below, joined=True)
    if alone is not None and alone.data != joined.data:
        yield alone


def _unescaped(data: bytes, below: View | None) -> list[View]:
    """Undo escapes and fold characters until nothing changes: a view for each time."""
    levels: list[View] = []
    for _ in range(ROUNDS_MAX):
        view = rewrite(data, _UNESCAPE, _plain_writing, levels[-1] if levels else below)
        if view is None:
            return levels
        levels.append(view)
        data = view.data
    raise TooDeepError


def rewrite(
    data: bytes,
    pattern: re.Pattern[bytes],
    decode: Callable[[bytes], bytes | None],
    below: View | None = None,
    *,
    joined: bool = False,
) -> View | None:
    """``data``, which is ``below``'s, with each match of ``pattern`` decoded; None if none is.

    A match whose decoding is None, longer than itself or holds a NUL stays.
    """
    parts: list[tuple[bytes, int, int, bool]] = []
    at = 0
    for match in pattern.finditer(data):
        start, end = match.span()
        written = match[0]
        plain = decode(written)
        if plain is None or plain == written or len(plain) > len(written) or b"\0" in plain:
            continue
        parts += [(data[at:start], at, start, True), (plain, start, end, False)]
        at = end
    if not parts:
        return None
    parts.append((data[at:], at, len(data), True))
    return View([part for part in parts if part[0]], below, joined=joined)


@lru_cache(4096)
def _plain_writing(written: bytes) -> bytes | None:
    """What one escape or one character beyond ASCII stands for."""
    first = written[:1]
    if first == b"%":
        return (
            _code_point(written[2:]) if written[1:2] == b"u" else bytes.fromhex(_ascii(written[1:]))
        )
    if first == b"\\":
        return _backslash(written.lstrip(b"\\"))
    if first < b" " or first == b"\x7f":
        return b""
    if first == b"&":
        from html import unescape

        return unescape(_ascii(written)).encode("utf-8", "surrogatepass")
    return _folded(written)


def _ascii(data: bytes) -> str:
    return data.decode("ascii")


def _code_point(digits: bytes) -> bytes | None:
    number = int(digits, 16)
    return chr(number).encode("utf-8", "surrogatepass") if number < 0x110000 else None


_CONTROLS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def _backslash(rest: bytes) -> bytes | None:
    if len(rest) == 1:
        return _CONTROLS.get(rest, rest)
    return _code_point(rest[1:].strip(b"{}"))


def _folded(char: bytes) -> bytes | None:
    """The ASCII that a character is another form of, looks like or hides behind."""
    from unicodedata import category, normalize

    try:
        text = char.decode("utf-8")
    except UnicodeDecodeError:
        return None
    text = normalize("NFKD", text).translate(LETTERS_AND_SIGNS)
    shown = "".join(
        one for one in text if category(one) not in {"Mn", "Me", "Cf"} and one not in _BLANKS
    )
    return shown.encode() if shown.isascii() else None


_BLANKS: Final = "\u115f\u1160\u2800"  # Letters and a sign by name, with no ink.


def _unquote(written: bytes) -> bytes:
    return b"" if written[-1:] == b"\n" else bytes.fromhex(_ascii(written[1:]))


def _space(_written: bytes) -> bytes:
    return b" "


def _nothing(_written: bytes) -> bytes:
    return b""


def _no_break(written: bytes) -> bytes | None:
    return None if written[:1].isalnum() or written[:1] == b"_" else b""


def _decode_base64(written: bytes) -> bytes | None:
    """The printable text that ``written`` is the base64 of, or None."""
    if _BASE64_TEXT.match(written) is None:
        return None
    plain = written.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    try:
        text = a2b_base64(plain + b"=" * (-len(plain) % 4))
    except Base64Error:
        # One letter more than whole groups have: it belongs to what follows.
        return None
    odd = text.translate(None, _PRINTABLE)
    return text if not odd or _is_words(text, odd) else None


def _is_words(text: bytes, odd: bytes) -> bool:
    """Whether ``text`` is UTF-8, mostly ASCII; ``odd`` is what in it is not printable ASCII."""
    if min(odd) < 0x80 or 2 * len(odd) > len(text):
        return False
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
