"""Throw made-up texts at the guard and see whether its promises hold.

Usage: ``python tools/fuzz.py [--seconds S] [--seed N] [--only CHECK]``

atheris steers the bytes that the texts are made from towards code not reached yet; where
it is not installed (it has wheels for Linux only) they are drawn by chance. Either way
the same bytes make the same text, so a failure is repeated with ``--input FILE``.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import html
import os
import quopri
import random
import re
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

try:
    import atheris
except ImportError:
    atheris = None

with atheris.instrument_imports() if atheris else contextlib.nullcontext():
    from stack_composer.telemetry.guard import markers, matcher, rules, views
    from stack_composer.telemetry.guard.engine import Guard
    from stack_composer.telemetry.guard.examples import expand
    from stack_composer.telemetry.guard.policy import PROFILES, Policy
    from stack_composer.telemetry.guard.reference import redact_reference
    from stack_composer.telemetry.model import DROPPED

INPUT_BYTES_MAX = 512
PIECE_CHARS = 8  # So much of a secret may not survive.
MARKER_CHARS_MAX = len(markers.tombstone("x" * markers.MARKER_NAME_CHARS_MAX))
KEYS = ("note", "url.full", "db.query.text", "container.id", "exception.message", "x-api-key")


class Draw:
    """Makes choices of bytes; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, bound: int) -> int:
        """A number from 0 to ``bound`` - 1."""
        taken = self.bytes(1 if bound <= 256 else 2)
        return int.from_bytes(taken.ljust(1, b"\0"), "big") % bound

    def pick(self, choices: Any) -> Any:
        """One of ``choices``."""
        return choices[self.number(len(choices))]

    def bytes(self, count: int) -> bytes:
        """At most ``count`` bytes as they are."""
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken


# -- what texts are made of ------------------------------------------------------


@cache
def examples() -> list[str]:
    """The rules' hits and misses."""
    folder = Path(rules.__file__).parent
    parsed = rules.parse_rules((folder / "rules.toml").read_text(encoding="utf-8"))
    return [
        example
        for rule in parsed
        if rule["tier"] != "key"
        for example in rule["hit"] + rule["miss"]
    ]


PARTS = (
    "password=", "token: ", "key", "Bearer ", " ", "://", "@", "\0", "[redacted:email]",
    "[redacted:", "]", "eyJ", "-----BEGIN ", "secret", "=", '"', "é", "\U0001f600", "\ud800",
    "%25", "%", "\\", "\\u00", "&amp;", "&#", ";", "=3D", "\n", "\r\n", "\u200b", "\uff41",
    "\u0430",
)  # fmt: skip


def any_text(draw: Draw) -> str:
    """Parts of secrets, of writings and of nothing, put together."""
    return "".join(any_part(draw) for _ in range(draw.number(8)))


def any_part(draw: Draw) -> str:
    """One of them."""
    match draw.number(5):
        case 0:
            return str(draw.pick(PARTS))
        case 1:
            return draw.bytes(draw.number(16)).decode("latin-1")
        case 2:
            return draw.bytes(draw.number(16)).decode("utf-8", "surrogateescape")
        case 3:
            text = expand(draw.pick(examples()), 1 + draw.number(256))
            start = draw.number(len(text) + 1) if draw.number(2) else 0
            return text[start : start + draw.number(len(text) + 1)]
        case _:
            text = expand(draw.pick(examples()), 1 + draw.number(256))
            return written(draw.pick(list(WRITINGS)), text)


def any_value(draw: Draw, depth: int = 0) -> Any:
    """A value of any type that an attribute may have."""
    match draw.number(8 if depth < 4 else 5):
        case 0 | 1:
            return any_text(draw)
        case 2:
            return draw.bytes(40)
        case 3:
            return any_text(draw).encode("utf-8", "surrogatepass")
        case 4:
            return draw.pick((None, True, 0, -1, 2**70, 4111111111111111, 0.5, float("nan")))
        case 5 | 6:
            return [any_value(draw, depth + 1) for _ in range(draw.number(4))]
        case _:
            return {any_text(draw): any_value(draw, depth + 1) for _ in range(draw.number(4))}


def each(form: str) -> Callable[[str], str]:
    """A writing of ASCII that writes each character by itself."""
    return lambda text: "".join(form.format(ord(char)) for char in text)


WRITINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "percent": each("%{:02X}"),
    "percent twice": each("%25{:02x}"),
    "json": each("\\u{:04x}"),
    "hexadecimal": each("\\x{:02x}"),
    "html": each("&#{};"),
    "html hexadecimal": each("&#x{:X};"),
    "quoted-printable": each("={:02X}"),
    "full width": lambda text: "".join(
        chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text
    ),
    "zero width": "\u200b".join,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 twice": lambda text: WRITINGS["base64"](WRITINGS["base64"](text)),
}


