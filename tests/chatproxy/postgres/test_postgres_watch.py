"""A bundled PostgreSQL that was killed or cannot be reached is started again, and one that was stopped is not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatproxy.postgres.binaries import BundledPostgresError
from chatproxy.postgres.bundled import BundledPostgres
from tests.chaos.processes import children
from tests.simulator.server import Simulator
from tests.support.calls.held_streams import read_streams
from tests.support.servers.clusters import give_cluster
from tests.support.servers.gateway import PATIENCE, Gateway, launch_gateway
from tests.support.servers.processes import assert_nothing_is_left
from tests.support.servers.readiness import wait_until_ok

# libpq takes from them what a connection leaves out, so each could let a start fail, or lead it elsewhere.
FOR_ANOTHER_SERVER = {
    "PGPORT": "1", "PGHOSTADDR": "127.0.0.1", "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGREQUIREAUTH": "password", "PGTARGETSESSIONATTRS": "standby", "PGDATESTYLE": "German", "PGSERVICE": "other",
}  # fmt: skip
CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def bundled(simulator: Simulator, tmp_path: Path) -> Iterator[tuple[Gateway, BundledPostgres]]:
    postgres = give_cluster(tmp_path)
    gateway = launch_gateway(simulator.base_url, "", tmp_path, **FOR_ANOTHER_SERVER)
    gateway._database_url = postgres.url
    try:
        gateway.wait_for_log("Booting worker")
        gateway.wait_until_up()
        yield gateway, postgres
    finally:
        gateway.stop()
        postgres.stop()
        postgres.delete()


def postmaster(postgres: BundledPostgres) -> int:
    return int((postgres.cluster / "postmaster.pid").read_text().splitlines()[0])


def kill_the_postmaster(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_all_of_it(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)  # it would start its children anew
    for process in (*children(pid), pid):
        os.kill(process, signal.SIGKILL)


def stop_it_by_hand(pid: int) -> None:
    os.kill(pid, signal.SIGINT)  # its fast shutdown


def take_its_socket(pid: int) -> None:
    for socket in Path(f"/proc/{pid}/cwd").glob(".s.PGSQL.*"):
        socket.unlink()


def test_variables_for_another_server_do_not_lead_there(bundled: tuple[Gateway, BundledPostgres]) -> None:
    gateway, _ = bundled
    wait_until_ok(gateway)
    assert gateway.row(gateway.post("/openai", CALL))["outcome"] == "success"


@pytest.mark.parametrize("end", [kill_the_postmaster, kill_all_of_it, stop_it_by_hand, take_its_socket])
def test_one_that_ended_is_started_again(bundled: tuple[Gateway, BundledPostgres], end: Callable[[int], None]) -> None:
    gateway, postgres = bundled
    answers = [gateway.post("/openai", CALL)]
    assert gateway.row(answers[0])  # so the shipper knows the server of before
    for _ in range(2):
        end(postmaster(postgres))
        answers.append(gateway.post("/openai", CALL))  # the journal has it
        gateway.wait_for_log("(?s)" + ".*".join(["the bundled PostgreSQL is back"] * (len(answers) - 1)))
    answers.append(gateway.post("/openai", CALL))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [gateway.row(answer)["outcome"] for answer in answers] == ["success"] * 4
    gateway.wait_for_log("what the journals have is shipped again")
    assert gateway.manage("ledger", "verify").stdout == "the ledger is whole\n"
    assert gateway.stop() == 0
    assert not postgres.running


def test_the_lock_is_kept(bundled: tuple[Gateway, BundledPostgres]) -> None:
    gateway, postgres = bundled
    os.kill(postmaster(postgres), signal.SIGKILL)
    gateway.wait_for_log("the bundled PostgreSQL is back")
    with pytest.raises(BundledPostgresError, match="another chatproxy runs on"):
        postgres.start()


def test_a_terminal_that_closes_cuts_no_stream_and_stops_it(
    bundled: tuple[Gateway, BundledPostgres], simulator: Simulator
) -> None:
    gateway, postgres = bundled

    def hang_up() -> None:
        os.killpg(gateway.process.pid, signal.SIGHUP)
        gateway.wait_for_log("draining")

    received = read_streams(gateway, simulator, hang_up)
    assert all(stream.endswith(b"data: [DONE]\n\n") for stream in received)
    assert gateway.process.wait(PATIENCE) == 0
    assert not postgres.running
    assert_nothing_is_left(gateway)


def test_a_server_that_stops_takes_it_along(bundled: tuple[Gateway, BundledPostgres]) -> None:
    gateway, postgres = bundled
    gateway.process.send_signal(signal.SIGTERM)
    os.kill(postmaster(postgres), signal.SIGKILL)
    assert gateway.stop() == 0
    assert not postgres.running
