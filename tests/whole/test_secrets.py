"""A secret that is planted wherever one can be is in no table, no journal, no dead letter and no log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.simulator.server import Simulator
from tests.support.inputs.spellings import SPELLINGS, is_gone
from tests.support.ledger.tables import dump_tables
from tests.support.polling import PATIENCE
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import Gateway

CALLS = 2_700  # each plant a hundred times
AT_ONCE = 24
# The secrets of the gateway, of a caller and of strangers; the middle of each is what must be found nowhere.
SECURITY_KEY = "planted-5ecurity-key-of-the-gateway"
ACCESS_TOKEN = "planted-4ccess-token-of-the-gateway"
TEAM_KEY = "sk-proj-P1antedTeamKeyP1antedTeamKey00"
OWN_KEY = "sk-P1antedOwnKeyOfTheCaller0000000000"
CHATPROXY_KEY = "cp-P1antedChatproxyKeyOfSomeone0123456789abcde"
TRACES = ("5ecurity-key-of", "4ccess-token-of", "P1antedTeamKey", "P1antedOwnKey", "P1antedChatproxyKey")
ALL = f"{SECURITY_KEY} {ACCESS_TOKEN} {TEAM_KEY} {OWN_KEY} {CHATPROXY_KEY}"

Plant = Callable[[httpx2.AsyncClient], Any]


def chat(content: Any, **fields: Any) -> dict[str, Any]:
    return {
        "security_key": SECURITY_KEY,
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": content}],
        **fields,
    }


def post(path: str, body: dict[str, Any], **options: Any) -> Plant:
    return lambda http: http.post(path, json=body, **options)


def form(fields: dict[str, str], name: str = "a.mp3") -> Plant:
    return lambda http: http.post(
        "/openai/audio/transcriptions",
        data={"security_key": SECURITY_KEY, **fields},
        files={"file": (name, b"ID3" + ALL.encode(), "audio/mpeg")},
    )


PLANTS: list[Plant] = [
    post("/openai", chat("hi")),
    post("/openai", chat(ALL)),
    post("/openai", chat([{"type": "text", "text": f"nested {ALL}"}])),
    post("/openai", chat(f"see https://example.com/?api_key={OWN_KEY}&access_token={ACCESS_TOKEN}#{CHATPROXY_KEY}")),
    post("/openai", chat(json.dumps({"Authorization": f"Bearer {TEAM_KEY}", "security_key": SECURITY_KEY}))),
    post("/openai", chat("x" * 16_300 + ALL)),
    post("/openai", chat("own key", openai_api_key=OWN_KEY, project="proj_x", organization="org-x")),
    post("/openai", chat("echoed by upstream", openai_api_key="sk-invalid-P1antedOwnKeyOfTheCaller")),
    post("/openai", chat("unknown field", authorization=f"Bearer {TEAM_KEY}", metadata={"note": ALL})),
    post("/openai", chat("bad model", model=CHATPROXY_KEY)),
    post("/openai", chat("ids"), headers={"X-Request-Id": ALL[:120], "User-Agent": f"app/1 {ALL}"}),
    post("/openai", chat("headers"), headers={"Authorization": f"Bearer {TEAM_KEY}", "Cookie": f"k={OWN_KEY}"}),
    post("/openai", chat("query"), params={"openai_api_key": OWN_KEY, "security_key": SECURITY_KEY}),
    post("/openai", chat(ALL, model="fault:status-500")),
    post("/openai", chat(ALL, model="fault:cut")),
    post("/openai", chat("wrong key", security_key=f"{SECURITY_KEY}-wrong")),
    post("/openai", {"security_key": SECURITY_KEY, "model": 5, "note": ALL}),
    post("/chatgpt", {"security_key": SECURITY_KEY, "prompt": ALL, "systemMessage": ALL}),
    post("/embeddings", {"security_key": SECURITY_KEY, "input": [ALL, "b"], "user": TEAM_KEY}),
    post("/openai2", {"security_key": SECURITY_KEY, "model": "gpt-4o", "input": ALL, "instructions": ALL}),
    post("/openai2", {"security_key": SECURITY_KEY, "model": "gpt-4o", "input": ALL, "stream": True}),
    post("/openai2", {"security_key": SECURITY_KEY, "model": "fault:cut-stream-6", "input": ALL, "stream": True}),
    lambda http: http.get("/openai2/resp_abc123", params={"security_key": SECURITY_KEY, "openai_api_key": OWN_KEY}),
    lambda http: http.get(f"/openai2/{CHATPROXY_KEY}", params={"security_key": SECURITY_KEY}),
    lambda http: http.get("/log_errors", params={"access_token": ACCESS_TOKEN}),
    form({"prompt": ALL, "openai_api_key": OWN_KEY}),
    form({"response_format": "text"}, name=f"{OWN_KEY}.mp3"),
]


async def call_all(url: str) -> None:
    """Every plant in turn, `CALLS` in all, `AT_ONCE` at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def call(http: httpx2.AsyncClient, plant: Plant) -> None:
        async with turns:
            with suppress(httpx2.RemoteProtocolError):  # a stream that was to be cut
                await plant(http)

    async with httpx2.AsyncClient(base_url=url, timeout=60) as http:
        await asyncio.gather(*(call(http, PLANTS[number % len(PLANTS)]) for number in range(CALLS)))


