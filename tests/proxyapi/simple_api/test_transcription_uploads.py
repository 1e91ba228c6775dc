"""How a form of the simple API goes up: a short one whole, a long one while it arrives, both without our fields."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import make_key
from tests.support.callers.wire import Wire, WireAnswer, connect, head, in_chunks
from tests.support.inputs.varied_forms import FILE, SOUND, WHISPER, field, write
from tests.support.servers.gateway import SECURITY_KEY, UPSTREAM_KEY, Gateway

MIB = 1024 * 1024
PATH = "/openai/audio/transcriptions"
FORM = "Content-Type: multipart/form-data; boundary=the-boundary"
LONG = (FILE[0], b"\xff\xfb\x90\x00" + bytes(3 * MIB))
LANGUAGE, KEY = field(b"language", b"de"), field(b"security_key", SECURITY_KEY.encode())
OWN_KEY = "sk-own"
ACCOUNT = field(b"openai_api_key", OWN_KEY.encode())


def ask(gateway: Gateway, *parts: tuple[bytes, bytes], key: str = SECURITY_KEY, path: str = PATH) -> WireAnswer:
    form = write(parts)
    with connect(gateway) as wire:
        wire.send(head("POST", path, FORM, length=len(form), key=key) + form)
        return wire.read_answer()


@pytest.fixture(scope="module")
def limited(gateway: Gateway) -> str:
    return gateway.make_key(f"whispers {uuid.uuid4()}", "--model", "whisper-*")


@pytest.mark.parametrize("file", [FILE, LONG], ids=["short", "long"])
def test_all_but_our_fields_goes_up_byte_for_byte(gateway: Gateway, simulator: Simulator, file: Any) -> None:
    ours = [field(b"timeout", b"60000"), KEY, field(b"project", b"proj_1")]
    answer = ask(gateway, ours[0], LANGUAGE, ours[1], ours[2], WHISPER, file, field(b"access_token", b"x"))

    assert answer.status == 200
    assert simulator.last.body == write([LANGUAGE, WHISPER, file])
    assert simulator.last.header("content-type") == FORM.partition(": ")[2]
    assert simulator.last.header("openai-project") == "proj_1"


@pytest.mark.parametrize("key", [SECURITY_KEY, ""], ids=["key in the head", "key in the form"])
@pytest.mark.parametrize("file", [FILE, LONG], ids=["short", "long"])
def test_the_default_model_is_the_last_field(
    gateway: Gateway, gateway_database: str, simulator: Simulator, file: Any, key: str
) -> None:
    empty = field(b"model", b"")
    answer = ask(gateway, empty, file, LANGUAGE, KEY, key=key)

    assert answer.status == 200
    assert simulator.last.body == write([file, LANGUAGE, WHISPER])
    row = gateway.row(answer.headers["x-proxy-request-id"])
    assert row["request_model"] == "whisper-1"
    query = "SELECT request_body FROM usage_requestbody WHERE request_id = %s"
    with psycopg.connect(gateway_database) as database:
        [(kept,)] = database.execute(query, [row["request_id"]]).fetchall()
    assert kept.startswith("model: \nfile: <speech.mp3, audio/mpeg, ")
    assert kept.endswith(" bytes>\nlanguage: de\nsecurity_key: [redacted]")


@pytest.mark.parametrize(
    ("file", "key", "has_length"), [(FILE, SECURITY_KEY, True), (LONG, "", True), (LONG, SECURITY_KEY, False)]
)
def test_a_form_that_is_here_has_a_length(
    gateway: Gateway, simulator: Simulator, file: Any, key: str, has_length: bool
) -> None:
    assert ask(gateway, WHISPER, KEY, file, key=key).status == 200
    sent = simulator.last
    assert sent.header("content-length") == (str(len(sent.body)) if has_length else None)


def begin(wire: Wire, *parts: tuple[bytes, bytes], size: int = 2 * MIB) -> None:
    """Sends the beginning of a form, which goes on in chunks."""
    wire.send(head("POST", PATH, FORM, "Transfer-Encoding: chunked"))
    start = write([*parts, (FILE[0], b"")]).rpartition(b"\r\n--the-boundary--")[0]
    wire.send(in_chunks(start, bytes(size)).removesuffix(b"0\r\n\r\n"))


def end_of(*parts: tuple[bytes, bytes]) -> bytes:
    return in_chunks(b"\r\n" + write(parts))


def test_a_long_form_is_on_its_way_before_it_is_here(gateway: Gateway, simulator: Simulator) -> None:
    with connect(gateway) as wire:
        begin(wire, LANGUAGE, KEY)
        simulator.wait_until(lambda: simulator.in_flight == 1)
        assert simulator.requests == []
        wire.send(end_of(WHISPER))
        assert wire.read_answer().status == 200

    assert simulator.last.body == write([LANGUAGE, (FILE[0], bytes(2 * MIB)), WHISPER])


@pytest.mark.parametrize("refused", [b"gpt-4o-transcribe", b"whisper-1\n", None], ids=["not allowed", "odd", "twice"])
def test_what_a_key_may_not_send_never_ends_upstream(
    gateway: Gateway, simulator: Simulator, limited: str, refused: bytes | None
) -> None:
    models = [WHISPER, WHISPER] if refused is None else [field(b"model", refused)]
    answer = ask(gateway, LONG, *models, key=limited)

    assert answer.status in {400, 403}
    assert answer.error["param"] == "model"
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert "completed" not in [request.outcome for request in simulator.requests]
    assert gateway.row(answer.headers["x-proxy-request-id"])["outcome"] == "rejected"


def test_the_default_model_must_be_allowed_too(gateway: Gateway, simulator: Simulator, limited: str) -> None:
    other = gateway.make_key(f"no whispers {uuid.uuid4()}", "--model", "gpt-*")

    assert [ask(gateway, FILE, key=key).status for key in (limited, other)] == [200, 403]


@pytest.mark.parametrize("name", [b"openai_api_key", b"project", b"organization", b"timeout", b"security_key"])
def test_a_field_for_us_that_comes_too_late_is_refused(gateway: Gateway, simulator: Simulator, name: bytes) -> None:
    answer = ask(gateway, WHISPER, LONG, field(name, b"100000"))

    assert (answer.status, answer.error["param"]) == (400, name.decode())
    assert "in front of its file" in answer.error["message"]
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert "completed" not in [request.outcome for request in simulator.requests]


@pytest.mark.parametrize(
    "late", [KEY, field(b"timeout", b""), field(b"access_token", b"x")], ids=["the same key", "empty", "access_token"]
)
def test_what_changes_nothing_may_come_late(gateway: Gateway, simulator: Simulator, late: Any) -> None:
    assert ask(gateway, WHISPER, LONG, late).status == 200
    assert simulator.last.body == write([WHISPER, LONG])


@pytest.mark.parametrize("parts", [[ACCOUNT, LONG], [FILE, ACCOUNT]], ids=["long", "short"])
def test_an_account_in_time_pays(gateway: Gateway, simulator: Simulator, parts: Any) -> None:
    assert ask(gateway, *parts).status == 200
    assert simulator.last.header("authorization") == f"Bearer {OWN_KEY}"
    assert ask(gateway, *parts[:1] if parts[0] is FILE else [LONG]).status == 200
    assert simulator.last.header("authorization") == f"Bearer {UPSTREAM_KEY}"


def test_a_key_in_the_form_counts_before_one_in_the_head(gateway: Gateway, limited: str) -> None:
    name = f"in the form {uuid.uuid4()}"
    key = field(b"security_key", make_key(gateway, name).encode())
    answers = [ask(gateway, key, file, key=limited) for file in (FILE, LONG)]

    assert [gateway.row(answer.headers["x-proxy-request-id"])["key_name"] for answer in answers] == [name] * 2


def test_the_length_of_the_sound_is_known_without_the_sound(gateway: Gateway, simulator: Simulator) -> None:
    """Upstream states no usage for subtitles."""
    answer = ask(gateway, WHISPER, FILE, field(b"response_format", b"srt"))

    row = gateway.row(answer.headers["x-proxy-request-id"])
    assert (row["usage_source"], row["request_bytes"] > len(SOUND)) == ("estimated", True)
    assert row["audio_seconds"] > 0
