"""Why upstream cannot be reached is said in the log, the row and, without addresses, to the caller."""

from __future__ import annotations

import errno
import json
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from proxyapi.keys.credentials import Credentials
from proxyapi.upstream import fault_answers
from proxyapi.upstream.fault_answers import MAX_LOGGED_REASONS, MAYBE_BILLED, NOT_BILLED, UnreachableLog, error_of
from proxyapi.upstream.faults import (
    CERTIFICATE_FAULTS,
    SYSTEM_FAULTS,
    Broken,
    ConnectTimeout,
    InvalidStatus,
    Late,
    NoFileLeft,
    NotConnected,
    ProxyRefused,
    Silent,
    TransportFault,
    damaged,
    not_connected,
)
from proxyapi.upstream.request import UpstreamRequest
from tests.support.polling import PATIENCE
from tests.support.servers.gateway import SECURITY_KEY, Gateway, free_port, run_gateway

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
    (ssl.SSLError(1, SECRET), "TLS with it failed; it may speak http:// only"),
    *(
        (fault, "it closed the connection at once")
        for fault in (ConnectionResetError(), ConnectionAbortedError(SECRET))
    ),
    *((OSError(number, SECRET), "it closed the connection at once") for number in (errno.ECONNRESET, errno.EPIPE)),
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


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_lack_of_open_files_is_not_upstreams(number: int) -> None:
    fault = not_connected(OSError(number, SECRET), is_proxy=False)
    error = error_of(fault, UpstreamRequest("POST", "/chat/completions", Credentials("sk-test"), deadline=0.0))
    assert (error.status_code, error.code) == (503, "overloaded")
    assert "ulimit -n" in error.words


def test_the_log_says_each_reason_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(fault_answers, "time", SimpleNamespace(monotonic=lambda: now))
    log = UnreachableLog()
    fault = NotConnected("its name is not known")
    fault.__cause__ = socket.gaierror(-2, "Name or service not known")
    for _ in range(5):
        log.add(fault)
    log.add(NotConnected("it refuses connections"))
    now += 60
    log.add(fault)
    words = "no connection to upstream: its name is not known ([Errno -2] Name or service not known)"
    assert caplog.messages == [words, "no connection to upstream: it refuses connections", words]


@pytest.mark.parametrize(
    "fault",
    [
        lambda number: Broken(f"its answer is encoded as x-{number}", "its answer has an encoding that is not known"),
        lambda number: InvalidStatus(number),
        lambda number: damaged(zlib.error(f"Error {number}")),
        lambda number: not_connected(ProxyRefused(f"it answered {number}"), is_proxy=True),
    ],
)
def test_words_of_upstreams_make_no_new_reason(
    caplog: pytest.LogCaptureFixture, fault: Callable[[int], NotConnected | Broken]
) -> None:
    log = UnreachableLog()
    for number in range(600, 1000):
        log.add(fault(number))
    [message] = caplog.messages
    assert "600" in message
    assert len(log._logged_at) == 1


