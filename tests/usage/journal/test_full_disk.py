"""A full disk under the journal, on a real server: nothing new is let in, nothing that was let in is lost."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import psycopg
import pytest
from openai.types.chat import ChatCompletion

from tests.simulator.server import Simulator
from tests.support.callers.key_box import insert
from tests.support.servers.disks import fill, small_disk, wait_until
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway

MIB = 1024 * 1024
CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {"security_key": SECURITY_KEY, "model": "fault:gate-stream", "input": "hi", "stream": True}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """DATA_DIR/journal, a disk of its own."""
    directory = tmp_path / "data" / "journal"
    with small_disk(directory, 8 * MIB):
        yield directory


@pytest.fixture
def server(simulator: Simulator, gateway_database: str, disk: Path) -> Iterator[Gateway]:
    reserve = {"JOURNAL_RESERVE_BYTES": str(4 * MIB)}
    with run_gateway(simulator.base_url, gateway_database, disk.parent, **reserve) as gateway:
        yield gateway


def is_full(gateway: Gateway) -> bool:
    return bool(gateway.http.get("/readyz").json()["journal"] == "full")


def test_it_works(server: Gateway, simulator: Simulator, disk: Path) -> None:
    with ThreadPoolExecutor(1) as pool, server.http.stream("POST", "/openai2", json=STREAM) as stream:
        pieces = stream.iter_raw()
        received = next(pieces)
        plain = pool.submit(server.post, "/openai", {**CALL, "model": "fault:gate"})
        simulator.wait_until(lambda: simulator.waiting == 2)
        sent = len(simulator.requests)

        ballast = fill(disk, leave=3 * MIB)
        wait_until(lambda: is_full(server))
        refused = server.post("/openai", CALL)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "storage_full"
        assert int(refused.headers["retry-after"]) >= 1
        assert len(simulator.requests) == sent, "a call that cannot be in the ledger was sent upstream"
        with server.sdk() as client, pytest.raises(openai.InternalServerError) as told:
            client.post("/openai", cast_to=ChatCompletion, body=CALL)
        assert told.value.code == "storage_full"

        simulator.release()
        received += b"".join(pieces)
        answer = plain.result()

    assert answer.status_code == 200
    assert received.endswith(b"data: [DONE]\n\n")
    assert server.row(answer)["outcome"] == "success"
    assert server.row(stream.headers["x-proxy-request-id"])["outcome"] == "success"

    ballast.unlink()
    wait_until(lambda: not is_full(server))
    again = server.post("/openai", CALL)
    assert again.status_code == 200
    assert server.row(again)["outcome"] == "success"
    assert server.worker_pids == server.worker_pids[:1]  # the same process all along


def test_ends_that_a_disk_without_a_byte_refuses_are_written_when_there_is_room(
    server: Gateway, simulator: Simulator, disk: Path
) -> None:
    with ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(server.post, "/openai", {**CALL, "model": "fault:gate"}) for _ in range(20)]
        simulator.wait_until(lambda: simulator.waiting == 20)
        ballast = fill(disk)
        # Whoever waits at the gate has its begin on disk; there is no byte left for any end after the page is full.
        simulator.release()
        answers = [call.result() for call in calls]
    assert {answer.status_code for answer in answers} == {200}
    assert server.post("/openai", CALL).json()["error"]["code"] == "storage_full"

    ballast.unlink()
    rows = [server.row(answer) for answer in answers]
    assert {row["outcome"] for row in rows} == {"success"}
    wait_until(lambda: not is_full(server))
    assert server.stop() == 0
    ids = [answer.headers["x-proxy-request-id"] for answer in answers]
    assert not any(request_id in path.read_text() for request_id in ids for path in disk.glob("*.journal"))


def test_a_call_that_the_journal_refuses_holds_nothing_of_its_budget(
    server: Gateway, gateway_database: str, disk: Path
) -> None:
    with psycopg.connect(gateway_database, autocommit=True) as connection:
        name, key = insert(connection, {"budget_day": 1})
        server.wait_until_known(key)
        fill(disk, leave=3 * MIB)
        wait_until(lambda: is_full(server))
        refused = server.http.post("/openai", json=CALL, headers={"X-Security-Key": key})
        assert refused.json()["error"]["code"] == "storage_full"
        held = "SELECT count(*) FROM usage_hold WHERE key_name = %s"
        wait_until(lambda: connection.execute(held, [name]).fetchall() == [(0,)])
