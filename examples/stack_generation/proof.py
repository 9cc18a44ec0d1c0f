"""Look for the brief in the very bytes that were written.

A brief may use words that the program writes anyway: names of parts, such as
``cache``, or words of the format, such as ``value``. Finding those would prove
nothing, so they are told apart by a control: the same generations with an empty brief,
captured in memory. A word that occurs in the control, or in a name from the catalogue,
is *ordinary*; every other word of the brief is *distinctive* and must not occur
anywhere, not even inside of a longer word.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from brief import words_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_RANDOM = re.compile(r"\b[0-9a-f]{16,}\b")
"""Ids and hashes. They are random, so one may well contain ``cafe`` by chance."""
_HAS_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Proof:
    """What was searched for, and the files in which something was found."""

    distinctive: int
    ordinary: int
    text_chars: int
    found_in: list[Path]


def prove(brief: str, files: Iterable[Path], control: str, names: Iterable[str]) -> Proof:
    """Search ``files`` for the brief as a whole and for each distinctive word of it."""
    ordinary_text = _searchable(f"{control}\n{' '.join(names)}")
    words = set(words_of(brief))
    # Numbers are in every time stamp; only words can be told apart.
    distinctive = {w for w in words if _HAS_LETTER.search(w) and w not in ordinary_text}
    whole = [" ".join(brief.casefold().split())] if distinctive else []
    found_in, text_chars = [], 0
    for file in files:
        text = _searchable(read_text(file))
        text_chars += len(text)
        if any(wanted in text for wanted in (*distinctive, *whole)):
            found_in.append(file)
    return Proof(len(distinctive), len(words) - len(distinctive), text_chars, found_in)


def read_text(file: Path) -> str:
    r"""Give the text of a file, unpacked: as it is, and as JSON means it.

    Both, since an escape such as ``\u00e9`` would hide a letter.
    """
    data = file.read_bytes()
    if file.suffix == ".zst":
        data = zstd.decompress(data)
    text = data.decode("utf-8", errors="replace")
    return "\n".join([text, *(s for line in text.splitlines() for s in _strings(_json(line)))])


def _json(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None  # A part of a document of several lines; its text is searched above.


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)


def _searchable(text: str) -> str:
    return " ".join(_RANDOM.sub("", text.casefold()).split())
