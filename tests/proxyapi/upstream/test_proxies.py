"""Which calls go through a proxy of the environment: read as curl reads `NO_PROXY`, and ports besides."""

from __future__ import annotations

import os

import pytest

from chatproxy.doctor.setting_checks import check_upstream_url
from proxyapi.upstream.proxies import environment_proxy, is_bypassed, proxy_fault

HTTPS = "https://api.openai.com/v1"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "expected"),
    [
        ("api.openai.com", 443, "", False),
        ("api.openai.com", 443, "*", True),
        ("api.openai.com", 443, "a.test, *", True),
        ("api.openai.com", 443, "api.openai.com", True),
        ("API.OpenAI.com", 443, "api.openai.COM", True),
        ("api.openai.com", 443, "openai.com", True),
        ("api.openai.com", 443, ".openai.com", True),
        ("api.openai.com", 443, "*.openai.com", True),
        ("openai.com", 443, ".openai.com", True),
        ("api.openai.com.", 443, "openai.com", True),
        ("api.openai.com", 443, "openai.com.", True),
        ("notopenai.com", 443, "openai.com", False),
        ("api.openai.com", 443, "pi.openai.com", False),
        ("api.openai.com", 443, "com,org", True),
        ("api.openai.com", 443, "a.test b.test\tapi.openai.com", True),
        ("api.openai.com", 443, ",,", False),
        ("api.openai.com", 443, ".", False),
        ("api.openai.com", 443, "api.openai.com:443", True),
        ("api.openai.com", 443, "api.openai.com:8443", False),
        ("api.openai.com", 8443, ".openai.com:8443", True),
        ("10.1.2.3", 80, "10.0.0.0/8", True),
        ("10.1.2.3", 80, "10.1.2.3/16", True),
        ("11.1.2.3", 80, "10.0.0.0/8", False),
        ("10.1.2.3", 80, "10.1.2.3", True),
        ("10.1.2.3", 80, "10.1.2.3:80", True),
        ("10.1.2.3", 80, "10.1.2.3:81", False),
        ("10.1.2.3", 80, ".2.3", False),
        ("::1", 80, "::1", True),
        ("::1", 80, "[::1]", True),
        ("::1", 80, "[::1]:80", True),
        ("::1", 80, "[::1]:81", False),
        ("2001:db8::5", 80, "2001:db8::/32", True),
        ("2001:db9::5", 80, "2001:db8::/32", False),
        ("::ffff:10.1.2.3", 80, "10.0.0.0/8", True),
        ("10.1.2.3", 80, "10.0.0.0/99, nonsense/8", False),
        ("api.openai.com", 443, "0.0.0.0/0", False),
    ],
)
def test_no_proxy(host: str, port: int, no_proxy: str, expected: bool) -> None:
    assert is_bypassed(host, port, no_proxy) is expected


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, HTTPS, None),
        ({"HTTPS_PROXY": "http://p:1"}, HTTPS, "http://p:1"),
        ({"https_proxy": "p:1"}, HTTPS, "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, HTTPS, "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:2"}, HTTPS, "http://q:2"),
        ({"HTTP_PROXY": "http://p:1"}, HTTPS, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.openai.com:443"}, HTTPS, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "10.0.0.0/8"}, "https://10.2.3.4/v1", None),
        ({"HTTPS_PROXY": ""}, HTTPS, None),
    ],
)
def test_the_environment_names_one(
    environment: dict[str, str], url: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = environment_proxy(url)
    assert (found.geturl() if found else None) == expected


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("socks5://me:secret@p:1080", "socks5://"),
        ("socks5h://p:1080", "socks5h://"),
        ("https://p:1", "https://"),
        ("http://", "no URL"),
        ("http://p:port", "no URL"),
        ("http://me:secret@:8080", "no URL"),
    ],
)
def test_what_is_not_spoken_ends_the_start_with_words(proxy: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    [finding] = check_upstream_url(HTTPS, "127.0.0.1", 3002)
    assert finding.level == "fault"
    assert words in finding.words
    assert "secret" not in finding.words
    monkeypatch.setenv("NO_PROXY", "openai.com")
    assert proxy_fault(HTTPS) == ""
