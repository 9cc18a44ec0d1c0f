"""What a secret looks like in other writings, and that it is masked in each."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry.guard import budget
from stack_composer.telemetry.guard import views as module
from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.hidden import HIDDEN
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.reference import redact_reference
from stack_composer.telemetry.guard.views import TooDeepError, rewrite, views
from stack_composer.telemetry.model import DROPPED

AWS_KEY = "AK" + "IA" + "Q3EGRLWZ5MN7TUXB"
GIT_TOKEN = "gl" + "rt-" + "0nGph9bib8Nmq5u2flhh"
MAIL = "alice@example.org"
HEADER = "Authorization: Bearer " + "q7Zk2mX9vB4nR8tY3wL6" + "pD1sF5gH"


@pytest.fixture(params=["re2", "re"])
def guard(request: pytest.FixtureRequest) -> Guard:
    from stack_composer.telemetry.guard.engines import Re2Matcher, ReMatcher
    from stack_composer.telemetry.guard.rules import text_rules

    if request.param == "re2":
        pytest.importorskip("re2")
    engine = Re2Matcher if request.param == "re2" else ReMatcher
    return Guard(Policy(salt=bytes(32)), make_matcher=lambda profile: engine(text_rules(profile)))


def every_char(form: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "".join(map(form, text))


def wide(char: str) -> str:
    return chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char


WRITINGS: dict[str, Callable[[str], str]] = {
    "percent": every_char(lambda char: f"%{ord(char):02X}"),
    "percent of what must be": lambda text: quote(text, safe="").replace(".", "%2E"),
    "percent twice": lambda text: quote(quote(text, safe="").replace(".", "%2E"), safe=""),
    "percent u": every_char(lambda char: f"%u{ord(char):04x}"),
    "json": every_char(lambda char: f"\\u{ord(char):04x}"),
    "json in json": lambda text: json.dumps(json.dumps({"k": WRITINGS["json"](text)})),
    "hexadecimal": every_char(lambda char: f"\\x{ord(char):02x}"),
    "html decimal": every_char(lambda char: f"&#{ord(char)};"),
    "html hexadecimal": every_char(lambda char: f"&#x{ord(char):X};"),
    "html names": lambda text: html.escape(text).replace("@", "&commat;").replace(":", "&colon;"),
    "quoted-printable": every_char(lambda char: f"={ord(char):02X}"),
    "base64": lambda text: base64.b64encode(f"to {text} and others".encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(f"my {text}?".encode()).decode(),
    "base64 twice": lambda text: WRITINGS["base64"](WRITINGS["base64"](text)),
    "percent of base64": lambda text: quote(WRITINGS["base64"](text), safe=""),
    "full width": every_char(wide),
    "zero width": "\u200b".join,
    "soft hyphens": "\u00ad".join,
    "combining": every_char(lambda char: char + "\u0332" if char.isalpha() else char),
    "mathematical": every_char(
        lambda char: chr(0x1D5A0 + ord(char) - 65) if "A" <= char <= "Z" else char
    ),
    "html without an end": every_char(lambda char: f"&#{ord(char)}"),
    "html with zeros": every_char(lambda char: f"&#{ord(char):09};"),
    "html hexadecimal with zeros": every_char(lambda char: f"&#x{ord(char):08x};"),
    "variants": "\ufe0f".join,
    "characters without ink": "\u2800".join,
    "letters without ink": "\u3164".join,
    "rings around": every_char(lambda char: char + "\u20dd" if char.isalpha() else char),
    "colours": every_char(lambda char: f"\x1b[1;31m{char}\x1b[0m"),
    "colours in json": every_char(lambda char: f"\\u001b[32m{char}"),
    "links": lambda text: f"{text[:9]}\x1b]8;;https://h.example/\x1b\\{text[9:]}\x1b]8;;\x07",
    "backspaces": "\b".join,
    "forms": lambda text: quote(text, safe=" ").replace(" ", "+"),
    "forms of json": lambda text: quote(json.dumps({"k": text}), safe=" ").replace(" ", "+"),
    "base64 with accents": lambda text: base64.b64encode(
        f"this is a text for you: {text} Größe".encode()
    ).decode(),
    "right to left": lambda text: f"\u202d{text[:5]}\u202c{text[5:]}",
}


@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("secret", [AWS_KEY, MAIL, HEADER], ids=["key", "mail", "header"])
def test_no_writing_hides_a_secret(guard: Guard, writing: str, secret: str) -> None:
    if writing == "mathematical" and secret == MAIL:
        pytest.skip("there are none of its small letters in that alphabet")
    hidden = WRITINGS[writing](secret)
    text = f"before «{hidden}» after"
    answer = guard.texts([(guard.key("note"), text)])[0]
    assert "[redacted:" in answer
    assert answer.startswith("before «")
    # A header whose name is written oddly is known by its word alone, which takes all.
    assert answer.endswith(" after" if writing in ("forms", "links") else "» after")
    if writing != "links":
        value = secret.removeprefix("Authorization: Bearer ")
        assert not shared(answer, WRITINGS[writing](value))
    assert not shared(answer, secret.removeprefix("Authorization: Bearer "), 5)
    assert guard.texts([(guard.key("note"), answer)])[0] == answer
    assert answer == redact_reference(text)


def shared(one: str, other: str, chars: int = 24) -> bool:
    return any(other[at : at + chars] in one for at in range(len(other) - chars + 1))


@pytest.mark.parametrize(
    "text",
    [
        f"{AWS_KEY[:9]}\n{AWS_KEY[9:]}",
        f"{AWS_KEY[:9]}\r\n    {AWS_KEY[9:]}",
        f'key = "{AWS_KEY[:9]}" +\n      "{AWS_KEY[9:]}"',
        f"{AWS_KEY[:9]}\\\n{AWS_KEY[9:]}",
        f"> {AWS_KEY[:9]}\n> {AWS_KEY[9:]}",
        f"{AWS_KEY[:9]}=\n{AWS_KEY[9:]}",
        f"{AWS_KEY[:9]}\\n{AWS_KEY[9:]}",
    ],
    ids=["lf", "crlf", "plus", "backslash", "quoted mail", "soft break", "escaped"],
)
def test_a_secret_broken_over_lines_is_masked_whole(guard: Guard, text: str) -> None:
    answer = guard.texts([(guard.key("note"), text)])[0]
    assert "[redacted:aws-key]" in answer
    assert AWS_KEY[:9] not in answer
    assert AWS_KEY[9:] not in answer


@pytest.mark.parametrize("before", ["the key of the new user\n", "ok.\r\n", "PORT=5432\n", "404\n"])
@pytest.mark.parametrize("after", ["", "\nthanks\n", "\nBackup\nends"])
def test_words_around_a_broken_secret_hide_it_not(guard: Guard, before: str, after: str) -> None:
    """Lines that are joined to it would leave it no border of a word."""
    text = f"{before}{AWS_KEY[:9]}\n{AWS_KEY[9:]}{after}"
    answer = guard.texts([(guard.key("note"), text)])[0]
    assert answer == f"{before}[redacted:aws-key]{after}"
    assert answer == redact_reference(text)


def test_a_soft_break_before_the_padding_of_a_secret_is_one(guard: Guard) -> None:
    text = f"it is hf_{'uR7k' * 5}=\n{'mZ4q' * 4}=3D"
    answer = guard.texts([(guard.key("note"), text)])[0]
    assert answer == "it is [redacted:huggingface-token]=3D"


@pytest.mark.parametrize("sign", ['"', "\\", "/", "\n"])
@pytest.mark.parametrize("writing", ["percent", "percent twice", "html decimal", "hexadecimal"])
def test_an_escape_inside_a_written_value_is_no_end_of_it(
    guard: Guard, writing: str, sign: str
) -> None:
    """What is undone first is read before what it holds is undone as well."""
    password = f"a{sign}9xQ!" + "mmzK"
    text = WRITINGS[writing](json.dumps({"password": password}))
    answer = guard.texts([(guard.key("note"), text)])[0]
    assert "[redacted:" in answer
    assert WRITINGS[writing]("mmzK") not in answer
    assert guard.texts([(guard.key("note"), answer)])[0] == answer


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f'{{"ini": "GIT_TOKEN={GIT_TOKEN}\\nBACKUP_ENABLED=true"}}', ']\\nBACKUP_ENABLED=true"}'),
        (f"GIT_TOKEN={GIT_TOKEN}\nBACKUP_ENABLED=true", "]\nBACKUP_ENABLED=true"),
        (f"SharedKey = {'uR7k' * 10}u7w=\nAllowedIPs = 0.0.0.0/0", "]\nAllowedIPs = 0.0.0.0/0"),
        (f"token: {'uR7k' * 10}u7w=\nmode: fast", "]\nmode: fast"),
    ],
    ids=["escaped", "plain", "padding before a setting", "padding before a field"],
)
def test_the_next_setting_is_no_part_of_a_secret(guard: Guard, text: str, kept: str) -> None:
    """A key that fills its line to the end is not broken when the next line sets a name."""
    answer = guard.texts([(guard.key("note"), text)])[0]
    assert "[redacted:" in answer
    assert answer.endswith(kept)


def test_lines_are_not_joined_to_make_a_sentence(guard: Guard) -> None:
    """Only what is known by its own form may be put together from two lines."""
    text = "rotate the password\n: then restart\nmail alice@example\n.org"
    assert guard.texts([(guard.key("note"), text)])[0] == text


def test_only_the_part_that_holds_the_secret_is_masked(guard: Guard) -> None:
    text = "GET /find?who=alice%40example.org&page=%32 by größe"
    answer = guard.texts([(guard.key("note"), text)])[0]
    assert answer == "GET /find?who=[redacted:email]&page=%32 by größe"


@pytest.mark.parametrize("char", ["%00", "\\u0000", "=00", "\ufdfa", "\\U00110000"])
def test_what_would_be_no_text_or_a_longer_one_stays(char: str) -> None:
    data = f"a{char}b=3D".encode()
    assert all(char.encode() in view.data or view.data == b"ab=" for view in views(data))
    assert all(b"\0" not in view.data for view in views(data))
    assert all(len(view.data) <= len(data) for view in views(data))


def test_colours_between_a_name_and_its_value_hide_nothing(guard: Guard) -> None:
    coloured = (
        "\x1b[36mpassword\x1b[0m=\x1b[35mhx7vqz2mQ\x1b[0m \x1b[36muser\x1b[0m=\x1b[35mada\x1b[0m"
    )
    answer = guard.texts([(guard.key("note"), coloured)])[0]
    assert "hx7v" not in answer
    assert answer.endswith("user\x1b[0m=\x1b[35mada\x1b[0m")


def test_a_nul_does_not_hide_the_rest_of_a_secret(guard: Guard) -> None:
    answer = guard.texts([(guard.key("note"), HEADER[:-12] + "\0" + HEADER[-12:])])[0]
    assert answer == "[redacted:bearer]"
    assert guard.texts([(guard.key("note"), "plain\0words")]) == ["plain\0words"]


def test_a_text_with_nuls_has_one_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is searched three times, and may not take three times as long."""
    made = []

    class Counted(budget.Patience):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(budget, "Patience", Counted)
    guard = Guard(Policy(salt=bytes(32)))
    assert guard.value("note", f"a\0b {MAIL} c") == "a\0b [redacted:email] c"
    assert len(made) == 1


