"""`POST /openai/audio/transcriptions`: a form with a file up, upstream's own words down."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.audio import TranscriptionVerbose

from tests.simulator.endpoints.audio_formats import Transcript, srt, vtt
from tests.simulator.server import Simulator
from tests.support.servers.gateway import SECURITY_KEY, UPSTREAM_KEY, Gateway

PATH = "/openai/audio/transcriptions"
SOUND = b"\xff\xfb\x90\x00" + bytes(range(256)) * 300
FILE = ("audio.mp3", SOUND, "audio/mpeg")
SAID = Transcript(
    ("Hello, this is a transcription of the audio file.", f"It has {len(SOUND)} bytes — café ✓"), len(SOUND), "english"
)


def transcribe(gateway: Gateway, file: Any = FILE, **fields: Any) -> Any:
    return gateway.http.post(PATH, data={"security_key": SECURITY_KEY, **fields}, files={"file": file})


def test_it_works(gateway: Gateway, simulator: Simulator) -> None:
    answer = transcribe(gateway)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["text"] == SAID.text
    assert simulator.last.method == "POST"
    assert simulator.last.path == "/v1/audio/transcriptions"
    assert simulator.last.form == {"model": ["whisper-1"]}
    [file] = simulator.last.files
    assert (file.name, file.filename, file.content_type, file.data) == ("file", *FILE[:1], "audio/mpeg", SOUND)
    assert simulator.last.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["route"]) == ("success", 200, PATH)
    assert row["request_model"] == "whisper-1"
    assert row["stream"] is False
    assert row["audio_seconds"] == answer.json()["usage"]["seconds"] == SAID.seconds
    assert row["request_bytes"] > len(SOUND)
    assert row["response_bytes"] == len(answer.content)


def test_the_sdk_gets_its_transcription(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk("/openai") as client:
        result = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=FILE, language="en")

    assert result.text == SAID.text
    assert simulator.last.form == {"model": ["gpt-4o-transcribe"], "language": ["en"]}
    assert simulator.last.files[0].data == SOUND


def test_the_sdk_gets_its_timestamps(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk("/openai") as client:
        result = client.audio.transcriptions.create(
            model="whisper-1",
            file=FILE,
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )

    assert isinstance(result, TranscriptionVerbose)
    assert result.words
    assert result.segments
    assert simulator.last.form["timestamp_granularities[]"] == ["word", "segment"]


@pytest.mark.parametrize(
    ("response_format", "body"), [("text", SAID.text + "\n"), ("srt", srt(SAID)), ("vtt", vtt(SAID))]
)
def test_text_stays_text(gateway: Gateway, simulator: Simulator, response_format: str, body: str) -> None:
    answer = transcribe(gateway, response_format=response_format)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.content == body.encode()
    assert simulator.last.form == {"model": ["whisper-1"], "response_format": [response_format]}
    row = gateway.row(answer)
    assert (row["outcome"], row["usage_source"]) == ("success", "estimated")
    assert row["audio_seconds"] > 0
    assert row["cost"] > 0


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt"])
def test_the_sdk_gets_text_as_a_string(gateway: Gateway, simulator: Simulator, response_format: Any) -> None:
    with gateway.sdk("/openai") as client:
        result: Any = client.audio.transcriptions.create(model="whisper-1", file=FILE, response_format=response_format)

    assert isinstance(result, str)
    assert SAID.sentences[1] in result


@pytest.mark.parametrize("response_format", ["json", "verbose_json"])
def test_json_passes_byte_for_byte(gateway: Gateway, simulator: Simulator, response_format: str) -> None:
    answer = transcribe(gateway, response_format=response_format)

    assert answer.headers["content-type"] == "application/json"
    assert answer.content.startswith(b'{\n  "')  # as upstream lays it out
    assert answer.content.endswith(b"}\n")
    assert answer.json()["text"] == SAID.text
    assert ("segments" in answer.json()) is (response_format == "verbose_json")
    assert gateway.row(answer)["usage"] == answer.json()["usage"]


def test_diarized_json_passes(gateway: Gateway, simulator: Simulator) -> None:
    answer = transcribe(gateway, model="gpt-4o-transcribe-diarize", response_format="diarized_json")

    assert [segment["speaker"] for segment in answer.json()["segments"]] == ["A", "B"]
    row = gateway.row(answer)
    assert row["audio_input_tokens"] == answer.json()["usage"]["input_token_details"]["audio_tokens"]
    assert row["output_tokens"] == answer.json()["usage"]["output_tokens"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("model", ["gpt-4o-mini-transcribe"]),
        ("language", ["de"]),
        ("prompt", ["Names: Jürgen, “Zoë” ✓\r\nand a second line"]),
        ("temperature", ["0.4"]),
        ("temperature", ["0"]),
        ("timestamp_granularities[]", ["word"]),
        ("timestamp_granularities[]", ["segment", "word"]),
        ("include[]", ["logprobs"]),
        ("chunking_strategy", ["auto"]),
        ("known_speaker_names[]", ["Ann", "Bob"]),
        ("prompt", [""]),
    ],
)
def test_a_field_goes_up(gateway: Gateway, simulator: Simulator, name: str, values: list[str]) -> None:
    answer = transcribe(gateway, **{name: values})

    assert answer.status_code == 200, answer.text
    assert simulator.last.form == {"model": ["whisper-1"], name: values}


def test_an_unknown_field_is_upstreams_to_judge(gateway: Gateway, simulator: Simulator) -> None:
    answer = transcribe(gateway, brand_new="1")

    assert simulator.last.form == {"model": ["whisper-1"], "brand_new": ["1"]}
    assert answer.status_code == 400
    assert "brand_new" in answer.json()["error"]["message"]


def test_our_fields_never_go_up(gateway: Gateway, simulator: Simulator) -> None:
    own = {"openai_api_key": "sk-own", "project": "proj_1", "organization": "org-1", "timeout": "5000"}
    answer = transcribe(gateway, **own, access_token="none", language="en")

    assert answer.status_code == 200
    assert simulator.last.form == {"model": ["whisper-1"], "language": ["en"]}
    assert simulator.last.query == ""
    assert simulator.last.header("authorization") == "Bearer sk-own"
    assert simulator.last.header("openai-project") == "proj_1"
    assert simulator.last.header("openai-organization") == "org-1"


@pytest.mark.parametrize("model", ["", None])
def test_without_a_model_it_is_whisper(gateway: Gateway, simulator: Simulator, model: str | None) -> None:
    answer = transcribe(gateway, **({} if model is None else {"model": model}))

    assert answer.status_code == 200
    assert simulator.last.form == {"model": ["whisper-1"]}


@pytest.mark.parametrize(
    "name", ["Überprüfung — größer.mp3", "録音 1.mp3", "a b;c=d,e.mp3", "it's 100%.mp3", 'say "hi".mp3', "🦄.mp3"]
)
def test_the_files_name_goes_up(gateway: Gateway, simulator: Simulator, name: str) -> None:
    answer = transcribe(gateway, (name, SOUND, "audio/mpeg"))

    assert answer.status_code == 200, answer.text
    # What a form cannot hold is escaped as browsers do it (WHATWG HTML, multipart/form-data).
    assert simulator.last.files[0].filename == name.replace('"', "%22")


@pytest.mark.parametrize(
    "kind", ["audio/mpeg", "audio/x-m4a", "video/mp4", "application/octet-stream", "audio/ogg; codecs=opus"]
)
def test_the_files_content_type_goes_up(gateway: Gateway, simulator: Simulator, kind: str) -> None:
    assert transcribe(gateway, ("audio.ogg", SOUND, kind)).status_code == 200
    assert simulator.last.files[0].content_type == kind


def test_a_file_without_a_content_type_gets_that_of_its_name(gateway: Gateway, simulator: Simulator) -> None:
    disposition = b'--x\r\nContent-Disposition: form-data; name="file"; filename="audio.mp3"\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x", "authorization": f"Bearer {SECURITY_KEY}"}
    answer = gateway.http.post(PATH, content=disposition + SOUND + b"\r\n--x--\r\n", headers=headers)

    assert answer.status_code == 200
    [file] = simulator.last.files
    assert (file.filename, file.content_type, file.data) == ("audio.mp3", "audio/mpeg", SOUND)


def test_a_content_type_cannot_add_a_header(gateway: Gateway, simulator: Simulator) -> None:
    kind = "audio/ogg; codecs*=utf-8''a%0D%0AX-Smuggled:%201"
    assert transcribe(gateway, ("audio.ogg", SOUND, kind)).status_code == 200

    assert simulator.last.files[0].content_type == kind
    assert b"\r\nx-smuggled" not in simulator.last.body.lower()


@pytest.mark.parametrize("size", [1, 64 * 1024, 5_000_000])
def test_every_byte_of_the_file_goes_up(gateway: Gateway, simulator: Simulator, size: int) -> None:
    sound = (bytes(range(256)) * (size // 256 + 1))[:size]

    assert transcribe(gateway, ("audio.mp3", sound, "audio/mpeg")).status_code == 200
    assert simulator.last.files[0].data == sound


def test_bytes_that_look_like_a_form_stay_bytes(gateway: Gateway, simulator: Simulator) -> None:
    sound = b'\r\n--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nno\r\n--x--\r\n' + SOUND

    assert transcribe(gateway, ("audio.mp3", sound, "audio/mpeg")).status_code == 200
    assert simulator.last.files[0].data == sound
    assert simulator.last.form == {"model": ["whisper-1"]}


def test_a_form_without_a_file_is_refused(gateway: Gateway, simulator: Simulator) -> None:
    files = {"security_key": (None, SECURITY_KEY), "model": (None, "whisper-1")}
    answer = gateway.http.post(PATH, files=files)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("file", "missing_required_parameter")
    assert simulator.requests == []
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 400, "missing_required_parameter")


def test_a_file_that_is_only_text_is_refused(gateway: Gateway, simulator: Simulator) -> None:
    files = {"security_key": (None, SECURITY_KEY), "file": (None, "/etc/passwd")}
    answer = gateway.http.post(PATH, files=files)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "file"
    assert simulator.requests == []


@pytest.mark.parametrize("name", ["model", "stream", "timeout", "openai_api_key", "project", "language"])
def test_a_field_that_is_a_file_is_refused(gateway: Gateway, simulator: Simulator, name: str) -> None:
    files: dict[str, Any] = {
        "security_key": (None, SECURITY_KEY),
        "file": FILE,
        name: ("text.txt", b"whisper-1", "text/plain"),
    }
    answer = gateway.http.post(PATH, files=files)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == name
    assert simulator.requests == []


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b'{"model": "whisper-1"}', 415),
        ("application/x-www-form-urlencoded", b"model=whisper-1", 415),
        ("audio/mpeg", SOUND, 415),
        ("multipart/form-data", b"--x--", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"no form at all", 400),
    ],
)
def test_what_is_no_form_is_refused(
    gateway: Gateway, simulator: Simulator, content_type: str, body: bytes, status: int
) -> None:
    headers = {"content-type": content_type, "authorization": f"Bearer {SECURITY_KEY}"}
    answer = gateway.http.post(PATH, content=body, headers=headers)

    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert simulator.requests == []


def test_upstreams_refusal_of_a_file_passes(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk("/openai") as client, pytest.raises(openai.BadRequestError, match="Unrecognized file format"):
        client.audio.transcriptions.create(model="whisper-1", file=("notes.txt", b"text", "text/plain"))
    assert len(simulator.requests) == 1


def test_an_empty_file_is_upstreams_to_judge(gateway: Gateway, simulator: Simulator) -> None:
    answer = transcribe(gateway, ("audio.mp3", b"", "audio/mpeg"))

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "audio_too_short"
    assert simulator.last.files[0].data == b""


def test_whisper_ignores_stream(gateway: Gateway, simulator: Simulator) -> None:
    answer = transcribe(gateway, stream="true")

    assert simulator.last.form == {"model": ["whisper-1"], "stream": ["true"]}
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.content)["text"] == SAID.text
