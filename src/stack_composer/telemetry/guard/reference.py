"""The guard's text rules again, as plainly as they can be said.

No gate, no joining, no set, no anchors: every rule is tried on every text with the
standard library's ``re``, and on the text in plainer writing, until nothing more is
found. A property test holds the
engine to these answers. Nothing but tests uses it.
"""

from __future__ import annotations

import re

from .budget import EARNED_BYTES, FREE_BYTES, HIT_BYTES, READS, weight
from .hidden import HIDDEN
from .matcher import REPEATED_BYTES_MIN, REPEATED_SPANS_MAX
from .rules import TextRule, text_rules
from .texts import WIDE_BYTES_MIN
from .validators import find_validator
from .views import views

_RUN = re.compile(rb"[A-Za-z0-9+/=_-]+")
_MARKER = re.compile(rb"\[redacted:[a-z0-9-]{1,40}(?::[0-9a-f]{32}(?:[0-9a-f]{32})?)?\]")


def redact_reference(text: str, profile: str = "default") -> str:
    """``text`` with a marker in place of everything that a rule of ``profile`` finds."""
    rules = text_rules(profile)
    data = text.encode("utf-8", "surrogatepass")
    owner = find_reference(data, rules)
    answer = _marked(data, owner)
    if b"\0" in data:
        seen = [rule for byte, rule in zip(data, owner, strict=True) if byte]
        wide = find_reference(data.replace(b"\0", b""), rules)
        more = [hit for hit, known in zip(wide, seen, strict=True) if hit and not known]
        for hit in more:
            if more.count(hit) >= WIDE_BYTES_MIN:
                return _marked(data, [hit] * len(data)).decode()
        wide = [rule for rule in find_reference(answer.replace(b"\0", b""), rules) if rule]
        if wide:
            answer = _marked(data, [wide[0]] * len(data))
    return answer.decode("utf-8", "surrogatepass")


def _marked(data: bytes, owner: list[tuple[int, str] | None]) -> bytes:
    """``data`` with a marker in place of each run of bytes with one owner."""
    pieces = []
    at = 0
    while at < len(data):
        start, rule = at, owner[at]
        while at < len(data) and owner[at] == rule:
            at += 1
        pieces.append(data[start:at] if rule is None else f"[redacted:{rule[1]}]".encode())
    return b"".join(pieces)


def find_reference(data: bytes, rules: list[TextRule]) -> list[tuple[int, str] | None]:
    """For each byte of ``data``: the number of its hit and the rule's name, or None."""
    hidden = bytearray(_MARKER.sub(lambda marker: b"\0" * len(marker[0]), data))
    found: list[tuple[int, int, int]] = []
    while fresh := _all_hits(bytes(hidden), rules) + _hidden_hits(bytes(hidden), rules):
        fresh = _united([_widened(data, hit) for hit in fresh])
        fresh = _united(fresh + _repeats(bytes(hidden), fresh))
        found = _united(found + fresh)
        for start, end, _ in fresh:
            hidden[start:end] = bytes(end - start)
    owner: list[tuple[int, str] | None] = [None] * len(data)
    for number, (start, end, rule) in enumerate(found):
        owner[start:end] = [(number, rules[rule].name)] * (end - start)
    return owner


def _all_hits(
    data: bytes, rules: list[TextRule], *, joined: bool = False
) -> list[tuple[int, int, int]]:
    hits = []
    for number, rule in enumerate(rules):
        check = find_validator(rule.validator)
        pattern = re.compile(rule.pattern)
        at = spent = 0
        while match := pattern.search(data, at):
            start, end = _secret(match)
            before = data[: match.start()].replace(b"\0", b"")
            if spent > FREE_BYTES + EARNED_BYTES * len(before):
                hits.append((start, len(data), number))
                break
            spent += weight(rule.validator) * (HIT_BYTES + READS * len(match[0]))
            if end > start and (answer := check(data, start, end)):
                end = max(end, answer)
                if end - start >= 64 and not joined and (rest := _RUN.match(data, end - 1)):
                    end = rest.end()
                hits.append((start, end, number))
                at = end
            else:
                at = match.start() + 1
    return hits


def _hidden_hits(data: bytes, rules: list[TextRule]) -> list[tuple[int, int, int]]:
    """The same in each plainer writing of ``data``, as places of ``data`` itself."""
    if not re.search(HIDDEN, data):
        return []
    return [
        (*view.origin(start, end), number)
        for view in views(data)
        for start, end, number in _all_hits(view.data, rules, joined=view.joined)
        if rules[number].tier == "structure" or not view.joined
    ]


def _secret(match: re.Match[bytes]) -> tuple[int, int]:
    taken = [
        match.span(group) for group in range(1, match.re.groups + 1) if match[group] is not None
    ]
    return taken[0] if taken else match.span()


def _repeats(data: bytes, hits: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The other places of what was found, if it is long and no plain word."""
    return [
        (*match.span(), rule)
        for start, end, rule in hits
        if len(hits) <= REPEATED_SPANS_MAX
        and end - start >= REPEATED_BYTES_MIN
        and not data[start:end].isalpha()
        for match in re.finditer(re.escape(data[start:end]), data)
    ]


def _widened(data: bytes, hit: tuple[int, int, int]) -> tuple[int, int, int]:
    """``hit`` with the whole of each UTF-8 character that it touches."""
    start, end, rule = hit
    while start > 0 and 0x80 <= data[start] < 0xC0:
        start -= 1
    while end < len(data) and 0x80 <= data[end] < 0xC0:
        end += 1
    return start, end, rule


def _united(hits: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Hits that overlap become one, with the name of the first rule among them."""
    united: list[tuple[int, int, int]] = []
    for start, end, rule in sorted(hits):
        if united and start < united[-1][1]:
            first, last, name = united.pop()
            united.append((first, max(end, last), min(rule, name)))
        else:
            united.append((start, end, rule))
    return united
