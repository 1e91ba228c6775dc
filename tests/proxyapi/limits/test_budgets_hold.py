"""No budget is passed, however calls end: by upstream's own meter, fifty calls at once and fifty in a row, two workers.

What upstream has done is what it has counted itself, times the published prices (`tests.support.upstreams.metered`);
nothing of it comes from the ledger. Each way of ending has a key for each order, with a budget for a few calls. Only a
call with something that it does not contain may pass a budget, by as much as docs/keys.md says.

Over 300 lines, since all ways to end are tried beside each other, in one table.
"""

from __future__ import annotations

import json
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any

import httpx2
import pytest

from tests.chaos.processes import is_alive, send
from tests.support.callers.budgeted_keys import database, holds, settled
from tests.support.callers.key_box import insert
from tests.support.callers.wire import connect, head
from tests.support.servers.databases import new_database
from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import PATIENCE, Gateway, run_gateway
from tests.support.upstreams.metered import (
    CALL,
    HISTORY_TOKENS,
    LAST_TEXT,
    PAYER,
    SCRIPT,
    MeteredUpstream,
    price,
    run_metered_upstream,
)

CALLS = 50
MOST_HELD_SECONDS = 60
LIMIT = 80  # output tokens of a call
WORDS, DIGITS, BASE64 = "word " * 80, "1,0," * 100, "R0lGODlhAQABAIAAAP" * 20
SOUND = b"\xff\xfb\x90\x00" + bytes(48_000 - 4)  # three seconds at 128 kbit/s
CHATS, RESPONSES, SOUNDS = "/v1/chat/completions", "/v1/responses", "/v1/audio/transcriptions"
REFUSED = 429
LEFT = 0

numbers = count()
Caller = Callable[["Place", str, "Way"], int]


@dataclass(frozen=True)
class Place:
    """Where a way of ending is tried: a gateway, and its upstream."""

    gateway: Gateway
    upstream: MeteredUpstream


@dataclass(frozen=True)
class Way:
    """A way to end: the body, what upstream does, and what the caller does.

    `excess` is by how much docs/keys.md says that the budget can be passed. `is_free`: nothing is billed. `is_polled`:
    the gateway is one that asks upstream about responses.
    """

    script: str = "whole"
    body: dict[str, Any] = field(default_factory=dict)
    path: str = CHATS
    caller: Caller | None = None
    budget: str = "0.0006"
    excess: Decimal = Decimal(0)
    is_free: bool = False
    is_polled: bool = True

    def full_body(self) -> dict[str, Any]:
        if self.path == RESPONSES:
            return {"model": "gpt-4o-mini", "input": WORDS, "max_output_tokens": LIMIT, **self.body}
        usual = {"model": "gpt-4o-mini", "messages": asking(WORDS), "max_tokens": LIMIT}
        return {**usual, **self.body}


