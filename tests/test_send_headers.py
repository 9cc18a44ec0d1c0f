"""Headers from the environment and from the keychain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keyring
import keyring.backend
import pytest
from hypothesis import given
from hypothesis import strategies as st

from send_servers import answering, destination_at, response, serving
from stack_composer.telemetry.errors import SendError
from stack_composer.telemetry.send.headers import (
    SERVICE,
    fault,
    parse_headers,
    read_keychain_headers,
    write_keychain_headers,
)
from stack_composer.telemetry.send.sender import message_of, open_sender

if TYPE_CHECKING:
    from collections.abc import Iterator

ORIGIN = "https://collector.example:4318"


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("a=1", {"a": "1"}),
        (" A-B = 1 , c=2 ,", {"a-b": "1", "c": "2"}),
        ("authorization=Bearer%20abc%3D%3D", {"authorization": "Bearer abc=="}),
        ("authorization=Basic YWJj", {"authorization": "Basic YWJj"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=1;secure;path=/,b=2", {"a": "1", "b": "2"}),
        ("a=x%3By%2Cz", {"a": "x;y,z"}),
        ("a=", {"a": ""}),
        ("a=1,A=2", {"a": "2"}),
        ("a=50%", {"a": "50%"}),
        ("", {}),
    ],
)
def test_e9_headers_are_read_as_baggage_is_written(text: str, headers: dict[str, str]) -> None:
    assert parse_headers(text, "V") == (headers, [])


@pytest.mark.parametrize(
    "part",
    [
        "hidden",
        "=hidden",
        "a b=hidden",
        "a%0d%0ab=hidden",
        "a=hidden%0d%0aevil:1",
        "a=hidden%00",
        "a=hidden%7f",
        "a=hidden%C3%BC",
        "a=hidden%FF",
        "content-length=hidden",
        "Host=hidden",
        "transfer-encoding=hidden",
        "content-type=hidden",
        "grpc-timeout=hidden",
        "a:b=hidden",
        "ü=hidden",
        "a=" + "hidden" * 4_000,
    ],
)
def test_e9_what_cannot_be_a_header_is_left_out_and_not_quoted(part: str) -> None:
    headers, warnings = parse_headers(f"good=1,{part}", "OTEL_EXPORTER_OTLP_HEADERS")
    assert headers == {"good": "1"}
    assert len(warnings) == 1
    assert warnings[0].startswith("OTEL_EXPORTER_OTLP_HEADERS: part 2 ")
    assert "hidden" not in warnings[0]


def test_e9_there_is_a_bound_for_headers() -> None:
    headers, warnings = parse_headers(",".join(f"h{n}=1" for n in range(100)), "V")
    assert (len(headers), len(warnings)) == (64, 36)


@given(st.text(max_size=60))
def test_e9_whatever_stands_there_no_header_can_smuggle_another(text: str) -> None:
    headers, _ = parse_headers(text, "V")
    for name, value in headers.items():
        assert not fault(name, value)
        assert not set("\r\n\0: ") & set(name)
        assert not set("\r\n\0") & set(value)


class Keychain(keyring.backend.KeyringBackend):
    """A keychain in memory: the real package, with a place of the test's own."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # keyring types but some
        self.is_broken = False
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_broken:
            raise RuntimeError("hidden")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def keychain() -> Iterator[Keychain]:
    before = keyring.get_keyring()
    made = Keychain()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def test_headers_are_kept_by_origin(keychain: Keychain) -> None:
    assert read_keychain_headers(ORIGIN) == {}
    write_keychain_headers(ORIGIN, {"Authorization": "Bearer abc", "x-tenant": "1"})
    assert read_keychain_headers(ORIGIN) == {"authorization": "Bearer abc", "x-tenant": "1"}
    assert list(keychain.kept) == [(SERVICE, ORIGIN)]
    assert read_keychain_headers("https://other.example:443") == {}
    write_keychain_headers(ORIGIN, {})
    write_keychain_headers(ORIGIN, {})
    assert keychain.kept == {}


@pytest.mark.parametrize(("name", "value"), [("a b", "x"), ("host", "x"), ("a", "x\r\ny: z")])
def test_what_cannot_be_a_header_is_not_kept(keychain: Keychain, name: str, value: str) -> None:
    with pytest.raises(ValueError, match="a header"):
        write_keychain_headers(ORIGIN, {name: value})
    assert keychain.kept == {}


@pytest.mark.parametrize("text", ["", "hidden", "[]", '{"a":1}', '{"a":"hidden\\r\\nb:1"}', "null"])
def test_an_entry_of_somebody_else_is_no_headers(keychain: Keychain, text: str) -> None:
    keychain.kept[SERVICE, ORIGIN] = text
    with pytest.raises(SendError, match="cannot be read") as caught:
        read_keychain_headers(ORIGIN)
    assert "hidden" not in str(caught.value)
    assert "headers set" in caught.value.hint


def test_a_keychain_that_fails_says_nothing_of_what_it_holds(keychain: Keychain) -> None:
    keychain.is_broken = True
    with pytest.raises(SendError, match="RuntimeError") as caught:
        read_keychain_headers(ORIGIN)
    assert "hidden" not in str(caught.value) + caught.value.hint


def test_without_a_keychain_there_is_a_hint() -> None:
    from keyring.backends import fail

    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]  # as above
    try:
        with pytest.raises(SendError, match="no keychain") as caught:
            read_keychain_headers(ORIGIN)
        assert "headers_from" in caught.value.hint
        assert "key_file" not in caught.value.hint
    finally:
        keyring.set_keyring(before)


def test_the_keychain_is_opened_when_something_is_sent_and_not_before(keychain: Keychain) -> None:
    with serving(answering(response())) as server:
        url = f"http://127.0.0.1:{server.port}"
        write_keychain_headers(url, {"Authorization": "word-of-nobody"})
        keychain.is_broken = True
        found = destination_at(
            url,
            upload_headers_from="keychain",
            environ={"OTEL_EXPORTER_OTLP_HEADERS": "authorization=of-the-environment"},
        )
        assert (found.headers, found.warnings) == ({}, ())
        with pytest.raises(SendError, match="the keychain cannot be used"):
            open_sender(found, {})
        keychain.is_broken = False
        sender = open_sender(found, {})
        assert sender.send(message_of(found, "logs", b"", 0)).verdict == "delivered"
        sender.close()
    assert server.requests[0].headers["authorization"] == "word-of-nobody"
