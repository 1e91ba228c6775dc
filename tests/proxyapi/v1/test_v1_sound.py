"""Sound of `/v1` on its way down: it passes as it comes, and its end is told from a break."""

from __future__ import annotations

import httpx2
import pytest

from tests.simulator.server import Simulator
from tests.support.callers.wire import connect, json_call
from tests.support.calls.v1_calls import the_row
from tests.support.polling import PATIENCE
from tests.support.servers.gateway import UPSTREAM_KEY, Gateway

SPEECH = {"model": "tts-1", "voice": "alloy", "input": "Hello there"}


def test_sound_passes_as_it_comes(gateway: Gateway, simulator: Simulator, call_id: str) -> None:
    whole = httpx2.post(
        f"{simulator.base_url}/audio/speech",
        json=SPEECH,
        headers={"authorization": f"Bearer {UPSTREAM_KEY}"},
        timeout=PATIENCE,
    ).content
    with connect(gateway) as wire:
        wire.send(json_call("/v1/audio/speech", SPEECH | {"model": "fault:gate-body"}, f"X-Request-Id: {call_id}"))
        answer = wire.read_head()
        assert answer.headers["content-length"] == str(len(whole))
        pieces = wire.read_pieces(len(whole))
        received = b""
        while len(received) < len(whole) // 2:
            received += next(pieces)
        simulator.release(waiting=1)
        received += b"".join(pieces)

    assert (answer.status, answer.headers["content-type"]) == (200, "audio/mpeg")
    assert received == whole
    row = the_row(gateway, call_id)
    assert (row["outcome"], row["status"], row["response_bytes"]) == ("success", 200, len(whole))
    assert (row["route"], row["usage_source"]) == ("/v1/audio/speech", "estimated")


@pytest.mark.parametrize("fault", ["cut-body", "cut-body+split-50"])
def test_sound_that_breaks_off_is_no_whole_sound(
    gateway: Gateway, simulator: Simulator, call_id: str, fault: str
) -> None:
    with connect(gateway) as wire:
        wire.send(json_call("/v1/audio/speech", SPEECH | {"model": f"fault:{fault}"}, f"X-Request-Id: {call_id}"))
        answer = wire.read_head()
        assert answer.status == 200
        with pytest.raises(EOFError):
            for _ in wire.read_pieces(int(answer.headers["content-length"])):
                pass

    row = the_row(gateway, call_id)
    assert (row["outcome"], row["status"], row["error_code"]) == ("unreachable", 200, "upstream_disconnected")
    assert row["response_bytes"] > 0


def test_a_caller_that_leaves_stops_the_sound(gateway: Gateway, simulator: Simulator, call_id: str) -> None:
    with connect(gateway) as wire:
        wire.send(json_call("/v1/audio/speech", SPEECH | {"model": "fault:gate-body"}, f"X-Request-Id: {call_id}"))
        wire.read_head()
        next(wire.read_pieces(1))

    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert simulator.last.outcome == "disconnected"
    row = the_row(gateway, call_id)
    assert (row["outcome"], row["status"]) == ("client_cancelled", 200)
