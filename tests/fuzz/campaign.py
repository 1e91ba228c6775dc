"""Owns what every fuzz test does: its bounds, its seed, and the comparison of answers with the ledger.

`FUZZ_SEED` starts another sequence of examples; `FUZZ_FACTOR` multiplies their number (`make fuzz`). A failure prints
both. With the same seed the same requests are made again.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings

from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, Gateway

SEED = int(os.environ.get("FUZZ_SEED", "20261128"))
FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))
NO_BODY = {204, 304}
ERROR_MEMBERS = {"message", "type", "param", "code", "request_id"}

Test = TypeVar("Test", bound=Callable[..., Any])


def examples(count: int, *, shrinks: bool = True) -> Callable[[Test], Test]:
    """Returns a decorator that bounds a hypothesis test to `count` examples, the same ones in every run.

    With `shrinks` a failing example is made smaller before it is shown, which takes many more requests.
    """
    phases = (Phase.explicit, Phase.generate, *((Phase.shrink,) if shrinks else ()))

    def bounded(test: Test) -> Test:
        bounds = settings(
            max_examples=count * FACTOR,
            phases=phases,
            database=None,
            suppress_health_check=(
                HealthCheck.too_slow,
                HealthCheck.function_scoped_fixture,
                HealthCheck.filter_too_much,
            ),
        )
        return bounds(seed(SEED)(test))

    return bounded


class Answer(NamedTuple):
    """A final answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def request_id(self) -> str | None:
        return self.headers.get("x-proxy-request-id")


class Books:
    """Compares what callers were answered with what the ledger has of them."""

    def __init__(self, gateway: Gateway, *, leaves_early: bool = False) -> None:
        """`leaves_early` says that we close connections while the server may still be answering."""
        self._gateway = gateway
        self._leaves_early = leaves_early
        self._first = str(gateway.row(gateway.ask(SECURITY_KEY))["request_id"])
        self._may_have_row: dict[str, int] = {}
        self._must_have_row: set[str] = set()
        self._without_row: set[str] = set()

    def note(self, answer: Answer, *, has_key: bool, is_call: bool | None = None) -> None:
        """Remembers an answer.

        `has_key` says whether its request had a valid key at any place, `is_call` whether its route is one that goes
        upstream; None leaves it open.
        """
        if answer.request_id is None:
            return
        if not has_key or is_call is False:
            self._without_row.add(answer.request_id)
        else:
            self._may_have_row[answer.request_id] = answer.status
            if is_call and answer.status < 300:
                self._must_have_row.add(answer.request_id)

    def check(self) -> None:
        """Asserts that strangers have no row, that calls that succeeded have one, and that each row has an answer.

        The ledger is shipped in order: when the row of a last call is there, those of all calls before it are. The
        request id is a row's primary key: no id has two.
        """
        last = str(self._gateway.row(self._gateway.ask(SECURITY_KEY))["request_id"])
        rows = self._gateway.rows("WHERE request_id > %s AND request_id < %s", [self._first, last])
        found = {str(row["request_id"]): row["status"] for row in rows}
        assert not found.keys() & self._without_row
        assert self._must_have_row <= found.keys()
        if self._leaves_early:
            found = {request_id: status for request_id, status in found.items() if request_id in self._may_have_row}
        assert found == {request_id: self._may_have_row.get(request_id) for request_id in found}


@contextmanager
def books(gateway: Gateway, *, leaves_early: bool = False) -> Iterator[Books]:
    """Checks the ledger at the end, and that the worker is the one it was, without a fault in its log."""
    print(f"FUZZ_SEED={SEED} FUZZ_FACTOR={FACTOR}")  # noqa: T201  (pytest shows it when the test fails)
    pids, log_before = gateway.worker_pids, len(gateway.log)
    kept = Books(gateway, leaves_early=leaves_early)
    yield kept
    kept.check()
    assert gateway.worker_pids == pids, "a worker has died"
    log = gateway.log[log_before:]
    assert "Traceback" not in log, log[-5000:]


def exchange(gateway: Gateway, request: bytes, *, is_head: bool = False, silence: float = PATIENCE) -> list[Answer]:
    """Sends bytes on a connection of their own and returns the answers, as many as there are requests at most.

    After `silence` seconds our side is closed, so that a request that never becomes whole ends, too.

    Raises:
        TimeoutError: the server neither answers nor closes, although nothing more will be sent.
    """
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    received = bytearray()
    answers: list[Answer] = []
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection, suppress(ConnectionError):
        connection.sendall(request)
        connection.settimeout(silence)
        while len(answers) < max(request.count(b" HTTP/1."), 1):
            try:
                data = connection.recv(65536)
            except TimeoutError:
                if connection.gettimeout() == PATIENCE:
                    raise
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(PATIENCE)
                continue
            if not data:
                break
            received += data
            while (answer := take_answer(received, is_head=is_head)) is not None:
                answers.append(answer)
    return answers


def take_answer(received: bytearray, *, is_head: bool) -> Answer | None:
    """Takes the first final answer out of `received`; None while it is not whole."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = bytes(received[:end]).decode("latin-1").split("\r\n")
    status = int(first.split(" ")[1])
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if 100 <= status < 200:
        del received[: end + 4]
        return take_answer(received, is_head=is_head)
    body, whole = b"", end + 4
    if not is_head and status not in NO_BODY:
        if headers.get("transfer-encoding") == "chunked":
            last = received.find(b"0\r\n\r\n", whole)
            if last < 0:
                return None
            body, whole = bytes(received[whole:last]), last + 5
        else:
            whole += int(headers.get("content-length", "0"))
            if len(received) < whole:
                return None
            body = bytes(received[end + 4 : whole])
    del received[:whole]
    return Answer(status, headers, body)


def assert_openai_error(answer: Answer) -> None:
    """Asserts that an answer is no fault of ours, and that an error is in OpenAI's shape."""
    assert answer.status < 500, answer
    if answer.status >= 400 and answer.body:
        assert answer.headers["content-type"].startswith("application/json"), answer
        error = json.loads(answer.body)["error"]
        assert {"message", "type", "param", "code"} <= set(error) <= ERROR_MEMBERS, answer
        assert isinstance(error["message"], str)