@pytest.mark.parametrize(
    "part", ["\\", "\x1b[", "\x1b]", "\x1b[0", "&#1", "&#", "+%2", "%3A+", "\b", "a\\"]
)
def test_views_of_a_long_text_take_time_linear_in_it(part: str) -> None:
    text = (part * (1 << 16))[: 1 << 16].encode()
    begun = time.process_time()
    with contextlib.suppress(TooDeepError):
        list(views(text))
    assert time.process_time() - begun < 2  # a quadratic way takes over a minute


@pytest.mark.parametrize("part", ["+", "a+", "a ", "\\", "=", "%", "&a", '"', "a\n ", "> "])
def test_signs_of_writings_are_searched_in_time_linear_in_the_text(part: str) -> None:
    text = (part * (1 << 16))[: 1 << 16].encode()
    begun = time.process_time()
    re.search(HIDDEN, text)
    assert time.process_time() - begun < 2  # a quadratic way takes some ten seconds


def test_writings_within_each_other_without_end_are_dropped(guard: Guard) -> None:
    text = MAIL
    for _ in range(module.ROUNDS_MAX + 1):
        text = quote(text, safe="")
    with pytest.raises(TooDeepError):
        list(views(text.encode()))
    assert guard.value("note", text) is not text
    assert MAIL.split("@", maxsplit=1)[0] not in str(guard.value("note", text))


