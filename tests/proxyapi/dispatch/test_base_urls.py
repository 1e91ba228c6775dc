"""A client whose base URL is nearly right gets a 404 that says which one is: for every known path of every family."""

from __future__ import annotations

import pytest

from proxyapi.dispatch import base_urls
from proxyapi.dispatch.base_urls import BASE_URL, meant_path, nearest_path
from proxyapi.routes import FAMILIES, Route, find_route
from tests.simulator.server import Simulator
from tests.support.callers.wire import connect, head
from tests.support.servers.gateway import SECURITY_KEY, Gateway

PATHS = [path.replace("{id}", "x_1") for family in FAMILIES for path in family.paths]
# What a client makes of a base URL that is nearly right, and a path.
WRONG = (
    "{}", "/{}", "//v1{}", "/v1/{}", "/v1//{}", "/v1/v1{}", "/v1/v1/{}", "/v1/v1/v1{}", "//v1//v1{}", "/openai{}",
    "/openai/v1{}", "//openai//v1{}", "/v1/openai{}", "/v1/openai/v1{}", "/api{}", "/api/v1{}", "/V1{}", "/ai/v1{}",
    "/OpenAI/v1{}", "/v1{}/", "/openai/deployments/gpt-4o{}",
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_meant_is_found_for_every_path(wrong: str) -> None:
    for path in PATHS:
        raw_path = wrong.format(path)
        meant = meant_path(raw_path)
        if raw_path == f"/v1{path}/":
            assert meant == ""  # it is right
        elif meant != f"/v1{path}":
            assert raw_path.endswith(meant.removeprefix("/v1")), raw_path
            assert meant, raw_path


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1", "/v1/", "/v1/chat/completions", "/v1/models/x/", "/wp-login.php", "/wp-content/images/x.png",
        "/v1/engines", "/nowhere", "/v1/v1", "//", "/v1/../responses", "/responses/../x", "/v1/chat",
        "/x/files/a/b/c/d", "/" + "v1/" * 400 + "models",
    ],
)  # fmt: skip
def test_what_nobody_meant_gets_no_hint(path: str) -> None:
    assert meant_path(path) == ""


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/v1/chat//completions", "/v1/chat/completions"),
        ("/openai/v1/responses/resp_1/cancel", "/v1/responses/resp_1/cancel"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("/v1/responses/responses", "/v1/responses"),
        ("/v1/embeddings/embeddings", "/v1/embeddings"),
        ("/embeddings/", "/embeddings"),
        ("/v1/v1/organization/projects", "/v1/organization/projects"),
        ("/v1/v1/images/unheard-of", "/v1/images/unheard-of"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_answer_says_it(gateway: Gateway, simulator: Simulator, path: str, meant: str, method: str) -> None:
    with connect(gateway) as wire:
        wire.send(head(method, path, length=0))
        answer = wire.read_answer()
    if meant == "/embeddings":  # that is an endpoint of the simple API
        assert answer.status in {400, 405}
        return

    assert (answer.status, answer.error["code"]) == (404, "not_found")
    assert answer.error["message"].startswith(f"Unknown endpoint: {method} ")
    assert f"Did you mean {meant}?" in answer.error["message"]
    assert "base URL" in answer.error["message"]
    assert simulator.requests == []


NEAREST = {
    "/v1/chat": "/v1/chat/completions",
    "/v1/chat/": "/v1/chat/completions",
    "/v1/chat/completion": "/v1/chat/completions",
    "/v1/Chat/Completions": "/v1/chat/completions",
    "/v1/fine-tuning/jobs": "/v1/fine_tuning/jobs",
    "/v1/fine-tuning/jobs/ftjob_1/events": "/v1/fine_tuning/jobs/ftjob_1/events",
    "/v1/fine-tuning": "/v1/fine_tuning/...",
    "/v1/fine-tuning/job": "/v1/fine_tuning/jobs",
    "/v1/fine-tuning/alpha/": "/v1/fine_tuning/alpha/graders/...",
    "/v1/image": "/v1/images/...",
    "/v1/image/generation": "/v1/images/generations",
    "/v1/Audio": "/v1/audio/...",
    "/v1/project": "/v1/projects/...",
    "/v1/response/resp_1/cancell": "/v1/responses/resp_1/cancel",
    "/v1/vector-stores": "/v1/vector_stores",
    "/v1/vector-stores/vs_1/files": "/v1/vector_stores/vs_1/files",
    "/v1/model": "/v1/models",
    "/v1/completion": "/v1/completions",
    "/v1/embedding": "/v1/embeddings",
    "/v1/moderation": "/v1/moderations",
    "/v1/response": "/v1/responses",
    "/v1/response/resp_1": "/v1/responses/resp_1",
}
NOT_NEAR = (
    "/v1/", "/v1/engines", "/v1/x", "/v1/wp-login.php", "/v1/response/..", "/v1/response/%2e%2e", "/v1/messages",
    "/chat", "/v1/chat/completions", "/v1/models", "/v1/model/" + "x" * 100, "/v1/{id}",
)  # fmt: skip


@pytest.mark.parametrize("path", NEAREST)
def test_a_misspelt_path_is_told_the_nearest(gateway: Gateway, simulator: Simulator, path: str) -> None:
    assert nearest_path(path) == NEAREST[path]
    answer = gateway.http.get(path, headers={"authorization": f"Bearer {SECURITY_KEY}"})

    assert answer.status_code == 404
    assert answer.json()["error"]["message"].endswith(f". Did you mean {NEAREST[path]}?")
    assert simulator.requests == []


BELOW_A_FAMILY = (
    "/v1/audio/transcription",
    "/v1/images/generation",
    "/v1/responses/resp_1/cancell",
)


@pytest.mark.parametrize("path", BELOW_A_FAMILY)
def test_what_is_misspelt_below_a_family_is_upstreams_to_know(
    gateway: Gateway, simulator: Simulator, path: str
) -> None:
    answer = gateway.http.get(path, headers={"authorization": f"Bearer {SECURITY_KEY}"})

    assert simulator.last.path == path
    assert "Did you mean" not in answer.text


@pytest.mark.parametrize("path", NOT_NEAR)
def test_what_is_near_to_nothing_gets_no_hint(path: str) -> None:
    assert nearest_path(path) == ""


@pytest.mark.parametrize("path", ["/v1", "/v1/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_base_url_alone_is_told_what_follows_it(gateway: Gateway, path: str, method: str) -> None:
    answer = gateway.http.request(method, path, headers={"authorization": f"Bearer {SECURITY_KEY}"})

    assert answer.status_code == 404
    assert BASE_URL in answer.json()["error"]["message"]
    assert "/models" in answer.json()["error"]["message"]


def test_an_id_of_a_model_may_begin_as_its_path_does(gateway: Gateway, simulator: Simulator) -> None:
    """So it does on Google's servers."""
    answer = gateway.http.get("/v1/models/models/x", headers={"authorization": f"Bearer {SECURITY_KEY}"})

    assert "Did you mean" not in answer.text
    assert simulator.last.path == "/v1/models/models/x"


@pytest.mark.parametrize("path", ["/a" * 500 + "/z1", "/%61" * 250, "/v1" * 300, "/openai" * 130])
def test_a_long_path_is_looked_up_a_few_times(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may ask: what a look-up takes grows with the path, so their number must not."""
    asked: list[str] = []

    def counted(one: str) -> Route | None:
        asked.append(one)
        return find_route(one)

    monkeypatch.setattr(base_urls, "find_route", counted)
    assert meant_path(path) == ""
    assert len(asked) <= base_urls.MAX_SEGMENTS