def asking(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def facts_of(key: str, way: Way) -> dict[str, str]:
    return {PAYER: key, CALL: f"call-{next(numbers)}", SCRIPT: way.script}


# --- callers


def read(place: Place, key: str, way: Way) -> int:
    """Reads the whole answer."""
    facts = {"Authorization": f"Bearer {key}", **facts_of(key, way)}
    client = httpx2.Client(base_url=place.gateway.url, timeout=PATIENCE, headers=facts)
    with client, suppress(httpx2.NetworkError, httpx2.RemoteProtocolError):
        return client.post(way.path, json=way.full_body()).status_code
    return LEFT


def leave(place: Place, key: str, way: Way, until: Callable[[str], object], text: bytes = b"") -> int:
    """Leaves once `until` is true, and `text` has come, or once anything but an answer with status 200 has."""
    facts = facts_of(key, way)
    content = json.dumps(way.full_body()).encode()
    headers = ["Content-Type: application/json", *(f"{name}: {value}" for name, value in facts.items())]
    with connect(place.gateway) as wire:
        wire.send(head("POST", way.path, *headers, key=key, length=len(content)) + content)
        wait_until(lambda: until(facts[CALL]) or select.select([wire.connection], [], [], 0)[0])
        if not text and not select.select([wire.connection], [], [], 0)[0]:
            return LEFT
        status = wire.read_head().status
        if status == 200:
            came = b""
            while text not in came:
                came += wire.connection.recv(65536) or text
        return status


def leave_before(place: Place, key: str, way: Way) -> int:
    return leave(place, key, way, lambda call: call in place.upstream.got)


def leave_in_the_middle(place: Place, key: str, way: Way) -> int:
    return leave(place, key, way, lambda _: False, LAST_TEXT.encode())


def leave_while_it_reasons(place: Place, key: str, way: Way) -> int:
    """Leaves when upstream has reasoned for longer than the effort makes usual."""
    began = time.monotonic()
    return leave(place, key, way, lambda call: call in place.upstream.got and time.monotonic() - began > 0.7)


def set_a_timeout(place: Place, key: str, way: Way) -> int:
    """In the simple API, with a time that is shorter than upstream's."""
    body = {**way.full_body(), "timeout": 20, "metadata": facts_of(key, way)}
    headers = {"Authorization": f"Bearer {key}"}
    return place.gateway.http.post("/openai", json=body, headers=headers).status_code


def transcribe(place: Place, key: str, way: Way) -> int:
    headers = {"Authorization": f"Bearer {key}", **facts_of(key, way)}
    data = {"model": "whisper-1", "response_format": "srt"}
    with httpx2.Client(base_url=place.gateway.url, timeout=PATIENCE, headers=headers) as client:
        return client.post(way.path, files={"file": ("a.mp3", SOUND, "audio/mpeg")}, data=data).status_code


def make_and(place: Place, key: str, way: Way, method: str, suffix: str) -> int:
    """Makes a background response, and does something to it at once."""
    headers = {"Authorization": f"Bearer {key}", **facts_of(key, way)}
    with httpx2.Client(base_url=place.gateway.url, timeout=PATIENCE, headers=headers) as client:
        made = client.post(way.path, json=way.full_body())
        if made.status_code == 200:
            client.request(method, f"{way.path}/{made.json()['id']}{suffix}").raise_for_status()
        return made.status_code


def leave_and_cancel(place: Place, key: str, way: Way) -> int:
    """Leaves the stream of a background response, lets upstream go on for a while, and cancels the response."""
    call, began = "", time.monotonic()

    def note(name: str) -> bool:
        nonlocal call
        call = name
        return False

    status = leave(place, key, way, note, LAST_TEXT.encode())
    if status == 200:
        wait_until(lambda: time.monotonic() - began > 0.7)
        headers = {"Authorization": f"Bearer {key}", **facts_of(key, way)}
        with httpx2.Client(base_url=place.gateway.url, timeout=PATIENCE, headers=headers) as client:
            client.post(f"{way.path}/resp_{call}/cancel").raise_for_status()
    return status


def make_and_cancel(place: Place, key: str, way: Way) -> int:
    return make_and(place, key, way, "POST", "/cancel")


def make_and_delete(place: Place, key: str, way: Way) -> int:
    return make_and(place, key, way, "DELETE", "")


STREAM: dict[str, Any] = {"stream": True}
REASONING: dict[str, Any] = {
    "model": "gpt-5", "reasoning_effort": "minimal", "max_completion_tokens": 1000, "max_tokens": None,
}  # fmt: skip
BACKGROUND: dict[str, Any] = {"background": True}
# All hosted tools that cost something beside tokens; of one call with them, $1.15 are reserved.
TOOLS: dict[str, Any] = {
    "tools": [
        {"type": "image_generation", "model": "gpt-image-1"},
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        {"type": "web_search"},
        {"type": "code_interpreter", "container": {"type": "auto"}},
    ]
}
TOOLS_BUDGET = "3"
LONG_STREAM: dict[str, Any] = {**BACKGROUND, **STREAM, "max_output_tokens": 3000}
HISTORY: dict[str, Any] = {"previous_response_id": "resp_of_long_ago"}
# By what one call costs more than was reserved for its earlier turns: there is room for one at a time.
BEYOND_SUPPOSED = price("gpt-4o-mini", HISTORY_TOKENS - 32_768, 0)
WAYS = {
    "normally": Way(),
    "a stream": Way(body=STREAM),
    "left before": Way(caller=leave_before),
    "left before, a stream": Way("part", STREAM, caller=leave_before),
    "left in the middle": Way("part", STREAM, caller=leave_in_the_middle),
    "left in the middle, with digits": Way("part", {**STREAM, "messages": asking(DIGITS)}, caller=leave_in_the_middle),
    "left while it reasons": Way("reason", {**STREAM, **REASONING}, caller=leave_while_it_reasons, budget="0.05"),
    "caller's timeout": Way(caller=set_a_timeout),
    "gateway's timeout": Way("hang"),
    "gateway's timeout, a stream": Way("part", STREAM),
    "upstream error 500": Way("fail-500", is_free=True, budget="1"),
    "upstream error 400": Way("fail-400", is_free=True, budget="1"),
    "cut before the answer": Way("cut"),
    "cut in the answer": Way("cut-body"),
    "an unreadable answer": Way("bad"),
    "a stream cut": Way("broken", STREAM),
    "subtitles": Way(path=SOUNDS, caller=transcribe, budget="0.006"),
    "image tool": Way(
        path=RESPONSES, body={"tools": [{"type": "image_generation", "model": "gpt-image-1"}]}, budget="2"
    ),
    "file search": Way(
        path=RESPONSES, body={"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, budget="0.1"
    ),
    "hosted tools": Way(path=RESPONSES, body=TOOLS, budget=TOOLS_BUDGET),
    "hosted tools, gateway's timeout": Way("hang", TOOLS, RESPONSES, budget=TOOLS_BUDGET),
    "hosted tools, cut before the answer": Way("cut", TOOLS, RESPONSES, budget=TOOLS_BUDGET),
    "hosted tools, cut in the answer": Way("cut-body", TOOLS, RESPONSES, budget=TOOLS_BUDGET),
    "hosted tools, an unreadable answer": Way("bad", TOOLS, RESPONSES, budget=TOOLS_BUDGET),
    "hosted tools, left in the middle": Way(
        "part", {**TOOLS, **STREAM}, RESPONSES, leave_in_the_middle, budget=TOOLS_BUDGET
    ),
    "hosted tools, a stream cut": Way("broken", {**TOOLS, **STREAM}, RESPONSES, budget=TOOLS_BUDGET),
    "hosted tools, in the background": Way(path=RESPONSES, body={**TOOLS, **BACKGROUND}, budget=TOOLS_BUDGET),
    "hosted tools, in the background, deleted": Way(
        path=RESPONSES, body={**TOOLS, **BACKGROUND}, caller=make_and_delete, budget=TOOLS_BUDGET
    ),
    "hosted tools, in the background, cancelled": Way(
        path=RESPONSES, body={**TOOLS, **BACKGROUND}, caller=make_and_cancel, budget=TOOLS_BUDGET
    ),
    "hosted tools, in the background, never polled": Way(
        path=RESPONSES, body={**TOOLS, **BACKGROUND}, budget=TOOLS_BUDGET, is_polled=False
    ),
    "a background stream, left and cancelled": Way("part", LONG_STREAM, RESPONSES, leave_and_cancel, budget="0.006"),
    "a background stream, left and cancelled, never polled": Way(
        "part", LONG_STREAM, RESPONSES, leave_and_cancel, budget="0.006", is_polled=False
    ),
    "a background stream, left": Way("part", LONG_STREAM, RESPONSES, leave_in_the_middle, budget="0.006"),
    "background": Way(path=RESPONSES, body=BACKGROUND),
    "background, cancelled": Way(path=RESPONSES, body=BACKGROUND, caller=make_and_cancel),
    "background, deleted": Way(path=RESPONSES, body=BACKGROUND, caller=make_and_delete),
    "long and in the background, deleted": Way(
        path=RESPONSES, body={**BACKGROUND, "max_output_tokens": 3000}, caller=make_and_delete, budget="0.006"
    ),
    "background, never polled": Way(path=RESPONSES, body=BACKGROUND, is_polled=False),
    "background, never polled, cancelled": Way(
        body=BACKGROUND, caller=make_and_cancel, path=RESPONSES, is_polled=False
    ),
    "background, never polled, deleted": Way(body=BACKGROUND, caller=make_and_delete, path=RESPONSES, is_polled=False),
    "a long history": Way(path=RESPONSES, body=HISTORY, budget="0.009", excess=BEYOND_SUPPOSED),
    "other tier answered": Way("priority"),
    "digits": Way(body={"messages": asking(DIGITS)}),
    "base64": Way(body={"messages": asking(BASE64)}),
}
KILLED = {
    "text": Way("hang", {"max_tokens": 100_000}, budget="0.2"),
    "hosted tools": Way("hang", TOOLS, RESPONSES, budget="6"),
}


# --- the calls


@pytest.fixture(scope="module")
def upstream() -> Iterator[MeteredUpstream]:
    with run_metered_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def places(
    upstream: MeteredUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[bool, Place]]:
    """Two gateways of two workers, with databases of their own: one that polls responses, and one that does not."""
    with ExitStack() as running:
        found = {}
        for is_polled in (True, False):
            url = running.enter_context(new_database(gateway_database))
            folder = tmp_path_factory.mktemp("holds")
            settings = {"WEB_CONCURRENCY": "2", "REQUEST_TIMEOUT": "3"}
            settings["BACKGROUND_POLL_SECONDS"] = "0.2" if is_polled else "0"
            gateway = running.enter_context(run_gateway(upstream.base_url, url, folder, **settings))
            found[is_polled] = Place(gateway, upstream)
        yield found


def make_keys(place: Place, ways: Iterable[str], order: str) -> dict[str, str]:
    """Makes a key for each of these ways, and returns the keys' texts; the gateway is waited for once."""
    with database(place.gateway.variables["DATABASE_URL"]) as connection:
        found: dict[str, str] = {}
        for name in ways:
            rules = {"budget_total": WAYS[name].budget, "shared_objects": ["*"]}
            _, found[name] = insert(connection, rules, f"{name}, {order}")
    place.gateway.wait_until_known(found[name])
    return found


def call_fifty_times(place: Place, key: str, way: Way, at_a_time: int) -> list[int]:
    with ThreadPoolExecutor(at_a_time) as pool:
        return list(pool.map(lambda _: (way.caller or read)(place, key, way), range(CALLS)))


def judge(place: Place, name: str, order: str, key: str, made: Sequence[int]) -> str:
    """Returns what is wrong after all calls of one way, empty if nothing is; waits until nothing is held any more."""
    way, key_name, url = WAYS[name], f"{name}, {order}", place.gateway.variables["DATABASE_URL"]
    wait_until(lambda: not place.upstream.working and not holds(url, key_name), MOST_HELD_SECONDS)
    done, counted, budget = place.upstream.spent[key], settled(url, key_name), Decimal(way.budget)
    if done > counted or counted > budget + way.excess:
        return f"upstream did {done}, {counted} were counted, and the budget is {budget}"
    if way.is_free:
        counted -= estimated_timeouts(url, key_name)
        return f"it is not billed, but {counted} were counted" if counted or done or REFUSED in made else ""
    return "" if done and REFUSED in made else f"not all was used: upstream did {done} of {budget}"


def estimated_timeouts(url: str, key_name: str) -> Decimal:
    """Returns the dollars of calls that upstream had not answered in time, which on a busy machine it may not."""
    with database(url) as connection:
        rows = connection.execute(
            "SELECT coalesce(sum(cost), 0) FROM usage_request WHERE key_name = %s AND outcome = 'timeout'", [key_name]
        )
        [[dollars]] = rows.fetchall()
    return Decimal(dollars)


@pytest.mark.parametrize("order", ["at once", "in a row"])
def test_no_budget_is_passed(places: dict[bool, Place], order: str) -> None:
    """All ways in one test, since they go on beside each other."""
    wrong: dict[str, str] = {}
    keys = {
        name: key
        for is_polled, place in places.items()
        for name, key in make_keys(place, (one for one in WAYS if WAYS[one].is_polled == is_polled), order).items()
    }
    at_a_time, ways_at_a_time = (CALLS, 3) if order == "at once" else (1, len(WAYS))
    with ThreadPoolExecutor(ways_at_a_time) as pool:
        calls = {
            name: pool.submit(call_fifty_times, places[way.is_polled], keys[name], way, at_a_time)
            for name, way in WAYS.items()
        }
    for name, made in calls.items():
        place = places[WAYS[name].is_polled]
        if said := judge(place, name, order, keys[name], made.result()):
            wrong[name] = said
    assert wrong == {}
    for place in places.values():
        assert place.gateway.manage("ledger", "verify").returncode == 0


def is_up(gateway: Gateway) -> bool:
    """Returns whether a worker answers; one that has just died may have taken the connection."""
    with suppress(httpx2.TransportError):
        return httpx2.get(f"{gateway.url}/healthz", timeout=2.0).is_success
    return False


def call_and_kill(place: Place, key: str, way: Way) -> int:
    """Makes fifty calls at once, kills all workers when each is at work or has ended; returns how many it admitted."""
    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(read, place, key, way) for _ in range(CALLS)]
        wait_until(lambda: sum(call.done() for call in calls) + place.upstream.working >= CALLS)
        send(signal.SIGKILL, [pid for pid in place.gateway.worker_pids if is_alive(pid)])
    return sum(call.result() != REFUSED for call in calls)  # on a busy machine some have timed out meanwhile


@pytest.mark.parametrize("kind", KILLED)
def test_killed_workers_pass_no_budget(places: dict[bool, Place], kind: str) -> None:
    """Three times fifty calls at once; each time all workers die while upstream works."""
    place, way, name = places[False], KILLED[kind], f"killed, {kind}"
    url = place.gateway.variables["DATABASE_URL"]
    with database(url) as connection:
        _, key = insert(connection, {"budget_total": way.budget, "shared_objects": ["*"]}, name)
    place.gateway.wait_until_known(key)
    admitted = 0
    for _ in range(3):
        admitted += call_and_kill(place, key, way)
        wait_until(lambda: is_up(place.gateway))
        wait_until(lambda: not place.upstream.working and not holds(url, name), MOST_HELD_SECONDS)

    done, counted = place.upstream.spent[key], settled(url, name)
    assert 0 < done <= counted <= Decimal(way.budget)
    assert admitted > 1
    assert place.gateway.manage("ledger", "verify").returncode == 0
