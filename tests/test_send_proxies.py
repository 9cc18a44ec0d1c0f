"""Which proxy a request goes through."""

from __future__ import annotations

import base64

import pytest

from stack_composer.telemetry.errors import SendError
from stack_composer.telemetry.send.proxies import proxy_for

URL = "https://collector.example:4318/v1/traces"
PROXY = "http://proxy.example:3128"


def through(url: str, **environ: str) -> str | None:
    found = proxy_for(url, environ)
    return found.url if found else None


def test_e17_without_variables_there_is_no_proxy() -> None:
    assert through(URL) is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_e17_each_variable_is_read_in_both_cases(name: str) -> None:
    assert through(URL, **{name: PROXY}) == PROXY


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_e17_the_proxy_of_http_is_for_http_alone(name: str) -> None:
    assert through(URL, **{name: PROXY}) is None
    assert through("http://collector.example", **{name: PROXY}) == PROXY


def test_e17_lower_case_wins_and_empty_means_none() -> None:
    other = "http://other.example:1"
    assert through(URL, https_proxy=other, HTTPS_PROXY=PROXY) == other
    assert through(URL, HTTPS_PROXY=PROXY, ALL_PROXY=other) == PROXY
    assert through(URL, https_proxy="", HTTPS_PROXY=PROXY) is None
    assert through(URL, https_proxy="", ALL_PROXY=PROXY) is None


def test_e17_in_a_cgi_program_a_client_cannot_name_a_proxy() -> None:
    url = "http://collector.example"
    assert through(url, HTTP_PROXY=PROXY, REQUEST_METHOD="GET") is None
    assert through(url, http_proxy=PROXY, REQUEST_METHOD="GET") == PROXY


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_e17_this_computer_is_never_reached_by_way_of_another(host: str) -> None:
    everything = {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "ALL_PROXY": PROXY}
    assert through(f"http://{host}:4318", **everything) is None
    assert through(f"https://{host}:4318", **everything) is None


@pytest.mark.parametrize(
    ("entry", "host", "is_exempt"),
    [
        ("*", "collector.example", True),
        ("collector.example", "collector.example", True),
        ("COLLECTOR.example", "collector.EXAMPLE", True),
        ("collector.example", "sub.collector.example", True),
        (".example", "collector.example", True),
        ("*.example", "collector.example", True),
        ("example", "collector.example", True),
        ("collector.example.", "collector.example", True),
        ("lector.example", "collector.example", False),
        ("other.example", "collector.example", False),
        ("collector.example:4318", "collector.example", True),
        ("collector.example:4317", "collector.example", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.30", False),
        ("10.1.0.0/16", "10.1.200.3", True),
        ("10.1.2.3/16", "10.1.200.3", True),
        ("10.1.0.0/16", "10.2.0.1", False),
        ("10.1.2.3:4318", "10.1.2.3", True),
        ("10.1.2.3:1", "10.1.2.3", False),
        (".2.3", "10.1.2.3", False),
        ("2001:db8::/32", "[2001:db8::7]", True),
        ("2001:db8::7", "[2001:DB8:0::7]", True),
        ("[2001:db8::7]:4318", "[2001:db8::7]", True),
        ("[2001:db8::7]:4317", "[2001:db8::7]", False),
        ("2001:db8::/32", "[2001:db9::7]", False),
        ("10.0.0.0/8", "[2001:db8::7]", False),
        ("a.example, b.example collector.example", "collector.example", True),
        ("  ,, ", "collector.example", False),
        (".", "collector.example", False),
        ("10.0.0.0/99", "10.0.0.1", False),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_e17_what_no_proxy_exempts(name: str, entry: str, host: str, is_exempt: bool) -> None:
    found = through(f"https://{host}:4318", HTTPS_PROXY=PROXY, **{name: entry})
    assert found == (None if is_exempt else PROXY)


def test_e17_lower_case_no_proxy_wins() -> None:
    assert through(URL, HTTPS_PROXY=PROXY, no_proxy="", NO_PROXY="*") == PROXY


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("proxy.example", "http://proxy.example:80"),
        ("https://proxy.example", "https://proxy.example:443"),
        ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128"),
        ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
    ],
)
def test_e17_proxies_are_written_in_many_ways(text: str, url: str) -> None:
    assert through(URL, HTTPS_PROXY=text) == url


def test_e17_credentials_are_decoded_and_shown_nowhere() -> None:
    found = proxy_for(URL, {"HTTPS_PROXY": "http://us%40er:p%3Ass%0d%0aword@proxy.example:3128"})
    assert found is not None
    kind, _, pair = found.authorization.partition(" ")
    assert (kind, base64.b64decode(pair)) == ("Basic", b"us@er:p:ss\r\nword")
    assert found.url == PROXY
    assert found.url_with_credentials == "http://us%40er:p%3Ass%0d%0aword@proxy.example:3128"
    assert "word" not in repr(found)
    assert found.authorization not in repr(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("socks5://user:hidden@proxy.example:1080", "SOCKS"),
        ("socks5h://user:hidden@proxy.example", "SOCKS"),
        ("ftp://user:hidden@proxy.example", "not the address"),
        ("http://user:hidden@proxy.example:port", "not the address"),
        ("http://user:hidden@proxy.example:99999", "not the address"),
        ("http://user:hidden@", "not the address"),
        ("http://user:hidden@pro xy", "not the address"),
    ],
)
def test_e17_a_proxy_that_cannot_be_used_is_never_passed_by(text: str, words: str) -> None:
    with pytest.raises(SendError, match=words) as caught:
        proxy_for(URL, {"HTTPS_PROXY": text})
    assert "hidden" not in str(caught.value) + caught.value.hint
    assert "HTTPS_PROXY" in str(caught.value)
