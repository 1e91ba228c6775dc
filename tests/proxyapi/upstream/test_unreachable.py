"""Why upstream cannot be reached is said in the log, the row and, without addresses, to the caller."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from proxyapi.upstream import failures
from proxyapi.upstream.credentials import Credentials
from proxyapi.upstream.failures import MAYBE_BILLED, NOT_BILLED, UnreachableLog, error_of
from proxyapi.upstream.faults import (
    CERTIFICATE_FAULTS,
    SYSTEM_FAULTS,
    Broken,
    ConnectTimeout,
    InvalidStatus,
    Late,
    NotConnected,
    ProxyRefused,
    Silent,
    TransportFault,
    not_connected,
)
from proxyapi.upstream.request import UpstreamRequest
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
    monkeypatch.setattr(failures, "time", SimpleNamespace(monotonic=lambda: now))
    log = UnreachableLog()
    fault = NotConnected("its name is not known")
    fault.__cause__ = socket.gaierror(-2, "Name or service not known")
    for _ in range(5):
        log.add(fault)
    log.add(NotConnected("it refuses connections"))
    now += 60
    log.add(fault)
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
    gateway.wait_for_log(f"no connection to upstream: {words}")


def subclasses(kind: type[TransportFault]) -> Iterator[type[TransportFault]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


# Of each kind one fault, the status of its answer, and whether the call may have been billed.
KINDS: list[tuple[TransportFault, int, bool]] = [
    (NotConnected("it refuses connections"), 502, False),
    (ConnectTimeout("it does not answer"), 504, False),
    (Late(), 504, True),
    (Silent("FIRST_BYTE_TIMEOUT", 30.0), 504, True),
    (Broken("it was closed"), 502, True),
    (InvalidStatus(99), 502, True),
]


def test_each_fault_has_an_error_that_says_whether_the_call_may_have_been_billed() -> None:
    request = UpstreamRequest("POST", "/chat/completions", Credentials("sk-test"), deadline=0.0)
    assert {type(fault) for fault, *_ in KINDS} == set(subclasses(TransportFault))

    for fault, status, may_be_billed in KINDS:
        error = error_of(fault, request)
        assert error.status_code == status, fault
        assert (MAYBE_BILLED in str(error.detail)) is may_be_billed, fault
        assert (NOT_BILLED in str(error.detail)) is not may_be_billed, fault
