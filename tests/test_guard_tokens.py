"""Credentials by their form and place: what is masked, exactly, and what is left alone."""

from __future__ import annotations

from zlib import crc32

import pytest

from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.examples import expand
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.validators import tokens, urls

GUARD = Guard(Policy(profile="default", identifiers="sha256"))
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def masked(text: str) -> str:
    """``text`` with a star in place of each part that the guard finds."""
    for finding in reversed(GUARD.findings(text)):
        text = f"{text[: finding.start]}*{text[finding.end :]}"
    return text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("x «jwt», y", "x *, y"),
        ("tskey-client-«alnum 12»-«alnum 20»", "*"),
        ("dt0c01.«lower 24».«lower 64», next", "*, next"),
        ("pscale_tkn_«lower 20»=«lower 10»_x-y", "*"),
        ("flb_live_«alnum 20»;", "*;"),
        ("(glpat-«alnum 20»)", "(*)"),
        ("AK«»IA«upper 16»:«b64 40»", "*:*"),
        ("bot «digit 9»:AA«url 33»", "bot *"),
        ("https://outlook.office.com/webhook/«hex 36»/IncomingWebhook/«hex 32»",
         "https://outlook.office.com/webhook/*"),
        ("username bob password 7 0822455D0A16", "username bob password 7 *"),
        ("PAT: MTIzNDU2Nzg5MDEyOg«alnum 26», ok", "PAT: *, ok"),
        ("<id>{«lower 12»}</id><secret>{AQAAABAAA «alnum 20»}</secret>",
         "<id>{*}</id><secret>{*}</secret>"),
        ("Client(LTAI«alnum 12», «alnum 30»)", "Client(*, *)"),
        ("duffel_test_ccccccccccccccccccccccccccccccccccccccccccc", "*"),
        ("at r8_b2«lower 40»Q", "at *"),
        ("sas=sp=r&st=2025-03-04T07:24:52Z&sr=c&sig=«alnum 43»%3D ok", "sas=* ok"),
        ("NATS seed SUA7«upper 54»", "NATS seed *"),
        ("/cb?client_id=«alnum 32»&page=2", "/cb?client_id=*&page=2"),
    ],
)  # fmt: skip
def test_the_form_is_enough(text: str, left: str) -> None:
    assert masked(expand(text)) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Authorization: aivenv1 «alnum 40»", "Authorization: aivenv1 *"),
        ("x-hub-signature-256: sha256=«hex 64»", "x-hub-signature-256: sha256=*"),
        ("Set-Cookie: id=«alnum 20»; Path=/; HttpOnly", "Set-Cookie: id=*; Path=/; HttpOnly"),
        ("/cb?code=«url 30»&page=2&state=«url 20»", "/cb?code=*&page=2&state=*"),
        ("/x?a=1&sig=«alnum 40»%3D#top", "/x?a=1&sig=*#top"),
        ("GET /reset-password/«alnum 32>/x".replace(">", "»"), "GET /reset-password/*/x"),
        ("jdbc:oracle:thin:scott/t1ger@h:1521:x", "jdbc:oracle:thin:*@h:1521:x"),
        ("Server=h;User Id=alice;Password=«alnum 12»;", "Server=h;User Id=*;Password=*;"),
        ("machine h login bob password hunter2x", "machine h login *"),
    ],
)
def test_the_place_is_enough_and_its_surroundings_stay(text: str, left: str) -> None:
    assert masked(expand(text)) == left


@pytest.mark.parametrize(
    "text",
    [
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "GET /webhooks/github-events-of-the-team/",
        "/list?page_token=next&state=open&key=users",
        "test_that_a_token_is_never_written_to_disk",
        "unit-test-environment-for-the-build",
        "sk_buff and hf_hub_download_with_retries_and_progress",
        "com.example.google.a_rather_long_class_name_of_ours",
        "Authorization: Bearer token_is_missing",
        "kind: ConfigMap\ndata:\n  mode: fast\n",
        "hf_servingcellpriorityparametersdescription",
        "/cb?client_id=dashboard&page=2",
    ],
)
def test_names_and_words_are_no_tokens(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("POST https://blue-whale.eu.auth0.com/oauth/token", "POST https://*/oauth/token"),
        ("blue-whale.my.salesforce.com:443 refused", "*:443 refused"),
        ("blue.whale.jfrog.io. It is down", "*. It is down"),
        ("https://blue-whale.s3-eu-west-1.amazonaws.com/a/b.json", "https://*/a/b.json"),
        ("https://storage.googleapis.com/blue-whale/a", "https://*/a"),
        (
            "git@ssh https://dev.azure.com/bluewhale/_git/x",
            "git@ssh https://dev.azure.com/*/_git/x",
        ),
    ],
)
def test_the_host_of_a_customer_names_the_customer(text: str, left: str) -> None:
    assert masked(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "GET https://www.okta.com/pricing",
        "https://support.atlassian.net and login.auth0.com",
        "https://s3.eu-west-1.amazonaws.com/",
        "https://monitoring.eu-west-1.amazonaws.com/x",
        "https://pubsub.googleapis.com/google.pubsub.v1.Publisher/Publish",
        "io.opentelemetry.contrib.mongodb",
        "notjfrog.io and jfrog.iot",
    ],
)
def test_a_service_s_own_hosts_stay(text: str) -> None:
    assert masked(text) == text


def test_a_github_token_is_known_by_its_check_digits() -> None:
    body = "A" * 30
    rest, digits = crc32(body.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = ALPHABET[digit] + digits
    token = f"ghp_{body}{digits}".encode()
    assert tokens.has_github_checksum(token)
    assert tokens.github(token, 0, len(token))  # although it looks like a filler
    assert not tokens.has_github_checksum(token[:-1] + (b"0" if token[-1:] != b"0" else b"1"))
    filler = b"ghp_" + b"x" * 36
    assert not tokens.github(filler, 0, len(filler))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"abc_ResolveConfigurationAsynchronously", False),
        (b"abc_kJxVbQmRtPzLwNcHdYfGsTaEuWo", True),
        (b"abc_xxxxxxxxxxxxxxxxxxxxxx1x", False),
        (b"abc_your1key2goes3here", False),
        (b"abc_1234567890abcdef", True),
        (b"abc_bbbbbbbbbbbbbbbbbbbb", True),
        (b"abc_--------------------", False),
    ],
)
def test_a_token_is_no_words_and_no_filler(value: bytes, *, found: bool) -> None:
    assert tokens.token(value, 0, len(value)) is found


@pytest.mark.parametrize(
    ("query", "value", "found"),
    [
        (b"?token=", b"next", False),
        (b"?token=", b"k3Jd9vQm2xTz", True),
        (b"?access_token=", b"anything", True),
        (b"?client_secret=", b"null", False),
        (b"&state=", b"open", False),
        (b"%26api_key%3D", b"short1", True),
    ],
)
def test_a_doubtful_name_wants_a_random_value(query: bytes, value: bytes, *, found: bool) -> None:
    data = b"https://h/" + query + value
    assert urls.url_secret(data, len(data) - len(value), len(data)) is found