def written(writing: str, text: str) -> str:
    """``text`` in ``writing``, which is for ASCII."""
    return WRITINGS[writing](text) if text.isascii() else text


# -- what must hold --------------------------------------------------------------


@cache
def guard(profile: str) -> Guard:
    """One guard a profile for all inputs, as in a program."""
    return Guard(Policy(profile=profile, salt=bytes(32)))


def check_any_value(draw: Draw) -> None:
    """The guard never raises, and what it has guarded it does not change again."""
    own = guard(draw.pick(PROFILES))
    key = draw.pick(KEYS)
    value = any_value(draw)
    once = own.value(key, value)
    # Not where a query lost literals, or a key a part: either may read otherwise then.
    if key != "db.query.text" and not marked_keys(once):
        assert same(own.value(key, once), once), (key, value, once)


def marked_keys(value: Any) -> bool:
    """Whether a key in ``value`` holds a marker, or the name in a pair of a list."""
    if isinstance(value, dict):
        return any("[redacted:" in key or marked_keys(value[key]) for key in value)
    if not isinstance(value, list):
        return False
    pairs = [item for item in value if isinstance(item, list) and len(item) == 2]
    return any("[redacted:" in str(name) for name, _ in pairs) or any(map(marked_keys, value))


def same(one: Any, other: Any) -> bool:
    """Equality in which DROPPED and a number that is none equal themselves."""
    return repr(one) == repr(other)