def test_the_log_of_reasons_is_bounded(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(fault_answers, "time", SimpleNamespace(monotonic=lambda: now))
    log = UnreachableLog()
    for _ in range(2):
        caplog.clear()
        for number in range(2 * MAX_LOGGED_REASONS):
            log.add_reason(str(number))
        assert caplog.messages == [str(number) for number in range(MAX_LOGGED_REASONS)]
        assert len(log._logged_at) == MAX_LOGGED_REASONS
        now += 60
    log.add_reason("new")
    assert list(log._logged_at) == ["new"]


def test_the_log_says_nothing_twice(caplog: pytest.LogCaptureFixture) -> None:
    refused = ProxyRefused("it answered 407")
    fault = not_connected(refused, is_proxy=True)
    fault.__cause__ = refused
    UnreachableLog().add(fault)

    assert caplog.messages == ["no connection to upstream: the proxy did not connect (it answered 407)"]


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def alert(connection: socket.socket) -> None:
    connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")  # protocol_version, as OpenSSL answers to plain HTTP


# What upstream does with a call that it has received, and the reason that is known.
ENDINGS: dict[str, tuple[Callable[[socket.socket], object], str]] = {
    "closed": (lambda _: None, "it closed the connection"),
    "reset": (reset, "it reset the connection"),
    "closed in the head": (lambda one: one.sendall(b"HTTP/1.1 200 OK\r\nconte"), "it closed the connection"),
    "TLS": (alert, "it speaks TLS; it may need https://"),
    "no HTTP": (lambda one: one.sendall(b"220 mail.internal.example ESMTP\r\n\r\n"), "its answer breaks HTTP's rules"),
    "another protocol": (
        lambda one: one.sendall(b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
        "it switched to another protocol, which was not asked for",
    ),
    "no status": (lambda one: one.sendall(b"HTTP/1.1 099 X\r\n\r\n"), "its answer has the status 099"),
    "an encoding": (
        lambda one: one.sendall(b"HTTP/1.1 200 OK\r\ncontent-encoding: x-own\r\ncontent-length: 1\r\n\r\na"),
        "its answer is encoded as x-own",
    ),
}


@pytest.fixture(scope="module")
def ending(gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server whose upstream reads a call, and ends the connection as the call's `user` says: a name in `ENDINGS`."""

    def serve() -> None:
        with suppress(OSError):  # of the listener, which is closed at the end
            while True:
                connection, _ = listener.accept()
                with connection:
                    received = b""
                    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
                        received += connection.recv(65536)
                    end, _ = ENDINGS[json.loads(received.partition(b"\r\n\r\n")[2])["user"]]
                    end(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with run_gateway(url, gateway_database, tmp_path_factory.mktemp("ending")) as gateway:
            yield gateway
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


@pytest.mark.parametrize("name", ENDINGS)
def test_a_connection_that_ends_says_why(name: str, ending: Gateway) -> None:
    _, words = ENDINGS[name]
    answer = ending.http.post("/v1/chat/completions", headers=BEARER, json={**CHAT, "user": name})
    error = answer.json()["error"]

    assert (answer.status_code, error["code"]) == (502, "upstream_unreachable")
    assert f": {words}" in error["message"]
    assert ".." not in error["message"]
    assert "?." not in error["message"]
    assert "example" not in error["message"]
    assert error["message"].endswith(MAYBE_BILLED)
    assert ending.row(answer)["error_message"] == error["message"]
    ending.wait_for_log(f"no usable answer from upstream: {words}")  # once a minute, for all calls


@pytest.mark.parametrize("end", ["speaks plain HTTP", "closes"])
def test_tls_where_there_is_none_says_so(end: str, start_gateway: Any) -> None:
    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    if end == "speaks plain HTTP":
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    words = {"speaks plain HTTP": "TLS with it failed; it may speak http:// only", "closes": "it closed the connection"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        gateway: Gateway = start_gateway(OPENAI_BASE_URL=f"https://127.0.0.1:{listener.getsockname()[1]}/v1")
        answer = gateway.http.post("/v1/chat/completions", headers=BEARER, json=CHAT)
        listener.shutdown(socket.SHUT_RDWR)

    message = answer.json()["error"]["message"]
    assert message.startswith(f"No connection to upstream: {words[end]}")
    assert message.endswith(f". {NOT_BILLED}")
    assert gateway.row(answer)["error_message"] == message
    gateway.wait_for_log(f"no connection to upstream: {words[end]}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:{free}/v1", "it refuses connections"),
        ("http://nobody.invalid/v1", "its name is not known"),
    ],
)
def test_the_caller_and_the_row_are_told(url: str, words: str, start_gateway: Any) -> None:
    gateway: Gateway = start_gateway(OPENAI_BASE_URL=url.format(free=free_port()))
    for path in ("/v1/chat/completions", "/openai"):
        answer = gateway.http.post(path, headers=BEARER, json=CHAT)
        assert answer.status_code == 502
        error = answer.json()["error"]
        assert error["code"] == "upstream_unreachable"
        assert error["message"].startswith(f"No connection to upstream: {words}.")
        assert "nobody" not in error["message"]
        assert "127.0.0.1" not in error["message"]
        assert gateway.row(answer)["error_message"] == error["message"]
    gateway.wait_for_log(f"no connection to upstream: {words}")


def subclasses(kind: type[TransportFault]) -> Iterator[type[TransportFault]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


# Of each kind one fault, the status of its answer, and whether the call may have been billed.
KINDS: list[tuple[TransportFault, int, bool]] = [
    (NotConnected("it refuses connections"), 502, False),
    (ConnectTimeout("it does not answer", is_deadline=False), 504, False),
    (ConnectTimeout("it does not answer", is_deadline=True), 504, False),
    (NoFileLeft("this machine has no open file left for it"), 503, False),
    (Late(), 504, True),
    (Silent("FIRST_BYTE_TIMEOUT", 30.0), 504, True),
    (Broken("it was closed"), 502, True),
    (InvalidStatus(99), 502, True),
]


@pytest.mark.parametrize("is_callers_deadline", [False, True])
def test_each_fault_has_an_error_that_says_whether_the_call_may_have_been_billed(is_callers_deadline: bool) -> None:
    request = UpstreamRequest("POST", "/chat/completions", Credentials("sk-test"), deadline=0.0)
    request.is_callers_deadline = is_callers_deadline
    assert {type(fault) for fault, *_ in KINDS} == set(subclasses(TransportFault))

    for fault, status, may_be_billed in KINDS:
        error = error_of(fault, request)
        assert error.status_code == status, fault
        assert (MAYBE_BILLED in str(error.detail)) is may_be_billed, fault
        assert (NOT_BILLED in str(error.detail)) is not may_be_billed, fault
        is_late = type(fault) is Late or (isinstance(fault, ConnectTimeout) and fault.is_deadline)
        assert error.is_of_caller is (is_callers_deadline and is_late), fault