@given(st.binary(max_size=200), st.data())
def test_origins_lead_back(data: bytes, draw: st.DataObject) -> None:
    """What was decoded counts whole, and what was not stays byte by byte."""
    data = b"%41" + data + b"&amp;=3D\\u0062"
    for view in views(data):
        if not view.data:
            continue
        start = draw.draw(st.integers(0, len(view.data) - 1))
        end = draw.draw(st.integers(start + 1, len(view.data)))
        began, ended = view.origin(start, end)
        assert 0 <= began < ended <= len(data)
        assert ended - began >= end - start
        assert view.origin(0, len(view.data))[0] <= began
        assert ended <= view.origin(0, len(view.data))[1]


@given(st.lists(st.sampled_from([b"a", b"%41", b"xyz", b"%7a", b""])))
def test_a_view_is_what_each_part_reads_as(parts: list[bytes]) -> None:
    data = b"".join(parts)
    view = rewrite(data, module._UNESCAPE, module._plain_writing)
    expected = data.replace(b"%41", b"A").replace(b"%7a", b"z")
    assert (view.data if view else data) == expected
    if view:
        at = expected.find(b"A")
        if at >= 0:
            start, end = view.origin(at, at + 1)
            assert data[start:end] == b"%41"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-16"])
def test_text_of_wide_characters_is_read(guard: Guard, codec: str) -> None:
    """As bytes, and as a text that somebody decoded one byte a character."""
    data = f"to {MAIL} and others".encode(codec)
    assert guard.value("note", data) is DROPPED
    misread = data.decode("latin-1")
    answer = guard.texts([(guard.key("note"), "is clean"), (guard.key("note"), misread)])
    assert answer[0] == "is clean"
    assert "[redacted:email]" in answer[1]
    assert [finding.rule for finding in guard.findings(misread)] == ["email"]
    assert answer[1] == redact_reference(misread)