def check_any_text(draw: Draw) -> None:
    """The fast path gives the reference's answer, and its size has a bound."""
    profile = draw.pick(PROFILES)
    own = guard(profile)
    texts = [any_text(draw)[:200] for _ in range(1 + draw.number(3))]
    answers = own.texts([(own.key("note"), text) for text in texts])
    for text, answer in zip(texts, answers, strict=True):
        try:
            expected: Any = redact_reference(text, profile)
        except views.TooDeepError:
            expected = DROPPED
        assert answer == expected, (answer, expected)
        bound = len(text) + MARKER_CHARS_MAX * (len(text) // matcher.MATCH_BYTES_MIN + 1)
        assert answer is DROPPED or len(answer) <= bound


PRINTABLE = set(map(chr, [9, 10, 13, *range(32, 127)]))
MARKER = re.compile(r"\[redacted:[0-9a-z:-]+\]")
BASE64_BYTES_MIN = 15  # Shorter ones are not told from words.
SEPARATORS = (" ", "\n", '"', "'", ", ", " | ", "\t", "«", "\0")


def check_planted(draw: Draw) -> None:
    """What is found of a text in plain writing is found in any other writing of it.

    What stands beside it counts as it reads: digits behind a number make another number of
    it, and if they are written otherwise, that shows only where the text is so, too.
    """
    own = guard(draw.pick(PROFILES))
    text = expand(draw.pick(examples()), 1 + draw.number(256))
    writing = draw.pick(list(WRITINGS))
    if not writable(writing, text):
        return
    between = draw.pick(SEPARATORS)
    if (writing, between) == ("quoted-printable", "\n"):
        return  # Behind an equals sign that is a soft line break, and joins what it separates.
    before, after = any_text(draw) + between, between + any_text(draw)
    secrets = set(found_in(own, before, text, after))
    secrets &= set(found_in(own, as_it_reads(before), text, as_it_reads(after)))
    answer = own.value("note", before + WRITINGS[writing](text) + after)
    # A marker may say the very word that stood there: password.
    said = "" if answer is DROPPED else MARKER.sub("", read(writing, answer))
    for secret in secrets:
        # Beside it may stand its copy, in a writing that does not tell that it is one.
        beside = read(writing, before) + text.replace(secret, "") + read(writing, after)
        for at in range(len(secret) - PIECE_CHARS + 1):
            piece = secret[at : at + PIECE_CHARS]
            assert piece not in said or piece in beside, (writing, text, before, after, answer)


def as_it_reads(text: str) -> str:
    """``text`` with its escapes undone and its characters folded."""
    data = markers.encode(text)
    try:
        view = next(views.views(data), None)
    except views.TooDeepError:
        return text
    return text if view is None else view.data.decode("utf-8", "replace")


def writable(writing: str, text: str) -> bool:
    """Whether ``text`` is something that ``writing`` is for and is read of."""
    if "base64" in writing:
        return set(text) <= PRINTABLE and len(text) >= BASE64_BYTES_MIN
    return text.isascii()


def found_in(own: Guard, before: str, text: str, after: str) -> list[str]:
    """What is found in ``text`` by itself and between others too."""
    alone = {(found.start, found.end) for found in own.findings(text)}
    whole = {
        (found.start - len(before), found.end - len(before))
        for found in own.findings(before + text + after)
    }
    return [text[start:end] for start, end in alone & whole]


def read(writing: str, answer: str) -> str:
    """``answer`` as who knows its ``writing`` reads it."""
    return READ.get(writing, str)(answer)


def of_base64(answer: str) -> str:
    """What each run of base64 in ``answer`` says, a line each."""
    said = []
    for run in re.findall("[A-Za-z0-9+/]+", answer.replace("-", "+").replace("_", "/")):
        with contextlib.suppress(ValueError):
            said.append(base64.b64decode(run + "=" * (-len(run) % 4)).decode("latin-1"))
    return "\n".join(said)


def of_percent(answer: str) -> str:
    """``answer`` without percent encoding, a character for each byte."""
    return unquote(answer, "latin-1")


def of_escapes(answer: str) -> str:
    """``answer`` without the escapes of JSON and Python."""
    return re.sub(r"\\(?:u00|x)([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), answer)


READ: dict[str, Callable[[str], str]] = {
    "percent": of_percent,
    "percent twice": lambda answer: of_percent(of_percent(answer)),
    "json": of_escapes,
    "hexadecimal": of_escapes,
    "html": html.unescape,
    "html hexadecimal": html.unescape,
    "quoted-printable": lambda answer: quopri.decodestring(
        answer.encode("utf-8", "replace")
    ).decode("latin-1"),
    "full width": lambda answer: unicodedata.normalize("NFKC", answer),
    "zero width": lambda answer: answer.replace("\u200b", ""),
    "base64": of_base64,
    "base64 for urls": of_base64,
    "base64 twice": lambda answer: of_base64(of_base64(answer)),
}


def check_views(draw: Draw) -> None:
    """A view is never longer than its text, and each part of it leads back into it."""
    data = any_text(draw).encode("utf-8", "surrogatepass") + draw.bytes(64)
    try:
        found = list(views.views(data))
    except views.TooDeepError:
        return
    for view in found:
        assert len(view.data) <= len(data)
        if b"\0" in view.data:
            assert b"\0" in data
        if not view.data:
            continue
        whole = view.origin(0, len(view.data))
        start = draw.number(len(view.data))
        end = start + 1 + draw.number(len(view.data) - start)
        began, ended = view.origin(start, end)
        assert 0 <= whole[0] <= began < ended <= whole[1] <= len(data)
        assert ended - began >= end - start


CHECKS = {
    "value": check_any_value,
    "text": check_any_text,
    "planted": check_planted,
    "views": check_views,
}


# -- how they are run --------------------------------------------------------------


def try_input(data: bytes, only: str = "") -> None:
    """Make a text of ``data`` and check it."""
    draw = Draw(data)
    name = draw.pick(list(CHECKS))
    CHECKS[only or name](draw)


def by_chance(options: argparse.Namespace) -> int:
    """Try inputs until the time is over; print the first that fails and return 1."""
    chance = random.Random(options.seed)
    end = time.monotonic() + options.seconds
    tried = 0
    while time.monotonic() < end:
        data = chance.randbytes(chance.randrange(8, INPUT_BYTES_MAX))
        tried += 1
        try:
            try_input(data, options.only)
        except Exception:
            print(f"input {tried} of seed {options.seed} fails: {keep(data)}")
            raise
    print(f"{tried} inputs by chance, seed {options.seed}: all promises held")
    return 0


def keep(data: bytes) -> str:
    """Write an input that failed to a file; its path."""
    descriptor, path = tempfile.mkstemp(prefix="guard-fuzz-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return path


def steered(options: argparse.Namespace) -> None:
    """Let atheris choose the inputs; it ends the process itself."""
    folder = tempfile.mkdtemp(prefix="guard-fuzz-")
    arguments = [
        sys.argv[0],
        f"-max_total_time={options.seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        "-len_control=0",
        f"-seed={options.seed + 1}",  # 0 would be the time of day
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, lambda data: try_input(data, options.only))
    atheris.Fuzz()


def main() -> int:
    """Run for a while; exit code 1 or a traceback if a promise does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=int, default=60, help="how long (60)")
    parser.add_argument("--seed", type=int, default=0, help="where to begin (0)")
    parser.add_argument("--only", choices=CHECKS, default="", help="one check only")
    parser.add_argument("--input", type=Path, help="try the input in this file again")
    options = parser.parse_args()
    if options.input:
        try_input(options.input.read_bytes(), options.only)
        return 0
    if atheris is None:
        print("atheris is not installed: inputs are drawn by chance")
        return by_chance(options)
    steered(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
