"""Two servers behind a real nginx are restarted one after the other, under load: no call fails, is lost or doubled."""

from __future__ import annotations

import re
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from tests.simulator.server import Simulator
from tests.support.calls.held_streams import STREAM
from tests.support.calls.steady_load import SteadyLoad
from tests.support.documentation import blocks_in, section
from tests.support.polling import PATIENCE, wait_until
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import Gateway, free_port, run_gateway
from tests.support.servers.nginx import run_nginx

STREAMS = 20
(UPSTREAM,) = blocks_in(section("## Several servers"), "nginx")
WHOLE = blocks_in(section("## Behind a TLS proxy"), "nginx")[0]


def nginx_settings(port: int, servers: list[int]) -> str:
    """The settings of docs/deploy.md for several servers, without TLS."""
    upstream = re.sub(r"10\.0\.0\.(\d):3002", lambda found: f"127.0.0.1:{servers[int(found[1]) - 1]}", UPSTREAM)
    server = re.sub(r"(?m)^ *(ssl_certificate|ssl_certificate_key) .*\n", "", WHOLE)
    server = server.replace("listen 443 ssl", f"listen 127.0.0.1:{port}")
    server = server.replace("proxy_pass http://127.0.0.1:3002;", "proxy_pass http://chatproxy;")
    assert "proxy_pass http://chatproxy;" in server
    return upstream + server


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def open_streams(origin: str, simulator: Simulator) -> Iterator[list[Future[tuple[str, bytes]]]]:
    """Opens streams through nginx, and yields them once all wait for upstream; each has its id and its bytes."""

    def read() -> tuple[str, bytes]:
        with httpx2.stream("POST", f"{origin}/openai2", json=STREAM, timeout=PATIENCE) as stream:
            return stream.headers["x-proxy-request-id"], b"".join(stream.iter_raw())

    with ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(read) for _ in range(STREAMS)]
        try:
            simulator.wait_until(lambda: simulator.waiting == STREAMS)
            yield streams
        finally:
            simulator.release()


def test_a_rolling_restart_fails_no_call(simulator: Simulator, gateway_database: str, tmp_path: Path) -> None:
    ports, port = [free_port(), free_port()], free_port()
    origin = f"http://127.0.0.1:{port}"
    for number in range(len(ports)):
        (tmp_path / f"data{number}").mkdir()
    ids: list[str] = []
    cut = 0
    with new_database(gateway_database) as url, ExitStack() as running:

        def start(number: int) -> Gateway:
            server = run_gateway(
                simulator.base_url,
                url,
                tmp_path / f"data{number}",
                PORT=str(ports[number]),
                DRAIN_SECONDS="1",
                TRUSTED_PROXIES="127.0.0.1",
            )
            return running.enter_context(server)

        gateways = [start(number) for number in range(len(ports))]
        with (
            run_nginx(nginx_settings(port, ports), tmp_path, f"{origin}/healthz"),
            SteadyLoad(f"{origin}/openai") as load,
        ):
            for number, gateway in enumerate(gateways):
                with open_streams(origin, simulator) as streams:
                    gateway.process.send_signal(signal.SIGTERM)
                    wait_until(lambda number=number: refuses(ports[number]))  # type: ignore[misc]
                    load.wait_for_calls(100)  # the other server has all of them
                for stream in streams:
                    request_id, received = stream.result()
                    ids.append(request_id)
                    cut += not received.endswith(b"data: [DONE]\n\n")
                assert gateway.process.wait(PATIENCE) == 0
                gateway.stop()
                gateways[number] = start(number)
                load.wait_for_calls(100)
        ids += load.ids
        rows = gateways[0].rows(at_least=len(ids))
        assert gateways[0].manage("ledger", "verify").returncode == 0

    found = [str(row["request_id"]) for row in rows]
    lost, doubled = len(set(ids) - set(found)), len(found) - len(set(found))
    failed = len(load.failures)
    sys.stdout.write(f"\n{len(ids)} calls: cut, failed, lost, doubled = {cut}, {failed}, {lost}, {doubled}\n")
    assert (cut, load.failures, lost, doubled) == (0, [], 0, 0)
    assert {row["outcome"] for row in rows} == {"success"}
    assert len(found) == len(ids) == len(set(ids))
