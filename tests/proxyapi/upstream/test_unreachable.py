"""Why upstream cannot be reached is said in the log, the row and, without addresses, to the caller."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

import pytest

from proxyapi.upstream.client import UnreachableLog
from proxyapi.upstream.faults import CERTIFICATE_FAULTS, SYSTEM_FAULTS, NotConnected, ProxyRefused, not_connected
from tests.support.servers.gateway import SECURITY_KEY, Gateway, free_port

BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
SECRET = "upstream.internal.example at 192.0.2.7"


def untrusted(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, SECRET)
    error.verify_code = code
    return error


FAULTS: list[tuple[OSError | UnicodeError, str]] = [
    (socket.gaierror(-2, SECRET), "its name is not known"),
    (UnicodeError(SECRET), "its name is not known"),
    *((OSError(number, SECRET), words) for number, words in SYSTEM_FAULTS.items()),
    (OSError(errno.EINVAL, SECRET), "it cannot be connected to"),
    (OSError(SECRET), "it cannot be connected to"),
    *((untrusted(code), f"its certificate is not trusted: {words}") for code, words in CERTIFICATE_FAULTS.items()),
    (untrusted(1), "its certificate is not trusted: it cannot be verified"),
    (ssl.SSLError(1, SECRET), "TLS with it failed; is it https:// at all?"),
    (ProxyRefused("it answered 407"), "the proxy did not connect (it answered 407)"),
]


@pytest.mark.parametrize("is_proxy", [False, True])
@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_every_fault_has_words_without_a_name_or_address(
    fault: OSError | UnicodeError, words: str, is_proxy: bool
) -> None:
    reason = not_connected(fault, is_proxy=is_proxy).reason
    assert words in reason
    assert "example" not in reason
    assert "192.0.2.7" not in reason
    if is_proxy and not isinstance(fault, ssl.SSLError):
        assert "proxy" in reason


def test_the_log_says_each_reason_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("proxyapi.upstream.client.time.monotonic", lambda: now)
    log = UnreachableLog()
    fault = NotConnected("its name is not known")
    fault.__cause__ = socket.gaierror(-2, "Name or service not known")
    for _ in range(5):
        log.say(fault)
    log.say(NotConnected("it refuses connections"))
    now += 60
    log.say(fault)
    words = "no connection to upstream: its name is not known ([Errno -2] Name or service not known)"
    assert caplog.messages == [words, "no connection to upstream: it refuses connections (no fault)", words]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:{free}/v1", "it refuses connections"),
        ("http://nobody.invalid/v1", "its name is not known"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai"])
def test_the_caller_and_the_row_are_told(path: str, url: str, words: str, start_gateway: Any) -> None:
    gateway: Gateway = start_gateway(OPENAI_BASE_URL=url.format(free=free_port()))
    answer = gateway.http.post(path, headers=BEARER, json=CHAT)
    assert answer.status_code == 502
    error = answer.json()["error"]
    assert error["code"] == "upstream_unreachable"
    assert error["message"].startswith(f"No connection to upstream: {words}.")
    assert "nobody" not in error["message"]
    assert "127.0.0.1" not in error["message"]
    row = gateway.row(answer)
    assert row["error_message"] == error["message"]
    assert f"no connection to upstream: {words}" in gateway.log