def test_a_text_with_the_separator_in_it_stays_with_its_own_answer(guard: Guard) -> None:
    texts = ["is\0clean", MAIL, "", "\0", f"x\0{MAIL}", "is clean"]
    answers = guard.texts([(guard.key("note"), text) for text in texts])
    assert answers == [
        "is\0clean", "[redacted:email]", "", "\0", "x\0[redacted:email]", "is clean"
    ]  # fmt: skip


def test_base64_of_a_text_is_read_and_that_of_anything_else_is_not() -> None:
    """Lines and tabs make a text; a control character, or one beyond ASCII, does not."""
    for said in ("a tab\there, more than that", "two lines\r\nand some more ~"):
        run = base64.b64encode(said.encode())
        assert next(views(b"<" + run + b">")).data == f"<{said}>".encode()
    for byte in (b"\x08", b"\x0b", b"\x1f", b"\x7f", b"\x80"):
        run = base64.b64encode(b"sixteen bytes of it and " + byte)
        assert list(views(b"<" + run + b">")) == []


def test_base64_of_words_in_another_language_is_read_if_half_of_it_is_ascii() -> None:
    for ascii_bytes, said in ((16, True), (15, False)):
        text = b"p" * ascii_bytes + "ж".encode() * 8
        run = base64.b64encode(text)
        assert [view.data for view in views(run)] == ([text] if said else [])


@pytest.mark.parametrize("length", range(15, 30))
def test_base64_is_read_with_padding_and_without(length: int) -> None:
    said = b"a text of some characters, thirty"[:length]
    run = base64.b64encode(said)
    for written in (run, run.rstrip(b"=")):
        assert [view.data for view in views(written)] == ([said] if len(run) >= 20 else [])


def test_wide_text_is_judged_alike_with_its_markers(guard: Guard) -> None:
    """Guarded again, what was found is a marker, and what stands beside it is the same."""
    text = "password=@\0password=password=\\u00"
    once = guard.value("note", text)
    assert once != text
    assert guard.value("note", once) == once
    assert once == redact_reference(text)