def find(text: str, trace: str) -> str:
    """Where it is, for who has to mend it."""
    at = text.index(trace)
    return text[max(0, at - 100) : at + 100]


@pytest.fixture(scope="module")
def gateway_database(gateway_database: str) -> Iterator[str]:
    """A database of these tests alone, since all of it is searched."""
    with new_database(gateway_database) as url:
        yield url


def test_a_planted_secret_is_found_nowhere(
    start_gateway: Callable[..., Gateway], simulator: Simulator, gateway_database: str, tmp_path: Path
) -> None:
    gateway = start_gateway(SECURITY_KEY=SECURITY_KEY, ACCESS_TOKEN=ACCESS_TOKEN, OPENAI_API_KEY=TEAM_KEY)
    asyncio.run(call_all(gateway.url))
    gateway.stop()  # ships what is waiting

    kept = dump_tables(gateway_database)
    files = [path.read_bytes().decode("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert kept.count("[redacted]") > CALLS / 2
    for text in (kept, gateway.log, *files):
        assert [find(text, trace) for trace in TRACES if trace in text] == []


def test_the_journal_itself_has_no_secret(
    start_gateway: Callable[..., Gateway], simulator: Simulator, tmp_path: Path
) -> None:
    gateway = start_gateway(SECURITY_KEY=SECURITY_KEY, ACCESS_TOKEN=ACCESS_TOKEN, OPENAI_API_KEY=TEAM_KEY)
    with httpx2.Client(base_url=gateway.url, timeout=PATIENCE) as http:
        for plant in PLANTS:
            with suppress(httpx2.RemoteProtocolError):
                plant(http)  # type: ignore[arg-type]  # the same methods
    journal = b"".join(path.read_bytes() for path in (tmp_path / "journal").glob("*.journal")).decode()

    assert journal.count('"kind":"end"') >= len(PLANTS) - 5
    assert [find(journal, trace) for trace in TRACES if trace in journal] == []


def test_no_spelling_of_a_secret_is_in_a_table_the_journal_or_the_log(
    start_gateway: Callable[..., Gateway], simulator: Simulator, gateway_database: str, tmp_path: Path
) -> None:
    gateway = start_gateway(SECURITY_KEY=SECURITY_KEY, ACCESS_TOKEN=ACCESS_TOKEN, OPENAI_API_KEY=TEAM_KEY)
    written = [write(secret) for write in SPELLINGS.values() for secret in (SECURITY_KEY, TEAM_KEY, CHATPROXY_KEY)]
    with httpx2.Client(base_url=gateway.url, timeout=PATIENCE) as http:
        for text in written:
            one_line = text.replace("\n", "")
            body = {"security_key": SECURITY_KEY, "input": text, "user": text}
            assert http.post("/embeddings", json=body, headers={"User-Agent": one_line}).status_code == 200
            http.get(f"/static/{quote(one_line)}", headers={"User-Agent": one_line})
    journal = b"".join(path.read_bytes() for path in (tmp_path / "journal").glob("*.journal")).decode()
    gateway.stop()  # ships what is waiting

    for kept in (dump_tables(gateway_database), journal, gateway.log):
        assert [text for text in written for form in (text, json.dumps(text)[1:-1]) if not is_gone(form, kept)] == []
