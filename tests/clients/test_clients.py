"""`make clients`: third-party clients talk to `/v1` as they come, with their base URL and key changed only.

Each script holds one conversation and says itself what its client must see. Here is what the other two ends must
have seen: upstream the client's own bytes, the ledger one row for each call.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatproxy.configuration import setting_reader
from proxyapi.models import AccessKey
from proxyapi.pages.handover.handover import Handover
from tests.clients.tap import Tap, tapped
from tests.simulator.server import Simulator
from tests.support.callers.copied import run_copied
from tests.support.servers.gateway import SECURITY_KEY, UPSTREAM_KEY, Gateway

HERE = Path(__file__).resolve().parent
PROGRAMS = setting_reader.BASE_DIR / ".venv-clients" / "bin"
LONGEST = 180  # seconds; a conversation takes less than ten, its first imports on a busy machine more
SOUND = b"\xff\xfb\x90\x00" + bytes(range(256)) * 300
# What the gateway adds to a streamed chat completion that does not ask for usage
# (`proxyapi.streams.chat_usage_request`).
USAGE_ASKED = b'{"stream_options":{"include_usage":true},'


@dataclass(frozen=True)
class Call:
    """One call of a conversation as the ledger and upstream must have seen it."""

    route: str
    stream: bool = False
    asks_usage: bool = True
    status: int = 200
    outcome: str = "success"
    priced: bool = True
    reaches_upstream: bool = True
    in_ledger: bool = True


CHAT = Call("/v1/chat/completions")
CHAT_STREAM = Call("/v1/chat/completions", stream=True)
CHAT_STREAM_WITHOUT_USAGE = Call("/v1/chat/completions", stream=True, asks_usage=False)
RESPONSE = Call("/v1/responses")
RESPONSE_STREAM = Call("/v1/responses", stream=True)
EMBEDDING = Call("/v1/embeddings")

CONVERSATIONS = {
    "node/openai_sdk.mjs": [
        CHAT,
        *[CHAT, CHAT],  # a tool call and its round trip
        CHAT_STREAM_WITHOUT_USAGE,
        CHAT_STREAM,  # `.stream()`
        *[CHAT_STREAM_WITHOUT_USAGE, CHAT_STREAM_WITHOUT_USAGE],  # `.runTools()`
        RESPONSE,
        RESPONSE_STREAM,
        RESPONSE_STREAM,  # `.stream()`
        *[RESPONSE, RESPONSE],  # a tool call and its round trip
        EMBEDDING,
        Call("/v1/audio/transcriptions"),
        Call("/v1/chat/completions", status=401, reaches_upstream=False, in_ledger=False),
        Call("/v1/files", status=404, outcome="rejected", priced=False, reaches_upstream=False),
        Call("/v1/chat/completions", status=404, outcome="upstream_error", priced=False),
        Call("/v1/chat/completions", stream=True, asks_usage=False, outcome="client_cancelled", priced=False),
    ],
    "node/vercel_ai.mjs": [
        *[RESPONSE, RESPONSE, RESPONSE_STREAM, RESPONSE_STREAM],
        *[RESPONSE, RESPONSE, RESPONSE_STREAM, RESPONSE_STREAM],
        *[CHAT, CHAT, CHAT_STREAM, CHAT_STREAM],
    ],
    "python/with_langchain.py": [
        *[CHAT, CHAT, CHAT_STREAM_WITHOUT_USAGE],
        *[CHAT, CHAT, CHAT_STREAM],
        *[RESPONSE, RESPONSE, RESPONSE_STREAM],
        EMBEDDING,
    ],
    "python/with_llama_index.py": [
        *[CHAT, CHAT_STREAM_WITHOUT_USAGE, CHAT_STREAM_WITHOUT_USAGE],
        *[RESPONSE, RESPONSE_STREAM, RESPONSE_STREAM],
    ],
}


@pytest.fixture
def tap(gateway: Gateway) -> Iterator[Tap]:
    with tapped(gateway.url) as tap:
        yield tap


def converse(script: str, url: str, tmp_path: Path) -> None:
    """Runs a script to its end, with nothing of this process's environment."""
    sound = tmp_path / "sound.mp3"
    sound.write_bytes(SOUND)
    program = PROGRAMS / ("node" if script.endswith(".mjs") else "python")
    done = subprocess.run(
        [program, HERE / script, sound],
        env={"BASE_URL": f"{url}/v1", "KEY": SECURITY_KEY, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("script", CONVERSATIONS)
def test_a_client_holds_its_conversation(
    script: str, gateway: Gateway, simulator: Simulator, tap: Tap, tmp_path: Path
) -> None:
    calls = CONVERSATIONS[script]
    earlier = gateway.count()

    converse(script, tap.url, tmp_path)

    assert [sent.path for sent in tap.sent] == [call.route for call in calls]
    check_upstream([(call, sent.body) for call, sent in zip(calls, tap.sent, strict=True)], simulator)
    check_ledger([(call, len(sent.body)) for call, sent in zip(calls, tap.sent, strict=True)], gateway, earlier)


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-5-pro", "text-embedding-3-small"])
def test_what_the_page_of_a_new_key_has_for_them_works(model: str, gateway: Gateway, tmp_path: Path) -> None:
    """The tabs Node and LangChain, as they are copied; those of curl and Python are tested beside their module."""
    key = AccessKey(allowed_models=[model])
    copied = {tab.label: tab.snippets[0].text for tab in Handover(key, SECURITY_KEY, gateway.url).tabs}
    (tmp_path / "node_modules").symlink_to(HERE / "node" / "node_modules")
    earlier = gateway.count()

    assert run_copied(copied["Node"], tmp_path, str(PROGRAMS / "node"), "--input-type=module", "-e").strip()
    assert run_copied(copied["LangChain"], tmp_path, str(PROGRAMS / "python"), "-I", "-c").strip()
    rows = gateway.rows(at_least=earlier + 2)[earlier:]
    assert [row["request_model"] for row in rows] == [model, model]


def check_upstream(sent: list[tuple[Call, bytes]], simulator: Simulator) -> None:
    """Upstream got the client's bytes, except for the usage that the gateway asks for; and never its key."""
    expected = [(call, body) for call, body in sent if call.reaches_upstream]
    simulator.wait_until(lambda: not simulator.in_flight)
    for (call, body), received in zip(expected, simulator.requests, strict=True):
        assert received.path == call.route
        assert received.body == (body if call.asks_usage else body.replace(b"{", USAGE_ASKED, 1))
        assert received.header("authorization") == f"Bearer {UPSTREAM_KEY}"
        assert SECURITY_KEY not in str(received.headers)
        assert received.outcome == ("disconnected" if call.outcome == "client_cancelled" else "completed")


def check_ledger(sent: list[tuple[Call, int]], gateway: Gateway, earlier: int) -> None:
    """One row for each call, in order, with what it consumed."""
    expected = [(call, size) for call, size in sent if call.in_ledger]
    rows = gateway.rows(at_least=earlier + len(expected))[earlier:]
    for (call, size), row in zip(expected, rows, strict=True):
        assert (row["route"], row["stream"]) == (call.route, call.stream)
        assert (row["status"], row["outcome"], row["request_bytes"]) == (call.status, call.outcome, size)
        if call.priced:
            assert row["usage_source"] == "exact"
            assert row["input_tokens"] > 0
            assert call == EMBEDDING or row["output_tokens"] > 0
            assert row["cost"] > 0
