"""The limits of a form: one for each file, one for all of it. A refusal says which, and how to raise it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulator.server import Simulator
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway

KIB = 1024
FILE, FORM = 64 * KIB, 256 * KIB
BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
PICTURE = b"\x89PNG\r\n\x1a\n"
EDITS, TRANSCRIPTIONS, SIMPLE = "/v1/images/edits", "/v1/audio/transcriptions", "/openai/audio/transcriptions"


@pytest.fixture(scope="module")
def gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    limits = {"MAX_UPLOAD_BYTES": str(FILE), "MAX_FORM_BYTES": str(FORM)}
    with run_gateway(_simulator.base_url, gateway_database, tmp_path_factory.mktemp("forms"), **limits) as gateway:
        yield gateway


def send(gateway: Gateway, path: str, sizes: list[int], *, chunked: bool = False) -> Any:
    name = "image[]" if path == EDITS else "file"
    start = PICTURE if path == EDITS else b"\xff\xfb"
    kind = "png" if path == EDITS else "mp3"
    files = [(name, (f"{number}.{kind}", start.ljust(size, b"\0"))) for number, size in enumerate(sizes)]
    fields = {"model": "gpt-image-1", "prompt": "a cat"} if path == EDITS else {"model": "whisper-1"}
    request = gateway.http.build_request("POST", path, headers=BEARER, data=fields, files=files)
    if chunked:
        content = request.read()
        headers = {**BEARER, "content-type": request.headers["content-type"]}
        pieces = (content[at : at + 10_000] for at in range(0, len(content), 10_000))
        return gateway.http.post(path, headers=headers, content=pieces)
    return gateway.http.send(request)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("path", "sizes"),
    [
        (EDITS, [FILE] * 3),
        (EDITS, [FILE // 8] * 16),
        (TRANSCRIPTIONS, [FILE]),
        (SIMPLE, [FILE]),
    ],
)
def test_files_within_the_limits_pass(gateway: Gateway, path: str, sizes: list[int], chunked: bool) -> None:
    answer = send(gateway, path, sizes, chunked=chunked)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("path", "sizes", "setting"),
    [
        (EDITS, [FILE + 1], "MAX_UPLOAD_BYTES"),
        (EDITS, [KIB, FILE + 1, KIB], "MAX_UPLOAD_BYTES"),
        (EDITS, [KIB, KIB, FILE + 1], "MAX_UPLOAD_BYTES"),
        (EDITS, [FILE] * 4, "MAX_FORM_BYTES"),
        (EDITS, [FILE // 8] * 33, "MAX_FORM_BYTES"),
        (TRANSCRIPTIONS, [FILE + 1], "MAX_UPLOAD_BYTES"),
        (SIMPLE, [FILE + 1], "MAX_UPLOAD_BYTES"),
        (SIMPLE, [FILE + 2 * 1024 * KIB], "MAX_UPLOAD_BYTES"),
    ],
)
def test_the_words_say_which_was_passed(
    gateway: Gateway, path: str, sizes: list[int], setting: str, chunked: bool
) -> None:
    answer = send(gateway, path, sizes, chunked=chunked)
    assert answer.status_code == 413
    error = answer.json()["error"]
    assert error["code"] == "body_too_large"
    assert setting in error["message"]


def test_three_pictures_of_nine_mib_pass_as_it_is_shipped(start_gateway: Any) -> None:
    answer = send(start_gateway(), EDITS, [9 * KIB * KIB] * 3)
    assert answer.status_code == 200, answer.text
