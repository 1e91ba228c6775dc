"""Each tab of a new key is right in its language, and makes the first call: word by word, on a real server."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from proxyapi.pages.handover.first_call import CHAT, EMBEDDINGS, RESPONSES, SIMPLE_CHAT, Endpoint, FirstCall
from proxyapi.pages.handover.snippets import Access, tabs
from tests.support.callers.copied import run_copied
from tests.support.servers.gateway import Gateway

ENDPOINTS = {"chat": CHAT, "responses": RESPONSES, "embeddings": EMBEDDINGS}
MODELS = {EMBEDDINGS: "text-embedding-3-small"}
USE_OF_ENVIRONMENT = '\n"$PYTHON" -I -c "from openai import OpenAI; print(OpenAI().models.list().data)"'


def access_of(endpoint: Endpoint, address: str = "https://ai.example.com/ai", secret: str = "cp-secret") -> Access:  # noqa: S107  (no secret)
    first_call = FirstCall(endpoint, MODELS.get(endpoint, "gpt-4o-mini"), may_use_responses=endpoint != EMBEDDINGS)
    return Access(address, secret, first_call)


def texts(access: Access) -> dict[str, list[str]]:
    return {tab.label: [snippet.text for snippet in tab.snippets] for tab in tabs(access)}


def check_node(text: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    (tmp_path / "first-call.mjs").write_text(text)
    subprocess.run([node, "--check", tmp_path / "first-call.mjs"], check=True)


def check_shell(text: str, _tmp_path: Path) -> None:
    subprocess.run(["/bin/sh", "-n", "-c", text], check=True)


CHECKS: dict[str, Callable[[str, Path], object]] = {
    "python": lambda text, _tmp_path: ast.parse(text),
    "toml": lambda text, _tmp_path: tomllib.loads(text),
    "javascript": check_node,
    "sh": check_shell,
}


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
@pytest.mark.parametrize("model", ["gpt-4o-mini", """it's "\\ $(x) `y` </script>"""])
def test_each_snippet_is_right_in_its_language(endpoint: Endpoint, model: str, tmp_path: Path) -> None:
    access = Access("https://ai.example.com/it's", "cp-secret", FirstCall(endpoint, model, may_use_responses=True))
    for tab in tabs(access):
        for snippet in tab.snippets:
            CHECKS[snippet.language](snippet.text, tmp_path)


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_each_tab_has_the_base_url_and_the_secret(endpoint: Endpoint) -> None:
    for label, parts in texts(access_of(endpoint)).items():
        assert "https://ai.example.com/ai/v1" in parts[0], label
        assert any("cp-secret" in part for part in parts), label


@pytest.mark.parametrize(
    ("endpoint", "labels"),
    [
        (CHAT, ["curl", "Python", "Node", "Environment", "Codex", "LangChain"]),
        (EMBEDDINGS, ["curl", "Python", "Node", "Environment", "LangChain"]),
    ],
)
def test_there_is_a_tab_for_each_client_that_the_key_can_use(endpoint: Endpoint, labels: list[str]) -> None:
    assert list(texts(access_of(endpoint))) == labels


def test_a_key_of_the_simple_api_has_curl_only() -> None:
    access = Access("https://ai.example.com", "cp-secret", FirstCall(SIMPLE_CHAT, "gpt-4o", may_use_responses=False))
    assert list(texts(access)) == ["curl"]


def test_codex_gets_its_provider_and_the_name_of_its_variable() -> None:
    config, shell = texts(access_of(CHAT))["Codex"]
    provider = tomllib.loads(config)
    (facts,) = provider["model_providers"].values()
    assert (provider["model"], list(provider["model_providers"])) == ("gpt-4o-mini", [provider["model_provider"]])
    assert (facts["base_url"], facts["wire_api"]) == ("https://ai.example.com/ai/v1", "responses")
    assert shell == f"export {facts['env_key']}=cp-secret"


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_the_first_call_works(endpoint: Endpoint, gateway: Gateway, tmp_path: Path) -> None:
    secret = gateway.make_key(f"handed over for {endpoint.route}", "--budget-month", "20")
    found = texts(access_of(endpoint, gateway.url, secret))

    assert json.loads(run_copied(found["curl"][0], tmp_path))["object"]
    assert run_copied(found["Python"][0], tmp_path, sys.executable, "-I", "-c").strip()
    assert "Model(" in run_copied(found["Environment"][0] + USE_OF_ENVIRONMENT, tmp_path)
    succeeded = "WHERE key_name = %s AND outcome = 'success'"
    routes = [row["route"] for row in gateway.rows(succeeded, [f"handed over for {endpoint.route}"], at_least=3)]
    assert routes == [endpoint.route, endpoint.route, "/v1/models"]
