"""The bill of every kind of stream that upstream cuts, its caller leaves, or the gateway's time limit ends.

It is exact if upstream had stated the usage by then; else it is the estimate of docs/ledger.md, and neither 0 nor null.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from tests.support.bills.all_calls import CASES as BILL
from tests.support.bills.broken_streams import CASES, COMPLETIONS, REQUEST_BYTES, BrokenStream
from tests.support.bills.shapes import CHAT, EVENTS, RESPONSES
from tests.support.callers.wire import connect, head
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import Gateway, run_gateway
from tests.support.upstreams.breaking import (
    CASE,
    CUT,
    END,
    SILENCE,
    WORK_SECONDS,
    BreakingUpstream,
    run_breaking_upstream,
)

ENDS = ("cut", "left", "timed out")
AT_ONCE = 8
FORM = "multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def upstream() -> Iterator[BreakingUpstream]:
    with run_breaking_upstream({case.name: case.pieces for case in CASES}) as server:
        yield server


@pytest.fixture(scope="module")
def database(gateway_database: str) -> Iterator[str]:
    with new_database(gateway_database) as url:
        yield url


@pytest.fixture(scope="module")
def patient(upstream: BreakingUpstream, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that waits long for upstream."""
    # It asks upstream about responses later, so that they are not settled at once.
    settings = {"V1_ROUTES": "all", "BACKGROUND_POLL_SECONDS": "3600"}
    with run_gateway(upstream.base_url, database, tmp_path_factory.mktemp("patient"), **settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def impatient(upstream: BreakingUpstream, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {"V1_ROUTES": "all", "BACKGROUND_POLL_SECONDS": "3600", "IDLE_TIMEOUT": "1", "FIRST_BYTE_TIMEOUT": "1"}
    with run_gateway(upstream.base_url, database, tmp_path_factory.mktemp("impatient"), **settings) as gateway:
        yield gateway


def body_of(case: BrokenStream) -> tuple[str, bytes]:
    """Returns the content type and the bytes of a call's request."""
    if case.form is None:
        return "application/json", case.body
    parts = [(f'"{name}"', text.encode()) for name, text in case.form.items()]
    parts += [(f'"{name}"; filename="a"', content) for name, content in case.files]
    lines = [
        b"--b\r\nContent-Disposition: form-data; name=%b\r\n\r\n%b\r\n" % (one.encode(), two) for one, two in parts
    ]
    return FORM, b"".join(lines) + b"--b--\r\n"


def name_of(case: BrokenStream, end: str) -> str:
    return f"{case.name}, {end}".replace(" ", "-")


def make(gateway: Gateway, upstream: BreakingUpstream, case: BrokenStream, end: str) -> None:
    """Makes a call whose answer stops in the middle; returns when its caller has seen the end, or has left."""
    content_type, content = body_of(case)
    headers = [f"Content-Type: {content_type}", f"{CASE}: {case.name}", f"{END}: {CUT if end == 'cut' else SILENCE}"]
    headers += ["Connection: close", f"X-Request-Id: {name_of(case, end)}"]
    with connect(gateway) as wire:
        wire.send(head("POST", case.path, *headers, length=len(content)) + content)
        if end != "left":
            with suppress(ConnectionError):
                wire.read_to_end()
        elif case.pieces is None:
            upstream.wait_for(case.name, SILENCE)
        else:
            wire.read_head()
            pieces = wire.read_chunks()
            received = b""
            while len(received) < sum(map(len, case.pieces)):
                received += next(pieces)


def test_each_kind_of_stream_of_the_bill_is_broken() -> None:
    paths = {case.path for case in CASES}
    assert {case.path for case in BILL if case.content_type == EVENTS} < paths
    assert len({case.name for case in CASES}) == len(CASES)
    assert {len(case.body) for case in CASES if case.path in (CHAT, RESPONSES, COMPLETIONS)} == {REQUEST_BYTES}


@pytest.mark.parametrize("end", ENDS)
def test_a_broken_stream_costs_what_it_has_used(
    end: str, patient: Gateway, impatient: Gateway, upstream: BreakingUpstream
) -> None:
    gateway = impatient if end == "timed out" else patient
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for made in [pool.submit(make, gateway, upstream, case, end) for case in CASES]:
            made.result()
    names = [name_of(case, end) for case in CASES]
    found = gateway.rows("WHERE incoming_request_id = ANY(%s)", [names], at_least=len(CASES))
    rows = {row["incoming_request_id"]: row for row in found}
    wrong = {
        case.name: (row["cost"], row["cost_kind"], row["input_tokens"], row["output_tokens"], row["outcome"])
        for case in CASES
        if not is_right(case, row := rows[name_of(case, end)])
    }
    assert not wrong


def is_right(case: BrokenStream, row: dict[str, Any]) -> bool:
    dollars = Decimal(case.dollars)
    if case.rate != "0":
        made = row["output_tokens"]
        dollars += made * Decimal(case.rate)
        if not WORK_SECONDS * 1000 <= made <= math.ceil(row["upstream_ms"]):
            return False
    return bool(dollars) and (row["cost"], row["cost_kind"]) == (dollars, case.kind)
